"""What may be searched, what is found, and how both are said to LanceDB. Holds no state.

Filters are built from typed expressions, never from text, so that a project named `'; drop` is only a name.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from lancedb.expr import Expr, col, lit
from lancedb.query import FullTextQuery, MatchQuery

from lmm_mcp.domain.chunk import ChunkId
from lmm_mcp.store import vector_index


@dataclass(frozen=True, slots=True)
class Scope:
    """What may be searched at all. The times are UTC milliseconds since 1970, inclusive."""

    project: str | None = None
    """Project key; None = all projects, "" = what belongs to none."""
    agent: str | None = None
    since_ms: int | None = None
    """Only chunks that begin at or after this; chunks of unknown time are kept out."""
    until_ms: int | None = None
    """Only chunks that end at or before this; chunks of unknown time are kept out."""


EVERYTHING = Scope()


@dataclass(frozen=True, slots=True)
class Hit:
    """One chunk that was found."""

    chunk_id: ChunkId
    score: float
    """BM25 (0 and up), or cosine similarity (-1 to 1): higher is better, and only comparable within one search."""
    windows: bytes = b""
    """Of a search by meaning: the packed vectors of the chunk's windows, where there are any."""


def filter_of(scope: Scope) -> Expr | None:
    """The scope as a filter over columns that both tables have; None where everything is in scope."""
    conditions: list[Expr] = []
    if scope.project is not None:
        conditions.append(col("project") == lit(scope.project))
    if scope.agent is not None:
        conditions.append(col("agent") == lit(scope.agent))
    if scope.since_ms is not None:
        conditions.append(col("first_ms") >= lit(max(scope.since_ms, 1)))
    if scope.until_ms is not None:
        conditions.append(col("last_ms") <= lit(scope.until_ms))
        conditions.append(col("last_ms") > lit(0))
    return all_of(*conditions)


def all_of(*conditions: Expr) -> Expr | None:
    """Every condition at once; None for no condition."""
    return reduce(lambda left, right: left & right, conditions) if conditions else None


def any_id(column: str, ids: Collection[str]) -> Expr:
    """Rows whose `column` is one of `ids`."""
    return col(column).isin([lit(each) for each in ids])


def query_of(terms: Sequence[str]) -> FullTextQuery | None:
    """BM25 over any of the terms, each once; None if there is no term."""
    wanted = dict.fromkeys(part for term in terms for part in term.split())
    if not wanted:
        return None
    return MatchQuery(" ".join(wanted), "terms")  # type: ignore[call-arg]  # its defaults are hidden from mypy


def best_of(table: Any, query: FullTextQuery, scope: Scope, limit: int) -> list[Hit]:
    """The chunks that meet `query` within scope, best first."""
    # The score is named: LanceDB writes a warning for each search that gets it unasked.
    found = _asked(table, query, ["id", "_score"], scope, limit)
    return [Hit(*pair) for pair in zip(found["id"].to_pylist(), found["_score"].to_pylist(), strict=True)]


def nearest_in(table: Any, vector: np.ndarray, scope: Scope, limit: int, *, by_index: bool = False) -> list[Hit]:
    """The chunks with the pieces most similar to `vector` within scope, best first.

    Every row is looked at, which is exact; `by_index`: only those that the vector index of the table proposes.
    """
    vector = np.ascontiguousarray(vector, dtype=np.float32)
    num_pieces = limit
    while True:
        request = table.search(vector, vector_column_name="vector").distance_type("dot")
        if by_index:
            request = request.nprobes(vector_index.NUM_PROBES).refine_factor(vector_index.REFINE_FACTOR)
        else:
            request = request.bypass_vector_index()
        found = _narrowed(request.select(["chunk_id", "windows", "_distance"]).limit(num_pieces), scope).to_arrow()
        columns = (found[name].to_pylist() for name in ("chunk_id", "_distance", "windows"))
        hits = _best_of_each(*columns, limit=limit)
        if len(hits) == limit or found.num_rows < num_pieces:
            return hits
        num_pieces *= 4  # a few chunks of many pieces took all places


def best_with_terms(table: Any, query: FullTextQuery, scope: Scope, limit: int) -> list[tuple[ChunkId, str]]:
    """Id and blank-joined terms of the chunks that meet `query` within scope, best first."""
    found = _asked(table, query, ["id", "terms", "_score"], scope, limit)
    return list(zip(found["id"].to_pylist(), found["terms"].to_pylist(), strict=True))


def _asked(table: Any, query: FullTextQuery, columns: list[str], scope: Scope, limit: int) -> Any:
    return _narrowed(table.search(query).select(columns).limit(limit), scope).to_arrow()


def _narrowed(request: Any, scope: Scope) -> Any:
    where = filter_of(scope)
    return request if where is None else request.where(where, prefilter=True)


def _best_of_each(ids: Sequence[Any], distances: Sequence[Any], windows: Sequence[Any], *, limit: int) -> list[Hit]:
    """Pieces, nearest first, to chunks: the first piece of a chunk speaks for it.

    >>> _best_of_each(["a", "b", "a"], [0.25, 0.5, 0.75], [None, b"w", b""], limit=5)
    [Hit(chunk_id='a', score=0.75, windows=b''), Hit(chunk_id='b', score=0.5, windows=b'w')]
    """
    best: dict[str, Hit] = {}
    for chunk_id, distance, kept in zip(ids, distances, windows, strict=True):
        best.setdefault(chunk_id, Hit(chunk_id, 1.0 - distance, kept or b""))
        if len(best) == limit:
            break
    return list(best.values())
