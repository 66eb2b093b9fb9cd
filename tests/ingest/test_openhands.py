"""OpenHands' conversations about an invented harbour, in tests/sessions/openhands."""

import json
import shutil
from datetime import datetime
from pathlib import Path

import pytest

from ingest.readers.openhands import OpenHands
from ingest.session import Cursor, Item, SourceFile, Unreadable
from lmm_mcp.domain.event import Event, Thread

SESSIONS = Path(__file__).parents[1] / "sessions" / "openhands"
HEX = "8394a5b6000040008000000000000001"
SID = "8394a5b6-0000-4000-8000-000000000001"
CHILD = "94a5b6c7000040008000000000000002"
GRANDCHILD = "a5b6c7d8000040008000000000000003"
SERVER = SESSIONS / "home" / ".openhands" / "sessions" / "b6c7d8e9000040008000000000000004"
EXPORT = SESSIONS / "import" / "trajectory.json"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copytree(SESSIONS / "home", tmp_path / "home")
    return tmp_path / "home" / ".openhands" / "conversations"


def items(path: Path) -> list[Item]:
    return list(OpenHands().read(path, Cursor()))


def events(path: Path) -> list[Event]:
    return [item for item in items(path) if isinstance(item, Event)]


def texts(path: Path, kind: str) -> list[str]:
    return [event.text for event in events(path) if event.kind == kind]


def thread_of(path: Path) -> Thread:
    return [item for item in items(path) if isinstance(item, Thread)][-1]


def source_of(folder: Path) -> SourceFile:
    (source,) = OpenHands().sources(folder)
    assert isinstance(source, SourceFile)
    return source


def test_conversations_lie_where_the_variables_say() -> None:
    home = {"HOME": "/home/mira"}
    own = [Path("/home/mira/.openhands/conversations"), Path("/home/mira/.openhands/sessions")]
    assert list(OpenHands().roots(home, []))[:2] == own
    moved = home | {"OPENHANDS_PERSISTENCE_DIR": "/srv/oh", "OPENHANDS_CONVERSATIONS_DIR": "/srv/talks"}
    assert list(OpenHands().roots(moved, []))[:2] == [Path("/srv/talks"), Path("/srv/oh/sessions")]


def test_a_folder_of_events_is_one_session(root: Path) -> None:
    found = list(OpenHands().discover(root))
    child = root / HEX / "subagents" / CHILD
    assert found == [root / HEX, child, child / "subagents" / GRANDCHILD]
    event = next((root / HEX / "events").iterdir())
    assert OpenHands().session_of(root, event) == root / HEX
    assert OpenHands().session_of(root, child / "base_state.json") == child
    assert OpenHands().session_of(root, root / HEX / "events" / ".eventlog.lock") is None
    assert OpenHands().session_of(root, root / "agent_settings.json") is None


def test_the_folder_itself_may_be_named_by_the_user(root: Path) -> None:
    assert next(OpenHands().discover(root / HEX)) == root / HEX
    assert OpenHands().claims(root / HEX / "base_state.json")
    assert source_of(root / HEX / "base_state.json") == source_of(root / HEX)
    (root / HEX / "base_state.json").unlink()
    first, *others = sorted((root / HEX / "events").iterdir())
    assert OpenHands().claims(first)
    assert not any(map(OpenHands().claims, others))


def test_a_new_event_or_one_that_was_half_written_changes_the_source(root: Path) -> None:
    before = source_of(root / HEX)
    assert source_of(root / HEX) == before
    new = root / HEX / "events" / "event-00099-00000000-0000-4000-8000-000000000099.json"
    new.write_text('{"kind": "Mess', encoding="utf-8")
    torn = source_of(root / HEX)
    new.write_text('{"kind": "PauseEvent", "source": "user"}', encoding="utf-8")
    whole = source_of(root / HEX)
    assert len({(source.size, source.mtime_ns) for source in (before, torn, whole)}) == 3


def test_an_event_half_written_is_said_and_the_others_are_read(root: Path) -> None:
    (root / HEX / "events" / "event-00003-0aaa4444-0000-4000-8000-000000000003.json").write_text("{", encoding="utf-8")
    assert [item.path for item in items(root / HEX) if isinstance(item, Unreadable) and "not JSON" in item.problem]
    assert len(texts(root / HEX, "prompt")) == 1


def test_what_the_harness_says_is_no_prompt(root: Path) -> None:
    assert texts(root / HEX, "prompt") == ["Why does the spring tide come too early? Prüfe es."]


