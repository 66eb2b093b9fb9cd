"""Hermes' databases and exports about invented salt, in tests/sessions/hermes."""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ingest.readers.hermes import Hermes
from ingest.readers.registry import reader_for
from ingest.session import Cursor, Item, SourceFile, Unreadable
from lmm_mcp.domain.event import Event, Thread

SAMPLE = Path(__file__).parents[1] / "sessions" / "hermes"
MAIN, DELEGATED, CONTINUED, DEEPER = (
    "20260305_185320_a1b2c3",
    "20260305_190000_d4e5f6",
    "20260305_191000_070809",
    "20260305_192000_0a0b0c",
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    shutil.copytree(SAMPLE / "home" / ".hermes", tmp_path / ".hermes")
    for script in (tmp_path / ".hermes").rglob("*.sql"):
        with closing(sqlite3.connect(script.with_suffix(""))) as connection:
            connection.executescript(script.read_text(encoding="utf-8"))
        script.unlink()
    return tmp_path / ".hermes"


def sources(database: Path) -> dict[str, SourceFile]:
    return {item.part: item for item in Hermes().sources(database) if isinstance(item, SourceFile)}


def items(database: Path, part: str = MAIN) -> list[Item]:
    return list(Hermes().read(database, Cursor(context={"part": part})))


def told(items_of_it: list[Item], kind: str = "") -> list[Event]:
    return [item for item in items_of_it if isinstance(item, Event) and kind in ("", item.kind)]


def thread_in(items_of_it: list[Item]) -> Thread:
    return next(item for item in items_of_it if isinstance(item, Thread))


def exported(name: str) -> list[Item]:
    return list(Hermes().read(SAMPLE / "import" / name, Cursor()))


def test_every_profile_has_a_store_of_its_own(home: Path) -> None:
    assert list(Hermes().discover(home)) == [home / "state.db", home / "profiles" / "skipper" / "hermes.db"]
    assert (
        Hermes().session_of(home, home / "profiles" / "skipper" / "hermes.db-wal")
        == home / "profiles/skipper/hermes.db"
    )
    assert Hermes().session_of(home, home / "profiles" / "skipper" / "config.yaml") is None
    assert Hermes().roots({"HOME": "/home/mira", "HERMES_HOME": "/srv/hermes"}, []) == (Path("/srv/hermes"),)


def test_rows_that_compaction_wrote_once_more_are_told_once(home: Path) -> None:
    found = items(home / "state.db")
    assert [event.text for event in told(found, "prompt")] == [
        "Wie viel Salz liegt im Schuppen? 🧂",
        "and this picture?",
    ]
    assert [event.text for event in told(found, "summary")] == ["[CONTEXT COMPACTION] The salt was counted with wc."]
    assert "wrong question" not in str(found), "what was taken back"
    assert "Review the conversation" not in str(found), "what the harness asks in the user's name"
    ids = [event.id for event in told(found)]
    assert len(ids) == len(set(ids))


def test_calls_and_results_are_taken_out_of_their_json(home: Path) -> None:
    found = items(home / "state.db")
    shell, edit, recall = told(found, "call")
    assert (shell.command, edit.paths, recall.ours) == ("wc -l bags.csv", ("bags.py",), True)
    assert edit.text == "bags.py\n-kg = 20\n+kg = 25"
    failed, done, brief = told(found, "result")
    assert (failed.call_id, failed.exit_code, failed.failed) == (shell.call_id, 1, True)
    assert failed.text == "wc: bags.csv: no such file"
    assert (done.text, done.failed) == ("-kg = 20\n+kg = 25", False)
    assert brief.ours


def test_a_delegated_session_is_a_sub_agent_and_a_continued_one_a_fork(home: Path) -> None:
    delegated, continued, deeper = (
        thread_in(items(home / "state.db", part)) for part in (DELEGATED, CONTINUED, DEEPER)
    )
    assert (delegated.session_id, delegated.parent, delegated.forked_from) == (MAIN, MAIN, "")
    assert (deeper.session_id, deeper.parent) == (MAIN, DELEGATED)
    assert (continued.session_id, continued.parent, continued.forked_from) == (CONTINUED, "", MAIN)
    assert (continued.title, continued.cwd, continued.branch) == ("Salt in the shed 2", "/home/mira/salt", "main")


def test_a_session_that_went_on_is_read_again_and_the_others_are_not(home: Path) -> None:
    before = sources(home / "state.db")
    with closing(sqlite3.connect(home / "state.db")) as connection, connection:
        connection.execute(
            "INSERT INTO messages (session_id, role, content, timestamp) VALUES (?, 'user', 'more', 1772740100.5)",
            (MAIN,),
        )
    after = sources(home / "state.db")
    assert {part for part in before if before[part] != after[part]} == {MAIN}
    assert after[MAIN].mtime_ns > before[MAIN].mtime_ns
    with closing(sqlite3.connect(home / "state.db")) as connection, connection:
        connection.execute("DELETE FROM messages WHERE session_id = ?", (CONTINUED,))
    assert set(sources(home / "state.db")) == {MAIN, DELEGATED, DEEPER}


def test_what_changed_is_found_without_reading_what_was_said(home: Path) -> None:
    with closing(sqlite3.connect(home / "state.db")) as connection:
        query = "SELECT session_id, count(*), max(id), max(timestamp) FROM messages GROUP BY session_id"
        (plan,) = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}")]
    assert "COVERING INDEX" in plan


