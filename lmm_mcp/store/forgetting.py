"""Forgetting for good: out of archive, chunks, vectors, ledger, notes and logs, and it does not come back.

`plan` says what would go and touches nothing; `carry_out` does it. The caller holds the write lock.

What keeps it safe: tombstones (hashes of ids) and the ids of the threads concerned are written before anything is
deleted, and all the rest is derived from them. Whatever dies in between is completed by the next `carry_out` or by
`finish`, which the writer calls when it starts. All chunks of a thread that loses an event are deleted, since the header
of any of them may speak of it; `Forgotten.to_cut` names the threads of which something is left, to be cut anew.
"""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lmm_mcp.domain.chunk import ChunkId
from lmm_mcp.domain.event import Event, EventId, Thread, ThreadId
from lmm_mcp.errors import BadInput
from lmm_mcp.store import lines
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.chunks import ChunkStore
from lmm_mcp.store.ledger import Ledger

_UNFINISHED = "forgetting"
"""Name in the ledger under which the threads of an unfinished forgetting stand: ids only."""


@dataclass(frozen=True, slots=True)
class ThreadPlan:
    """What one thread would lose."""

    thread: Thread
    project: str
    event_ids: tuple[EventId, ...]
    num_left: int
    """Events that would stay; 0 = the thread disappears."""
    num_chunks: int
    """Chunks made of those events."""
    first_ms: int
    """Of the first event that would go, UTC; 0 unknown."""
    last_ms: int
    loses_title: bool
    """The title says what is forgotten (agents make it from the first prompt)."""


