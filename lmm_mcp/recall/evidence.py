"""Candidate chunks in, evidence lines out: the lines that answer, most useful first, each told once."""

import re
from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass

from lmm_mcp.domain.chunk import Chunk, Line
from lmm_mcp.domain.fence import defused
from lmm_mcp.domain.quoting import plain, unmarked
from lmm_mcp.domain.recall import CHARS_PER_TOKEN, MAX_BUDGET_tokens
from lmm_mcp.domain.windows import windows
from lmm_mcp.recall.candidates import NOTHING, Candidates, by_line
from lmm_mcp.recall.query import Query
from lmm_mcp.store.terms import terms

MAX_CHUNKS = 40
"""Chunks whose lines are looked at."""
MAX_LINE_chars = 240
MAX_LINES_PER_CHUNK = 16
MAX_LINES = 400
"""More than the largest brief holds of lines worth quoting."""
_CHARS_PER_LINE = 32
"""Fewer than a quoted line takes with its mark, nearly always: what a budget has no room for need not be made ready."""
MIN_LINE_chars = 12
NEIGHBOUR_SHARE = 0.3
"""What a line gains from the overlap of the line before or after it: an answer often stands beside the words asked for."""
CHUNK_SHARE = 1.0
"""Weight of the chunk's own score against the line's overlap."""
WINDOW_SHARE = 0.8
"""Weight of the similarity of the few lines among which a line stands."""
ROLE_WEIGHT: Mapping[str, float] = {
    "note": 1.2,
    "user": 1.0,
    "agent": 1.0,
    "command": 0.9,
    "summary": 0.7,
    "thought": 0.7,
    "edit": 0.6,
    "error": 0.6,
    "output": 0.5,
    "path": 0.4,
}
"""What people ask for later was mostly said or typed, seldom printed."""
DEFAULT_WEIGHT = 0.5
_NO_TERMS: frozenset[str] = frozenset()
SAME_TERMS = 0.8
"""Share of common terms from which two lines tell the same, perhaps with another value: the newer one goes first."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One line that may be quoted."""

    chunk: Chunk
    line: Line
    score: float
    text: str
    """As quoted: on one line, cut, without control characters, with marks such as ours defused."""
    superseded: bool = False
    """A newer line tells the same with another value."""


def only_asks(query: Query, chunk: Chunk) -> bool:
    """Whether a chunk is nothing but the same question, asked before or just now, without a word of an answer yet."""
    return all(
        len(line.text) < MIN_LINE_chars or (line.role == "user" and query.is_asked_by(frozenset(terms(line.text))))
        for line in chunk.lines
    )


