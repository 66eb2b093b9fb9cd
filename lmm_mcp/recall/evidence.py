"""Candidate chunks in, evidence lines out: the lines that answer, most useful first, each told once."""

import re
from collections.abc import Collection, Container, Mapping, Sequence
from statistics import fmean

from lmm_mcp.domain.chunk import Chunk, parted
from lmm_mcp.domain.fence import defused
from lmm_mcp.domain.quoting import plain, unmarked
from lmm_mcp.domain.recall import CHARS_PER_TOKEN, MAX_BUDGET_tokens
from lmm_mcp.domain.windows import windows
from lmm_mcp.recall.candidates import NOTHING, Candidates, by_line
from lmm_mcp.recall.changes import KnowsChanges, noted
from lmm_mcp.recall.folding import told_once
from lmm_mcp.recall.found import Evidence
from lmm_mcp.recall.labels import label
from lmm_mcp.recall.query import Query
from lmm_mcp.recall.reranking import Model, reranked
from lmm_mcp.recall.supersession import asks_for_the_past, newest_first
from lmm_mcp.store.terms import terms, terms_in

MAX_CHUNKS = 60
"""Chunks whose lines are looked at."""
MAX_LINE_chars = 240
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
SESSION_SHARE = 0.4
"""Weight of how well the whole session fits."""
BEST_PASSAGES = 3
"""Of a session, by which it is judged."""
_NO_TERMS: frozenset[str] = frozenset()


_Line = tuple[frozenset[str], tuple[float, float, float, float], int, float]


def only_asks(query: Query, chunk: Chunk) -> bool:
    """Whether a chunk is nothing but the same question, asked before or just now, without a word of an answer yet."""
    return all(
        len(line.text) < MIN_LINE_chars or (line.role == "user" and query.is_asked_by(terms_in(line.text)))
        for line in chunk.lines
    )


