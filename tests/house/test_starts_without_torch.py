"""What an agent waits for must be light: the server starts without torch, and without opening a table or a model."""

import subprocess
import sys
from pathlib import Path

import pytest


def modules_after(statement: str) -> set[str]:
    """Import something in a fresh process and say what came with it."""
    program = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, encoding="utf-8", timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "module", ["lmm_mcp.server.engine", "lmm_mcp.cli", "lmm_mcp.recall", "lmm_mcp.embedding", "ingest"]
)
def test_nothing_that_serves_imports_torch(module):
    assert not modules_after(f"import {module}") & {"torch", "transformers", "sentence_transformers"}


def test_the_server_starts_without_tables_and_models():
    loaded = modules_after("import lmm_mcp.server.engine")
    assert not loaded & {"lancedb", "pyarrow", "onnxruntime", "onnx", "tokenizers", "ingest", "trainer"}


def test_the_command_line_starts_without_the_server():
    assert not modules_after("import lmm_mcp.cli") & {"mcp", "lancedb", "onnxruntime"}


HEAVY = {"mcp", "lancedb", "numpy", "pyarrow", "onnxruntime", "tokenizers", "torch"}


@pytest.mark.parametrize(
    "arguments", [["--version"], ["--help"], ["recall", "--help"], ["config"], ["pause"]], ids=" ".join
)
def test_commands_that_need_no_memory_load_none_of_what_makes_one(arguments, tmp_path):
    assert not modules_after_command(arguments, tmp_path) & HEAVY


@pytest.mark.parametrize("arguments", [["status"], ["recall", "anything"], ["projects"]], ids=" ".join)
def test_commands_that_ask_the_memory_load_no_server_and_no_model_that_is_not_there(arguments, tmp_path):
    assert not modules_after_command(arguments, tmp_path) & {"mcp", "onnxruntime", "tokenizers", "torch"}


def modules_after_command(arguments: list[str], home: Path) -> set[str]:
    """Run a command as `lmm` does and say what it has loaded."""
    statement = f"import os\nos.environ['LMM_HOME'] = {str(home / 'lmm')!r}\nfrom lmm_mcp.cli.program import run\nassert run({arguments!r}) == 0"
    return modules_after(statement)
