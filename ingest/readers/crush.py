"""Crush: one SQLite database in each project, `.crush/crush.db`, whose rows often lie in its log only.

Another `data_directory` is found by the list of projects that Crush keeps; its configuration, which may hold keys, is never
opened. Times are seconds, though the schema says milliseconds. A sub-agent's session names its parent.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ingest.readers.base import parse_time_ms
from ingest.readers.crush_parts import events_of
from ingest.readers.documents import json_document, json_value
from ingest.readers.family import root_of
from ingest.readers.message_events import Calls, Spoken
from ingest.readers.places import data_folders, named_folder
from ingest.readers.sqlite import database_of, holds, opened, tables
from ingest.readers.unknown import Unknown
from ingest.readers.values import ODDITIES, id_in
from ingest.session import Cursor, Item, ReadTo, SourceFile, Unreadable
from lmm_mcp.domain.event import Thread
from lmm_mcp.paths import user_home

_NAME = "crush.db"
_FOLDER = ".crush"
_PROJECTS = "projects.json"
_TABLES = {
    "sessions": frozenset({"id", "title", "parent_session_id", "updated_at"}),
    "messages": frozenset({"id", "session_id", "role", "parts", "created_at", "updated_at"}),
}
_ROOT_MARKS = (".git", ".crush.json", "crush.json")
_UNNAMED = frozenset({"New Session", "Untitled Session", "New Agent Session"})
_TITLE_MAKERS = "title-"
"""Sessions so called are asked for a title and hold nothing else."""
_ALL_ROWS_bytes = 64 * 1024 * 1024
_LATEST = 4
"""A message is rewritten while it is spoken, several times within a second: the lengths of the last ones tell."""


class Crush:
    """Reader of Crush sessions."""

    agent = "crush"
    version = 1
    lies_in_projects = True

    def roots(self, env: Mapping[str, str], extra: Sequence[Path]) -> tuple[Path, ...]:
        """Data folders that Crush lists, the one of the home folder, then `extra`: projects, or data folders."""
        named = named_folder(env, "CRUSH_GLOBAL_DATA")
        lists = (named,) if named else data_folders(env, "crush")
        own = (folder for place in lists for folder in _listed(place / _PROJECTS))
        return tuple(dict.fromkeys((*own, user_home(env) / _FOLDER, *extra)))

    def discover(self, root: Path) -> Iterator[Path]:
        """The database of a project, or of a data folder."""
        for found in (root / _FOLDER / _NAME, root / _NAME) if root.name != _NAME else (root,):
            try:
                if found.is_file():
                    yield found
            except OSError:  # the folder may not be entered: whoever opens it says why
                yield found.parent

    def session_of(self, root: Path, path: Path) -> Path | None:
        """The log speaks for its database."""
        database = database_of(path)
        is_there = database == root or database.parent in (root, root / _FOLDER)
        return database if database.name == _NAME and is_there else None

    def claims(self, path: Path) -> bool:
        """Whether `path` is a database with Crush's tables."""
        return holds(path, _TABLES)

    def sources(self, path: Path) -> Iterator[SourceFile | Unreadable]:
        """Each session of the database. Raises OSError."""
        with opened(path) as connection:
            known = tables(connection)
            if missing := [name for name, columns in _TABLES.items() if not columns <= known.get(name, frozenset())]:
                yield Unreadable(str(path), 0, f"a database without the table {missing[0]} as it is known")
                return
            limit = -1 if path.stat().st_size <= _ALL_ROWS_bytes else _LATEST
            for session_id, at, num_messages, said_at, num_chars in connection.execute(
                _LISTING, {"limit": limit, "latest": _LATEST}
            ):
                if num_messages and isinstance(session_id, str) and not session_id.startswith(_TITLE_MAKERS):
                    newest_ns = max(parse_time_ms(at), parse_time_ms(said_at)) * 1_000_000
                    trace = num_chars if isinstance(num_chars, int) else 0
                    yield SourceFile(self.agent, path, num_messages, newest_ns + trace % 1_000_000, session_id)

    def read(self, path: Path, cursor: Cursor) -> Iterator[Item]:
        """Yield all of the session that the cursor names. Raises OSError where the database cannot be read."""
        part = cursor.context.get("part")
        if isinstance(part, str) and part:
            with opened(path) as connection:
                yield from _items(connection, part, path)
        yield ReadTo(cursor)


