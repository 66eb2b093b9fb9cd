"""The passages of a time in, what was done then out, session by session, newest first: for who asks "what did we do last week?".

Such a question has no word to search by. Of each session its first prompt is told, then what was settled and corrected, then what
it ended with; a first line of every session before a second one of any. Pure.
"""

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from lmm_mcp.domain.chunk import Chunk
from lmm_mcp.recall import remarks
from lmm_mcp.recall.evidence import MAX_LINE_chars, MIN_LINE_chars, quoted
from lmm_mcp.recall.found import Evidence
from lmm_mcp.recall.labels import label

MAX_CHUNKS = 300
"""Passages of a time that are looked at, the last ones."""
MAX_LINES_of_session = 12


def listed(chunks: Sequence[Chunk]) -> list[Evidence]:
    """What is worth telling of these passages, most useful first."""
    sessions: dict[tuple[str, str], list[Chunk]] = {}
    for chunk in sorted(chunks, key=lambda each: (-each.last_ms, each.agent, each.thread_id, -each.ordinal)):
        sessions.setdefault((chunk.agent, chunk.session_id), []).append(chunk)
    told = [list(_of_session(found[::-1]))[:MAX_LINES_of_session] for found in sessions.values()]
    in_order = [each for rank in zip_longest(*told) for each in rank if each is not None]
    return list({each.text.casefold(): each for each in reversed(in_order)}.values())[::-1]


def _of_session(chunks: Sequence[Chunk]) -> Iterator[Evidence]:
    """Its lines, each once: how it began, what was settled, how it ended."""
    lines = [_evidence(chunk, n) for chunk in chunks for n in range(len(chunk.lines))]
    lines = [each for each in lines if len(each.line.text) >= MIN_LINE_chars]
    prompts = [each for each in lines if each.line.role in ("user", "note")]
    replies = [each for each in lines if each.line.role in ("agent", "summary")]
    settled = [each for each in (*prompts, *replies) if _settles(each)]
    done = [each for each in lines if each.line.role in ("command", "edit")]
    began = [each for each in prompts if remarks.headline(each.line.text)] or prompts
    in_order = (*began[:1], *sorted(settled, key=lambda each: each.age, reverse=True), *replies[-1:], *began[1:])
    yield from {(each.chunk.id, each.number): each for each in (*in_order, *done[-2:])}.values()


def _settles(each: Evidence) -> bool:
    by_user = each.line.role in ("user", "note")
    return bool(remarks.decisions(each.line.text, by_user=by_user)) or (
        by_user and bool(remarks.correction(each.line.text))
    )


def _evidence(chunk: Chunk, number: int) -> Evidence:
    line = chunk.lines[number]
    of = label(chunk, number)
    return Evidence(chunk, line, 1.0, quoted(line.text, (), MAX_LINE_chars - len(of)), of=of, number=number)
