"""Goose: one SQLite database for all sessions; before that, a file of JSON lines for each, which stays when it is imported.

`replace_conversation` (compaction, edits) deletes all rows of a session and writes them anew: messages keep their ids, rows
do not. A session of lines has the same ids in the database.
"""

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ingest.readers.base import FileReader, json_lines, parse_time_ms
from ingest.readers.documents import json_value
from ingest.readers.family import root_of
from ingest.readers.goose_messages import Conversation
from ingest.readers.opening import first_bytes
from ingest.readers.places import data_folders, named_folder, roaming_folder
from ingest.readers.sqlite import ENDINGS, database_of, holds, opened, tables
from ingest.readers.values import ODDITIES, id_in
from ingest.readers.walking import files_in
from ingest.session import Cursor, Item, ReadTo, SourceFile, Unreadable
from lmm_mcp.domain.event import Event, Thread

_NAME = "sessions.db"
_LINES = re.compile(r"[\w][\w.-]*\.jsonl")
_TABLES = {
    "sessions": frozenset({"id", "working_dir", "updated_at"}),
    "messages": frozenset({"id", "session_id", "role", "content_json", "created_timestamp"}),
}
_HIDDEN = "hidden"
_SESSION_COLUMNS = ("name", "description", "working_dir", "session_type", "parent_session_id")
_MESSAGE_COLUMNS = ("message_id", "role", "content_json", "created_timestamp", "metadata_json")
_UNNAMED = re.compile(r"(?:CLI|New|Untitled) (?:[Ss]ession|[Cc]hat)(?: \d+)?")
_HEADER = re.compile(rb'\A\s*\{(?=[^\n]*"working_dir"\s*:)(?=[^\n]*"(?:description|message_count|total_tokens)"\s*:)')
_FIRST_bytes = 64 * 1024

_LISTING = """
    SELECT s.id, s.updated_at, {kind},
        (SELECT count(*) FROM messages m WHERE m.session_id = s.id),
        (SELECT max(m.id) FROM messages m WHERE m.session_id = s.id)
    FROM sessions s"""


class Goose(FileReader):
    """Reader of Goose sessions (terminal and desktop: one store)."""

    agent = "goose"
    version = 1

    def roots(self, env: Mapping[str, str], extra: Sequence[Path]) -> tuple[Path, ...]:
        """Its folders of sessions: below `GOOSE_PATH_ROOT`, else where each system keeps data, then `extra`."""
        if named := named_folder(env, "GOOSE_PATH_ROOT"):
            own: tuple[Path, ...] = (named / "data" / "sessions",)
        else:
            own = data_folders(env, "goose", "sessions")
            if roaming := roaming_folder(env):
                own += (roaming / "Block" / "goose" / "data" / "sessions",)
        return tuple(dict.fromkeys((*own, *extra)))

    def discover(self, root: Path) -> Iterator[Path]:
        """The database, and sessions of before there was one."""
        yield from files_in(root, lambda name: name == _NAME or _LINES.fullmatch(name))

    def session_of(self, root: Path, path: Path) -> Path | None:
        """The log speaks for the database, lines for themselves."""
        database = database_of(path)
        if database == root:
            return root
        if path.parent != root:
            return None
        return database if database.name == _NAME else path if _LINES.fullmatch(path.name) else None

    def claims(self, path: Path) -> bool:
        """A database with Goose's tables, or lines that begin with its header."""
        if path.suffix in ENDINGS:
            return holds(path, _TABLES)
        if path.suffix != ".jsonl":
            return False
        return _HEADER.match(first_bytes(path, _FIRST_bytes)) is not None

    def sources(self, path: Path) -> Iterator[SourceFile | Unreadable]:
        """Each session of a database, the file of lines itself. Raises OSError."""
        if path.suffix not in ENDINGS:
            yield from super().sources(path)
            return
        with opened(path) as connection:
            known = tables(connection)
            if missing := [name for name, columns in _TABLES.items() if not columns <= known.get(name, frozenset())]:
                yield Unreadable(str(path), 0, f"a database without the table {missing[0]} as it is known")
                return
            kind = "s.session_type" if "session_type" in known["sessions"] else "''"
            for session_id, at, kind_of_it, num_messages, newest in connection.execute(_LISTING.format(kind=kind)):
                if num_messages and kind_of_it != _HIDDEN and isinstance(session_id, str) and session_id:
                    # Rows that were replaced have higher numbers, which no time tells of.
                    trace = newest % 1_000_000 if isinstance(newest, int) else 0
                    newest_ns = parse_time_ms(at) * 1_000_000 + trace
                    yield SourceFile(self.agent, path, num_messages, newest_ns, session_id)

    def read(self, path: Path, cursor: Cursor) -> Iterator[Item]:
        """Yield all of the session. Raises OSError where its store cannot be read."""
        part = cursor.context.get("part")
        if isinstance(part, str) and part:
            with opened(path) as connection:
                yield from _rows(connection, part, path)
            yield ReadTo(cursor)
        else:
            yield from _lines(path)
            yield ReadTo(Cursor())


