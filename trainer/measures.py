"""Outputs in, figures out: what of the reference is told, how much outputs resemble one another, whether answers are right. Pure.

Keyword coverage, Jaccard diversity and parrot share are defined here and nowhere else. None may be read alone: outputs that are
all different and cover nothing are invented.
"""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lmm_mcp.domain.verdict import Said
from lmm_mcp.evaluation.judging import folded
from lmm_mcp.model import specifics
from lmm_mcp.store.terms import STOP_WORDS

NUM_TOP_TERMS = 10
NUM_MOST_FREQUENT = 4
OTHER = "other"
"""Category of what has none."""
NEAR_DUPLICATE = 0.8
"""Jaccard of two texts' words from which they count as one."""
_MAX_PAIRS = 20_000
"""Of outputs that are compared; of more than two hundred outputs every so many'th pair is."""

Rarity = Callable[[str], float]
"""How rare a lower-cased word is in the user's memory, the rarer the more: its inverse document frequency."""


def keywords_strict(reference: str) -> frozenset[str]:
    """Identifiers, file names, versions, numbers and commands: what must be repeated to the letter.

    >>> sorted(keywords_strict("Run `pytest -q` on port 5433 in the evening"))
    ['-q', '5433', 'pytest']
    """
    return frozenset(
        each.text
        for each in specifics.tokens(specifics.folded(reference))
        if each.is_value or each.text in specifics.PROGRAMS
    )


def keywords_loose(reference: str, rarity: Rarity | None = None) -> frozenset[str]:
    """The strict ones, names of people and products, and the ten terms that say most, lower-cased."""
    found = [each for each in specifics.tokens(specifics.folded(reference)) if each.kind != "unit"]
    counts = Counter(each.text.lower() for each in found if each.text.lower() not in STOP_WORDS)
    weights = {term: count * (rarity(term) if rarity else 1.0) for term, count in counts.items()}
    top = sorted(weights, key=lambda term: (-weights[term], term))[:NUM_TOP_TERMS]
    named = {each.text.lower() for each in found if each.is_capital}
    return frozenset(each.lower() for each in keywords_strict(reference)) | named | frozenset(top)


def coverage(keywords: Iterable[str], said: str) -> float | None:
    """Share of the keywords that stand in what was said, upper and lower case alike; None where there are none to tell.

    >>> coverage({"5433", "pytest"}, "the port is 5433")
    0.5
    """
    wanted = {each.lower() for each in keywords}
    if not wanted:
        return None
    told = {each.text.lower() for each in specifics.tokens(specifics.folded(said))}
    whole = specifics.folded(said).lower()
    return sum(each in told or (not each.isalnum() and each in whole) for each in wanted) / len(wanted)


def words(text: str) -> frozenset[str]:
    """Its words, lower-cased, without those that say nothing."""
    return frozenset(each.text.lower() for each in specifics.tokens(specifics.folded(text))) - STOP_WORDS


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """Share of the words of both that both have; 1 for two empty ones.

    >>> jaccard(frozenset("ab"), frozenset("bc")) == 1 / 3
    True
    """
    return len(a & b) / len(a | b) if a or b else 1.0


def diversity(outputs: Sequence[str]) -> float | None:
    """Mean Jaccard of all pairs: 0 all different, 1 all the same; None for fewer than two."""
    if len(outputs) < 2:
        return None
    said = [words(each) for each in outputs]
    step = max(1, math.comb(len(said), 2) // _MAX_PAIRS)
    pairs = itertools.islice(itertools.combinations(said, 2), 0, None, step)
    found = [jaccard(a, b) for a, b in pairs]
    return sum(found) / len(found)


def parrot_share(outputs: Sequence[str]) -> float:
    """Share of the outputs that are one of the four most frequent, near duplicates taken together; 0 for none.

    >>> parrot_share(["use pnpm"] * 3 + ["a b", "c d", "e f", "g h", "i j", "k l", "m n"])
    0.6
    """
    sizes = sorted(clusters(outputs).values(), reverse=True)
    return sum(sizes[:NUM_MOST_FREQUENT]) / len(outputs) if outputs else 0.0


def top_share(outputs: Sequence[str]) -> float:
    """Share of the most frequent output; 0 for none."""
    return max(clusters(outputs).values(), default=0) / len(outputs) if outputs else 0.0


def clusters(outputs: Sequence[str]) -> dict[str, int]:
    """How often each was said, near duplicates under the first of them."""
    exact = Counter(folded(each) for each in outputs)
    heads: dict[str, frozenset[str]] = {}
    sizes: dict[str, int] = {}
    for text, count in exact.items():
        own = words(text)
        head = next((h for h, known in heads.items() if own and jaccard(own, known) >= NEAR_DUPLICATE), text)
        heads.setdefault(head, own)
        sizes[head] = sizes.get(head, 0) + count
    return sizes


def is_right(answers: Sequence[str], said: str) -> bool:
    """Whether any of the answers stands in what was said, as a word of its own.

    >>> is_right(["8081"], "The port is 8081."), is_right(["808"], "The port is 8081.")
    (True, False)
    """
    whole = f" {folded(said)} "
    return any(_stands(folded(answer), whole) for answer in answers if answer.strip())


def reciprocal_rank(order: Sequence[int], answering: Iterable[int]) -> float:
    """1 over the place of the first that answers; 0 where none does.

    >>> reciprocal_rank([3, 1, 2], {1, 2})
    0.5
    """
    wanted = set(answering)
    return next((1 / place for place, number in enumerate(order, 1) if number in wanted), 0.0)


@dataclass(frozen=True, slots=True)
class Given:
    """What a reader was given to a question, beside what should have been told."""

    category: str
    score: float
    text: str
    reference: str
    """The right answer in words."""


def by_category(those: Iterable[Given], rarity: Rarity | None = None) -> dict[str, Said]:
    """Every figure for each category; what has none counts as `other`."""
    found: dict[str, list[Given]] = {}
    for each in those:
        found.setdefault(each.category or OTHER, []).append(each)
    return {name: _said(mine, rarity) for name, mine in sorted(found.items())}


def _said(those: Sequence[Given], rarity: Rarity | None) -> Said:
    texts = [each.text for each in those]
    return Said(
        num=len(those),
        score=sum(each.score for each in those) / len(those),
        strict=_mean(coverage(keywords_strict(each.reference), each.text) for each in those),
        loose=_mean(coverage(keywords_loose(each.reference, rarity), each.text) for each in those),
        jaccard=diversity(texts),
        parrot=parrot_share(texts),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _stands(answer: str, whole: str) -> bool:
    at = whole.find(answer)
    while at >= 0:
        before, after = whole[at - 1] if at else " ", whole[at + len(answer) : at + len(answer) + 1]
        if not (_joins(before) and _joins(answer[0])) and not (_joins(after) and _joins(answer[-1])):
            return True
        at = whole.find(answer, at + 1)
    return False


def _joins(char: str) -> bool:
    return char.isascii() and (char.isalnum() or char == "_")
