"""In how many chunks each term occurs: what makes a rare word worth more than a common one.

LanceDB's text index knows this but does not tell, so the writer counts and leaves a small file of hashes and counts
beside the store; readers map it. Counts may lag behind the newest chunks: they weigh terms and decide nothing alone.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

FILE = "frequencies.npy"


@dataclass(frozen=True, slots=True)
class Frequencies:
    """Document frequencies of terms, by hash. Terms seen once are not listed."""

    num_chunks: int
    hashes: npt.NDArray[np.uint64]
    """Sorted."""
    counts: npt.NDArray[np.uint64]

    @staticmethod
    def none() -> "Frequencies":
        """Of an empty store: every term weighs the same."""
        return Frequencies(0, np.empty(0, np.uint64), np.empty(0, np.uint64))

    def idf(self, terms: Sequence[str]) -> Mapping[str, float]:
        """Inverse document frequency in nats, as BM25 weighs it (Robertson and Zaragoza 2009, eq. 3.15, never below 0).

        >>> Frequencies.none().idf(["port"])
        {'port': 1.0}
        """
        if not self.num_chunks or not terms:
            return dict.fromkeys(terms, 1.0)
        wanted = np.array([_hash(term) for term in terms], np.uint64)
        at = np.minimum(np.searchsorted(self.hashes, wanted), max(len(self.hashes) - 1, 0))
        known = self.hashes[at] == wanted if len(self.hashes) else np.zeros(len(terms), bool)
        counts = np.where(known, self.counts[at] if len(self.counts) else 0, 1).astype(float)
        values = np.log1p((max(self.num_chunks, 1) - counts + 0.5).clip(0.5) / (counts + 0.5))
        return dict(zip(terms, values.tolist(), strict=True))


def count(rows: Iterable[str]) -> Frequencies:
    """Count distinct terms over rows of blank-joined terms.

    >>> found = count(["a b", "a a", "c"])
    >>> found.num_chunks, [round(x, 2) for x in found.idf(["a", "c"]).values()]
    (3, [0.47, 0.98])
    """
    seen: Counter[str] = Counter()
    num_chunks = 0
    for row in rows:
        num_chunks += 1
        seen.update(set(row.split(" ")))
    pairs = sorted((_hash(term), n) for term, n in seen.items() if n > 1 and term)
    table = np.array(pairs, np.uint64).reshape(-1, 2)
    return Frequencies(num_chunks, table[:, 0].copy(), table[:, 1].copy())


def save(found: Frequencies, folder: Path) -> None:
    """Write beside and rename over: readers see the old counts or the new ones."""
    beside = folder / f".{FILE}.part"
    with beside.open("wb") as out:
        np.save(
            out,
            np.vstack([np.append(found.hashes, np.uint64(0)), np.append(found.counts, np.uint64(found.num_chunks))]),
        )
    beside.replace(folder / FILE)


def load(folder: Path) -> Frequencies:
    """Read what the writer left; an absent or damaged file is `Frequencies.none()`, since the next upkeep makes it anew."""
    try:
        table = np.load(folder / FILE, mmap_mode="r", allow_pickle=False)
        return Frequencies(int(table[1, -1]), table[0, :-1], table[1, :-1])
    except (OSError, ValueError, IndexError):
        return Frequencies.none()


def is_worth_recounting(found: Frequencies, num_chunks: int) -> bool:
    """Whether the store has changed enough for weights to differ: a tenth, or from nothing."""
    return abs(num_chunks - found.num_chunks) > max(20, found.num_chunks // 10)


def _hash(term: str) -> int:
    return int.from_bytes(hashlib.blake2b(term.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
