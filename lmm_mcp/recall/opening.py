"""Ledger and archive in, the brief that opens a session out: what a project was about when it was left.

Nobody has asked anything yet, so nothing is searched: the last sessions are read from their end, and what was worked on, left
open, decided, corrected and run with success is told, newest first, each line with the id of its passage. Deterministic,
without a model, and without the store, whose library alone takes longer to load than this may take.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from lmm_mcp.domain.chunk import ChunkId
from lmm_mcp.domain.event import Event
from lmm_mcp.domain.fence import fenced
from lmm_mcp.domain.project import NO_PROJECT, looks_like_home, normalise_path
from lmm_mcp.domain.quoting import plain_name
from lmm_mcp.domain.recall import CHARS_PER_TOKEN, num_tokens
from lmm_mcp.recall import habits, remarks
from lmm_mcp.recall.sessions import (
    LINE_chars,
    Said,
    Session,
    Turn,
    asked_in,
    chunk_of,
    corrected_in,
    decided_in,
    moment,
    read_last,
    rows_of,
    source_row,
    title_of,
)
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.ledger import Ledger
from lmm_mcp.store.projects import follow, resolve

BUDGET_tokens = 600
MAX_SESSIONS = 8
"""The last ones that are looked into."""
MAX_SESSION_bytes = 250_000
"""Of each, from its end, outputs of tools counted in part."""
MAX_TOLD = {"worked": 4, "decided": 6, "corrected": 4, "ran": 5}
"""Lines of each kind, beside what the newest session left open."""
_SHORT_chars = 120
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
    rows = rows_of(ledger, project)
    now = [row for row in rows if row.thread.session_id == session_id and row.thread.agent != "notes"]
    others = [row for row in rows if row not in now and row.thread.agent != "notes"][:MAX_SESSIONS]
    own = [read_last(archive, row, MAX_SESSION_bytes) for row in now[:1]] if is_compacted else []
    sessions = [session for row in others if (session := read_last(archive, row, MAX_SESSION_bytes)).turns]
    notes = [read_last(archive, row, MAX_SESSION_bytes) for row in rows if row.thread.agent == "notes"][:2]
    return _packed(_candidates([each for each in own if each.turns], sessions, notes), ledger, budget_tokens)


def _candidates(own: Sequence[Session], sessions: Sequence[Session], notes: Sequence[Session]) -> list[Said]:
    """All that might be told, most useful first."""
    everything = [*own, *sessions]
    worked = [each for session in sessions if (each := _what_it_was_about(session, "worked")) is not None]
    decided = chain(_noted(notes), chain.from_iterable(map(decided_in, everything)))
    corrected = chain.from_iterable(map(corrected_in, everything))
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


def _what_it_was_about(session: Session, section: str) -> Said | None:
    """Its title, else what was asked first."""
    row = session.row
    if not (title := title_of(session)):
        return None
    about = f"{moment(row.last_ms)} {plain_name(row.thread.agent)}: {plain_name(title, LINE_chars)}"
    return Said(section, about, session.turns[-1], session.turns[-1].events[-1])


def _left(session: Session, section: str, *, is_long: bool) -> Iterator[Said]:
    """Where it was left: what was asked, what was answered, what failed."""
    if section == "now" and (about := _what_it_was_about(session, section)) is not None:
        yield about
    asked = [turn for turn in session.turns if asked_in(turn) not in ("", title_of(session))]
    for turn in asked[-1:] if section != "now" else (*asked[-1:], *reversed(asked[-4:-1])):
        assert turn.prompt is not None
        yield Said(section, f"asked: {plain_name(asked_in(turn), LINE_chars)}", turn, turn.prompt)
    if not is_long:
        return
    last = session.turns[-1]
    if (failure := habits.last_failure(last.events)) is not None:
        yield Said(
            section, f"failed last: {plain_name(failure.line, _SHORT_chars)} [{failure.outcome}]", last, failure.event
        )
    reply = next((event for event in reversed(last.events) if event.kind == "reply" and event.text.strip()), None)
    if reply is not None and (line := remarks.left_open(reply.text) or remarks.headline(reply.text)):
        yield Said(section, f"left with: {plain_name(line, LINE_chars)}", last, reply)


def _noted(notes: Sequence[Session]) -> Iterator[Said]:
    """What `remember` was told, newest first."""
    for session in notes:
        for turn in reversed(session.turns):
            if turn.prompt is not None and (text := " ".join(turn.prompt.text.split())):
                yield Said("decided", f"note: {plain_name(text, LINE_chars)}", turn, turn.prompt)


def _ran(sessions: Sequence[Session]) -> Iterator[Said]:
    """Commands that succeeded at least twice and did not fail the last time; those of many sessions first."""
    runs = [
        (event.at_ms, line, call_turn, event, habits.outcome_of(result), session.row.thread.thread_id)
        for session in sessions
        for call_turn in session.turns
        for line, event, result in habits.runs(call_turn.events)
    ]
    runs.sort(key=lambda run: run[0])
    by_line: dict[str, list[tuple[Turn, Event, str]]] = {}
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
        yield Said("ran", f"{plain_name(line, _SHORT_chars)} ({len(found)} times)", turn, event)


def _told_once(found: Iterable[Said], at_most: int) -> list[Said]:
    """The first ones, each saying once, at its newest."""
    told: dict[str, Said] = {}
    for each in found:
        told.setdefault(each.text.rpartition(": ")[2].casefold()[:80], each)
        if len(told) == at_most:
            break
    return list(told.values())


def _packed(candidates: Sequence[Said], ledger: Ledger, budget_tokens: int) -> str:
    """As many lines as the budget holds, in the order of their sections, then where their marks come from."""
    left = budget_tokens * CHARS_PER_TOKEN - len(fenced(f"{_HEAD}\n{_TAIL}"))
    told: dict[str, list[tuple[Said, ChunkId]]] = {section: [] for section in _HEADINGS}
    cited: set[ChunkId] = set()
    for each in candidates:
        if (chunk := chunk_of(each, ledger)) is None:
            continue
        cost = len(f"[{_ANY_MARK}] {each.text}\n") + (
            0 if chunk in cited else len(source_row(_ANY_MARK, each, chunk)) + 1
        )
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
                sources[chunk] = source_row(f"c{len(sources) + 1}", each, chunk)
            mark = sources[chunk].partition(" ")[0]
            lines.append(f"{mark} {each.text}")
    text = fenced("\n".join([*lines, _TAIL, *sources.values()]))
    assert num_tokens(text) <= budget_tokens
    return text
