"""Cursor, the editor: all conversations lie in one key-value table of `User/globalStorage/state.vscdb`.

A conversation is a row `composerData:<id>` with the order of its messages, and a row `bubbleId:<id>:<bubble>` for each. The
same database holds the user's tokens, so no other rows are ever read than those, and the list of conversations that newer
versions keep (`composerHeaders`).

The database may be many gigabytes. Cursor replaces rows and never changes one in place, so the numbers of a conversation's rows
tell that it changed, and those stand in the index: no message is read to find out which are new.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from sqlite3 import Connection
from typing import Any
from zlib import crc32

from ingest.readers.base import Decoded, FileReader, parse_time_ms
from ingest.readers.cursor_bubbles import AGENT, Conversation
from ingest.readers.documents import json_value
from ingest.readers.places import editor_folders
from ingest.readers.sqlite import LOGS, database_of, opened, tables
from ingest.readers.transcript import read_records
from ingest.readers.values import id_in
from ingest.readers.workspaces import folder_holding, folder_in, path_of
from ingest.session import Cursor, Item, ReadTo, SourceFile, Unreadable
from lmm_mcp.domain.event import Thread
from lmm_mcp.domain.project import normalise_path

_DATABASE = "state.vscdb"
_FOLDER, _WINDOWS = "globalStorage", "workspaceStorage"
_TABLE, _HEADS = "cursorDiskKV", "composerHeaders"
_PATH_OF_FILE = re.compile(r'"(?:fsPath|external)"\s*:\s*"((?:/|[A-Za-z]:|file:)[^"]{1,1000})"')
_MAX_DEPTH = 16
"""How deep sub-agents may start sub-agents."""

_LIST = """
SELECT substr(key, 14), rowid, length(value),
  CASE WHEN json_valid(CAST(value AS TEXT)) THEN json_extract(CAST(value AS TEXT), '$.createdAt', '$.lastUpdatedAt') END,
  CASE WHEN instr(value, '"subagentComposerIds"') > 0 AND json_valid(CAST(value AS TEXT))
    THEN json_extract(CAST(value AS TEXT), '$.subagentComposerIds') END
FROM cursorDiskKV WHERE key > 'composerData:' AND key < 'composerData;' AND value IS NOT NULL
"""
_COUNT = """
SELECT substr(key, 10, instr(substr(key, 10), ':') - 1) AS composer, count(*), sum(rowid)
FROM cursorDiskKV WHERE key > 'bubbleId:' AND key < 'bubbleId;' GROUP BY composer
"""
_LIST_HEADS = "SELECT composerId, lastUpdatedAt, length(value) FROM composerHeaders"
_HEAD = "SELECT value FROM composerHeaders WHERE composerId = ?"
_HEAD_COLUMNS = frozenset({"composerId", "lastUpdatedAt", "value"})
_PARENTS = """
SELECT substr(key, 14), json_extract(CAST(value AS TEXT), '$.subagentComposerIds') FROM cursorDiskKV
WHERE key > 'composerData:' AND key < 'composerData;' AND instr(value, '"subagentComposerIds"') > 0
  AND json_valid(CAST(value AS TEXT))
