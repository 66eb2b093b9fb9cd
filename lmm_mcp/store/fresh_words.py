"""The words of rows that the text index does not hold yet, as postings in memory.

LanceDB reads all such rows at every question, 10 ms a thousand. Which rows they are it does not tell, only how many; so the
newest so many are taken, by when they were written and by where they lie, and what the index finds, too, is told once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lmm_mcp.domain.chunk import ChunkId
from lmm_mcp.store import blocks, tables
from lmm_mcp.store.blocks import Block, Blocks, RowIds
from lmm_mcp.store.scoring import K1, B
from lmm_mcp.store.search import Scope

MAX_rows = 10_000
"""More are left to LanceDB: there is no index, or upkeep fails."""
MANY_SEGMENTS = 24
_COLUMNS = ("id", "terms", "project", "agent", "first_ms", "last_ms")
_MEAN_LENGTH = 150.0
"""Terms in a passage, where that was never counted."""


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Postings of rows that were fetched together."""

    rows: Block
    codes: Mapping[str, int]
    """Each word's number."""
    starts: npt.NDArray[np.int64]
    """Where the postings of a word begin, by its number; one more at the end."""
    of_row: npt.NDArray[np.int32]
    counts: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int64]
    """Terms in each row."""


@dataclass(frozen=True, slots=True)
class FreshWords:
    """What stands in for the text index where it is behind."""

    segments: tuple[Segment, ...] = ()
    is_all: bool = False
    """Whether all rows that the index lacks are here."""

    @staticmethod
    def none() -> "FreshWords":
        """Nothing is known: LanceDB must read what its index lacks."""
        return FreshWords()


def looked_for_words(chunks: Any, held: Blocks, before: FreshWords) -> FreshWords:
    """The words of the rows that the text index lacks. `held`: all rows, with `written_ms`."""
    num = tables.num_unindexed(chunks)
    if not num:
        return FreshWords(is_all=True)
    if num > MAX_rows:
        return FreshWords.none()
    wanted = _newest(held, num)
    segments = [segment for each in before.segments if (segment := _only(each, wanted)) is not None]
    if len(segments) > MANY_SEGMENTS:
        segments = []
    known = [each.rows.row_ids[each.rows.is_there] for each in segments]
    new = np.setdiff1d(wanted, np.concatenate(known)) if known else wanted
    if len(new):
        num_rows = sum(int(each.is_there.sum()) for each in held)
        segments.append(_segment(blocks.made(blocks.fetched(chunks, new, _COLUMNS, of=num_rows))))
    return FreshWords(tuple(segments), is_all=True)


def best_fresh(
    words: FreshWords, idf: Mapping[str, float], mean_length: float, scope: Scope, limit: int
) -> list[tuple[ChunkId, float, str]]:
    """Those rows that hold any of the terms within scope, best first: id, BM25 (as `scoring` has it), and terms."""
    found: list[tuple[ChunkId, float, str]] = []
    for each in words.segments:
        scores = np.zeros(len(each.lengths))
        norms = K1 * (1 - B + B * each.lengths / (mean_length or _MEAN_LENGTH))
        for term, weight in idf.items():
            if (code := each.codes.get(term)) is not None:
                held = slice(each.starts[code], each.starts[code + 1])
                at, counts = each.of_row[held], each.counts[held]
                scores[at] += weight * counts * (K1 + 1) / (counts + norms[at])
        scores = np.where(blocks.in_scope(each.rows, scope), scores, 0.0)
        best = np.argsort(-scores, kind="stable")[:limit]
        best = best[scores[best] > 0]
        columns = each.rows.columns
        found += zip(columns["id"][best].tolist(), scores[best].tolist(), columns["terms"][best].tolist(), strict=True)
    return sorted(found, key=lambda each: (-each[1], each[0]))[:limit]


def _newest(held: Blocks, num: int) -> RowIds:
    """The `num` rows that were written last, and those that lie last: rows written before a clock was set back, too."""
    there = [each.is_there for each in held]
    row_ids = np.concatenate([each.row_ids[is_there] for each, is_there in zip(held, there, strict=True)])
    written = np.concatenate([each.columns["written_ms"][is_there] for each, is_there in zip(held, there, strict=True)])
    if num >= len(row_ids):
        return row_ids
    at = len(row_ids) - num
    newest: RowIds = row_ids[(written >= np.partition(written, at)[at]) | (row_ids >= np.partition(row_ids, at)[at])]
    return newest


def _only(segment: Segment, wanted: RowIds) -> Segment | None:
    is_there = np.isin(segment.rows.row_ids, wanted)
    if not is_there.any():
        return None
    rows = Block(segment.rows.columns, segment.rows.places, is_there)
    return Segment(rows, segment.codes, segment.starts, segment.of_row, segment.counts, segment.lengths)


def _segment(rows: Block) -> Segment:
    split = pc.split_pattern(pa.array(rows.columns["terms"], pa.string()), " ")
    coded = pc.list_flatten(split).dictionary_encode()
    words: Sequence[str] = coded.dictionary.to_pylist()
    codes = coded.indices.to_numpy().astype(np.int64)
    row_of = pc.list_parent_indices(split).to_numpy().astype(np.int64)
    num_rows = max(1, len(rows.places))
    pairs, counts = np.unique(codes * num_rows + row_of, return_counts=True)
    return Segment(
        rows,
        dict(zip(words, range(len(words)), strict=True)),
        np.searchsorted(pairs, np.arange(len(words) + 1) * num_rows),
        (pairs % num_rows).astype(np.int32),
        counts.astype(np.int32),
        np.bincount(row_of, minlength=num_rows)[: len(rows.is_there)],
    )
