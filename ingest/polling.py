"""Looks itself whether files changed, where the system does not say so: at a few files and folders, never at all of them.

The sessions that changed last are the likeliest to change next. So those are looked at every second or two, whatever the
system says (a mount below a watched folder, a symbolic link, a hard link and a lost notification are all met by this), and
where it says nothing at all, the folders they lie in as well, which shows new files.
"""

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from ingest.readers.opening import first_bytes
from ingest.readers.sqlite import ENDINGS, LOGS

DATABASES = (*ENDINGS, ".vscdb")
POLL_s = 1.0
NUM_FILES = 100
NUM_FOLDERS = 200
SHARE = 0.02
"""Of the time at most goes into looking: on a slow disk it is done more rarely."""

NEVER_ENTERED = frozenset({".git", "node_modules", ".venv", "__pycache__"})
"""Folders that come with thousands of files, and never with a session."""
COARSE_ns = 3_000_000_000
"""Times of FAT drives count two seconds."""
WAL_HEADER_bytes = 32

Stamp = tuple[object, ...]
"""What is another one when a file has changed."""


def stamp_of(path: Path) -> Stamp | None:
    """Stamp of a file or folder, of a database together with its log; None where there is none.

    The time of the last change of the inode is in it: nobody can set it, as some tools do with the time of the last write.
    """
    try:
        found = _of_file(path)
    except OSError:
        return None
    if not path.name.endswith(DATABASES):
        return found
    # Of the database itself only what can be seen from outside: closing it would take away the locks that this process may
    # have on it. The log has none. It may keep its size while it is written anew: then the salt in its header changes.
    more: list[object] = [*found]
    for ending in LOGS:
        try:
            more += _of_file(Path(f"{path}{ending}"))
        except OSError:
            more.append(None)
    return (*more, first_bytes(Path(f"{path}-wal"), WAL_HEADER_bytes))


def is_settled(stamp: Stamp, now_ns: int) -> bool:
    """Whether the file was written so long ago that another write would have another time, however coarse the clock."""
    written_ns = stamp[1]
    return isinstance(written_ns, int) and not -COARSE_ns < now_ns - written_ns < COARSE_ns


class Poll:
    """What is looked at, and how it was at the last look."""

    def __init__(self, *, num_files: int = NUM_FILES, num_folders: int = NUM_FOLDERS) -> None:
        self._num_files, self._num_folders = num_files, num_folders
        self._stamps: dict[Path, Stamp | None] = {}
        self._names: dict[Path, frozenset[str]] = {}
        """Of folders: what lies in them."""
        self._next_s = 0.0

    def renew(self, files: Sequence[Path], roots: Iterable[Path]) -> None:
        """Look at the first of `files`, which come newest first, and at the folders below `roots` that hold such files."""
        old, self._stamps = self._stamps, {}
        for path in files[: self._num_files]:
            self._stamps[path] = old[path] if path in old else stamp_of(path)
        unwatched = frozenset(roots)
        folders = dict.fromkeys(unwatched)
        for path in files if unwatched else ():
            if path.parent in folders:
                continue
            above = [each for each in path.parents if not unwatched.isdisjoint((each, *each.parents))]
            if len(folders) + len(above) > self._num_folders:
                break
            folders |= dict.fromkeys(above)
        self._names = {each: self._names.get(each) or _names_in(each) for each in folders}
        for each in folders:
            self._stamps[each] = old[each] if each in old else stamp_of(each)

    def look(self, now_s: float) -> list[Path]:
        """Files that changed or appeared since the last look; nothing before `next_s`."""
        if now_s < self._next_s:
            return []
        started_s = time.monotonic()
        changed = []
        for path, before in list(self._stamps.items()):
            now = stamp_of(path)
            if now == before:
                continue
            self._stamps[path] = now
            if path in self._names:
                changed += self._new_in(path)
            elif now is not None:
                changed.append(path)
        self._next_s = now_s + max(POLL_s, (time.monotonic() - started_s) / SHARE)
        return changed

    def next_s(self) -> float:
        """When it is time for the next look."""
        return self._next_s

    def _new_in(self, folder: Path) -> list[Path]:
        before, now = self._names[folder], _names_in(folder)
        self._names[folder] = now
        found = []
        for name in sorted(now - before):
            path = folder / name
            if path.is_dir() and not path.is_symlink():
                if name not in NEVER_ENTERED and len(self._names) < self._num_folders:
                    self._names[path] = frozenset()
                    self._stamps[path] = stamp_of(path)
                    found += self._new_in(path)
            else:
                found.append(path)
                # The newest session is the likeliest to go on, also before the next renewal names it.
                if path not in self._stamps and len(self._stamps) < 2 * self._num_files + self._num_folders:
                    self._stamps[path] = stamp_of(path)
        return found


def _of_file(path: Path) -> Stamp:
    found = os.stat(path)  # noqa: PTH116 - thousands are looked at, and this is the quickest
    return (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def _names_in(folder: Path) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))  # noqa: PTH208 - names are all that is wanted
    except OSError:
        return frozenset()