"""
_IDS = "SELECT substr(key, 14) FROM cursorDiskKV WHERE key > 'composerData:' AND key < 'composerData;'"
_VALUE = "SELECT value FROM cursorDiskKV WHERE key = ?"
_BUBBLES = "SELECT key FROM cursorDiskKV WHERE key > ? AND key < ? ORDER BY rowid"


class CursorEditor(FileReader):
    """Reader of conversations in the Cursor editor."""

    agent = AGENT
    version = 1

    def __init__(self) -> None:
        self._roots: tuple[Path, ...] = ()

    def roots(self, env: Mapping[str, str], extra: Sequence[Path]) -> tuple[Path, ...]:
        """Cursor's `User` folder, on three systems, then `extra`. `conversations` looks there from now on."""
        self._roots = tuple(dict.fromkeys((*editor_folders(env, hosts=("Cursor",)), *extra)))
        return self._roots

    def conversations(self) -> frozenset[str]:
        """Ids of all conversations in the folders last named by `roots`, also of those deleted in them."""
        return _ids_in_any(path for root in self._roots for path in self.discover(root))

    def discover(self, root: Path) -> Iterator[Path]:
        """The database of a `User` folder."""
        candidates = (root, root / _FOLDER / _DATABASE, root / "User" / _FOLDER / _DATABASE)
        yield from (path for path in candidates if path.name == _DATABASE and path.is_file())

    def session_of(self, root: Path, path: Path) -> Path | None:
        """The database, for itself and its log."""
        database = database_of(path)
        inside = database.relative_to(root).parts
        return database if inside in ((), (_FOLDER, _DATABASE), ("User", _FOLDER, _DATABASE)) else None

    def claims(self, path: Path) -> bool:
        """Whether it is an editor's database with a table for conversations; that of Visual Studio Code has none."""
        if path.suffix != ".vscdb":
            return False
        try:
            with opened(path) as connection:
                return _TABLE in tables(connection)
        except OSError:
            return False

    def sources(self, path: Path) -> Iterator[SourceFile | Unreadable]:
        """Every conversation. Raises OSError."""
        with opened(path) as connection:
            known = tables(connection)
            if not {"key", "value"} <= known.get(_TABLE, frozenset()):
                return
            counts = {composer: (rows, trace) for composer, rows, trace in connection.execute(_COUNT)}
            listed_heads = connection.execute(_LIST_HEADS) if known.get(_HEADS, frozenset()) >= _HEAD_COLUMNS else ()
            heads = {composer: (updated, length) for composer, updated, length in listed_heads}
            listed = connection.execute(_LIST).fetchall()
        parents = _by_child((composer, children) for composer, *_, children in listed)
        for composer, rowid, length, times, _ in listed:
            num_rows, trace = counts.get(composer, (0, 0))
            updated, head_length = heads.get(composer, (0, 0))
            trace = _number(rowid) + _number(trace) + _number(head_length)
            trace += crc32(parents.get(composer, "").encode("utf-8", "replace"))
            yield SourceFile(
                agent=self.agent,
                path=path,
                size=_number(num_rows) + _number(length),
                mtime_ns=max(_times_ms([updated, times])) * 1_000_000 + trace % 1_000_000,
                part=str(composer),
            )

    def read(self, path: Path, cursor: Cursor) -> Iterator[Item]:
        """Yield the conversation that `cursor.context["part"]` names. Raises OSError."""
        composer = cursor.context.get("part")
        if isinstance(composer, str) and composer:
            with opened(path) as connection:
                known = tables(connection)
                if {"key", "value"} <= known.get(_TABLE, frozenset()):
                    yield from _read(_Store(connection, known, path), composer)
        yield ReadTo(cursor)


def conversations_near(home: Path) -> frozenset[str]:
    """Ids of all conversations that the editor of the user with this home folder knows, also of those deleted in it."""
    env = {"HOME": str(home), "APPDATA": str(home / "AppData" / "Roaming")}
    return _ids_in_any(editor_folders(env, _FOLDER, _DATABASE, hosts=("Cursor",)))


def _ids_in_any(databases: Iterable[Path]) -> frozenset[str]:
    found: frozenset[str] = frozenset()
    for path in databases:
        with suppress(OSError):
            marks = _marks(path)
            found |= _ids_in(path, marks) if marks else frozenset()
    return found


def _marks(path: Path) -> tuple[int, ...]:
    return tuple(each.stat().st_mtime_ns for each in (path, path.with_name(path.name + LOGS[0])) if each.is_file())


@lru_cache(maxsize=16)
def _ids_in(path: Path, changed_ns: tuple[int, ...]) -> frozenset[str]:  # noqa: ARG001 - kept until the database changes
    with opened(path) as connection:
        known = tables(connection).get(_TABLE, frozenset())
        rows = connection.execute(_IDS).fetchall() if "key" in known else []
    return frozenset(name for (name,) in rows if isinstance(name, str))


@lru_cache(maxsize=4)
def _parents_in(path: Path, changed_ns: tuple[int, ...]) -> Mapping[str, str]:  # noqa: ARG001 - as above
    """Who started a conversation, by those that list the ones they started: few children know their parent themselves."""
    with opened(path) as connection:
        return _by_child(connection.execute(_PARENTS))


def _by_child(listed: Iterable[tuple[Any, Any]]) -> dict[str, str]:
    return {
        child: parent
        for parent, children in listed
        for child in (_unpacked(children) if isinstance(parent, str) else ())
        if isinstance(child, str) and child != parent
    }


@dataclass(frozen=True, slots=True)
class _Store:
    """An open database, and where it lies."""

    connection: Connection
    known: Mapping[str, frozenset[str]]
    path: Path

    def value(self, key: str) -> Any:
        """The document of a row, None where there is none, Unreadable where it is none."""
        row = self.connection.execute(_VALUE, (key,)).fetchone()
        content = row[0] if row else None
        return json_value(content, self.path) if isinstance(content, str | bytes) else None

    def about(self, composer: str) -> dict[str, Any]:
        """What is known of a conversation as a whole: its own document, over the entry in the list of conversations."""
        head = _head(self.connection, self.known, composer)
        listed = json_value(head, self.path) if isinstance(head, str | bytes) else None
        found: dict[str, Any] = {}
        for value in (listed, self.value(f"composerData:{composer}")):
            if isinstance(value, dict):
                found |= {key: inner for key, inner in value.items() if inner not in (None, "", [], {})}
        return {**found, "parent": self._parent(composer, found)}

    def _parent(self, composer: str, about: Mapping[str, Any]) -> str:
        """The conversation that started this one; '' for one that a person started."""
        info = about.get("subagentInfo")
        if isinstance(info, Mapping) and (named := id_in(info.get("parentComposerId"))):
            return named if named != composer else ""
        return id_in(_parents_in(self.path, _marks(self.path)).get(composer))


