"""Ledger and archive in, a timeline of a project out: session by session, newest first, what each was about and what it left.

Of each session its title or first request, what was decided, what the user corrected and which files were changed, each line with
the id of its passage. Nothing is searched, and the store is not opened.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from lmm_mcp.domain.chunk import ChunkId
from lmm_mcp.domain.event import Event
from lmm_mcp.domain.fence import fenced
from lmm_mcp.domain.quoting import plain_name
from lmm_mcp.domain.recall import CHARS_PER_TOKEN, num_tokens
from lmm_mcp.domain.wording import counted
from lmm_mcp.recall.sessions import (
    LINE_chars,
    Said,
    Session,
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
from lmm_mcp.store.ledger import Ledger, ThreadRow

BUDGET_tokens = 1000
MAX_SESSIONS = 40
"""The last ones of the time asked about; how many more there are is said."""
NUM_NAMED_first = 12
"""Sessions that are all named before any of them is told of in full, and these before older ones are named."""
MAX_SESSION_bytes = 150_000
MAX_TOLD = {"decided": 4, "corrected": 2}
"""Lines of each kind for one session."""
MAX_FILES = 6
_HEAD = "Sessions of {name}, newest first; `recall` answers questions about them, `expand` (`lmm show`) shows the passage of an id."
_TAIL = "sources:"
_ANY_MARK = "c999"
_MAX_MORE_chars = 60
_BETWEEN = {"decided": "  decided, ", "corrected": "  corrected by the ", "files": "  "}


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of the timeline, under its session."""

    session: int
    text: str
    said: Said


def write(
    ledger: Ledger,
    archive: Archive,
    project: str | None,
    *,
    since_ms: int | None = None,
    until_ms: int | None = None,
    budget_tokens: int = BUDGET_tokens,
) -> str:
    """The timeline of a project, None for all, as far as the budget goes; '' where nothing was done in that time.

    Sessions count that were worked in between `since_ms` and `until_ms`. Raises StoreError.
    """
    rows = [row for row in rows_of(ledger, project) if _lies_within(row, since_ms, until_ms)]
    sessions = [session for row in rows[:MAX_SESSIONS] if (session := _read(archive, row, until_ms)).turns]
    told = [list(_of_session(n, session, with_project=project is None)) for n, session in enumerate(sessions)]
    in_order = [line for some in (told[:NUM_NAMED_first], told[NUM_NAMED_first:]) for line in _named_first(some)]
    name = "all projects" if project is None else plain_name(project.rsplit("/", 1)[-1])
    return _packed(in_order, ledger, _HEAD.format(name=name), len(rows), budget_tokens)


def _named_first(told: Sequence[Sequence[_Line]]) -> list[_Line]:
    return [each[0] for each in told] + [line for each in told for line in each[1:]]


def _lies_within(row: ThreadRow, since_ms: int | None, until_ms: int | None) -> bool:
    begins_ms = row.first_ms or row.last_ms
    return (since_ms is None or row.last_ms >= since_ms) and (until_ms is None or begins_ms <= until_ms)


def _read(archive: Archive, row: ThreadRow, until_ms: int | None) -> Session:
    session = read_last(archive, row, MAX_SESSION_bytes)
    if until_ms is None or row.last_ms <= until_ms:
        return session
    before = [
        replace(turn, events=tuple(each for each in turn.events if each.at_ms <= until_ms)) for turn in session.turns
    ]
    return replace(session, turns=tuple(turn for turn in before if turn.events))


def _of_session(number: int, session: Session, *, with_project: bool) -> Iterator[_Line]:
    last = session.turns[-1]
    row = session.row
    where = f" {plain_name(row.project.rsplit('/', 1)[-1])}" if with_project and row.project else ""
    about = plain_name(title_of(session) or "(nothing was said)", LINE_chars)
    at = moment(last.events[-1].at_ms or row.last_ms)
    title = f"{at}{where} {plain_name(row.thread.agent)}: {about}"
    yield _Line(number, title, Said("title", title, last, last.events[-1]))
    for kind, found in (("decided", decided_in(session)), ("corrected", corrected_in(session))):
        for said in _first(found, MAX_TOLD[kind]):
            yield _Line(number, f"{_BETWEEN[kind]}{said.text}", said)
    edits = [(turn, event) for turn in session.turns for event in turn.events if _is_edit(event)]
    names = dict.fromkeys(plain_name(path) for _, event in reversed(edits) for path in event.paths)
    if edits and names:
        shown = ", ".join(_short(name) for name in list(names)[:MAX_FILES])
        more = f" and {len(names) - MAX_FILES} more" if len(names) > MAX_FILES else ""
        text = f"{_BETWEEN['files']}changed: {shown}{more}"
        yield _Line(number, text, Said("files", text, *edits[-1]))


def _first(found: Iterable[Said], at_most: int) -> list[Said]:
    told: dict[str, Said] = {}
    for each in found:
        told.setdefault(each.text.casefold(), each)
        if len(told) == at_most:
            break
    return list(told.values())


def _is_edit(event: Event) -> bool:
    """A call that names a file and holds more than its name brings what is new in it."""
    return event.kind == "call" and bool(event.paths) and not event.command and "\n" in event.text


def _short(path: str) -> str:
    """The end of a path: its folder and its name."""
    return "/".join(path.replace("\\", "/").rstrip("/").split("/")[-2:])


def _packed(lines: Sequence[_Line], ledger: Ledger, head: str, num_sessions: int, budget_tokens: int) -> str:
    left = budget_tokens * CHARS_PER_TOKEN - len(fenced(f"{head}\n{_TAIL}")) - _MAX_MORE_chars
    kept: list[tuple[_Line, ChunkId]] = []
    cited: set[ChunkId] = set()
    named: set[int] = set()
    for each in lines:
        is_title = each.said.section == "title"
        if (not is_title and each.session not in named) or (chunk := chunk_of(each.said, ledger)) is None:
            continue
        cost = len(f"[{_ANY_MARK}] {each.text}\n")
        cost += 0 if chunk in cited else len(source_row(_ANY_MARK, each.said, chunk)) + 1
        if cost > left:
            continue
        left -= cost
        kept.append((each, chunk))
        cited.add(chunk)
        named |= {each.session} if is_title else set()
    if not kept:
        return ""
    sources: dict[ChunkId, str] = {}
    text = [head]
    for each, chunk in sorted(kept, key=lambda pair: pair[0].session):
        if chunk not in sources:
            sources[chunk] = source_row(f"c{len(sources) + 1}", each.said, chunk)
        text.append(f"{sources[chunk].partition(' ')[0]} {each.text}")
    if num_sessions > len(named):
        text.append(f"and {counted(num_sessions - len(named), 'session')} more, left out here")
    found = fenced("\n".join([*text, _TAIL, *sources.values()]))
    assert num_tokens(found) <= budget_tokens
    return found
