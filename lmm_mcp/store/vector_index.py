"""When search by meaning goes through an index, and through which one.

Up to EXACT_rows vectors in all, every one is looked at: exact, and quick enough. Beyond, each closed shelf has an IVF index over
vectors of four bits a number (RaBitQ), whose best candidates are compared exactly once more. Rows that came later than
the last upkeep are looked at one by one. A small slice, such as one project, is always searched exactly: a bitmap of the
projects says which rows are meant.
"""

from typing import Any

from lancedb.index import Bitmap, BTree, IvfRq

EXACT_rows = 50_000
"""Vectors in the whole store up to which no index is made: looking at each takes 25 to 50 ms."""
FEW_rows = 10_000
"""A slice of this many rows of a shelf is quicker to look through than its index, which grows less sure in small slices."""
PARTITION_rows = 1_000
NUM_PROBES = 40
"""Partitions that a search looks into: of 2,000 clusters in 100 partitions it finds all of the ten nearest."""
REFINE_FACTOR = 2
"""So many times more candidates than asked for are compared exactly."""
_NEARLY = 0.9
_FEWEST_rows = 256
"""LanceDB cannot cut fewer into partitions."""
_NUM_BITS = 4
"""One bit finds as many of the ten nearest, but loses a tenth of them within a project."""


def exists(vectors: Any) -> bool:
    """Whether the table has a vector index."""
    return any(each.columns == ["vector"] for each in vectors.list_indices())


def is_due(chunks: Any, vectors: Any, num_all: int, *, exact_rows: int = EXACT_rows) -> bool:
    """Whether a closed shelf should get an index: not before nearly all is embedded, for its partitions are cut once.

    `num_all`: vectors in the whole store.
    """
    if vectors is None or num_all <= exact_rows or exists(vectors):
        return False
    return bool(vectors.count_rows() > max(_FEWEST_rows, _NEARLY * chunks.count_rows()))


def build(vectors: Any) -> None:
    """Make the index over what is there. What dies here leaves the table as it was."""
    num_partitions = max(1, vectors.count_rows() // PARTITION_rows)
    vectors.create_index(
        "vector", config=IvfRq(distance_type="dot", num_partitions=num_partitions, num_bits=_NUM_BITS), replace=True
    )


_OF_CHUNKS = {"id": BTree, "thread_id": BTree, "project": Bitmap}
_OF_VECTORS = {"chunk_id": BTree, "project": Bitmap}


def build_scalar(chunks: Any, vectors: Any) -> None:
    """Make the missing indexes of the columns by which a closed shelf is looked up: ids, threads, projects."""
    for table, wanted in ((chunks, _OF_CHUNKS), (vectors, _OF_VECTORS)):
        if table is None or not table.count_rows():
            continue
        held = {column for each in table.list_indices() for column in each.columns}
        for column, kind in wanted.items():
            if column not in held:
                table.create_index(column, config=kind())


def lacks_scalar(chunks: Any, vectors: Any) -> bool:
    """Whether those indexes were not made yet."""
    return _lacks(chunks, "id") or (vectors is not None and _lacks(vectors, "chunk_id"))


def _lacks(table: Any, column: str) -> bool:
    return bool(table.count_rows()) and not any(each.columns == [column] for each in table.list_indices())
