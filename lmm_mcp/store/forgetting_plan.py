"""What would be forgotten: conditions in, a plan out, nothing touched.

A text is looked for in everything that recall or expand can show: what was said and done, the files, the tool, the folder
and the branch of each event, and the project, folder, branch, remote and title of its thread. Where a thread's place
holds it, all of the thread goes; a title or branch alone is merely taken off. Ids are not text and are not looked at.

Agents make titles from the first thing said, often in other words: a title goes with its first prompt or first reply,
and a fork's title goes with that of the session it grew from.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from lmm_mcp.domain.chunk import Chunk
from lmm_mcp.domain.event import Event, EventId, Thread, ThreadId
from lmm_mcp.errors import ArchiveError, BadInput
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.chunks import ChunkStore
from lmm_mcp.store.ledger import Ledger, ThreadRow

Key = tuple[str, ThreadId]
"""Agent and thread id."""
_NOTES = "notes"
"""The agent whose threads all bear the same title, made of nothing."""


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
    """The title says what is forgotten, or was made from it."""
    titles: tuple[str, ...] = ()
    """All it ever had, where it loses them."""
    places: tuple[str, ...] = ()
    """Branches and folders known of the thread that nothing left of it was said in."""
    is_unread: bool = False
    """There is no archive of it that could be read: it was judged by its chunks."""


@dataclass(frozen=True)
class ForgetPlan:
    """What would go. Nothing was touched yet."""

    threads: tuple[ThreadPlan, ...]
    match: str | None = None
    """The text by which events were chosen, to be cut out of logs and of notes not read yet."""
    whole_projects: tuple[str, ...] = ()
    """Keys of projects of which nothing stays."""
    is_match_alone: bool = False
    """No other condition narrows the text down: wherever it names a folder or project, that goes, too."""
    damaged: tuple[str, ...] = ()
    """Archive files that could not be looked into, each with the next step: what they hold may stay."""

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
class _Wanted:
    """The conditions, ready to be asked."""

    session_ids: set[str] | None
    project: str | None
    since_ms: int | None
    until_ms: int | None
    text: str
    """Casefolded, '' for any."""

    @property
    def is_everything(self) -> bool:
        """Whether all of each thread meant is to go."""
        return not self.text and self.since_ms is None and self.until_ms is None

    def means(self, thread: Thread, project: str) -> bool:
        """Whether the thread is among those asked for."""
        return (self.session_ids is None or thread.session_id in self.session_ids) and self.project in (None, project)

    def holds(self, *said: str) -> bool:
        """Whether any of these texts holds the one looked for, however its lines are broken."""
        if not self.text:
            return True
        found = "\n".join(said).casefold()
        return self.text in found or (" " in self.text and self.text in " ".join(found.split()))

    def is_in_time(self, at_ms: int) -> bool:
        """Whether an event of that time may go."""
        return (self.since_ms is None or at_ms >= self.since_ms) and (self.until_ms is None or at_ms <= self.until_ms)


@dataclass(slots=True)
class _Kept:
    """What the archive holds of a thread."""

    heads: list[Thread] = field(default_factory=list)
    """What was known of the thread, in every version."""
    events: dict[EventId, Event] = field(default_factory=dict)
    """As last revised."""
    holding: set[EventId] = field(default_factory=set)
    """Those that held what is looked for, in any version."""


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
    without a time has that of the one before it. match: text that is shown with the event, upper and lower case alike.
    """
    text = (match or "").strip()
    if session is None and project is None and since_ms is None and until_ms is None and not text:
        raise BadInput("say what to forget: a session, a project, a time range or a text.")
    rows = {(row.thread.agent, row.thread.thread_id): row for row in ledger.threads()}
    unread: list[ArchiveError] = []
    heads = {key: row.thread for key, row in rows.items()}
    heads |= {(thread.agent, thread.thread_id): thread for _, thread in archive.threads(damaged=unread)}
    session_ids = None if session is None else sessions_called(session, heads.values())
    wanted = _Wanted(session_ids, project, since_ms, until_ms, " ".join(text.casefold().split()))
    # A file whose thread the ledger knows is tried below, where that thread is meant.
    files = [str(archive.path(*key)) for key in rows]
    damaged = [str(problem) for problem in unread if not any(str(problem).startswith(file) for file in files)]
    found: dict[Key, ThreadPlan] = {}
    for key, thread in heads.items():
        row = rows.get(key)
        where = row.project if row is not None else _project_in_store(store, *key)
        if not wanted.means(thread, where):
            continue
        try:
            planned = _of_thread(key, thread, where, row, wanted, store, archive)
        except ArchiveError as problem:
            planned = _unread(thread, where, row, wanted, store.thread(*key))
            if not wanted.is_everything:
                damaged.append(f"{problem} Then forget again: all of that file could not be searched.")
        if planned is not None:
            found[key] = planned
    found |= _like_those(found, heads, rows)
    return ForgetPlan(
        tuple(found.values()),
        text or None,
        _left_empty(found, rows.values(), project if wanted.is_everything and session is None else None),
        bool(text) and session is None and project is None and since_ms is None and until_ms is None,
        tuple(damaged),
    )


