"""The ingest walk: reader > redaction > archive > turns > chunking > store > ledger last. Idempotent and resumable.

`harvest` takes one session file as far as its chunks; `keep` brings the harvest of several files into the store in one
commit and only then tells the ledger that they were read. Whatever dies in between is done again, with the same result:
messages are compared with the archive, chunks are named by what they are made of, and the store writes what changed.
"""

import dataclasses
import logging
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ingest import observers, ownership, reading
from ingest.chunking import CHUNKER_VERSION, LastCut, chunk_thread
from ingest.readers.registry import by_agent
from ingest.reading import Reading
from ingest.redaction import redact_event, redact_thread
from ingest.session import Cursor, SourceFile, Unreadable
from ingest.turns import pair_turns
from lmm_mcp.domain.agents import EXPORTS
from lmm_mcp.domain.chunk import Chunk
from lmm_mcp.domain.event import Event, Thread
from lmm_mcp.errors import ArchiveError, LmmError
from lmm_mcp.exclusion import Exclusion
from lmm_mcp.redaction import REDACTION_VERSION, redact
from lmm_mcp.store import forgetting, projects
from lmm_mcp.store.archive import Archive, merged_thread
from lmm_mcp.store.chunks import ChunkStore
from lmm_mcp.store.ledger import Ledger, SourceState

_MAX_CUTS_kept = 8
_log = logging.getLogger("lmm.ingest")


@dataclass(frozen=True, slots=True)
class Rooms:
    """Where the walk leads through."""

    archive: Archive
    store: ChunkStore
    ledger: Ledger
    exclusion: Exclusion
    cuts: dict[tuple[str, str], LastCut] = field(default_factory=dict)
    """Of the threads cut last, by agent and thread id: a session that grows is cut only where it grew."""


@dataclass(frozen=True, slots=True)
class Cut:
    """One thread, cut anew."""

    thread: Thread
    project: str
    chunks: tuple[Chunk, ...]
    num_events: int


