"""`FactStore`: what was derived from archived threads, in one SQLite file: observations, and how salient passages are.

Each thread's derivations are written and deleted in one, beside the state of its archive and the rules by which they were
made. Facts are reconciled from observations whenever they are asked for (`reconciling.py`), so nothing here can disagree.
All of it can be made again: a file that is damaged or of another version is made anew by whoever writes, and is an empty
store to whoever reads. Deleting it loses nothing.
"""

import os
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from lmm_mcp.domain.chunk import ChunkId, Span
from lmm_mcp.domain.fact import Evidence, Fact, Salience
from lmm_mcp.domain.relations import CHANGING
from lmm_mcp.errors import StoreError, StoreLocked
from lmm_mcp.store.reconciling import reconcile
from lmm_mcp.store.surrogates import mended

Key = tuple[str, str]
"""Agent and thread id."""
REPOSITORY = "repository"
"""In place of the agent, where a project's own files are the evidence; the thread id is then the project's key."""
SCHEMA_VERSION = 1
BUSY_ms = 5_000
_MAX_VARIABLES = 900
_TABLES = (
    """CREATE TABLE derivations (
        number INTEGER PRIMARY KEY, agent TEXT NOT NULL, thread_id TEXT NOT NULL, session_id TEXT NOT NULL,
        project TEXT NOT NULL, state TEXT NOT NULL, UNIQUE (agent, thread_id))""",
    "CREATE INDEX by_project ON derivations (project)",
    """CREATE TABLE observations (
        number INTEGER PRIMARY KEY, derivation INTEGER NOT NULL, relation TEXT NOT NULL, category TEXT NOT NULL,
        subject TEXT NOT NULL, value TEXT NOT NULL, text TEXT NOT NULL, volatility TEXT NOT NULL, evidence TEXT NOT NULL)""",
    "CREATE INDEX by_derivation ON observations (derivation)",
    "CREATE INDEX by_value ON observations (value)",
    """CREATE TABLE salience (
        chunk_id TEXT PRIMARY KEY, derivation INTEGER NOT NULL, score REAL NOT NULL, reasons TEXT NOT NULL) WITHOUT ROWID""",
    "CREATE INDEX salience_by_derivation ON salience (derivation)",
)


@dataclass(frozen=True, slots=True)
class Derived:
    """All that was derived from one thread."""

    agent: str
    thread_id: str
    session_id: str
    project: str
    state: str
    """Names the archived state and the rules it was derived by; another one means that it is due again."""
    observations: tuple[Fact, ...] = ()
    """Facts as this thread alone supports them."""
    salience: tuple[Salience, ...] = ()


