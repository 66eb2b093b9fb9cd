"""SQLite stores of agents, opened so that their owner never notices.

Read-only, with patience for a writer, and together with the log beside the database: what an agent said last often lies
only there. A database that is not there is never made.

Where nobody has it open, SQLite leaves an empty log and its index beside a database that was only read; the owner takes them
over and removes them. Where we may not write, or what we write would be a stranger's in somebody's folder, nothing is left.
"""

import errno
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from ingest.readers.opening import oddity, open_file

BUSY_ms = 2_000
"""How long a writer is waited for. One that takes longer is met again at the next look."""
LOGS = ("-wal", "-journal")
"""Endings of the files beside a database that change when it does."""
ENDINGS = (".db", ".sqlite", ".sqlite3")
"""How agents' databases end."""
MAX_COPIED_bytes = 1024 * 1024 * 1024
"""A database beside which nothing may be written is read from a copy; a larger one is said."""

MAX_VALUE_bytes = 256 * 1024 * 1024
"""A longer text or blob is refused, as a longer line of a session file is (`base.MAX_LINE_bytes`)."""
MAX_WORK_s = 60.0
"""Of computing, for one connection. Whoever made the file may have put into it what never ends, such as a search table over
a view that counts for ever."""

_STEPS = 100_000
"""How many of SQLite's steps lie between two looks at the clock: some milliseconds."""
_endless: dict[str, list[tuple[int, int]]] = {}
"""Databases on which all that time was spent, as they were then: not tried again before they change."""
_MAGIC = b"SQLite format 3\0"
_INDEX = "-shm"
_NEVER_COPIED = (".vscdb", "data.sqlite3")
"""Endings of names. Editors keep tokens in them, and so does Kiro."""
_MODE_at, _KEEPS_LOG = 18, b"\x02\x02"
"""Where the head of a database says how it is written, and what stands there if by way of a log."""
_copies: list[Path] = []
"""The folder for copies, where one was named."""


class CannotRead(OSError):
    """SQLite refuses: the file is no database, is damaged, or was locked for too long."""


def copy_into(folder: Path) -> None:
    """Name the folder, made when it is needed, that copies are to lie in from now on: a folder each, named by our process id."""
    _copies[:] = [folder]


def sweep(folder: Path, is_alive: Callable[[int], bool]) -> None:
    """Remove the copies that processes left which were killed."""
    for copy in folder.glob("*-*"):
        pid = copy.name.partition("-")[0]
        if not (pid.isdecimal() and is_alive(int(pid))):
            shutil.rmtree(copy, ignore_errors=True)


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A read-only connection. Raises OSError (CannotRead where SQLite complains, also within the block)."""
    # Looked at and not opened: closing a file takes away the locks that this process has on it, SQLite's among them.
    if odd := oddity(path.stat().st_mode):
        raise CannotRead(errno.EINVAL, f"it is {odd} and no database", str(path))
    marks = _marks(path, path.with_name(path.name + LOGS[0]))
    if _endless.get(str(path)) == marks:
        raise CannotRead(0, "the database needs longer than it may take", str(path))
    try:
        if _may_leave_files(path):
            with closing(_connected(path, "mode=ro")) as connection:
                yield connection
        else:
            with _untouched(path) as connection:
                yield connection
    except sqlite3.Error as problem:
        if getattr(problem, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
            _endless[str(path)] = marks
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


def holds(path: Path, wanted: Mapping[str, frozenset[str]]) -> bool:
    """Whether `path` is a database that has these tables with at least these columns. Raises nothing."""
    if path.suffix not in ENDINGS:
        return False
    try:
        with open_file(path) as stream:
            if stream.read(len(_MAGIC)) != _MAGIC:
                return False
        with opened(path) as connection:
            found = tables(connection)
    except OSError:
        return False
    return all(name in found and columns <= found[name] for name, columns in wanted.items())


def _connected(path: Path, how: str) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?{how}", uri=True, timeout=BUSY_ms / 1000)
    connection.text_factory = lambda content: content.decode("utf-8", "replace")
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA trusted_schema = OFF")  # its views and columns may call nothing that has effects
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_bytes)
    ends_s = time.thread_time() + MAX_WORK_s
    connection.set_progress_handler(lambda: time.thread_time() > ends_s, _STEPS)
    return connection


def _may_leave_files(path: Path) -> bool:
    """Whether the index of the log may be written beside the database, where its owner can use and remove it."""
    if not os.access(path.resolve().parent, os.W_OK):
        return False
    user = os.geteuid() if hasattr(os, "geteuid") else 0
    # SQLite gives away what root makes; what another user makes would keep the owner out.
    return not user or path.stat().st_uid == user


@contextmanager
def _untouched(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a database beside which nothing may be written."""
    path = path.resolve()
    log, index = (path.with_name(path.name + ending) for ending in (LOGS[0], _INDEX))
    # Not written by way of a log, it needs no file beside it to be read.
    if _size(index) or not _keeps_log(path):  # an index: its owner has it open, or left it so
        with closing(_connected(path, "mode=ro")) as connection:
            yield connection
    elif path.name.endswith(_NEVER_COPIED):
        raise CannotRead(
            0,
            "its folder may not be written, and it is never copied, since it holds tokens too: it is read while its agent runs, or give this user the right to write there",
            str(path),
        )
    else:
        for place in _copies:
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (  # it makes the folder readable by this user alone
            tempfile.TemporaryDirectory(prefix=f"{os.getpid()}-lmm-", dir=next(iter(_copies), None)) as folder,
            closing(_connected(_copied(path, log, Path(folder)), "mode=ro")) as connection,
        ):
            yield connection


def _keeps_log(path: Path) -> bool:
    with open_file(path) as stream:
        head = stream.read(_MODE_at + len(_KEEPS_LOG)) or b""
    return head[_MODE_at:] == _KEEPS_LOG


def _copied(path: Path, log: Path, folder: Path) -> Path:
    num_bytes = _size(path) + _size(log)
    if num_bytes > MAX_COPIED_bytes:
        raise CannotRead(
            0,
            f"the database of {num_bytes:,} bytes lies in a folder that may not be written",
            str(path),
        )
    before = _marks(path, log)
    copy = folder / path.name
    shutil.copyfile(path, copy)
    if log.exists():
        shutil.copyfile(log, folder / log.name)
    if _marks(path, log) != before:
        raise CannotRead(0, "the database was written to while it was read", str(path))
    return copy


def _marks(*paths: Path) -> list[tuple[int, int]]:
    return [(each.stat().st_mtime_ns, each.stat().st_size) if each.exists() else (0, 0) for each in paths]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
