"""Where OpenCode keeps a session: rows of a database, a tree of small JSON files (until it became a database), one JSON document
(`opencode export`). Each is told as a `Session` and its `Message`s, in order.

What is said of a change must be cheap to find out: databases of 13 GB have been seen, most of it in JSON that is not read here.
"""

import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingest.readers.base import parse_time_ms
from ingest.readers.documents import json_document, json_value
from ingest.readers.family import root_of
from ingest.readers.opencode_forks import Originals
from ingest.readers.opencode_records import Message, Session, own_id
from ingest.readers.sqlite import opened, tables
from ingest.readers.unknown import Unknown
from ingest.session import SourceFile, Unreadable

TABLES = {
    "session": frozenset({"id", "directory"}),
    "message": frozenset({"id", "session_id", "data"}),
    "part": frozenset({"id", "message_id", "data"}),
}
EXPORT = re.compile(rb'\A(?:\xef\xbb\xbf)?\s*\{\s*"info"\s*:\s*\{(?=.*"(?:ses_|projectID|directory))', re.DOTALL)
"""How a document begins that `export` wrote."""

_ALL_ROWS_bytes = 64 * 1024 * 1024
_LATEST = 8
"""In larger databases the newest change of a session is looked for among so many of its last rows: those are what OpenCode
rewrites, and what it rewrites it follows by more rows. An older one that somebody else changes is seen when the session goes
on. (2,000 sessions of 240,000 parts are listed in 0.08 s of one core, with all rows in 1 s.)"""


@dataclass(frozen=True, slots=True)
class Told:
    """A session and its messages, not yet read."""

    session: Session
    messages: Callable[[Unknown], Iterator[Message]]


# Database ------------------------------------------------------------------------------------------------------------


def listed_rows(agent: str, path: Path, connection: sqlite3.Connection) -> Iterator[SourceFile | Unreadable]:
    """Each session of a database: its number of rows and the time of its newest."""
    known = tables(connection)
    if missing := [name for name, columns in TABLES.items() if not columns <= known.get(name, frozenset())]:
        yield Unreadable(str(path), 0, f"a database without the table {missing[0]} as it is known")
        return
    num_unknown = 0
    limit = -1 if path.stat().st_size <= _ALL_ROWS_bytes else _LATEST
    of_part = "p.session_id = s.id" if "session_id" in known["part"] else _BY_MESSAGE
    session_at, message_at, part_at = (_time_in(known[name]) for name in TABLES)
    made = "time_created" if "time_created" in known["message"] else "rowid"  # by the first there is an index
    newer = "(SELECT count(*) FROM session_message v WHERE v.session_id = s.id)" if "session_message" in known else "0"
    # Counted by indexes alone. Names and conditions are ours, whatever the database says.
    query = f"""
        SELECT s.id, {newer},
            (SELECT count(*) FROM message m WHERE m.session_id = s.id),
            (SELECT count(*) FROM part p WHERE {of_part}),
            s.{session_at},
            (SELECT max(at) FROM (
                SELECT m.{message_at} AS at FROM message m WHERE m.session_id = s.id ORDER BY m.{made} DESC LIMIT {limit})),
            (SELECT max(at) FROM (
                SELECT p.{part_at} AS at FROM part p WHERE {of_part} ORDER BY p.rowid DESC LIMIT {limit}))
        FROM session s"""  # noqa: S608
    for session_id, num_newer, num_messages, num_parts, *times in connection.execute(query):
        if num_messages and isinstance(session_id, str) and session_id:
            times_ms = [parse_time_ms(at) for at in times]
            # The newest hides the others; below its milliseconds there is room for a trace of them.
            newest_ns = max(times_ms) * 1_000_000 + sum(times_ms) % 1_000_000
            yield SourceFile(agent, path, num_messages + num_parts, newest_ns, session_id)
        elif num_newer:
            num_unknown += 1
    if num_unknown:
        yield Unreadable(str(path), 0, f"messages in the unknown table session_message ({num_unknown:,} sessions)")


_BY_MESSAGE = "p.message_id IN (SELECT id FROM message WHERE session_id = s.id)"


