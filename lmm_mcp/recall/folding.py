"""Ranked lines in, each thing said once out. Pure.

A line is told already where one above it says the same words, or says them in the same order with a few more between. No
word of the folded line is missing from the one that is told, so that no value, name or number is ever lost; and no
negation stands between them.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from lmm_mcp.recall.found import Evidence

MAX_LINES_PER_CHUNK = 16
NEARLY = 0.9
"""Share of a line's words that another must hold to say nearly the same."""
_WORD = re.compile(r"""(?:[^\s,;()\[\]{}"'`*|]|(?<=\w)'(?=\w))+""")
_NO = frozenset(
    """no not never none nothing nobody neither nor without cannot unless except hardly only almost non false off
    不 没 没有 无 非 别 未""".split()
)


@dataclass(frozen=True, slots=True)
class Folded:
    """What was told once."""

    kept: list[Evidence]
    folds: list[tuple[Evidence, Evidence]]
    """Each line that is told already, and the one that tells it."""
    too_many: list[Evidence]
    """Lines over their passage's share."""


def told_once(found: Sequence[Evidence]) -> Folded:
    """Drop repeats, near repeats and what goes over a chunk's share; of the same said again in a session cite the newest saying."""
    kept: list[Evidence] = []
    words: list[list[str]] = []
    holds: list[frozenset[str]] = []
    of_length: dict[int, list[int]] = {}
    told: dict[str, int] = {}
    num_of: dict[str, int] = {}
    folds: list[tuple[Evidence, int]] = []
    too_many: list[Evidence] = []
    for each in found:
        key = re.sub(r"\W+", " ", each.text.lower())
        if num_of.get(each.chunk.id, 0) >= MAX_LINES_PER_CHUNK:
            too_many.append(each)
            continue
        own = _WORD.findall(each.text.lower())
        distinct = frozenset(own)
        at = told.get(key)
        if at is not None:
            # The same words said again later: the newest saying is the one to cite.
            earlier = kept[at]
            is_same = each.line.role == earlier.line.role and each.chunk.session_id == earlier.chunk.session_id
            if is_same and each.chunk.last_ms > earlier.chunk.last_ms:
                kept[at], each = replace(each, terms=earlier.terms), earlier
        else:
            longer = (n for length in _lengths(len(own)) for n in of_length.get(length, ()))
            at = next((n for n in longer if distinct <= holds[n] and says_nearly(words[n], own)), None)
        if at is not None:
            folds.append((each, at))
            continue
        told[key] = len(kept)
        of_length.setdefault(len(own), []).append(len(kept))
        num_of[each.chunk.id] = num_of.get(each.chunk.id, 0) + 1
        kept.append(each)
        words.append(own)
        holds.append(distinct)
    return Folded(kept, [(each, kept[at]) for each, at in folds], too_many)


def says_nearly(told: Sequence[str], words: Sequence[str]) -> bool:
    """Whether `told` holds all of `words` in their order, and hardly more.

    >>> told = "the tide service now listens on port 7311 in production and staging".split()
    >>> says_nearly(told, "the tide service listens on port 7311 in production and staging".split())
    True
    >>> says_nearly(told, "the tide service now listens on port 7312 in production and staging".split())
    False
    """
    if not NEARLY * len(told) <= len(words) <= len(told):
        return False
    rest = iter(told)
    if not all(any(word == each for each in rest) for word in words):
        return False
    more = list(told)
    for word in words:
        more.remove(word)
    return not any(
        each in _NO or each.endswith(("n't", "n\u2019t")) or any(char.isdigit() for char in each) for each in more
    )


def _lengths(num_words: int) -> Iterator[int]:
    """Of lines that may tell one of so many words."""
    yield from range(num_words, int(num_words / NEARLY) + 1)
