"""The ingest process: the only writer of the store. Takes the write lock, or hands its paths to the process that has it.

One loop decides what is most urgent: notes and handed-over paths (a remembered note must be recallable within two
seconds, even in the middle of a bulk import), then session files, newest first, then embeddings, then upkeep, then what is
derived of sessions, then rest. It ends when its standard input closes (its parent is gone), when told to, or, with `--once`,
when nothing is left to do; deriving is left to who stays then, unless somebody asked for it (`--derive`).
"""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from ingest import mending, pipeline, surroundings, trial
from ingest.deriving import Deriving
from ingest.finding import Finder
from ingest.limits import Watch
from ingest.pipeline import Harvest, Rooms
from ingest.plan import BATCH_files
from ingest.readers.base import SLICE_bytes
from ingest.report import Report
from ingest.session import SourceFile
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
        self._stop, self._bell = threading.Event(), threading.Event()
        self._upkeep_due = self._has_written = False
        self._report = Report(home)
        self._watch = Watch(home)
        self._suspects = Suspects(home.write_lock.parent, installed_version())
        self._finder = Finder(home, env, self._suspects, self._report, stays=stay)
        self._plan = self._finder.plan
        self._vectors = Vectors(home, self._report)
        self._deriving = Deriving(home.facts)
        self._settings_stamp = config.stamp(home.config)
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
            self._finder.roots(self._rooms, self._settings.sessions)
            if paths:
                self._finder.add_named(paths, self._rooms)
            if self._stay:
                self._finder.follow(self._bell)
            while not self._is_to_stop():
                if children.is_lock_wanted(self._home):
                    self._lend(lock)
                if self._step(scan=self._stay or not (paths or self._derives)):
                    if self._watch.is_memory_short(self._settings.limits, self._rooms):
                        return self._leave_for_memory()
                else:
                    if not self._stay:
                        break
                    if self._finder.changes is not None:
                        self._report.unwatched(self._finder.changes.problem())
                    self._report.say("watching")
                    self._rest()
            # Some are left in the very last moment, by an agent that is leaving.
            if notes := self._finder.new_notes(self._rooms):
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
            self._finder.close()

    def _is_to_stop(self) -> bool:
        if not self._stop.is_set() and children.is_stop_wanted(self._home):
            children.forget_stop(self._home)
            self._stop.set()
        return self._stop.is_set()

    def _rest(self) -> None:
        """Do nothing until something changed, and never for long."""
        # What changes during a pause is not taken, so it would be due all the time.
        changes = None if self._home.paused.exists() else self._finder.changes
        self._bell.wait(TICK_s if changes is None else changes.wait_s(TICK_s))
        self._bell.clear()

    def _step(self, *, scan: bool) -> bool:
        """Do the most urgent thing; False when there was none."""
        self._heed_settings()
        full = self._watch.alarm(self._settings.limits)
        self._report.blocked(full)
        if self._watch.has_room_for_notes(self._settings.limits) and (notes := self._finder.new_notes(self._rooms)):
            self._import(notes)
            return True
        self._take_requests(is_paused=self._home.paused.exists())
        if self._home.paused.exists():
            return self._derive()  # of what is archived already
        self._finder.add_changed(self._rooms)
        if scan and self._finder.look_if_due(self._rooms, self._settings.sessions):
            self._has_written = True  # old versions of the store become due with time
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
        now = config.stamp(self._home.config)
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
        self._finder.begin_anew()

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
                self._finder.add_named(wish.paths, self._rooms, first=True)
            else:
                self._finder.look(self._rooms, self._settings.sessions)
                self._has_written = True
            if not self._stop.is_set():
                request.unlink(missing_ok=True)

    def _import(self, batch: Sequence[SourceFile], *, urgent: bool = False) -> None:
        harvests = []
        for source in batch:
            self._report.say("importing", current_agent=source.agent)
            started = time.monotonic()
            found = self._harvest(source)
            harvests.append(found)
            if self._finder.changes is not None and urgent:
                self._finder.changes.rest(source.path, time.monotonic() - started)
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

    def _cut_anew(self, threads: Sequence[mending.Key]) -> None:
        for start in range(0, len(threads), BATCH_files):
            if self._is_to_stop():
                return  # the next process finds what is missing
            if start and (notes := self._finder.new_notes(self._rooms)):
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
        self._watch.forget()
        self._finder.forget()

    def _open(self) -> Rooms:
        return Rooms(
            archive=Archive(self._home.archive, keeps_recent=True),
            store=ChunkStore.open(self._home.store, create=True),
            ledger=Ledger.open(self._home.ledger),
            exclusion=Exclusion.of(self._settings.sessions),
        )
