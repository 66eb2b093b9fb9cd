"""A thread of Amp about invented tides, in tests/sessions/amp."""

import json
from pathlib import Path
from typing import Any

from ingest.readers.amp import Amp
from ingest.session import Cursor, Item, Unreadable
from lmm_mcp.domain.event import Event, Thread

ROOT = Path(__file__).parents[1] / "sessions" / "amp" / "home" / ".local" / "share" / "amp" / "threads"
THREAD = ROOT / "T-1f2a3b4c-0000-4000-8000-0000000000e1.json"


def items(path: Path = THREAD) -> list[Item]:
    return list(Amp().read(path, Cursor()))


def events(path: Path = THREAD) -> list[Event]:
    return [item for item in items(path) if isinstance(item, Event)]


def of_kind(kind: str, path: Path = THREAD) -> list[Event]:
    return [event for event in events(path) if event.kind == kind]


def changed(tmp_path: Path, **fields: Any) -> Path:
    path = tmp_path / THREAD.name
    path.write_text(json.dumps(json.loads(THREAD.read_text(encoding="utf-8")) | fields), encoding="utf-8")
    return path


def test_a_thread_says_where_it_was_and_what_it_is_about() -> None:
    (thread,) = [item for item in items() if isinstance(item, Thread)]
    assert (thread.session_id, thread.title) == (THREAD.stem, "Tide table off by one")
    assert (thread.cwd, thread.branch, thread.remote) == (
        "/home/mira/my tides",
        "table",
        "https://example.org/mira/tides",
    )


def test_runs_tell_how_they_ended_and_one_under_way_tells_nothing() -> None:
    tests, edited, recalled, diff, refused = of_kind("result")
    assert (tests.exit_code, tests.failed, tests.text) == (1, True, "1 failed")
    assert (edited.failed, edited.text) == (False, "-range(1, n)\n+range(n)")
    assert recalled.ours
    assert (diff.exit_code, diff.failed) == (0, False)
    assert (refused.failed, refused.text) == (True, "rejected-by-user")
    calls = {call.call_id: call for call in of_kind("call")}
    assert calls[tests.call_id].command == "pytest -q tides"
    assert calls[edited.call_id].paths == ("tides.py",)
    assert calls[diff.call_id].command == "git diff --stat", "what the user ran from the prompt"


def test_messages_behind_an_edited_prompt_are_others_and_those_before_it_are_the_same(tmp_path: Path) -> None:
    messages = json.loads(THREAD.read_text(encoding="utf-8"))["messages"]
    messages[5:] = [
        {
            "role": "user",
            "messageId": 5,
            "content": [{"type": "text", "text": "no, stop"}],
            "meta": {"sentAt": 1772730019000},
        },
        {"role": "assistant", "messageId": 6, "content": [{"type": "text", "text": "Stopped."}]},
    ]
    before, after = (
        {event.id for event in events()},
        {event.id for event in events(changed(tmp_path, messages=messages))},
    )
    assert len(before & after) == len(before) - 3  # the prompt, a call, its result
    assert len(after - before) == 2


def test_a_message_that_is_still_spoken_keeps_its_name(tmp_path: Path) -> None:
    messages = json.loads(THREAD.read_text(encoding="utf-8"))["messages"][:2]
    messages[1] = {
        "role": "assistant",
        "messageId": 1,
        "content": messages[1]["content"][:1],
        "state": {"type": "streaming"},
    }
    path = changed(tmp_path, messages=messages)
    assert of_kind("thought", path)[0].id == of_kind("thought")[0].id


def test_a_thread_that_another_started_belongs_to_it(tmp_path: Path) -> None:
    path = changed(tmp_path, mainThreadID="T-0000aaaa-0000-4000-8000-000000000000")
    (thread,) = [item for item in items(path) if isinstance(item, Thread)]
    assert thread.parent == thread.session_id == "T-0000aaaa-0000-4000-8000-000000000000"
    assert thread.thread_id == THREAD.stem


def test_what_is_not_known_is_said_and_what_is_no_thread_too(tmp_path: Path) -> None:
    assert [item.problem for item in items() if isinstance(item, Unreadable)] == [
        "unknown block type 'tide_turned' (1 times)"
    ]
    other = changed(tmp_path, messages="none")
    assert [item.problem for item in items(other) if isinstance(item, Unreadable)] == [
        "no thread of Amp: it has no messages"
    ]


def test_threads_lie_where_each_system_keeps_data() -> None:
    env = {"HOME": "/home/mira", "LOCALAPPDATA": "/c/local"}
    roots = Amp().roots(env, [])
    assert roots[0] == Path("/home/mira/.local/share/amp/threads")
    assert Path("/home/mira/Library/Application Support/amp/threads") in roots
    assert Path("/c/local/amp/threads") in roots
    assert Amp().roots(env | {"AMP_THREADS_DIR": "/srv/amp"}, []) == (Path("/srv/amp"),)
