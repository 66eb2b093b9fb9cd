"""The short form of `benchmarks/killing.py`: processes die in the middle of an import, and nothing is lost or doubled."""

import importlib.util
import os
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="kill -9")]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def killing():
    spec = importlib.util.spec_from_file_location("killing", ROOT / "benchmarks" / "killing.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("what", "num_kills"), [("ingest", 6), ("engine", 2)])
def test_an_import_that_is_killed_again_and_again_ends_with_the_same_memory(killing, tmp_path, what, num_kills):
    killing.write_sessions(tmp_path / "user", 0.15)
    _, kills, rounds = killing.measure(tmp_path, tmp_path / "user", num_kills, what)
    assert kills >= num_kills
    assert rounds >= 1


def test_an_import_that_is_killed_while_it_embeds_ends_with_the_same_vectors(killing, tmp_path, minilm_home):
    killing.write_sessions(tmp_path / "user", 0.03)
    _, kills, _ = killing.measure(tmp_path, tmp_path / "user", 4, "ingest", models=minilm_home.models)
    assert kills >= 4


def test_forks_of_both_agents_are_among_what_is_killed(killing, tmp_path):
    killing.write_sessions(tmp_path, 0.15)
    rollouts = [path.read_text(encoding="utf-8") for path in tmp_path.rglob("rollout-*.jsonl")]
    assert [each for each in rollouts if "forked_from_id" in each]
    assert list(tmp_path.rglob("f*.jsonl"))


def test_the_comparison_sees_what_is_lost_changed_and_doubled(killing):
    thread = {("codex", "t"): (1,)}
    whole = killing.Held({"a": "1", "b": "2"}, killing.Counter([("codex", "e", "text")]), thread)
    assert whole.difference(whole) == ""
    assert "1 lost" in whole.difference(killing.Held({"a": "1"}, whole.messages, thread))
    assert "1 lost or changed, 1 more" in whole.difference(killing.Held({"a": "1", "b": "3"}, whole.messages, thread))
    doubled = killing.Held(whole.chunks, whole.messages + whole.messages, thread)
    assert "1 more" in whole.difference(doubled)
    embedded = killing.Held(whole.chunks, whole.messages, thread, {"a": "1", "b": "2"})
    assert "vectors: 1 lost" in embedded.difference(killing.Held(whole.chunks, whole.messages, thread, {"a": "1"}))
