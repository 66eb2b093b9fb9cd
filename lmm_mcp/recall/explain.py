"""Why a question was answered as it was, for a person: terms, scores, what was moved, folded, or kept silent. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from lmm_mcp.domain.quoting import plain_name
from lmm_mcp.domain.recall import Brief, Question, Recall
from lmm_mcp.domain.wording import counted
from lmm_mcp.recall import confidence
from lmm_mcp.recall.evidence import DEFAULT_WEIGHT, ROLE_WEIGHT
from lmm_mcp.recall.folding import Folded, told_once
from lmm_mcp.recall.found import Evidence
from lmm_mcp.recall.pipeline import Search

NUM_PASSAGES = 8
NUM_LINES = 12
NUM_LEFT_OUT = 5
"""Lines of each kind that are named."""
_LINE_chars = 100
_ORDERED = ("supersession", "changes", "reranker")
_ROUNDING = 0.005


def explained(question: Question, search: Search, told: Recall) -> list[str]:
    """Lines of text that say how `told` came to be."""
    once = search.lines(budget_tokens=question.budget_tokens, without=_ORDERED)
    lines = search.lines(budget_tokens=question.budget_tokens)
    worth = lines if "weak" in search.without else confidence.worth_telling(lines)
    return [
        "How this answer came to be; scores compare within one answer only, and more is better.",
        *_terms(search.query.idf),
        *_scope(question),
        *_understood(search),
        "",
        f"best of {counted(len(search.scores), 'passage')}, by score. In it are: the words it shares with the question, rare ones more "
        "(BM25); how near it is in meaning, 0 to 1, as a whole and in its best lines:",
        *(_passage(search, n) for n in range(min(NUM_PASSAGES, len(search.chunks)))),
        "",
        "best lines, by score. It is a weight for who speaks (a tool's output counts less than a person) x the sum of: words it "
        "shares with the question, words of the lines beside it, its passage and session, and how near it is in meaning:",
        *_lines(search, lines, once),
        "",
        *_left_out(search, question, lines),
        *_weak(told, lines, worth),
        _num_told(told, worth),
        *_unfit(told, worth),
        *_verdict(search, lines, told),
    ]


def _terms(idf: Mapping[str, float]) -> list[str]:
    if not idf:
        return ["words looked for: none; only meaning can find anything"]
    total = sum(idf.values()) or 1.0
    shares = sorted(idf.items(), key=lambda item: -item[1])
    return [
        "words looked for, without endings, by how much they say: "
        + ", ".join(f"{plain_name(term)} {value / total:.0%}" for term, value in shares)
    ]


def _scope(question: Question) -> list[str]:
    asked = [
        f"project {plain_name(question.project)}" if question.project else "all projects",
        f"agent {question.agent}" if question.agent else "",
        f"since {_day(question.since_ms)}" if question.since_ms else "",
        f"until {_day(question.until_ms)}" if question.until_ms else "",
    ]
    return [f"looked at: {', '.join(filter(None, asked))}"]


def _understood(search: Search) -> Iterator[str]:
    """What the question names beside words, and which parts are switched off."""
    query = search.query
    if query.paths:
        only = ", and asks of nothing else" if query.asks_of_files else ""
        yield f"names files: {', '.join(map(plain_name, query.paths))}{only}"
    if query.periods:
        only = ", and asks of nothing else" if query.asks_of_times else ""
        only = ", and asks what went wrong then" if query.asks_of_failures else only
        yield f"names times: {', '.join(f'{_day(each.since_ms)} to {_day(each.until_ms)}' for each in query.periods)}{only}"
    if query.failures:
        yield f"holds errors: {'; '.join(map(plain_name, query.failures))}"
    for reason in ("agent", "project"):
        if gained := search.boosts.get(reason):
            named = {getattr(each, reason) for each in search.chunks if each.id in gained}
            yield f"names {reason}s: {', '.join(sorted(map(plain_name, named)))}"
    if search.without:
        yield f"parts left out: {', '.join(sorted(search.without))}"


def _passage(search: Search, rank: int) -> str:
    chunk, found = search.chunks[rank], search.candidates
    parts = [f"score {search.scores.get(chunk.id, 0.0):.2f}"]
    if chunk.id in found.lexical:
        parts.append(f"BM25 {found.lexical[chunk.id]:.1f}")
    if chunk.id in found.nearest:
        parts.append(f"meaning {found.nearest[chunk.id]:.2f}, best lines {found.best_windows[chunk.id]:.2f}")
    gains = {reason: gained.get(chunk.id, 0.0) for reason, gained in search.boosts.items()}
    parts += [f"{gain:+.2f} for the {reason}" for reason, gain in gains.items() if gain >= _ROUNDING]
    where = f"{_day(chunk.last_ms)} {plain_name(chunk.agent)} session {plain_name(chunk.session_id[:13])}"
    return f"  {rank + 1}. {chunk.id} {where}: {', '.join(parts)}"


def _lines(search: Search, lines: Sequence[Evidence], before: Sequence[Evidence]) -> Iterator[str]:
    places = {_key(each): n for n, each in enumerate(before)}
    first = {_key(each) for each in search.first}
    for n, each in enumerate(lines[:NUM_LINES]):
        marks = []
        if places.get(_key(each), n) > n and not each.superseded:
            marks.append("brought forward (newer, or what holds now)")
        if each.replaced is not None:
            marks.append(f"{plain_name(each.replaced[0])} is superseded by {plain_name(each.replaced[1])}")
        elif each.superseded:
            marks.append("superseded")
        yield f"  {n + 1}. {_score(search, each, is_first=_key(each) in first)}{'; ' + ', '.join(marks) if marks else ''}"
        yield f"     {_quote(each)}"


def _score(search: Search, each: Evidence, *, is_first: bool) -> str:
    """How its score came about; of one that was not ranked by its score, why it stands where it does."""
    if search.listed:
        return "what went wrong then" if search.query.asks_of_failures else "what was done then"
    if is_first:
        return "told first: an error as it was asked about, and what mended it"
    weight = 1.0 if "roles" in search.without else ROLE_WEIGHT.get(each.line.role, DEFAULT_WEIGHT)
    own = weight * sum(each.why.values())
    sum_of = f"{own:.2f} = {weight} x ({' + '.join(f'{part} {value:.2f}' for part, value in each.why.items())})"
    if abs(each.lead) >= _ROUNDING:
        sum_of += f"; {each.lead:+.2f} for its place, since it is {'less' if each.lead > 0 else 'more'} like everything else that was found"
    return (
        sum_of if abs(own - each.score) < _ROUNDING else f"{each.score:.2f} by its place in the learnt order; {sum_of}"
    )


def _left_out(search: Search, question: Question, lines: Sequence[Evidence]) -> Iterator[str]:
    """What is told already, and by which line; what is too much of one passage."""
    if search.listed or "duplicates" in search.without:
        yield "nothing left out as told already"
        return
    ranked = search.lines(budget_tokens=question.budget_tokens, without=("duplicates", *_ORDERED))
    found: Folded = told_once(ranked[len(search.first) :])
    places = {_key(each): n for n, each in enumerate(lines, 1)}
    yield f"{counted(len(found.folds), 'line')} left out as told already{':' if found.folds else ''}"
    for each, by in found.folds[:NUM_LEFT_OUT]:
        place = places.get(_key(by))
        yield f"  - {_quote(each)} (by line {place})" if place else f"  - {_quote(each)}"
    if found.too_many:
        yield f"{counted(len(found.too_many), 'line')} left out as too many of one passage:"
        yield from (f"  - {_quote(each)}" for each in found.too_many[:NUM_LEFT_OUT])


def _weak(told: Recall, lines: Sequence[Evidence], worth: Sequence[Evidence]) -> Iterator[str]:
    """What fits too badly to be told beside the best line, and was not chosen by a memory model."""
    if not isinstance(told, Brief):
        return
    kept = {_key(each) for each in worth}
    if weak := [each for each in lines if _key(each) not in kept and f": {each.text}\n" not in told.text]:
        best = max(each.score for each in lines)
        yield f"{counted(len(weak), 'line')} left out as far weaker than the best (below {confidence.WEAK * best:.2f}):"
        yield from (f"  - {_quote(each)}" for each in weak[:NUM_LEFT_OUT])


def _num_told(told: Recall, lines: Sequence[Evidence]) -> str:
    if not isinstance(told, Brief):
        return f"none of {counted(len(lines), 'line')} told"
    num = sum(line.startswith("[c") for line in told.text.splitlines())
    return f"{num} of {counted(len(lines), 'line')} fit into the budget of the brief"


def _unfit(told: Recall, lines: Sequence[Evidence]) -> Iterator[str]:
    """The best lines that the budget had no room for."""
    if isinstance(told, Brief):
        missing = [each for each in lines if f": {each.text}\n" not in told.text]
        yield from (f"  - no room: {_quote(each)}" for each in missing[:NUM_LEFT_OUT])


def _verdict(search: Search, lines: Sequence[Evidence], told: Recall) -> list[str]:
    best = max((each.score for each in lines), default=0.0)
    near = max(search.candidates.nearest.values(), default=0.0)
    found = f"best line {best:.2f}, nearest in meaning {near:.2f}"
    if isinstance(told, Brief):
        if search.listed or search.first:
            return [f"told: {found}; what is told first needs no score"]
        never = "confidence" in search.without
        return [
            f"told: {found} (silence is switched off)"
            if never
            else f"told: {found} (below {_floor(search)} nothing is told)"
        ]
    return [
        f"silent: {found} (told from {_floor(search)} on, where something is as near in meaning as {confidence.MIN_SIMILARITY}, "
        f"or words repeat {confidence.MIN_OVERLAP:.0%} of the question)"
    ]


def _floor(search: Search) -> str:
    floor = confidence.floor(search.query, search.candidates)
    return f"{floor:.2f}" if floor else "no score"


def _quote(each: Evidence) -> str:
    text = each.text if len(each.text) <= _LINE_chars else each.text[: _LINE_chars - 2] + " …"
    return f"{each.line.role}{f' ({each.of})' if each.of else ''}: {text}"


def _key(each: Evidence) -> tuple[str, int]:
    return each.chunk.id, each.number


def _day(at_ms: int | None) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d") if at_ms else "undated"
