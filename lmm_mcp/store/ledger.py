"""`Ledger`: what must be remembered beside the text. One SQLite file, safe to open from several processes and threads.

It knows how far each session file was read, which thread owns an event, what every chunk id ever given stands for, how
projects are called, and what was forgotten. It is written last: what stands here really lies in archive and store.

Surprising: tombstones and claims hold hashes of ids, eight bytes each, and never a word of text. A session file of which
nothing is kept (excluded, forgotten, empty) is known by a hash of its path alone, since a path names a project. Everything
that belongs together is written within `with ledger.transaction():`; a single call outside of one is one of its own.
"""

import json
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, fields, replace
from pathlib import Path
from typing import Any

from lmm_mcp.domain.chunk import ChunkId
from lmm_mcp.domain.event import EventId, Thread, ThreadId
from lmm_mcp.store import ledger_schema
from lmm_mcp.store.ledger_schema import SourceState, ThreadRow, UnreadableRow, hash_of, hidden, named_errors
from lmm_mcp.store.surrogates import mended

__all__ = ["Ledger", "SourceState", "ThreadRow", "UnreadableRow"]

_MAX_VARIABLES = 900
"""SQLite binds at least 999 values in one statement, whatever it was built with."""
_NAMING = (
    ("SELECT alias, project FROM aliases", ("DELETE FROM aliases WHERE alias = ?",)),
    ("SELECT folder, project FROM roots", ("DELETE FROM roots WHERE folder = ?",)),
    (
        "SELECT path, cursor_json FROM sources UNION SELECT path, problem FROM unreadable",
        ("DELETE FROM sources WHERE path = ?", "DELETE FROM unreadable WHERE path = ?"),
    ),
)
"""What may name a folder or a project, its key first, and how it goes."""


