"""Which sessions changed: by notifications where the system gives them, by looking where it does not.

Folders of agents come and go: one that is not there is waited for, one that vanished (unmounted, moved, deleted) is watched
again when it is back. What cannot be known for sure (a lost notification, a folder that appeared) ends in `must_rescan`: the
rescan is what holds in the end, and all this only makes it quicker.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ingest.debounce import Debounce
from ingest.mounts import foreign_file_system
from ingest.polling import DATABASES, Poll
from ingest.session import Reader
from ingest.watch import Watch, num_watches

CENSUS_s = 1.0
"""How often it is looked whether a folder came or went."""
CHECK_s = 300.0
"""How often it is looked whether the system really watches every folder."""
REST_times = 5.0
"""A session is left alone for so many times what reading it took, so that following one costs a sixth of a core at most."""
DATABASE_REST_s = 1.0
MAX_FOLDERS = 20_000
"""A tree of more folders is not watched: it is no folder of sessions."""
MAX_WAITING = 10_000
_log = logging.getLogger("lmm.ingest")

Session = tuple[Reader, Path]


@dataclass(slots=True)
class _Place:
    """A folder where sessions may lie."""

    readers: list[Reader]
    identity: tuple[int, int] | None = None
    """Device and inode; None where there is no such folder."""
    is_known: bool = False
    is_watched: bool = False
    problem: str = ""
    """Why the system cannot be asked to watch it; '' also where that is not wanted."""


@dataclass(slots=True)
class Changes:
    """See the module. `bell` is rung when something is to be done; `own`: folders of ours that only ring it."""

    bell: threading.Event
    own: Sequence[Path] = ()
    clock: Callable[[], float] = time.monotonic
    must_rescan: bool = False
    """Something may have changed that we were not told of."""
    _places: dict[Path, _Place] = field(default_factory=dict)
    _raw: Debounce[tuple[Path, str]] = field(default_factory=Debounce)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _held: dict[Session, float] = field(default_factory=dict)
    """Sessions that changed, and when they may be read."""
    _resting: dict[Path, float] = field(default_factory=dict)
    _known: dict[Path, Reader] = field(default_factory=dict)
    _poll: Poll = field(default_factory=Poll)
    _census_s: float = 0.0
    _check_s: float = 0.0
    _partly: str = ""
    """Why only a part of the folders is watched."""
    _watch: Watch = field(init=False)

    def __post_init__(self) -> None:
        self._watch = Watch(self._note, self._note_lost)
        for folder in self.own:
            self._watch.place(folder, below=False)

    def follow(self, roots: Iterable[Session]) -> None:
        """Follow these folders from now on, whether or not they exist, and no others."""
        wanted: dict[Path, list[Reader]] = {}
        for reader, root in roots:
            if root not in self.own:
                wanted.setdefault(root, []).append(reader)
        for root in self._places.keys() - wanted.keys():
            self._watch.remove(root)
            del self._places[root]
        for root, readers in wanted.items():
            self._places.setdefault(root, _Place(readers)).readers = readers
        self._take_census(self.clock(), is_first=True)

    def renew(self, found: Sequence[Session]) -> None:
        """Say which sessions there are, newest first, after a look through all folders."""
        self._known = {path: reader for reader, path in found}
        unwatched = [
            root for root, place in self._places.items() if place.identity and (self._partly or not place.is_watched)
        ]
        named = [root for root in unwatched if root in self._known]  # a session file itself
        folders = [root for root in unwatched if root not in self._known]
        self._poll.renew([*dict.fromkeys((*named, *(path for _, path in found)))], folders)

    def take(self) -> list[Session]:
        """The sessions that changed and have come to rest, each once; they are yours to read now."""
        now_s = self.clock()
        if now_s >= self._census_s:
            self._take_census(now_s)
        for path in self._poll.look(now_s):
            for root in self._roots_of(path):
                self._note(root, str(path))
        with self._lock:
            due = self._raw.take(now_s)
        for root, name in due:
            for session in self._sessions_of(root, Path(name)):
                self._held.setdefault(session, self._resting.get(session[1], 0.0))
        ripe = [session for session, at_s in self._held.items() if at_s <= now_s]
        for session in ripe:
            del self._held[session]
        return ripe

    def rest(self, path: Path, took_s: float) -> None:
        """Say how long it took to look at a session: the longer, the later it may come again."""
        least_s = DATABASE_REST_s if path.name.endswith(DATABASES) else 0.0
        now_s = self.clock()
        self._resting = {each: until_s for each, until_s in self._resting.items() if until_s > now_s}
        self._resting[path] = max(self._resting.get(path, 0.0), now_s + max(least_s, REST_times * took_s))

    def wait_s(self, most_s: float) -> float:
        """How long nothing can be due, if nobody rings the bell."""
        with self._lock:
            next_s = self._raw.next_s()
        times = [self._census_s, self._poll.next_s(), *self._held.values(), *([] if next_s is None else [next_s])]
        return max(0.0, min(most_s, min(times) - self.clock()))

    def problem(self) -> str:
        """Why some changes are seen later than others, in one sentence; '' where all is well."""
        told = [f"{root}: {place.problem}" for root, place in self._places.items() if place.problem]
        told += [self._partly] if self._partly else []
        return "; ".join(told)

    def close(self) -> None:
        """Follow nothing any more."""
        self._watch.close()

    # Within

    def _note(self, root: Path, name: str) -> None:
        if root in self.own:
            self.bell.set()
            return
        with self._lock:
            if len(self._raw) >= MAX_WAITING:
                self._raw.clear()
                self.must_rescan = True
            is_news = self._raw.note((root, name), self.clock())
        if is_news:
            self.bell.set()

    def _note_lost(self) -> None:
        self.must_rescan = True
        self.bell.set()

    def _roots_of(self, path: Path) -> list[Path]:
        return [root for root in (path, *path.parents) if root in self._places]

    def _sessions_of(self, root: Path, path: Path) -> list[Session]:
        place = self._places.get(root)
        found = []
        for reader in place.readers if place is not None else ():
            if self._known.get(path) is reader:
                found.append((reader, path))
                continue
            try:
                session = reader.session_of(root, path)
            except (OSError, ValueError):  # gone, or not below it
                continue
            if session is not None:
                found.append((reader, session))
        return found

    def _take_census(self, now_s: float, *, is_first: bool = False) -> None:
        self._census_s = now_s + CENSUS_s
        is_new = False
        for root, place in self._places.items():
            identity = _identity(root)
            lives = identity is not None and (not place.is_watched or self._watch.is_watched(root))
            if place.is_known and identity == place.identity and (lives or identity is None):
                continue
            if place.is_known and identity is None:
                _log.warning("%s is gone; it is followed again when it is back", root)
            elif place.is_known:
                told = "is there now" if place.identity is None else "is another folder now"
                _log.info("%s %s; it is followed from here on", root, told)
                self.must_rescan = True
            place.is_known, place.identity = True, identity
            self._place(root, place)
            is_new = True
        if is_new or now_s >= self._check_s:
            self._check_s = now_s + CHECK_s
            self._check_watches()
        if is_new and not is_first:
            self.bell.set()

    def _place(self, root: Path, place: _Place) -> None:
        before, place.problem = place.problem, ""
        self._watch.remove(root)
        place.is_watched = False
        if place.identity is None or not root.is_dir():
            return
        if any(reader.lies_in_projects for reader in place.readers):
            return  # a repository, with everything that was ever installed into it: only its session is looked at
        if kind := foreign_file_system(root):
            place.problem = f"on a file system ({kind}) that does not tell of changes"
        elif _num_folders(root) > MAX_FOLDERS:
            place.problem = f"more than {MAX_FOLDERS:,} folders, too many to be watched"
        else:
            place.problem = self._watch.place(root, below=True)
            place.is_watched = not place.problem
        if place.problem and place.problem != before:
            _log.warning("%s is looked at every second or two: %s", root, place.problem)

    def _check_watches(self) -> None:
        """Find out whether the system watches only a part of what it was asked to watch, which nobody says."""
        count = num_watches()
        if count is None:
            return
        tops: list[Path] = []
        for place in sorted(Path(os.path.realpath(root)) for root, each in self._places.items() if each.is_watched):
            if not tops or not place.is_relative_to(tops[-1]):
                tops.append(place)
        num_folders = sum(map(_num_folders, tops))
        before = self._partly
        # Watching as such may be refused, too.
        self._partly = ""
        if count < num_folders:
            self._partly = (
                f"the system watches {count:,} of {num_folders:,} session folders: raise fs.inotify.max_user_watches"
            )
        if self._partly and not before:
            _log.warning("%s", self._partly)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - every second, for every agent there is
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _num_folders(root: Path) -> int:
    """Folders from `root` downwards, links not followed; counting ends where there are too many."""
    count, waiting = 0, [str(root)]
    while waiting and count <= MAX_FOLDERS:
        count += 1
        try:
            with os.scandir(waiting.pop()) as entries:
                waiting += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue
    return count