def _of_thread(
    key: Key,
    thread: Thread,
    project: str,
    row: ThreadRow | None,
    wanted: _Wanted,
    store: ChunkStore,
    archive: Archive,
) -> ThreadPlan | None:
    kept = _look(archive, key, thread, project, wanted)
    if not kept.events:  # somebody moved the file away; what was made of it may still lie in the store
        return _unread(thread, project, row, wanted, store.thread(*key))
    chosen: list[Event] = []
    left: list[Event] = []
    for event, at_ms in _with_times(kept.events.values()):
        (chosen if event.id in kept.holding and wanted.is_in_time(at_ms) else left).append(event)
    heads = [thread, *([row.thread] if row is not None else []), *kept.heads]
    titles = () if thread.agent == _NOTES else tuple(dict.fromkeys(head.title for head in heads if head.title))
    loses_title = bool(titles) and (
        any(bool(wanted.text) and wanted.holds(title) for title in titles)
        or _loses_beginning(kept.events.values(), chosen)
        or any(_is_said_in(title, chosen) for title in titles)
    )
    if loses_title:  # a session's digest may be its title once more
        chosen += [event for event in left if event.kind == "summary" and event.text.strip() in titles]
        left = [event for event in left if event not in chosen]
    places = _places_lost(heads, chosen, left, wanted)
    ids = {event.id for event in chosen}
    chunks = store.thread(*key) if ids or wanted.text else []
    if not (chosen or loses_title or places or any(_still_shows(chunk, wanted) for chunk in chunks)):
        return None
    times = [event.at_ms for event in chosen if event.at_ms]
    return ThreadPlan(
        thread=dataclasses.replace(thread, title=max(titles, default="")),
        project=project,
        event_ids=tuple(event.id for event in chosen),
        num_left=len(left),
        num_chunks=sum(not ids.isdisjoint(chunk.event_ids) for chunk in chunks),
        first_ms=min(times, default=0),
        last_ms=max(times, default=0),
        loses_title=loses_title,
        titles=titles if loses_title or not left else (),
        places=places,
    )


def _look(archive: Archive, key: Key, thread: Thread, project: str, wanted: _Wanted) -> _Kept:
    """Read a thread and mark the events that hold what is wanted. One that ever held it is marked in all versions."""
    kept = _Kept(heads=[thread])
    events: list[Event] = []
    for record in archive.records(*key):
        if isinstance(record, Thread):
            kept.heads.append(record)
        else:
            events.append(record)
            kept.events[record.id] = record
    if wanted.holds(project, *(place for head in kept.heads for place in (head.cwd, head.remote))):
        kept.holding = set(kept.events)  # everything of a thread is shown with its project
        return kept
    branches = [head.branch for head in kept.heads]
    for event in events:
        branch = [event.branch] if event.branch else branches
        if wanted.holds(event.text, event.command, *event.paths, event.tool, event.cwd, *branch):
            kept.holding.add(event.id)
    return kept


def _still_shows(chunk: Chunk, wanted: _Wanted) -> bool:
    """Whether a chunk says what the archive of its thread does not: cut before that was changed, it is to be cut anew."""
    asked = [row.partition(": ")[2] for row in chunk.header.splitlines()[1:]]
    return bool(wanted.text) and wanted.holds(chunk.text_of(), *chunk.files, *asked[:2])


def _loses_beginning(events: Iterable[Event], chosen: Sequence[Event]) -> bool:
    """Whether what a title is made from goes: the first prompt, or the first reply."""
    gone = {event.id for event in chosen}
    first: dict[str, EventId] = {}
    for event in events:
        first.setdefault(event.kind, event.id)
    return any(first.get(kind) in gone for kind in ("prompt", "reply")) or ("prompt" not in first and bool(gone))


def _is_said_in(title: str, chosen: Sequence[Event]) -> bool:
    head = title.casefold().rstrip("…. ")
    return bool(head) and any(head in event.text.casefold() for event in chosen)


