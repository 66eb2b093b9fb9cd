"""A shelf: one pair of tables, `chunks` and `vectors`, of a bounded number of rows. A store is a row of shelves.

While another embedder makes its vectors, they lie in a third table, which no search reads.

Bringing rows into a text index costs time and memory by all that the index holds already (0.2 ms a row), and LanceDB joins
files without a bound. So new rows go to the last shelf, which is kept small; a full one is closed and the next opened.
When several closed ones of a size stand side by side they are joined into a larger one (`renewal.py`), so that a search
asks few of them: a log-structured merge tree (O'Neil et al. 1996) of tables.

A row that changes is rewritten where it lies, so that an id lies on one shelf only and no two tables must agree. Nothing
here is locked and errors are LanceDB's own: `chunks.py` sees to both.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lmm_mcp.domain.chunk import Chunk, ChunkId
from lmm_mcp.errors import MixedEmbeddings
from lmm_mcp.store import bodies, held, postings, schema, scoring, tables, vector_index
from lmm_mcp.store.frequencies import Frequencies
from lmm_mcp.store.held import Held
from lmm_mcp.store.places import Places
from lmm_mcp.store.schema import EmbedderRecord, StoreRecord
from lmm_mcp.store.search import Hit, Scope, any_id, best_of, best_with_terms, filter_of, nearest_in, query_of
from lmm_mcp.store.tables import ALL_ROWS, parts, upsert

SHELF_rows = 30_000
"""From here on new rows go to a new shelf. That bounds the upkeep of the last one: some six seconds of a core."""
_NEVER = (-1, -1, -1)
_FEW_ids = 500
"""Up to here a filter by id is quicker than reading the whole id column."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What lies on one shelf."""

    num_chunks: int = 0
    num_embedded: int = 0
    """Chunks with at least one vector that is served."""
    num_embedded_next: int = 0
    """Chunks with at least one of the next embedder."""
    by_agent: Mapping[str, int] = field(default_factory=dict)
    by_project: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Untidy:
    """What was written since the last upkeep."""

    num_rows: int = 0
    """Not in the text index."""
    num_commits: int = 0
    """To the table of chunks; each leaves a small file."""
    num_vector_commits: int = 0
    """To those of vectors."""
    littered_s: float = 0.0
    """When old versions were left behind (monotonic clock); 0 = none."""
    tidied_s: float = 0.0
    """When upkeep last ended (monotonic clock); 0 = not by us."""
    is_unfinished: bool = False
    """It was closed, and lacks what a closed one has."""