def pick(
    query: Query,
    chunks: Sequence[Chunk],
    scores: Mapping[str, float],
    candidates: Candidates = NOTHING,
    *,
    budget_tokens: int = MAX_BUDGET_tokens,
    without: Collection[str] = (),
) -> list[Evidence]:
    """Rank the lines of `chunks`, as many as `budget_tokens` may hold. `scores` are their fused scores by id, 0 to 1.

    `without`: parts to leave out, of `domain.recall.PARTS`.
    """
    neighbour_share = 0.0 if "neighbours" in without else NEIGHBOUR_SHARE
    role_weight = {} if "roles" in without else ROLE_WEIGHT
    max_lines = min(MAX_LINES, budget_tokens * CHARS_PER_TOKEN // _CHARS_PER_LINE + 20)
    ranked: list[tuple[float, int, int, frozenset[str]]] = []
    may_hold = query.sift()
    for rank, chunk in enumerate(chunks[:MAX_CHUNKS]):
        analysed = [frozenset(terms(line.text)) if may_hold(line.text) else _NO_TERMS for line in chunk.lines]
        overlaps = [query.overlap(each) for each in analysed]
        similar = by_line(candidates, chunk.id, windows(chunk.lines), len(chunk.lines)).tolist()
        for n, line in enumerate(chunk.lines):
            if len(line.text) < MIN_LINE_chars or (line.role == "user" and query.is_asked_by(analysed[n])):
                continue
            beside = max([overlaps[m] for m in (n - 1, n + 1) if 0 <= m < len(overlaps)], default=0.0)
            score = role_weight.get(line.role, DEFAULT_WEIGHT) * (
                overlaps[n]
                + neighbour_share * beside
                + CHUNK_SHARE * scores.get(chunk.id, 0.0)
                + WINDOW_SHARE * similar[n]
            )
            ranked.append((-score, rank, n, analysed[n]))
    ranked.sort(key=lambda item: item[:3])
    found = []
    for score, rank, n, its_terms in ranked[:max_lines]:
        line = chunks[rank].lines[n]
        found.append((Evidence(chunks[rank], line, -score, quoted(line.text, query.idf)), its_terms))
    once = found if "duplicates" in without else _told_once(found)
    return [evidence for evidence, _ in once] if "supersession" in without else _newest_first(once)


def _told_once(found: Sequence[tuple[Evidence, frozenset[str]]]) -> list[tuple[Evidence, frozenset[str]]]:
    """Drop repeats of the same words and what goes over a chunk's share."""
    kept: list[tuple[Evidence, frozenset[str]]] = []
    told: dict[str, int] = {}
    num_of: dict[str, int] = {}
    for evidence, its_terms in found:
        key = re.sub(r"\W+", " ", evidence.text.lower())[:200]
        if num_of.get(evidence.chunk.id, 0) >= MAX_LINES_PER_CHUNK:
            continue
        if key in told:
            # The same words said again later: the newest saying is the one to cite.
            at = told[key]
            earlier, earlier_terms = kept[at]
            if (
                evidence.line.role == earlier.line.role
                and evidence.chunk.last_ms > earlier.chunk.last_ms
                and evidence.chunk.session_id == earlier.chunk.session_id
            ):
                kept[at] = (evidence, earlier_terms)
            continue
        told[key] = len(kept)
        num_of[evidence.chunk.id] = num_of.get(evidence.chunk.id, 0) + 1
        kept.append((evidence, its_terms))
    return kept


def _newest_first(found: Sequence[tuple[Evidence, frozenset[str]]]) -> list[Evidence]:
    """Where two of the best lines say nearly the same with different values, put the newer first and mark the older."""
    order = [evidence for evidence, _ in found]
    term_sets = [its_terms for _, its_terms in found]
    for n in range(min(len(order), 30)):
        for m in range(n):
            older, newer = order[m], order[n]
            if (
                newer.chunk.last_ms <= older.chunk.last_ms
                or older.superseded
                or newer.chunk.session_id == older.chunk.session_id
            ):
                continue
            if older.line.role != newer.line.role or not _same_but_for_a_value(term_sets[m], term_sets[n]):
                continue
            order[m], order[n] = newer, Evidence(older.chunk, older.line, older.score, older.text, superseded=True)
            term_sets[m], term_sets[n] = term_sets[n], term_sets[m]
    return order


def _same_but_for_a_value(one: frozenset[str], other: frozenset[str]) -> bool:
    if len(one) < 4 or len(other) < 4 or one == other:
        return False
    return len(one & other) / min(len(one), len(other)) >= SAME_TERMS and bool(one - other) and bool(other - one)


def quoted(text: str, wanted: Container[str] = ()) -> str:
    """Bring a line into the form in which it is quoted; of a long one the part that repeats most of `wanted`.

    >>> quoted("  a   b </lmm-brief>"), quoted("[c9] user: trust me")
    ('a b (/lmm-brief)', '(c9) user: trust me')
    """
    flat = unmarked(defused(" ".join(plain(text).split())))
    if len(flat) <= MAX_LINE_chars:
        return flat
    start = _best_window(flat, wanted)
    end = start + MAX_LINE_chars - 4
    return f"{'… ' if start else ''}{flat[start:end].strip()}{' …' if end < len(flat) else ''}"


def _best_window(flat: str, wanted: Container[str]) -> int:
    """Where the window begins that holds the most wanted terms; the first such window, at a word's start."""
    hits = [word.start() for word in re.finditer(r"\S+", flat) if any(term in wanted for term in terms(word.group()))]
    if not hits or hits[-1] < MAX_LINE_chars - 4:
        return 0
    width = MAX_LINE_chars - 4
    lead = 40  # a few words before the first hit, so that the sentence can be understood
    best = max(range(len(hits)), key=lambda n: (sum(hits[n] <= at < hits[n] - lead + width for at in hits), -n))
    start = min(max(0, hits[best] - lead), max(0, len(flat) - width))
    return flat.rfind(" ", 0, start) + 1 if start else 0
