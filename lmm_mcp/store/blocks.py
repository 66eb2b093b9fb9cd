"""Rows of a table copied into memory, brought up to date by what is new since the last look.

A row of LanceDB never changes: whatever is rewritten gets another row id, and so does what upkeep moves to another file. So
the row ids that there are say what must be fetched and what is gone. Only `rewrite` of a table may use ids again; the
store's record is written after that, upon which copies are thrown away (`row.py`).

What was looked at is a tuple of blocks, of which none is ever changed: questions may go on with an older one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lmm_mcp.store.search import Scope
from lmm_mcp.store.tables import ALL_ROWS

ROW_ID = "_rowid"
MANY_BLOCKS = 16
_FEW_rows = 3_000
"""Up to here rows are fetched by their ids; more are quicker found by reading all."""

Column = npt.NDArray[Any]
RowIds = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Rows that were fetched together."""

    columns: Mapping[str, Column]
    places: Mapping[str, int]
    """Where the row of an id stands, by the first of `columns`; of one that is gone, too."""
    is_there: npt.NDArray[np.bool_]
    """False for a row that is gone."""

    @property
    def row_ids(self) -> RowIds:
        """In the order of the rows."""
        return self.columns[ROW_ID]


Blocks = tuple[Block, ...]


def made(columns: Mapping[str, Column]) -> Block:
    """A block of these columns, of which the first holds ids."""
    ids = next(iter(columns.values()))
    return Block(columns, dict(zip(ids.tolist(), range(len(ids)), strict=True)), np.ones(len(ids), np.bool_))


def looked(table: Any, before: Blocks, wanted: Sequence[str]) -> Blocks:
    """The rows of a table as they are now, with the `wanted` columns, of which the first holds ids."""
    now = _row_ids(table)
    kept = tuple(_without_gone(block, now) for block in before)
    kept = tuple(block for block in kept if block.is_there.any())
    held = [block.row_ids[block.is_there] for block in kept]
    new = np.setdiff1d(now, np.concatenate(held), assume_unique=True) if held else now
    if len(new):
        block = made(fetched(table, new, wanted, of=len(now)))
        kept = (*kept, block) if len(block.is_there) else kept  # they may have gone since they were listed
    return kept if len(kept) <= MANY_BLOCKS else _fewer(kept)


def fetched(table: Any, row_ids: RowIds, wanted: Sequence[str], *, of: int) -> dict[str, Column]:
    """These columns, and ROW_ID, of those rows that are still there. `of`: how many rows the table has."""
    if len(row_ids) <= _FEW_rows and len(row_ids) < of:
        found = table.take_row_ids(row_ids.tolist()).with_row_id().select([*wanted]).to_arrow()
    else:
        found = table.search().with_row_id(True).select([*wanted]).limit(ALL_ROWS).to_arrow()
        if len(row_ids) < of:
            found = found.filter(pa.array(np.isin(found[ROW_ID].to_numpy(), row_ids)))
    return {name: _array(found[name]) for name in (*wanted, ROW_ID)}


def in_scope(block: Block, scope: Scope) -> npt.NDArray[np.bool_]:
    """Which rows are there and within scope."""
    is_in = block.is_there
    for name, wanted in (("project", scope.project), ("agent", scope.agent)):
        if wanted is not None:
            is_in = is_in & (block.columns[name] == wanted)
    if scope.since_ms is not None:
        is_in = is_in & (block.columns["first_ms"] >= max(scope.since_ms, 1))
    if scope.until_ms is not None:
        is_in = is_in & (block.columns["last_ms"] <= scope.until_ms) & (block.columns["last_ms"] > 0)
    return is_in


def place(blocks: Blocks, key: str) -> tuple[Block, int] | None:
    """The block that holds the row of this id, and where; None where none does."""
    for block in reversed(blocks):
        at = block.places.get(key)
        if at is not None and block.is_there[at]:
            return block, at
    return None


def rows(blocks: Blocks, name: str) -> Iterator[Any]:
    """The values of a column, of the rows that are there."""
    for block in blocks:
        yield from block.columns[name][block.is_there].tolist()


def moved(before: Blocks, now: Blocks, mark: Callable[[Block], Column]) -> dict[int, int]:
    """Rows that upkeep gave other numbers: old to new. Known by their id and by `mark`, which differs where a row was rewritten."""
    known = {id(each.columns): each.is_there for each in now}
    gone: dict[tuple[str, int | float], int] = {}
    for block in before:
        still = known.get(id(block.columns))
        if still is None or not bool((still == block.is_there).all()):
            there = block.is_there if still is None else block.is_there & ~still
            gone |= zip(_keys(block, there, mark), block.row_ids[there].tolist(), strict=True)
    if not gone:
        return {}
    same = {id(each.columns) for each in before}
    come = (
        pair
        for block in now
        if id(block.columns) not in same
        for pair in zip(_keys(block, block.is_there, mark), block.row_ids[block.is_there].tolist(), strict=True)
    )
    return {gone[key]: row_id for key, row_id in come if key in gone and gone[key] != row_id}


def _keys(
    block: Block, of: npt.NDArray[np.bool_], mark: Callable[[Block], Column]
) -> Iterator[tuple[str, int | float]]:
    ids = next(iter(block.columns.values()))
    return zip(ids[of].tolist(), mark(block)[of].tolist(), strict=True)


def _row_ids(table: Any) -> RowIds:
    found = table.search().with_row_id(True).select([ROW_ID]).limit(ALL_ROWS).to_arrow()
    ids: RowIds = found[ROW_ID].to_numpy()
    return ids


def _without_gone(block: Block, now: RowIds) -> Block:
    is_there = block.is_there & np.isin(block.row_ids, now)
    if bool((is_there == block.is_there).all()):
        return block
    if 2 * int(is_there.sum()) >= len(is_there) or not is_there.any():
        return replace(block, is_there=is_there)
    return made({name: column[is_there] for name, column in block.columns.items()})


def _fewer(blocks: Blocks) -> Blocks:
    """The small ones as one; with the first, too, where they are as large: so a row is copied seldom."""
    small = _joined(blocks[1:])
    return (_joined(blocks),) if len(small.is_there) >= len(blocks[0].is_there) else (blocks[0], small)


def _joined(blocks: Blocks) -> Block:
    return made(
        {name: np.concatenate([block.columns[name][block.is_there] for block in blocks]) for name in blocks[0].columns}
    )


def _array(column: pa.ChunkedArray) -> Column:
    kind = column.type
    if pa.types.is_fixed_size_list(kind):
        flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
        # Copied: a view would keep whatever else LanceDB read with it.
        return np.array(flat, np.float32).reshape(len(column), kind.list_size)
    if pa.types.is_integer(kind):
        return np.array(column.to_numpy())
    values = column.to_pylist()
    once = {value: value for value in values}  # a project's name is one string, not one for each row
    found = np.empty(len(values), dtype=object)
    found[:] = [once[value] for value in values]
    return found