class Shelf:
    """See the module."""

    def __init__(self, database: Any, number: int) -> None:
        self.number = number
        self.chunks: Any = database.open_table(tables.chunks_name(number))
        self.vectors: Any = None
        """Those that are served; None where nothing was embedded yet."""
        self.embedder: EmbedderRecord | None = None
        """Who made them; one shelf never changes them for those of another."""
        self.next_vectors: Any = None
        """Those of the next embedder, which are being made; None where there is none."""
        self.untidy = Untidy()
        self.held: Held | None = None
        """Of a process that answers many questions: what it holds of this shelf in memory."""
        self.chunk_places: Places | None = None
        """Of a process that answers many questions: where the passages lie, if they are not held."""
        self.vector_places: Places | None = None
        """And their vectors."""
        self._tally: tuple[tuple[int, int, int], Tally] = _NEVER, Tally()
        self._by_project: tuple[int, Mapping[str, int]] = -1, {}
        self._index: tuple[int, bool] = -1, False

    @property
    def tables(self) -> list[Any]:
        """Those that there are."""
        return [self.chunks, *self.vector_tables]

    @property
    def vector_tables(self) -> list[Any]:
        """Those of vectors: what is written to one of them must be thought of for the other."""
        return [table for table in (self.vectors, self.next_vectors) if table is not None]

    # What is written

    def places(self, threads: Collection[tuple[str, str]], ids: Collection[str]) -> dict[str, tuple[Any, ...]]:
        """What lies here under `ids` or in `threads`: id to the values of PLACE_COLUMNS."""
        if not self.chunks.count_rows():
            return {}
        thread_ids = [thread_id for _, thread_id in threads]
        if len(ids) + len(threads) <= _FEW_ids:
            where = any_id("thread_id", thread_ids)
            return tables.columns_by_id(self.chunks, schema.PLACE_COLUMNS, where | any_id("id", ids) if ids else where)
        found = self.chunks.search().select(["id", "thread_id"]).limit(ALL_ROWS).to_arrow()
        mine = pc.or_(
            pc.is_in(found["id"], pa.array(ids, pa.string())), pc.is_in(found["thread_id"], pa.array(thread_ids))
        )
        places: dict[str, tuple[Any, ...]] = {}
        for part in parts(found["id"].filter(mine).to_pylist()):
            places |= tables.columns_by_id(self.chunks, schema.PLACE_COLUMNS, any_id("id", part))
        return places

    def write(self, new: Sequence[Chunk], changed: Sequence[Chunk], gone: Collection[str]) -> None:
        """Add, rewrite and delete rows of `chunks`. `new` and `changed` in one commit."""
        if new or changed:
            data = schema.table_of([*new, *changed])
            if changed:
                upsert(self.chunks, ["id"], data)
            else:
                self.chunks.add(data)
            self.untidy.num_commits += 1
            self.untidy.num_rows += data.num_rows
        for part in parts(gone):
            self.chunks.delete(any_id("id", part))
            self.untidy.num_commits += 1

    def delete_vectors(self, ids: Collection[str]) -> None:
        """Delete the vectors of these chunks."""
        for part in parts(ids):
            for table in self.vector_tables:
                table.delete(any_id("chunk_id", part))
                self.untidy.num_vector_commits += 1

    def move_vectors(self, scopes: Mapping[str, tuple[Any, ...]]) -> None:
        """Bring the scope columns of vectors in line with chunks that moved to another project or time."""
        for table in self.vector_tables if scopes else ():
            tables.move_vectors(table, scopes)
            self.untidy.num_vector_commits += 1

    def add_vectors(
        self,
        rows: Mapping[tuple[ChunkId, int], np.ndarray],
        embedder: EmbedderRecord,
        windows: Mapping[ChunkId, bytes],
        *,
        to_next: bool = False,
    ) -> set[ChunkId]:
        """Add those vectors whose chunks lie here, and name these chunks. Repeated pieces are replaced."""
        table = self.next_vectors if to_next else self.vectors
        ids = {chunk_id for chunk_id, _ in rows}
        scopes = tables.scopes_of(self.chunks, ids)
        mine = [(chunk_id, piece, vector) for (chunk_id, piece), vector in rows.items() if chunk_id in scopes]
        if not mine:
            return set()
        data = tables.vector_rows(mine, scopes, embedder, windows)
        if any(tables.count(table, any_id("chunk_id", part)) for part in parts(scopes)):
            upsert(table, ["chunk_id", "piece"], data)
        else:
            table.add(data)
        self.untidy.num_vector_commits += 1
        return set(scopes)

    # What is read

    def by_words(self, words: Sequence[str], scope: Scope, limit: int, known: Frequencies | None) -> list[Hit]:
        """The chunks that hold any of `words`, best first by BM25.

        `known`: of the whole store, where there are other shelves to compare with; None: weighed as this shelf has them.
        """
        mine = None if self.held is None else self.held.rows(self.chunks).words
        if mine is not None:
            return postings.best(mine, words, known, scope, limit)
        if (query := query_of(words)) is None:
            return []
        if known is None:
            return best_of(self.chunks, query, scope, limit)
        rows = best_with_terms(self.chunks, query, scope, limit)
        return scoring.ranked(rows, known.idf(words), limit, mean_length=known.mean_length)

    def nearest(self, vector: np.ndarray, scope: Scope, limit: int, *, of: EmbedderRecord | None = None) -> list[Hit]:
        """The chunks with the pieces most similar to `vector`, best first; exact but where the vector index answers."""
        self._demand(of)
        if self.vectors is None:
            return []
        if (mine := self.held) is not None:
            hits = held.nearest(mine.vectors(self.vectors), vector, scope, limit)
            kept = self.windows([hit.chunk_id for hit in hits])
            return [Hit(hit.chunk_id, hit.score, kept.get(hit.chunk_id, b"")) for hit in hits]
        by_index = self._has_index() and not self._is_small(scope)
        return nearest_in(self.vectors, vector, scope, limit, by_index=by_index)

    def windows(self, ids: Sequence[ChunkId], *, of: EmbedderRecord | None = None) -> dict[ChunkId, bytes]:
        """The packed vectors of the windows of these chunks, where there are any."""
        self._demand(of)
        if self.vectors is None:
            return {}
        if (mine := self.held) is not None:
            row_ids = held.row_ids(mine.vectors(self.vectors), ids)
            by_row = mine.windows.get(row_ids.values(), lambda rows: bodies.windows_of(self.vectors.take_row_ids(rows)))
            return {chunk_id: by_row[row] for chunk_id, row in row_ids.items() if by_row.get(row)}
        columns = ["chunk_id", "windows"]
        rows = self._placed(self.vectors, self.vector_places, ids, columns)
        if rows is None:
            rows = self.vectors.search().where(any_id("chunk_id", ids)).select(columns).limit(ALL_ROWS).to_arrow()
        wanted = set(ids)
        pairs = zip(rows["chunk_id"].to_pylist(), rows["windows"].to_pylist(), strict=True)
        return {chunk_id: kept for chunk_id, kept in pairs if kept and chunk_id in wanted}

    def get(self, ids: Sequence[ChunkId]) -> list[Chunk]:
        """Those of these chunks that lie here; of one that was written a moment ago that is not sure."""
        if (mine := self.held) is None:
            if (rows := self._placed(self.chunks, self.chunk_places, ids, schema.CHUNK_COLUMNS)) is None:
                return [chunk for part in parts(ids) for chunk in self.load(any_id("id", part))]
            wanted = set(ids)
            return [chunk for chunk in schema.chunks_of(rows) if chunk.id in wanted]
        row_ids = held.row_ids(mine.rows(self.chunks).rows, ids)
        found = mine.passages.get(row_ids.values(), lambda rows: bodies.packed(self.chunks.take_row_ids(rows)))
        return list(found.values())

    def _placed(
        self, table: Any, places: Places | None, ids: Sequence[ChunkId], columns: Sequence[str]
    ) -> pa.Table | None:
        """What lies where these ids are known to lie, perhaps with others; None where that is not known, or not any more."""
        if places is None or (row_ids := places.of(table, ids)) is None:
            return None
        if not row_ids:
            return pa.table({name: pa.array([], table.schema.field(name).type) for name in columns})
        found = table.take_row_ids(row_ids).select([*columns]).to_arrow()
        if found.num_rows < len(row_ids):  # rewritten since, or moved by upkeep
            places.forget()
            return None
        return found

    def load(self, where: Any) -> list[Chunk]:
        """The chunks of a filter."""
        request = self.chunks.search().where(where).select(schema.CHUNK_COLUMNS).limit(ALL_ROWS)
        return schema.chunks_of(request.to_arrow())

    def ends(self, scope: Scope) -> list[tuple[int, ChunkId]]:
        """When each chunk within scope ended, milliseconds UTC, and its id."""
        request = self.chunks.search().select(["last_ms", "id"]).limit(ALL_ROWS)
        where = filter_of(scope)
        found = (request if where is None else request.where(where)).to_arrow()
        return list(zip(found["last_ms"].to_pylist(), found["id"].to_pylist(), strict=True))

    def count(self, scope: Scope) -> int:
        """Chunks within scope."""
        if (mine := self.held) is not None and scope == Scope(project=scope.project):
            counts = mine.rows(self.chunks).by_project
            return sum(counts.values()) if scope.project is None else counts.get(scope.project, 0)
        return tables.count(self.chunks, filter_of(scope))

    def by_project(self) -> Mapping[str, int]:
        """Project keys with their number of chunks. Reads one column whole, once for each commit."""
        if (mine := self.held) is not None:
            return mine.rows(self.chunks).by_project
        version = self.chunks.version
        if version != self._by_project[0]:
            self._by_project = version, tables.counts(self.chunks, "project")
        return self._by_project[1]

    def tally(self) -> Tally:
        """Count what lies here. Reads three columns whole, once for each commit."""
        versions = self.chunks.version, _version(self.vectors), _version(self.next_vectors)
        if versions != self._tally[0]:
            self._tally = (
                versions,
                Tally(
                    self.chunks.count_rows(),
                    _num_embedded(self.vectors),
                    _num_embedded(self.next_vectors),
                    tables.counts(self.chunks, "agent"),
                    self.by_project(),
                ),
            )
        return self._tally[1]

    def without_vectors(self, *, of_next: bool = False) -> pa.Table:
        """`id` and `last_ms` of the chunks that have no vector that is served, or none of the next embedder."""
        found = self.chunks.search().select(["id", "last_ms"]).limit(ALL_ROWS).to_arrow()
        table = self.next_vectors if of_next else self.vectors
        if table is None:
            return found
        # What was embedded before windows had vectors is found, and awaits them all the same.
        wanted = table.search().where("windows IS NOT NULL").select(["chunk_id"])
        done = wanted.limit(ALL_ROWS).to_arrow()["chunk_id"]
        return found.filter(pc.invert(pc.is_in(found["id"], done)))

    def forget_counts(self) -> None:
        """Count anew at the next question: the tables were made anew, and versions with them."""
        self._tally = _NEVER, Tally()
        self._by_project = -1, {}
        self._index = -1, False
        if self.held is not None:
            self.held = Held(is_whole=self.held.is_whole)
        if self.chunk_places is not None:
            self.know_places(is_wanted=True)

    def know_places(self, *, is_wanted: bool) -> None:
        """Begin to know, anew, where rows lie; or let go of it."""
        self.chunk_places, self.vector_places = (Places("id"), Places("chunk_id")) if is_wanted else (None, None)

    def _demand(self, of: EmbedderRecord | None) -> None:
        """Raises MixedEmbeddings where the vectors here are of another embedder: comparing them would be comparing noise."""
        if of is not None and self.embedder is not None and of != self.embedder:
            raise MixedEmbeddings(
                f"the stored vectors were made by {self.embedder.name} ({self.embedder.version}), the question was embedded "
                f"by {of.name} ({of.version}). Ask again."
            )

    def _has_index(self) -> bool:
        version = self.vectors.version
        if version != self._index[0]:
            self._index = version, vector_index.exists(self.vectors)
        return self._index[1]

    def _is_small(self, scope: Scope) -> bool:
        """Whether so few rows are in scope that looking at each is quicker than the index, and exact."""
        if scope == Scope(project=scope.project):
            return scope.project is not None and self.by_project().get(scope.project, 0) <= vector_index.FEW_rows
        return tables.count(self.vectors, filter_of(scope)) <= vector_index.FEW_rows


def _version(table: Any) -> int:
    return -1 if table is None else int(table.version)


def _num_embedded(table: Any) -> int:
    return 0 if table is None else tables.count_distinct(table, "chunk_id")


def reopened(shelf: Shelf, database: Any, folder: Path, record: StoreRecord) -> None:
    """Open the tables of vectors where another process made them, and let go of what was dropped."""

    def opened(vector_set: int | None) -> Any:
        name = "" if vector_set is None else tables.vectors_name(shelf.number, vector_set)
        return database.open_table(name) if name and (folder / f"{name}.lance").exists() else None

    shelf.embedder = record.embedder
    shelf.vectors = opened(None if record.embedder is None else record.vector_set)
    shelf.next_vectors = opened(record.next_set)
