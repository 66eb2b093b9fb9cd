"""Finds what is to be read, and puts it into the plan: new notes, sessions that changed, files that were named, all folders.

In come folders, notifications and paths; out go files in `Finder.plan`, and what cannot be read into the ledger and the
report. Nothing is opened that was read to its end by the same rules, nor what is left aside because it may end the process.
"""

import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ingest import pipeline, reading, sources
from ingest.changes import Changes
from ingest.pipeline import Rooms
from ingest.plan import Plan, Rescan
from ingest.report import Report
from ingest.session import Reader, SourceFile, Unreadable
from ingest.suspects import Suspects
from lmm_mcp.config import Sessions
from lmm_mcp.paths import Home

RESCAN_s = 30.0
"""How often all session folders are looked through for files that grew."""


class Finder:
    """See the module. `stays`: the process stays, so there are further looks, and another time for what is left aside."""

    def __init__(self, home: Home, env: Mapping[str, str], suspects: Suspects, report: Report, *, stays: bool) -> None:
        self._home, self._env, self._suspects, self._report, self._stays = home, env, suspects, report, stays
        self.plan = Plan()
        self.changes: Changes | None = None
        """What is followed; None until `follow`."""
        self._rescan = Rescan()
        self._look_at = 0.0
        self._notes_seen: tuple[tuple[str, int, int], ...] = ()
        self._told: set[str] = set()
        """Paths of what could not be read, as far as it was said."""

    def follow(self, bell: threading.Event) -> None:
        """Follow sessions from the next look on, until `close`."""
        self.changes = Changes(bell, own=(self._home.notes, self._home.handover))

    def close(self) -> None:
        """Follow nothing any more."""
        if self.changes is not None:
            self.changes.close()

    def forget(self) -> None:
        """Somebody else wrote: look into every session file and note again."""
        self._rescan.forget()
        self._notes_seen = ()

    def begin_anew(self) -> None:
        """Other rules hold: look into every session file again, at once."""
        self._rescan.forget()
        self._look_at = 0.0

    def new_notes(self, rooms: Rooms) -> list[SourceFile]:
        """Notes that were written since the last look. A note is somebody's wish to be remembered, even during a pause."""
        seen = tuple(sorted(_stamps(self._home.notes.glob("*.jsonl"))))
        if seen == self._notes_seen:
            return []
        self._notes_seen = seen
        found = (SourceFile("notes", Path(path), size, mtime_ns) for path, size, mtime_ns in seen)
        return [source for source in found if not _is_done(source, rooms)]

    def add_named(self, paths: Iterable[Path], rooms: Rooms, *, first: bool = False) -> None:
        """Plan the session files at and below these paths, before all patient ones or behind them."""
        self._add(sources.named(paths), rooms, first=first)

    def add_changed(self, rooms: Rooms) -> None:
        """Let the sessions that changed go before all others; look through all folders where that cannot be known."""
        if self.changes is None:
            return
        if self.changes.must_rescan:
            self.changes.must_rescan = False
            self._look_at = min(self._look_at, self._rescan.soonest_s())
        for reader, path in self.changes.take():
            started = time.monotonic()
            found = sources.listed(reader, path) if path.exists() else []  # it may have been moved away meanwhile
            self._add(found, rooms, urgent=True)
            self.changes.rest(path, time.monotonic() - started)

    def look_if_due(self, rooms: Rooms, settings: Sessions) -> bool:
        """Look through all folders when it is time; whether it was."""
        if time.monotonic() < self._look_at:
            return False
        self.look(rooms, settings)
        self._look_at = self._rescan.next_s(RESCAN_s) if self._stays else float("inf")
        return True

    def look(self, rooms: Rooms, settings: Sessions) -> None:
        """Look through all folders."""
        roots = self.roots(rooms, settings)
        if self.changes is not None:
            self.changes.follow(roots)  # first, so that what is written meanwhile is told
        todo, present = self._rescan.look(roots, lambda source, doubt: _is_done(source, rooms, doubt=doubt))
        if self.changes is not None:
            self.changes.renew(present)
        _clear_complaints_of_gone(roots, {item.path for item in todo if isinstance(item, Unreadable)}, rooms)
        self._add(todo, rooms)

    def roots(self, rooms: Rooms, settings: Sessions) -> list[tuple[Reader, Path]]:
        """Where sessions may lie. Readers hear of each other's places by this, also where single files are named."""
        projects = [Path(folder) for folder in rooms.ledger.known_roots()]
        return list(sources.roots(self._env, settings, self._home.notes, projects))

    def _add(
        self, found: Sequence[SourceFile | Unreadable], rooms: Rooms, *, first: bool = False, urgent: bool = False
    ) -> None:
        unreadable = [item for item in found if isinstance(item, Unreadable)]
        todo = [item for item in found if isinstance(item, SourceFile) and not _is_done(item, rooms, doubt=urgent)]
        todo = sorted(self._without_aside(todo, rooms), key=self._suspects.is_suspect)  # those last
        fresh = self.plan.add_urgent(todo) if urgent else self.plan.add(todo, first=first)
        if unreadable:
            with rooms.ledger.transaction():
                for item in unreadable:
                    rooms.ledger.clear_unreadable(Path(item.path))
                    rooms.ledger.record_unreadable(item.path, item.line, item.problem)
        news = {item.path for item in unreadable} - self._told
        self._told |= news
        self._report.planned(fresh)
        self._report.unreadable(len(news))

    def _without_aside(self, found: Sequence[SourceFile], rooms: Rooms) -> list[SourceFile]:
        """Those that may be opened; of the others it is said why not."""
        rest, aside = [], []
        for source in found:
            rules = pipeline.stamp_of(source, rooms.exclusion)
            if why := self._suspects.why_aside(source, rules, is_patient=self._stays):
                aside.append((source, why))
            else:
                rest.append(source)
        news = [pipeline.left_aside(source, why, rooms) for source, why in aside if source.name not in self._told]
        if news:
            self._told |= {harvest.source.name for harvest in news}
            pipeline.keep(news, rooms)
        return rest


def _is_done(source: SourceFile, rooms: Rooms, *, doubt: bool = False) -> bool:
    """Whether all of it was read. `doubt`: it was written since, whatever its size and time say."""
    stamp = pipeline.stamp_of(source, rooms.exclusion)
    is_unchanged = pipeline.is_unchanged(source, rooms.ledger, stamp)
    return is_unchanged and not (doubt and reading.was_rewritten(source, rooms.ledger))


def _clear_complaints_of_gone(roots: Sequence[tuple[Reader, Path]], refused: set[str], rooms: Rooms) -> None:
    """Complain no more of files that are gone from folders that could be looked through."""
    if not (named := {row.path for row in rooms.ledger.unreadable()} - refused):
        return
    listed = {root for _, root in roots if str(root) not in refused and root.is_dir()}
    for name in named:
        if not listed.isdisjoint(Path(name).parents) and _is_gone(name) and _is_gone(name.partition("#")[0]):
            rooms.ledger.clear_unreadable(name)


def _is_gone(path: str) -> bool:
    try:
        os.stat(path)  # noqa: PTH116 - what `Path.exists` says of a folder that may not be entered depends on Python
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def _stamps(paths: Iterable[Path]) -> Iterable[tuple[str, int, int]]:
    """Path, size and time of those that are still there."""
    for path in paths:
        try:
            found = path.stat()
        except OSError:
            continue
        yield str(path), found.st_size, found.st_mtime_ns
