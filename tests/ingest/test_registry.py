from pathlib import Path

import pytest

from ingest.readers.registry import READERS, by_agent, reader_for
from lmm_mcp.errors import BadInput

SESSIONS = Path(__file__).parents[1] / "sessions"


def test_every_reader_is_found_by_the_name_of_its_agent():
    assert [by_agent(reader.agent) for reader in READERS] == list(READERS)
    assert len({reader.agent for reader in READERS}) == len(READERS)


def test_an_unknown_agent_is_refused_with_the_known_ones():
    with pytest.raises(BadInput, match="codex"):
        by_agent("abacus")


def test_a_file_finds_its_reader_and_a_strange_one_finds_none(tmp_path):
    found = reader_for(SESSIONS / "codex" / "envelope.jsonl")
    assert found is not None
    assert found.agent == "codex"
    (tmp_path / "strange.jsonl").write_text('{"a": 1}\n', encoding="utf-8")
    assert reader_for(tmp_path / "strange.jsonl") is None
    assert reader_for(tmp_path) is None
