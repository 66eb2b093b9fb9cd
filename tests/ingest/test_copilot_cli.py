"""Copilot CLI's sessions about an invented harbour, in tests/sessions/copilot-cli."""

import json
import shutil
from pathlib import Path

from ingest.readers.copilot_cli import CopilotCli
from ingest.session import Cursor, Item, ReadTo, Unreadable
from lmm_mcp.domain.event import Event, Thread

ROOT = Path(__file__).parents[1] / "sessions" / "copilot-cli" / "home" / ".copilot" / "session-state"
SID = "7a8b9c0d-0000-4000-8000-000000000001"
MAIN = ROOT / SID / "events.jsonl"
MOVED = ROOT / "9c0d1e2f-0000-4000-8000-000000000003.jsonl"


def items(path: Path, cursor: Cursor | None = None) -> list[Item]:
    return list(CopilotCli().read(path, cursor or Cursor()))


def told(path: Path) -> list[tuple[Thread, Event]]:
    found: list[tuple[Thread, Event]] = []
    thread = None
    for item in items(path):
        if isinstance(item, Thread):
            thread = item
        elif isinstance(item, Event):
            assert thread is not None
            found.append((thread, item))
    return found


def mine(path: Path, kind: str) -> list[Event]:
    return [event for thread, event in told(path) if not thread.is_subagent and event.kind == kind]


def threads(path: Path) -> dict[str, Thread]:
    return {item.thread_id: item for item in items(path) if isinstance(item, Thread)}


def test_state_lies_where_the_variables_say() -> None:
    env = {"HOME": "/home/mira", "COPILOT_HOME": "/srv/copilot", "XDG_STATE_HOME": "/srv/state"}
    assert CopilotCli().roots(env, [Path("/backup/.copilot")]) == (
        Path("/srv/copilot/session-state"),
        Path("/srv/state/.copilot/session-state"),
        Path("/home/mira/.copilot/session-state"),
        Path("/backup/.copilot/session-state"),
    )


def test_both_layouts_are_found_and_a_session_that_moved_once() -> None:
    found = {path.relative_to(ROOT).as_posix() for path in CopilotCli().discover(ROOT)}
    assert found == {
        f"{SID}/events.jsonl",
        "8b9c0d1e-0000-4000-8000-000000000002.jsonl",
        "9c0d1e2f-0000-4000-8000-000000000003/events.jsonl",
    }
    assert CopilotCli().session_of(ROOT, MOVED) == ROOT / MOVED.stem / "events.jsonl"
    assert CopilotCli().session_of(ROOT, MAIN.with_name("workspace.yaml")) == MAIN
    assert CopilotCli().session_of(ROOT, MAIN.parent / "files" / "notes.json") is None


def test_a_session_that_moved_has_the_same_ids_in_both_places() -> None:
    before, after = told(MOVED), told(ROOT / MOVED.stem / "events.jsonl")
    assert [event for _, event in before] == [event for _, event in after][: len(before)]
    assert before[0][0].thread_id == after[0][0].thread_id


def test_prompts_are_what_was_typed() -> None:
    assert [event.text for event in mine(MAIN, "prompt")] == [
        "Why does the spring tide come too early? Prüfe es.",
        "thank you",
    ]


def test_a_call_is_told_once_however_often_it_is_written() -> None:
    calls = mine(MAIN, "call")
    assert [event.tool for event in calls] == ["bash", "edit", "lmm-recall", "task", "powershell"]
    assert calls[0].command == "pytest -q tests/test_tides.py"
    assert calls[1].text == "/home/mira/harbour/tides.py\n-hours = 12\n+hours = 12.42"


def test_exit_codes_and_failures_are_read_out_of_the_frame() -> None:
    shell, edit, *_, status = mine(MAIN, "result")
    assert (shell.text, shell.exit_code, shell.failed) == ("1 failed", 1, True)
    assert (edit.text, edit.exit_code, edit.failed) == ("No match found", None, True)
    assert (status.text, status.exit_code, status.failed) == (" M tides.py", 0, False)


def test_a_thought_written_twice_is_told_once() -> None:
    assert [event.text for event in mine(MAIN, "thought")] == ["The moon, perhaps.", "Now I know."]


def test_pieces_of_a_message_belong_together() -> None:
    assert {event.group for event in (*mine(MAIN, "call")[:2], mine(MAIN, "reply")[0])} == {"m1"}


def test_sub_agents_are_threads_below_the_one_that_called_them() -> None:
    child, grandchild = (threads(MAIN)[f"{SID}/{name}"] for name in ("agent-moon-1", "agent-reader-2"))
    assert (child.session_id, child.parent, child.title) == (SID, SID, "Explore Agent")
    assert (grandchild.session_id, grandchild.parent) == (SID, child.thread_id)
    said = [(event.kind, event.text) for thread, event in told(MAIN) if thread.thread_id == child.thread_id]
    assert said[0] == ("prompt", "Where are the moon's phases computed?")
    assert said[-1] == ("reply", "In moon.py, function phase.")


def test_a_sub_agent_of_an_older_version_is_known_by_the_call_that_started_it(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in MAIN.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        line.pop("agentId", None)
    path = tmp_path / SID / "events.jsonl"
    path.parent.mkdir()
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    child = threads(path)[f"{SID}/toolu_harbour_0004dddd"]
    assert (child.parent, child.title) == (SID, "Explore Agent")


def test_the_workspace_file_gives_the_title_and_the_start_says_where(tmp_path: Path) -> None:
    thread = threads(MAIN)[SID]
    assert (thread.title, thread.cwd, thread.remote) == (
        "Tides of the harbour",
        "/home/mira/harbour",
        "https://github.com/mira/harbour",
    )
    shutil.copytree(MAIN.parent, tmp_path / "copy")
    workspace = tmp_path / "copy" / "workspace.yaml"
    workspace.write_text("id: x\nsummary: |-\n  Too early\n  by far\nname: null\n", encoding="utf-8")
    assert threads(tmp_path / "copy" / "events.jsonl")[SID].title == "Too early"


def test_what_was_compacted_leaves_its_summary_and_the_place_may_change() -> None:
    assert [event.text for event in mine(MAIN, "summary")] == ["The tides are right: 12.42 hours."]
    last = mine(MAIN, "prompt")[-1]
    assert (last.cwd, last.branch) == ("/home/mira/harbour/docs", "docs")


def test_our_tool_and_its_brief_are_marked() -> None:
    assert [event.kind for _, event in told(MAIN) if event.ours] == ["call", "result"]


def test_sub_agents_are_told_apart_also_by_a_reading_that_begins_between_them(tmp_path: Path) -> None:
    shutil.copytree(MAIN.parent, tmp_path / SID)
    path = tmp_path / SID / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:20]))
    *_, end = items(path)
    path.write_bytes(b"".join(lines))
    assert isinstance(end, ReadTo)
    rest = [item for item in items(path, end.cursor) if isinstance(item, Thread)]
    assert {thread.thread_id: thread.parent for thread in rest} == {
        f"{SID}/agent-moon-1": SID,
        SID: "",
    }


def test_unknown_records_are_counted() -> None:
    problems = [item.problem for item in items(MAIN) if isinstance(item, Unreadable)]
    assert problems == [
        "unknown record type 'lantern.lit' (1 times)",
        "unknown record type 'session.lantern' (1 times)",
    ]
