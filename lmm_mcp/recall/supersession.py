"""Ranked lines in, the same lines out with what holds now first.

Memory is asked for what holds. A newer line goes before an older one that it replaces: it names a value that the older one
does not, a number, a path, something written as code; beyond that, whether it replaces the other is guessed by a small logistic
model from how alike the two are, how well each fits the question, and what they look like. The model was fitted on
invented sessions in which facts change, and on questions about real ones, in which they seldom do (`benchmarks/fit_updates.py`
fits it anew and tells what it is worth on projects it has not seen). An older line that says the same with another value is marked, too.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import mul

from lmm_mcp.embedding import Vectors
from lmm_mcp.recall.candidates import Candidates
from lmm_mcp.recall.found import Evidence
from lmm_mcp.recall.query import Query

NUM_OVERTAKEN = 25
"""Lines at the head that a newer one may overtake."""
NUM_WEIGHED = 60
"""Lines among which newer ones are looked for."""
NEARLY = 0.85
SAME_MATTER = 0.45
"""A line nearly as good as an older one, about the same matter (cosine similarity of their windows), goes before it anyway."""
REPLACES = 0.97
"""Probability, in the eyes of the model, from which a newer line overtakes. It was fitted where most questions are about what
changed; elsewhere a lower one puts newer sessions first that do not answer (docs/recall-log.md)."""
SAME_TERMS = 0.8
"""Share of common terms from which two lines tell the same, perhaps with another value."""
_FEWEST_TERMS = 4
"""Lines of fewer tell too little to be called the same."""
_DAY_ms = 86_400_000
_VALUE = re.compile(r"`[^`]+`|[\w./:@%-]*\d[\w./:@%-]*|\b\w+[_/.:@-]\w[\w./:@-]*|\b[A-Z][a-z]*[A-Z]\w*|\b[A-Z]{2,}\w*")
"""Code, numbers, paths. Without a new one nothing overtakes: of people's talk, in which there are few, the newer half would
stand before the older, whatever was asked (LoCoMo: 36 instead of 73 % of turns among the first ten)."""
_NAME = re.compile(r"(?<![.!?] )(?<!^)\b[A-Z][a-z]{2,}\w*")
_TELLS_OF_CHANGE = re.compile(
    r"\b(?:now|no longer|any ?more|instead|from now on|replace[sd]?|moved|switched|changed|renamed|raised|lowered|bumped"
    r"|increased|decreased|deleted|removed|gone|dropped|retired|used to|since|until|new|done|let's|please|not)\b",
    re.IGNORECASE,
)
_CHANGED_LINE = re.compile(r"\s*[-+]|\d+:")
_DONE = frozenset({"edit", "command"})
FEATURES = (
    *("alike", "score ratio", "older fits", "newer fits", "fit alike", "older near", "newer near", "tells of change"),
    *("is a change", "by the user", "same role", "older has values", "newer has values", "values in common"),
    *("same session", "days between", "newer is high", "older leads"),
)


@dataclass(frozen=True, slots=True)
class Model:
    """A logistic model over FEATURES."""

    bias: float
    weights: tuple[float, ...]

    def logit(self, found: Sequence[float]) -> float:
        """Of the probability that one line replaces another."""
        total: float = sum(map(mul, self.weights, found))
        return self.bias + total


FITTED = Model(
    -6.855,
    (
        *(5.088, 1.122, 2.729, 2.745, -3.443, -1.746, 0.318, 0.631, -0.112),
        *(-0.764, -0.324, 0.717, 0.252, 0.573, 1.208, 0.736, 2.388, 1.346),
    ),
)
"""By benchmarks/fit_updates.py; see there on what."""
_ASKS_FOR_THE_PAST = re.compile(
    r"\b(?:before(?! (?:(?:i|we|you) (?!\w+ed\b|was\b|were\b|had\b|got\b|went\b|came\b|did\b)\w|(?!(?:switch|mov|migrat|chang|replac|upgrad|adopt|renam|us)ing)\w+ing\b|each\b|every\b))|previously|formerly|originally|at first|initially|used to|in the past|earlier|old)\b|以前|之前|原来|原先|最初",
    re.IGNORECASE,
)


def newest_first(
    ranked: Sequence[Evidence], query: Query, candidates: Candidates, model: Model = FITTED
) -> list[Evidence]:
    """Bring newer lines before older ones that they replace, and mark what says the same with another value."""
    if candidates.is_foreign or asks_for_the_past(query):
        return _marked(ranked)
    weighed = [Seen.of(each, query, candidates) for each in ranked[:NUM_WEIGHED]]
    order = list(range(len(weighed)))
    for at in range(1, len(order)):
        newer = order[at]
        for place in range(min(at, NUM_OVERTAKEN)):
            older = order[place]
            if weighed[newer].at_ms <= weighed[older].at_ms or newer < older:
                continue
            if not weighed[newer].values - weighed[older].values:
                continue
            if query.periods and query.nearness(ranked[newer].chunk) < query.nearness(ranked[older].chunk):
                continue  # what held then is asked about
            found = features(weighed, older, newer, query)
            is_close = found[1] >= NEARLY and found[0] >= SAME_MATTER
            retold = a_retelling(weighed[older], weighed[newer])
            if is_close or retold or model.logit(found) >= _LOGIT:
                order.insert(place, order.pop(at))
                break
    return _marked([ranked[n] for n in order]) + list(ranked[NUM_WEIGHED:])


def asks_for_the_past(query: Query) -> bool:
    """Whether what held before is wanted."""
    return _ASKS_FOR_THE_PAST.search(query.text) is not None


_LOGIT = math.log(REPLACES / (1 - REPLACES))


@dataclass(frozen=True, slots=True)
class Seen:
    """What the model looks at in one line."""

    at_ms: int
    score: float
    fits: float
    """Share of the question's information that its words repeat."""
    near: float
    vector: Vectors | None
    terms: frozenset[str]
    values: frozenset[str]
    specifics: frozenset[str]
    """Values and names."""
    role: str
    session: str
    tells_of_change: float
    is_change: float

    @classmethod
    def of(cls, line: Evidence, query: Query, candidates: Candidates) -> "Seen":
        """Look at a line once; it is compared with many."""
        values, specifics, tells_of_change, is_change = _said(line.text)
        return cls(
            at_ms=line.chunk.last_ms,
            score=line.score,
            fits=query.overlap(line.terms),
            near=line.why.get("meaning", 0.0),
            vector=candidates.vector_of(line.chunk.id, line.window),
            terms=line.terms,
            values=values,
            specifics=specifics,
            role=line.line.role,
            session=line.chunk.session_id,
            tells_of_change=float(tells_of_change),
            is_change=float(line.line.role in _DONE or is_change),
        )


