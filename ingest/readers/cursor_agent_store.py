"""The store of one cursor-agent chat, `chats/<hash of the folder>/<id>/store.db`: the database in, messages out in their order.

Two tables: `blobs`, each named by the hash of its content, and `meta` with one value. Messages are JSON blobs. What they are
and in which order says the root, a blob in protobuf whose field 1 lists their names; without it they come as they were stored.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from sqlite3 import Connection
from typing import Any

from ingest.readers.base import parse_time_ms
from ingest.readers.documents import json_document, json_value
from ingest.readers.sqlite import holds, opened, tables

NAME = "store.db"
TABLES = {"blobs": frozenset({"id", "data"}), "meta": frozenset({"key", "value"})}
_DIGEST_bytes = 32
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})+")
_BY_DEFAULT = frozenset({"New Agent", "New Chat", "Untitled"})


@dataclass(frozen=True, slots=True)
class Chat:
    """What a store holds."""

    messages: tuple[dict[str, Any], ...] = ()
    """Of the conversation as it stands, in their order."""
    all_messages: tuple[dict[str, Any], ...] = ()
    """Whatever was ever stored, the oldest first."""
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What it is called, '' where nobody gave it a name."""
        found = self._first("title", "name")
        return "" if found in _BY_DEFAULT else found

    @property
    def cwd(self) -> str:
        """The folder it runs in."""
        return self._first("cwd", "workspacePath")

    @property
    def started_ms(self) -> int:
        """When it began, 0 where it does not say."""
        return parse_time_ms(self.about.get("createdAtMs")) or parse_time_ms(self.about.get("createdAt"))

    @property
    def parent(self) -> str:
        """The chat that started this one."""
        info = self.about.get("subagentInfo")
        keys = ("parentAgentId", "parentConversationId", "parentComposerId", "parentId")
        found = [info.get(key) for key in keys] if isinstance(info, Mapping) else []
        return next((value for value in found if isinstance(value, str)), "")

    def _first(self, *keys: str) -> str:
        return next((value for key in keys if isinstance(value := self.about.get(key), str) and value), "")


def is_store(path: Path) -> bool:
    """Whether it is such a database."""
    return path.name == NAME and holds(path, TABLES)


def chat_in(path: Path) -> Chat:
    """Read a store. Raises OSError where it cannot be read."""
    with opened(path) as connection:
        known = tables(connection)
        if not all(columns <= known.get(name, frozenset()) for name, columns in TABLES.items()):
            return Chat(about=_side_file(path))
        about = _meta(connection, path)
        stored = tuple(_stored(connection, path))
        by_name = dict(stored)
        root = about.get("latestRootBlobId")
        row = connection.execute("SELECT data FROM blobs WHERE id = ?", (root,)).fetchone() if root else None
        named = [by_name[name] for name in _listed(row[0] if row else b"") if name in by_name]
    everything = tuple(message for _, message in stored)
    return Chat(tuple(named) or everything, everything, {**about, **_side_file(path)})


def _meta(connection: Connection, path: Path) -> dict[str, Any]:
    for (value,) in connection.execute("SELECT value FROM meta ORDER BY key"):
        written = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        if isinstance(written, str) and _HEX.fullmatch(written):
            written = bytes.fromhex(written).decode("utf-8", "replace")
        found = json_value(written, path) if isinstance(written, str) and written.startswith("{") else None
        if isinstance(found, dict):
            return found
    return {}


def _side_file(path: Path) -> dict[str, Any]:
    try:
        found = json_document(path.with_name("meta.json"))
    except OSError:
        return {}
    return {key: value for key, value in found.items() if value} if isinstance(found, dict) else {}


def _stored(connection: Connection, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, data in connection.execute("SELECT id, data FROM blobs ORDER BY rowid"):
        content = data.encode() if isinstance(data, str) else data
        if isinstance(name, str) and isinstance(content, bytes) and content.lstrip().startswith(b"{"):
            found = json_value(content, path)
            if isinstance(found, dict) and "role" in found:
                yield name, found


def _listed(root: object) -> list[str]:
    """The names in field 1 of a protobuf message, [] where it is not built like that."""
    names: list[str] = []
    data, at = root if isinstance(root, bytes) else b"", 0
    while at < len(data):
        tag, at = _varint(data, at)
        if tag & 7 == 0:
            _, at = _varint(data, at)
        elif tag & 7 in (1, 5):
            at += 8 if tag & 7 == 1 else 4
        elif tag & 7 == 2:
            length, at = _varint(data, at)
            if tag >> 3 == 1 and length == _DIGEST_bytes:
                names.append(data[at : at + length].hex())
            at += length
        else:
            return []
    return names


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not data[at - 1] & 0x80:
            break
    return value, at
