"""The words of rows that are held in memory, as postings: a question is ranked by them without asking LanceDB's text index.

That index crosses to another thread five times a search and reads row by row whatever it does not hold yet; here a search
of 8,000 passages adds up some short arrays. Words are known by their hash alone, five bytes a posting.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lmm_mcp.store import blocks
from lmm_mcp.store.blocks import Block, Blocks, RowIds
from lmm_mcp.store.frequencies import Frequencies, idf_of
from lmm_mcp.store.scoring import K1, B
from lmm_mcp.store.search import Hit, Scope

_BATCH_rows = 4_000
"""Split at once: their terms take some 30 MB."""
_MOST = np.iinfo(np.uint8).max


@dataclass(frozen=True, slots=True, eq=False)
class Postings:
    """Which rows of a block hold which words, and how often."""

    block: Block
    hashes: npt.NDArray[np.int64]
    """Of each word, in order; those of this process alone."""
    starts: npt.NDArray[np.int64]
    """Where the postings of a word begin; one more at the end."""
    of_row: npt.NDArray[np.int32]
    counts: npt.NDArray[np.uint8]
    """At most 255, which in a passage is as good as more."""
    lengths: npt.NDArray[np.int32]
    """Terms in each row."""


Words = tuple[Postings, ...]
"""One for each block of rows."""


def looked(table: Any, held: Blocks, before: Words, moved: Mapping[int, int]) -> Words:
    """The words of all rows of `held`. `before`: of an earlier look, so that only what is new is read.

    `moved`: rows that got other numbers since: old ones to new ones.
    """
    num_rows = sum(len(each.is_there) for each in held)
    old = np.fromiter(sorted(moved), np.uint64, len(moved))
    new = np.fromiter((moved[each] for each in sorted(moved)), np.uint64, len(moved))
    return tuple(_postings(table, block, before, num_rows, (old, new)) for block in held)


def best(words: Words, asked: Sequence[str], known: Frequencies | None, scope: Scope, limit: int) -> list[Hit]:
    """Those rows that hold any of the terms `asked` within scope, best first by BM25, equal ones by id.

    `known`: of the whole store, where these are not all its rows; None: they are.
    Source: Robertson and Zaragoza 2009, eq. 3.15, as `scoring` has it.
    """
    idf, mean_length = (known.idf(asked), known.mean_length) if known is not None else _counted(words, asked)
    found: list[Hit] = []
    for each in words:
        scores = np.zeros(len(each.lengths), np.float32)
        norms = (K1 * (1 - B + B * each.lengths / (mean_length or each.lengths.mean() or 1.0))).astype(np.float32)
        for term, weight in idf.items():
            held = _held(each, term)
            at, counts = each.of_row[held], each.counts[held].astype(np.float32)
            scores[at] += np.float32(weight * (K1 + 1)) * counts / (counts + norms[at])
        scores = np.where(blocks.in_scope(each.block, scope), scores, np.float32(0))
        some = np.flatnonzero(scores > 0)
        if len(some) > limit:
            worst = np.partition(scores[some], len(some) - limit)[len(some) - limit]
            some = some[scores[some] >= worst]
        ids = next(iter(each.block.columns.values()))
        found += map(Hit, ids[some].tolist(), scores[some].tolist())
    return sorted(found, key=lambda hit: (-hit.score, hit.chunk_id))[:limit]


def _counted(words: Words, asked: Sequence[str]) -> tuple[Mapping[str, float], float]:
    """The weights of terms and the mean length, as these rows have them."""
    num_rows = sum(int(each.block.is_there.sum()) for each in words)
    num_terms = sum(int(each.lengths[each.block.is_there].sum()) for each in words)
    counts = {}
    for term in asked:
        held = [(each, _held(each, term)) for each in words]
        counts[term] = sum(int(each.block.is_there[each.of_row[where]].sum()) for each, where in held)
    return {term: idf_of(num_rows, num) for term, num in counts.items()}, num_terms / max(1, num_rows)


def _held(postings: Postings, term: str) -> slice:
    """Where the postings of a term stand."""
    wanted = hash(term)
    at = int(np.searchsorted(postings.hashes, wanted))
    if at == len(postings.hashes) or postings.hashes[at] != wanted:
        return slice(0, 0)
    return slice(int(postings.starts[at]), int(postings.starts[at + 1]))


def _postings(table: Any, block: Block, before: Words, num_rows: int, moved: tuple[RowIds, RowIds]) -> Postings:
    """Of one block: taken from those of an earlier look as far as they hold its rows, read for the others."""
    for each in before:
        if each.block.columns is block.columns:  # rows may have gone, none came
            return Postings(block, each.hashes, each.starts, each.of_row, each.counts, each.lengths)
    lengths = np.zeros(len(block.is_there), np.int32)
    order = np.argsort(block.row_ids)
    parts: list[tuple[npt.NDArray[Any], ...]] = []
    known = np.zeros(len(block.is_there), np.bool_)
    for each in before:
        places = _places(block, order, each, moved)
        if (places >= 0).any():
            hashes, of_row = np.repeat(each.hashes, np.diff(each.starts)), places[each.of_row]
            kept = of_row >= 0
            parts.append((hashes[kept], of_row[kept], each.counts[kept]))
            lengths[places[places >= 0]] = each.lengths[places >= 0]
            known[places[places >= 0]] = True
    if not known.all():
        parts += _read(table, block, order, known, lengths, num_rows)
    return _joined(block, parts, lengths)


def _places(
    block: Block, order: npt.NDArray[np.intp], other: Postings, moved: tuple[RowIds, RowIds]
) -> npt.NDArray[np.int32]:
    """Where the rows of another block stand in this one; -1 for those that are not there, and those without words.

    A row that was gone before its words were read may be here again, moved by upkeep.
    """
    row_ids, (old, new) = other.block.row_ids, moved
    is_read = other.block.is_there & (other.lengths > 0)
    if len(old):
        at = np.minimum(np.searchsorted(old, row_ids), len(old) - 1)
        row_ids = np.where(old[at] == row_ids, new[at], row_ids)
    at = np.minimum(np.searchsorted(block.row_ids, row_ids, sorter=order), len(order) - 1)
    places = order[at]
    return np.where((block.row_ids[places] == row_ids) & is_read, places, -1).astype(np.int32)


def _read(
    table: Any,
    block: Block,
    order: npt.NDArray[np.intp],
    known: npt.NDArray[np.bool_],
    lengths: npt.NDArray[np.int32],
    num_rows: int,
) -> list[tuple[npt.NDArray[Any], ...]]:
    """Hashes, rows and counts of the rows that are not known yet, some thousands at a time; their lengths are filled in."""
    found = blocks.fetched(table, block.row_ids[~known], ("terms",), of=num_rows)
    at = np.searchsorted(block.row_ids, found[blocks.ROW_ID], sorter=order)
    places = order[np.minimum(at, len(order) - 1)].astype(np.int32)
    is_mine = block.row_ids[places] == found[blocks.ROW_ID]  # others may have come since the rows were listed
    places, all_terms = places[is_mine], found["terms"][is_mine]
    parts: list[tuple[npt.NDArray[Any], ...]] = []
    for start in range(0, len(places), _BATCH_rows):
        those = slice(start, start + _BATCH_rows)
        split = pc.split_pattern(pa.array(all_terms[those], pa.string()), " ")
        coded = pc.list_flatten(split).dictionary_encode()
        row_of = pc.list_parent_indices(split).to_numpy().astype(np.int64)
        hashes = np.fromiter(map(hash, coded.dictionary.to_pylist()), np.int64, len(coded.dictionary))
        some = places[those]
        lengths[some] = np.bincount(row_of, minlength=len(some))
        pairs, counts = np.unique(coded.indices.to_numpy().astype(np.int64) * len(some) + row_of, return_counts=True)
        parts.append((hashes[pairs // len(some)], some[pairs % len(some)], np.minimum(counts, _MOST).astype(np.uint8)))
    return parts


def _joined(block: Block, parts: Sequence[tuple[npt.NDArray[Any], ...]], lengths: npt.NDArray[np.int32]) -> Postings:
    none: tuple[npt.NDArray[Any], ...] = (np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.uint8))
    hashes, of_row, counts = (np.concatenate(column) for column in zip(none, *parts, strict=True))
    order = np.argsort(hashes, kind="stable")
    hashes = hashes[order]
    firsts = np.flatnonzero(np.r_[True, hashes[1:] != hashes[:-1]]) if len(hashes) else np.empty(0, np.int64)
    return Postings(block, hashes[firsts], np.append(firsts, len(hashes)), of_row[order], counts[order], lengths)
