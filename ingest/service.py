"""The ingest process: the only writer of the store. Takes the write lock, or hands its paths to the process that has it.

One loop decides what is most urgent: notes and handed-over paths (a remembered note must be recallable within two
seconds, even in the middle of a bulk import), then session files, newest first, then embeddings, then upkeep, then what is
derived of sessions, then rest. It ends when its standard input closes (its parent is gone), when told to, or, with `--once`,
when nothing is left to do; deriving is left to who stays then, unless somebody asked for it (`--derive`).
"""

import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from ingest import mending, pipeline, reading, sources, surroundings, trial
from ingest.changes import Changes
from ingest.deriving import Deriving
from ingest.limits import Watch
from ingest.pipeline import Harvest, Rooms
from ingest.plan import BATCH_files, Plan, Rescan
from ingest.readers.base import SLICE_bytes
from ingest.report import Report
from ingest.session import Reader, SourceFile, Unreadable
from ingest.suspects import Suspects, installed_version
from ingest.vectors import Vectors
from lmm_mcp import children, config
from lmm_mcp.config import Settings
from lmm_mcp.errors import ConfigError, LmmError, StoreError
from lmm_mcp.exclusion import Exclusion
from lmm_mcp.limits import TOO_MUCH_MEMORY_code
from lmm_mcp.paths import Home
from lmm_mcp.refusal import exit_code_of, explained, refusal_behind
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.chunks import ChunkStore
from lmm_mcp.store.ledger import Ledger

TICK_s = 0.5
"""How often it is looked whether somebody wants the lock, has us stop or pause, or changed the settings."""
RESCAN_s = 30.0
"""How often all session folders are looked through for files that grew."""
_INTERRUPTED = "what sessions say was not derived to the end, since the process was told to stop. Ask again: it goes on from there."
_log = logging.getLogger("lmm.ingest")