_LISTING = """
    SELECT s.id, s.updated_at,
        (SELECT count(*) FROM messages m WHERE m.session_id = s.id),
        (SELECT max(at) FROM (
            SELECT m.updated_at AS at FROM messages m WHERE m.session_id = s.id ORDER BY m.rowid DESC LIMIT :limit)),
        (SELECT sum(num) FROM (
            SELECT length(m.parts) AS num FROM messages m WHERE m.session_id = s.id ORDER BY m.rowid DESC LIMIT :latest))
    FROM sessions s"""


def _items(connection: sqlite3.Connection, session_id: str, path: Path) -> Iterator[Item]:
    columns = tables(connection)
    row = _row(connection, columns["sessions"], session_id)
    if row is None:  # deleted meanwhile: what was read of it is kept
        return
    unknown, calls = Unknown(), Calls(id_in(session_id))
    thread = _thread(connection, columns["sessions"], session_id, row, path)
    is_announced = False
    summary = "is_summary_message" if "is_summary_message" in columns["messages"] else "0"
    query = f"""SELECT id, role, parts, created_at, {summary} FROM messages
        WHERE session_id = ? ORDER BY created_at, rowid"""  # noqa: S608 - names of ours
    for message_id, role, content, at, is_summary in connection.execute(query, (session_id,)):
        parts = json_value(content, path) if isinstance(content, str | bytes) else None
        if not isinstance(parts, list):
            unknown.odd("message", TypeError())
            continue
        is_summary = is_summary == 1 or message_id == row["summary_message_id"]
        message = Spoken(id_in(message_id), parse_time_ms(at), thread.cwd)
        try:
            events = list(events_of(role, parts, message, calls, unknown, is_summary=is_summary))
        except ODDITIES as problem:
            unknown.odd("message", problem)
            continue
        if events and not is_announced:
            is_announced = True
            yield thread
        yield from events
    yield from unknown.said(path)


def _row(connection: sqlite3.Connection, columns: frozenset[str], session_id: str) -> Mapping[str, Any] | None:
    summary = "summary_message_id" if "summary_message_id" in columns else "NULL"
    query = f"SELECT title, parent_session_id, {summary} FROM sessions WHERE id = ?"  # noqa: S608 - names of ours
    found = connection.execute(query, (session_id,)).fetchone()
    names = ("title", "parent_session_id", "summary_message_id")
    return None if found is None else dict(zip(names, found, strict=True))


def _thread(
    connection: sqlite3.Connection, columns: frozenset[str], session_id: str, row: Mapping[str, Any], path: Path
) -> Thread:
    parents: dict[str, object] = {id_in(session_id): row["parent_session_id"]}
    raw = row["parent_session_id"]
    while isinstance(raw, str) and id_in(raw) not in parents:
        above = _row(connection, columns, raw) or {}
        parents[id_in(raw)] = raw = above.get("parent_session_id")
    name = id_in(session_id)
    parent = id_in(row["parent_session_id"])
    root = root_of(name, parent, lambda above: id_in(parents.get(above)))
    title = row["title"] if isinstance(row["title"], str) and row["title"] not in _UNNAMED else ""
    return Thread(Crush.agent, root, name, title, _project_of(path), parent=parent if parent != name else "")


def _project_of(database: Path) -> str:
    """The folder that is worked in: the one that holds `.crush`, else the next above with a mark of a project."""
    folder = database.absolute().parent
    if folder.name == _FOLDER:
        return str(folder.parent)
    return next((str(above) for above in folder.parents if any((above / mark).exists() for mark in _ROOT_MARKS)), "")


def _listed(projects: Path) -> Iterator[Path]:
    try:
        found = json_document(projects)
    except OSError:
        return
    entries = found.get("projects") if isinstance(found, Mapping) else None
    for entry in entries if isinstance(entries, list) else ():
        folder = entry.get("data_dir") if isinstance(entry, Mapping) else None
        if isinstance(folder, str) and folder:
            above = entry.get("path")
            place = Path(above, folder) if isinstance(above, str) else Path(folder)
            if place.is_absolute() and "\0" not in str(place):
                yield place
