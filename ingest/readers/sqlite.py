"""SQLite stores of agents, opened so that their owner never notices.

Read-only, with patience for a writer, and never `immutable`: what an agent said last often lies only in the write-ahead log
beside the database. A database that is not there is never made.
"""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from ingest.readers.opening import oddity

BUSY_ms = 2_000
"""How long a writer is waited for. One that takes longer is met again at the next look."""
LOGS = ("-wal", "-journal")
"""Endings of the files beside a database that change when it does."""


class CannotRead(OSError):
    """SQLite refuses: the file is no database, is damaged, or was locked for too long."""


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A read-only connection. Raises OSError (CannotRead where SQLite complains, also within the block)."""
    # Looked at and not opened: closing a file takes away the locks that this process has on it, SQLite's among them.
    if odd := oddity(path.stat().st_mode):
        raise CannotRead(errno.EINVAL, f"it is {odd} and no database", str(path))
    try:
        with closing(_connected(path)) as connection:
            yield connection
    except sqlite3.Error as problem:
        raise CannotRead(0, f"the database cannot be read: {problem}", str(path)) from problem


def database_of(path: Path) -> Path:
    """The database that a file belongs to: itself, or the one whose log it is.

    >>> database_of(Path("a/crush.db-wal")), database_of(Path("a/crush.db"))
    (PosixPath('a/crush.db'), PosixPath('a/crush.db'))
    """
    for ending in LOGS:
        if path.name.endswith(ending):
            return path.with_name(path.name.removesuffix(ending))
    return path


def tables(connection: sqlite3.Connection) -> dict[str, frozenset[str]]:
    """Every table with the names of its columns: agents add columns, and older stores lack them."""
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    return {
        name: frozenset(column for (column,) in connection.execute("SELECT name FROM pragma_table_info(?)", (name,)))
        for name in names
    }


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, timeout=BUSY_ms / 1000)
    connection.text_factory = lambda content: content.decode("utf-8", "replace")
    connection.execute("PRAGMA query_only = ON")
    return connection
