"""The store made anew from the archive: `lmm rebuild`.

The rows of all threads are cut again and written as one more version of the table, so that whoever asks meanwhile sees the
old rows or the new ones. Vectors of passages whose text is the same stay. A store that cannot be read is moved aside first
and removed when the new one stands. Whoever dies in between leaves the old store, or one that the next ingest process
completes; doing it again does all of it again.
"""

import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ingest import pipeline
from ingest.deriving import Deriving
from ingest.pipeline import Cut, Rooms
from lmm_mcp import children
from lmm_mcp.children import Progress
from lmm_mcp.config import Settings
from lmm_mcp.domain.chunk import Chunk
from lmm_mcp.errors import ArchiveError, StoreError, StoreTooNew
from lmm_mcp.exclusion import Exclusion
from lmm_mcp.paths import Home
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.chunks import ChunkStore
from lmm_mcp.store.ledger import Ledger

_THREADS_at_once = 40
_ASIDE = "store.damaged"
_log = logging.getLogger("lmm.ingest")


def rebuild(home: Home, settings: Settings) -> int:
    """Make the store anew; the exit code. Raises StoreLocked, StoreTooNew, and OSError where the machine refuses."""
    with children.borrowed_write_lock(home, timeout_s=120.0):
        store, is_new = _opened(home)
        rooms = Rooms(Archive(home.archive), store, Ledger.open(home.ledger), exclusion=Exclusion.of(settings.sessions))
        walk = _Walk(home, rooms, is_new=is_new)
        store.replace_all(walk.chunks())
        for start in range(0, len(walk.cuts), _THREADS_at_once):
            pipeline.record_cuts(walk.cuts[start : start + _THREADS_at_once], rooms.ledger)
        store.optimize()
        if home.facts.exists():
            _derive_anew(home, settings, rooms, walk)
        walk.say("done", chunks=store.count())
        shutil.rmtree(home.root / _ASIDE, ignore_errors=True)
        rooms.ledger.close()
    return 0


def _derive_anew(home: Home, settings: Settings, rooms: Rooms, walk: "_Walk") -> None:
    """Facts and salience, where there were any; otherwise they come when somebody asks for them."""
    deriving, num_chunks = Deriving(home.facts), rooms.store.count()
    deriving.clear()
    while deriving.step(rooms, repositories=settings.lessons.repositories, is_hurried=True):
        walk.say("importing", chunks=num_chunks)
    deriving.close()


def _opened(home: Home) -> tuple[ChunkStore, bool]:
    """The store, and whether it is a new one because the old one could not be read."""
    try:
        store = ChunkStore.open(home.store, create=True)
        store.check()
        return store, False
    except StoreTooNew:
        raise
    except StoreError as problem:
        _log.warning("the store is moved aside: %s", problem)
        aside = home.root / _ASIDE
        shutil.rmtree(aside, ignore_errors=True)
        home.store.replace(aside)
        return ChunkStore.open(home.store, create=True), True


class _Walk:
    """From one archived thread to the next, remembering what was cut for the ledger."""

    def __init__(self, home: Home, rooms: Rooms, *, is_new: bool) -> None:
        self._home, self._rooms, self._is_new = home, rooms, is_new
        self.cuts: list[Cut] = []
        """Without their chunks: those go to the store and are not held."""
        self._progress = Progress(pid=os.getpid(), started_ms=_now_ms())
        self._said_at = 0.0

    def chunks(self) -> Iterator[Sequence[Chunk]]:
        """The chunks of each thread; those of one whose archive file is damaged as they stood in the store."""
        damaged: list[ArchiveError] = []
        named = [thread for _, thread in self._rooms.archive.threads(damaged=damaged)]
        self._progress = replace(self._progress, files_total=len(named), bytes_total=len(named))
        whole: set[tuple[str, str]] = set()
        num_chunks = 0
        for thread in named:
            try:
                cut = pipeline.cut_anew(thread.agent, thread.thread_id, self._rooms)
            except ArchiveError as problem:
                damaged.append(problem)
                continue
            if cut is None:
                continue
            whole.add((thread.agent, thread.thread_id))
            with self._rooms.ledger.transaction():
                pipeline.record_names(cut, self._rooms.ledger)
            self.cuts.append(replace(cut, chunks=tuple(replace(each, lines=()) for each in cut.chunks)))
            num_chunks += len(cut.chunks)
            yield cut.chunks
            self.say("importing", chunks=num_chunks, files_done=len(self.cuts))
        for complaint in damaged:
            _log.warning("kept as it stood in the store: %s", complaint)
            self._rooms.ledger.record_unreadable(_file_in(complaint, self._home), 0, str(complaint))
        if damaged and not self._is_new:
            for agent, thread_id in sorted(self._rooms.store.threads() - whole):
                yield self._rooms.store.thread(agent, thread_id)
        self._progress = replace(self._progress, unreadable=len(damaged))

    def say(self, phase: str, *, chunks: int, files_done: int | None = None) -> None:
        """Write down how far we are, five times a second at most."""
        done = self._progress.files_done if files_done is None else files_done
        self._progress = replace(
            self._progress, phase=phase, chunks=chunks, files_done=done, bytes_done=done, updated_ms=_now_ms()
        )
        if phase != "done" and time.monotonic() - self._said_at < 0.2:
            return
        self._said_at = time.monotonic()
        children.write_progress(self._home, self._progress)


def _file_in(problem: ArchiveError, home: Home) -> str:
    """The archive file that an error speaks of, else the archive itself."""
    words = str(problem).split()
    return next((word for word in words if word.startswith(str(home.archive))), str(home.archive))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
