"""Texts that say nearly the same: found by MinHash bands, judged by their true overlap."""

import re
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

NEARLY = 0.8
"""Share of common word triples from which two texts say nearly the same."""
_NUM_HASHES, _BAND = 64, 4
"""Sixteen bands of four: of pairs that overlap by 0.8 one in 5,000 is missed, and judging those that overlap by 0.3 is rare."""
_PRIME = (1 << 31) - 1
_T = TypeVar("_T")
_WORD = re.compile(r"\w+")


def shingles(text: str) -> frozenset[int]:
    """The word triples of a text, as numbers; of a shorter one all its words as one.

    >>> len(shingles("a b c d")), shingles("One two  three") == shingles("one two three")
    (2, True)
    """
    words = _WORD.findall(text.lower())
    triples = [" ".join(words[n : n + 3]) for n in range(max(1, len(words) - 2))]
    return frozenset(zlib.crc32(each.encode("utf-8", "surrogatepass")) for each in triples)


def overlap(one: frozenset[_T], other: frozenset[_T]) -> float:
    """What two have in common among all they have (Jaccard), 0 to 1.

    >>> overlap(frozenset({1, 2}), frozenset({2, 3}))
    0.3333333333333333
    """
    whole = len(one | other)
    return len(one & other) / whole if whole else 1.0


def pairs(texts: Sequence[frozenset[int]], *, nearly: float = NEARLY) -> Iterator[tuple[int, int]]:
    """Places of texts that say nearly the same, the earlier one first, each pair once."""
    signed = signatures(texts)
    seen: set[tuple[int, int]] = set()
    for start in range(0, _NUM_HASHES, _BAND):
        buckets: dict[bytes, list[int]] = defaultdict(list)
        for place, signature in enumerate(signed):
            buckets[signature[start : start + _BAND].tobytes()].append(place)
        for bucket in buckets.values():
            # In a crowd of the same text each is compared with the first few: one of a kind is kept in the end anyway.
            for n, place in enumerate(bucket):
                for earlier in bucket[: min(n, 8)]:
                    if (earlier, place) not in seen:
                        seen.add((earlier, place))
                        if overlap(texts[earlier], texts[place]) >= nearly:
                            yield earlier, place


def signatures(texts: Sequence[frozenset[int]]) -> npt.NDArray[np.int64]:
    """MinHash signatures, int64 [texts, hashes]; the same for the same texts in every process."""
    dice = np.random.default_rng(20)
    factors_H = dice.integers(1, _PRIME, _NUM_HASHES)
    shifts_H = dice.integers(0, _PRIME, _NUM_HASHES)
    signed = np.full((len(texts), _NUM_HASHES), _PRIME, np.int64)
    for place, text in enumerate(texts):
        if text:
            ids_S = np.fromiter(text, np.int64, len(text)) % _PRIME
            signed[place] = ((ids_S[:, None] * factors_H + shifts_H) % _PRIME).min(axis=0)
    return signed