@lru_cache(maxsize=4_096)
def _said(text: str) -> tuple[frozenset[str], frozenset[str], bool, bool]:
    """Of a line: its values, these and its names, whether it tells of a change, and whether it is one that a patch made."""
    values = values_in(text)
    names = {each.lower() for each in _NAME.findall(text)}
    return values, values | names, _TELLS_OF_CHANGE.search(text) is not None, _CHANGED_LINE.match(text) is not None


def features(seen: Sequence[Seen], older: int, newer: int, query: Query) -> tuple[float, ...]:
    """What tells whether one line replaces another, in the order of FEATURES. `older`, `newer`: places in the ranking."""
    a, b = seen[older], seen[newer]
    return (
        float(a.vector @ b.vector) if a.vector is not None and b.vector is not None else 0.0,
        min(1.5, b.score / a.score) if a.score else 1.0,
        a.fits,
        b.fits,
        query.overlap(a.terms & b.terms),
        a.near,
        b.near,
        b.tells_of_change,
        b.is_change,
        float(b.role == "user"),
        float(a.role == b.role),
        float(bool(a.specifics - b.specifics)),
        float(bool(b.specifics - a.specifics)),
        float(bool(a.specifics & b.specifics)),
        float(a.session == b.session),
        math.log1p((b.at_ms - a.at_ms) / _DAY_ms),
        float(newer < 8),
        float(older < 5),
    )


def a_retelling(older: Seen, newer: Seen) -> bool:
    """Whether another session says the same with another value."""
    is_alike = older.role == newer.role and older.session != newer.session
    return is_alike and _same_but_for_a_value(older.terms, newer.terms)


def values_in(text: str) -> frozenset[str]:
    """What may be a value in a line: code, numbers, paths.

    >>> sorted(values_in("Releases are cut from `stable` since 3.2, says Priya"))
    ['3.2', 'stable']
    """
    return frozenset(each.strip("`.,:").lower() for each in _VALUE.findall(text))


def _marked(order: Sequence[Evidence]) -> list[Evidence]:
    """Mark lines of which another session later said the same with another value."""
    marked = list(order)
    same_role: dict[str, list[Evidence]] = {}
    for each in order[:NUM_WEIGHED]:
        if len(each.terms) >= _FEWEST_TERMS:
            same_role.setdefault(each.line.role, []).append(each)
    for n, older in enumerate(order[:NUM_WEIGHED]):
        for newer in same_role.get(older.line.role, ()):
            is_later = newer.chunk.last_ms > older.chunk.last_ms and newer.chunk.session_id != older.chunk.session_id
            if is_later and _same_but_for_a_value(older.terms, newer.terms):
                marked[n] = replace(older, superseded=True)
                break
    return marked


def _same_but_for_a_value(one: frozenset[str], other: frozenset[str]) -> bool:
    if len(one) < _FEWEST_TERMS or len(other) < _FEWEST_TERMS or one == other:
        return False
    return len(one & other) / min(len(one), len(other)) >= SAME_TERMS and bool(one - other) and bool(other - one)
