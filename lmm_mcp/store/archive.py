"""The raw sessions, redacted and compressed: the truth from which everything else can be rebuilt.

One file for each thread: `<root>/<agent>/<hash of thread_id>.jsonl.zst`, a chain of zstd frames, one for each append.
A frame holds JSON lines: first `{"thread": {...}}`, then `{"event": {...}}`. What comes later wins: an event whose id
occurred before replaces it in the place of its first appearance, since agents revise their messages.

Surprising: a torn last frame is no damage. A writer that dies leaves a prefix of a frame; readers ignore it and the next
append cuts it off. Anything else that cannot be read is damage and raises, so that no memory is lost without a word.
One process writes (the holder of the write lock), any number read.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from hashlib import blake2b
from io import FileIO
from pathlib import Path
from typing import Any

import orjson
import zstandard

from lmm_mcp.domain.event import Event, LAST_ms, Thread
from lmm_mcp.errors import ArchiveError
from lmm_mcp.store import frames
from lmm_mcp.store.surrogates import mended

LEVEL = 3
"""zstd level: 250 MB/s on one core; level 9 would save a tenth of the bytes at a fifth of the speed."""
MAX_RECENT_chars = 96_000_000
"""Of the threads read or written last, how much text an archive that was asked to (`keeps_recent`) holds in memory."""
_RECORD_chars = 400
"""What a record costs beside its text."""
_LONG_RECORD_bytes = 4_096
"""Outputs of tools are long, and least of what `latest` is asked for."""
_STRETCH = 4
"""So many times its limit `latest` reads at most of one frame."""
_SUFFIX = ".jsonl.zst"
_BESIDE = ".new"
_AGENT = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Size:
    """How much of one agent's sessions is kept."""

    num_threads: int
    num_bytes: int
    """On disk, compressed."""


@dataclass(slots=True)
class _Recent:
    """A thread as its file says it, up to byte `end`."""

    end: int
    thread: Thread
    events: dict[str, Event]
    num_chars: int


