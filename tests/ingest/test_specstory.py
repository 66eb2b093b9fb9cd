"""SpecStory's Markdown of a session about an invented bell, in tests/sessions/specstory."""

from pathlib import Path

from ingest.readers.registry import reader_for
from ingest.readers.specstory import SpecStory
from ingest.session import Cursor, Item
from lmm_mcp.domain.event import Event, Thread

FOLDER = Path(__file__).parents[1] / "sessions" / "specstory" / "import"
HISTORY = FOLDER / ".specstory" / "history"
BELL, OLD = HISTORY / "2026-03-05_09-00-00Z-why-does-the-bell.md", HISTORY / "2025-11-01_08-00-00Z-old.md"
SESSION = "3c4d5e6f-0000-4000-8000-0000000000f1"


def items(path: Path = BELL) -> list[Item]:
    return list(SpecStory().read(path, Cursor()))


def of_kind(kind: str, path: Path = BELL) -> list[Event]:
    return [item for item in items(path) if isinstance(item, Event) and item.kind == kind]


def test_nothing_is_looked_for_unless_it_is_named() -> None:
    assert SpecStory().roots({"HOME": "/home/mira"}, []) == ()
    assert not SpecStory().lies_in_projects
    assert list(SpecStory().discover(FOLDER)) == list(SpecStory().discover(HISTORY)) == [OLD, BELL]
    assert list(SpecStory().discover(BELL)) == [BELL]


def test_a_session_has_the_id_it_had_and_the_folder_it_was_in() -> None:
    thread = next(item for item in items() if isinstance(item, Thread))
    assert (thread.session_id, thread.thread_id) == (SESSION, SESSION)
    assert (thread.title, thread.cwd) == ("why does the bell", FOLDER.as_posix())


def test_heads_within_an_output_or_a_thought_are_none() -> None:
    assert [event.text for event in of_kind("prompt")] == ["Warum läutet die Glocke zweimal? 🔔", "thanks"]
    (thought,) = of_kind("thought")
    assert thought.text.endswith("_**User**_ would be a head anywhere else.")
    assert of_kind("result")[0].text.endswith(
        "a head within an output is none\n    7→</details></tool-use>\nnor is that an end"
    )


def test_tool_uses_are_taken_apart() -> None:
    grep, edit, recall, test = of_kind("call")
    assert (grep.command, grep.text) == (
        "grep -c timer \\\n  bell.py",
        "grep -c timer \\\n  bell.py\n# List the timers",
    )
    assert (edit.paths, edit.text) == (("src/bell.py",), "`src/bell.py`\n\n-rings = 2\n+rings = 1")
    assert recall.ours
    assert test.command == "pytest -q bell"
    failed, edited, brief, passed = of_kind("result")
    assert (failed.call_id, failed.exit_code, failed.failed) == (grep.id, 2, True)
    assert edited.text == "The file src/bell.py has been updated."
    assert brief.ours
    assert brief.text.startswith("<lmm-brief")
    assert (passed.exit_code, passed.failed) == (0, False)


def test_what_sub_agents_said_is_a_thread_below() -> None:
    sides = [item for item in items() if isinstance(item, Thread) and item.parent]
    assert [(thread.session_id, thread.parent) for thread in sides] == [(SESSION, SESSION)]
    assert sides[0].thread_id == f"{SESSION}/sidechain"


def test_times_are_those_of_the_heads_in_any_time_zone(tmp_path: Path) -> None:
    first = of_kind("prompt")[0]
    assert first.at_ms == 1772701200000
    moved = tmp_path / BELL.name
    moved.write_text(BELL.read_text(encoding="utf-8").replace(" 09:00:00Z)**_", " 04:00:00-0500)**_"), encoding="utf-8")
    assert of_kind("prompt", moved)[0].at_ms == first.at_ms


def test_a_file_that_was_written_anew_with_more_keeps_the_names_of_what_was_there(tmp_path: Path) -> None:
    text = BELL.read_text(encoding="utf-8")
    longer = tmp_path / BELL.name
    longer.write_text(
        text + "\n---\n\n_**Agent (claude-opus-4-6 2026-03-05 09:06:05Z)**_\n\nYou are welcome.\n", encoding="utf-8"
    )
    before = [item.id for item in items() if isinstance(item, Event)]
    after = [item.id for item in items(longer) if isinstance(item, Event)]
    assert after[:-1] == before


def test_older_heads_have_no_times_and_older_tool_uses_another_frame() -> None:
    kinds = [(item.kind, item.text) for item in items(OLD) if isinstance(item, Event)]
    assert kinds == [("prompt", "which bell is it?"), ("reply", "The small one."), ("call", "Read file: bells.csv")]


def test_other_markdown_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "notes.md"
    other.write_text("# Notes\n\nSpecStory wrote _**User**_ once.\n", encoding="utf-8")
    assert reader_for(other) is None
    assert isinstance(reader_for(BELL), SpecStory)
    assert isinstance(reader_for(OLD), SpecStory)
