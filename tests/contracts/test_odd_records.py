"""Every field of every record that the synthetic sessions hold, replaced in turn by what nobody would write there."""

import json
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from ingest.readers.base import parse_time_ms
from ingest.readers.registry import by_agent, reader_for
from ingest.redaction import redact_event, redact_thread
from ingest.session import Cursor, Item, Reader, ReadTo, Unreadable
from lmm_mcp.domain.event import Event, LAST_ms, Thread
from lmm_mcp.store.archive import Archive

SESSIONS = Path(__file__).parent.parent / "sessions"


def nested(depth: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(depth):
        inner = [inner]
    return inner


ODD = (
    None,
    True,
    -1,
    10**30,
    2**63,
    9 * 10**15,
    1e300,
    float("nan"),
    "",
    [],
    {},
    nested(200),
    nested(900),
    "9" * 10_000,
    "x" * 10_000,
)


def shape(value: Any) -> Any:
    """What tells one kind of record from another: its keys, and the words that name types."""
    if isinstance(value, dict):
        return tuple((key, inner if key in ("type", "role", "name") else shape(inner)) for key, inner in value.items())
    return tuple(dict.fromkeys(map(shape, value))) if isinstance(value, list) else type(value).__name__


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each field, however deep."""
    for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*above, step)
        if isinstance(inner, dict | list):
            yield from places(inner, (*above, step))


def replaced(record: dict[str, Any], way: tuple[Any, ...], odd: Any) -> dict[str, Any]:
    copy = deepcopy(record)
    holder: Any = copy
    for step in way[:-1]:
        holder = holder[step]
    holder[way[-1]] = odd
    return copy


def records_of(agent: str) -> dict[str, dict[str, Any]]:
    """One record of each shape, by a short name."""
    found: dict[Any, dict[str, Any]] = {}
    for path in sorted(SESSIONS.rglob("*.jsonl")):
        reader = reader_for(path)
        if reader is None or reader.agent != agent:
            continue
        for line in path.read_bytes().splitlines():
            try:
                record = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
            if isinstance(record, dict):
                found.setdefault(repr(shape(record)), record)
    named = (record.get("payload", record) for record in found.values())
    return {
        f"{number}-{payload.get('type') if isinstance(payload, dict) else ''}": record
        for number, (payload, record) in enumerate(zip(named, found.values(), strict=True))
    }


RECORDS = [
    pytest.param(agent, record, id=f"{agent}-{name}")
    for agent in ("claude-code", "codex", "gemini-cli", "qwen-code", "copilot-cli", "factory-droid", "pi")
    for name, record in records_of(agent).items()
]


def whole_reading(reader: Reader, path: Path) -> list[Item]:
    """Everything in a file, slice by slice, the cursor going through JSON as the ledger keeps it."""
    cursor, items = Cursor(), []
    while True:
        *slice_, end = reader.read(path, cursor)
        assert isinstance(end, ReadTo)
        items += slice_
        if end.cursor.offset == cursor.offset:
            return items
        context = orjson.loads(orjson.dumps(end.cursor.context))
        cursor = Cursor(end.cursor.offset, end.cursor.line, context)


@pytest.mark.parametrize(("agent", "record"), RECORDS)
def test_no_field_however_odd_stops_a_reading_or_yields_what_cannot_be_kept(
    agent: str, record: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "rollout-odd.jsonl"
    odd = [replaced(record, way, value) for way in places(record) for value in ODD]
    path.write_text("".join(f"{json.dumps(each)}\n" for each in odd), encoding="utf-8")
    for item in whole_reading(by_agent(agent), path):
        match item:
            case Event():
                orjson.dumps(redact_event(item))
                datetime.fromtimestamp(item.at_ms / 1000, UTC)
                datetime.fromtimestamp(item.at_ms / 1000)  # as a person sees it, in their own time zone
                assert 0 <= item.at_ms <= LAST_ms
                assert item.exit_code is None or -(2**31) <= item.exit_code < 2**32
                texts = (item.id, item.text, item.call_id, item.tool, item.command, item.group, item.cwd, item.branch)
                assert all(isinstance(text, str) for text in (*texts, *item.paths))
                assert item.failed in (None, True, False)
            case Thread():
                orjson.dumps(redact_thread(item))
            case Unreadable():
                assert len(item.problem) < 200


@pytest.mark.parametrize(
    "value",
    [
        9 * 10**15,
        10**30,
        10**400,
        2**63,
        1e300,
        float("inf"),
        float("nan"),
        -1,
        -1e300,
        True,
        "9" * 10_000,
        "9999-12-31T23:59:59.999Z",
    ],
)
def test_a_time_that_no_calendar_shows_is_unknown(value: object) -> None:
    assert parse_time_ms(value) == 0


def codex_output(folder: Path, item: dict[str, Any]) -> Event:
    path = folder / "rollout-codes.jsonl"
    path.write_text(json.dumps({"type": "response_item", "payload": item}) + "\n", encoding="utf-8")
    return next(
        each for each in by_agent("codex").read(path, Cursor()) if isinstance(each, Event) and each.kind == "result"
    )


@pytest.mark.parametrize(
    "item",
    [
        {"output": "Chunk ID: 1\nProcess exited with code {}\nOutput:\nlanded"},
        {"output": '{{"output":"landed","metadata":{{"exit_code":{}}}}}'},
        {
            "type": "message",
            "role": "user",
            "content": "<user_shell_command><command>ls</command><result>\nExit code: {}\nOutput:\nlanded</result>"
            "</user_shell_command>",
        },
    ],
    ids=["text", "structured", "typed"],
)
@pytest.mark.parametrize(
    ("digits", "code", "failed"),
    [("3", 3, True), ("-9", -9, True), ("99999999999999999999", None, True), ("9" * 300, None, True), ("0", 0, False)],
)
def test_an_exit_code_of_codex_may_have_any_length(
    item: dict[str, Any], digits: str, code: int | None, failed: bool, tmp_path: Path
) -> None:
    item = {"type": "function_call_output", "call_id": "c", **item}
    item = {key: value.replace("{}", digits).replace("{{", "{").replace("}}", "}") for key, value in item.items()}
    found = codex_output(tmp_path, item)
    assert (found.text, found.exit_code, found.failed) == ("landed", code, failed)


@pytest.mark.parametrize(("digits", "code"), [("3", 3), ("9" * 10, None), ("9" * 5000, None)])
def test_an_exit_code_of_claude_code_may_have_any_length(digits: str, code: int | None, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    block = {"type": "tool_result", "tool_use_id": "t", "is_error": True, "content": f"Exit code {digits}\nrefused"}
    record = {"type": "user", "uuid": "a", "sessionId": "s", "message": {"role": "user", "content": [block]}}
    path.write_text(json.dumps(record) + "\n", encoding="utf-8")
    (found,) = (item for item in by_agent("claude-code").read(path, Cursor()) if isinstance(item, Event))
    assert (found.text, found.exit_code, found.failed) == ("refused", code, True)


def test_the_archive_keeps_an_event_whose_numbers_are_beyond_everything(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    thread = Thread("codex", "s", "s")
    archive.append(
        thread, [Event("a", "result", "far", 9 * 10**15, exit_code=10**30), Event("b", "prompt", "no", 10**30)]
    )
    _, events = Archive(tmp_path).read("codex", "s") or (None, [])
    assert [(event.id, event.at_ms, event.exit_code) for event in events] == [("a", 0, None), ("b", 0, None)]
