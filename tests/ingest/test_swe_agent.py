"""Trajectories about an invented harbour, in tests/sessions/swe-agent."""

import json
import shutil
from pathlib import Path

from ingest.readers.swe_agent import SweAgent
from ingest.session import Cursor, Item, Unreadable
from lmm_mcp.domain.event import Event, Thread

SESSIONS = Path(__file__).parents[1] / "sessions/swe-agent/import"
CRANE = SESSIONS / "trajectories/mira/harbour__crane-12.traj"
WINCH = SESSIONS / "trajectories/mira/winch.traj"
MINI = SESSIONS / "mini/winch.traj.json"


def items(path: Path) -> list[Item]:
    return list(SweAgent().read(path, Cursor()))


def events(path: Path) -> list[Event]:
    return [item for item in items(path) if isinstance(item, Event)]


def last_thread(path: Path) -> Thread:
    return [item for item in items(path) if isinstance(item, Thread)][-1]


def changed(path: Path, folder: Path, **more: object) -> Path:
    copy = Path(shutil.copy(path, folder / path.name))
    copy.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | more), encoding="utf-8")
    return copy


def test_a_run_is_its_issue_and_thoughts_commands_and_what_came_back() -> None:
    found = events(CRANE)
    assert [event.kind for event in found] == ["prompt", *(["reply", "call", "result"] * 5)]
    assert found[0].text == "ISSUE:\nThe crane lowers Güter too fast."
    assert found[3].text == 'Found 1 matches for "crane.py" in /harbour:\n/harbour/crane.py'
    assert found[2].command == 'find_file "crane.py"'


def test_each_call_has_its_own_result_however_the_model_numbers_them() -> None:
    for path in (CRANE, WINCH, MINI):
        found = events(path)
        calls = [event.call_id for event in found if event.kind == "call"]
        assert calls == [event.call_id for event in found if event.kind == "result"]
        assert len(set(calls)) == len(calls)


def test_examples_and_settings_are_left_out() -> None:
    assert not any("DEMONSTRATION" in event.text or "SETTING" in event.text for event in events(CRANE))


def test_the_shells_prompt_says_where_the_run_stands_and_which_file_is_edited() -> None:
    found = events(CRANE)
    assert (last_thread(CRANE).cwd, found[-1].cwd) == ("/harbour", "/harbour")
    assert [event.paths for event in found if event.paths] == [("crane.py",), ("/harbour/crane.py",)]


def test_refused_edits_and_exit_codes_are_told() -> None:
    assert [event.failed for event in events(CRANE) if event.kind == "result"] == [None, None, True, None, False]
    result = next(event for event in events(MINI) if event.kind == "result")
    assert (result.exit_code, result.failed, result.text) == (1, True, "cat: winch.py: no such file\n")


def test_what_was_handed_in_is_the_result_of_the_last_command() -> None:
    assert events(CRANE)[-1].text.startswith("diff --git")
    assert events(MINI)[-1].text == "oiled"


def test_the_repository_is_known_where_the_settings_name_it() -> None:
    assert last_thread(CRANE).remote == "https://github.com/quay/harbour"
    assert (last_thread(WINCH).remote, last_thread(WINCH).title) == ("", "winch")


def test_tools_called_by_name_are_described_like_other_agents() -> None:
    edit = [event for event in events(WINCH) if event.kind == "call"][-1]
    assert (edit.text, edit.paths) == ("/testbed/winch.py\n-dry\n+oiled", ("/testbed/winch.py",))


def test_mini_runs_have_times_and_commands_in_fences() -> None:
    found = events(MINI)
    assert [event.at_ms for event in found][:3] == [1767225600500, 1767225601500, 1767225601500]
    assert (found[1].text, found[2].command) == ("THOUGHT: look first.", "cat winch.py")


def test_two_runs_of_one_issue_are_two_sessions_and_one_run_keeps_its_name(tmp_path: Path) -> None:
    copy = changed(CRANE, tmp_path)
    assert [event.id for event in events(copy)] == [event.id for event in events(CRANE)]
    other = changed(CRANE, tmp_path, replay_config='{"temperature": 1}')
    assert not {event.id for event in events(other)} & {event.id for event in events(CRANE)}


def test_a_run_that_has_only_steps_is_told_by_them(tmp_path: Path) -> None:
    path = tmp_path / "steps.traj"
    step = {"action": "ls\n", "observation": "a.py", "response": "Look.\n\n```\nls\n```", "thought": "Look."}
    path.write_text(json.dumps({"trajectory": [step]}), encoding="utf-8")
    assert [(event.kind, event.text) for event in events(path)] == [
        ("reply", "Look."),
        ("call", "ls"),
        ("result", "a.py"),
    ]


def test_our_own_command_and_its_brief_are_ours() -> None:
    assert [event.kind for event in events(CRANE) if event.ours] == ["call", "result"]


def test_unknown_roles_are_counted() -> None:
    problems = [item.problem for item in items(CRANE) if isinstance(item, Unreadable)]
    assert problems == ["unknown role type 'stowaway' (1 times)"]


def test_there_is_no_place_to_look_but_what_is_named() -> None:
    assert SweAgent().roots({"HOME": "/home/mira"}, ()) == ()
    assert list(SweAgent().discover(SESSIONS)) == sorted(SESSIONS.rglob("*.traj*"))
    assert SweAgent().session_of(SESSIONS, SESSIONS / "config.json") is None
