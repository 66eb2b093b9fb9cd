"""Promises kept on sessions of every agent: each file is known and read, and no message is lost, doubled or made up.

Nothing of the corpus stands here. What the archive holds is compared with scanners of each format that share no code with the
readers (`scan_*.py`); the comparison is `said.py`, where files lie says `places.py`.
"""

import json
import re
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import pytest
import zstandard

from ingest import sources
from ingest.readers.registry import BUILT_IN, by_agent, reader_for
from ingest.session import SourceFile
from lmm_mcp.store.chunks import ChunkStore
from lmm_mcp.store.ledger import Ledger
from tests.corpus import places
from tests.corpus.everything import SCANNERS, Everything, Told, joined, read_directly
from tests.corpus.places import Laid

pytestmark = [pytest.mark.corpus, pytest.mark.slow]

NOT_IN_THE_CORPUS = {"kilo", "notes", "lmm-export"}
MOST_NOISE = 0.5
"""Of all records that could speak, as many may say nothing: most of them are messages that only call tools."""
EXPECTED_PROBLEMS = {
    "claude-code": r"the tool output kept beside the session \(tool-results\) is missing",  # it was never published
    "codex": r"unknown response item type 'token_count'",  # a fixture that was written by hand
    "opencode": r"unknown part type (reasoning|tool) ",  # ids that were blacked out: one name for many messages' parts
}
every_agent = pytest.mark.parametrize("agent", sorted(SCANNERS))


@pytest.fixture(scope="module")
def everything(corpus: Path, tmp_path_factory) -> Everything:
    root = tmp_path_factory.mktemp("everything")
    found = Everything.laid_out(root, places.laid_out(corpus, root / "user"))
    found.read_in_steps()
    return found


@pytest.fixture(scope="module")
def archived(everything: Everything) -> Told:
    return everything.archived()


@pytest.fixture
def some(corpus: Path, tmp_path: Path) -> Callable[[Callable[[Laid], bool]], Everything]:
    """A home folder with some files of the corpus in it, and a memory that has read nothing yet."""

    def make(is_wanted: Callable[[Laid], bool]) -> Everything:
        files = [file for file in places.laid_out(corpus, tmp_path / "user") if not file.step and is_wanted(file)]
        assert files
        places.copied(files)
        return Everything.laid_out(tmp_path, files)

    return make


# Every file ----------------------------------------------------------------------------------------------------------


def test_every_reader_has_sessions_in_the_corpus_and_a_scanner_that_counts_them(everything):
    readers = {reader.agent for reader in BUILT_IN} - NOT_IN_THE_CORPUS
    assert {file.agent for file in everything.files} == readers == set(SCANNERS)


def test_every_session_file_is_claimed_by_its_own_reader_wherever_it_lies(everything):
    others = []
    for file in everything.sessions():
        for path in (file.path, file.stored):
            claimed = reader_for(path)
            if claimed is None or claimed.agent != file.agent:
                others.append((file.agent, claimed and claimed.agent, path))
    assert not others


def test_no_reader_takes_side_files_or_what_other_tools_wrote_for_a_session_of_his(corpus, everything):
    beside = [file.path for file in everything.files if file.is_side_file]
    none = [row for row in places.rows(corpus) if "telemetry" not in (why := places.why_no_session(row)) and why]
    paths = [*beside, *(places.stored_in(corpus, row) for row in none)]
    # The first event of a conversation that lies in a folder may stand for it where there is no other sign.
    taken = [path for path in paths if (reader := reader_for(path)) and reader.agent != "openhands"]
    assert len(paths) > 100
    assert not taken


def test_every_session_is_read_to_its_end(everything):
    ledger = Ledger.open(everything.home.ledger)
    unread, num_sources = [], 0
    for file in everything.sessions():
        listed = sources.listed(by_agent(file.agent), file.path)
        if not listed:
            assert is_the_editors(file, everything)
        for source in listed:
            assert isinstance(source, SourceFile)
            num_sources += 1
            state = ledger.source(source.name)
            # A database's session is read whole, a folder of events has no bytes, a packed file counts those within it.
            is_tailed = file.path.suffix == ".jsonl" and state is not None and state.cursor_offset > 0
            if state is None or not state.reader_version or (is_tailed and state.cursor_offset != source.size):
                unread.append(source.name)
    ledger.close()
    assert num_sources > 200
    assert not [name for name in unread if not ends_torn(Path(name))]


def test_only_what_is_known_to_be_broken_in_the_corpus_is_not_understood(everything):
    owner = {file.path: file.agent for file in everything.files}
    for path, problem in everything.problems():
        assert re.match(EXPECTED_PROBLEMS.get(owner[path], "nothing"), problem), (owner[path], problem)


# Every message -------------------------------------------------------------------------------------------------------


@every_agent
def test_the_archive_holds_every_message_once_and_no_other(agent, everything, archived, record_testsuite_property):
    found = everything.tally(agent, archived)
    for name, num in (found.num + found.noise).items():
        record_testsuite_property(f"{agent}: {name}", num)
    if agent == "cursor-agent":  # in this home one of its transcripts is the editor's: see below
        left = sum(is_the_editors(file, everything) for file in everything.sessions(agent))
        assert left and found.num.total() > len(found.lost)
        found.lost.clear()
    assert found.is_exact, found
    assert found.num["prompt"]
    assert found.num["reply"]
    assert found.noise.total() <= MOST_NOISE * (found.num + found.noise).total(), found.noise


@every_agent
def test_the_reader_by_itself_tells_what_the_archive_holds(agent, everything, archived):
    told = joined(read_directly(file) for file in everything.sessions(agent))
    directly = {(event.kind, event.id) for events in told.values() for event in events}
    kept = {(event.kind, event.id) for (its, _), events in archived.items() if its == agent for event in events}
    assert kept >= directly
    grew = {file.path for file in everything.files if file.step}
    if not any(file.path in grew for file in everything.files if file.agent == agent):
        assert kept == directly


