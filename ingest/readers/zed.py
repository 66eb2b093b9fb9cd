"""Zed: every thread of its agent is one row of `threads/threads.db`, a JSON document, mostly packed with zstd.

A row is written anew whenever its thread goes on, and columns were added over time. Threads of other agents that run in Zed
(Claude Code, Codex, ...) lie in stores of their own and are read there.
"""

from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from sqlite3 import Connection
from typing import Any
from zlib import crc32

import zstandard

from ingest.readers.base import Decoded, FileReader, MAX_LINE_bytes, parse_time_ms
from ingest.readers.documents import json_value
from ingest.readers.places import data_folders, named_folder
from ingest.readers.sqlite import database_of, holds, opened, tables
from ingest.readers.transcript import read_records
from ingest.readers.values import id_in
from ingest.readers.zed_messages import AGENT, ZedThread, digest_of, parent_of, snapshot_of
from ingest.session import Cursor, Item, ReadTo, SourceFile, Unreadable
from lmm_mcp.domain.event import Thread
from lmm_mcp.paths import user_home

_DATABASE = "threads.db"
_FOLDER = "threads"
_TABLE = "threads"
_NEEDED = frozenset({"id", "summary", "updated_at", "data_type", "data"})
_FLATPAK = (".var", "app", "dev.zed.Zed", "data", "zed")
_MAX_DEPTH = 16
"""How deep sub-agents may start sub-agents."""

_LIST = (
    "SELECT id, updated_at, length(data), length(summary) FROM threads"  # the length of a blob stands in its row's head
)
_ROW = "SELECT * FROM threads WHERE id = ?"


class Zed(FileReader):
    """Reader of threads of Zed's own agent."""

    agent = AGENT
    version = 1

    def roots(self, env: Mapping[str, str], extra: Sequence[Path]) -> tuple[Path, ...]:
        """Zed's data folder, on three systems and as a Flatpak, then `extra`."""
        sandbox = named_folder(env, "FLATPAK_XDG_DATA_HOME")
        own = (*data_folders(env, "zed"), *data_folders(env, "Zed"), user_home(env).joinpath(*_FLATPAK))
        return tuple(dict.fromkeys((*own, *((sandbox / "zed",) if sandbox else ()), *extra)))

    def discover(self, root: Path) -> Iterator[Path]:
        """The database of a data folder."""
        candidates = (root, root / _FOLDER / _DATABASE, root / _DATABASE)
        yield from (path for path in candidates if path.name.endswith(".db") and path.is_file())

    def session_of(self, root: Path, path: Path) -> Path | None:
        """The database, for itself and its log."""
        database = database_of(path)
        return database if database.relative_to(root).parts in ((), (_DATABASE,), (_FOLDER, _DATABASE)) else None

    def claims(self, path: Path) -> bool:
        """Whether it is a database with Zed's table of threads."""
        return holds(path, {_TABLE: _NEEDED})

    def sources(self, path: Path) -> Iterator[SourceFile | Unreadable]:
        """Every thread. Raises OSError."""
        with opened(path) as connection:
            if not tables(connection).get(_TABLE, frozenset()) >= _NEEDED:
                return
            listed = connection.execute(_LIST).fetchall()
        for name, updated, num_bytes, num_chars in listed:
            # To the nanosecond, so that two changes within a millisecond are two.
            nanoseconds = crc32(str(updated).encode("utf-8", "replace")) % 1_000_000
            size = (num_bytes or 0) + (num_chars or 0)
            yield SourceFile(AGENT, path, size, parse_time_ms(updated) * 1_000_000 + nanoseconds, part=str(name))

    def read(self, path: Path, cursor: Cursor) -> Iterator[Item]:
        """Yield the thread that `cursor.context["part"]` names. Raises OSError."""
        part = cursor.context.get("part")
        if isinstance(part, str) and part:
            with opened(path) as connection:
                row = _row(connection, part)
                above = list(_above(connection, row)) if row else []
            if row:
                yield from _read(path, row, above)
        yield ReadTo(cursor)


def _row(connection: Connection, name: str) -> dict[str, Any]:
    """A row by the names of its columns; {} where there is none."""
    if not tables(connection).get(_TABLE, frozenset()) >= _NEEDED:
        return {}
    found = connection.execute(_ROW, (name,))
    values = found.fetchone()
    return dict(zip([column[0] for column in found.description], values, strict=True)) if values else {}


def _above(connection: Connection, row: Mapping[str, Any]) -> Iterator[str]:
    """The threads above this one, its parent first, its root last."""
    met = {row["id"]}
    while (up := row.get("parent_id")) and isinstance(up, str) and up not in met and len(met) < _MAX_DEPTH:
        met.add(up)
        yield up
        row = _row(connection, up)


def _read(path: Path, row: Mapping[str, Any], above: Sequence[str]) -> Iterator[Item]:
    document = _document(path, row)
    if isinstance(document, Unreadable):
        yield document
        return
    messages = document.get("messages")
    started_ms = parse_time_ms(row.get("created_at")) or parse_time_ms(row.get("updated_at"))
    thread = ZedThread(_thread(row, document, above), started_ms)
    records: list[Decoded] = [(0, {"message": message}) for message in (messages if isinstance(messages, list) else [])]
    if digest := digest_of(document):
        records.append((0, {"summary": digest}))
    yield from read_records(path, records, thread)


def _document(path: Path, row: Mapping[str, Any]) -> dict[str, Any] | Unreadable:
    data = row["data"]
    if not isinstance(data, str | bytes):
        return Unreadable(str(path), 0, "a thread without content")
    if row["data_type"] == "zstd" and isinstance(data, bytes):
        try:
            data = (
                zstandard.ZstdDecompressor().stream_reader(BytesIO(data), read_across_frames=True).read(MAX_LINE_bytes)
            )
        except zstandard.ZstdError as problem:
            return Unreadable(str(path), 0, f"a thread that cannot be unpacked: {problem}")
    elif row["data_type"] != "json":
        return Unreadable(str(path), 0, "a thread packed in an unknown way")
    found = json_value(data, path)
    if isinstance(found, dict | Unreadable):
        return found
    return Unreadable(str(path), 0, f"a thread that is no JSON object but a {type(found).__name__}")


def _thread(row: Mapping[str, Any], document: Mapping[str, Any], above: Sequence[str]) -> Thread:
    name = id_in(row["id"])
    parent = id_in(above[0]) if above else parent_of(document)
    folder, branch, remote = snapshot_of(document)
    titles = (document.get("title"), document.get("summary"), row.get("summary"))
    return Thread(
        AGENT,
        session_id=id_in(above[-1]) if above else parent or name,
        thread_id=name,
        title=next((title for title in titles if isinstance(title, str) and title), ""),
        cwd=_first_folder(row.get("folder_paths"), row.get("folder_paths_order")) or folder,
        branch=branch,
        remote=remote,
        parent="" if parent == name else parent,
    )


def _first_folder(paths: object, order: object) -> str:
    r"""The folder that stands first in the window: the list is sorted by name, beside it lies where each belongs.

    >>> _first_folder("/srv/api\n/srv/web", "1,0"), _first_folder("/srv/api", None)
    ('/srv/web', '/srv/api')
    """
    folders = paths.split("\n") if isinstance(paths, str) else []
    places = order.split(",") if isinstance(order, str) else []
    for folder, place in zip(folders, places, strict=False):
        if place.strip() == "0":
            return folder
    return folders[0] if folders else ""