def _read(store: _Store, composer: str) -> Iterator[Item]:
    own = store.value(f"composerData:{composer}")
    if isinstance(own, Unreadable):
        yield own
        return
    if own is None:
        return  # deleted meanwhile
    about = store.about(composer)
    conversation = Conversation(_thread(store, composer, about), _times_ms([about.get("createdAt")])[0])
    missing: list[str] = []
    yield from read_records(store.path, _bubbles(store, composer, about, missing), conversation)
    if missing:
        yield Unreadable(str(store.path), 0, f"messages without readable content ({len(missing):,} times)")


def _thread(store: _Store, composer: str, about: Mapping[str, Any]) -> Thread:
    parent = root = about["parent"]
    climbed = {composer, root}
    while root and (up := store.about(root)["parent"]) and up not in climbed and len(climbed) < _MAX_DEPTH:
        climbed.add(up)
        root = up
    repos = about.get("trackedGitRepos")
    repo = repos[0] if isinstance(repos, list) and repos and isinstance(repos[0], Mapping) else {}
    branches = repo.get("branches")
    branch = branches[0] if isinstance(branches, list) and branches and isinstance(branches[0], Mapping) else {}
    return Thread(
        AGENT,
        session_id=id_in(root or composer),
        thread_id=id_in(composer),
        title=_text(about.get("name")),
        cwd=_cwd(store, about) or _text(repo.get("repoPath")) or _folder_of_files(store, composer),
        branch=_text(about.get("createdOnBranch")) or _text(branch.get("branchName")),
        parent=parent,
    )


def _cwd(store: _Store, about: Mapping[str, Any]) -> str:
    """The folder a conversation belongs to. Where that stands has moved with every other version."""
    workspace = about.get("workspaceIdentifier")
    if not isinstance(workspace, Mapping):
        return ""
    if found := path_of(workspace.get("uri")) or path_of(workspace.get("configPath"), of_workspace_file=True):
        return found
    name = workspace.get("id")
    if not isinstance(name, str) or not name.isalnum():
        return ""
    return folder_in(store.path.parent.parent / _WINDOWS / name)


def _folder_of_files(store: _Store, composer: str) -> str:
    """The folder of the window that holds the files spoken of: older versions noted the window elsewhere, beside tokens."""
    row = store.connection.execute(_VALUE, (f"composerData:{composer}",)).fetchone()
    content = row[0] if row else ""
    text = content.decode("utf-8", "replace") if isinstance(content, bytes) else str(content)
    paths = {normalise_path(path) for path in _PATH_OF_FILE.findall(text)}
    return folder_holding(paths, store.path.parent.parent / _WINDOWS) if paths else ""


def _bubbles(store: _Store, composer: str, about: Mapping[str, Any], missing: list[str]) -> Iterator[Decoded]:
    """The messages in their order. What is no longer in the list was taken back, and stays in the table as waste."""
    # Until 2025 they stood in the conversation's own document.
    inline = {str(bubble.get("bubbleId") or at): bubble for at, bubble in enumerate(_dicts(about.get("conversation")))}
    listed = [header.get("bubbleId") for header in _dicts(about.get("fullConversationHeadersOnly"))]
    names = dict.fromkeys(name for name in listed if isinstance(name, str) and name)
    prefix = f"bubbleId:{composer}:"
    if not inline and not names:
        keys = store.connection.execute(_BUBBLES, (prefix, prefix[:-1] + ";")).fetchall()
        names = dict.fromkeys(key.removeprefix(prefix) for (key,) in keys if isinstance(key, str))
    yield from ((0, bubble) for name, bubble in inline.items() if name not in names)
    for name in names:
        bubble = inline.get(name) or store.value(prefix + name)
        if isinstance(bubble, dict):
            yield 0, {**bubble, "bubbleId": name}
        else:
            missing.append(name)


def _head(connection: Connection, known: Mapping[str, frozenset[str]], composer: str) -> Any:
    """The entry of a conversation in the list of them; None where there is none."""
    if not known.get(_HEADS, frozenset()) >= _HEAD_COLUMNS:
        return None
    row = connection.execute(_HEAD, (composer,)).fetchone()
    return row[0] if row else None


def _times_ms(values: list[object]) -> list[int]:
    """Times among these values, of which one may be a list of them in JSON; [0] where there is none."""
    found = [inner for value in values for inner in _unpacked(value)]
    return [parse_time_ms(value) for value in found] or [0]


def _unpacked(value: object) -> list[Any]:
    if isinstance(value, str) and value.startswith("["):
        listed = json_value(value, Path())
        return listed if isinstance(listed, list) else []
    return [value]


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
