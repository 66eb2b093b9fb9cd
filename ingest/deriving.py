"""What is derived from archived threads, and when: facts and salience, thread by thread, each in one transaction.

A thread is due when its archive, its project or the rules are others than those it was derived by; so whoever dies in between goes
on where it stopped. A session that is being written just now is left alone for a while, unless somebody waits for it.
"""

import logging
import sqlite3
import time
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path

from ingest.chunking import CHUNKER_VERSION, chunk_thread
from ingest.facts import FACTS_VERSION, merged, observe_by_turn
from ingest.pipeline import Rooms
from ingest.readers import repository
from ingest.reading import traced
from ingest.salience import SALIENCE_VERSION, weigh
from ingest.turns import pair_turns
from lmm_mcp.domain.chunk import Chunk
from lmm_mcp.domain.fact import Fact, Salience
from lmm_mcp.errors import ArchiveError, LmmError
from lmm_mcp.exclusion import Exclusion
from lmm_mcp.store.facts import REPOSITORY, Derived, FactStore, Key
from lmm_mcp.store.ledger import ThreadRow

QUIET_s = 300.0
"""A session that was written to since is left alone: it would be derived anew at every line."""
LOOK_EVERY_s = 60.0
"""How often it is looked for what is due, where nobody waits for it."""
STEP_s = 0.2
"""What is more urgent waits no longer than this, or than for one turn."""
_log = logging.getLogger("lmm.ingest")


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be done."""

    threads: tuple[tuple[ThreadRow, str], ...]
    """With the state they will be derived at, oldest first: what was told before must be known when it is told again."""
    repositories: tuple[repository.Source, ...]
    gone: tuple[Key, ...]
    """Derived once, and no thread any more, or one that is excluded by now."""
    num_fresh: int
    """Threads that are due and were written to a moment ago."""


def due(rooms: Rooms, facts: FactStore, *, repositories: Sequence[str], is_hurried: bool) -> Due:
    """Look what is due. Stats files and opens none.

    `repositories`: folders whose own files may be read, see `readers/repository.py`.
    """
    done = facts.states()
    wanted: list[tuple[ThreadRow, str]] = []
    present: set[Key] = set()
    num_fresh = 0
    now_ns = time.time_ns()
    for row in rooms.ledger.threads():
        key = (row.thread.agent, row.thread.thread_id)
        if _is_excluded(row, rooms.exclusion):
            continue
        try:
            stat = rooms.archive.path(*key).stat()
        except OSError:
            continue  # nothing of it is archived: what was derived from it goes
        present.add(key)
        state = _state(stat.st_size, row)
        if done.get(key) == state:
            continue
        if not is_hurried and now_ns - stat.st_mtime_ns < QUIET_s * 1e9:
            num_fresh += 1
        else:
            wanted.append((row, state))
    sources = repository.sources(rooms.ledger.known_roots(), repositories, rooms.exclusion)
    present |= {(REPOSITORY, source.project) for source in sources}
    wanted.sort(key=lambda one: (one[0].last_ms, one[0].thread.agent, one[0].thread.thread_id))
    return Due(
        tuple(wanted),
        tuple(each for each in sources if done.get((REPOSITORY, each.project)) != each.state),
        tuple(sorted(done.keys() - present)),
        num_fresh,
    )


def derive(row: ThreadRow, state: str, rooms: Rooms, facts: FactStore) -> Generator[None, None, Derived]:
    """Derive one thread, in small steps: whatever is more urgent goes before the next one. Returns what was derived.

    One whose archive is damaged has nothing to say until its file is another.
    """
    thread, bare = row.thread, _bare(row, state)
    try:
        found = rooms.archive.read(thread.agent, thread.thread_id)
    except ArchiveError as problem:
        _log.warning("nothing can be derived from a damaged archive file: %s", problem)
        return bare
    if found is None:
        return bare
    turns = list(pair_turns(*found))
    said: list[Fact] = []
    chunks: list[Chunk] = []
    for turn, told in zip_longest(turns, observe_by_turn(found[0], turns, project=row.project)):
        said += told or ()
        # Turn by turn they get the ids that they have in the store: those are made of the turn alone.
        chunks += chunk_thread(found[0], [turn], project=row.project) if turn is not None else ()
        yield
    observations = merged(said)
    salience: list[Salience] = []
    for each in weigh(
        turns,
        chunks,
        [each for each in observations if each.relation != "setting"],  # not every number that is tried is worth much
        frequencies=rooms.store.frequencies(),
        is_told_again=lambda fact: facts.is_told_elsewhere(fact, thread.session_id),
    ):
        salience.append(each)
        yield
    return replace(bare, observations=tuple(observations), salience=tuple(salience))


def _bare(row: ThreadRow, state: str) -> Derived:
    """What stands for a thread that says nothing: it is not tried again until its archive is another."""
    return Derived(row.thread.agent, row.thread.thread_id, row.thread.session_id, row.project, state)


def _state(size: int, row: ThreadRow) -> str:
    # Archive files only grow, but for forgetting, which deletes what was derived.
    return f"{size}.{CHUNKER_VERSION}.{FACTS_VERSION}.{SALIENCE_VERSION} {row.project}"


def _is_excluded(row: ThreadRow, rules: Exclusion) -> bool:
    thread = row.thread
    return rules.excludes(thread.agent, thread.cwd, thread.remote) or rules.excludes_remote(row.project)


@dataclass(slots=True)
class Deriving:
    """The work of deriving, a thread at a time, among all that the ingest process does."""

    path: Path
    """Of the store of facts."""
    _facts: FactStore | None = None
    _threads: deque[tuple[ThreadRow, str]] = field(default_factory=deque)
    _repositories: deque[repository.Source] = field(default_factory=deque)
    _work: Generator[None, None, Derived] | None = None
    """The thread that is being derived."""
    _at_work_on: tuple[ThreadRow, str] | None = None
    _requests: list[Path] = field(default_factory=list)
    _look_at_s: float = 0.0
    _may_be_due: bool = True

    @property
    def is_asked_for(self) -> bool:
        """Whether somebody waits for what is derived."""
        return bool(self._requests)

    def expect(self) -> None:
        """Something was archived since the last look."""
        self._may_be_due = True

    def hurry(self, request: Path | None = None) -> None:
        """Somebody waits: all that is due is derived now, and then their request is removed."""
        if request is not None and request in self._requests:
            return
        self._requests += [request] if request is not None else []
        self._threads.clear()
        self._may_be_due, self._look_at_s = True, 0.0

    def rest(self) -> None:
        """Leave it for a while: it cannot be done just now."""
        self.close()
        self._look_at_s = time.monotonic() + LOOK_EVERY_s

    def close(self) -> None:
        """Let go of the file: somebody else writes for a while, and what is due must be looked for again."""
        if self._facts is not None:
            self._facts.close()
        self._facts = self._work = None
        self._threads.clear()
        self._repositories.clear()
        self._may_be_due, self._look_at_s = True, 0.0

    def clear(self) -> None:
        """Delete all that was derived; it is derived again."""
        self._opened().clear()
        self.close()

    def step(self, rooms: Rooms, *, repositories: Sequence[str], is_hurried: bool = False) -> bool:
        """Go on deriving for a fraction of a second; False where nothing is due. Raises StoreError, StoreLocked, and OSError where the disk is full."""
        is_hurried = is_hurried or bool(self._requests)
        is_idle = self._work is None and not self._threads and not self._repositories
        if is_idle and not self._look(rooms, repositories, is_hurried):
            self._answer()
            return False
        if self._work is None and not self._threads:
            self._opened().replace(repository.derive(self._repositories.popleft()))
            return True
        if self._work is None:
            self._at_work_on = self._threads.popleft()
            self._work = derive(*self._at_work_on, rooms, self._opened())
        until_s = time.monotonic() + STEP_s
        try:
            while time.monotonic() < until_s:
                next(self._work)
        except StopIteration as end:
            self._work = None
            self._opened().replace(end.value)
        except (OSError, MemoryError, sqlite3.Error, LmmError):
            raise
        except Exception as problem:  # one session that we cannot make sense of must not keep all others out
            _log.error("nothing can be derived from a session: %s", traced(problem))
            self._work = None
            if self._at_work_on is not None:
                self._opened().replace(_bare(*self._at_work_on))
        return True

    def _look(self, rooms: Rooms, repositories: Sequence[str], is_hurried: bool) -> bool:
        """Look for what is due, and whether anything is."""
        now_s = time.monotonic()
        if not self._may_be_due or (now_s < self._look_at_s and not is_hurried):
            return False
        facts = self._opened()
        found = due(rooms, facts, repositories=repositories, is_hurried=is_hurried)
        self._look_at_s = now_s + LOOK_EVERY_s
        self._may_be_due = found.num_fresh > 0
        if found.gone:
            facts.forget(found.gone)
        self._threads.extend(found.threads)
        self._repositories.extend(found.repositories)
        return bool(self._threads or self._repositories)

    def _answer(self) -> None:
        for request in self._requests:
            request.unlink(missing_ok=True)
        self._requests.clear()

    def _opened(self) -> FactStore:
        if self._facts is None:
            self._facts = FactStore.open(self.path, create=True)
        return self._facts
