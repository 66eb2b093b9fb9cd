"""One reading of a session file: a slice of what is new in it, and what is to be remembered so that the next goes on from there."""

import hashlib
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from ingest.readers.base import prefix_hash
from ingest.readers.opening import open_file
from ingest.readers.registry import by_agent
from ingest.session import Cursor, ReadTo, SourceFile, Unreadable
from lmm_mcp.domain.event import Event, Thread
from lmm_mcp.redaction import redact
from lmm_mcp.store.ledger import Ledger, SourceState

PREFIX_bytes = 4096
"""Hashed to tell whether a file that grew is still the same file,"""
TAIL_bytes = 1024
"""and so are the last bytes that were read: whatever was put in or taken out before them moves them."""
WHOLE_bytes = 8 * 1024 * 1024
"""So much is hashed whole, in some ten milliseconds, which also shows what was edited between without moving anything;"""
NUM_SPOTS, SPOT_bytes = 64, 4096
"""of more only so many blocks, spread evenly."""
_BLOCK_bytes = 1024 * 1024


@dataclass(slots=True)
class Reading:
    """What a reader yielded, by thread, in order of first appearance."""

    threads: dict[str, Thread] = field(default_factory=dict)
    events: dict[str, list[Event]] = field(default_factory=dict)
    unreadable: list[Unreadable] = field(default_factory=list)
    cursor: Cursor = field(default_factory=Cursor)
    has_more: bool = False
    """It is a slice, and there is more behind it."""


@dataclass(frozen=True, slots=True)
class Edges:
    """Both ends of what was read of a file, by which it is known again when it has grown."""

    prefix: str
    prefix_bytes: int
    tail: str
    middle: str
    """Of all that was read, or of blocks spread over it."""
    end: int
    """Where the tail ends: bytes from the beginning of the file."""


def where_to_start(source: SourceFile, ledger: Ledger, stamp: str) -> Cursor:
    """Behind what was read before by the same rules; at the start of a file that is new, was rewritten or is read by others.

    A change in the middle of a large file that leaves the length as it was is surely noticed only where the file has not grown
    between two readings.
    """
    if source.part:
        return source.start
    state = ledger.source(source.name)
    if state is None or state.reader_version != stamp or not state.prefix_bytes:
        return Cursor()
    found = orjson.loads(state.cursor_json)
    # Not the offset: of a packed file that counts what is within.
    end = found["tail"]["end"] if "tail" in found else state.cursor_offset
    was_edited = source.size == state.size and source.mtime_ns != state.mtime_ns
    if source.size < end or was_edited or not _holds(source.path, state):
        return Cursor()
    return Cursor(found["offset"], found["line"], found["context"])


def was_rewritten(source: SourceFile, ledger: Ledger) -> bool:
    """Whether the file holds something else where it was read, though it may have the size and time that it had then."""
    state = None if source.part else ledger.source(source.name)
    return state is not None and state.prefix_bytes > 0 and not _holds(source.path, state)


def beginning_of(path: Path) -> bytes:
    """The first bytes of a file, as they are before it is read; nothing where it is no file."""
    try:
        return _bytes_of(path, 0, PREFIX_bytes)
    except OSError:
        return b""


def edges_of(path: Path, end: int, beginning: bytes) -> Edges | None:
    """The edges of what was read up to `end`; None where it began otherwise before it was read, or is no file."""
    try:
        prefix = _bytes_of(path, 0, PREFIX_bytes)
        if not prefix.startswith(beginning):  # replaced while it was read: what was read may be half of each
            return None
        end = min(end, path.stat().st_size)
        return Edges(_hash(prefix[:end]), min(len(prefix), end), _hash(_tail(path, end)), _middle(path, end), end)
    except OSError:
        return None


def _holds(path: Path, state: SourceState) -> bool:
    """Whether the file still holds what it held where it was read."""
    tail = orjson.loads(state.cursor_json).get("tail")
    middle = tail and tail.get("middle")  # of files that an older version read it is not known
    try:
        if prefix_hash(path, state.prefix_bytes) != state.prefix_hash:
            return False
        if tail is not None and _hash(_tail(path, tail["end"])) != tail["hash"]:
            return False
        return not middle or _middle(path, tail["end"]) == middle
    except OSError:
        return False


def _tail(path: Path, end: int) -> bytes:
    return _bytes_of(path, max(0, end - TAIL_bytes), min(TAIL_bytes, end))


def _middle(path: Path, end: int) -> str:
    found = hashlib.blake2b(digest_size=16)
    step, size = (_BLOCK_bytes, _BLOCK_bytes) if end <= WHOLE_bytes else (end // NUM_SPOTS, SPOT_bytes)
    with open_file(path) as stream:
        for start in range(0, end, step):
            stream.seek(start)
            found.update(stream.read(min(size, end - start)))
    return found.hexdigest()


def _bytes_of(path: Path, start: int, num_bytes: int) -> bytes:
    with open_file(path) as stream:
        stream.seek(start)
        return stream.read(num_bytes)


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


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
    source: SourceFile,
    size: int,
    cursor: Cursor,
    edges: Edges | None,
    stamp: str,
    thread_ids: tuple[str, ...],
    context: Any,
) -> SourceState:
    """What the ledger is to know: how far the file was read, by which rules, and what was found in it."""
    told: dict[str, Any] = {"offset": cursor.offset, "line": cursor.line, "context": context}
    if edges is not None:
        told["tail"] = {"hash": edges.tail, "end": edges.end, "middle": edges.middle}
    return SourceState(
        path=source.name,
        agent=source.agent,
        size=size,
        mtime_ns=source.mtime_ns,
        prefix_hash="" if edges is None else edges.prefix,
        prefix_bytes=0 if edges is None else edges.prefix_bytes,
        cursor_offset=cursor.offset,
        cursor_json=orjson.dumps(told).decode(),
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


def traced(problem: Exception) -> str:
    """Where something went wrong, for the log. Not what: the words of an error may be those of the session, with its secrets.

    >>> traced(ValueError("hunter2"))
    'ValueError'
    """
    return "".join([*traceback.format_tb(problem.__traceback__), type(problem).__name__])
