"""Real sessions of which several states were published: read at each of them, the memory is the same as if read once."""

import csv
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest

from ingest.readers.registry import by_agent
from ingest.session import Cursor
from lmm_mcp.domain.event import Event

pytestmark = [pytest.mark.corpus, pytest.mark.slow]

AGENTS = ("claude-code", "codex", "gemini-cli")


@pytest.fixture(scope="module")
def series(corpus: Path) -> dict[tuple[str, str], list[Mapping[str, str]]]:
    """(agent, session) -> its states, oldest first."""
    csv.field_size_limit(sys.maxsize)
    found: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    with (corpus / "MANIFEST.tsv").open(encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows, delimiter="\t"):
            stored = corpus / row["stored_path"].split("/", 1)[1]
            if "/_growth/" in row["stored_path"] and stored.is_file():
                found.setdefault((row["agent"], stored.parent.name), []).append({**row, "stored": str(stored)})
    return {name: sorted(states, key=lambda row: row["stored"]) for name, states in found.items()}


def native(session: str, agent: str, states: list[Mapping[str, str]]) -> str:
    """Where the agent keeps this session: one place for all its states."""
    if agent == "claude-code":
        return f".claude/projects/-growing/{session}.jsonl"
    return states[0]["native_path"].replace("<projectHash>", "0" * 64)


@pytest.mark.parametrize("agent", AGENTS)
def test_a_session_found_at_each_of_its_states_is_remembered_as_if_found_once(series, fresh_memory, agent, capsys):
    mine = {session: states for (name, session), states in series.items() if name == agent}
    assert mine
    grew_only = 0
    for number, (session, states) in enumerate(sorted(mine.items())):
        place = native(session, agent, states)
        grown, whole = fresh_memory(f"grown{number}"), fresh_memory(f"whole{number}")
        said = [events_in(agent, Path(state["stored"])) for state in states]
        for state in states:
            lay(grown.user / place, Path(state["stored"]))
            grown.read()
        kept = {event.id for (name, _), events in grown.archived().items() if name == agent for event in events}
        assert kept >= set().union(*said), session
        grown_chunks = {chunk.id: chunk.content_hash for chunk in grown.chunks()}
        if all(later[: len(earlier)] == earlier for earlier, later in pairwise(said)):
            grew_only += 1
            lay(whole.user / place, Path(states[-1]["stored"]))
            whole.read()
            assert grown_chunks == {chunk.id: chunk.content_hash for chunk in whole.chunks()}, session
            assert grown_chunks
    assert grew_only
    with capsys.disabled():
        num_states = sum(map(len, mine.values()))
        sys.stdout.write(
            f"\n{agent}: {len(mine)} series of {num_states} states; the chunks of {grew_only} that only grew compared\n"
        )


def events_in(agent: str, path: Path) -> list[str]:
    """Ids of all that was said, in order."""
    return [item.id for item in by_agent(agent).read(path, Cursor()) if isinstance(item, Event)]


def lay(path: Path, state: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(state.read_bytes())
