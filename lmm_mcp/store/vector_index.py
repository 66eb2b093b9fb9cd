"""When search by meaning goes through an index, and through which one.

Up to EXACT_rows vectors in all, every one is looked at: exact, and quick enough. Beyond, each shelf has an IVF index over
vectors of four bits a number (RaBitQ), whose best candidates are compared exactly once more. Rows that came later than
the last upkeep are looked at one by one. A small slice, such as one project, is always searched exactly: a bitmap of the
projects says which rows are meant.
"""

from typing import Any

from lancedb.index import Bitmap, BTree, IvfRq

EXACT_rows = 100_000
"""Vectors in the whole store up to which no index is made: looking at each takes 40 to 100 ms."""
FEW_rows = 10_000
"""A slice of this many rows of a shelf is quicker to look through than its index, which grows less sure in small slices."""
MIN_rows = 20_000
"""A smaller shelf needs no index: this many vectors are looked through in 10 ms."""
PARTITION_rows = 1_000
NUM_PROBES = 40
"""Partitions that a search looks into: of 2,000 clusters in 100 partitions it finds all of the ten nearest."""
REFINE_FACTOR = 4
"""So many times more candidates than asked for are compared exactly."""
_NUM_BITS = 4
"""One bit finds as many of the ten nearest, but loses a tenth of them within a project."""


def exists(vectors: Any) -> bool:
    """Whether the table has a vector index."""
    return any(each.columns == ["vector"] for each in vectors.list_indices())


def is_due(vectors: Any, num_all: int, *, exact_rows: int = EXACT_rows, min_rows: int = MIN_rows) -> bool:
    """Whether the table should get an index; `num_all`: vectors in the whole store."""
    return num_all > exact_rows and vectors.count_rows() >= min_rows and not exists(vectors)


def build(vectors: Any, *, partition_rows: int = PARTITION_rows) -> None:
    """Make the index over what is there. What dies here leaves the table as it was."""
    num_partitions = max(1, vectors.count_rows() // partition_rows)
    vectors.create_index(
        "vector", config=IvfRq(distance_type="dot", num_partitions=num_partitions, num_bits=_NUM_BITS), replace=True
    )


SCALAR_rows = 50_000
"""A shelf from this size on has indexes of the columns that rows are looked up by: below, reading them is as quick."""
_OF_CHUNKS = {"id": BTree, "thread_id": BTree, "project": Bitmap}
_OF_VECTORS = {"chunk_id": BTree, "project": Bitmap}


def build_scalar(chunks: Any, vectors: Any, *, scalar_rows: int = SCALAR_rows) -> None:
    """Make the missing indexes of ids and projects of a large shelf."""
    for table, wanted in ((chunks, _OF_CHUNKS), (vectors, _OF_VECTORS)):
        if table is None or table.count_rows() < scalar_rows:
            continue
        held = {column for each in table.list_indices() for column in each.columns}
        for column, kind in wanted.items():
            if column not in held:
                table.create_index(column, config=kind())
