"""What an agent waits for must be light: the server starts without torch, and without opening a table or a model."""

import subprocess
import sys

import pytest


def modules_after(statement: str) -> set[str]:
    """Import something in a fresh process and say what came with it."""
    program = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, encoding="utf-8", timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module", ["lmm_mcp.server.app", "lmm_mcp.cli", "lmm_mcp.recall", "lmm_mcp.embedding", "ingest"]
)
def test_nothing_that_serves_imports_torch(module):
    assert not modules_after(f"import {module}") & {"torch", "transformers", "sentence_transformers"}


def test_the_server_starts_without_tables_and_models():
    loaded = modules_after("import lmm_mcp.server.app")
    assert not loaded & {"lancedb", "pyarrow", "onnxruntime", "onnx", "tokenizers", "ingest", "trainer"}


def test_the_command_line_starts_without_the_server():
    assert not modules_after("import lmm_mcp.cli") & {"mcp", "lancedb", "onnxruntime"}
