"""Notifications of the operating system about session folders. The only file that knows watchdog.

Surprising, and measured: without an event filter watchdog is woken by every file that is opened, also by itself, and after
an overflow of the kernel's queue it never comes to rest on a large tree. Where the kernel's limit of watches is reached, it
watches a part of a tree and says nothing. Both are met here: see `_FILTER`, `on_lost` and `num_watches`.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch

# One filter for all: the kernel keeps one mask for a folder, however many ask for it, and the last one wins.
_FILTER: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    DirCreatedEvent,
    DirMovedEvent,
]
_LEAVE_s = 2.0
_log = logging.getLogger("lmm.ingest")


class Watch:
    """The folders that the system watches for us. `changed(folder, path)` is called from a thread of its own.

    `lost`: notifications were dropped, so all must be looked through.
    """

    def __init__(self, changed: Callable[[Path, str], None], lost: Callable[[], None]) -> None:
        self._changed = changed
        self._observer: BaseObserver | None = None
        self._placed: dict[Path, tuple[ObservedWatch, FileSystemEventHandler]] = {}
        self._complaints = _Complaints(lost)

    def place(self, folder: Path, *, below: bool) -> str:
        """Watch a folder, and with `below` all folders in it; '' or why that cannot be had."""
        self.remove(folder)
        try:
            # A watch on a symbolic link would be one on the link itself.
            place = Path(os.path.realpath(folder))
            handler = _Handler(lambda path: self._changed(folder, _as_named(path, place, folder)))
            watch = self._running().schedule(handler, str(place), recursive=below, event_filter=_FILTER)
            self._placed[folder] = watch, handler
        except OSError as problem:
            return problem.strerror or str(problem)
        except RuntimeError as problem:  # no more threads
            return str(problem)
        return ""

    def remove(self, folder: Path) -> None:
        """Watch a folder no longer; nothing happens where it was not."""
        watch, handler = self._placed.pop(folder, (None, None))
        if watch is None or handler is None or self._observer is None:
            return
        if any(watch == other for other, _ in self._placed.values()):  # the same folder by another name
            self._observer.remove_handler_for_watch(handler, watch)
        else:
            self._observer.unschedule(watch)

    def is_watched(self, folder: Path) -> bool:
        """Whether it is still watched: the watch on a folder ends with it."""
        watch, _ = self._placed.get(folder, (None, None))
        if watch is None or self._observer is None:
            return False
        return any(emitter.watch == watch and emitter.is_alive() for emitter in self._observer.emitters)

    def close(self) -> None:
        """Watch nothing any more."""
        logging.getLogger(_WATCHDOG).removeHandler(self._complaints)
        self._placed.clear()
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(_LEAVE_s)
            self._observer = None

    def _running(self) -> BaseObserver:
        if self._observer is None:
            logging.getLogger(_WATCHDOG).addHandler(self._complaints)
            self._observer = Observer()
            self._observer.start()
        return self._observer


def num_watches() -> int | None:
    """How many folders the kernel watches for this process; None where that cannot be told (only Linux tells)."""
    count = 0
    try:
        for descriptor in os.scandir("/proc/self/fd"):
            try:
                if not os.readlink(descriptor.path).endswith("inotify"):  # noqa: PTH115 - no file
                    continue
                told = Path("/proc/self/fdinfo", descriptor.name).read_text(encoding="ascii")
            except OSError:  # closed meanwhile
                continue
            count += sum(line.startswith("inotify ") for line in told.splitlines())
    except OSError:
        return None
    return count


_WATCHDOG = "watchdog.observers"


class _Handler(FileSystemEventHandler):
    def __init__(self, changed: Callable[[str], None]) -> None:
        self._told = changed

    def dispatch(self, event: FileSystemEvent) -> None:
        """Whatever happened, it is the path that counts: of what was moved, where it lies now."""
        self._told(os.fsdecode(event.dest_path or event.src_path))


class _Complaints(logging.Handler):
    """Listens to watchdog's log: a dropped notification is said there and nowhere else."""

    def __init__(self, lost: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._lost = lost

    def emit(self, record: logging.LogRecord) -> None:  # noqa: ARG002 - whatever it is
        """A warning of watchdog means that it cannot tell everything."""
        self._lost()


def _as_named(path: str, place: Path, folder: Path) -> str:
    """The path as the user knows it, where the folder was reached by a symbolic link."""
    if place == folder:
        return path
    inside = path.removeprefix(str(place))
    return f"{folder}{inside}"
