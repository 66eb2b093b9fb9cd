"""Messages in pieces, of an agent that says one word a line."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ingest.readers.base import json_lines
from ingest.readers.growing import Growing, read_pieces
from ingest.session import Cursor, ReadTo
from lmm_mcp.domain.event import Event


class Parrot(Growing):
    agent = "parrot"

    def take_record(self, record: Mapping[str, Any]) -> Iterator[Event]:
        self.at_ms = record.get("at", 0)
        if "word" in record:
            yield from self.piece(record["of"], "reply", record["word"])
        else:
            yield from self.close()


def told(path: Path, cursor: Cursor) -> tuple[list[Event], Cursor]:
    *items, end = read_pieces(path, json_lines(path, cursor), Parrot("s1", cursor.context))
    assert isinstance(end, ReadTo)
    return [item for item in items if isinstance(item, Event)], end.cursor


@pytest.fixture
def squawks(tmp_path: Path) -> Path:
    path = tmp_path / "s1.jsonl"
    words = [("a", "ship "), ("a", "ahoy"), ("b", "land "), ("b", "ho")]
    lines = [{"of": of, "word": word, "at": 1_772_700_000_000 + at} for at, (of, word) in enumerate(words)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_pieces_of_one_message_are_joined_and_the_last_is_told_though_it_may_go_on(squawks: Path) -> None:
    events, _ = told(squawks, Cursor())
    assert [(event.text, event.at_ms % 10) for event in events] == [("ship ahoy", 0), ("land ho", 2)]


def test_what_was_told_as_far_as_it_went_is_not_told_again_when_nothing_was_added(squawks: Path) -> None:
    _, cursor = told(squawks, Cursor())
    with squawks.open("a", encoding="utf-8") as file:
        file.write('{"over": true}\n')
    events, cursor = told(squawks, cursor)
    assert events == []
    assert "open" not in cursor.context["notes"]


def test_a_reading_can_be_done_over_from_the_same_cursor(squawks: Path) -> None:
    _, cursor = told(squawks, Cursor())
    kept = json.dumps(cursor.context)
    with squawks.open("a", encoding="utf-8") as file:
        file.write('{"of": "b", "word": " and more"}\n')
    first, _ = told(squawks, cursor)
    assert json.dumps(cursor.context) == kept, "it may die before what it read is kept"
    assert told(squawks, cursor)[0] == first
    assert [event.text for event in first] == ["land ho and more"]


def test_a_message_without_end_is_told_in_several(tmp_path: Path) -> None:
    path = tmp_path / "s1.jsonl"
    line = json.dumps({"of": "a", "word": "squawk " * 10_000, "at": 1_772_700_000_000}) + "\n"
    path.write_text(line * 10, encoding="utf-8")
    events, cursor = told(path, Cursor())
    assert len(events) > 1
    assert len({event.id for event in events}) == len(events)
    assert sum(event.text.count("squawk") for event in events) == 100_000
    assert len(json.dumps(cursor.context)) < 1_000_000