class Ledger:
    """An open ledger. Every method raises StoreLocked if another process writes for longer than five seconds."""

    def __init__(self, path: Path) -> None:
        """Open the file, made and migrated where needed. Raises StoreTooNew, and StoreError for a damaged one."""
        self._path = path
        self._using = threading.RLock()
        self._depth = 0
        self._connection = ledger_schema.connect(path)

    @classmethod
    def open(cls, path: Path) -> "Ledger":
        """Open the file, made and migrated where needed. Raises StoreTooNew, and StoreError for a damaged one."""
        return cls(path)

    def close(self) -> None:
        """Close the file. The ledger cannot be used any more."""
        with self._using:
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of what is written within, or nothing. May be nested: the outermost one decides."""
        with self._using, named_errors(self._path):
            if self._depth:
                yield
                return
            self._connection.execute("BEGIN IMMEDIATE")
            self._depth = 1
            try:
                yield
            except BaseException:
                if self._connection.in_transaction:  # a full disk makes SQLite roll back by itself
                    self._connection.execute("ROLLBACK")
                raise
            else:
                self._connection.execute("COMMIT")
            finally:
                self._depth = 0

    # Session files

    def source(self, path: Path | str) -> SourceState | None:
        """How far the file was read; None if never."""
        (name,) = mended([str(path)])
        found = self._rows("SELECT * FROM sources WHERE path IN (?, ?)", (name, hidden(name)))
        return replace(_source(found[0]), path=str(path)) if found else None

    def sources(self) -> list[SourceState]:
        """Every file that was read. One of which nothing is kept bears a hash in place of its path."""
        return [_source(row) for row in self._rows("SELECT * FROM sources ORDER BY path")]

    def record_source(self, state: SourceState) -> None:
        """Say how far a file was read. This comes last: what it holds lies in archive and store."""
        values = mended(list(astuple(state)))
        values[-1] = json.dumps(values[-1])
        names = (values[0], hidden(values[0]))
        values[0] = names[0] if state.thread_ids else names[1]
        with self.transaction():
            self._write("DELETE FROM sources WHERE path IN (?, ?)", [names])
            self._write("INSERT INTO sources VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", [values])

    def forget_sources(self, agent: str, thread_ids: Collection[ThreadId]) -> int:
        """Forget that the files in which these threads occur were read: they are read anew. Returns their number."""
        wanted = set(thread_ids)
        paths = [(state.path,) for state in self.sources() if state.agent == agent and wanted & set(state.thread_ids)]
        with self.transaction():
            self._write("DELETE FROM sources WHERE path = ?", paths)
            self._write("DELETE FROM unreadable WHERE path = ?", paths)
        return len(paths)

    def record_unreadable(self, path: Path | str, line: int, problem: str) -> None:
        """Note what could not be understood in a file."""
        self._write("INSERT OR IGNORE INTO unreadable VALUES (?, ?, ?)", [mended([str(path), line, problem])])

    def unreadable(self) -> list[UnreadableRow]:
        """Everything that could not be understood, by file and line."""
        return [UnreadableRow(*row) for row in self._rows("SELECT * FROM unreadable ORDER BY path, line, problem")]

    def clear_unreadable(self, path: Path | str, *, line: int | None = None) -> None:
        """Forget what could not be understood in a file, or in one line of it."""
        self._write(
            "DELETE FROM unreadable WHERE path = ?1 AND (?2 IS NULL OR line = ?2)", [(*mended([str(path)]), line)]
        )

    # Threads, and who owns an event

    def record_thread(
        self, thread: Thread, *, project: str, first_ms: int, last_ms: int, num_events: int, chunker_version: int
    ) -> None:
        """Write down a thread as it now lies in archive and store."""
        with self.transaction():
            number = self._thread_number(thread.agent, thread.thread_id)
            known = [thread.session_id, thread.title, thread.cwd, thread.branch, thread.remote, thread.forked_from]
            known.append(thread.parent)
            self._write(
                "UPDATE threads SET session_id = ?, title = ?, cwd = ?, branch = ?, remote = ?, forked_from = ?, parent = ?,"
                " project = ?, first_ms = ?, last_ms = ?, num_events = ?, chunker_version = ? WHERE number = ?",
                [[*mended([*known, project]), first_ms, last_ms, num_events, chunker_version, number]],
            )

    def threads(self, *, session_id: str | None = None, project: str | None = None) -> list[ThreadRow]:
        """Every thread recorded, or those of a session or project."""
        rows = self._rows(
            "SELECT agents.name, session_id, thread_id, title, cwd, branch, remote, forked_from, parent,"
            " project, first_ms, last_ms, num_events, chunker_version"
            " FROM threads JOIN agents ON agents.number = threads.agent WHERE session_id IS NOT NULL"
            " AND (?1 IS NULL OR session_id = ?1) AND (?2 IS NULL OR project = ?2) ORDER BY threads.number",
            (session_id, project),
        )
        return [ThreadRow(Thread(*row[:9]), *row[9:]) for row in rows]

    def agents(self) -> list[str]:
        """Every agent of whom a thread is recorded, those of the most threads first."""
        rows = self._rows(
            "SELECT name FROM agents JOIN threads ON agents.number = threads.agent WHERE session_id IS NOT NULL"
            " GROUP BY name ORDER BY count(*) DESC, name"
        )
        return [name for (name,) in rows]

    def revise(self, thread: Thread) -> None:
        """Say anew what is known about a recorded thread, and that it must be cut anew (`chunker_version` becomes 0)."""
        known = mended([thread.title, thread.cwd, thread.branch, thread.remote, thread.thread_id, thread.agent])
        self._write(
            "UPDATE threads SET title = ?, cwd = ?, branch = ?, remote = ?, chunker_version = 0"
            " WHERE thread_id = ? AND agent = (SELECT number FROM agents WHERE name = ?)",
            [known],
        )

    def forget_threads(self, agent: str, thread_ids: Iterable[ThreadId]) -> None:
        """Delete all that is known about these threads: their rows, claims and chunk ids."""
        with self.transaction():
            numbers = [(self._thread_number(agent, thread_id),) for thread_id in thread_ids]
            self._write("DELETE FROM claims WHERE thread = ?", numbers)
            self._write("DELETE FROM chunks WHERE thread = ?", numbers)
            self._write("DELETE FROM threads WHERE number = ?", numbers)

    def claim(self, agent: str, thread_id: ThreadId, event_ids: Collection[EventId]) -> None:
        """Give events to a thread, whoever had them before."""
        if not event_ids:
            return
        with self.transaction():
            owner, thread = self._agent_number(agent), self._thread_number(agent, thread_id)
            # In the order of the key SQLite fills its pages one after another.
            rows = ((owner, event, thread) for event in sorted(map(hash_of, event_ids)))
            self._write("INSERT OR REPLACE INTO claims VALUES (?, ?, ?)", rows)

    def owners(self, agent: str, event_ids: Collection[EventId]) -> dict[EventId, ThreadId]:
        """Which thread owns each event; events that nobody owns are left out."""
        owned = dict(
            self._among(
                "SELECT event, thread_id FROM claims JOIN threads ON threads.number = claims.thread"
                " WHERE claims.agent = (SELECT number FROM agents WHERE name = ?) AND event IN ({})",
                agent,
                list(map(hash_of, event_ids)),
            )
        )
        return {event_id: owned[number] for event_id in event_ids if (number := hash_of(event_id)) in owned}

    def release(self, agent: str, event_ids: Collection[EventId]) -> None:
        """Take events from whoever owns them."""
        owner = self._agent_number(agent)
        self._write("DELETE FROM claims WHERE agent = ? AND event = ?", ((owner, hash_of(each)) for each in event_ids))

    # Chunk ids

    def record_chunks(self, agent: str, thread_id: ThreadId, rows: Sequence[tuple[ChunkId, EventId, EventId]]) -> None:
        """Note what chunk ids stand for: (chunk id, first event id, last event id). Ids given earlier stay."""
        if not rows:
            return
        with self.transaction():
            thread = self._thread_number(agent, thread_id)
            self._write(
                "INSERT OR REPLACE INTO chunks VALUES (?, ?, ?, ?)", ([row[0], thread, *row[1:]] for row in rows)
            )

    def resolve_chunk(self, chunk_id: ChunkId) -> tuple[str, ThreadId, EventId, EventId] | None:
        """Agent, thread, first and last event of any chunk id ever given; None for one that never was, or is forgotten."""
        found = self._rows(
            "SELECT agents.name, thread_id, first_event, last_event FROM chunks"
            " JOIN threads ON threads.number = chunks.thread JOIN agents ON agents.number = threads.agent"
            " WHERE chunk_id = ?",
            (chunk_id,),
        )
        return found[0] if found else None

    # Names of projects

    def add_alias(self, alias: str, project: str) -> None:
        """From now on project key `alias` means `project`."""
        self._write("INSERT OR REPLACE INTO aliases VALUES (?, ?)", [mended([alias, project])])

    def remove_alias(self, alias: str) -> None:
        """Project key `alias` means itself again."""
        self._write("DELETE FROM aliases WHERE alias = ?", [(alias,)])

    def aliases(self) -> dict[str, str]:
        """Project keys that mean another."""
        return dict(self._rows("SELECT alias, project FROM aliases ORDER BY alias"))

    def add_root(self, folder: str, project: str) -> None:
        """Folder `folder`, with all below it, belongs to `project`."""
        self._write("INSERT OR REPLACE INTO roots VALUES (?, ?)", [mended([folder, project])])

    def known_roots(self) -> dict[str, str]:
        """Root folders and their project keys."""
        return dict(self._rows("SELECT folder, project FROM roots ORDER BY folder"))

    def forget_projects(self, keys: Collection[str]) -> None:
        """Delete the aliases and roots that name these project keys."""
        with self.transaction():
            self._write("DELETE FROM aliases WHERE alias = ?1 OR project = ?1", ((key,) for key in keys))
            self._write("DELETE FROM roots WHERE folder = ?1 OR project = ?1", ((key,) for key in keys))

    def forget_names(self, is_meant: Callable[[str], bool]) -> None:
        """Delete aliases, roots, and what was noted about session files, wherever a name in them is meant.

        Nothing is lost: what is still true of a folder is learnt again, and a file is read again.
        """
        with self.transaction():
            for select, deletes in _NAMING:
                gone = [(row[0],) for row in self._rows(select) if any(map(is_meant, row))]
                for delete in deletes:
                    self._write(delete, gone)

    # Tombstones

    def bury(self, agent: str, event_ids: Collection[EventId]) -> None:
        """Note that these events were forgotten; only hashes of their ids are kept."""
        owner = self._agent_number(agent)
        rows = ((owner, event) for event in sorted(map(hash_of, event_ids)))
        self._write("INSERT OR IGNORE INTO buried_events VALUES (?, ?)", rows)

    def buried(self, agent: str, event_ids: Collection[EventId]) -> set[EventId]:
        """Which of these events were forgotten and must not come back."""
        found = {
            row[0]
            for row in self._among(
                "SELECT event, 0 FROM buried_events"
                " WHERE agent = (SELECT number FROM agents WHERE name = ?) AND event IN ({})",
                agent,
                list(map(hash_of, event_ids)),
            )
        }
        return {event_id for event_id in event_ids if hash_of(event_id) in found} if found else set()

    def forget_buried(self, agent: str) -> None:
        """Delete the claims on buried events, and the chunk ids that begin or end with one."""
        with self.transaction():
            owner = self._agent_number(agent)
            buried = {row[0] for row in self._rows("SELECT event FROM buried_events WHERE agent = ?", (owner,))}
            self._write("DELETE FROM claims WHERE agent = ? AND event = ?", ((owner, event) for event in buried))
            rows = self._rows(
                "SELECT chunk_id, first_event, last_event FROM chunks JOIN threads ON threads.number = chunks.thread"
                " WHERE threads.agent = ?",
                (owner,),
            )
            old = [(row[0],) for row in rows if hash_of(row[1]) in buried or hash_of(row[2]) in buried]
            self._write("DELETE FROM chunks WHERE chunk_id = ?", old)

    def bury_thread(self, agent: str, thread_id: ThreadId, until_ms: int) -> None:
        """Note that all of a thread up to a time was forgotten: a second lock, should a reader ever name events anew."""
        self._write(
            "INSERT INTO buried_threads VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET until_ms = max(until_ms, excluded.until_ms)",
            [(self._agent_number(agent), hash_of(thread_id), until_ms)],
        )

    def buried_until(self, agent: str, thread_id: ThreadId) -> int | None:
        """The time up to which a thread was forgotten whole, in UTC milliseconds; None if it was not."""
        found = self._rows(
            "SELECT until_ms FROM buried_threads"
            " WHERE agent = (SELECT number FROM agents WHERE name = ?) AND thread = ?",
            (agent, hash_of(thread_id)),
        )
        return found[0][0] if found else None

    def bury_claimed(self, agent: str, thread_id: ThreadId) -> None:
        """Note that all events a thread owns were forgotten, where the thread itself cannot be read any more."""
        self._write(
            "INSERT OR IGNORE INTO buried_events SELECT agent, event FROM claims WHERE thread = ?",
            [(self._thread_number(agent, thread_id),)],
        )

    def bury_title(self, agent: str, thread_id: ThreadId) -> None:
        """Note that what a thread's title was made of was forgotten: whatever an agent calls it, it has no title."""
        self.bury_text("", agent, thread_id)

    def is_title_buried(self, agent: str, thread_id: ThreadId) -> bool:
        """Whether a thread must stay without a title."""
        return self.is_text_buried("", agent, thread_id)

    def bury_text(self, text: str, *of_thread: str) -> None:
        """Note that a short text was forgotten: a title everywhere, a branch in one thread (agent, thread id) alone.

        Only a hash is kept. Empty text by itself is nothing.
        """
        if text or of_thread:
            self._write("INSERT OR IGNORE INTO buried_texts VALUES (?)", [(_hash_of_text(text, of_thread),)])

    def is_text_buried(self, text: str, *of_thread: str) -> bool:
        """Whether this very text was forgotten (everywhere, or in one thread) and must not come back."""
        return bool(self._rows("SELECT 1 FROM buried_texts WHERE hash = ?", (_hash_of_text(text, of_thread),)))

    def num_buried(self) -> int:
        """Events that were forgotten."""
        return int(self._rows("SELECT count(*) FROM buried_events")[0][0])

    # Anything else

    def meta(self, name: str) -> str | None:
        """A value kept under a name; None if there is none."""
        found = self._rows("SELECT value FROM meta WHERE name = ?", (name,))
        return found[0][0] if found else None

    def set_meta(self, name: str, value: str) -> None:
        """Keep a value under a name."""
        self._write("INSERT OR REPLACE INTO meta VALUES (?, ?)", [(name, value)])

    def clear_meta(self, name: str) -> None:
        """Forget the value kept under a name."""
        self._write("DELETE FROM meta WHERE name = ?", [(name,)])

    def purge(self) -> None:
        """Write the file anew so that nothing deleted is left in it. Raises StoreLocked while another process reads."""
        with self._using, named_errors(self._path):
            ledger_schema.rewrite(self._connection)

    # Within

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._using, named_errors(self._path):
            return self._connection.execute(statement, values).fetchall()

    def _among(self, statement: str, agent: str, numbers: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Run a statement that asks for many numbers, in portions."""
        for start in range(0, len(numbers), _MAX_VARIABLES):
            part = numbers[start : start + _MAX_VARIABLES]
            yield from self._rows(statement.format(", ".join("?" * len(part))), (agent, *part))

    def _write(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        with self.transaction():
            self._connection.executemany(statement, rows)

    def _agent_number(self, agent: str) -> int:
        found = self._rows("SELECT number FROM agents WHERE name = ?", (agent,))
        if not found:
            self._write("INSERT OR IGNORE INTO agents (name) VALUES (?)", [(agent,)])
            found = self._rows("SELECT number FROM agents WHERE name = ?", (agent,))
        return int(found[0][0])

    def _thread_number(self, agent: str, thread_id: str) -> int:
        values = (self._agent_number(agent), *mended([thread_id]))
        found = self._rows("SELECT number FROM threads WHERE agent = ? AND thread_id = ?", values)
        if not found:
            self._write("INSERT OR IGNORE INTO threads (agent, thread_id) VALUES (?, ?)", [values])
            found = self._rows("SELECT number FROM threads WHERE agent = ? AND thread_id = ?", values)
        return int(found[0][0])


def _hash_of_text(text: str, of_thread: Sequence[str]) -> int:
    return hash_of("\x1f".join((*of_thread, text)))


def _source(row: Any) -> SourceState:
    values = dict(zip((field.name for field in fields(SourceState)), row, strict=True))
    return SourceState(**(values | {"thread_ids": tuple(json.loads(values["thread_ids"]))}))
