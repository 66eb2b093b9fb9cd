"""What readers of records share, shown on an invented agent: lines `{"who", "text", "id", "call", "at"}`."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ingest.readers.calls import describe
from ingest.readers.transcript import Transcript, read_document, read_lines
from ingest.session import Cursor, Item, ReadTo, Unreadable
from lmm_mcp.domain.event import Event, Thread


class Parrot(Transcript):
    agent = "parrot"

    def take(self, record: Mapping[str, Any]) -> Iterator[Event]:
        self.at_ms = record.get("at", 0)
        match record["who"]:
            case "title":
                self.know(title=record["text"])
            case "call":
                yield self.call(record["id"], record["call"], record["text"], record.get("args", {}))
            case "result":
                yield self.result(record["id"], record["call"], record["text"])
            case "prompt" | "reply" as kind:
                own = self.unique_id(record.get("id")) or self.named(kind, record["text"])
                yield from self.prose(kind, own, record["text"])
            case other:
                self.count_unknown("record", other)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "parrot.jsonl"


def say(path: Path, *records: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(record)}\n" for record in records)


def read(path: Path, cursor: Cursor | None = None) -> tuple[list[Item], Cursor]:
    """One reading, the cursor through JSON as the ledger keeps it."""
    cursor = cursor or Cursor()
    *said, end = read_lines(path, cursor, Parrot("p1", cursor.context))
    assert isinstance(end, ReadTo)
    return said, Cursor(end.cursor.offset, end.cursor.line, json.loads(json.dumps(end.cursor.context)))


def events(items: list[Item]) -> list[Event]:
    return [item for item in items if isinstance(item, Event)]


def test_the_thread_comes_before_its_events_and_again_when_more_is_known_of_it(path: Path) -> None:
    say(path, {"who": "prompt", "text": "hello"}, {"who": "title", "text": "A talk"})
    first, event, again = read(path)[0]
    assert (first, again) == (Thread("parrot", "p1", "p1"), Thread("parrot", "p1", "p1", title="A talk"))
    assert isinstance(event, Event)


def test_a_title_that_comes_alone_is_told_of_a_session_that_has_spoken_and_of_no_other(path: Path) -> None:
    say(path, {"who": "title", "text": "Nothing"})
    said, cursor = read(path)
    assert said == []
    say(path, {"who": "prompt", "text": "hello"})
    _, cursor = read(path, cursor)
    say(path, {"who": "title", "text": "A talk"})
    assert read(path, cursor)[0] == [Thread("parrot", "p1", "p1", title="A talk")]


def test_call_ids_that_come_again_join_the_result_that_follows_also_in_a_later_reading(path: Path) -> None:
    say(path, {"who": "call", "id": "e1", "call": "call_1", "text": "ls"})
    say(path, {"who": "result", "id": "e2", "call": "call_1", "text": "a"})
    say(path, {"who": "call", "id": "e3", "call": "call_1", "text": "ls"})
    said, cursor = read(path)
    say(path, {"who": "result", "id": "e4", "call": "call_1", "text": "b"})
    later, _ = read(path, cursor)
    assert [event.call_id for event in events([*said, *later])] == ["e1", "e1", "e3", "e3"]


def test_a_long_call_id_stays_as_it_is(path: Path) -> None:
    say(path, {"who": "call", "id": "e1", "call": "toolu_0123456789abcdef", "text": "ls"})
    assert events(read(path)[0])[0].call_id == "toolu_0123456789abcdef"


def test_a_result_of_our_call_is_ours_also_in_a_later_reading(path: Path) -> None:
    say(path, {"who": "call", "id": "e1", "call": "call_1", "text": "mcp__lmm__recall"})
    said, cursor = read(path)
    say(path, {"who": "result", "id": "e2", "call": "call_1", "text": "nothing found"})
    assert [event.ours for event in events([*said, *read(path, cursor)[0]])] == [True, True]


def test_the_callers_cursor_stays_as_it_was(path: Path) -> None:
    say(path, {"who": "call", "id": "e1", "call": "call_1", "text": "ls"})
    _, cursor = read(path)
    before = json.dumps(cursor.context)
    say(path, {"who": "call", "id": "e2", "call": "call_2", "text": "ls"}, {"who": "prompt", "text": "hm"})
    read(path, cursor)
    assert json.dumps(cursor.context) == before


def test_short_ids_are_made_unique_by_their_time_and_long_ones_stay(path: Path) -> None:
    say(path, {"who": "prompt", "id": "u1", "text": "a", "at": 1000}, {"who": "prompt", "id": "u1", "text": "b"})
    say(path, {"who": "prompt", "id": "0123456789abcdef0123", "text": "c", "at": 1000})
    assert [event.id for event in events(read(path)[0])] == ["u1@3e8", "p1/u1", "0123456789abcdef0123"]


def test_the_same_words_get_the_same_names_in_one_reading_or_several(path: Path, tmp_path: Path) -> None:
    records = [{"who": "prompt", "text": "go on"}] * 3
    say(path, *records)
    at_once = [event.id for event in events(read(path)[0])]
    in_steps, cursor = [], Cursor()
    for record in records:
        say(tmp_path / "steps.jsonl", record)
        said, cursor = read(tmp_path / "steps.jsonl", cursor)
        in_steps += [event.id for event in events(said)]
    assert at_once == in_steps
    assert len(set(at_once)) == 3


def test_a_record_that_is_not_built_as_expected_is_said_with_its_line(path: Path) -> None:
    say(path, {"text": "nobody"}, {"who": "prompt", "text": "hello"})
    complaint, *rest = read(path)[0]
    assert isinstance(complaint, Unreadable)
    assert (complaint.line, complaint.problem) == (1, "a record that is not built as expected (KeyError)")
    assert len(events(rest)) == 1


def test_what_is_unknown_is_counted_from_the_start_and_said_when_there_is_news(path: Path) -> None:
    say(path, {"who": "oracle"}, {"who": "oracle"})
    said, cursor = read(path)
    assert [item.problem for item in said if isinstance(item, Unreadable)] == ["unknown record type 'oracle' (2 times)"]
    say(path, {"who": "prompt", "text": "hello"})
    said, cursor = read(path, cursor)
    assert not [item for item in said if isinstance(item, Unreadable)]
    say(path, {"who": "oracle"})
    said, _ = read(path, cursor)
    assert [item.problem for item in said if isinstance(item, Unreadable)] == ["unknown record type 'oracle' (3 times)"]


def test_odd_records_of_a_document_are_counted_for_it_has_no_lines(path: Path) -> None:
    records: list[dict[str, Any]] = [{"text": "nobody"}, {"text": "nobody"}, {"who": "reply", "text": "hello"}]
    said = list(read_document(path, records, Parrot("p1", {})))
    problems = [item.problem for item in said if isinstance(item, Unreadable)]
    assert problems == ["a record that is not built as expected (KeyError) (2 times)"]
    assert said[-1] == ReadTo(Cursor())


def test_pictures_are_left_out_of_what_is_said(path: Path) -> None:
    say(path, {"who": "reply", "text": "see " + "iVBORw0KGgo" * 300})
    assert events(read(path)[0])[0].text == "see [base64, 3,300 characters]"


@pytest.mark.parametrize(
    ("tool", "arguments", "text", "command", "paths"),
    [
        ("bash", {"command": "ls", "description": "Look"}, "ls\n# Look", "ls", ()),
        ("shell", {"command": ["bash", "-lc", "ls src"]}, "ls src", "ls src", ()),
        ("Create", {"file_path": "a.py", "content": "x = 1"}, "a.py\nx = 1", "", ("a.py",)),
        ("edit", {"path": "a.py", "edits": [{"oldText": "1", "newText": "2"}]}, "a.py\n-1\n+2", "", ("a.py",)),
        ("grep", {"pattern": "x", "path": "src"}, "pattern: x\npath: src", "", ()),
        ("read_many_files", {"paths": ["a.py", "b.py"]}, 'paths: ["a.py", "b.py"]', "", ("a.py", "b.py")),
        ("TodoWrite", {"todos": [{"status": "completed", "content": "sail"}]}, "[x] sail", "", ()),
        ("ApplyPatch", {"input": "*** Begin Patch\n*** Update File: a.py\n*** End Patch"}, None, "", ("a.py",)),
        ("odd", "not json", "not json", "", ()),
        ("odd", None, "", "", ()),
        ("bash", {"command": 7}, "command: 7", "", ()),
    ],
)
def test_a_call_is_described_by_what_it_carries(
    tool: str, arguments: object, text: str | None, command: str, paths: tuple[str, ...]
) -> None:
    found = describe(tool, arguments)
    assert text is None or found.text == text
    assert (found.command, found.paths) == (command, paths)
