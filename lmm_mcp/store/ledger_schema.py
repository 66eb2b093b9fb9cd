"""The tables of the ledger and their rows, how the file is opened and brought up to date, and how it is written anew.

`user_version` of the file counts the steps of MIGRATIONS that were taken. A new version adds a step and changes none.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from lmm_mcp.domain.event import Thread, ThreadId
from lmm_mcp.errors import StoreError, StoreLocked, StoreTooNew

BUSY_ms = 5_000
"""How long a writer waits for another before it gives up."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE agents (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
        """CREATE TABLE sources (
            path TEXT PRIMARY KEY, agent TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
            prefix_hash TEXT NOT NULL, prefix_bytes INTEGER NOT NULL, cursor_offset INTEGER NOT NULL,
            cursor_json TEXT NOT NULL, reader_version TEXT NOT NULL, thread_ids TEXT NOT NULL) WITHOUT ROWID""",
        """CREATE TABLE unreadable (
            path TEXT, line INTEGER, problem TEXT, PRIMARY KEY (path, line, problem)) WITHOUT ROWID""",
        # A thread whose session_id is NULL was only named so far, by a claim.
        """CREATE TABLE threads (
            number INTEGER PRIMARY KEY, agent INTEGER NOT NULL, thread_id TEXT NOT NULL, session_id TEXT,
            title TEXT, cwd TEXT, branch TEXT, remote TEXT, project TEXT, forked_from TEXT,
            first_ms INTEGER, last_ms INTEGER, num_events INTEGER, chunker_version INTEGER,
            UNIQUE (agent, thread_id))""",
        # Hashes instead of ids: 100,000 claims take 3 MB, not 15.
        """CREATE TABLE claims (
            agent INTEGER, event INTEGER, thread INTEGER NOT NULL, PRIMARY KEY (agent, event)) WITHOUT ROWID""",
        """CREATE TABLE chunks (
            chunk_id TEXT PRIMARY KEY, thread INTEGER NOT NULL, first_event TEXT NOT NULL, last_event TEXT NOT NULL)
            WITHOUT ROWID""",
        "CREATE TABLE aliases (alias TEXT PRIMARY KEY, project TEXT NOT NULL) WITHOUT ROWID",
        "CREATE TABLE roots (folder TEXT PRIMARY KEY, project TEXT NOT NULL) WITHOUT ROWID",
        "CREATE TABLE buried_events (agent INTEGER, event INTEGER, PRIMARY KEY (agent, event)) WITHOUT ROWID",
        """CREATE TABLE buried_threads (
            agent INTEGER, thread INTEGER, until_ms INTEGER NOT NULL, PRIMARY KEY (agent, thread)) WITHOUT ROWID""",
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    ),
    ("CREATE TABLE buried_texts (hash INTEGER PRIMARY KEY)",),
    ("ALTER TABLE threads ADD COLUMN parent TEXT NOT NULL DEFAULT ''",),
)


@dataclass(frozen=True, slots=True)
class SourceState:
    """How far a session file was read."""

    path: str
    agent: str
    size: int
    """Bytes, when it was read."""
    mtime_ns: int
    prefix_hash: str
    """Of its first `prefix_bytes`: tells whether a file that grew is still the same file."""
    prefix_bytes: int
    cursor_offset: int
    cursor_json: str
    """The reader's cursor, from which it reads on."""
    reader_version: str
    """Names the rules it was read by; other rules mean that it is read anew."""
    thread_ids: tuple[ThreadId, ...] = ()
    """Threads that occur in it."""


@dataclass(frozen=True, slots=True)
class UnreadableRow:
    """Something in a session file that could not be understood."""

    path: str
    line: int
    problem: str


@dataclass(frozen=True, slots=True)
class ThreadRow:
    """A thread as it lies in archive and store."""

    thread: Thread
    project: str
    first_ms: int
    last_ms: int
    num_events: int
    chunker_version: int
    """That cut its chunks; another one means that they are cut anew."""


def hash_of(name: str) -> int:
    """Eight bytes that stand for an id, as SQLite keeps integers: signed.

    >>> hash_of("call_1") == hash_of("call_1") != hash_of("call_2")
    True
    """
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def hidden(path: str) -> str:
    """Stands for the path of a session file of which nothing is kept: enough to know the file again, and no more."""
    return f"#{blake2b(path.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite raises into errors that name the file and the next step."""
    try:
        yield
    except sqlite3.OperationalError as problem:
        if "locked" in str(problem) or "busy" in str(problem):
            raise StoreLocked(
                f"another process has been writing {path} for more than {BUSY_ms // 1000} s. Try again in a moment."
            ) from problem
        raise StoreError(
            f"{path} cannot be used: {problem}. Check that the disk has space and that this user may write there."
        ) from problem
    except sqlite3.DatabaseError as problem:
        raise StoreError(
            f"{path} is damaged: {problem}. Move it away and run `lmm import`: session files are read again. "
            "What was forgotten stands in that file too, so what the agents still have would come back."
        ) from problem


def connect(path: Path) -> sqlite3.Connection:
    """Open the ledger, made for this user alone and migrated where needed. Raises StoreTooNew, StoreLocked, StoreError."""
    with named_errors(path):
        _make_private(path)
        # The caller guards it with a lock of its own; transactions are begun by hand, so that they may be nested.
        connection = sqlite3.connect(path, timeout=BUSY_ms / 1000, isolation_level=None, check_same_thread=False)
        try:
            # Deleted text is overwritten at once and not only when its page is used again.
            connection.execute("PRAGMA secure_delete = ON")
            version = _version(connection)
            if version > len(MIGRATIONS):
                raise StoreTooNew(
                    f"{path} has version {version}, this program knows up to {len(MIGRATIONS)}. "
                    "Upgrade lmm-mcp, or set LMM_HOME to another folder."
                )
            if version < len(MIGRATIONS):
                _migrate(connection)
            # The ledger is written last: after a power cut the last files are merely read again.
            connection.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            connection.close()
            raise
    return connection


def rewrite(connection: sqlite3.Connection) -> None:
    """Write the file anew and empty its log, so that nothing deleted is left in either."""
    # The log is emptied first, too: VACUUM copies what it finds, and a long log would only double the work.
    for statement in ("PRAGMA wal_checkpoint(TRUNCATE)", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
        found = connection.execute(statement).fetchone()
    if found[0]:
        raise sqlite3.OperationalError("database is locked")


def _make_private(path: Path) -> None:
    # SQLite gives its log files the mode of the file itself.
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Only made, never opened where it is there: whoever closes a file takes away all locks that this process has on it,
        # and SQLite would empty the log under another connection of ours, with what that one writes.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return
    except OSError as problem:
        raise StoreError(
            f"{path} cannot be opened: {problem.strerror}. Give this user the right to write there, or set LMM_HOME."
        ) from problem


def _migrate(connection: sqlite3.Connection) -> None:
    # Outside of any transaction; a second process that does the same meanwhile waits and finds it done.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN EXCLUSIVE")
    try:
        for number, step in enumerate(MIGRATIONS[_version(connection) :], start=_version(connection) + 1):
            for statement in step:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