def _time_in(columns: frozenset[str]) -> str:
    """The column that tells of changes; one that tells nothing where there is none."""
    return next((name for name in ("time_updated", "time_created") if name in columns), "id")


def has_messages(path: Path, session_id: str) -> bool:
    """Whether the database has messages of the session. Raises OSError."""
    with opened(path) as connection:
        return (
            connection.execute("SELECT 1 FROM message WHERE session_id = ? LIMIT 1", (session_id,)).fetchone()
            is not None
        )


def told_by_rows(connection: sqlite3.Connection, session_id: str) -> Told | None:
    """One session of a database; None where it is gone."""
    known = tables(connection)
    row = _row(connection, known, session_id)
    if row is None:
        return None
    directory = _text(row.get("directory"))
    if directory in ("", "/") and "project" in known and (project := row.get("project_id")):
        found = connection.execute("SELECT worktree FROM project WHERE id = ?", (project,)).fetchone()
        directory = _text(found[0]) if found and _text(found[0]) not in ("", "/") else directory
    parent = own_id(row.get("parent_id"))

    def parent_of(above: str) -> str | None:
        found = _row(connection, known, above)
        return None if found is None else own_id(found.get("parent_id"))

    can_tell = "time_created" in known["message"]
    originals = Originals(connection, session_id, row.get("time_created") if can_tell and not parent else None)
    session = Session(
        own_id(session_id),
        root_of(own_id(session_id), parent, parent_of),
        parent,
        _text(row.get("title")),
        directory,
        originals.forked_from if can_tell else "",
    )
    return Told(session, lambda unknown: _rows(connection, known, session_id, originals, unknown))


def _row(connection: sqlite3.Connection, known: Mapping[str, frozenset[str]], session_id: str) -> dict[str, Any] | None:
    wanted = [
        name for name in ("parent_id", "title", "directory", "project_id", "time_created") if name in known["session"]
    ]
    query = f"SELECT {', '.join(wanted)} FROM session WHERE id = ?"  # noqa: S608 - names of ours
    found = connection.execute(query, (session_id,)).fetchone()
    return None if found is None else dict(zip(wanted, found, strict=True))


def _rows(
    connection: sqlite3.Connection,
    known: Mapping[str, frozenset[str]],
    session_id: str,
    originals: Originals,
    unknown: Unknown,
) -> Iterator[Message]:
    time = "time_created" if "time_created" in known["message"] else "NULL"
    query = f"SELECT id, data, {time} AS at FROM message WHERE session_id = ? ORDER BY at, id"  # noqa: S608 - as above
    rows = connection.execute(query, (session_id,))
    for message_id, data, at in rows:
        info = _record(data, "message", unknown)
        if info is None:
            continue
        parts: list[Mapping[str, Any]] = []
        # Ids of parts are made of the time and a count, so that they sort as they were written.
        for part_id, content in connection.execute(
            "SELECT id, data FROM part WHERE message_id = ? ORDER BY id", (message_id,)
        ):
            part = _record(content, "part", unknown)
            if part is not None:
                parts.append({**part, "id": part_id})
        name, named_parts = originals.named(message_id, at, parts)
        yield Message(own_id(name), info, named_parts, parse_time_ms(at))


def _record(content: object, what: str, unknown: Unknown) -> Mapping[str, Any] | None:
    found = json_value(content, Path()) if isinstance(content, str | bytes) else content
    if isinstance(found, Mapping):
        return found
    unknown.odd(what, ValueError() if isinstance(found, Unreadable) else TypeError())
    return None


# Tree of files -------------------------------------------------------------------------------------------------------


