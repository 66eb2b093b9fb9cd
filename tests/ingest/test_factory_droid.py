"""Factory Droid's sessions about an invented harbour, in tests/sessions/factory-droid."""

from pathlib import Path

from ingest.readers.factory_droid import FactoryDroid
from ingest.session import Cursor, Item, Unreadable
from lmm_mcp.domain.event import Event, Thread

ROOT = Path(__file__).parents[1] / "sessions" / "factory-droid" / "home" / ".factory" / "sessions"
PROJECT = ROOT / "-home-mira-harbour"
SID = "0a1b2c3d-0000-4000-8000-000000000001"
CHILD = "1b2c3d4e-0000-4000-8000-000000000002"
GRANDCHILD = "2c3d4e5f-0000-4000-8000-000000000003"
MAIN = PROJECT / f"{SID}.jsonl"


def items(path: Path) -> list[Item]:
    return list(FactoryDroid().read(path, Cursor()))


def of_kind(kind: str, path: Path = MAIN) -> list[Event]:
    return [item for item in items(path) if isinstance(item, Event) and item.kind == kind]


def thread_of(name: str) -> Thread:
    return next(item for item in items(PROJECT / f"{name}.jsonl") if isinstance(item, Thread))


def test_the_home_of_droid_is_moved_by_its_variables() -> None:
    home = {"HOME": "/home/mira"}
    assert FactoryDroid().roots(home, []) == (Path("/home/mira/.factory/sessions"),)
    assert FactoryDroid().roots(home | {"FACTORY_HOME_OVERRIDE": "/srv"}, []) == (Path("/srv/.factory/sessions"),)
    assert FactoryDroid().roots(home | {"FACTORY_DIR": "/srv/droid"}, []) == (Path("/srv/droid/sessions"),)


def test_transcripts_are_found_in_folders_and_flat_and_settings_never() -> None:
    assert len(list(FactoryDroid().discover(ROOT))) == 4
    assert FactoryDroid().session_of(ROOT, MAIN.with_suffix(".settings.json")) is None


def test_what_the_harness_says_in_the_users_name_is_no_prompt() -> None:
    assert [event.text for event in of_kind("prompt")] == [
        "Why does the spring tide come too early? Prüfe es.",
        "thank you",
    ]


def test_the_exit_code_is_read_out_of_a_shells_frame() -> None:
    shell, edit = of_kind("result")[:2]
    assert (shell.text, shell.exit_code, shell.failed) == ("1 failed", 1, True)
    assert (edit.text, edit.exit_code, edit.failed) == ("Error: no match found", None, True)


def test_calls_show_command_and_change() -> None:
    shell, edit = of_kind("call")[:2]
    assert shell.command == "pytest -q tests/test_tides.py"
    assert edit.text == "/home/mira/harbour/tides.py\n-hours = 12\n+hours = 12.42"
    assert edit.paths == ("/home/mira/harbour/tides.py",)
    assert shell.group == edit.group == of_kind("reply")[0].group != ""


def test_our_tools_are_known_by_droids_way_of_writing_them_and_their_briefs_by_themselves() -> None:
    assert [(event.kind, event.ours) for event in items(MAIN) if isinstance(event, Event) and event.ours] == [
        ("call", True),
        ("call", True),
        ("result", True),
        ("result", True),
    ]


def test_sub_agents_belong_to_the_session_at_the_root() -> None:
    child, grandchild = thread_of(CHILD), thread_of(GRANDCHILD)
    assert (child.session_id, child.thread_id, child.parent, child.title) == (SID, CHILD, SID, "Look for the moon")
    assert (grandchild.session_id, grandchild.parent) == (SID, CHILD)


def test_what_was_compacted_leaves_its_summary() -> None:
    assert [event.text for event in of_kind("summary")] == ["The tides are right: 12.42 hours."]


def test_a_session_without_a_name_has_no_title() -> None:
    old = next(ROOT.glob("*.jsonl"))
    (thread,) = (item for item in items(old) if isinstance(item, Thread))
    assert thread.title == ""
    assert [event.text for event in of_kind("reply", old)] == ["They are green."]


def test_unknown_records_and_blocks_are_counted() -> None:
    problems = [item.problem for item in items(MAIN) if isinstance(item, Unreadable)]
    assert problems == ["unknown block type 'hologram' (1 times)", "unknown record type 'lantern' (1 times)"]
