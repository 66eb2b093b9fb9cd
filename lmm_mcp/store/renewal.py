"""Making shelves anew beside the old ones: all of them (`lmm rebuild`), or one out of several small ones.

The record that names the shelves makes the change at once; whoever dies before leaves tables that nobody counts.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa

from lmm_mcp.domain.chunk import Chunk
from lmm_mcp.store import schema, tables
from lmm_mcp.store.schema import StoreRecord
from lmm_mcp.store.search import any_id
from lmm_mcp.store.shelf import Shelf
from lmm_mcp.store.tables import ALL_ROWS, parts

_ROWS_A_COMMIT = 20_000
_BATCH_rows = 4_096


def write(database: Any, first: int, batches: Iterable[Sequence[Chunk]], shelf_rows: int) -> list[Shelf]:
    """Write the chunks to new shelves, numbered from `first`; at least one. An id that comes again is left out."""
    left = _rows(batches)
    made: list[Shelf] = []
    while (head := next(left, None)) is not None or not made:
        number = first + len(made)
        tables.make_chunks(database, number, _up_to(shelf_rows, left if head is None else chain([head], left)))
        made.append(Shelf(database, number))
    return made


def carry_vectors(database: Any, new: Shelf, old: Sequence[Shelf], record: StoreRecord) -> None:
    """Give a new shelf the vectors of those chunks whose text is the same on the old ones, where they belong now."""
    if record.embedder is not None:
        new.vectors = tables.make_vectors(database, new.number, record.vector_set, record.embedder.dim)
        _carry(new, new.vectors, [(each.chunks, each.vectors) for each in old])
    if record.next_embedder is not None:
        new.next_vectors = tables.make_vectors(database, new.number, record.newest_set, record.next_embedder.dim)
        _carry(new, new.next_vectors, [(each.chunks, each.next_vectors) for each in old])


def _carry(new: Shelf, into: Any, old: Sequence[tuple[Any, Any]]) -> None:
    """`old`: chunks of each shelf, and those of their vectors that are meant."""
    waiting: list[pa.Table] = []
    for part in parts(tables.ids_of(new.chunks)):
        now = tables.columns_by_id(new.chunks, ["content_hash", *schema.SCOPE_COLUMNS], any_id("id", part))
        for chunks, vectors in old:
            if vectors is None:
                continue
            before = tables.columns_by_id(chunks, ["content_hash"], any_id("id", part))
            same = [each for each, (text,) in before.items() if now[each][0] == text]
            if same:
                waiting.append(tables.placed_vectors(vectors, {each: now[each][1:] for each in same}))
        if sum(each.num_rows for each in waiting) >= _ROWS_A_COMMIT:
            into.add(pa.concat_tables(waiting))
            waiting.clear()
    if any(each.num_rows for each in waiting):
        into.add(pa.concat_tables(waiting))


def join(database: Any, number: int, old: Sequence[Shelf], record: StoreRecord) -> Shelf:
    """Write the rows and vectors of several shelves to a new one."""
    tables.make_chunks(database, number, _stream([each.chunks for each in old]))
    made = Shelf(database, number)
    if (embedder := record.embedder) is not None:
        held = _stream([each.vectors for each in old if each.vectors is not None])
        made.vectors = tables.make_vectors(database, number, record.vector_set, embedder.dim, held)
    if (embedder := record.next_embedder) is not None:
        held = _stream([each.next_vectors for each in old if each.next_vectors is not None])
        made.next_vectors = tables.make_vectors(database, number, record.newest_set, embedder.dim, held)
    return made


def _stream(held: Sequence[Any]) -> Iterator[pa.RecordBatch]:
    for table in held:
        yield from table.search().limit(ALL_ROWS).to_batches(_BATCH_rows)


def _rows(batches: Iterable[Sequence[Chunk]]) -> Iterator[pa.RecordBatch]:
    seen: set[str] = set()
    for batch in batches:
        fresh = {chunk.id: chunk for chunk in batch if chunk.id not in seen}
        seen.update(fresh)
        if fresh:
            yield from schema.table_of(list(fresh.values())).to_batches()


def _up_to(num_rows: int, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Take batches until there are so many rows: the last may go over it."""
    taken = 0
    for batch in batches:
        yield batch
        taken += batch.num_rows
        if taken >= num_rows:
            return
