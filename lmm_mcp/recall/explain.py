"""Why a question was answered as it was, for a person: terms, scores, what was moved, folded, or kept silent. Pure."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from lmm_mcp.domain.quoting import plain_name
from lmm_mcp.domain.recall import Brief, Question, Recall
from lmm_mcp.domain.wording import counted
from lmm_mcp.recall import confidence
from lmm_mcp.recall.evidence import DEFAULT_WEIGHT, ROLE_WEIGHT
from lmm_mcp.recall.found import Evidence
from lmm_mcp.recall.pipeline import Search

NUM_PASSAGES = 8
NUM_LINES = 12
_LINE_chars = 100


def explained(question: Question, search: Search, told: Recall) -> list[str]:
    """Lines of text that say how `told` came to be."""
    plain = search.lines(budget_tokens=question.budget_tokens, without=("supersession", "duplicates"))
    once = search.lines(budget_tokens=question.budget_tokens, without=("supersession",))
    lines = search.lines(budget_tokens=question.budget_tokens)
    return [
        *_terms(search.query.idf),
        *_scope(question),
        "",
        f"best of {counted(len(search.scores), 'passage')} (score = words and meaning; whole = similarity of all of it, best = of its best lines):",
        *(_passage(search, n) for n in range(min(NUM_PASSAGES, len(search.chunks)))),
        "",
        "best lines (score = weight of the role x (words + words beside + passage and session + meaning)):",
        *_lines(lines, once),
        "",
        f"{counted(len(plain) - len(once), 'line')} left out as told already; {_num_told(told, lines)}",
        *_verdict(search, lines, told),
    ]


def _terms(idf: Mapping[str, float]) -> list[str]:
    if not idf:
        return ["terms: none; only meaning can find anything"]
    total = sum(idf.values()) or 1.0
    shares = sorted(idf.items(), key=lambda item: -item[1])
    return [
        "terms, by how much they say: " + ", ".join(f"{plain_name(term)} {value / total:.0%}" for term, value in shares)
    ]


def _scope(question: Question) -> list[str]:
    asked = [
        f"project {plain_name(question.project)}" if question.project else "all projects",
        f"agent {question.agent}" if question.agent else "",
        f"since {_day(question.since_ms)}" if question.since_ms else "",
        f"until {_day(question.until_ms)}" if question.until_ms else "",
    ]
    return [f"looked at: {', '.join(filter(None, asked))}"]


def _passage(search: Search, rank: int) -> str:
    chunk, found = search.chunks[rank], search.candidates
    parts = [f"score {search.scores.get(chunk.id, 0.0):.2f}"]
    if chunk.id in found.lexical:
        parts.append(f"BM25 {found.lexical[chunk.id]:.1f}")
    if chunk.id in found.nearest:
        parts.append(f"whole {found.nearest[chunk.id]:.2f}, best {found.best_windows[chunk.id]:.2f}")
    where = f"{_day(chunk.last_ms)} {plain_name(chunk.agent)} session {plain_name(chunk.session_id[:13])}"
    return f"  {rank + 1}. {chunk.id} {where}: {', '.join(parts)}"


def _lines(lines: Sequence[Evidence], before: Sequence[Evidence]) -> list[str]:
    places = {(each.chunk.id, each.number): n for n, each in enumerate(before)}
    told = []
    for n, each in enumerate(lines[:NUM_LINES]):
        weight = ROLE_WEIGHT.get(each.line.role, DEFAULT_WEIGHT)
        sum_of = " + ".join(f"{part} {value:.2f}" for part, value in each.why.items())
        marks = []
        if places.get((each.chunk.id, each.number), n) > n:
            marks.append("newer, so brought forward")
        if each.superseded:
            marks.append("superseded")
        text = each.text if len(each.text) <= _LINE_chars else each.text[: _LINE_chars - 2] + " …"
        told.append(f"  {n + 1}. {each.score:.2f} = {weight} x ({sum_of}){'; ' + ', '.join(marks) if marks else ''}")
        told.append(f"     {each.line.role}: {text}")
    return told


def _num_told(told: Recall, lines: Sequence[Evidence]) -> str:
    if not isinstance(told, Brief):
        return f"none of {counted(len(lines), 'line')} told"
    num = sum(line.startswith("[c") for line in told.text.splitlines())
    return f"{num} of {counted(len(lines), 'line')} fit into the budget"


def _verdict(search: Search, lines: Sequence[Evidence], told: Recall) -> list[str]:
    best = max((each.score for each in lines), default=0.0)
    near = max(search.candidates.nearest.values(), default=0.0)
    if isinstance(told, Brief):
        return [
            f"told: best line {best:.2f} (silent below {confidence.MIN_SCORE} where a model serves), best similarity {near:.2f}"
        ]
    return [
        f"silent: best line {best:.2f} (told from {confidence.MIN_SCORE}), best similarity {near:.2f} "
        f"(enough alone from {confidence.MIN_SIMILARITY}; else words must repeat {confidence.MIN_OVERLAP:.0%} of the question)"
    ]


def _day(at_ms: int | None) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d") if at_ms else "undated"