@dataclass(frozen=True)
class ForgetPlan:
    """What would go. Nothing was touched yet."""

    threads: tuple[ThreadPlan, ...]
    match: str | None = None
    """The text by which events were chosen, to be cut out of logs and of notes not read yet."""
    whole_projects: tuple[str, ...] = ()
    """Keys of projects of which nothing stays."""

    @property
    def num_events(self) -> int:
        """Events that would go."""
        return sum(len(each.event_ids) for each in self.threads)

    @property
    def num_chunks(self) -> int:
        """Chunks that would go."""
        return sum(each.num_chunks for each in self.threads)

    @cached_property
    def by_session(self) -> dict[tuple[str, str], tuple[ThreadPlan, ...]]:
        """The threads by (agent, session id), newest session first."""
        found: dict[tuple[str, str], tuple[ThreadPlan, ...]] = {}
        for each in sorted(self.threads, key=lambda plan: plan.last_ms, reverse=True):
            name = (each.thread.agent, each.thread.session_id)
            found[name] = (*found.get(name, ()), each)
        return found


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What went."""

    num_events: int
    num_threads: int
    """Threads that disappeared."""
    num_chunks: int
    """Chunks deleted, with those that are only to be cut anew."""
    to_cut: tuple[tuple[str, ThreadId], ...]
    """(agent, thread id) of the threads of which something is left."""


def plan(
    store: ChunkStore,
    archive: Archive,
    ledger: Ledger,
    *,
    session: str | None = None,
    project: str | None = None,
    since_ms: int | None = None,
    until_ms: int | None = None,
    match: str | None = None,
) -> ForgetPlan:
    """Find all events that meet every condition given. Raises BadInput without any, or for an ambiguous session.

    session: the agent's session id or its beginning. project: a key. since_ms, until_ms: UTC, inclusive; an event
    without a time has that of the one before it. match: text that occurs in the event, upper and lower case alike.
    """
    if session is None and project is None and since_ms is None and until_ms is None and not (match or "").strip():
        raise BadInput("say what to forget: a session, a project, a time range or a text.")
    wanted = (match or "").casefold()
    known = {(row.thread.agent, row.thread.thread_id): row for row in ledger.threads()}
    heads = {key: row.thread for key, row in known.items()}
    heads |= {(thread.agent, thread.thread_id): thread for _, thread in archive.threads()}
    session_ids = None if session is None else sessions_called(session, heads.values())
    found: list[ThreadPlan] = []
    for key, thread in heads.items():
        row = known.get(key)
        where = row.project if row is not None else _project_in_store(store, *key)
        if (session_ids is not None and thread.session_id not in session_ids) or (project not in (None, where)):
            continue
        chosen, left = _choose(archive, key, since_ms, until_ms, wanted)
        titles = {thread.title, row.thread.title if row is not None else ""} - {""}
        loses_title = any(_speaks_of(title, chosen, wanted) for title in titles)
        is_bare = not chosen and not left and not wanted and since_ms is None and until_ms is None
        if chosen or loses_title or is_bare:
            ids = {event.id for event in chosen}
            chunks = store.thread(*key) if ids else []
            times = [event.at_ms for event in chosen if event.at_ms]
            found.append(
                ThreadPlan(
                    thread=dataclasses.replace(thread, title=max(titles, default="")),
                    project=where,
                    event_ids=tuple(event.id for event in chosen),
                    num_left=len(left),
                    num_chunks=sum(not ids.isdisjoint(chunk.event_ids) for chunk in chunks),
                    first_ms=min(times, default=0),
                    last_ms=max(times, default=0),
                    loses_title=loses_title,
                )
            )
    is_whole = project is not None and session is None and since_ms is None and until_ms is None and not wanted
    return ForgetPlan(tuple(found), match or None, (project,) if is_whole and project else ())


def carry_out(
    what: ForgetPlan, store: ChunkStore, archive: Archive, ledger: Ledger, *, notes: Path, logs: Path
) -> Forgotten:
    """Forget what was planned, and whatever an interrupted forgetting left. May be repeated at any point.

    notes: folder of the inbox of notes. logs: folder of log files. Raises StoreError, ArchiveError, OSError.
    """
    with ledger.transaction():
        pending = _unfinished(ledger)
        for each in what.threads:
            thread = each.thread
            ledger.bury(thread.agent, each.event_ids)
            if each.loses_title or not each.num_left:
                ledger.bury_text(thread.title)
            if not each.num_left:
                ledger.bury_thread(thread.agent, thread.thread_id, each.last_ms)
            pending[thread.agent, thread.thread_id] = each.loses_title or pending.get(
                (thread.agent, thread.thread_id), False
            )
        ledger.forget_projects(what.whole_projects)
        _remember(ledger, pending)
    return _finish(store, archive, ledger, notes=notes, logs=logs, needles=_needles(what), match=what.match)


def is_unfinished(ledger: Ledger) -> bool:
    """Whether a forgetting was interrupted."""
    return ledger.meta(_UNFINISHED) is not None


def finish(store: ChunkStore, archive: Archive, ledger: Ledger, *, notes: Path, logs: Path) -> Forgotten | None:
    """Complete an interrupted forgetting; None if there is none. Logs are deleted whole: what to look for is forgotten."""
    if not is_unfinished(ledger):
        return None
    return _finish(store, archive, ledger, notes=notes, logs=logs, needles=None, match=None)


def _finish(
    store: ChunkStore,
    archive: Archive,
    ledger: Ledger,
    *,
    notes: Path,
    logs: Path,
    needles: Sequence[str] | None,
    match: str | None,
) -> Forgotten:
    pending = _unfinished(ledger)
    lines.drop_notes(notes, lambda ids: ledger.buried("notes", ids), match)
    lines.drop_log_lines(logs, needles)
    num_events = num_threads = num_chunks = 0
    to_cut: list[tuple[str, ThreadId]] = []
    for (agent, thread_id), loses_title in pending.items():
        chunk_ids: list[ChunkId] = [chunk.id for chunk in store.thread(agent, thread_id)]
        store.delete(chunk_ids)
        num_chunks += len(chunk_ids)
        num_dropped, is_left = _drop_from_archive(archive, ledger, agent, thread_id, loses_title)
        num_events += num_dropped
        if is_left:
            to_cut.append((agent, thread_id))
        else:
            num_threads += 1
    _drop_from_ledger(ledger, pending, to_cut)
    archive.sweep()
    store.purge()
    ledger.purge()
    ledger.clear_meta(_UNFINISHED)
    return Forgotten(num_events, num_threads, num_chunks, tuple(to_cut))


def _drop_from_archive(
    archive: Archive, ledger: Ledger, agent: str, thread_id: ThreadId, loses_title: bool
) -> tuple[int, bool]:
    """Rewrite one thread without what is buried; how many events went, and whether any is left."""
    found = archive.read(agent, thread_id)
    if found is None:
        return 0, False
    thread, events = found
    gone = ledger.buried(agent, [event.id for event in events])
    renamed = dataclasses.replace(thread, title="") if loses_title else None
    num_dropped = archive.rewrite(agent, thread_id, lambda event: event.id not in gone, thread=renamed)
    if num_dropped == len(events):
        archive.remove(agent, thread_id)
    return num_dropped, num_dropped < len(events)


def _drop_from_ledger(
    ledger: Ledger, pending: dict[tuple[str, ThreadId], bool], to_cut: Sequence[tuple[str, ThreadId]]
) -> None:
    titles = {(row.thread.agent, row.thread.thread_id): row.thread.title for row in ledger.threads()}
    with ledger.transaction():
        for agent in {agent for agent, _ in pending}:
            threads = [thread_id for owner, thread_id in pending if owner == agent]
            # What their files' cursors remember goes with them; the files are read anew and found buried.
            ledger.forget_sources(agent, threads)
            ledger.forget_threads(agent, [each for each in threads if (agent, each) not in to_cut])
            ledger.forget_buried(agent)
        for agent, thread_id in to_cut:
            loses_title = pending[agent, thread_id]
            ledger.retitle(agent, thread_id, "" if loses_title else titles.get((agent, thread_id), ""))


def _choose(
    archive: Archive, key: tuple[str, ThreadId], since_ms: int | None, until_ms: int | None, wanted: str
) -> tuple[list[Event], list[Event]]:
    """The events of a thread that are to go, and those that stay. One that ever held the text goes in all versions."""
    newest: dict[EventId, Event] = {}
    holds: set[EventId] = set()
    for record in archive.records(*key):
        if isinstance(record, Event):
            newest[record.id] = record
            if not wanted or wanted in "\n".join((record.text, record.command, *record.paths)).casefold():
                holds.add(record.id)
    chosen: list[Event] = []
    left: list[Event] = []
    for event, at_ms in _with_times(newest.values()):
        is_in_time = (since_ms is None or at_ms >= since_ms) and (until_ms is None or at_ms <= until_ms)
        (chosen if event.id in holds and is_in_time else left).append(event)
    return chosen, left


def _with_times(events: Iterable[Event]) -> Iterator[tuple[Event, int]]:
    """Events with the time they have or, where the agent does not say, that of the one before."""
    events = list(events)
    at_ms = next((event.at_ms for event in events if event.at_ms), 0)
    for event in events:
        at_ms = event.at_ms or at_ms
        yield event, at_ms


def _speaks_of(title: str, chosen: Sequence[Event], wanted: str) -> bool:
    head = title.casefold().rstrip("…. ")
    return (bool(wanted) and wanted in head) or any(head in event.text.casefold() for event in chosen)


def sessions_called(name: str, threads: Iterable[Thread]) -> set[str]:
    """The one session with this id or beginning. Raises BadInput where it could be several; none is an empty set."""
    ids = {thread.session_id for thread in threads}
    found = {name} if name in ids else {each for each in ids if name and each.startswith(name)}
    if len(found) > 1:
        some = ", ".join(sorted(found)[:5])
        raise BadInput(f"{len(found)} sessions begin with {name!r}: {some}. Give more of the id.")
    return found


def _project_in_store(store: ChunkStore, agent: str, thread_id: ThreadId) -> str:
    return next((chunk.project for chunk in store.thread(agent, thread_id)), "")


def _needles(what: ForgetPlan) -> list[str]:
    """What must not stand in a log any more."""
    gone = [each.thread for each in what.threads if not each.num_left]
    ids = {name for thread in gone for name in (thread.session_id, thread.thread_id)}
    return [*filter(None, (*sorted(ids), what.match, *what.whole_projects))]


def _unfinished(ledger: Ledger) -> dict[tuple[str, ThreadId], bool]:
    """(agent, thread id) of the threads that an unfinished forgetting concerns, and whether they lose their title."""
    found = json.loads(ledger.meta(_UNFINISHED) or "[]")
    return {(agent, thread_id): loses_title for agent, thread_id, loses_title in found}


def _remember(ledger: Ledger, pending: dict[tuple[str, ThreadId], bool]) -> None:
    rows = [(agent, thread_id, loses_title) for (agent, thread_id), loses_title in pending.items()]
    ledger.set_meta(_UNFINISHED, json.dumps(rows))
