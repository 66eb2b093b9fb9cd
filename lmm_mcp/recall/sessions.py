"""The last sessions of a project, read from the end of their archive: turns, titles, and what was settled in them.

What the briefs that nobody asked a question for are made of (`opening.py`, `timeline.py`), without the store, whose library alone
takes longer to load than those may take.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from lmm_mcp.domain.chunk import ChunkId, chunk_id
from lmm_mcp.domain.event import Event
from lmm_mcp.domain.fence import without_fenced
from lmm_mcp.domain.project import NO_PROJECT
from lmm_mcp.domain.quoting import plain_name
from lmm_mcp.errors import ArchiveError
from lmm_mcp.recall import remarks
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.ledger import Ledger, ThreadRow
from lmm_mcp.store.projects import follow

LINE_chars = 180
_SAID_BY = {"prompt": "user", "reply": "agent", "summary": "summary"}
_MAX_PARTS_tried = 64
_OBSERVERS = ("observer-sessions", "/.claude-mem/")
"""Folders in which other memory tools let an agent retell sessions."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A prompt and what followed, without what this memory itself produced; its first event names its passage."""

    row: ThreadRow
    events: tuple[Event, ...]

    @property
    def prompt(self) -> Event | None:
        """What it began with, None where nobody typed it."""
        return self.events[0] if self.events[0].kind == "prompt" else None


@dataclass(frozen=True, slots=True)
class Session:
    """What was read of one thread."""

    row: ThreadRow
    turns: tuple[Turn, ...]
    is_whole: bool
    """Whether its beginning was read too."""

    def events(self) -> Iterator[Event]:
        """All of them, in order."""
        for turn in self.turns:
            yield from turn.events


@dataclass(frozen=True, slots=True)
class Said:
    """A line that may be told."""

    section: str
    """Under which heading."""
    text: str
    turn: Turn
    event: Event


def rows_of(ledger: Ledger, project: str | None) -> list[ThreadRow]:
    """The main threads of a project, None for all, that somebody worked in, newest first."""
    if project == NO_PROJECT:
        return []
    if project is None:
        rows = ledger.threads()
    else:
        aliases = ledger.aliases()
        keys = {project, *(alias for alias in aliases if follow(alias, aliases) == project)}
        rows = [row for key in sorted(keys) for row in ledger.threads(project=key)]
    main = [
        row
        for row in rows
        if row.last_ms and not row.thread.is_subagent and not any(part in row.thread.cwd for part in _OBSERVERS)
    ]
    return sorted(main, key=lambda row: (-row.last_ms, row.thread.agent, row.thread.thread_id))


def read_last(archive: Archive, row: ThreadRow, max_bytes: int) -> Session:
    """Read a thread from its end, outputs of tools counted in part; one that is damaged has no turns."""
    try:
        events, is_whole = archive.latest(row.thread.agent, row.thread.thread_id, max_bytes=max_bytes)
    except ArchiveError:
        return Session(row, (), False)  # `lmm doctor` names it; the others are told of
    turns: list[list[Event]] = []
    for event in events:
        if (own := _without_echo(event)) is None:
            continue
        if own.kind == "prompt" or (not turns and is_whole):
            turns.append([own])
        elif turns:  # else its turn began before what was read, so it has no name
            turns[-1].append(own)
    return Session(row, tuple(Turn(row, tuple(turn)) for turn in turns), is_whole)


def _without_echo(event: Event) -> Event | None:
    if event.ours:
        return None
    if event.kind in ("call", "result"):  # only whether it succeeded is told of these
        return event
    kept = without_fenced(event.text)
    if kept == event.text:
        return event
    return replace(event, text=kept) if kept.strip() else None


def title_of(session: Session) -> str:
    """Its title, else what was asked first; '' where neither says anything."""
    return session.row.thread.title or next(filter(None, map(asked_in, session.turns)), "")


def asked_in(turn: Turn) -> str:
    """What was asked, in its first sentence; '' for nothing."""
    return remarks.headline(turn.prompt.text) if turn.prompt is not None else ""


def decided_in(session: Session) -> Iterator[Said]:
    """What was settled, the last first."""
    for turn in reversed(session.turns):
        for event in reversed(turn.events):
            if event.kind not in ("prompt", "reply", "summary"):
                continue
            by_user = event.kind == "prompt"
            if by_user and remarks.correction(event.text):
                continue  # told as such
            for line in reversed(remarks.decisions(event.text, by_user=by_user)):
                yield Said("decided", f"{_SAID_BY[event.kind]}: {plain_name(line, LINE_chars)}", turn, event)


def corrected_in(session: Session) -> Iterator[Said]:
    """What the user corrected, the last first."""
    # What a session begins with corrects nothing in it.
    for turn in reversed(session.turns[1:] if session.is_whole else session.turns):
        if turn.prompt is not None and (line := remarks.correction(turn.prompt.text)):
            yield Said("corrected", f"user: {plain_name(line, LINE_chars)}", turn, turn.prompt)


def source_row(mark: str, said: Said, chunk: ChunkId) -> str:
    """Where a mark comes from: its day, its agent, and the id for `expand`."""
    row = said.turn.row
    return f"[{mark}] {moment(said.event.at_ms or row.last_ms)[:10]} {plain_name(row.thread.agent)} id {chunk}"


def chunk_of(said: Said, ledger: Ledger) -> ChunkId | None:
    """The id of the passage that an event lies in: made from its turn's first event, and known to the ledger or none."""
    row, events = said.turn.row, [event.id for event in said.turn.events]
    if not row.chunker_version:  # it waits to be cut anew: ids that are known may be of what is gone
        return None
    at = events.index(said.event.id)
    found: ChunkId | None = None
    for part in range(_MAX_PARTS_tried):
        name = chunk_id(row.thread.agent, events[0], part)
        known = ledger.resolve_chunk(name)
        if known is None:
            break
        found = name
        if known[3] in events and at <= events.index(known[3]):
            break
    return found


def moment(at_ms: int) -> str:
    """A time, UTC, to the minute."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M") if at_ms else "undated"
