"""In how many chunks each term occurs: what makes a rare word worth more than a common one.

LanceDB's text index knows this but does not tell, so the writer counts and leaves a small file of hashes and counts
beside the store; readers map it. Counts may lag behind the newest chunks: they weigh terms and decide nothing alone.
"""

import hashlib
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

FILE = "frequencies.npy"
_BATCH_rows = 4_096
_NUM_BATCHES = 8
"""Counted between two sums: more take memory, fewer take time."""


def file_of(number: int) -> str:
    """Where the counts of one shelf lie, where there are several; FILE holds those of all."""
    return f"frequencies_{number}.npy"


@dataclass(frozen=True, slots=True)
class Frequencies:
    """Document frequencies of terms, by hash. Terms seen once are not listed."""

    num_chunks: int
    hashes: npt.NDArray[np.uint64]
    """Sorted."""
    counts: npt.NDArray[np.uint64]
    num_terms: int = 0
    """Of all chunks together, each as often as it stands there; 0 = not known."""

    @property
    def mean_length(self) -> float:
        """Terms in a chunk; 0 = not known."""
        return self.num_terms / self.num_chunks if self.num_chunks else 0.0

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
        return {term: idf_of(self.num_chunks, count) for term, count in zip(terms, counts.tolist(), strict=True)}


def idf_of(num_chunks: int, num_holding: float) -> float:
    """Inverse document frequency in nats of a term that so many of the chunks hold."""
    return math.log1p(max(num_chunks - num_holding + 0.5, 0.5) / (num_holding + 0.5))


def count(rows: Iterable[str]) -> Frequencies:
    """Count distinct terms over rows of blank-joined terms. Takes 20 bytes of memory for each distinct term.

    >>> found = count(["a b", "a a", "c"])
    >>> found.num_chunks, [round(x, 2) for x in found.idf(["a", "c"]).values()]
    (3, [0.47, 0.98])
    """
    left = iter(rows)
    num_chunks, num_terms, total = 0, 0, _Counted.none()
    waiting: list[_Counted] = []
    while some := list(islice(left, _BATCH_rows)):
        num_chunks += len(some)
        num_terms += sum(row.count(" ") + bool(row) for row in some)
        waiting.append(_counted(pa.array(some, pa.string())))
        if len(waiting) == _NUM_BATCHES:
            total, waiting = _sum([total, *waiting]), []
    total = _sum([total, *waiting])
    several = total.counts > 1
    return Frequencies(num_chunks, total.hashes[several], total.counts[several], num_terms)


def merged(parts: Sequence[Frequencies]) -> Frequencies:
    """Of several sets of chunks as if they were one.

    >>> merged([count(["a b", "a"]), count(["a a", "a"])]).counts.tolist()
    [4]
    """
    if len(parts) == 1:
        return parts[0]
    total = _sum([_Counted.none(), *(_Counted(each.hashes, each.counts) for each in parts)])
    is_known = all(each.num_terms or not each.num_chunks for each in parts)
    num_terms = sum(each.num_terms for each in parts) if is_known else 0
    return Frequencies(sum(each.num_chunks for each in parts), total.hashes, total.counts, num_terms)


@dataclass(frozen=True, slots=True)
class _Counted:
    hashes: npt.NDArray[np.uint64]
    counts: npt.NDArray[np.uint64]

    @staticmethod
    def none() -> "_Counted":
        return _Counted(np.empty(0, np.uint64), np.empty(0, np.uint64))


def _counted(rows: pa.StringArray) -> _Counted:
    split = pc.split_pattern(rows, " ")
    found = pc.list_flatten(split).dictionary_encode()
    words = found.dictionary.to_pylist()
    codes = found.indices.to_numpy().astype(np.int64)
    # Each word once a row: sorting pairs of numbers is three times as quick as making a set of every row.
    once = np.unique(pc.list_parent_indices(split).to_numpy() * len(words) + codes)
    counts = np.bincount(once % max(len(words), 1), minlength=len(words)).astype(np.uint64)
    hashes = np.array([_hash(word) for word in words], np.uint64)
    real = np.array([bool(word) for word in words], bool)
    return _Counted(hashes[real], counts[real])


def _sum(parts: Sequence[_Counted]) -> _Counted:
    hashes = np.concatenate([each.hashes for each in parts])
    counts = np.concatenate([each.counts for each in parts])
    order = np.argsort(hashes, kind="stable")
    hashes, counts = hashes[order], counts[order]
    if not len(hashes):
        return _Counted.none()
    starts = np.flatnonzero(np.r_[True, hashes[1:] != hashes[:-1]])
    return _Counted(hashes[starts], np.add.reduceat(counts, starts))


def save(found: Frequencies, folder: Path, name: str = FILE) -> None:
    """Write beside and rename over: readers see the old counts or the new ones."""
    beside = folder / f".{name}.part"
    with beside.open("wb") as out:
        np.save(
            out,
            np.vstack(
                [
                    np.append(found.hashes, np.uint64(found.num_terms)),
                    np.append(found.counts, np.uint64(found.num_chunks)),
                ]
            ),
        )
    beside.replace(folder / name)


def sweep(folder: Path, shelves: Collection[int]) -> None:
    """Delete the counts of shelves that are no more."""
    kept = {FILE, *map(file_of, shelves)} if len(shelves) > 1 else {FILE}
    for path in folder.glob("frequencies*.npy"):
        if path.name not in kept:
            path.unlink(missing_ok=True)


def load(folder: Path, name: str = FILE) -> Frequencies:
    """Read what the writer left; an absent or damaged file is `Frequencies.none()`, since the next upkeep makes it anew."""
    try:
        table = np.load(folder / name, mmap_mode="r", allow_pickle=False)
        return Frequencies(int(table[1, -1]), table[0, :-1], table[1, :-1], int(table[0, -1]))
    except (OSError, ValueError, IndexError):
        return Frequencies.none()


def is_worth_recounting(found: Frequencies, num_chunks: int) -> bool:
    """Whether that many chunks now are so many more or fewer that weights differ: a tenth, or from nothing."""
    return abs(num_chunks - found.num_chunks) > max(20, found.num_chunks // 10)


def _hash(term: str) -> int:
    return int.from_bytes(hashlib.blake2b(term.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
