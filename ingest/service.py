"""The ingest process: the only writer of the store. Takes the write lock, or hands its paths to the process that has it.

One loop decides what is most urgent: notes and handed-over paths (a remembered note must be recallable within two
seconds, even in the middle of a bulk import), then session files, newest first, then embeddings, then upkeep, then rest.
It ends when its standard input closes (its parent is gone), when told to, or, with `--once`, when nothing is left to do.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson
from filelock import FileLock, Timeout

from ingest import pipeline, sources, surroundings
from ingest.chunking import CHUNKER_VERSION, embedding_text
from ingest.pipeline import Rooms
from ingest.readers.base import SLICE_bytes
from ingest.session import SourceFile, Unreadable
from lmm_mcp import children, config, embedding
from lmm_mcp.children import Progress
from lmm_mcp.config import Settings
from lmm_mcp.embedding import NoEmbedder
from lmm_mcp.errors import ArchiveError, ConfigError, LmmError, MixedEmbeddings
from lmm_mcp.exclusion import Exclusion
from lmm_mcp.paths import Home
from lmm_mcp.refusal import exit_code_of, explained, refusal_behind
from lmm_mcp.store import forgetting
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.chunks import ChunkStore
from lmm_mcp.store.ledger import Ledger

BATCH_bytes = 4_000_000
"""Session bytes that go into one commit: small enough to be searchable soon, large enough not to litter the store."""
BATCH_files = 40
EMBED_SLICE = 32
TICK_s = 0.4
"""How often notes and handed-over paths are looked for."""
RESCAN_s = 30.0
"""How often all session folders are looked through for files that grew."""
_log = logging.getLogger("lmm.ingest")


def run(home: Home, env: Mapping[str, str], settings: Settings, paths: Sequence[Path], *, stay: bool) -> int:
    """Do the work of one ingest process; its exit code. Paths are handed over where another process holds the lock."""
    lock = FileLock(home.write_lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        children.hand_over(home, paths)
        _log.info("another process holds the write lock: %d paths handed over", len(paths))
        return 0
    service = Service(home, env, settings, stay=stay)
    try:
        return service.run(paths, lock)
    finally:
        lock.release()


@dataclass(slots=True)
class _Plan:
    """What is still to be done."""

    files: deque[SourceFile] = field(default_factory=deque)
    rescan_at: float = 0.0
    upkeep_due: bool = False
    look_for_model_at: float = 0.0
    """One that was installed meanwhile is found at the next look."""


class Service:
    """One ingest process at work. It lives as long as it holds the lock."""

    def __init__(self, home: Home, env: Mapping[str, str], settings: Settings, *, stay: bool) -> None:
        self._home, self._env, self._settings, self._stay = home, env, settings, stay
        self._plan = _Plan()
        self._stop = threading.Event()
        self._progress = Progress(pid=os.getpid(), started_ms=_now_ms())
        self._reported_at = 0.0
        self._settings_stamp = _stamp(home.config)
        self._notes_seen: tuple[tuple[str, int, int], ...] = ()
        self._embedder: embedding.Embedder | NoEmbedder | None = None
        self._rooms = self._open()

    def run(self, paths: Sequence[Path], lock: FileLock) -> int:
        """Work until nothing is left (`--once`), or until told to stop."""
        surroundings.watch_parent(self._stop)
        try:
            self._mend()
            if paths:
                self._queue(sources.named(paths))
            while not self._stop.is_set():
                if children.is_lock_wanted(self._home):
                    self._lend(lock)
                if not self._step(scan=not paths or self._stay):
                    if not self._stay:
                        break
                    self._report("watching")
                    self._stop.wait(TICK_s)
            if notes := self._new_notes():  # left in the very last moment, by an agent that is leaving
                self._import(notes)
            self._upkeep()
            # Who was told to stop in the middle must not seem to have done it all.
            self._report("importing" if self._plan.files else "done", now=True)
            return 0
        except OSError as problem:
            refused = refusal_behind(problem)
            told = (
                explained(refused, self._home.root)
                or f"{problem.strerror or problem}: {problem.filename or self._home.root}"
            )
            self._report("done", now=True, error=told)
            _log.error("stopped: %s", problem)
            return exit_code_of(refused)
        except Exception as problem:
            told = str(problem) if isinstance(problem, LmmError) else f"{type(problem).__name__}: {problem}"
            self._report("done", now=True, error=told)
            raise

    def _step(self, *, scan: bool) -> bool:
        """Do the most urgent thing; False when there was none."""
        self._heed_settings()
        if notes := self._new_notes():
            self._import(notes)
            return True
        self._take_requests(is_paused=self._home.paused.exists())
        if self._home.paused.exists():
            return False
        if scan and time.monotonic() >= self._plan.rescan_at:
            self._plan.rescan_at = time.monotonic() + (RESCAN_s if self._stay else float("inf"))
            self._queue(self._all_sources())
        if self._plan.files:
            self._import(self._next_batch())
            if not self._plan.files:
                self._resettle()
            return True
        if self._plan.upkeep_due or self._rooms.store.upkeep_due():
            self._upkeep()
            return True
        return self._embed()

    def _heed_settings(self) -> None:
        """Obey settings that were changed meanwhile, exclusions above all. Ones that cannot be read change nothing."""
        now = _stamp(self._home.config)
        if now == self._settings_stamp:
            return
        self._settings_stamp = now
        try:
            self._settings = config.load(self._home.config, self._env)
        except ConfigError as problem:
            _log.warning("the settings are left as they were: %s", problem)
            return
        self._rooms = replace(self._rooms, exclusion=Exclusion.of(self._settings.sessions))
        self._embedder = None
        self._plan.look_for_model_at = self._plan.rescan_at = 0.0

    def _new_notes(self) -> list[SourceFile]:
        """Notes that were written since the last look. A note is somebody's wish to be remembered, even during a pause."""
        seen = tuple(
            sorted((str(p), s.st_size, s.st_mtime_ns) for p in self._home.notes.glob("*.jsonl") if (s := _stat(p)))
        )
        if seen == self._notes_seen:
            return []
        self._notes_seen = seen
        found = (SourceFile("notes", Path(path), size, mtime_ns) for path, size, mtime_ns in seen)
        return [source for source in found if not self._is_done(source)]

    def _take_requests(self, *, is_paused: bool) -> None:
        """Do or queue what other processes handed over since the last look; a pause only keeps sessions from being read."""
        for request in sorted(self._home.handover.glob("*.json")):
            wish = surroundings.requested(request)
            if wish.threads:
                self._cut_anew(wish.threads)
            elif is_paused:
                continue
            elif wish.paths:
                self._queue(sources.named(wish.paths), first=True)
            else:
                self._queue(self._all_sources())
            if not self._stop.is_set():
                request.unlink(missing_ok=True)

    def _queue(self, found: Iterable[SourceFile | Unreadable], *, first: bool = False) -> None:
        waiting = {source.name for source in self._plan.files}
        unreadable = [item for item in found if isinstance(item, Unreadable)]
        fresh = [
            item
            for item in found
            if isinstance(item, SourceFile) and item.name not in waiting and not self._is_done(item)
        ]
        if unreadable:
            with self._rooms.ledger.transaction():
                for item in unreadable:
                    self._rooms.ledger.clear_unreadable(Path(item.path))
                    self._rooms.ledger.record_unreadable(item.path, item.line, item.problem)
        self._plan.files = deque([*fresh, *self._plan.files] if first else [*self._plan.files, *fresh])
        self._progress = replace(
            self._progress,
            files_total=self._progress.files_total + len(fresh),
            bytes_total=self._progress.bytes_total + sum(item.size for item in fresh),
            unreadable=self._progress.unreadable + len(unreadable),
        )

    def _all_sources(self) -> list[SourceFile | Unreadable]:
        projects = [Path(folder) for folder in self._rooms.ledger.known_roots()]
        return sources.find(self._env, self._settings.sessions, self._home.notes, projects)

    def _is_done(self, source: SourceFile) -> bool:
        return pipeline.is_unchanged(source, self._rooms.ledger, pipeline.stamp_of(source, self._rooms.exclusion))

    def _next_batch(self) -> list[SourceFile]:
        batch: list[SourceFile] = []
        size = 0
        while (
            self._plan.files
            and len(batch) < BATCH_files
            and (not batch or size + self._plan.files[0].size <= BATCH_bytes)
        ):
            batch.append(self._plan.files.popleft())
            size += batch[-1].size
        return batch

    def _import(self, batch: Sequence[SourceFile]) -> None:
        harvests = []
        for source in batch:
            self._report("importing", current_agent=source.agent)
            found = pipeline.harvest(source, self._rooms)
            harvests.append(found)
            old = self._progress
            num_bytes = SLICE_bytes if found.has_more else source.size % SLICE_bytes or source.size
            self._progress = replace(
                old,
                files_done=min(old.files_done + (not found.has_more), max(old.files_total, 1)),
                bytes_done=min(old.bytes_done + num_bytes, max(old.bytes_total, source.size)),
                unreadable=old.unreadable + len(found.unreadable),
            )
            if self._stop.is_set():
                break
        pipeline.keep(harvests, self._rooms)
        self._plan.files.extendleft(found.source for found in reversed(harvests) if found.has_more)
        self._plan.upkeep_due = self._plan.upkeep_due or len(batch) > 1
        self._report("importing", chunks=self._rooms.store.count())

    def _resettle(self) -> None:
        """Cut those threads anew that other rules cut, or whose project is known better by now (a remote was learnt)."""
        outdated = [
            (row.thread.agent, row.thread.thread_id)
            for row in self._rooms.ledger.threads()
            if row.chunker_version != CHUNKER_VERSION or pipeline.project_of(row.thread, self._rooms) != row.project
        ]
        if outdated:
            _log.info("%d threads are cut anew", len(outdated))
            self._cut_anew(outdated)

    def _cut_anew(self, threads: Sequence[tuple[str, str]]) -> None:
        for start in range(0, len(threads), BATCH_files):
            if self._stop.is_set():
                return  # the next process finds what is missing
            if start and (notes := self._new_notes()):
                self._import(notes)
            some = threads[start : start + BATCH_files]
            cuts: list[pipeline.Cut | None] = []
            for agent, thread_id in some:
                try:
                    cuts.append(pipeline.cut_anew(agent, thread_id, self._rooms))
                except ArchiveError as problem:
                    _log.warning("%s", problem)
                    self._rooms.ledger.record_unreadable(self._rooms.archive.path(agent, thread_id), 0, str(problem))
            pipeline.store_cuts([cut for cut in cuts if cut is not None], self._rooms)
            self._plan.upkeep_due = True
            self._report("importing", chunks=self._rooms.store.count())

    def _embed(self) -> bool:
        """Give the newest chunks without vectors theirs; False when there are none or no model is set up."""
        store = self._rooms.store
        chunks = store.unembedded(EMBED_SLICE)
        if not chunks:
            return False
        is_due = time.monotonic() >= self._plan.look_for_model_at
        if self._embedder is None or (isinstance(self._embedder, NoEmbedder) and is_due):
            self._plan.look_for_model_at = time.monotonic() + RESCAN_s
            self._embedder = self._open_model()
        if isinstance(self._embedder, NoEmbedder):
            self._report("watching", to_embed=store.num_unembedded())
            return False
        vectors = self._embedder.embed([embedding_text(chunk) for chunk in chunks])
        store.add_vectors([(chunk.id, 0, vector) for chunk, vector in zip(chunks, vectors, strict=True)])
        to_embed = store.num_unembedded()
        num_chunks = store.count()
        self._plan.upkeep_due = to_embed == 0
        self._report("embedding", chunks=num_chunks, embedded=num_chunks - to_embed, to_embed=to_embed)
        return True

    def _open_model(self) -> embedding.Embedder | NoEmbedder:
        threads = self._settings.embedder.num_threads or os.cpu_count() or 1
        model = embedding.load(self._home, self._settings.embedder, num_threads=threads)
        if not isinstance(model, NoEmbedder):
            try:
                self._rooms.store.set_embedder(model.name, model.version, model.dim)
            except MixedEmbeddings as problem:  # the user has to choose; reading goes on meanwhile
                _log.warning("%s", problem)
                return NoEmbedder("the stored vectors were made by another model", str(problem))
        return model

    def _mend(self) -> None:
        """Complete what was interrupted, and redo what an upgrade made outdated."""
        self._rooms.archive.sweep()
        finished = forgetting.finish(
            self._rooms.store,
            self._rooms.archive,
            self._rooms.ledger,
            notes=self._home.notes,
            logs=self._home.logs,
        )
        for problem in finished.damaged if finished is not None else ():
            _log.warning("what was to be forgotten may still be there: %s", problem)
        self._restore()
        self._resettle()

    def _restore(self) -> None:
        """Make anew what somebody took away: store or ledger from the archive, an archived session from the agent's file."""
        rooms = self._rooms
        for complaint in rooms.ledger.unreadable():
            if Path(complaint.path).is_relative_to(self._home.archive):
                rooms.ledger.clear_unreadable(complaint.path)
        rows = rooms.ledger.threads()
        held = rooms.store.threads()
        # One whose chunks are undated is not told from one that has none, but for a store that is empty.
        may_have_chunks = [row.thread for row in rows if row.last_ms or not held]
        lost = [thread for thread in may_have_chunks if (thread.agent, thread.thread_id) not in held]
        if not rows:  # damaged files are the user's to take away
            lost = [thread for _, thread in rooms.archive.threads(damaged=[])]
        self._cut_anew([(thread.agent, thread.thread_id) for thread in lost])
        gone = [row.thread for row in rows if row.num_events and not rooms.archive.holds(row.thread)]
        for agent in {thread.agent for thread in gone}:
            rooms.ledger.forget_sources(agent, [thread.thread_id for thread in gone if thread.agent == agent])

    def _upkeep(self) -> None:
        self._plan.upkeep_due = False
        self._rooms.store.optimize()

    def _lend(self, lock: FileLock) -> None:
        """Let somebody else write for a while (forgetting does), then look at the store with fresh eyes."""
        self._report("importing" if self._plan.files else "watching", now=True)
        self._rooms.ledger.close()
        lock.release()
        while children.is_lock_wanted(self._home) and not self._stop.is_set():
            self._stop.wait(0.1)
        lock.acquire()
        self._rooms = self._open()
        self._mend()  # a forgetting that died while it had the lock
        self._heed_settings()
        self._embedder = None
        self._plan.look_for_model_at = 0.0
        self._notes_seen = ()

    def _open(self) -> Rooms:
        return Rooms(
            archive=Archive(self._home.archive, keeps_recent=True),
            store=ChunkStore.open(self._home.store, create=True),
            ledger=Ledger.open(self._home.ledger),
            exclusion=Exclusion.of(self._settings.sessions),
        )

    def _report(
        self,
        phase: str,
        *,
        now: bool = False,
        chunks: int | None = None,
        embedded: int | None = None,
        to_embed: int | None = None,
        current_agent: str = "",
        error: str = "",
    ) -> None:
        """Write down how far we are, five times a second at most."""
        old = self._progress
        self._progress = replace(
            old,
            phase=phase,
            updated_ms=_now_ms(),
            chunks=old.chunks if chunks is None else chunks,
            embedded=old.embedded if embedded is None else embedded,
            to_embed=old.to_embed if to_embed is None else to_embed,
            current_agent=current_agent,
            error=error,
        )
        if not now and phase == old.phase and time.monotonic() - self._reported_at < 0.2:
            return
        self._reported_at = time.monotonic()
        beside = self._home.progress.with_suffix(".part")
        try:
            beside.write_bytes(orjson.dumps(self._progress))
            beside.replace(self._home.progress)
        except OSError as problem:  # how far we are is a courtesy; the work itself complains where it cannot go on
            _log.warning("progress cannot be written: %s", problem)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes when a file is written; None where there is none."""
    found = _stat(path)
    return None if found is None else (found.st_mtime_ns, found.st_size)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
