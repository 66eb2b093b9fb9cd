"""Archived sessions as a file for other programs and other machines: JSON lines or Parquet, and how a record is read back.

JSON lines (plain, or zstd): first `{"lmm_export": 1, ...}`, then for each thread `{"thread": {...}}` and its events,
`{"event": {...}}`, in order. Parquet: one row for each event, with the fields of its thread beside; the schema's metadata
holds `lmm_export`. All of it is redacted, as the archive is. `lmm import` reads either, on any machine, and merges by the
agents' own ids: what is there already is not doubled.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import IO, Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from lmm_mcp.domain.event import Event, Thread
from lmm_mcp.errors import ArchiveError, BadInput
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.surrogates import mended

FORMAT = 1
"""A reader refuses files of a later one."""
MARK = "lmm_export"
ENDINGS = (".jsonl", ".jsonl.zst", ".parquet")
_ROWS_at_once = 2_000
_THREAD_COLUMN = "thread_"
"""Before the name of a thread's field that an event has, too."""

_EVENT_FIELDS = tuple(field.name for field in fields(Event))
_THREAD_FIELDS = tuple(field.name for field in fields(Thread))
_KINDS = {"at_ms": pa.int64(), "exit_code": pa.int64(), "failed": pa.bool_(), "ours": pa.bool_()}


def column_of(thread_field: str) -> str:
    """The Parquet column of a field of the thread.

    >>> column_of("title"), column_of("cwd")
    ('title', 'thread_cwd')
    """
    return _THREAD_COLUMN + thread_field if thread_field in _EVENT_FIELDS else thread_field


SCHEMA = pa.schema(
    [pa.field(column_of(name), pa.string()) for name in _THREAD_FIELDS]
    + [
        pa.field(name, pa.list_(pa.string()) if name == "paths" else _KINDS.get(name, pa.string()))
        for name in _EVENT_FIELDS
    ]
)


def export(
    archive: Archive,
    threads: Iterable[tuple[str, str]],
    target: Path,
    *,
    made_by: str,
    on_damage: Callable[[ArchiveError], None],
) -> tuple[int, int]:
    """Write these (agent, thread id) to `target`, by its ending; the numbers of threads and of events written.

    The file appears whole or not at all, readable by the user alone. A damaged thread is left out and told to `on_damage`.
    Raises BadInput for another ending, OSError where it cannot be written.
    """
    found = _read(archive, threads, on_damage)
    with written_beside(target) as beside:
        match target.name.lower():
            case name if name.endswith(".parquet"):
                return _parquet(found, beside, made_by)
            case name if name.endswith(".jsonl"):
                with beside.open("wb") as file:
                    return json_lines(found, file, made_by)
            case name if name.endswith(".jsonl.zst"):
                with beside.open("wb") as raw, zstandard.ZstdCompressor(level=3).stream_writer(raw) as packed:
                    return json_lines(found, packed, made_by)
            case _:
                raise BadInput(
                    f"{target.name} ends in none of {', '.join(ENDINGS)}; name the file so that its ending says the format."
                )


@contextmanager
def written_beside(target: Path) -> Iterator[Path]:
    """A private file beside `target`, which becomes `target` when the block ends well and is removed when it does not."""
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        yield beside
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def thread_of(values: dict[str, Any]) -> Thread:
    """A thread as it was exported. Raises TypeError or KeyError for what is none; fields that are not known are left aside."""
    known = {name: str(value) for name, value in values.items() if name in _THREAD_FIELDS and value is not None}
    return Thread(known.pop("agent"), known.pop("session_id"), known.pop("thread_id"), **known)


def event_of(values: dict[str, Any]) -> Event:
    """An event as it was exported. Raises TypeError or KeyError for what is none; fields that are not known are left aside."""
    known = {name: value for name, value in values.items() if name in _EVENT_FIELDS and value is not None}
    known["paths"] = tuple(known.get("paths", ()))
    event = Event(**{"text": "", "at_ms": 0, **known})
    texts = (
        event.id,
        event.kind,
        event.text,
        event.call_id,
        event.tool,
        event.command,
        event.group,
        event.cwd,
        event.branch,
    )
    if not (
        all(isinstance(text, str) for text in (*texts, *event.paths)) and isinstance(event.at_ms, int) and event.id
    ):
        raise TypeError("a field of an unexpected type")
    return event


def _read(
    archive: Archive, threads: Iterable[tuple[str, str]], on_damage: Callable[[ArchiveError], None]
) -> Iterator[tuple[Thread, list[Event]]]:
    for agent, thread_id in threads:
        try:
            found = archive.read(agent, thread_id)
        except ArchiveError as problem:
            on_damage(problem)
            continue
        if found is not None and found[1]:
            yield found


def json_lines(found: Iterable[tuple[Thread, Sequence[Event]]], file: IO[bytes] | Any, made_by: str) -> tuple[int, int]:
    """Write threads and their events to an open file as JSON lines; the numbers of both."""
    num_threads = num_events = 0
    file.write(orjson.dumps({MARK: FORMAT, "made_by": made_by}) + b"\n")
    for thread, events in found:
        file.write(b"".join([_line("thread", thread), *(_line("event", event) for event in events)]))
        num_threads, num_events = num_threads + 1, num_events + len(events)
    return num_threads, num_events


def _line(name: str, value: Thread | Event) -> bytes:
    try:
        return orjson.dumps({name: value}) + b"\n"
    except TypeError:  # half a character, from an archive that older readers wrote
        return orjson.dumps({name: mended({field.name: getattr(value, field.name) for field in fields(value)})}) + b"\n"


def _parquet(found: Iterable[tuple[Thread, Sequence[Event]]], target: Path, made_by: str) -> tuple[int, int]:
    schema = SCHEMA.with_metadata({MARK: str(FORMAT), "made_by": made_by})
    num_threads = num_events = 0
    rows: list[dict[str, Any]] = []
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for thread, events in found:
            about = {column_of(name): getattr(thread, name) for name in _THREAD_FIELDS}
            rows += [about | {name: getattr(event, name) for name in _EVENT_FIELDS} for event in events]
            num_threads, num_events = num_threads + 1, num_events + len(events)
            if len(rows) >= _ROWS_at_once:
                writer.write_table(_table(rows, schema))
                rows = []
        if rows:
            writer.write_table(_table(rows, schema))
    return num_threads, num_events


def _table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    try:
        return pa.Table.from_pylist(rows, schema=schema)
    except UnicodeEncodeError:
        return pa.Table.from_pylist(mended(rows), schema=schema)
