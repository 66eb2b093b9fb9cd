"""Who may import whom: the contracts in pyproject.toml hold. And what the project may carry."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_no_import_contract_is_broken():
    program = "from importlinter.cli import lint_imports_command as check; check()"
    done = subprocess.run(
        [sys.executable, "-c", program, "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


def test_the_project_carries_no_trained_weights_and_no_large_file():
    rooms = ("benchmarks", "ci", "docs", "ingest", "lmm_mcp", "prompts", "tests", "trainer")
    files = [path for room in rooms for path in (ROOT / room).rglob("*") if path.is_file()]
    carried = [path for path in files if "__pycache__" not in path.parts]
    assert len(carried) > 100
    assert [path for path in carried if path.suffix in {".safetensors", ".gguf", ".pt", ".onnx"}] == []
    assert [path for path in carried if path.stat().st_size > 5_000_000] == []
