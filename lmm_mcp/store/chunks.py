"""`ChunkStore`: chunks and their vectors on disk, found again by words and by meaning.

One process writes (it holds the write lock and opens with `create=True`), any number read; every read sees the latest
commit. A row can be searched by words as soon as it is written; vectors may follow later.

Surprising: LanceDB's `merge_insert` inserts a key twice if a batch holds it twice, so batches are made unique here.
Vectors are removed before the rows they belong to, so that a crash in between leaves chunks to embed again and never
vectors of a text that is gone.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from lancedb.expr import col, lit

from lmm_mcp.domain.chunk import Chunk, ChunkId
from lmm_mcp.errors import MixedEmbeddings, StoreError
from lmm_mcp.store import frequencies, schema, tables
from lmm_mcp.store.frequencies import Frequencies
from lmm_mcp.store.schema import EmbedderRecord, StoreRecord
from lmm_mcp.store.search import EVERYTHING, Hit, Scope, all_of, any_id, best_of, filter_of, nearest_in, query_of
from lmm_mcp.store.tables import ALL_ROWS, StoreStats, named_errors, parts, upsert

__all__ = ["ChunkStore", "EmbedderRecord", "Hit", "Scope", "StoreStats"]

_FEW_ids = 500
"""Up to here a filter by id is quicker than reading the whole id column."""
_UPKEEP_rows = 1_000
"""Rows that are not in the text index yet cost a search about 10 ms for each thousand."""
_UPKEEP_commits = 64
"""Each leaves a small file. Joining them rewrites the table, so a large one (by 500 rows each) bears one more."""

_T = TypeVar("_T")


class ChunkStore:
    """The tables in one folder. May be used from several threads."""

    def __init__(self, folder: Path, record: StoreRecord, database: Any) -> None:
        self._folder = folder
        self._record = record
        self._database = database
        self._chunks = database.open_table(tables.CHUNKS)
        self._vectors: Any = None
        self._record_stamp = -1
        self._pending: dict[ChunkId, None] | None = None  # chunks without vectors, newest first; None = not known
        self._projects: tuple[int, dict[str, int]] = (-1, {})  # as counted, and in which version of the table
        self._writing = threading.RLock()
        self._num_new_rows = 0
        self._num_commits = 0

    @classmethod
    def open(cls, folder: Path, *, create: bool = False) -> "ChunkStore":
        """Open the store. The writer passes `create=True`: what is missing is made, what is old is migrated.

        Raises StoreTooNew for a store of a newer version, StoreError where there is none, or where one must be migrated
        by the writer first.
        """
        record = schema.read_record(folder)
        with named_errors(folder, "open"):
            if create:
                record = tables.prepare(folder, record)
            elif record is None:
                raise StoreError(f"there is no store in {folder} yet. Run `lmm import`.")
            elif record.schema_version < schema.SCHEMA_VERSION:
                raise StoreError(
                    f"the store in {folder} is of an older version. Run `lmm import` to bring it up to date."
                )
            return cls(folder, record, tables.connect(folder))

    @staticmethod
    def exists(folder: Path) -> bool:
        """Whether a store was ever made there."""
        return (folder / schema.RECORD_FILE).exists()

    @property
    def embedder(self) -> EmbedderRecord | None:
        """What made the vectors that lie here; None if nothing was embedded yet."""
        self._vectors_table()
        return self._record.embedder

    # --- writing ---------------------------------------------------------------------------------------------------

    def replace_thread(self, agent: str, thread_id: str, chunks: Sequence[Chunk]) -> int:
        """Make `chunks` the whole of the thread and return the number of rows written."""
        return self.replace_threads([(agent, thread_id, chunks)])

    def replace_threads(self, items: Sequence[tuple[str, str, Sequence[Chunk]]]) -> int:
        """Make each thread consist of its chunks, and return the number of rows written: one commit for them all.

        Rows that say the same already are left alone; chunks that are no longer named are deleted. A chunk whose text
        changed loses its vectors; one that only moved (project, session, thread) keeps them.
        """
        wanted = {chunk.id: chunk for _, _, chunks in items for chunk in chunks}
        threads = {(agent, thread_id) for agent, thread_id, _ in items}
        with self._writing, named_errors(self._folder, "write to"):
            old = self._places(threads, wanted.keys())
            new = [chunk for chunk in wanted.values() if chunk.id not in old]
            changed = [chunk for chunk in wanted.values() if chunk.id in old and old[chunk.id] != _place(chunk)]
            gone = [each for each, place in old.items() if each not in wanted and place[:2] in threads]
            rewritten = [chunk.id for chunk in changed if old[chunk.id][-1] != chunk.content_hash]
            self._delete_vectors([*gone, *rewritten])
            if (vectors := self._vectors_table()) is not None:
                moved = [chunk for chunk in changed if old[chunk.id][-1] == chunk.content_hash]
                tables.move_vectors(vectors, {chunk.id: _scope(chunk) for chunk in moved})
            self._write([*new, *changed], gone, only_new=not changed)
            if new or rewritten or gone:
                self._pending = None
            return len(new) + len(changed)

    def replace_all(self, batches: Iterable[Sequence[Chunk]]) -> None:
        """Make `batches` all there is, in one commit: whoever reads meanwhile sees the old rows or the new ones.

        Vectors stay with chunks whose text is the same. An id that comes again is left out. Raises StoreError, and whatever
        `batches` raises: then all is as it was.
        """
        with self._writing, named_errors(self._folder, "write to"):
            old = tables.columns_by_id(self._chunks, ["content_hash", *schema.SCOPE_COLUMNS])
            new: dict[str, tuple[Any, ...]] = {}

            def rows() -> Iterator[Any]:
                for batch in batches:
                    fresh = {chunk.id: chunk for chunk in batch if chunk.id not in new}
                    new.update((chunk.id, (chunk.content_hash, *_scope(chunk))) for chunk in fresh.values())
                    if fresh:
                        yield from schema.table_of(list(fresh.values())).to_batches()

            self._chunks = tables.overwrite_chunks(self._database, rows())
            self._delete_vectors([each for each, before in old.items() if each not in new or new[each][0] != before[0]])
            if (vectors := self._vectors_table()) is not None:
                moved = {each: now[1:] for each, now in new.items() if each in old and old[each][1:] != now[1:]}
                tables.move_vectors(vectors, moved)
            self._count_terms()
            self._pending = None

    def delete(self, ids: Collection[ChunkId]) -> None:
        """Delete chunks and their vectors. Unknown ids are no error. Their bytes stay on disk until `purge`."""
        with self._writing, named_errors(self._folder, "delete from"):
            self._delete_vectors(ids)
            for part in parts(ids):
                self._chunks.delete(any_id("id", part))
                self._num_commits += 1
            if self._pending is not None:
                for chunk_id in ids:
                    self._pending.pop(chunk_id, None)

    def set_embedder(self, name: str, version: str, dim: int) -> None:
        """Say which embedder the vectors to come are made by. Raises MixedEmbeddings if vectors of another lie here."""
        mine = EmbedderRecord(name, version, dim)
        with self._writing, named_errors(self._folder, "write to"):
            table = self._vectors_table()
            old = self._record.embedder
            if old == mine and table is not None:
                return
            if table is not None:
                if old is not None and old != mine and table.count_rows():
                    raise MixedEmbeddings(
                        f"the store holds vectors of {old.name} ({old.version}, {old.dim} dimensions), not of {name} "
                        f"({version}, {dim}). Set embedder.name back, or run `lmm embedder rebuild` to embed all again."
                    )
                self._database.drop_table(tables.VECTORS)
            self._database.create_table(tables.VECTORS, schema=schema.vectors_schema(dim), exist_ok=True)
            self._remember(replace(self._record, embedder=mine))

    def clear_vectors(self) -> None:
        """Delete all vectors and forget their embedder."""
        with self._writing, named_errors(self._folder, "write to"):
            if self._vectors_table() is not None:
                self._database.drop_table(tables.VECTORS)
            self._remember(replace(self._record, embedder=None))

    def add_vectors(self, rows: Sequence[tuple[ChunkId, int, np.ndarray]]) -> None:
        """Add (chunk id, piece number, normalised vector). Repeated pieces are replaced, deleted chunks are left out.

        Raises StoreError before `set_embedder`, and MixedEmbeddings for vectors of another dimension.
        """
        with self._writing, named_errors(self._folder, "write to"):
            table = self._vectors_table()
            embedder = self._record.embedder
            if table is None or embedder is None:
                raise StoreError("no embedder was named: call set_embedder before add_vectors.")
            unique = {(chunk_id, piece): vector for chunk_id, piece, vector in rows}
            ids = {chunk_id for chunk_id, _ in unique}
            scopes = tables.scopes_of(self._chunks, ids)
            data = tables.vector_rows(
                [(chunk_id, piece, vector) for (chunk_id, piece), vector in unique.items() if chunk_id in scopes],
                scopes,
                embedder,
            )
            if not data.num_rows:
                return
            if any(tables.count(table, any_id("chunk_id", part)) for part in parts(ids)):
                upsert(table, ["chunk_id", "piece"], data)
            else:
                table.add(data)
            self._num_commits += 1
            if self._pending is not None:
                for chunk_id in ids:
                    self._pending.pop(chunk_id, None)

    # --- reading ---------------------------------------------------------------------------------------------------

    def lexical(self, terms: Sequence[str], scope: Scope, limit: int) -> list[Hit]:
        """The chunks that hold any of `terms` (as `store.terms.terms` yields them), best first by BM25."""
        query = query_of(terms)
        if query is None or limit < 1:
            return []
        return self._read(lambda: best_of(self._chunks, query, scope, limit))

    def nearest(self, vector: np.ndarray, scope: Scope, limit: int) -> list[Hit]:
        """The chunks whose best piece is most similar to `vector` (normalised); none where nothing was embedded.

        Raises MixedEmbeddings if `vector` is not of the dimension that lies here.
        """

        def search() -> list[Hit]:
            table = self._vectors_table()
            if table is None or self._record.embedder is None or limit < 1:
                return []
            if vector.shape != (self._record.embedder.dim,):
                raise MixedEmbeddings(
                    f"the question was embedded with {vector.size} dimensions, the store holds "
                    f"{self._record.embedder.dim} ({self._record.embedder.name}). Run `lmm embedder rebuild`."
                )
            return nearest_in(table, vector, scope, limit)

        return self._read(search)

    def get(self, ids: Sequence[ChunkId]) -> list[Chunk]:
        """The chunks of these ids in the order asked; unknown ids are left out."""
        found: dict[ChunkId, Chunk] = {}
        for part in parts(dict.fromkeys(ids)):
            found |= {chunk.id: chunk for chunk in self._load(any_id("id", part))}
        return [found[chunk_id] for chunk_id in dict.fromkeys(ids) if chunk_id in found]

    def thread(self, agent: str, thread_id: str) -> list[Chunk]:
        """All chunks of a thread in their order."""
        where = all_of(col("thread_id") == lit(thread_id), col("agent") == lit(agent))
        return sorted(self._load(where), key=lambda each: each.ordinal)

    def count(self, scope: Scope = EVERYTHING) -> int:
        """Chunks within scope."""
        where = filter_of(scope)
        return self._read(lambda: tables.count(self._chunks, where))

    def unembedded(self, limit: int) -> list[Chunk]:
        """Chunks that have no vector yet, newest first."""
        with self._writing:
            if self._pending is None:
                self._pending = self._read(lambda: tables.without_vectors(self._chunks, self._vectors_table()))
            ids = list(self._pending)[:limit]
        return self.get(ids)

    def num_unembedded(self) -> int:
        """How many chunks have no vector yet."""
        self.unembedded(0)
        return len(self._pending or ())

    def projects(self) -> dict[str, int]:
        """Every project key with its number of chunks, largest first. Reads one column whole, once for each commit."""

        def search() -> dict[str, int]:
            version = self._chunks.version
            if version != self._projects[0]:
                self._projects = version, tables.counts(self._chunks, "project")
            return dict(self._projects[1])

        return self._read(search)

    def frequencies(self) -> Frequencies:
        """In how many chunks each term occurs, as counted by the last `optimize`."""
        return frequencies.load(self._folder)

    def stats(self) -> StoreStats:
        """Counts for `lmm status` and `lmm doctor`. Reads two columns whole: about 10 ms for 15,000 chunks."""
        return self._read(
            lambda: tables.stats(self._folder, self._chunks, self._vectors_table(), self._record.embedder)
        )

    def threads(self) -> set[tuple[str, str]]:
        """Agent and thread id of every thread that has a chunk. Reads two columns whole."""
        return self._read(lambda: tables.threads(self._chunks))

    def check(self) -> None:
        """Read all there is, once. Raises StoreError where a part of it is damaged or missing."""

        def search() -> None:
            for table in (self._chunks, self._vectors_table()):
                if table is not None:
                    tables.read_whole(table)
            if (query := query_of(["the"])) is not None:
                best_of(self._chunks, query, EVERYTHING, 1)

        self._read(search)

    # --- upkeep ----------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """See what other processes wrote. Reads do so by themselves; this also forgets what was remembered here."""
        self._chunks.checkout_latest()
        self._record_stamp = -1
        self._vectors_table()
        self._pending = None

    def upkeep_due(self) -> bool:
        """Whether enough was written through this object for `optimize` to pay off."""
        if self._num_new_rows >= _UPKEEP_rows:
            return True
        return self._num_commits >= _UPKEEP_commits + tables.count(self._chunks) // 500

    def optimize(self) -> None:
        """Bring new rows into the text index, join small files, drop versions older than ten minutes. Raises StoreError."""
        with self._writing, named_errors(self._folder, "optimize"):
            for table in (self._chunks, self._vectors_table()):
                if table is not None:
                    table.optimize(cleanup_older_than=timedelta(minutes=10))
            if frequencies.is_worth_recounting(self.frequencies(), self._chunks.count_rows()):
                self._count_terms()
            self._num_new_rows = self._num_commits = 0

    def purge(self) -> None:
        """Write everything anew and drop all that was before, so that nothing deleted is left on disk. Raises StoreError.

        Compaction alone leaves a deleted row's bytes in any file of which less than a tenth was deleted.
        """
        with self._writing, named_errors(self._folder, "purge"):
            self._chunks = tables.rewrite_chunks(self._database, self._chunks)
            vectors = self._vectors_table()
            if vectors is not None:
                self._vectors = tables.rewrite(self._database, tables.VECTORS, vectors)
            for table in (self._chunks, self._vectors):
                if table is not None:
                    tables.drop_old_versions(table)
            self._count_terms()
            self._num_new_rows = self._num_commits = 0

    # --- within ----------------------------------------------------------------------------------------------------

    def _read(self, search: Callable[[], _T]) -> _T:
        """Run a search; once more if the version it read was purged under its feet."""
        try:
            return search()
        except Exception as problem:
            if not tables.is_of_lance(problem):
                raise
        with named_errors(self._folder, "read"):
            self.refresh()
            return search()

    def _load(self, where: Any) -> list[Chunk]:
        def search() -> list[Chunk]:
            request = self._chunks.search().where(where).select(schema.CHUNK_COLUMNS).limit(ALL_ROWS)
            return schema.chunks_of(request.to_arrow())

        return self._read(search)

    def _vectors_table(self) -> Any:
        """The table of vectors, opened anew where another process made or dropped it; None if there is none."""
        try:
            stamp = (self._folder / schema.RECORD_FILE).stat().st_mtime_ns
        except FileNotFoundError:
            return None
        if stamp != self._record_stamp:
            self._record = schema.read_record(self._folder) or self._record
            made = self._record.embedder is not None and (self._folder / f"{tables.VECTORS}.lance").exists()
            self._vectors = self._database.open_table(tables.VECTORS) if made else None
            self._record_stamp = stamp
        return self._vectors

    def _remember(self, record: StoreRecord) -> None:
        schema.write_record(self._folder, record)
        self._record_stamp = -1
        self._vectors_table()
        self._pending = None

    def _count_terms(self) -> None:
        frequencies.save(frequencies.count(tables.texts(self._chunks, "terms")), self._folder)

    def _places(self, threads: Collection[tuple[str, str]], ids: Collection[str]) -> dict[str, tuple[Any, ...]]:
        """What lies here under `ids` or in `threads`: id to the values of PLACE_COLUMNS."""
        if not threads or not self._chunks.count_rows():
            return {}
        where = None
        if len(ids) + len(threads) <= _FEW_ids:
            where = any_id("thread_id", [thread_id for _, thread_id in threads])
            where = where | any_id("id", ids) if ids else where
        return tables.columns_by_id(self._chunks, schema.PLACE_COLUMNS, where)

    def _write(self, chunks: Sequence[Chunk], gone: Sequence[str], *, only_new: bool) -> None:
        if chunks:
            data = schema.table_of(chunks)
            if only_new:
                self._chunks.add(data)
            else:
                upsert(self._chunks, ["id"], data)
            self._num_commits += 1
            self._num_new_rows += len(chunks)
        for part in parts(gone):
            self._chunks.delete(any_id("id", part))
            self._num_commits += 1

    def _delete_vectors(self, ids: Collection[str]) -> None:
        table = self._vectors_table()
        for part in parts(ids) if table is not None else ():
            table.delete(any_id("chunk_id", part))
            self._num_commits += 1


def _place(chunk: Chunk) -> tuple[Any, ...]:
    return tuple(getattr(chunk, name) for name in schema.PLACE_COLUMNS)


def _scope(chunk: Chunk) -> tuple[Any, ...]:
    return tuple(getattr(chunk, name) for name in schema.SCOPE_COLUMNS)