def test_the_oldest_stores_have_messages_only(home: Path) -> None:
    old = home / "profiles" / "skipper" / "hermes.db"
    assert [event.text for event in told(items(old, "01OLDHARBOUR"))] == [
        "which rope holds the barge?",
        "The blue one.",
    ]


def test_an_export_says_what_the_store_says_under_the_same_ids(home: Path) -> None:
    stored = {event.id: event for event in told(items(home / "state.db"))}
    found = exported("hermes-sessions.jsonl")
    assert thread_in(found).session_id == MAIN
    for event in told(found, "prompt") + told(found, "reply"):
        assert stored[event.id] == event


def test_the_archive_leaves_out_what_was_taken_back() -> None:
    found = exported("hermes-archive.json")
    assert [(event.kind, event.text) for event in told(found)] == [
        ("prompt", "Tie the barge."),
        ("thought", "with the blue rope"),
        ("reply", "I tie it."),
        ("call", "tie barge"),
        ("result", "tie: command not found"),
    ]
    assert (told(found)[-1].exit_code, told(found)[-1].failed) == (127, True)
    thread = thread_in(found)
    assert (thread.forked_from, thread.cwd, thread.branch) == ("hermes-harbour-0000", "/home/mira/barge", "ropes")


def test_what_the_relay_writes_is_read_as_trajectory_and_as_events() -> None:
    steps = exported("hermes-trajectory.json")
    assert [event.kind for event in told(steps)] == ["prompt", "thought", "reply", "call", "result"]
    happened = exported("hermes-relay.jsonl")
    threads = [item for item in happened if isinstance(item, Thread)]
    assert [(thread.thread_id, thread.parent) for thread in threads] == [
        ("hermes-harbour-0003", ""),
        ("hermes-harbour-0004", "hermes-harbour-0003"),
    ]
    assert told(happened, "call")[0].command == "ls sails"
    assert told(happened, "result")[0].failed


@pytest.mark.parametrize("name", ["hermes-archive.json", "hermes-trajectory.json", "hermes-relay.jsonl", "state.db"])
def test_what_is_not_known_is_said_once(home: Path, name: str) -> None:
    found = items(home / name) if name == "state.db" else exported(name)
    assert [item.problem.rpartition(" ")[2] for item in found if isinstance(item, Unreadable)] == ["tide"]


def strangers() -> Iterator[dict[str, object]]:
    yield {"schema_version": "ATIF-v1.7", "session_id": "s", "agent": {"name": "somebody"}, "steps": []}
    yield {"atof_version": "0.1", "metadata": {"platform": "somebody"}}
    yield {"id": "s", "source": "cli", "messages": []}


@pytest.mark.parametrize("document", list(strangers()))
def test_files_of_other_agents_in_the_same_formats_are_left_alone(tmp_path: Path, document: dict[str, object]) -> None:
    path = tmp_path / "export.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    assert not Hermes().claims(path)
    for name in ("hermes-archive.json", "hermes-sessions.jsonl", "hermes-trajectory.json", "hermes-relay.jsonl"):
        assert isinstance(reader_for(SAMPLE / "import" / name), Hermes)
