"""Evidence in, brief out: as many lines as the budget holds, each with its mark, then where the marks come from.

A session is named once with the ids of all that is quoted of it: room for sources is room taken from answers.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from lmm_mcp.domain.chunk import Chunk
from lmm_mcp.domain.fence import fenced
from lmm_mcp.domain.quoting import plain_name
from lmm_mcp.domain.recall import CHARS_PER_TOKEN, Brief, Citation, NothingFound, num_tokens
from lmm_mcp.recall.evidence import quoted
from lmm_mcp.recall.found import Evidence
from lmm_mcp.recall.telling import Told

_ROOM_FOR_A_LINE_chars = 60
_MAX_PROJECT_chars = 60
_SESSION_chars = 13
"""Of a session's id: enough to find it again, for `lmm show` too."""
_NO_BRACKETS = str.maketrans("", "", "()")
"""A value must not end the mark that it stands in."""
_SAID_BY = {
    "user": "user",
    "agent": "agent",
    "thought": "agent (thinking)",
    "command": "ran",
    "output": "printed",
    "error": "error",
    "edit": "edit",
    "path": "file",
    "summary": "summary",
    "note": "note",
}


def write(evidence: Sequence[Evidence], *, budget_tokens: int, sentences: Sequence[Told] = ()) -> Brief | None:
    """Pack sentences, then evidence, most useful first. None where not even one line fits.

    `budget_tokens` counts the whole text: fence, marks and sources included. `sentences`: what was written and checked; each
    rests on some of the evidence.
    """
    max_chars = budget_tokens * CHARS_PER_TOKEN
    # Where all evidence is of one project, it is named once. Only what is quoted counts, and that is known at the end:
    # what might be quoted decides, so that the budget is kept either way.
    projects = {item.chunk.project for item in evidence}
    title = f"sources, all from {_name(*projects)}:" if len(projects) == 1 else "sources:"
    lines: list[str] = []
    sources: dict[tuple[str, ...], str] = {}
    citations: dict[str, Citation] = {}
    size = len(fenced(title)) + 1
    for rests_on, said in (*_summed_up(sentences), *_quoted(evidence)):
        new: dict[str, Citation] = {}
        for item in rests_on:
            if item.chunk.id not in citations and item.chunk.id not in new:
                new[item.chunk.id] = _cite(item.chunk, len(citations) + len(new) + 1)
        marks = dict.fromkeys({**citations, **new}[item.chunk.id].mark for item in rests_on)
        line = f"[{', '.join(marks)}] {said}"
        grown = dict(sources)
        for citation in new.values():
            place = _place(citation, with_project=len(projects) > 1)
            grown[place] = f"{grown.get(place, _row(place))} [{citation.mark}] {citation.chunk_id}"
        cost = len(line) + 1 + _length(grown) - _length(sources)
        if size + cost > max_chars:
            if max_chars - size < _ROOM_FOR_A_LINE_chars:
                break
            continue
        size += cost
        lines.append(line)
        citations |= new
        sources = grown
    if not lines:
        return None
    text = fenced("\n".join([*lines, title, *sources.values()]))
    assert num_tokens(text) <= budget_tokens
    return Brief(text=text, citations=tuple(citations.values()))


def nothing(num_searched: int, *, everywhere: bool) -> NothingFound:
    """Say in one line that nothing is known."""
    where = "" if everywhere else ' of this project (project="*" asks all projects)'
    text = f"Nothing relevant is remembered: searched {num_searched:,} passages{where}."
    return NothingFound(text=text, num_searched=num_searched)


def _summed_up(sentences: Sequence[Told]) -> Iterator[tuple[Sequence[Evidence], str]]:
    for each in sentences:
        was = " (superseded)" if all(item.superseded for item in each.rests_on) else ""
        yield each.rests_on, f"in short{was}: {each.text}"


def _quoted(evidence: Sequence[Evidence]) -> Iterator[tuple[Sequence[Evidence], str]]:
    for item in evidence:
        of = f" ({item.of})" if item.of else ""
        yield (item,), f"{_SAID_BY.get(item.line.role, item.line.role)}{of}{_was(item)}: {item.text}"


def _length(sources: Mapping[tuple[str, ...], str]) -> int:
    return sum(len(row) + 1 for row in sources.values())


def _was(item: Evidence) -> str:
    if item.replaced is not None:
        old, new = (quoted(each).translate(_NO_BRACKETS) for each in item.replaced)
        return f" ({old} is superseded by {new})"
    return " (superseded)" if item.superseded else ""


def _cite(chunk: Chunk, number: int) -> Citation:
    return Citation(
        mark=f"c{number}",
        chunk_id=chunk.id,
        session_id=chunk.session_id,
        agent=chunk.agent,
        project=chunk.project,
        at_ms=chunk.last_ms or chunk.first_ms,
    )


def _place(citation: Citation, *, with_project: bool) -> tuple[str, ...]:
    """What passages of one session and day have in common."""
    day = datetime.fromtimestamp(citation.at_ms / 1000, UTC).strftime("%Y-%m-%d") if citation.at_ms else "undated"
    project = (_name(citation.project),) if with_project else ()
    return day, plain_name(citation.agent), *project, f"session {plain_name(citation.session_id[:_SESSION_chars])}"


def _row(place: tuple[str, ...]) -> str:
    return " ".join(place)


def _name(project: str) -> str:
    return plain_name(project.rsplit("/", 1)[-1], _MAX_PROJECT_chars) or "no project"
