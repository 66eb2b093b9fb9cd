"""Hermes: `state.db` in its home and in each profile (`hermes.db` before), one SQLite database for all sessions; and its exports.

Rows are only added, but compaction puts those it keeps behind its summary once more, under their old times. So a message is
named by its time and by what it says: in whatever store, export or session it is met, it is the same.
"""

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ingest.readers.base import FileReader, parse_time_ms
from ingest.readers.documents import json_value
from ingest.readers.family import root_of
from ingest.readers.hermes_exports import is_export, sessions_in
from ingest.readers.hermes_messages import Conversation
from ingest.readers.places import named_folder
from ingest.readers.sqlite import ENDINGS, database_of, holds, opened, tables
from ingest.readers.values import id_in
from ingest.readers.walking import Inside, files_below, inside_of
from ingest.session import Cursor, Item, ReadTo, SourceFile, Unreadable
from lmm_mcp.domain.event import Thread
from lmm_mcp.paths import user_home

_NAMES = ("state.db", "hermes.db")
_PROFILES = "profiles"
_EXPORT = re.compile(r"hermes[\w.-]*(?:session|export|archive|trajector|relay)[\w.-]*\.jsonl?")
"""Exports are called as their user likes; in a folder only those that say what they are, for other files lie beside them."""
_TABLES = {
    "messages": frozenset({"id", "session_id", "role", "content", "timestamp", "tool_call_id", "tool_calls"}),
}
_SESSION_COLUMNS = ("title", "cwd", "git_branch", "parent_session_id", "source", "model_config")
_MESSAGE_COLUMNS = tuple(
    """role content tool_call_id tool_calls tool_name timestamp reasoning reasoning_content active compacted
    effect_disposition""".split()
)
# Counted by an index on (session_id, timestamp), so that no text is read to find out what changed.
_LISTING = "SELECT session_id, count(*), max(id), max(timestamp) FROM messages GROUP BY session_id"
_DELEGATED = "subagent"


class Hermes(FileReader):
    """Reader of Hermes sessions."""

    agent = "hermes"
    version = 1

    def roots(self, env: Mapping[str, str], extra: Sequence[Path]) -> tuple[Path, ...]:
        """`HERMES_HOME`, else `~/.hermes`, then `extra`."""
        return tuple(dict.fromkeys((named_folder(env, "HERMES_HOME") or user_home(env) / ".hermes", *extra)))

    def discover(self, root: Path) -> Iterator[Path]:
        """The databases, and exports that are called so; configuration and credentials beside them are never named."""
        yield from files_below(root, _is_store, _is_entered)

    def session_of(self, root: Path, path: Path) -> Path | None:
        """The log speaks for the database."""
        database = database_of(path)
        return database if database == root or _is_store(inside_of(root, database)) else None

    def claims(self, path: Path) -> bool:
        """A database with Hermes' table of messages, or one of its exports."""
        return holds(path, _TABLES) if path.suffix in ENDINGS else is_export(path)

    def sources(self, path: Path) -> Iterator[SourceFile | Unreadable]:
        """Each session of a database, the export itself. Raises OSError."""
        if path.suffix not in ENDINGS:
            yield from super().sources(path)
            return
        with opened(path) as connection:
            if not _TABLES["messages"] <= tables(connection).get("messages", frozenset()):
                yield Unreadable(str(path), 0, "a database without the table messages as it is known")
                return
            for session_id, num_rows, last_row, newest in connection.execute(_LISTING):
                if isinstance(session_id, str) and session_id:
                    # Rows that were replaced have higher numbers, which no time tells of.
                    newest_ns = parse_time_ms(newest) * 1_000_000 + last_row % 1_000_000
                    yield SourceFile(self.agent, path, num_rows, newest_ns, session_id)

    def read(self, path: Path, cursor: Cursor) -> Iterator[Item]:
        """Yield all of the session, or of the export. Raises OSError."""
        part = cursor.context.get("part")
        if isinstance(part, str) and part:
            with opened(path) as connection:
                yield from _stored(connection, part, path)
            yield ReadTo(cursor)
            return
        for item in sessions_in(path):
            if isinstance(item, Unreadable):
                yield item
            else:
                thread, rows, unknown = item
                yield from _told(thread, rows, path)
                yield from unknown.said(path)
        yield ReadTo(Cursor())


def _stored(connection: sqlite3.Connection, session_id: str, path: Path) -> Iterator[Item]:
    known = tables(connection)
    row = _session(connection, known.get("sessions", frozenset()), session_id)
    name, above = id_in(session_id), id_in(row.get("parent_session_id"))

    def delegated_by(other: str) -> str:
        found = _session(connection, known.get("sessions", frozenset()), other)
        return id_in(found.get("parent_session_id")) if _is_delegated(found) else ""

    is_sub_agent = above not in ("", name) and _is_delegated(row)
    thread = Thread(
        Hermes.agent,
        root_of(name, above, delegated_by) if is_sub_agent else name,
        name,
        _text(row.get("title")).strip(),
        _text(row.get("cwd")),
        _text(row.get("git_branch")),
        forked_from="" if is_sub_agent or above == name else above,
        parent=above if is_sub_agent else "",
    )
    columns = known.get("messages", frozenset())
    wanted = ", ".join(column if column in columns else "NULL" for column in _MESSAGE_COLUMNS)
    query = f"SELECT {wanted} FROM messages WHERE session_id = ? ORDER BY id"  # noqa: S608 - names of ours
    rows = (dict(zip(_MESSAGE_COLUMNS, found, strict=True)) for found in connection.execute(query, (session_id,)))
    yield from _told(thread, rows, path)


def _told(thread: Thread, rows: Iterator[Mapping[str, object]], path: Path) -> Iterator[Item]:
    conversation = Conversation(thread)
    is_announced = False
    for row in rows:
        for event in conversation.events_of(row):
            if not is_announced:
                is_announced = True
                yield thread
            yield event
    yield from conversation.unknown.said(path)


def _session(connection: sqlite3.Connection, columns: frozenset[str], session_id: str) -> Mapping[str, object]:
    """What the store says of a session; {} where it has no table of them (older ones), or not this one."""
    if "id" not in columns:
        return {}
    wanted = ", ".join(column if column in columns else "NULL" for column in _SESSION_COLUMNS)
    query = f"SELECT {wanted} FROM sessions WHERE id = ?"  # noqa: S608 - as above
    found = connection.execute(query, (session_id,)).fetchone()
    return {} if found is None else dict(zip(_SESSION_COLUMNS, found, strict=True))


def _is_delegated(row: Mapping[str, object]) -> bool:
    """Whether a session was started by an agent; others with a parent go on where it was compacted, or branch off."""
    config = row.get("model_config")
    told = json_value(config, Path()) if isinstance(config, str) else None
    return row.get("source") == _DELEGATED or (isinstance(told, Mapping) and bool(told.get("_delegate_from")))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _is_store(inside: Inside) -> bool:
    if len(inside) == 1:
        return inside[0] in _NAMES or _EXPORT.fullmatch(inside[0]) is not None
    return len(inside) == 3 and inside[0] == _PROFILES and inside[2] in _NAMES


def _is_entered(inside: Inside) -> bool:
    return inside == (_PROFILES,) or (len(inside) == 2 and inside[0] == _PROFILES)
