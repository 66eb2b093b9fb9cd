"""Sessions of Grok Build about an invented harbour, in tests/sessions/grok."""

import json
import shutil
from pathlib import Path

from ingest.readers.grok import Grok
from ingest.session import Cursor, Item, ReadTo, Unreadable
from lmm_mcp.domain.event import Event, Thread

ROOT = Path(__file__).parents[1] / "sessions" / "grok" / "home" / ".grok" / "sessions"
MAIN, CHILD, GRANDCHILD = (
    ROOT / "%2Fhome%2Fmira%2Fharbour" / f"0a1b2c3d-0000-4000-8000-0000000000a{number}" / "updates.jsonl"
    for number in (1, 2, 3)
)


def items(path: Path, cursor: Cursor | None = None) -> list[Item]:
    return list(Grok().read(path, cursor or Cursor()))


def of_kind(kind: str, path: Path = MAIN) -> list[Event]:
    return [item for item in items(path) if isinstance(item, Event) and item.kind == kind]


def thread_of(path: Path) -> Thread:
    return [item for item in items(path) if isinstance(item, Thread)][-1]


def test_pieces_of_a_message_are_joined_whatever_is_shown_between_them() -> None:
    assert [event.text for event in of_kind("reply")] == [
        "I look at the relay table.",
        "Relay 7 was named wrongly; the lamp burns again.",
        "Pier 4 is fine.",
    ]
    assert [event.text for event in of_kind("thought")] == ["First the relay table, then the timer."]


def test_a_message_that_grows_is_told_again_under_the_same_id(tmp_path: Path) -> None:
    session = tmp_path / "s" / "updates.jsonl"
    session.parent.mkdir()
    lines = MAIN.read_text(encoding="utf-8").splitlines(keepends=True)
    half = next(at for at, line in enumerate(lines) if "I look at the " in line) + 1
    session.write_text("".join(lines[:half]), encoding="utf-8")
    *first, end = items(session)
    assert isinstance(end, ReadTo)
    session.write_text("".join(lines), encoding="utf-8")
    second = items(session, Cursor(end.cursor.offset, end.cursor.line, json.loads(json.dumps(end.cursor.context))))
    before = next(item for item in first if isinstance(item, Event) and item.kind == "reply")
    after = next(item for item in second if isinstance(item, Event) and item.kind == "reply")
    assert (before.text, after.text) == ("I look at the", "I look at the relay table.")
    assert (before.id, before.at_ms) == (after.id, after.at_ms)


def test_prompts_lose_the_tag_around_them_and_pictures() -> None:
    assert [event.text for event in of_kind("prompt")] == ["Warum bleibt die Lampe an Pier 3 dunkel? 💡", "and pier 4?"]


def test_a_call_is_known_by_what_a_later_update_says_of_it() -> None:
    first, again, edit, ours = of_kind("call")
    assert first.id == again.id
    assert first.at_ms == again.at_ms
    assert again.command == "make relays"
    assert edit.paths == ("lamps.toml",)
    assert "-relay = 6\n+relay = 7" in edit.text
    assert ours.ours
    failed, done, brief = of_kind("result")
    assert (failed.failed, failed.exit_code, failed.call_id) == (True, 2, again.id)
    assert done.failed is False
    assert brief.ours


def test_sub_agents_hang_below_the_session_that_started_them() -> None:
    main, child, grandchild = map(thread_of, (MAIN, CHILD, GRANDCHILD))
    assert (main.title, main.cwd, main.branch) == ("Lamp of pier 3", "/home/mira/harbour", "lamps")
    assert (child.session_id, child.parent) == (main.thread_id, main.thread_id)
    assert (grandchild.session_id, grandchild.parent) == (main.thread_id, child.thread_id)


def test_without_a_summary_the_folder_tells_where_the_work_was_done(tmp_path: Path) -> None:
    session = tmp_path / MAIN.parent.parent.name / "some-session" / "updates.jsonl"
    session.parent.mkdir(parents=True)
    shutil.copyfile(MAIN, session)
    thread = thread_of(session)
    assert (thread.thread_id, thread.cwd, thread.title) == ("some-session", "/home/mira/harbour", "")


def test_a_summary_speaks_for_its_updates_and_telemetry_for_nothing() -> None:
    reader = Grok()
    assert reader.session_of(ROOT, MAIN.with_name("summary.json")) == MAIN
    assert reader.session_of(ROOT, MAIN.with_name("events.jsonl")) is None
    assert reader.session_of(ROOT, MAIN.with_name("system_prompt.txt")) is None


def test_what_is_not_known_is_said_once() -> None:
    said = [item.problem for item in items(MAIN) if isinstance(item, Unreadable)]
    assert said == ["unknown update type 'tide_turned' (1 times)"]


def test_its_home_may_be_elsewhere() -> None:
    assert Grok().roots({"HOME": "/home/mira"}, []) == (Path("/home/mira/.grok/sessions"),)
    assert Grok().roots({"HOME": "/home/mira", "GROK_HOME": "/srv/grok"}, []) == (Path("/srv/grok/sessions"),)
