"""Sessions of DeepSeek Harness about an invented crane, in tests/sessions/deepseek."""

from pathlib import Path

import pytest
import zstandard

from ingest.readers.deepseek import DeepSeek
from ingest.readers.registry import reader_for
from ingest.session import Cursor, Item, ReadTo, Unreadable
from lmm_mcp.domain.event import Event, Thread

ROOT = Path(__file__).parents[1] / "sessions" / "deepseek" / "home" / ".dsh" / "sessions"
MAIN, CHILD, FORK = (
    ROOT / "--home-mira-crane--" / f"session-7c8d9e0f-0000-4000-8000-0000000000c{number}" / "session.jsonl"
    for number in (1, 2, 3)
)


def items(path: Path = MAIN, cursor: Cursor | None = None) -> list[Item]:
    return list(DeepSeek().read(path, cursor or Cursor()))


def of_kind(kind: str, path: Path = MAIN) -> list[Event]:
    return [item for item in items(path) if isinstance(item, Event) and item.kind == kind]


def thread_of(path: Path) -> Thread:
    return [item for item in items(path) if isinstance(item, Thread)][-1]


def frames(lines: list[bytes]) -> bytes:
    """Lines as the harness writes them: a frame for each writing."""
    return b"".join(zstandard.ZstdCompressor().compress(line) for line in lines)


def test_a_reply_is_told_once_though_it_was_streamed_before() -> None:
    assert [event.text for event in of_kind("reply")] == [
        "I read the limits.",
        "The limit was 3 m; it is 9 m now.",
        "The second one has no limit",  # interrupted: it never came whole
    ]


def test_what_plugins_put_into_a_turn_is_no_prompt_and_what_replaces_a_talk_is_a_summary() -> None:
    assert [event.text for event in of_kind("prompt")] == ["Why does the crane stop at 3 m? 🏗", "And the second crane?"]
    assert [event.text for event in of_kind("summary")] == ["The crane's limit was raised from 3 m to 9 m."]


def test_a_call_that_stands_in_its_message_too_is_told_once() -> None:
    shell, edit, recall = of_kind("call")
    assert shell.command == "cat limits.toml"
    assert edit.paths == ("crane.toml",)
    assert recall.ours
    failed, edited, brief = of_kind("result")
    assert (failed.call_id, failed.exit_code, failed.failed) == (shell.id, 1, True)
    assert (edited.call_id, edited.failed) == (edit.id, False), "the same short id, in a later step"
    assert brief.ours


def test_a_delegated_session_belongs_to_the_one_that_delegated_it() -> None:
    main, child = thread_of(MAIN), thread_of(CHILD)
    assert (main.title, main.cwd) == ("Crane stops at 3 m", "/home/mira/crane")
    assert (child.session_id, child.parent) == (main.thread_id, main.thread_id)
    assert [event.text for event in of_kind("prompt", CHILD)] == ["Find all limits."]


def test_a_fork_names_what_it_began_with_as_its_origin_did() -> None:
    fork = thread_of(FORK)
    assert (fork.session_id, fork.forked_from) == (fork.thread_id, thread_of(MAIN).thread_id)
    seeded, own = of_kind("prompt", FORK)
    assert seeded.id == of_kind("prompt")[0].id
    assert own.id.startswith(fork.thread_id)


def test_frames_say_what_lines_say_and_are_read_on_as_they_grow(tmp_path: Path) -> None:
    packed = tmp_path / MAIN.parent.name / "session.jsonl.zstd"
    packed.parent.mkdir()
    lines = MAIN.read_bytes().splitlines(keepends=True)
    packed.write_bytes(frames(lines[:6]))
    assert isinstance(reader_for(packed), DeepSeek)
    *first, middle = items(packed)
    assert isinstance(middle, ReadTo)
    packed.write_bytes(frames(lines))
    *second, end = items(packed, middle.cursor)
    told = [item for item in (*first, *second) if isinstance(item, Event)]
    assert told == [item for item in items() if isinstance(item, Event)]
    assert isinstance(end, ReadTo)
    assert end.cursor.offset == MAIN.stat().st_size


@pytest.mark.parametrize("missing", [1, 9, 40])
def test_a_frame_that_is_being_written_is_waited_for(tmp_path: Path, missing: int) -> None:
    packed = tmp_path / MAIN.parent.name / "session.jsonl.zstd"
    packed.parent.mkdir()
    lines = MAIN.read_bytes().splitlines(keepends=True)
    packed.write_bytes(frames(lines[:6])[:-missing])
    *first, middle = items(packed)
    assert isinstance(middle, ReadTo)
    assert not [item for item in first if isinstance(item, Unreadable)]
    packed.write_bytes(frames(lines))
    told = {item.id: item for item in (*first, *items(packed, middle.cursor)) if isinstance(item, Event)}
    assert told == {item.id: item for item in items() if isinstance(item, Event)}


def test_events_of_state_are_silent_and_what_is_not_known_is_said() -> None:
    said = [item.problem for item in items() if isinstance(item, Unreadable)]
    assert said == ["unknown event type 'tide.turned' (1 times)"]


def test_its_home_may_be_elsewhere() -> None:
    assert DeepSeek().roots({"HOME": "/home/mira"}, []) == (Path("/home/mira/.dsh/sessions"),)
    assert DeepSeek().roots({"HOME": "/home/mira", "DSH_HOME": "/srv/dsh"}, []) == (Path("/srv/dsh/sessions"),)