def test_words_beside_a_call_and_the_last_word_are_replies(root: Path) -> None:
    assert texts(root / HEX, "reply") == [
        "I run the tests.",
        "Die Gezeiten stimmen jetzt — 潮汐.",
        "The tides are fixed.",
    ]
    assert texts(root / HEX, "thought") == ["The moon, perhaps.", "Say it.", "All is well."]
    assert texts(root / HEX, "summary") == ["The tides are right: 12.42 hours."]


def test_results_say_how_it_went(root: Path) -> None:
    results = {event.call_id[-1]: event for event in events(root / HEX) if event.kind == "result"}
    assert (results["1"].exit_code, results["1"].failed) == (1, True)
    assert (results["2"].exit_code, results["2"].failed) == (None, True)
    assert (results["3"].exit_code, results["3"].failed) == (None, None)
    assert (results["5"].text, results["5"].failed) == ("Rejected: keep the quay", True)


def test_an_edit_shows_what_changes_and_a_shell_its_command(root: Path) -> None:
    shell, edit = [event for event in events(root / HEX) if event.kind == "call"][:2]
    assert shell.command == "pytest -q tests/test_tides.py"
    assert edit.text == "/home/mira/harbour/tides.py\n-hours = 12\n+hours = 12.42"
    assert shell.group == edit.group == "resp-1"


def test_a_call_of_an_agent_within_is_one_call_however_often_it_is_said(root: Path) -> None:
    inner = [event for event in events(root / HEX) if event.call_id == "toolu_oh_0000000007"]
    assert len({event.id for event in inner}) == 2
    assert (inner[-1].kind, inner[-1].text) == ("result", "def phase(day):")


def test_the_agent_may_walk_elsewhere(root: Path) -> None:
    thread = thread_of(root / HEX)
    assert (thread.cwd, thread.title) == ("/home/mira/harbour", "Tides of the harbour")
    assert events(root / HEX)[-1].cwd == "/home/mira/harbour/quay"


def test_sub_agents_belong_to_the_session_at_the_root(root: Path) -> None:
    child = root / HEX / "subagents" / CHILD
    threads = [thread_of(folder) for folder in (child, child / "subagents" / GRANDCHILD)]
    assert [(thread.session_id, thread.parent) for thread in threads] == [(SID, SID), (SID, threads[0].thread_id)]
    assert threads[0].thread_id == "94a5b6c7-0000-4000-8000-000000000002"


def test_our_tool_and_its_brief_are_marked(root: Path) -> None:
    assert [event.kind for event in events(root / HEX) if event.ours] == ["call", "result"]
    assert [event.kind for event in events(SERVER) if event.ours] == ["call", "result"]


def test_times_without_a_zone_are_those_of_this_machine(root: Path) -> None:
    (prompt,) = (event for event in events(root / HEX) if event.kind == "prompt")
    assert prompt.at_ms == int(datetime(2026, 3, 7, 9, 0, 1).timestamp() * 1000)


def test_events_of_the_server_before_are_read_from_its_folder() -> None:
    thread = thread_of(SERVER)
    assert (thread.title, thread.remote, thread.branch) == ("Green buoys", "https://github.com/mira/harbour", "buoys")
    assert [(event.kind, event.failed) for event in events(SERVER)] == [
        ("prompt", None),
        ("reply", None),
        ("call", None),
        ("result", True),
        ("call", None),
        ("result", False),
        ("call", None),
        ("result", False),
        ("reply", None),
    ]
    shell, edit, _ = (event for event in events(SERVER) if event.kind == "call")
    assert (shell.command, edit.paths) == ("ls buoys", ("/workspace/harbour/colour.txt",))


def test_an_exported_trajectory_is_one_session_named_by_what_was_said_first(tmp_path: Path) -> None:
    copy = tmp_path / "other" / "my-trajectory.json"
    copy.parent.mkdir()
    shutil.copy(EXPORT, copy)
    assert OpenHands().claims(copy)
    assert events(copy) == events(EXPORT)
    assert thread_of(copy) == thread_of(EXPORT)
    assert thread_of(copy).cwd == "/workspace/harbour"
    assert texts(copy, "prompt") == ["paint the buoys green"]


def test_json_lists_of_others_are_not_claimed(tmp_path: Path) -> None:
    for name, content in {
        "trajectory.json": [{"lat": 1}],
        "list.json": [{"source": "x", "timestamp": 1}],
        "a.json": {},
    }.items():
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
        assert not OpenHands().claims(tmp_path / name)


def test_unknown_events_are_counted(root: Path) -> None:
    assert [item.problem for item in items(root / HEX) if isinstance(item, Unreadable)] == [
        "unknown event type 'LanternEvent' (1 times)"
    ]
    assert [item.problem for item in items(SERVER) if isinstance(item, Unreadable)] == [
        "unknown action type 'semaphore' (1 times)"
    ]