def test_a_transcript_of_cursor_agent_is_read_whole_where_the_editor_does_not_hold_it(some):
    agents = some(lambda file: file.agent == "cursor-agent")
    agents.read()
    found = agents.tally("cursor-agent", agents.archived())
    assert found.is_exact, found
    assert found.num["call"]


def test_reading_everything_again_changes_nothing(everything, archived):
    before, stats = everything.contents(), ChunkStore.open(everything.home.store).stats()
    everything.touch()
    everything.read()
    # A message that two sessions hold belongs to the older, as the times of what they do not share tell; where a third file
    # told more of one of them afterwards, it may change hands once. None is lost by that, none is there twice.
    again = everything.archived()
    moved = {name for name in archived if again[name] != archived[name]}
    assert moved <= sharing(everything, {agent for agent, _ in moved})
    assert sorted(names_in(again, moved)) == sorted(names_in(archived, moved))
    if not moved:
        assert everything.contents() == before
        assert ChunkStore.open(everything.home.store).stats() == stats
    before, stats = everything.contents(), ChunkStore.open(everything.home.store).stats()
    everything.touch()
    everything.read()
    assert everything.archived() == again
    assert everything.contents() == before
    assert ChunkStore.open(everything.home.store).stats() == stats


# The same session in two formats --------------------------------------------------------------------------------------


def test_a_session_that_lies_in_database_tree_and_export_of_opencode_is_one(everything, archived):
    stores, trees = defaultdict(set), set()
    for file in everything.sessions("opencode"):
        in_tree = "storage" in file.path.parts
        if in_tree:
            trees.add(file.path.stem)
        for _, thread in read_directly(file):
            stores[thread].add("tree" if in_tree else file.path.suffix)
    thrice = [thread for thread, kinds in stores.items() if len(kinds) == 2 and thread in trees]
    assert thrice
    assert not any("tree" in stores[thread] for thread in thrice)  # what is left there is older than the database
    assert len(stores) == len([thread for agent, thread in archived if agent == "opencode"])


def test_a_document_of_gemini_that_is_migrated_into_lines_gives_no_doubles(some):
    old = some(lambda file: file.agent == "gemini-cli" and file.origin == "real" and file.path.suffix == ".json")
    old.read()
    before = old.archived()
    for file in old.sessions():
        document = json.loads(file.path.read_bytes())
        lines = [{key: value for key, value in document.items() if key != "messages"}, *document["messages"]]
        file.path.with_suffix(".jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    old.read()
    assert old.tally("gemini-cli", old.archived()).is_exact
    assert ids(old.archived()) == ids(before)


def test_a_chat_of_vs_code_that_becomes_a_log_of_changes_gives_no_doubles(some):
    old = some(lambda file: file.agent == "vscode-copilot")
    old.read()
    before = old.archived()
    for file in old.sessions():
        document = json.loads(file.path.read_bytes())
        opening = {"kind": 0, "v": document | {"requests": document["requests"][:1]}}
        lines = [opening, *({"kind": 2, "k": ["requests"], "v": [each]} for each in document["requests"][1:])]
        file.path.with_suffix(".jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    old.read()
    assert old.tally("vscode-copilot", old.archived()).is_exact
    assert ids(old.archived()) == ids(before)


def test_rollouts_of_codex_that_are_archived_and_compressed_give_no_doubles(some):
    plain = some(lambda file: file.agent == "codex" and file.origin == "real")
    plain.read()
    before, chunks = plain.archived(), plain.contents()
    for file in plain.sessions():
        packed = plain.user / ".codex" / "archived_sessions" / f"{file.path.name}.zst"
        packed.parent.mkdir(exist_ok=True)
        packed.write_bytes(zstandard.ZstdCompressor().compress(file.path.read_bytes()))
        file.path.unlink()
    plain.read()
    assert plain.archived() == before
    assert plain.contents() == chunks


def test_rows_of_crush_that_move_from_the_log_into_the_database_give_no_doubles(some):
    logged = some(lambda file: file.agent == "crush")
    logged.read()
    before = logged.archived()
    for file in logged.sessions():
        with closing(sqlite3.connect(file.path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    logged.touch()
    logged.read()
    assert logged.archived() == before
    assert logged.tally("crush", before).is_exact


# What is asked above --------------------------------------------------------------------------------------------------


def sharing(everything: Everything, agents: set[str]) -> set[tuple[str, str]]:
    """Threads that hold messages which other threads of the agent hold as well, by what its reader tells of each file."""
    holders = defaultdict(set)
    for agent in agents:
        for file in everything.sessions(agent):
            for name, events in read_directly(file).items():
                for event in events:
                    holders[agent, event.id].add(name)
    return {name for names in holders.values() if len(names) > 1 for name in names}


def names_in(told: Told, threads: Iterable[tuple[str, str]]) -> list[str]:
    return [event.id for thread in threads for event in told[thread]]


def ids(told: Told) -> set[tuple[str, str]]:
    return {(event.kind, event.id) for events in told.values() for event in events}


def is_the_editors(file: Laid, everything: Everything) -> bool:
    """Whether Cursor's editor holds the conversation of a transcript in its own database."""
    databases = [each.path for each in everything.sessions("cursor")]
    query = "SELECT count(*) FROM cursorDiskKV WHERE key = ?"
    for path in databases:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            if connection.execute(query, (f"composerData:{file.path.stem}",)).fetchone()[0]:
                return True
    return False


def ends_torn(path: Path) -> bool:
    """Whether the last line has no end, as one has that is still being written."""
    return not path.read_bytes().endswith(b"\n")