def _places_lost(
    heads: Sequence[Thread], chosen: Sequence[Event], left: Sequence[Event], wanted: _Wanted
) -> tuple[str, ...]:
    """Branches of the thread that nothing left was done on, and its folders where nothing is left.

    What is left may name no branch: then the thread's is its own. Folders say which project it belongs to.
    """
    gone, still = {event.branch for event in chosen}, {event.branch for event in left}
    lost: dict[str, None] = {}
    for head in heads:
        is_meant = not left or head.branch in gone or (bool(wanted.text) and wanted.holds(head.branch))
        if is_meant and head.branch not in still and still != {""}:
            lost[head.branch] = None
        if not left:
            lost[head.cwd] = None
    return tuple(place for place in lost if place)


def _like_those(
    found: dict[Key, ThreadPlan], heads: dict[Key, Thread], rows: dict[Key, ThreadRow]
) -> dict[Key, ThreadPlan]:
    """Threads that lose no more than a title: forks of those that lose theirs, and what is called the same."""
    losing = [each for each in found.values() if each.titles]
    titles = {title for each in losing for title in each.titles}
    sessions = {(each.thread.agent, each.thread.session_id) for each in losing}
    more: dict[Key, ThreadPlan] = {}
    for key, thread in heads.items():
        row = rows.get(key)
        own = {thread.title, row.thread.title if row is not None else ""} - {""}
        is_fork = bool(thread.forked_from) and (thread.agent, thread.forked_from) in sessions
        if not own or thread.agent == _NOTES or not (is_fork or own & titles):
            continue
        if key in found:
            if not found[key].loses_title and found[key].num_left:
                more[key] = dataclasses.replace(found[key], loses_title=True, titles=tuple(sorted(own)))
        else:
            num_left = max(1, row.num_events if row is not None else 1)
            more[key] = ThreadPlan(
                dataclasses.replace(thread, title=max(own)),
                row.project if row is not None else "",
                event_ids=(),
                num_left=num_left,
                num_chunks=0,
                first_ms=0,
                last_ms=row.last_ms if row is not None else 0,
                loses_title=True,
                titles=tuple(sorted(own)),
            )
    return more


def _unread(
    thread: Thread, project: str, row: ThreadRow | None, wanted: _Wanted, chunks: Sequence[Chunk]
) -> ThreadPlan | None:
    """The plan for a thread of which there is no archive to read: judged by its chunks."""
    chosen: dict[EventId, None] = {}
    everything = dict.fromkeys(event_id for chunk in chunks for event_id in chunk.event_ids)
    for chunk in chunks:
        if wanted.is_in_time(chunk.first_ms) or wanted.is_in_time(chunk.last_ms):
            lines = [line.span.event_id for line in chunk.lines if wanted.holds(line.text)]
            shown = (chunk.project, chunk.branch, chunk.header, *chunk.files, *chunk.commands, chunk.text_of())
            chosen |= dict.fromkeys(lines or (chunk.event_ids if wanted.holds(*shown) else ()))
    heads = [thread, *([row.thread] if row is not None else [])]
    is_named = wanted.is_everything or (
        bool(wanted.text) and any(wanted.holds(head.title, head.branch, head.cwd, head.remote) for head in heads)
    )
    if not chosen and not is_named:
        return None
    titles = tuple(dict.fromkeys(head.title for head in heads if head.title and head.agent != _NOTES))
    num_left = 0 if wanted.is_everything else max(1, len(everything) - len(chosen))
    return ThreadPlan(
        dataclasses.replace(thread, title=max(titles, default="")),
        project,
        tuple(chosen),
        num_left,
        num_chunks=sum(not chosen.keys().isdisjoint(chunk.event_ids) for chunk in chunks),
        first_ms=row.first_ms if row is not None else 0,
        last_ms=row.last_ms if row is not None else 0,
        loses_title=bool(titles),
        titles=titles,
        places=()
        if num_left
        else tuple(dict.fromkeys(one for head in heads for one in (head.branch, head.cwd) if one)),
        is_unread=True,
    )


def _left_empty(found: dict[Key, ThreadPlan], rows: Iterable[ThreadRow], whole: str | None) -> tuple[str, ...]:
    """Projects of which nothing would be left."""
    left = {row.project for row in rows if _stays(found.get((row.thread.agent, row.thread.thread_id)))}
    going = {each.project for each in found.values() if not each.num_left} | {whole or ""}
    return tuple(sorted(going - left - {""}))


def _stays(planned: ThreadPlan | None) -> bool:
    return planned is None or planned.num_left > 0


def _with_times(events: Iterable[Event]) -> Iterator[tuple[Event, int]]:
    """Events with the time they have or, where the agent does not say, that of the one before."""
    events = list(events)
    at_ms = next((event.at_ms for event in events if event.at_ms), 0)
    for event in events:
        at_ms = event.at_ms or at_ms
        yield event, at_ms


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
