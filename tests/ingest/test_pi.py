"""Sessions of pi, omp and OpenClaw about an invented harbour, in tests/sessions/pi."""

import json
from pathlib import Path

from ingest.readers.pi import Pi
from ingest.session import Cursor, Item, Unreadable
from lmm_mcp.domain.event import Event, Thread

HOME = Path(__file__).parents[1] / "sessions" / "pi" / "home"
ROOT = HOME / ".pi" / "agent" / "sessions"
SID = "1c2d3e4f-0000-4000-8000-000000000001"
PROJECT = ROOT / "--home-mira-harbour--"
MAIN = PROJECT / f"2026-03-06T09-00-00-000Z_{SID}.jsonl"
FORK = PROJECT / "2026-03-06T10-00-00-000Z_4f506172-0000-4000-8000-000000000004.jsonl"
FIRST_VERSION = next((ROOT / "--home-mira-buoys--").glob("*.jsonl"))
CLAW = HOME / ".openclaw" / "agents"


def items(path: Path) -> list[Item]:
    return list(Pi().read(path, Cursor()))


def events(path: Path) -> list[Event]:
    return [item for item in items(path) if isinstance(item, Event)]


def of_kind(kind: str, path: Path = MAIN) -> list[Event]:
    return [event for event in events(path) if event.kind == kind]


def thread_of(path: Path) -> Thread:
    return [item for item in items(path) if isinstance(item, Thread)][-1]


def test_three_agents_write_this_format_each_in_its_place() -> None:
    home = Path("/home/mira")
    assert Pi().roots({"HOME": "/home/mira"}, []) == (
        home / ".pi/agent/sessions",
        home / ".omp/agent/sessions",
        home / ".openclaw/agents",
        home / ".clawdbot/agents",
    )
    env = {"HOME": "/home/mira", "PI_CODING_AGENT_DIR": "/srv/pi", "OPENCLAW_STATE_DIR": "/srv/claw"}
    assert {Path("/srv/pi/sessions"), Path("/srv/claw/agents")} <= set(Pi().roots(env, []))
    assert Pi().roots(env | {"PI_CODING_AGENT_SESSION_DIR": "/srv/s"}, [])[0] == Path("/srv/s")


def test_copies_and_indexes_of_openclaw_are_no_sessions() -> None:
    assert [path.name for path in Pi().discover(CLAW)] == ["72839405-0000-4000-8000-000000000006.jsonl"]
    for path in (CLAW / "main" / "sessions").iterdir():
        assert (Pi().session_of(CLAW, path) == path) is (path in set(Pi().discover(CLAW)))


def test_sessions_of_others_that_begin_alike_are_not_claimed(tmp_path: Path) -> None:
    for header in ({"type": "session", "id": "s", "cwd": "/", "createdAt": 1}, {"type": "session_start", "id": "s"}):
        (tmp_path / "session.jsonl").write_text(json.dumps(header) + "\n", encoding="utf-8")
        assert not Pi().claims(tmp_path / "session.jsonl")
    assert Pi().claims(FIRST_VERSION)


def test_every_branch_of_the_tree_was_said() -> None:
    assert [event.text for event in of_kind("prompt")] == [
        "Why does the spring tide come too early? Prüfe es.",
        "Use the wrong constant after all",
        "Keep 12.42 and write it down",
    ]
    assert [event.text for event in of_kind("summary")] == [
        "The wrong constant was tried and left.",
        "The tides are right: 12.42 hours.",
    ]


def test_a_session_brought_to_a_new_version_keeps_the_ids_of_its_messages(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in FIRST_VERSION.read_text(encoding="utf-8").splitlines()]
    lines[0]["version"] = 3
    for number, line in enumerate(lines[1:]):
        line |= {"id": f"{number:08x}", "parentId": f"{number - 1:08x}" if number else None}
    migrated = tmp_path / FIRST_VERSION.name
    migrated.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    assert events(migrated) == events(FIRST_VERSION)


def test_the_same_words_said_twice_are_two_messages() -> None:
    ids = [event.id for event in events(FIRST_VERSION)]
    assert len(set(ids)) == len(ids) == 4


def test_a_fork_repeats_messages_under_their_ids_and_says_whence() -> None:
    assert len({event.id for event in events(MAIN)} & {event.id for event in events(FORK)}) == 5
    assert thread_of(FORK).forked_from == SID


def test_sub_agents_lie_in_the_folder_of_the_session_that_started_them() -> None:
    child, grandchild = (thread_of(MAIN.with_suffix("") / name) for name in ("0-Moon.jsonl", "0-Moon/0-Reader.jsonl"))
    assert (child.session_id, child.thread_id, child.parent) == (SID, "2d3e4f50-0000-4000-8000-000000000002", SID)
    assert (grandchild.session_id, grandchild.parent) == (SID, child.thread_id)


def test_short_call_ids_join_the_result_that_follows() -> None:
    answers = {event.call_id: event for event in of_kind("result")}
    texts = [answers[event.call_id].text for event in of_kind("call")]
    assert texts[0] == "1 failed"
    assert texts[1] == "Successfully replaced text in tides.py."
    assert texts[2].startswith("<lmm-brief")
    assert texts[4] == " M tides.py"


def test_commands_have_their_exit_codes_whoever_ran_them() -> None:
    failed, *_, by_user = of_kind("result")
    assert (failed.exit_code, failed.failed) == (1, True)
    assert (by_user.exit_code, by_user.failed) == (0, False)
    assert [event.command for event in of_kind("call") if event.command][-1] == "git status --short"


def test_an_edit_shows_what_changes() -> None:
    edit = of_kind("call")[1]
    assert (edit.text, edit.paths) == ("tides.py\n-hours = 12\n+hours = 12.42", ("tides.py",))


def test_our_command_and_its_brief_are_marked() -> None:
    assert [event.kind for event in events(MAIN) if event.ours] == ["call", "result"]


def test_titles_are_given_by_name_or_in_the_header() -> None:
    assert thread_of(MAIN).title == "Tides of the harbour"
    assert thread_of(next((HOME / ".omp").rglob("*.jsonl"))).title == "The lamp"


def test_unknown_entries_and_messages_are_counted() -> None:
    problems = [item.problem for item in items(MAIN) if isinstance(item, Unreadable)]
    assert problems == ["unknown record type 'lantern' (1 times)", "unknown message type 'oracle' (1 times)"]