class Archive:
    """The folder of archived threads. Cheap to make: nothing is opened before it is asked for.

    `keeps_recent`: the threads touched last stay in memory, so that a large session that grows is not unpacked at every
    line. What another process does to a file is noticed by its size.
    """

    def __init__(self, root: Path, *, keeps_recent: bool = False) -> None:
        self._root = root
        self._keeps_recent = keeps_recent
        self._recent: dict[Path, _Recent] = {}  # the one touched last at the end
        self._ends: dict[Path, int] = {}  # files this object wrote, and the size after its last whole frame
        self._unsynced: set[Path] = set()

    def path(self, agent: str, thread_id: str) -> Path:
        """Where the thread lies, whether or not it exists. Raises ArchiveError for a name that is no agent's."""
        if not _AGENT.fullmatch(agent):
            raise ArchiveError(f"{agent!r} is no agent name; it must consist of a-z, 0-9, - and _.")
        name = blake2b(thread_id.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        return self._root / agent / f"{name}{_SUFFIX}"

    def holds(self, thread: Thread) -> bool:
        """Whether anything is kept of the thread."""
        return self.path(thread.agent, thread.thread_id).exists()

    def append(self, thread: Thread, events: Sequence[Event], *, sync: bool = True) -> None:
        """Add one frame; it is on the disk when this returns, or, with `sync=False`, after the next `flush`.

        Raises OSError where the disk is full or not writable; what was archived before stays readable.
        """
        path = self.path(thread.agent, thread.thread_id)
        frame, is_exact = _frame(thread, events)
        made = not path.exists()
        if made:
            _make_folder(path.parent)
        with _open(path, os.O_APPEND) as file:
            end = 0 if made else self._cut_torn_tail(path, file.fileno())
            _write_whole(file.fileno(), frame)
            if sync:
                os.fsync(file.fileno())
        self._ends[path] = end + len(frame)
        recent = _Recent(0, thread, {}, 0) if made else self._recent.pop(path, None)
        if is_exact and recent is not None and recent.end == end:
            recent.events.update((event.id, event) for event in events)
            num_chars = recent.num_chars + _num_chars(events)
            self._remember(
                path, _Recent(end + len(frame), merged_thread(recent.thread, thread), recent.events, num_chars)
            )
        if not sync:
            self._unsynced.add(path)
        elif made:
            _sync_folder(path.parent)

    def forget_recent(self) -> None:
        """Let go of the threads held in memory."""
        self._recent.clear()

    def flush(self) -> None:
        """Bring to the disk whatever `append(..., sync=False)` wrote. A bulk import calls this once for each batch."""
        folders = set()
        for path in sorted(self._unsynced):
            with suppress(FileNotFoundError), path.open("rb") as file:
                os.fsync(file.fileno())
                folders.add(path.parent)
        for folder in folders:
            _sync_folder(folder)
        self._unsynced.clear()

    def read(self, agent: str, thread_id: str) -> tuple[Thread, list[Event]] | None:
        """The thread as last known and its events in order; None if it is not archived. Raises ArchiveError on damage."""
        path = self.path(agent, thread_id)
        size = _size(path)
        recent = self._recent.get(path)
        if recent is not None and recent.end == size:
            return recent.thread, list(recent.events.values())
        thread: Thread | None = None
        events: dict[str, Event] = {}
        for record in self.records(agent, thread_id):
            if isinstance(record, Thread):
                thread = merged_thread(thread, record)
            else:
                events[record.id] = record
        if thread is None:
            return None
        self._remember(path, _Recent(size, thread, events, _num_chars(events.values())))
        return thread, list(events.values())

    def records(self, agent: str, thread_id: str) -> Iterator[Thread | Event]:
        """Everything ever appended, as it was appended: revised events come in every version. Raises ArchiveError on damage."""
        path = self.path(agent, thread_id)
        with suppress(FileNotFoundError):
            yield from records_in(path.read_bytes(), path)

    def latest(self, agent: str, thread_id: str, *, max_bytes: int) -> tuple[list[Event], bool]:
        """The thread's last events in order, as far as `max_bytes` of their records reach, and whether that is all.

        For who cannot wait until a long session is read; a long record counts as 4 KB. Raises ArchiveError on damage.
        """
        path = self.path(agent, thread_id)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return [], True
        events: dict[str, Event] = {}
        left = max_bytes
        for start, end in reversed(frames.walk(data, path)[0]):
            if left <= 0:
                return list(events.values()), False
            records, num_bytes, is_all = _last_records_in(data[start:end], path, left)
            # What is revised later stays where it came first.
            events = {record.id: record for record in records if isinstance(record, Event)} | events
            left = left - num_bytes if is_all else 0
        return list(events.values()), left > 0

    def threads(self, *, damaged: list[ArchiveError] | None = None) -> Iterator[tuple[Path, Thread]]:
        """Every archived thread with its file. Reads only the heads of the frames.

        Raises ArchiveError on damage, or passes over damaged files and notes each in `damaged`.
        """
        for path in self._files():
            try:
                thread = _thread_in(path)
            except ArchiveError as problem:
                if damaged is None:
                    raise
                damaged.append(problem)
                continue
            if thread is not None:
                yield path, thread

    def rewrite(
        self, agent: str, thread_id: str, keep: Callable[[Event], bool], *, thread: Thread | None = None
    ) -> int:
        """Drop the events that `keep` refuses, in all their versions, and say how many; a thread left empty is removed.

        The new file is written beside the old one and renamed over it. `thread` replaces what is kept about the thread.
        """
        found = self.read(agent, thread_id)
        if found is None:
            return 0
        kept = [event for event in found[1] if keep(event)]
        if not kept:
            self.remove(agent, thread_id)
            return len(found[1])
        path = self.path(agent, thread_id)
        beside = path.with_name(path.name + _BESIDE)
        with _open(beside, os.O_TRUNC) as file:
            _write_whole(file.fileno(), _frame(thread or found[0], kept)[0])
            os.fsync(file.fileno())
        beside.replace(path)
        _sync_folder(path.parent)
        self._ends.pop(path, None)
        self._recent.pop(path, None)
        return len(found[1]) - len(kept)

    def remove(self, agent: str, thread_id: str) -> None:
        """Delete the thread's file; nothing happens if there is none."""
        path = self.path(agent, thread_id)
        path.unlink(missing_ok=True)
        self._ends.pop(path, None)
        self._recent.pop(path, None)
        self._unsynced.discard(path)
        if path.parent.exists():
            _sync_folder(path.parent)

    def sweep(self) -> int:
        """Delete what an interrupted `rewrite` left beside its target, and say how many files that were."""
        left = list(self._root.glob(f"*/*{_SUFFIX}{_BESIDE}"))
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)

    def sizes(self) -> dict[str, Size]:
        """What is kept of each agent."""
        found: dict[str, Size] = {}
        for path in self._files():
            old = found.get(path.parent.name, Size(0, 0))
            found[path.parent.name] = Size(old.num_threads + 1, old.num_bytes + path.stat().st_size)
        return found

    def _remember(self, path: Path, recent: _Recent) -> None:
        if not self._keeps_recent:
            return
        self._recent.pop(path, None)
        self._recent[path] = recent
        left = sum(each.num_chars for each in self._recent.values())
        while left > MAX_RECENT_chars:
            oldest = next(iter(self._recent))
            left -= self._recent.pop(oldest).num_chars

    def _files(self) -> list[Path]:
        return sorted(self._root.glob(f"*/*{_SUFFIX}"))

    def _cut_torn_tail(self, path: Path, descriptor: int) -> int:
        """The size up to which the file is whole; what stands behind it is cut off."""
        size = os.fstat(descriptor).st_size
        if self._ends.get(path) == size:
            return size
        spans, torn_at = frames.walk(path.read_bytes(), path)
        end = spans[-1][1] if spans else 0
        if torn_at is not None:
            os.ftruncate(descriptor, end)
        return end


_NEXT_STEP = "Move the file away and run `lmm import`: what the agent still has is read again."


