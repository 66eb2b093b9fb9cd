"""OpenCode and Kilo: a SQLite database that is updated in place, before that a tree of JSON files, and exported documents.

Kilo's command line is a fork of OpenCode with another name for everything. Both leave the old tree where it is when they
move to a database; ids are the same in both, and what is left in the tree of a session that moved is not read.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ingest.readers.opencode_records import events_of
from ingest.readers.opencode_stores import (
    EXPORT,
    TABLES,
    Told,
    has_messages,
    listed_rows,
    marks_of_tree,
    told_by_export,
    told_by_rows,
    told_by_tree,
)
from ingest.readers.opening import first_bytes, oddity
from ingest.readers.places import data_folders, named_folder
from ingest.readers.sqlite import ENDINGS, database_of, holds, opened
from ingest.readers.unknown import Unknown
from ingest.readers.values import ODDITIES, Naming
from ingest.readers.walking import files_in
from ingest.session import Cursor, Item, ReadTo, SourceFile, Unreadable
from lmm_mcp.domain.event import Thread
from lmm_mcp.paths import user_home

_FIRST_bytes = 4096
_TREE = ("storage", "session")
_SESSION = re.compile(r"ses_[\w-]+\.json")
_EXPORTED = re.compile(r"(?:ses_\w+|(?:[\w-]+[-_.])?export(?:[-_.][\w-]+)?)\.json")
"""Names of exports that are looked for; any other must be named itself."""


class OpenCode:
    """Reader of OpenCode sessions (terminal, desktop, server: one store)."""

    agent = "opencode"
    version = 3
    lies_in_projects = False
    _variable = "OPENCODE_DB"
    _database = re.compile(r"opencode(?:-[\w.-]+)?\.db")

    def roots(self, env: Mapping[str, str], extra: Sequence[Path]) -> tuple[Path, ...]:
        """Its data folder on every system (the XDG place on all three), the database that its variable names, then `extra`."""
        own = (user_home(env) / ".local" / "share" / self.agent, *data_folders(env, self.agent))
        named = env.get(self._variable, "").strip()
        database = () if named in ("", ":memory:") else tuple(self._named(env, named, folder) for folder in own[1:2])
        return tuple(dict.fromkeys((*own, *database, *extra)))

    def _named(self, env: Mapping[str, str], named: str, folder: Path) -> Path:
        # A bare name lies in the data folder; `~` is no part of what the agent understands, but of what people write.
        is_path = named.startswith("~") or Path(named).is_absolute()
        return (is_path and named_folder(env, self._variable)) or folder / named

    def discover(self, root: Path) -> Iterator[Path]:
        """Databases, sessions of the old tree, and exports that are called so; credentials lie beside them."""
        yield from files_in(
            root,
            lambda name: self._database.fullmatch(name) or (_EXPORTED.fullmatch(name) and _is_export(root / name)),
        )
        refused: list[OSError] = []
        for here, folders, files in os.walk(root / "storage" / "session", onerror=refused.append):
            folders[:] = sorted(folders) if Path(here).name == "session" else []
            if Path(here).name != "session":
                yield from (Path(here) / name for name in sorted(files) if _SESSION.fullmatch(name))
        yield from (Path(problem.filename) for problem in refused if not isinstance(problem, FileNotFoundError))

    def session_of(self, root: Path, path: Path) -> Path | None:
        """A log speaks for its database, a message or a part of the old tree for its session."""
        database = database_of(path)
        if database == root:
            return root
        match path.relative_to(root).parts:
            case (name,) if self._database.fullmatch(database.name):
                return database
            case (name,) if _EXPORTED.fullmatch(name):
                return path
            case ("storage", "session", _, name) if _SESSION.fullmatch(name):
                return path
            case ("storage", "message", session_id, name) if name.endswith(".json"):
                return _session_file(root / "storage", session_id)
            case ("storage", "part", message_id, name) if name.endswith(".json"):
                return _session_of_message(root / "storage", message_id)
        return None

    def claims(self, path: Path) -> bool:
        """A database with OpenCode's tables, a session of the old tree by where it lies, an export by its first bytes."""
        if path.suffix in ENDINGS:
            return self._is_its_own(path) and holds(path, TABLES)
        if self._tree_of(path):
            return path.is_file() and self._is_its_own(path)
        return self.agent == "opencode" and path.suffix in (".json", ".jsonl") and _is_export(path)

    def _is_its_own(self, path: Path) -> bool:
        return not Kilo.lies_at(path)

    def sources(self, path: Path) -> Iterator[SourceFile | Unreadable]:
        """Each session of a database; the file itself for the others. Raises OSError."""
        if path.suffix in ENDINGS:
            with opened(path) as connection:
                yield from listed_rows(self.agent, path, connection)
            return
        stat = path.stat()
        if odd := oddity(stat.st_mode):
            yield Unreadable(str(path), 0, f"is {odd} and no session file")
        elif self._tree_of(path):
            yield SourceFile(self.agent, path, *marks_of_tree(path))
        else:
            yield SourceFile(self.agent, path, stat.st_size, stat.st_mtime_ns)

    def read(self, path: Path, cursor: Cursor) -> Iterator[Item]:
        """Yield all of the session. Raises OSError where its store cannot be read."""
        part = cursor.context.get("part")
        if isinstance(part, str) and part:
            with opened(path) as connection:
                told = told_by_rows(connection, part)
                if told is not None:  # else it was deleted meanwhile: what was read of it is kept
                    yield from self._items(told, path)
            yield ReadTo(cursor)
            return
        if not self._has_moved(path):
            found = told_by_tree(path) if self._tree_of(path) else told_by_export(path)
            if isinstance(found, Unreadable):
                yield found
            else:
                yield from self._items(found, path)
        yield ReadTo(Cursor())

    def _has_moved(self, path: Path) -> bool:
        """Whether a session of the old tree is told by a database beside it: what is left in the tree is older then."""
        if not self._tree_of(path):
            return False
        return any(
            holds(database, TABLES) and has_messages(database, path.stem)
            for database in files_in(path.parents[3], self._database.fullmatch)
        )

    def _items(self, told: Told, path: Path) -> Iterator[Item]:
        unknown, naming = Unknown(), Naming(told.session.id)
        announced: Thread | None = None
        for message in told.messages(unknown):
            try:
                events = list(events_of(message, told.session, naming, unknown))
            except ODDITIES as problem:
                unknown.odd("message", problem)
                continue
            if events and announced is None:
                announced = told.session.thread(self.agent)
                yield announced
            yield from events
        yield from unknown.said(path)

    def _tree_of(self, path: Path) -> bool:
        return path.parts[-4:-2] == _TREE and _SESSION.fullmatch(path.name) is not None