def run(
    home: Home,
    env: Mapping[str, str],
    settings: Settings,
    paths: Sequence[Path],
    *,
    stay: bool,
    derives: bool = False,
) -> int:
    """Do the work of one ingest process; its exit code. Paths are handed over where another process holds the lock.

    `derives`: read no sessions, but derive all that is due; where another process holds the lock it is asked for that.
    """
    lock = FileLock(home.write_lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        children.hand_over(home, paths, derive=derives)
        _log.info("another process holds the write lock: %d paths handed over", len(paths))
        return 0
    service = Service(home, env, settings, stay=stay, derives=derives)
    try:
        return service.run(paths, lock)
    finally:
        lock.release()


class Service:
    """One ingest process at work. It lives as long as it holds the lock."""

    def __init__(
        self, home: Home, env: Mapping[str, str], settings: Settings, *, stay: bool, derives: bool = False
    ) -> None:
        self._home, self._env, self._settings, self._stay = home, env, settings, stay
        self._derives = derives
        self._has_derived = False
        self._plan, self._rescan = Plan(), Rescan()
        self._stop, self._bell = threading.Event(), threading.Event()
        self._changes: Changes | None = None
        self._rescan_at = 0.0
        self._upkeep_due = self._has_written = False
        self._told: set[str] = set()
        """Paths of what could not be read, as far as it was said."""
        self._report = Report(home)
        self._watch = Watch(home)
        self._suspects = Suspects(home.write_lock.parent, installed_version())
        self._vectors = Vectors(home, self._report)
        self._deriving = Deriving(home.facts)
        self._settings_stamp = _stamp(home.config)
        self._notes_seen: tuple[tuple[str, int, int], ...] = ()
        self._rooms = self._open()

    def run(self, paths: Sequence[Path], lock: FileLock) -> int:
        """Work until nothing is left (`--once`), or until told to stop."""
        surroundings.watch_parent(self._stop, self._bell)
        children.forget_stop(self._home)
        try:
            if self._suspects.begin():
                _log.warning(
                    "the last ingest process ended while it read a file: that one is read last, on trial first"
                )
            self._mend()
            self._roots()
            if paths:
                self._queue(sources.named(paths))
            if self._stay:
                self._changes = Changes(self._bell, own=(self._home.notes, self._home.handover))
            while not self._is_to_stop():
                if children.is_lock_wanted(self._home):
                    self._lend(lock)
                if self._step(scan=self._stay or not (paths or self._derives)):
                    if self._watch.is_memory_short(self._settings.limits, self._rooms):
                        return self._leave_for_memory()
                else:
                    if not self._stay:
                        break
                    if self._changes is not None:
                        self._report.unwatched(self._changes.problem())
                    self._report.say("watching")
                    self._rest()
            if notes := self._new_notes():  # left in the very last moment, by an agent that is leaving
                self._import(notes)
            self._rooms.store.keep_up(leaving=True)
            is_undone = bool(self._plan) or (self._derives and not self._has_derived)
            if why := self._watch.alarm(self._settings.limits) if not self._stay and is_undone else "":
                self._report.say("done", now=True, error=why)
                return 1
            if self._derives and not self._has_derived:
                self._report.say("done", now=True, error=_INTERRUPTED)
                return 1
            # Who was told to stop in the middle must not seem to have done it all.
            self._report.say("importing" if self._plan else "done", now=True)
            return 0
        except OSError as problem:
            refused = refusal_behind(problem)
            told = (
                explained(refused, self._home.root)
                or f"{problem.strerror or problem}: {problem.filename or self._home.root}"
            )
            self._report.say("done", now=True, error=told)
            _log.error("stopped: %s", problem)
            return exit_code_of(refused)
        except Exception as problem:
            told = str(problem) if isinstance(problem, LmmError) else f"{type(problem).__name__}: {problem}"
            self._report.say("done", now=True, error=told)
            raise
        finally:
            self._deriving.close()
            self._suspects.end()
            if self._changes is not None:
                self._changes.close()

    def _is_to_stop(self) -> bool:
        if not self._stop.is_set() and children.is_stop_wanted(self._home):
            children.forget_stop(self._home)
            self._stop.set()
        return self._stop.is_set()

    def _rest(self) -> None:
        """Do nothing until something changed, and never for long."""
        # What changes during a pause is not taken, so it would be due all the time.
        changes = None if self._home.paused.exists() else self._changes
        self._bell.wait(TICK_s if changes is None else changes.wait_s(TICK_s))
        self._bell.clear()

    def _step(self, *, scan: bool) -> bool:
        """Do the most urgent thing; False when there was none."""
        self._heed_settings()
        full = self._watch.alarm(self._settings.limits)
        self._report.blocked(full)
        if self._watch.has_room_for_notes(self._settings.limits) and (notes := self._new_notes()):
            self._import(notes)
            return True
        self._take_requests(is_paused=self._home.paused.exists())
        if self._home.paused.exists():
            return self._derive()  # of what is archived already
        if self._changes is not None:
            self._queue_changes(self._changes)
        if scan and time.monotonic() >= self._rescan_at:
            self._look_through()
            self._rescan_at = self._rescan.next_s(RESCAN_s) if self._stay else float("inf")
        if self._plan and not full:
            is_urgent = bool(self._plan.urgent)
            self._import(self._plan.next_batch(), urgent=is_urgent)
            self._rooms.store.keep_up(busy=True)
            if not self._plan and not is_urgent:
                self._resettle()
            return True
        if self._has_written and not self._upkeep_due:
            self._has_written, self._upkeep_due = False, self._rooms.store.upkeep_due()
        if self._upkeep_due:
            self._upkeep()
            return True
        if full:
            return False
        to_embed = self._vectors.add(self._rooms.store, self._settings.embedder)
        self._has_written = self._has_written or to_embed is not None
        if to_embed == 0:
            self._upkeep_due = True
        return to_embed is not None or self._derive()

    def _derive(self) -> bool:
        """Go on deriving for a moment; False where nothing is due, or this process has not come for that."""
        if not (self._stay or self._derives or self._deriving.is_asked_for):
            return False
        repositories = self._settings.lessons.repositories
        try:
            is_at_it = self._deriving.step(self._rooms, repositories=repositories, is_hurried=self._derives)
        except StoreError as problem:
            if self._derives or self._deriving.is_asked_for:
                raise
            _log.warning("what sessions say is derived later: %s", problem)  # reading must go on
            self._deriving.rest()
            return False
        if is_at_it:
            self._report.say("watching")
        self._has_derived = not is_at_it
        return is_at_it

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
        self._vectors.forget_model()
        self._deriving.expect()
        self._watch.forget()
        self._rescan_at = 0.0
        self._rescan.forget()

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
            if wish.derives:
                self._deriving.hurry(request)  # which removes it when all is derived
                continue
            if wish.threads:
                self._cut_anew(wish.threads)
            elif is_paused:
                continue
            elif wish.paths:
                self._queue(sources.named(wish.paths), first=True)
            else:
                self._look_through()
            if not self._stop.is_set():
                request.unlink(missing_ok=True)

    def _queue_changes(self, changes: Changes) -> None:
        """Let the sessions that changed go before all others; look through all folders where that cannot be known."""
        if changes.must_rescan:
            changes.must_rescan = False
            self._rescan_at = min(self._rescan_at, self._rescan.soonest_s())
        for reader, path in changes.take():
            started = time.monotonic()
            found = sources.listed(reader, path) if path.exists() else []  # it may have been moved away meanwhile
            self._queue(found, urgent=True)
            changes.rest(path, time.monotonic() - started)

    def _look_through(self) -> None:
        self._has_written = True  # old versions of the store become due with time
        roots = self._roots()
        if self._changes is not None:
            self._changes.follow(roots)  # first, so that what is written meanwhile is told
        todo, present = self._rescan.look(roots, self._is_done)
        if self._changes is not None:
            self._changes.renew(present)
        self._clear_complaints_of_gone(roots, {item.path for item in todo if isinstance(item, Unreadable)})
        self._queue(todo)

    def _clear_complaints_of_gone(self, roots: Sequence[tuple[Reader, Path]], refused: set[str]) -> None:
        """Complain no more of files that are gone from folders that could be looked through."""
        if not (named := {row.path for row in self._rooms.ledger.unreadable()} - refused):
            return
        listed = {root for _, root in roots if str(root) not in refused and root.is_dir()}
        for name in named:
            if not listed.isdisjoint(Path(name).parents) and _is_gone(name) and _is_gone(name.partition("#")[0]):
                self._rooms.ledger.clear_unreadable(name)

    def _roots(self) -> list[tuple[Reader, Path]]:
        """Where sessions may lie. Readers hear of each other's places by this, also where single files are named."""
        projects = [Path(folder) for folder in self._rooms.ledger.known_roots()]
        return list(sources.roots(self._env, self._settings.sessions, self._home.notes, projects))

    def _queue(self, found: Sequence[SourceFile | Unreadable], *, first: bool = False, urgent: bool = False) -> None:
        unreadable = [item for item in found if isinstance(item, Unreadable)]
        todo = [item for item in found if isinstance(item, SourceFile) and not self._is_done(item, doubt=urgent)]
        todo = sorted(self._without_aside(todo), key=self._suspects.is_suspect)  # those last
        fresh = self._plan.add_urgent(todo) if urgent else self._plan.add(todo, first=first)
        if unreadable:
            with self._rooms.ledger.transaction():
                for item in unreadable:
                    self._rooms.ledger.clear_unreadable(Path(item.path))
                    self._rooms.ledger.record_unreadable(item.path, item.line, item.problem)
        news = {item.path for item in unreadable} - self._told
        self._told |= news
        self._report.planned(fresh)
        self._report.unreadable(len(news))

    def _is_done(self, source: SourceFile, doubt: bool = False) -> bool:
        """Whether all of it was read. `doubt`: it was written since, whatever its size and time say."""
        ledger = self._rooms.ledger
        stamp = pipeline.stamp_of(source, self._rooms.exclusion)
        return pipeline.is_unchanged(source, ledger, stamp) and not (doubt and reading.was_rewritten(source, ledger))

    def _import(self, batch: Sequence[SourceFile], *, urgent: bool = False) -> None:
        harvests = []
        for source in batch:
            self._report.say("importing", current_agent=source.agent)
            started = time.monotonic()
            found = self._harvest(source)
            harvests.append(found)
            if self._changes is not None and urgent:
                self._changes.rest(source.path, time.monotonic() - started)
            num_bytes = SLICE_bytes if found.has_more else source.size % SLICE_bytes or source.size
            self._report.read(source, num_bytes, is_whole=not found.has_more)
            self._report.unreadable(len(found.unreadable))
            if found.num_observers:
                self._report.observers(found.num_observers)
                _log.info("left out, since another memory tool held it: a session in %s", source.path.name)
            if self._is_to_stop():
                break
        pipeline.keep(harvests, self._rooms)
        self._deriving.expect()
        self._plan.put_back([found.source for found in harvests if found.has_more], urgent=urgent)
        self._vectors.expect()
        self._has_written = True
        self._upkeep_due = self._upkeep_due or (len(batch) > 1 and not urgent)
        self._report.say("importing", chunks=self._rooms.store.count())

    def _harvest(self, source: SourceFile) -> Harvest:
        if self._suspects.is_suspect(source):
            rules = pipeline.stamp_of(source, self._rooms.exclusion)
            ended = trial.ended(source)
            self._suspects.tried(source, rules, passed=not ended)
            if ended:
                _log.error("a session file ended the process that read it on trial (%s): %s", ended, source.path.name)
                why = self._suspects.why_aside(source, rules, is_patient=self._stay)
                return pipeline.left_aside(source, f"{why} ({ended})", self._rooms)
        with self._suspects.reading(source):
            return pipeline.harvest(source, self._rooms)

    def _without_aside(self, found: Sequence[SourceFile]) -> list[SourceFile]:
        """Those that may be opened; of the others it is said why not."""
        rest, aside = [], []
        for source in found:
            rules = pipeline.stamp_of(source, self._rooms.exclusion)
            if why := self._suspects.why_aside(source, rules, is_patient=self._stay):
                aside.append((source, why))
            else:
                rest.append(source)
        news = [pipeline.left_aside(source, why, self._rooms) for source, why in aside if source.name not in self._told]
        if news:
            self._told |= {harvest.source.name for harvest in news}
            pipeline.keep(news, self._rooms)
        return rest

    def _cut_anew(self, threads: Sequence[mending.Key]) -> None:
        for start in range(0, len(threads), BATCH_files):
            if self._is_to_stop():
                return  # the next process finds what is missing
            if start and (notes := self._new_notes()):
                self._import(notes)
            mending.cut_anew(threads[start : start + BATCH_files], self._rooms)
            self._vectors.expect()
            self._deriving.expect()
            self._upkeep_due = True
            self._report.say("importing", chunks=self._rooms.store.count())

    def _resettle(self) -> None:
        """Cut anew what rules or projects that are others by now cut."""
        if outdated := mending.outdated(self._rooms):
            _log.info("%d threads are cut anew", len(outdated))
            self._cut_anew(outdated)

    def _mend(self) -> None:
        mending.finish(self._home, self._rooms)
        self._cut_anew(mending.lost(self._home, self._rooms))
        self._resettle()

    def _upkeep(self) -> None:
        self._upkeep_due = False
        self._rooms.store.keep_up(leaving=True)

    def _leave_for_memory(self) -> int:
        """Leave, to be started anew by whoever started us, with what is left to read as a request to the next."""
        if self._plan:
            children.hand_over(self._home, [source.path for source in (*self._plan.urgent, *self._plan.files)])
        self._report.say("importing", now=True)
        return TOO_MUCH_MEMORY_code

    def _lend(self, lock: FileLock) -> None:
        """Let somebody else write for a while (forgetting does), then look at the store with fresh eyes."""
        self._report.say("importing" if self._plan else "watching", now=True)
        self._rooms.ledger.close()
        self._deriving.close()
        lock.release()
        while children.is_lock_wanted(self._home) and not self._is_to_stop():
            self._stop.wait(0.1)
        lock.acquire()
        self._rooms = self._open()
        self._mend()  # a forgetting that died while it had the lock
        self._heed_settings()
        self._vectors.forget_model()
        self._notes_seen = ()
        self._watch.forget()
        self._rescan.forget()

    def _open(self) -> Rooms:
        return Rooms(
            archive=Archive(self._home.archive, keeps_recent=True),
            store=ChunkStore.open(self._home.store, create=True),
            ledger=Ledger.open(self._home.ledger),
            exclusion=Exclusion.of(self._settings.sessions),
        )


def _is_gone(path: str) -> bool:
    try:
        os.stat(path)  # noqa: PTH116 - what `Path.exists` says of a folder that may not be entered depends on Python
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes when a file is written; None where there is none."""
    found = _stat(path)
    return None if found is None else (found.st_mtime_ns, found.st_size)
