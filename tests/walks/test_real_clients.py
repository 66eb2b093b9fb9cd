"""The real clients, where they are installed: what one of them learns, the other one recalls."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

NAMED = {name: os.environ[name] for name in ("LMM_CLAUDE", "LMM_CODEX", "PATH") if name in os.environ}
"""As they are before a test's own environment takes their place."""
BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "real_clients.py"


@pytest.fixture(scope="module")
def real_clients():
    spec = importlib.util.spec_from_file_location("real_clients", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    sys.modules["real_clients"] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["real_clients"]


@pytest.mark.clients
@pytest.mark.slow
@pytest.mark.parametrize("order", [("claude-code", "codex"), ("codex", "claude-code")], ids="-".join)
def test_a_fact_of_one_client_comes_back_in_the_other_and_no_recall_is_remembered(real_clients, order, tmp_path):
    clients = real_clients.found(NAMED)
    if missing := [name for name in order if name not in clients]:
        pytest.skip(f"{' and '.join(missing)} not installed (LMM_CLAUDE, LMM_CODEX, PATH)")
    receipt = real_clients.loop(clients[order[0]], clients[order[1]], tmp_path)
    assert receipt.eras == {"claude-code": "2026-07-28", "codex": "2025-06-18"}


@pytest.mark.clients
@pytest.mark.slow
def test_a_session_that_was_compacted_is_told_what_it_was_about(real_clients, tmp_path):
    clients = real_clients.found(NAMED)
    if "claude-code" not in clients:
        pytest.skip("claude-code not installed (LMM_CLAUDE, PATH)")
    assert real_clients.compaction(clients["claude-code"], tmp_path) <= 600