class FactStore:
    """An open store of facts. Safe to use from several threads; one process writes, any number read."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self._path = connection, path
        self._using = threading.RLock()

    @classmethod
    def open(cls, path: Path, *, create: bool = False) -> "FactStore":
        """Open the file. `create`: for the holder of the write lock, who makes it where it is missing or of no use.

        Without, a file that is missing or of another version is an empty store. Raises StoreError, StoreLocked.
        """
        if create:
            with _named_errors(path):
                return cls(_made(path), path)
        try:
            if path.exists():
                return cls(_opened(path), path)
        except (sqlite3.DatabaseError, _Useless):
            pass
        return cls(_filled(sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)), path)

    def close(self) -> None:
        """Close the file."""
        with self._using:
            self._connection.close()

    # Writing

    def replace(self, derived: Derived) -> None:
        """Put a thread's derivations in place of what was derived from it before: all or nothing."""
        with self._transaction():
            self._drop([(derived.agent, derived.thread_id)])
            about = (derived.agent, derived.thread_id, derived.session_id, derived.project, derived.state)
            number = self._connection.execute(
                "INSERT INTO derivations (agent, thread_id, session_id, project, state) VALUES (?, ?, ?, ?, ?)",
                mended(list(about)),
            ).lastrowid
            self._connection.executemany(
                "INSERT INTO observations (derivation, relation, category, subject, value, text, volatility, evidence)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (mended([number, *_row(fact)]) for fact in derived.observations),
            )
            self._connection.executemany(
                "INSERT OR REPLACE INTO salience VALUES (?, ?, ?, ?)",
                ((each.chunk_id, number, each.score, _json(each.reasons)) for each in derived.salience),
            )

    def forget(self, threads: Iterable[Key]) -> int:
        """Delete all that was derived from these threads; how many of them anything was known of."""
        with self._transaction():
            return self._drop(threads)

    def clear(self) -> None:
        """Delete everything."""
        with self._transaction():
            for table in ("salience", "observations", "derivations"):
                self._connection.execute(f"DELETE FROM {table}")  # noqa: S608 - names of our own

    def purge(self) -> None:
        """Write the file anew, so that nothing deleted is left in it. Raises StoreLocked while another process reads."""
        with self._using, _named_errors(self._path):
            for statement in ("PRAGMA wal_checkpoint(TRUNCATE)", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
                found = self._connection.execute(statement).fetchone()
            if found[0]:
                raise sqlite3.OperationalError("database is locked")

    # Reading

    def states(self) -> dict[Key, str]:
        """What was derived, by (agent, thread id), at which state."""
        return {
            (agent, thread): state
            for agent, thread, state in self._rows("SELECT agent, thread_id, state FROM derivations")
        }

    def observations(self, project: str | None = None, relations: Collection[str] = ()) -> list[Fact]:
        """What single threads say, each supported by one of them. `relations`: only of these."""
        marks = ", ".join("?" * len(relations))
        wanted = f" AND relation IN ({marks})" if relations else ""
        rows = self._rows(
            "SELECT agent, thread_id, session_id, project, relation, category, subject, value, text, volatility, evidence"  # noqa: S608 - only question marks
            " FROM observations JOIN derivations ON derivations.number = observations.derivation"
            f" WHERE (? IS NULL OR project = ?){wanted} ORDER BY observations.number",
            (project, project, *relations),
        )
        return [_fact(row) for row in rows]

    def facts(self, project: str | None = None, *, holding_only: bool = False) -> list[Fact]:
        """Facts about a project, or about all; those that something newer replaced too, unless they are not wanted."""
        return [fact for fact in reconcile(self.observations(project)) if fact.holds or not holding_only]

    def changing(self, project: str) -> list[Fact]:
        """Facts of a project of which one value takes the place of another, in few words."""
        return reconcile(self.observations(project, sorted(CHANGING)))

    def salience(self, ids: Sequence[ChunkId]) -> dict[ChunkId, Salience]:
        """How salient these passages are; those of which nothing was derived yet are left out."""
        found: dict[ChunkId, Salience] = {}
        for start in range(0, len(ids), _MAX_VARIABLES):
            part = ids[start : start + _MAX_VARIABLES]
            marks = ", ".join("?" * len(part))
            rows = self._rows(f"SELECT chunk_id, score, reasons FROM salience WHERE chunk_id IN ({marks})", part)  # noqa: S608
            found |= {name: Salience(name, score, _reasons(reasons)) for name, score, reasons in rows}
        return found

    def all_salience(self) -> dict[ChunkId, float]:
        """How salient each passage is that anything was derived from, without the reasons."""
        return dict(self._rows("SELECT chunk_id, score FROM salience"))

    def repositories_about(self, projects: Collection[str], match: str | None = None) -> list[Key]:
        """Under which keys files of these projects were read, and of those whose facts hold a text, any case."""
        rows = self._rows("SELECT thread_id, number FROM derivations WHERE agent = ?", (REPOSITORY,))
        wanted = (match or "").casefold()
        return [
            (REPOSITORY, project)
            for project, number in rows
            if project in projects or (wanted and any(wanted in text for text in self._texts(project, number)))
        ]

    def is_told_elsewhere(self, fact: Fact, session_id: str) -> bool:
        """Whether the user said the same of the same project in another session that was derived already."""
        rows = self._rows(
            "SELECT evidence FROM observations JOIN derivations ON derivations.number = observations.derivation"
            " WHERE value = ? AND relation = ? AND subject = ? AND project = ? AND session_id != ?",
            mended([fact.value, fact.relation, fact.subject, fact.project, session_id]),
        )
        return any(each[3] == "user" for (evidence,) in rows for each in orjson.loads(evidence))

    def num_observations(self) -> int:
        """Statements of single threads."""
        return int(self._rows("SELECT count(*) FROM observations")[0][0])

    def num_derived(self) -> int:
        """Threads and repositories that something was derived from, or found to hold nothing."""
        return int(self._rows("SELECT count(*) FROM derivations")[0][0])

    # Within

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._using, _named_errors(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                if self._connection.in_transaction:  # a full disk makes SQLite roll back by itself
                    self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def _drop(self, threads: Iterable[Key]) -> int:
        numbers = [
            row
            for key in threads
            for row in self._connection.execute(
                "SELECT number FROM derivations WHERE agent = ? AND thread_id = ?", mended(list(key))
            )
        ]
        for statement in (
            "DELETE FROM observations WHERE derivation = ?",
            "DELETE FROM salience WHERE derivation = ?",
            "DELETE FROM derivations WHERE number = ?",
        ):
            self._connection.executemany(statement, numbers)
        return len(numbers)

    def _texts(self, project: str, number: int) -> list[str]:
        rows = self._rows("SELECT subject, value, text, evidence FROM observations WHERE derivation = ?", (number,))
        return [project.casefold(), *("\n".join(row).casefold() for row in rows)]

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._using, _named_errors(self._path):
            return self._connection.execute(statement, values).fetchall()


class _Useless(Exception):
    """A file of another version, or one that holds no facts at all."""


def _made(path: Path) -> sqlite3.Connection:
    try:
        if path.exists():
            return _opened(path)
    except sqlite3.OperationalError:
        raise
    except (sqlite3.DatabaseError, _Useless):
        pass  # it is made again from the archive
    for old in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal"))):
        with suppress(FileNotFoundError):
            old.unlink()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as problem:
        raise StoreError(
            f"{path} cannot be made: {problem.strerror}. Give this user the right to write there, or set LMM_HOME."
        ) from problem
    connection = _connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    return _filled(connection)


def _opened(path: Path) -> sqlite3.Connection:
    connection = _connect(path)
    try:
        if connection.execute("PRAGMA user_version").fetchone()[0] != SCHEMA_VERSION:
            raise _Useless
        connection.execute("SELECT count(*) FROM derivations").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_ms / 1000, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA secure_delete = ON")  # deleted text is overwritten at once
    connection.execute("PRAGMA synchronous = NORMAL")  # what a power cut takes is derived again
    return connection


def _filled(connection: sqlite3.Connection) -> sqlite3.Connection:
    connection.execute("BEGIN")
    for statement in _TABLES:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")
    return connection


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as problem:
        if "locked" in str(problem) or "busy" in str(problem):
            raise StoreLocked(
                f"another process has been using {path} for more than {BUSY_ms // 1000} s. Try again in a moment."
            ) from problem
        raise StoreError(
            f"{path} cannot be used: {problem}. Check that the disk has space and that this user may write there."
        ) from problem
    except sqlite3.DatabaseError as problem:
        raise StoreError(f"{path} is damaged: {problem}. Delete it: `lmm rebuild` makes it again.") from problem


def _row(fact: Fact) -> list[Any]:
    evidence = [[each.span.event_id, each.span.start, each.span.end, each.role, each.at_ms] for each in fact.evidence]
    return [fact.relation, fact.category, fact.subject, fact.value, fact.text, fact.volatility, _json(evidence)]


def _fact(row: Sequence[Any]) -> Fact:
    agent, thread_id, session_id, project, relation, category, subject, value, text, volatility, told = row
    evidence = tuple(
        Evidence(agent, thread_id, session_id, Span(event_id, start, end), role, at_ms)
        for event_id, start, end, role, at_ms in orjson.loads(told)
    )
    from_ms = min((each.at_ms for each in evidence if each.at_ms), default=0)
    return Fact(project, category, relation, subject, value, text, evidence, from_ms, volatility=volatility)


def _json(value: Any) -> str:
    return orjson.dumps(mended(value)).decode("utf-8")


def _reasons(text: str) -> tuple[tuple[str, float], ...]:
    return tuple((name, added) for name, added in orjson.loads(text))
