"""Which chunks await their vectors, newest first: the newest of them in memory, the rest as a number."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

import pyarrow as pa

from lmm_mcp.domain.chunk import ChunkId

MAX_HELD = 20_000
"""Ids in memory, 2 MB; when they are used up the tables are looked through again."""


class Pending:
    """See the module. Raises nothing; knows nothing of the tables."""

    def __init__(self, found: pa.Table, *, max_held: int = MAX_HELD) -> None:
        """`found`: `id` and `last_ms` of all that have no vector."""
        newest = found.sort_by([("last_ms", "descending"), ("id", "ascending")]).slice(0, max_held)
        self._max_held = max_held
        self._ages: dict[ChunkId, int] = dict(zip(newest["id"].to_pylist(), newest["last_ms"].to_pylist(), strict=True))
        self._num_beyond: int = found.num_rows - len(self._ages)

    def __len__(self) -> int:
        """How many there are in all."""
        return len(self._ages) + self._num_beyond

    @property
    def is_used_up(self) -> bool:
        """Whether the ids in memory are gone while there are more."""
        return not self._ages and self._num_beyond > 0

    def newest(self, limit: int) -> Sequence[ChunkId]:
        """Up to `limit` ids, newest first."""
        return list(islice(self._ages, limit))

    def add(self, ages: Mapping[ChunkId, int]) -> None:
        """Chunks that were written, with their ages."""
        self._ages |= ages
        # Stable and on a list that is sorted but for its end: 1 ms for 20,000.
        order = sorted(self._ages.items(), key=lambda item: (-item[1], item[0]))
        self._num_beyond += max(0, len(order) - self._max_held)
        self._ages = dict(order[: self._max_held])

    def drop(self, ids: Iterable[ChunkId]) -> bool:
        """Chunks that have their vectors, or are gone. False where one may be among those that are only a number."""
        known = [chunk_id for chunk_id in ids if self._ages.pop(chunk_id, None) is None]
        return not (known and self._num_beyond)
