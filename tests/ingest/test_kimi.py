"""A session of Kimi Code about an invented ferry, in tests/sessions/kimi."""

import json
import shutil
from pathlib import Path

import pytest

from ingest import sources
from ingest.readers.kimi import Kimi
from ingest.session import Cursor, Item, ReadTo, SourceFile, Unreadable
from lmm_mcp.config import Sessions
from lmm_mcp.domain.event import Event, Thread

ROOT = Path(__file__).parents[1] / "sessions" / "kimi" / "home" / ".kimi-code" / "sessions"
SESSION = ROOT / "wd_harbour_0123456789ab" / "session_5e6f7a8b-0000-4000-8000-0000000000b1"
MAIN = SESSION / "agents" / "main" / "wire.jsonl"


def items(path: Path = MAIN) -> list[Item]:
    return list(Kimi().read(path, Cursor()))


def of_kind(kind: str, path: Path = MAIN) -> list[Event]:
    return [item for item in items(path) if isinstance(item, Event) and item.kind == kind]


def thread_of(path: Path) -> Thread:
    return [item for item in items(path) if isinstance(item, Thread)][-1]


def test_a_prompt_that_was_undone_and_asked_again_is_told_once() -> None:
    (prompt,) = of_kind("prompt")
    assert prompt.text == "Why does the ferry clock run late? ⏰"


def test_the_same_prompt_asked_again_for_its_own_sake_is_told_again(tmp_path: Path) -> None:
    wire = tmp_path / "session_x" / "agents" / "main" / "wire.jsonl"
    wire.parent.mkdir(parents=True)
    lines = [{"type": "metadata", "protocol_version": "1.4"}]
    for at in (1, 2):
        message = {"role": "user", "content": [{"type": "text", "text": "go on"}]}
        lines += [{"type": "turn.prompt"}, {"type": "context.append_message", "message": message, "time": at * 10**12}]
    wire.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    first, second = of_kind("prompt", wire)
    assert first.id != second.id


def test_pieces_of_a_step_are_one_reply_and_what_was_injected_is_none() -> None:
    assert [event.text for event in of_kind("reply")] == ["I check the time zone first.", "The clock stood on UTC."]
    assert [event.text for event in of_kind("thought")] == ["Perhaps the time zone."]
    assert not [event for event in items() if isinstance(event, Event) and "Thursday" in event.text]
    assert [event.text for event in of_kind("summary")] == ["The ferry clock was moved from UTC to CET."]


def test_calls_are_named_by_their_records_since_their_own_ids_come_again_in_every_session() -> None:
    shell, edit, recall = of_kind("call")
    assert (shell.id, shell.command) == ("tool-b1", "date +%Z")
    assert edit.paths == ("clock.py",)
    assert recall.ours
    failed, edited, brief = of_kind("result")
    assert (failed.call_id, failed.exit_code, failed.failed) == (shell.id, 3, True)
    assert (edited.call_id, edited.text) == (edit.id, "File edited.\n[1 change]")
    assert brief.ours


def test_agents_of_a_session_are_threads_of_it() -> None:
    main = thread_of(MAIN)
    sub = thread_of(SESSION / "agents" / "agent-1" / "wire.jsonl")
    assert (main.session_id, main.title, main.cwd) == (SESSION.name, "Ferry clock runs late", "/home/mira/ferry")
    assert (sub.session_id, sub.thread_id, sub.parent) == (SESSION.name, f"{SESSION.name}/agent-1", SESSION.name)


def test_of_a_forked_agent_only_what_is_its_own_is_told() -> None:
    aside = SESSION / "agents" / "agent-2" / "wire.jsonl"
    assert [item.text for item in items(aside) if isinstance(item, Event)] == [
        "What is CET short for?",
        "Central European Time.",
    ]


def test_a_state_of_the_second_version_is_understood(tmp_path: Path) -> None:
    wire = tmp_path / "any-name" / "agents" / "main" / "wire.jsonl"
    wire.parent.mkdir(parents=True)
    wire.write_bytes(MAIN.read_bytes())
    state = {"version": 2, "id": "session_v2", "cwd": "/home/mira/quay", "title": "New Session"}
    (tmp_path / "any-name" / "state.json").write_text(json.dumps(state), encoding="utf-8")
    thread = thread_of(wire)
    assert (thread.session_id, thread.cwd, thread.title) == ("session_v2", "/home/mira/quay", "")


def test_a_state_speaks_for_the_main_agent_and_nothing_else_beside_the_wires_does() -> None:
    reader = Kimi()
    assert reader.session_of(ROOT, SESSION / "state.json") == MAIN
    assert reader.session_of(ROOT, SESSION / "agents" / "main" / "blobs") is None
    assert reader.session_of(ROOT, ROOT.parent / "config.toml") is None


def test_bookkeeping_is_silent_and_what_is_not_known_is_said() -> None:
    said = [item.problem for item in items() if isinstance(item, Unreadable)]
    assert said == ["unknown record type 'tide.turned' (1 times)"]


def test_a_cursor_is_plain_json() -> None:
    *_, end = items()
    assert isinstance(end, ReadTo)
    assert json.loads(json.dumps(end.cursor.context)) == end.cursor.context


def test_its_home_may_be_elsewhere() -> None:
    assert Kimi().roots({"HOME": "/home/mira"}, []) == (Path("/home/mira/.kimi-code/sessions"),)
    assert Kimi().roots({"HOME": "/h", "KIMI_CODE_HOME": "/srv/kimi"}, []) == (Path("/srv/kimi/sessions"),)
    assert Kimi().roots({"HOME": "/h", "KIMI_HOME": "~/kimi"}, []) == (Path("/h/kimi/sessions"),)
    both = {"HOME": "/h", "KIMI_HOME": "/srv/old", "KIMI_CODE_HOME": "/srv/kimi"}
    assert Kimi().roots(both, []) == (Path("/srv/kimi/sessions"),)


@pytest.mark.parametrize("variable", ["KIMI_CODE_HOME", "KIMI_HOME"])
def test_sessions_are_found_where_the_environment_moved_them(tmp_path: Path, variable: str) -> None:
    shutil.copytree(ROOT.parent, tmp_path / "kimi")
    env = {"HOME": str(tmp_path / "nobody"), variable: str(tmp_path / "kimi")}
    found = [item for item in sources.find(env, Sessions(), tmp_path / "notes") if isinstance(item, SourceFile)]
    assert {item.agent for item in found} == {"kimi"}
    assert tmp_path / "kimi" / "sessions" / MAIN.relative_to(ROOT) in {item.path for item in found}
