"""One reading of a session file: a slice of what is new in it, and what is to be remembered so that the next goes on from there."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from ingest.readers.base import prefix_hash
from ingest.readers.registry import by_agent
from ingest.session import Cursor, ReadTo, SourceFile, Unreadable
from lmm_mcp.domain.event import Event, Thread
from lmm_mcp.redaction import redact
from lmm_mcp.store.ledger import Ledger, SourceState

PREFIX_bytes = 4096
"""Hashed to tell whether a file that grew is still the same file."""


@dataclass(slots=True)
class Reading:
    """What a reader yielded, by thread, in order of first appearance."""

    threads: dict[str, Thread] = field(default_factory=dict)
    events: dict[str, list[Event]] = field(default_factory=dict)
    unreadable: list[Unreadable] = field(default_factory=list)
    cursor: Cursor = field(default_factory=Cursor)
    has_more: bool = False
    """It is a slice, and there is more behind it."""


def where_to_start(source: SourceFile, ledger: Ledger, stamp: str) -> Cursor:
    """Behind what was read before by the same rules; at the start of a file that is new, was rewritten or is read by others."""
    if source.part:
        return source.start
    state = ledger.source(source.name)
    if state is None or state.reader_version != stamp or source.size < state.cursor_offset or not state.prefix_bytes:
        return Cursor()
    try:
        if prefix_hash(source.path, state.prefix_bytes) != state.prefix_hash:
            return Cursor()
    except OSError:
        return Cursor()
    found = orjson.loads(state.cursor_json)
    return Cursor(found["offset"], found["line"], found["context"])


def read(source: SourceFile, cursor: Cursor) -> Reading:
    """Read a slice. Raises OSError where the file cannot be read."""
    reading = Reading(cursor=cursor)
    current = ""
    for item in by_agent(source.agent).read(source.path, cursor):
        match item:
            case Event():
                reading.events.setdefault(current, []).append(item)
            case Thread():
                current = item.thread_id
                reading.threads[current] = item
            case Unreadable():
                reading.unreadable.append(replace(item, path=source.name) if source.part else item)
            case ReadTo():
                reading.cursor, reading.has_more = item.cursor, item.has_more
    return reading


def joined(one: Reading, other: Reading) -> Reading:
    """Two slices of a file as one."""
    events = {name: [*one.events.get(name, ()), *other.events.get(name, ())] for name in (*one.events, *other.events)}
    unreadable = [*one.unreadable, *other.unreadable]
    return Reading(one.threads | other.threads, events, unreadable, other.cursor, other.has_more)


def state_of(
    source: SourceFile, size: int, cursor: Cursor, prefix: str, stamp: str, thread_ids: tuple[str, ...], context: Any
) -> SourceState:
    """What the ledger is to know: how far the file was read, by which rules, and what was found in it."""
    return SourceState(
        path=source.name,
        agent=source.agent,
        size=size,
        mtime_ns=source.mtime_ns,
        prefix_hash=prefix,
        prefix_bytes=min(PREFIX_bytes, source.size) if prefix else 0,
        cursor_offset=cursor.offset,
        cursor_json=orjson.dumps({"offset": cursor.offset, "line": cursor.line, "context": context}).decode(),
        reader_version=stamp,
        thread_ids=thread_ids,
    )


def clean(value: Any, ledger: Ledger) -> Any:
    """Take secrets and forgotten titles out of what a reader wants to remember: that is kept, too."""
    match value:
        case str():
            return "" if ledger.is_text_buried(value) else redact(value)
        case Mapping():
            return {redact(str(name)): clean(item, ledger) for name, item in value.items()}
        case list() | tuple():
            return [clean(item, ledger) for item in value]
        case _:
            return value


def prefix_of(path: Path) -> str:
    """Hash of the beginning of a file; '' where it cannot be read."""
    try:
        return prefix_hash(path, min(PREFIX_bytes, path.stat().st_size))
    except OSError:
        return ""