def _frame(thread: Thread, events: Iterable[Event]) -> tuple[bytes, bool]:
    """One frame, and whether what is read from it will be what was given: text that is no text is mended on the way."""
    lines, is_exact = [], True
    records: list[tuple[str, Thread | Event]] = [("thread", thread), *(("event", event) for event in events)]
    for name, value in records:
        try:
            lines.append(orjson.dumps({name: value}))
        except TypeError:
            lines.append(orjson.dumps({name: mended(asdict(value))}))
            is_exact = False
    packer = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True, write_content_size=True)
    return packer.compress(b"\n".join(lines)), is_exact


def _num_chars(events: Iterable[Event]) -> int:
    return sum(len(event.text) + _RECORD_chars for event in events)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


_EVENT_FIELDS = frozenset(field.name for field in fields(Event))
_THREAD_FIELDS = frozenset(field.name for field in fields(Thread))


def _record(line: dict[str, dict[str, Any]]) -> Thread | Event:
    # A newer version may have written fields that this one does not know: they are left aside, not refused.
    if "event" in line:
        values = line["event"]
        if not values.keys() <= _EVENT_FIELDS:
            values = {name: value for name, value in values.items() if name in _EVENT_FIELDS}
        values["paths"] = tuple(values.get("paths", ()))
        if not values["at_ms"] or values["at_ms"] > LAST_ms:  # no calendar shows what earlier readers let through
            values["at_ms"] = 0
        return Event(**values)
    return Thread(**{name: value for name, value in line["thread"].items() if name in _THREAD_FIELDS})


def merged_thread(old: Thread | None, new: Thread) -> Thread:
    """Later knowledge wins, but not knowing is no knowledge: an empty field leaves the old value."""
    if old is None:
        return new
    return replace(old, **{f.name: getattr(new, f.name) for f in fields(new) if getattr(new, f.name)})


def records_in(data: bytes, path: Path) -> Iterator[Thread | Event]:
    """What the content of one archived file says, frame after frame. Raises ArchiveError, naming `path`, on damage."""
    unpacker = zstandard.ZstdDecompressor()
    for start, end in frames.walk(data, path)[0]:
        try:
            for line in unpacker.decompress(data[start:end]).splitlines():
                yield _record(orjson.loads(line))
        except zstandard.ZstdError as problem:
            raise ArchiveError(f"{path} is damaged at byte {start}: {problem}. {_NEXT_STEP}") from problem
        except (orjson.JSONDecodeError, TypeError, KeyError) as problem:
            raise ArchiveError(f"{path} holds a record that cannot be read: {problem}. {_NEXT_STEP}") from problem


def _last_records_in(frame: bytes, path: Path, max_bytes: int) -> tuple[list[Thread | Event], int, bool]:
    """The records at the end of one frame up to `max_bytes`, what they count, and whether those are all."""
    try:
        text = zstandard.ZstdDecompressor().decompress(frame)
        lines, num_bytes, at = [], 0, len(text)
        while at > 0 and num_bytes < max_bytes and len(text) - at < _STRETCH * max_bytes:
            start = text.rfind(b"\n", 0, at) + 1
            lines.append(text[start:at])
            num_bytes += min(at - start, _LONG_RECORD_bytes)
            at = start - 1
        return [_record(orjson.loads(line)) for line in reversed(lines)], num_bytes, at <= 0
    except zstandard.ZstdError as problem:
        raise ArchiveError(f"{path} is damaged: {problem}. {_NEXT_STEP}") from problem
    except (orjson.JSONDecodeError, TypeError, KeyError) as problem:
        raise ArchiveError(f"{path} holds a record that cannot be read: {problem}. {_NEXT_STEP}") from problem


def _thread_in(path: Path) -> Thread | None:
    """The thread as the heads of a file's frames tell it."""
    thread: Thread | None = None
    try:
        for head in _heads(path):
            record = _record(orjson.loads(head))
            if not isinstance(record, Thread):
                raise KeyError("thread")
            thread = merged_thread(thread, record)
    except (orjson.JSONDecodeError, TypeError, KeyError) as problem:
        raise ArchiveError(f"{path} holds a record that cannot be read: {problem}. {_NEXT_STEP}") from problem
    return thread


def _heads(path: Path) -> Iterator[bytes]:
    """The first line of each frame."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    unpacker = zstandard.ZstdDecompressor()
    for start, end in frames.walk(data, path)[0]:
        head = b""
        try:
            with unpacker.stream_reader(data[start:end]) as stream:
                while b"\n" not in head and (more := stream.read(4096)):
                    head += more
        except zstandard.ZstdError as problem:
            raise ArchiveError(f"{path} is damaged at byte {start}: {problem}. {_NEXT_STEP}") from problem
        yield head.partition(b"\n")[0]


def _write_whole(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def _open(path: Path, how: int) -> FileIO:
    """Open for writing, made readable by the user alone if it is new."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0) | how, 0o600)
    return os.fdopen(descriptor, "wb", buffering=0)


def _make_folder(folder: Path) -> None:
    if not folder.exists():
        folder.mkdir(parents=True, mode=0o700)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Make names durable. Only where folders can be opened; elsewhere the rename itself is all there is."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