class Kilo(OpenCode):
    """Reader of Kilo sessions: the command line and the editor extension since they share one store."""

    agent = "kilo"
    _variable = "KILO_DB"
    _database = re.compile(r"(?:kilo|opencode)(?:-[\w.-]+)?\.db")
    """Its first builds wrote into its own folder under the name they had inherited."""

    @staticmethod
    def lies_at(path: Path) -> bool:
        """Whether a store of this format is Kilo's, by its name or that of the folder it lies in."""
        folder = path.parents[3] if path.parts[-4:-2] == _TREE else path.parent
        return path.name.startswith("kilo") or folder.name == "kilo"

    def _is_its_own(self, path: Path) -> bool:
        return self.lies_at(path)


def _is_export(path: Path) -> bool:
    return EXPORT.match(first_bytes(path, _FIRST_bytes)) is not None


def _session_file(storage: Path, session_id: str) -> Path | None:
    if not re.fullmatch(r"[\w-]+", session_id):
        return None
    return next(iter(sorted((storage / "session").glob(f"*/{session_id}.json"))), None)


def _session_of_message(storage: Path, message_id: str) -> Path | None:
    if not re.fullmatch(r"[\w-]+", message_id):
        return None
    above = next(iter((storage / "message").glob(f"*/{message_id}.json")), None)
    return None if above is None else _session_file(storage, above.parent.name)
