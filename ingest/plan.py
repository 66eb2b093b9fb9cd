"""What is still to be read: what changed a moment ago first, then all the rest, newest first; and the look through all folders."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ingest import sources
from ingest.polling import DATABASES, Stamp, is_settled, stamp_of
from ingest.readers.base import FileReader
from ingest.readers.registry import by_agent
from ingest.session import Reader, SourceFile, Unreadable

BATCH_bytes = 4_000_000
"""Session bytes that go into one commit: small enough to be searchable soon, large enough not to litter the store."""
BATCH_files = 40
DOUBT_s = 1.0

IsDone = Callable[[SourceFile, bool], bool]
"""Whether all of it was read; the second says that it was written since, whatever its size and time say."""


@dataclass(slots=True)
class Plan:
    """Files that wait to be read."""

    urgent: deque[SourceFile] = field(default_factory=deque)
    """Of sessions that are being written just now."""
    files: deque[SourceFile] = field(default_factory=deque)
    _pressing: set[str] = field(default_factory=set)
    """Names of `urgent`; thousands may come at once, one by one."""
    _waiting: set[str] = field(default_factory=set)
    """Names of those of `files` that were not taken for urgent since."""

    def __bool__(self) -> bool:
        return bool(self._pressing or self._waiting)

    def add(self, found: Iterable[SourceFile], *, first: bool = False) -> list[SourceFile]:
        """Let those wait that do not wait already, first or last of the patient ones; those that were added."""
        fresh = [item for item in found if item.name not in self._waiting and item.name not in self._pressing]
        self._waiting.update(item.name for item in fresh)
        if first:
            self.files.extendleft(reversed(fresh))
        else:
            self.files.extend(fresh)
        return fresh

    def add_urgent(self, found: Iterable[SourceFile]) -> list[SourceFile]:
        """Let those go before all others, also before those that were urgent already: thousands may have come at once.

        Those that did not wait at all before. One that waited patiently does so no more.
        """
        new = [item for item in found if item.name not in self._pressing]
        self.urgent.extendleft(reversed(new))
        names = {item.name for item in new}
        self._pressing |= names
        promoted = names & self._waiting
        self._waiting -= promoted
        return [item for item in new if item.name not in promoted]

    def next_batch(self) -> list[SourceFile]:
        """Take what is to be read next: what is urgent by itself, so that it need not wait for the rest of a commit."""
        queue, names = (self.urgent, self._pressing) if self.urgent else (self.files, self._waiting)
        batch: list[SourceFile] = []
        size = 0
        while queue and len(batch) < BATCH_files and (not batch or size + queue[0].size <= BATCH_bytes):
            source = queue.popleft()
            if source.name in names:
                names.remove(source.name)
                batch.append(_as_it_is_now(source))
                size += batch[-1].size
        return batch

    def put_back(self, rest: Sequence[SourceFile], *, urgent: bool) -> None:
        """Let those go first of which only a slice was read."""
        if urgent:
            self.urgent.extendleft(reversed(rest))
            self._pressing.update(item.name for item in rest)
        else:
            self.add(rest, first=True)


@dataclass(slots=True)
class Rescan:
    """Looks through all folders, and remembers what it need not look into again."""

    _seen: dict[Path, Stamp] = field(default_factory=dict)
    """Files of which all was read when they had this stamp."""
    _ended_s: float = 0.0
    _took_s: float = 0.0

    def look(
        self, roots: Iterable[tuple[Reader, Path]], is_done: IsDone
    ) -> tuple[list[SourceFile | Unreadable], list[tuple[Reader, Path]]]:
        """What is to be read or cannot be, newest first; and every session file there is, newest first."""
        now_ns, started_s = time.time_ns(), time.monotonic()
        todo: list[SourceFile | Unreadable] = []
        present: dict[Path, tuple[Reader, Stamp]] = {}
        for reader, root in roots:
            try:
                paths = list(reader.discover(root))
            except OSError as problem:
                todo.append(Unreadable(str(root), 0, f"folder cannot be listed: {problem.strerror or problem}"))
                continue
            for path in paths:
                stamp = stamp_of(path)
                if stamp is not None:
                    present[path] = reader, stamp
                if stamp is not None and self._seen.get(path) == stamp and _is_told_by_stamp(reader, path):
                    continue
                found = sources.listed(reader, path)
                doubt = path in self._seen
                left = [item for item in found if isinstance(item, Unreadable) or not is_done(item, doubt)]
                todo += left
                if stamp is not None and not left and is_settled(stamp, now_ns):
                    self._seen[path] = stamp
                else:
                    self._seen.pop(path, None)
        self._seen = {path: stamp for path, stamp in self._seen.items() if path in present}
        self._ended_s = time.monotonic()
        self._took_s = self._ended_s - started_s
        newest = sorted(present.items(), key=lambda item: min(_written_ns(item[1][1]), now_ns), reverse=True)
        return sources.newest_first(todo), [(reader, path) for path, (reader, _) in newest]

    def next_s(self, every_s: float) -> float:
        """When it is time for the next look, where nothing is in doubt: so that looking takes a hundredth of the time."""
        return self._ended_s + max(every_s, 100 * self._took_s)

    def soonest_s(self) -> float:
        """When the next look may be, where something is in doubt: doubts may come without end."""
        return self._ended_s + max(DOUBT_s, 10 * self._took_s)

    def forget(self) -> None:
        """Look into everything again: other rules hold now, or somebody else wrote."""
        self._seen.clear()


def _is_told_by_stamp(reader: Reader, path: Path) -> bool:
    """Whether nothing but the file itself (and its log) says what is to be read of it."""
    return path.name.endswith(DATABASES) or _is_plain(reader)


def _is_plain(reader: Reader) -> bool:
    """Whether size and time of what it reads are those of the file."""
    return getattr(type(reader), "sources", None) is FileReader.sources


def _written_ns(stamp: Stamp) -> int:
    return stamp[1] if isinstance(stamp[1], int) else 0


def _as_it_is_now(source: SourceFile) -> SourceFile:
    """The file with its present size and time: it may have waited long, and a reading starts where the last one ended."""
    if source.part or not _is_plain(by_agent(source.agent)):
        return source
    try:
        stat = source.path.stat()
    except OSError:
        return source
    return replace(source, size=stat.st_size, mtime_ns=stat.st_mtime_ns)