def marks_of_tree(session_file: Path) -> tuple[int, int]:
    """What changes when anything of a session in the old tree does: number of its files, time of the newest in ns.

    A folder's own time tells of files that came or went, so only the last messages' parts are looked at one by one.
    """
    storage = session_file.parents[2]
    num_files, newest_ns = 1, session_file.stat().st_mtime_ns
    messages = _files(storage / "message" / session_file.stem)
    for message in messages:
        newest_ns = max(newest_ns, message.stat().st_mtime_ns)
        parts = storage / "part" / message.name.removesuffix(".json")
        try:
            newest_ns = max(newest_ns, parts.stat().st_mtime_ns)
        except FileNotFoundError:
            continue
        num_files += 1
    for message in messages[-2:]:
        parts_of_it = _files(storage / "part" / message.name.removesuffix(".json"))
        num_files += len(parts_of_it)
        newest_ns = max([newest_ns, *(part.stat().st_mtime_ns for part in parts_of_it)])
    return num_files + len(messages), newest_ns


def told_by_tree(session_file: Path) -> Told | Unreadable:
    """One session of the old tree. Ids are those of the files, as OpenCode's own migration takes them. Raises OSError."""
    info = json_document(session_file)
    if isinstance(info, Unreadable):
        return info
    if not isinstance(info, Mapping) or not isinstance(info.get("id"), str):
        return Unreadable(str(session_file), 0, "not what OpenCode writes of a session")
    storage, session_id = session_file.parents[2], own_id(session_file.stem)

    def parent_of(above: str) -> str | None:
        for found in (storage / "session").glob(f"*/{above}.json") if re.fullmatch(r"[\w-]+", above) else ():
            record = json_document(found)
            return own_id(record.get("parentID")) if isinstance(record, Mapping) else ""
        return None

    parent = own_id(info.get("parentID"))
    session = Session(
        session_id,
        root_of(session_id, parent, parent_of),
        parent,
        _text(info.get("title")),
        _text(info.get("directory")),
    )
    return Told(session, lambda unknown: _files_of_messages(storage, session_file.stem, unknown))


def _files_of_messages(storage: Path, session_id: str, unknown: Unknown) -> Iterator[Message]:
    for file in _files(storage / "message" / session_id):
        message_id = file.name.removesuffix(".json")
        info = _document(Path(file), "message", unknown)
        if info is None:
            continue
        parts: list[Mapping[str, Any]] = []
        for piece in _files(storage / "part" / message_id):
            part = _document(Path(piece), "part", unknown)
            if part is not None:
                parts.append({**part, "id": piece.name.removesuffix(".json")})
        yield Message(own_id(message_id), info, parts)


def _document(path: Path, what: str, unknown: Unknown) -> Mapping[str, Any] | None:
    try:
        found = json_document(path)
    except FileNotFoundError as problem:  # taken back in this moment
        unknown.odd(what, problem)
        return None
    if isinstance(found, Mapping):
        return found
    unknown.odd(what, ValueError() if isinstance(found, Unreadable) else TypeError())
    return None


def _files(folder: Path) -> list[os.DirEntry[str]]:
    """JSON files in a folder, as their names sort: they hold the time. None where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if entry.name.endswith(".json")), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []


# Export --------------------------------------------------------------------------------------------------------------


def told_by_export(path: Path) -> Told | Unreadable:
    """The session of an exported document. Raises OSError."""
    found = json_document(path)
    if isinstance(found, Unreadable):
        return found
    info = found.get("info") if isinstance(found, Mapping) else None
    messages = found.get("messages") if isinstance(found, Mapping) else None
    if not isinstance(info, Mapping) or not isinstance(messages, list) or not own_id(info.get("id")):
        return Unreadable(str(path), 0, "not a session as `opencode export` writes it")
    session_id, parent = own_id(info["id"]), own_id(info.get("parentID"))
    session = Session(session_id, parent or session_id, parent, _text(info.get("title")), _text(info.get("directory")))
    return Told(session, lambda unknown: _exported(messages, unknown))


def _exported(messages: list[Any], unknown: Unknown) -> Iterator[Message]:
    for message in messages:
        info = message.get("info") if isinstance(message, Mapping) else None
        if not isinstance(info, Mapping):
            unknown.odd("message", TypeError())
            continue
        parts = message.get("parts")
        kept = [part for part in parts if isinstance(part, Mapping)] if isinstance(parts, list) else []
        if not isinstance(parts, list) or len(kept) < len(parts):
            unknown.odd("part", TypeError())
        yield Message(own_id(info.get("id")), info, kept)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