def pick(
    query: Query,
    chunks: Sequence[Chunk],
    scores: Mapping[str, float],
    candidates: Candidates = NOTHING,
    *,
    ranking: Candidates | None = None,
    plain: Mapping[str, float] | None = None,
    budget_tokens: int = MAX_BUDGET_tokens,
    without: Collection[str] = (),
    reranker: Model | None = None,
    changes: KnowsChanges | None = None,
    until_ms: int | None = None,
) -> list[Evidence]:
    """Rank the lines of `chunks`, as many as `budget_tokens` may hold. `scores` are their fused scores by id, 0 to 1.

    `ranking`: the candidates with the similarities by which lines are ranked, as `scores` are made of. `plain`: as `scores`, of
    similarities as they are. Without them all rank by what they score.
    `without`: parts to leave out, of `domain.recall.PARTS`. `changes`, `until_ms`: what was replaced by what, as of when.
    """
    max_lines = min(MAX_LINES, budget_tokens * CHARS_PER_TOKEN // _CHARS_PER_LINE + 20)
    by_words = not query.asks_of_files and "words" not in without
    neighbour_share = NEIGHBOUR_SHARE if by_words and "neighbours" not in without else 0.0
    window_share = 0.0 if candidates.is_foreign else WINDOW_SHARE
    # What is left out counts the same for all, so that scores keep their scale.
    role_weight = dict.fromkeys(ROLE_WEIGHT, 1.0) if "roles" in without else ROLE_WEIGHT
    level = 1.0 if "words" in without and not query.asks_of_files else 0.0
    wanted = () if "excerpts" in without else query.idf
    ranking, plain = ranking or candidates, scores if plain is None else plain
    of_passages, of_plain = (_of_passages(chunks, each, without) for each in (scores, plain))
    ranked: list[tuple[float, int, int, _Line]] = []
    may_hold = query.sift()
    for rank, chunk in enumerate(chunks[:MAX_CHUNKS]):
        analysed = [terms_in(line.text) if may_hold(line.text) else _NO_TERMS for line in chunk.lines]
        # Who asks about a file wants to know what was done and said there, not where its name stands.
        overlaps = [query.overlap(each) if by_words else level for each in analysed]
        cut = windows(chunk.lines)
        has_vectors = len(candidates.vectors.get(chunk.id, ())) == len(cut)
        window_of = [window if has_vectors else -1 for window, each in enumerate(cut) for _ in each]
        similar = by_line(candidates, chunk.id, cut, len(chunk.lines)).tolist()
        ahead = by_line(ranking, chunk.id, cut, len(chunk.lines)).tolist()
        lead = of_passages[chunk.id] - of_plain[chunk.id]
        for n, line in enumerate(chunk.lines):
            if query.asks_of_files and line.role == "path":
                continue
            is_question = line.role == "user" and "asked" not in without and query.is_asked_by(analysed[n])
            if is_question or len(line.text) < MIN_LINE_chars:
                continue
            beside = max([overlaps[m] for m in (n - 1, n + 1) if 0 <= m < len(overlaps)], default=0.0)
            made_of = (overlaps[n], neighbour_share * beside, of_plain[chunk.id], window_share * similar[n])
            weight = role_weight.get(line.role, DEFAULT_WEIGHT)
            place = sum(made_of) + lead + window_share * (ahead[n] - similar[n])
            ranked.append((-weight * place, rank, n, (analysed[n], made_of, window_of[n], weight)))
    ranked.sort(key=lambda item: item[:3])
    found = []
    for place, rank, n, (its_terms, made_of, window, weight) in ranked[:max_lines]:
        score = weight * sum(made_of)
        line = chunks[rank].lines[n]
        why = dict(zip(("words", "beside", "passage", "meaning"), made_of, strict=True))
        of = "" if "labels" in without else label(chunks[rank], n)
        text = quoted(line.text, wanted, MAX_LINE_chars - len(of))
        found.append(
            Evidence(
                *(chunks[rank], line, score, text),
                of=of,
                number=n,
                window=window,
                terms=its_terms,
                why=why,
                lead=-place - score,
            )
        )
    once = found if "duplicates" in without else told_once(found).kept
    if reranker is not None and "reranker" not in without:
        once = reranked(once, query, candidates, reranker)
    order = once if "supersession" in without else newest_first(once, query, candidates)
    if changes is None or "changes" in without or asks_for_the_past(query):
        return order
    return noted(order, changes, query.idf, asked_ms=until_ms)


def _of_passages(chunks: Sequence[Chunk], scores: Mapping[str, float], without: Collection[str]) -> dict[str, float]:
    """What the lines of each passage gain from it and from its session, by its id."""
    of_sessions = _session_scores(chunks, {} if "sessions" in without else scores)
    return {
        each.id: CHUNK_SHARE * (1.0 if "passages" in without else scores.get(each.id, 0.0))
        + SESSION_SHARE * of_sessions[each.session_id]
        for each in chunks
    }


def _session_scores(chunks: Sequence[Chunk], scores: Mapping[str, float]) -> dict[str, float]:
    """How well each session fits, 0 to 1: the mean of its best passages against that of the best session; 1 without scores."""
    if not scores:
        return dict.fromkeys((chunk.session_id for chunk in chunks), 1.0)
    of_session: dict[str, list[float]] = {}
    for chunk in chunks:
        of_session.setdefault(chunk.session_id, []).append(scores.get(chunk.id, 0.0))
    means = {each: fmean(sorted(found)[-BEST_PASSAGES:]) for each, found in of_session.items()}
    best = max(means.values(), default=0.0) or 1.0
    return {each: mean / best for each, mean in means.items()}


def quoted(text: str, wanted: Container[str] = (), max_chars: int = MAX_LINE_chars) -> str:
    """Bring a line into the form in which it is quoted; of a long one the part that repeats most of `wanted`, and how it went.

    >>> quoted("  a   b </lmm-brief>"), quoted("[c9] user: trust me")
    ('a b (/lmm-brief)', '(c9) user: trust me')
    """
    flat = unmarked(defused(" ".join(plain(text).split())))
    if len(flat) <= max_chars:
        return flat
    flat, outcome = parted(flat)
    width = max_chars - 4 - len(outcome)
    start = _best_window(flat, wanted, width)
    end = start + width
    return f"{'… ' if start else ''}{flat[start:end].strip()}{' …' if end < len(flat) else ''}{outcome}"


def _best_window(flat: str, wanted: Container[str], width: int) -> int:
    """Where the window begins that holds the most wanted terms; the first such window, at a word's start."""
    hits = [word.start() for word in re.finditer(r"\S+", flat) if any(term in wanted for term in terms(word.group()))]
    if not hits or hits[-1] < width:
        return 0
    lead = 40  # a few words before the first hit, so that the sentence can be understood
    best = max(range(len(hits)), key=lambda n: (sum(hits[n] <= at < hits[n] - lead + width for at in hits), -n))
    start = min(max(0, hits[best] - lead), max(0, len(flat) - width))
    return flat.rfind(" ", 0, start) + 1 if start else 0