@dataclass(frozen=True, slots=True)
class Harvest:
    """What one file brought, not yet in the store."""

    source: SourceFile
    state: SourceState
    cuts: tuple[Cut, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    from_start: bool = True
    """The file was read from its first byte, so earlier complaints about it no longer hold."""
    has_more: bool = False
    """Only a slice of the file was read: there is more behind it."""
    num_observers: int = 0
    """Sessions of tools that watch others, which were left out."""


def is_unchanged(source: SourceFile, ledger: Ledger, stamp: str) -> bool:
    """Whether the file is as it was when it was last read, by the same rules."""
    state = ledger.source(source.name)
    return state is not None and (state.size, state.mtime_ns, state.reader_version) == (
        source.size,
        source.mtime_ns,
        stamp,
    )


def stamp_of(source: SourceFile, exclusion: Exclusion) -> str:
    """Name the rules a file is read by; another stamp means that it is read anew from the start."""
    return f"{by_agent(source.agent).version}.{REDACTION_VERSION}.{exclusion.fingerprint}"


def harvest(source: SourceFile, rooms: Rooms) -> Harvest:
    """Read the next slice of what is new in a file, archive it, and cut the threads it belongs to.

    A file that cannot be read is said so, and so is a session that cannot be taken in. Raises OSError and LmmError where
    the machine refuses: then nothing is said of the file, and it is read again.
    """
    stamp = stamp_of(source, rooms.exclusion)
    cursor = reading.where_to_start(source, rooms.ledger, stamp)
    beginning = b"" if source.part else reading.beginning_of(source.path)
    try:
        found = reading.read(source, cursor)
        while found.has_more and _must_be_seen_whole(found, rooms):
            found = reading.joined(found, reading.read(source, found.cursor))
    except OSError as problem:
        # The stamp is left empty: the file is tried again every time, until it can be read.
        return _failed(source, cursor, "", (f"cannot be read: {problem.strerror or problem}",), (), rooms)
    except (MemoryError, sqlite3.Error, LmmError):
        raise
    except Exception as problem:  # a reader breaks its word: the other files are read nevertheless
        _log.error("a session file cannot be read: %s\n%s", source.path.name, reading.traced(problem))
        return _failed(source, cursor, stamp, (_report_this("read", problem),), (), rooms)
    return _taken_in(source, cursor, found, stamp, beginning, rooms)


def left_aside(source: SourceFile, why: str, rooms: Rooms) -> Harvest:
    """Of a file that is not to be opened now: what is kept of it stays, and it is said why it is not read."""
    told = f"{why}: it is left aside until it changes or a newer version is installed; please report this"
    return _failed(source, Cursor(), "", (told,), (), rooms)


def _report_this(what: str, problem: Exception) -> str:
    return f"cannot be {what} ({type(problem).__name__}); please report this"


def _failed(
    source: SourceFile, cursor: Cursor, stamp: str, complaints: Sequence[str], cuts: Sequence[Cut], rooms: Rooms
) -> Harvest:
    before = rooms.ledger.source(source.name)
    thread_ids = before.thread_ids if before else ()  # still its own: else forgetting them would not find the file
    thread_ids = tuple(dict.fromkeys((*thread_ids, *(cut.thread.thread_id for cut in cuts))))
    context = reading.clean(cursor.context, rooms.ledger)
    state = reading.state_of(source, source.size, cursor, None, stamp, thread_ids, context)
    unreadable = tuple(Unreadable(source.name, 0, complaint) for complaint in complaints)
    return Harvest(source, state, tuple(cuts), unreadable, from_start=False)


def _taken_in(
    source: SourceFile, cursor: Cursor, slice_: Reading, stamp: str, beginning: bytes, rooms: Rooms
) -> Harvest:
    cuts: dict[str, Cut] = {}
    before = rooms.ledger.source(source.name) if cursor.offset else None
    kept = dict.fromkeys(before.thread_ids if before else ())
    is_whole = True
    complaints: list[str] = []
    num_observers = 0
    for thread_id, found in slice_.threads.items():
        try:
            thread = redact_thread(found)
            if _is_observer(thread, slice_, rooms):
                num_observers += 1
                is_whole = False
                continue
            if _is_excluded(thread, rooms):
                is_whole = False
                continue
            taken = _take_in(thread, slice_.events.get(thread_id, []), rooms, is_export=source.agent == EXPORTS)
        except ArchiveError as problem:
            complaints.append(str(problem))
            stamp = ""  # tried again every time, until the archive is mended
            continue
        except (OSError, MemoryError, sqlite3.Error, LmmError):
            raise
        except Exception as problem:  # one session that we cannot make sense of must not keep all others out
            _log.error("a session cannot be taken in: %s\n%s", source.path, reading.traced(problem))
            complaints.append(_report_this("taken in", problem))
            continue
        is_whole = is_whole and taken.is_whole
        for cut in taken.cuts:
            cuts[cut.thread.thread_id] = cut
            kept[thread_id] = None
    rooms.archive.flush()
    if complaints:
        return _failed(source, cursor, stamp, complaints, list(cuts.values()), rooms)
    reached = slice_.cursor
    has_more = slice_.has_more and bool(kept or not slice_.threads)
    if not has_more and not (kept and is_whole):
        # Of what is excluded, forgotten or nobody's yet nothing is remembered here: no title, no folder. So a file that
        # holds such things is read from its start whenever it grows.
        reached = Cursor()
    # Where nothing of a session stays, complaints about it would only say where it lies.
    unreadable = () if slice_.threads and not kept else tuple(slice_.unreadable)
    size = reached.offset if has_more else source.size
    context = reading.clean(reached.context, rooms.ledger)
    edges = None if source.part else reading.edges_of(source.path, reached.offset or source.size, beginning)
    if edges is None and not source.part and source.path.is_file():
        stamp = ""  # it was replaced while we read: whatever its size and time say, it is read again, from its start
    state = reading.state_of(source, size, reached, edges, stamp, tuple(kept), context)
    return Harvest(
        source, state, tuple(cuts.values()), unreadable, not cursor.offset, has_more, num_observers=num_observers
    )


def _must_be_seen_whole(slice_: Reading, rooms: Rooms) -> bool:
    """Whether a slice is not enough to judge by.

    A copy of another thread's messages shows whose they are only by what follows them; and of a session of which a part
    stays out, what answers that part must be seen with it.
    """
    for thread_id, events in slice_.events.items():
        thread = slice_.threads[thread_id]
        if _is_excluded(thread, rooms) or _is_observer(thread, slice_, rooms):
            continue
        ids = [event.id for event in events]
        if len(_allowed(thread, events, rooms)) < len(dict.fromkeys(ids)):
            return True
        owners = rooms.ledger.owners(thread.agent, ids)
        is_copy = all(owners.get(event_id, thread_id) != thread_id for event_id in ids)
        if is_copy and not rooms.archive.holds(thread):
            return True
    return False


def keep(harvests: Sequence[Harvest], rooms: Rooms) -> int:
    """Bring harvests into the store and then into the ledger; the number of rows written. Later cuts of a thread win."""
    cuts = {(cut.thread.agent, cut.thread.thread_id): cut for harvest in harvests for cut in harvest.cuts}
    num_rows = store_cuts(cuts.values(), rooms) if cuts else 0
    with rooms.ledger.transaction():
        for harvest in harvests:
            rooms.ledger.record_source(harvest.state)
            if harvest.from_start:
                rooms.ledger.clear_unreadable(harvest.source.name)
            elif any(item.line == 0 for item in harvest.unreadable):  # what is said of the file as a whole counts on
                rooms.ledger.clear_unreadable(harvest.source.name, line=0)
            for item in harvest.unreadable:
                rooms.ledger.record_unreadable(item.path, item.line, redact(item.problem))
    return num_rows


def store_cuts(cuts: Iterable[Cut], rooms: Rooms) -> int:
    """Write cut threads into store and ledger; the number of rows written."""
    cuts = list(cuts)
    with rooms.ledger.transaction():  # first the names, so that an id that was ever handed out stays resolvable
        for cut in cuts:
            record_names(cut, rooms.ledger)
    num_rows = rooms.store.replace_threads([(cut.thread.agent, cut.thread.thread_id, cut.chunks) for cut in cuts])
    record_cuts(cuts, rooms.ledger)
    return num_rows


def record_names(cut: Cut, ledger: Ledger) -> None:
    """Note what the ids of its chunks stand for."""
    names = [(chunk.id, chunk.event_ids[0], chunk.event_ids[-1]) for chunk in cut.chunks if chunk.lines]
    ledger.record_chunks(cut.thread.agent, cut.thread.thread_id, names)


def record_cuts(cuts: Sequence[Cut], ledger: Ledger) -> None:
    """Note that these threads lie in the store, cut by today's rules."""
    with ledger.transaction():
        for cut in cuts:
            times = [at for chunk in cut.chunks for at in (chunk.first_ms, chunk.last_ms) if at]
            ledger.record_thread(
                cut.thread,
                project=cut.project,
                first_ms=min(times, default=0),
                last_ms=max(times, default=0),
                num_events=cut.num_events,
                chunker_version=CHUNKER_VERSION,
            )


def cut_anew(agent: str, thread_id: str, rooms: Rooms) -> Cut | None:
    """Cut a thread again from the archive; an empty cut where nothing of it is left, None where it was never there."""
    found = rooms.archive.read(agent, thread_id)
    if found is None:
        threads = (row.thread for row in rooms.ledger.threads())
        gone = next((each for each in threads if (each.agent, each.thread_id) == (agent, thread_id)), None)
        return None if gone is None else _cut(gone, [], rooms)
    ids = [event.id for event in found[1]]
    known = rooms.ledger.owners(agent, ids)
    rooms.ledger.claim(agent, thread_id, [event_id for event_id in ids if event_id not in known])  # of a lost ledger
    return _cut(found[0], found[1], rooms)


@dataclass(frozen=True, slots=True)
class _Taken:
    cuts: tuple[Cut, ...]
    is_whole: bool
    """Nothing of it was left out."""


def _allowed(thread: Thread, events: Sequence[Event], rooms: Rooms) -> list[Event]:
    """What may be kept, each message once and as it was said last: nothing forgotten, nothing from excluded folders."""
    last = {event.id: event for event in events}
    buried = rooms.ledger.buried(thread.agent, list(last))
    until_ms = rooms.ledger.buried_until(thread.agent, thread.thread_id)
    # A session may walk into an excluded folder: what is said and done there stays out, and so does what it gave back.
    places = {event.cwd for event in last.values()} - {thread.cwd}
    forbidden = {place for place in places if rooms.exclusion.excludes_place(thread.agent, place)}
    calls = {event.call_id for event in last.values() if event.kind == "call" and event.cwd in forbidden} - {""}
    return [
        event
        for event in last.values()
        if event.id not in buried
        and (until_ms is None or event.at_ms > until_ms)
        and event.cwd not in forbidden
        and event.call_id not in calls
    ]


def _take_in(thread: Thread, events: Sequence[Event], rooms: Rooms, *, is_export: bool) -> _Taken:
    """Archive what is new of a thread; the thread cut anew, and those that lost messages to it.

    `is_export`: it was written out by a memory, nobody knows when. So it adds what is missing and replaces nothing.
    """
    fresh = [redact_event(event) for event in _allowed(thread, events, rooms)]
    is_whole = len(fresh) == len({event.id for event in events})
    known = rooms.archive.read(thread.agent, thread.thread_id)
    archived = {event.id: event for event in known[1]} if known is not None else {}
    if known is not None and not events:
        thread = merged_thread(known[0], thread)  # somebody else's file says one thing about it
    if is_export and known is not None:
        thread = redact_thread(merged_thread(thread, known[0]))
        # Redacted once more: by other rules than those it was archived by, its words are still the same.
        fresh = [redact_event(archived.get(event.id, event)) for event in fresh]
    settled = ownership.settle(thread, fresh, list(archived.values()), rooms.archive, rooms.ledger)
    left = [*archived.values(), *settled.events]
    thread = forgetting.without_forgotten(thread, rooms.ledger, left)
    if not is_whole:
        # A title that was given meanwhile may speak of what is left out.
        thread = dataclasses.replace(_as_told_by(thread, left), title=known[0].title if known is not None else "")
    new = [event for event in settled.events if archived.get(event.id) != event]
    if known is None and not new:
        return _Taken((), is_whole)
    if new or (known is not None and known[0] != thread):
        rooms.archive.append(thread, new, sync=False)
    ownership.take(thread, settled, rooms.archive, rooms.ledger)
    robbed = [_cut(other.thread, _left(other.thread, rooms), rooms) for other in settled.robbed]
    merged = archived | {event.id: event for event in new}
    return _Taken((*robbed, _cut(thread, list(merged.values()), rooms)), is_whole)


def _as_told_by(thread: Thread, events: Sequence[Event]) -> Thread:
    """The thread with the folder and branch of what is kept of it: what was left out may have been elsewhere."""
    cwd = next((event.cwd for event in events if event.cwd), thread.cwd)
    branch = next((event.branch for event in reversed(events) if event.branch), "")
    return dataclasses.replace(thread, cwd=cwd, branch=branch)


def _left(thread: Thread, rooms: Rooms) -> list[Event]:
    found = rooms.archive.read(thread.agent, thread.thread_id)
    return found[1] if found is not None else []


def _cut(thread: Thread, events: Sequence[Event], rooms: Rooms) -> Cut:
    project = project_of(thread, rooms)
    name = (thread.agent, thread.thread_id)
    last = rooms.cuts.pop(name, None) or LastCut()
    chunks = chunk_thread(thread, pair_turns(thread, events), project=project, last=last)
    rooms.cuts[name] = last
    while len(rooms.cuts) > _MAX_CUTS_kept:
        del rooms.cuts[next(iter(rooms.cuts))]
    return Cut(thread, project, tuple(chunks), len(events))


def project_of(thread: Thread, rooms: Rooms) -> str:
    """Name the project a thread belongs to, and remember what that tells about other folders."""
    roots = rooms.ledger.known_roots()
    found = projects.resolve(thread.cwd, remote=thread.remote, aliases=rooms.ledger.aliases(), roots=roots)
    if found.how != "cwd" or thread.branch:
        # A folder with a branch is a repository, and what was done below it belongs to it. A folder of which nothing is
        # known may be the one that holds all repositories: it must not swallow them.
        learnt = projects.learn(thread.cwd, found, roots=roots)
        if learnt.roots or learnt.aliases:
            with rooms.ledger.transaction():
                for folder, key in learnt.roots.items():
                    rooms.ledger.add_root(folder, key)
                for name, key in learnt.aliases.items():
                    rooms.ledger.add_alias(name, key)
    return projects.follow(found.key, rooms.ledger.aliases())


def _is_excluded(thread: Thread, rooms: Rooms) -> bool:
    # By its folder before anything is learnt of it. A remote must be learnt: it is what excludes the folders below, too.
    rules = rooms.exclusion
    if rules.excludes_place(thread.agent, thread.cwd):
        return True
    return bool(rules.remotes) and rules.excludes_remote(thread.remote or project_of(thread, rooms))


def _is_observer(thread: Thread, slice_: Reading, rooms: Rooms) -> bool:
    """Whether it is a session of a tool that watches others, as its beginning tells: of one that is kept it is not asked."""
    return observers.is_observer(thread, slice_.events.get(thread.thread_id, ())) and not rooms.archive.holds(thread)
