"""Ledger and archive in, the brief that opens a session out: what a project was about when it was left.

Nobody has asked anything yet, so nothing is searched: the last sessions are read from their end, and what was worked on, left
open, decided, corrected and run with success is told, newest first, each line with the id of its passage. Deterministic,
without a model, and without the store, whose library alone takes longer to load than this may take.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain

from lmm_mcp.domain.chunk import ChunkId, chunk_id
from lmm_mcp.domain.event import Event
from lmm_mcp.domain.fence import fenced, without_fenced
from lmm_mcp.domain.project import NO_PROJECT, looks_like_home, normalise_path
from lmm_mcp.domain.quoting import plain_name
from lmm_mcp.domain.recall import CHARS_PER_TOKEN, num_tokens
from lmm_mcp.errors import ArchiveError
from lmm_mcp.recall import habits, remarks
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.ledger import Ledger, ThreadRow
from lmm_mcp.store.projects import follow, resolve

BUDGET_tokens = 600
MAX_SESSIONS = 8
"""The last ones that are looked into."""
MAX_SESSION_bytes = 250_000
"""Of each, from its end, outputs of tools counted in part."""
MAX_TOLD = {"worked": 4, "decided": 6, "corrected": 4, "ran": 5}
"""Lines of each kind, beside what the newest session left open."""
_LINE_chars = 180
_SHORT_chars = 120
_SAID_BY = {"prompt": "user", "reply": "agent", "summary": "summary"}
_MAX_PARTS_tried = 64
_OBSERVERS = ("observer-sessions", "/.claude-mem/")
"""Folders in which other memory tools let an agent retell sessions."""
_HEAD = "Left here by earlier sessions; `recall` answers questions about them, `expand` shows the passage of an id."
_TAIL = "sources:"
_ANY_MARK = "c99"
"""As long as the longest: marks are given at the end, in the order of the text."""
_HEADINGS = {
    "now": "the session that was just compacted:",
    "worked": "last worked on:",
    "decided": "decided:",
    "corrected": "corrected by the user:",
    "ran": "commands that worked here:",
}


@dataclass(frozen=True, slots=True)
class _Turn:
    """A prompt and what followed, without what this memory itself produced; its first event names its passage."""

    row: ThreadRow
    events: tuple[Event, ...]

    @property
    def prompt(self) -> Event | None:
        return self.events[0] if self.events[0].kind == "prompt" else None


@dataclass(frozen=True, slots=True)
class _Session:
    row: ThreadRow
    turns: tuple[_Turn, ...]
    is_whole: bool
    """Whether its beginning was read too."""

    def events(self) -> Iterator[Event]:
        for turn in self.turns:
            yield from turn.events


@dataclass(frozen=True, slots=True)
class _Said:
    """A line that may be told."""

    section: str
    text: str
    turn: _Turn
    event: Event


def for_folder(ledger: Ledger, archive: Archive, *, cwd: str, session_id: str = "", source: str = "") -> str:
    """The brief for a session that begins in a folder, '' where nothing is known of its project.

    `source`: why it begins, in the words of the agent's hook: `startup`, `resume`, `clear`, `compact`.
    Raises StoreError.
    """
    project = NO_PROJECT
    if cwd and not looks_like_home(normalise_path(cwd)):
        project = resolve(cwd, aliases=ledger.aliases(), roots=ledger.known_roots()).key
    is_compacted = source == "compact"
    if is_compacted and (own := ledger.threads(session_id=session_id)):
        project = follow(own[0].project, ledger.aliases())  # it may have changed its folder since it began
    return write(ledger, archive, project, session_id=session_id, is_compacted=is_compacted)


def write(
    ledger: Ledger,
    archive: Archive,
    project: str,
    *,
    session_id: str = "",
    is_compacted: bool = False,
    budget_tokens: int = BUDGET_tokens,
) -> str:
    """The brief for a session of `project` that begins; '' where nothing is known of it.

    `session_id`: the session's own, of which it knows by itself; unless it `is_compacted`, when it comes first.
    Raises StoreError.
    """
    rows = _rows(ledger, project)
    now = [row for row in rows if row.thread.session_id == session_id and row.thread.agent != "notes"]
    others = [row for row in rows if row not in now and row.thread.agent != "notes"][:MAX_SESSIONS]
    own = [_read(archive, row) for row in now[:1]] if is_compacted else []
    sessions = [session for row in others if (session := _read(archive, row)).turns]
    notes = [_read(archive, row) for row in rows if row.thread.agent == "notes"][:2]
    return _packed(_candidates([each for each in own if each.turns], sessions, notes), ledger, budget_tokens)


def _rows(ledger: Ledger, project: str) -> list[ThreadRow]:
    """The main threads of a project that somebody worked in, newest first."""
    if project == NO_PROJECT:
        return []
    aliases = ledger.aliases()
    keys = {project, *(alias for alias in aliases if follow(alias, aliases) == project)}
    rows = [row for key in sorted(keys) for row in ledger.threads(project=key)]
    main = [
        row
        for row in rows
        if row.last_ms and not row.thread.is_subagent and not any(part in row.thread.cwd for part in _OBSERVERS)
    ]
    return sorted(main, key=lambda row: (-row.last_ms, row.thread.agent, row.thread.thread_id))


def _read(archive: Archive, row: ThreadRow) -> _Session:
    try:
        events, is_whole = archive.latest(row.thread.agent, row.thread.thread_id, max_bytes=MAX_SESSION_bytes)
    except ArchiveError:
        return _Session(row, (), False)  # `lmm doctor` names it; the others are told of
    turns: list[list[Event]] = []
    for event in events:
        if (own := _without_echo(event)) is None:
            continue
        if own.kind == "prompt" or (not turns and is_whole):
            turns.append([own])
        elif turns:  # else its turn began before what was read, so it has no name
            turns[-1].append(own)
    return _Session(row, tuple(_Turn(row, tuple(turn)) for turn in turns), is_whole)


def _without_echo(event: Event) -> Event | None:
    if event.ours:
        return None
    if event.kind in ("call", "result"):  # only whether it succeeded is told of these
        return event
    kept = without_fenced(event.text)
    if kept == event.text:
        return event
    return replace(event, text=kept) if kept.strip() else None


def _candidates(own: Sequence[_Session], sessions: Sequence[_Session], notes: Sequence[_Session]) -> list[_Said]:
    """All that might be told, most useful first."""
    everything = [*own, *sessions]
    worked = [each for session in sessions if (each := _what_it_was_about(session, "worked")) is not None]
    decided = chain(_noted(notes), chain.from_iterable(map(_decided, everything)))
    corrected = chain.from_iterable(map(_corrected, everything))
    lists = {
        "worked": _told_once(worked, MAX_TOLD["worked"]),
        "decided": _told_once(decided, MAX_TOLD["decided"]),
        "corrected": _told_once(corrected, MAX_TOLD["corrected"]),
        "ran": _told_once(_ran(everything), MAX_TOLD["ran"]),
    }
    first = list(_left(own[0], "now", is_long=True)) if own else []
    newest = list(_left(sessions[0], "worked", is_long=not own)) if sessions else []
    # A first line of each kind before a second one of any.
    rest = [each for n in range(max(MAX_TOLD.values())) for kind in lists.values() for each in kind[n : n + 1]]
    return [*first, *lists["worked"][:1], *newest, *(each for each in rest if each not in lists["worked"][:1])]


def _what_it_was_about(session: _Session, section: str) -> _Said | None:
    """Its title, else what was asked first."""
    row = session.row
    if not (title := _title(session)):
        return None
    about = f"{_time(row.last_ms)} {plain_name(row.thread.agent)}: {plain_name(title, _LINE_chars)}"
    return _Said(section, about, session.turns[-1], session.turns[-1].events[-1])


def _title(session: _Session) -> str:
    return session.row.thread.title or next(filter(None, map(_asked, session.turns)), "")


def _left(session: _Session, section: str, *, is_long: bool) -> Iterator[_Said]:
    """Where it was left: what was asked, what was answered, what failed."""
    if section == "now" and (about := _what_it_was_about(session, section)) is not None:
        yield about
    asked = [turn for turn in session.turns if _asked(turn) not in ("", _title(session))]
    for turn in asked[-1:] if section != "now" else (*asked[-1:], *reversed(asked[-4:-1])):
        assert turn.prompt is not None
        yield _Said(section, f"asked: {plain_name(_asked(turn), _LINE_chars)}", turn, turn.prompt)
    if not is_long:
        return
    last = session.turns[-1]
    if (failure := habits.last_failure(last.events)) is not None:
        yield _Said(
            section, f"failed last: {plain_name(failure.line, _SHORT_chars)} [{failure.outcome}]", last, failure.event
        )
    reply = next((event for event in reversed(last.events) if event.kind == "reply" and event.text.strip()), None)
    if reply is not None and (line := remarks.left_open(reply.text) or remarks.headline(reply.text)):
        yield _Said(section, f"left with: {plain_name(line, _LINE_chars)}", last, reply)


def _asked(turn: _Turn) -> str:
    return remarks.headline(turn.prompt.text) if turn.prompt is not None else ""


def _noted(notes: Sequence[_Session]) -> Iterator[_Said]:
    """What `remember` was told, newest first."""
    for session in notes:
        for turn in reversed(session.turns):
            if turn.prompt is not None and (text := " ".join(turn.prompt.text.split())):
                yield _Said("decided", f"note: {plain_name(text, _LINE_chars)}", turn, turn.prompt)


def _decided(session: _Session) -> Iterator[_Said]:
    for turn in reversed(session.turns):
        for event in reversed(turn.events):
            if event.kind not in ("prompt", "reply", "summary"):
                continue
            by_user = event.kind == "prompt"
            if by_user and remarks.correction(event.text):
                continue  # told as such
            for line in reversed(remarks.decisions(event.text, by_user=by_user)):
                yield _Said("decided", f"{_SAID_BY[event.kind]}: {plain_name(line, _LINE_chars)}", turn, event)


def _corrected(session: _Session) -> Iterator[_Said]:
    # What a session begins with corrects nothing in it.
    for turn in reversed(session.turns[1:] if session.is_whole else session.turns):
        if turn.prompt is not None and (line := remarks.correction(turn.prompt.text)):
            yield _Said("corrected", f"user: {plain_name(line, _LINE_chars)}", turn, turn.prompt)


def _ran(sessions: Sequence[_Session]) -> Iterator[_Said]:
    """Commands that succeeded at least twice and did not fail the last time; those of many sessions first."""
    runs = [
        (event.at_ms, line, call_turn, event, habits.outcome_of(result), session.row.thread.thread_id)
        for session in sessions
        for call_turn in session.turns
        for line, event, result in habits.runs(call_turn.events)
    ]
    runs.sort(key=lambda run: run[0])
    by_line: dict[str, list[tuple[_Turn, Event, str]]] = {}
    last: dict[str, bool] = {}
    for _, line, turn, event, succeeded, thread_id in runs:
        if succeeded is None:
            continue
        last[line] = succeeded
        if succeeded:
            by_line.setdefault(line, []).append((turn, event, thread_id))
    working = [(line, found) for line, found in by_line.items() if len(found) >= habits.MIN_TIMES and last[line]]
    working.sort(
        key=lambda item: (-len({thread for *_, thread in item[1]}), -len(item[1]), -item[1][-1][1].at_ms, item[0])
    )
    for line, found in working:
        turn, event, _ = found[-1]
        yield _Said("ran", f"{plain_name(line, _SHORT_chars)} ({len(found)} times)", turn, event)


def _told_once(found: Iterable[_Said], at_most: int) -> list[_Said]:
    """The first ones, each saying once, at its newest."""
    told: dict[str, _Said] = {}
    for each in found:
        told.setdefault(each.text.rpartition(": ")[2].casefold()[:80], each)
        if len(told) == at_most:
            break
    return list(told.values())


def _packed(candidates: Sequence[_Said], ledger: Ledger, budget_tokens: int) -> str:
    """As many lines as the budget holds, in the order of their sections, then where their marks come from."""
    left = budget_tokens * CHARS_PER_TOKEN - len(fenced(f"{_HEAD}\n{_TAIL}"))
    told: dict[str, list[tuple[_Said, ChunkId]]] = {section: [] for section in _HEADINGS}
    cited: set[ChunkId] = set()
    for each in candidates:
        if (chunk := _chunk_of(each, ledger)) is None:
            continue
        cost = len(f"[{_ANY_MARK}] {each.text}\n") + (0 if chunk in cited else len(_source(_ANY_MARK, each, chunk)) + 1)
        cost += 0 if told[each.section] else len(_HEADINGS[each.section]) + 1
        if cost <= left:
            left -= cost
            told[each.section].append((each, chunk))
            cited.add(chunk)
    if not cited:
        return ""
    lines = [_HEAD]
    sources: dict[ChunkId, str] = {}
    for section, found in told.items():
        lines += [_HEADINGS[section]] if found else []
        for each, chunk in found:
            if chunk not in sources:
                sources[chunk] = _source(f"c{len(sources) + 1}", each, chunk)
            mark = sources[chunk].partition(" ")[0]
            lines.append(f"{mark} {each.text}")
    text = fenced("\n".join([*lines, _TAIL, *sources.values()]))
    assert num_tokens(text) <= budget_tokens
    return text


def _source(mark: str, said: _Said, chunk: ChunkId) -> str:
    row = said.turn.row
    return f"[{mark}] {_time(said.event.at_ms or row.last_ms)[:10]} {plain_name(row.thread.agent)} id {chunk}"


def _chunk_of(said: _Said, ledger: Ledger) -> ChunkId | None:
    """The id of the passage that an event lies in: made from its turn's first event, and known to the ledger or none."""
    row, events = said.turn.row, [event.id for event in said.turn.events]
    at = events.index(said.event.id)
    found: ChunkId | None = None
    for part in range(_MAX_PARTS_tried):
        name = chunk_id(row.thread.agent, events[0], part, row.chunker_version)
        known = ledger.resolve_chunk(name)
        if known is None:
            break
        found = name
        if known[3] in events and at <= events.index(known[3]):
            break
    return found


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M") if at_ms else "undated"