def _rows(connection: sqlite3.Connection, session_id: str, path: Path) -> Iterator[Item]:
    known = tables(connection)
    row = _session(connection, known["sessions"], session_id)
    if row is None:  # deleted meanwhile: what was read of it is kept
        return
    name, parent = id_in(session_id), id_in(row["parent_session_id"])

    def parent_of(above: str) -> str:
        return id_in((_session(connection, known["sessions"], above) or {}).get("parent_session_id"))

    cwd = _text(row["working_dir"])
    thread = Thread(
        Goose.agent,
        root_of(name, parent, parent_of),
        name,
        _title(row["name"], row["description"]),
        cwd,
        parent=parent if parent != name else "",
    )
    conversation = Conversation(name, cwd)
    wanted = _selected(_MESSAGE_COLUMNS, known["messages"])
    query = f"SELECT {wanted} FROM messages WHERE session_id = ? ORDER BY id"  # noqa: S608 - names of ours
    is_announced = False
    for message_id, role, content, created, metadata in connection.execute(query, (session_id,)):
        contents = json_value(content, path) if isinstance(content, str | bytes) else None
        notes = json_value(metadata, path) if isinstance(metadata, str | bytes) else None
        for event in _events(conversation, message_id, role, contents, created, notes):
            if not is_announced:
                is_announced = True
                yield thread
            yield event
    yield from conversation.unknown.said(path)


def _session(connection: sqlite3.Connection, columns: frozenset[str], session_id: str) -> Mapping[str, object] | None:
    query = f"SELECT {_selected(_SESSION_COLUMNS, columns)} FROM sessions WHERE id = ?"  # noqa: S608 - as above
    found = connection.execute(query, (session_id,)).fetchone()
    return None if found is None else dict(zip(_SESSION_COLUMNS, found, strict=True))


def _selected(wanted: Sequence[str], columns: frozenset[str]) -> str:
    """Columns as this version of the schema has them; what it lacks is nothing."""
    return ", ".join(name if name in columns else "NULL" for name in wanted)


def _lines(path: Path) -> Iterator[Item]:
    session_id = id_in(path.name.removesuffix(".jsonl"))
    thread = Thread(Goose.agent, session_id, session_id)
    conversation = Conversation(session_id, "", is_lines=True)
    is_announced = False
    for decoded in json_lines(path, Cursor(), final=True):
        if isinstance(decoded, ReadTo):
            break
        if isinstance(decoded, Unreadable):
            yield decoded
            continue
        _, record = decoded
        if "role" not in record and isinstance(record.get("working_dir"), str):
            cwd = record["working_dir"]
            thread = Thread(Goose.agent, session_id, session_id, _title(record.get("description"), ""), cwd)
            conversation = Conversation(session_id, cwd, is_lines=True)
            continue
        notes = record.get("metadata")
        for event in _events(
            conversation, record.get("id"), record.get("role"), record.get("content"), record.get("created"), notes
        ):
            if not is_announced:
                is_announced = True
                yield thread
            yield event
    yield from conversation.unknown.said(path)


def _events(
    conversation: Conversation, given_id: object, role: object, contents: object, created: object, notes: object
) -> Iterator[Event]:
    at_s = parse_time_ms(created) // 1000
    metadata = notes if isinstance(notes, Mapping) else {}
    try:
        yield from conversation.events_of(given_id, role, contents, at_s, metadata)
    except ODDITIES as problem:
        conversation.unknown.odd("message", problem)


def _title(*named: object) -> str:
    return next((name for name in map(_text, named) if name and not _UNNAMED.fullmatch(name)), "")


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
