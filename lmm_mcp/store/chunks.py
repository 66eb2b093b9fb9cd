"""`ChunkStore`: chunks and their vectors on disk, found again by words and by meaning.

One process writes (it holds the write lock and opens with `create=True`), any number read; every read sees the latest
commit. A row can be searched by words as soon as it is written; vectors may follow later.

Surprising: LanceDB's `merge_insert` inserts a key twice if a batch holds it twice, so batches are made unique here.
Vectors are removed before the rows they belong to, so that a crash in between leaves chunks to embed again and never
vectors of a text that is gone. The tables come in shelves of a bounded size (`shelf.py`); most stores have one.
"""

import heapq
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from lancedb.expr import col, lit

from lmm_mcp.domain import windows as cut
from lmm_mcp.domain.chunk import Chunk, ChunkId
from lmm_mcp.errors import MixedEmbeddings, StoreError
from lmm_mcp.store import frequencies, renewal, schema, shelf, tables, upkeep, vector_index
from lmm_mcp.store.frequencies import Frequencies
from lmm_mcp.store.pending import Pending
from lmm_mcp.store.row import Row
from lmm_mcp.store.schema import EmbedderRecord, StoreRecord
from lmm_mcp.store.search import EVERYTHING, Hit, Scope, all_of, any_id, best_of, query_of
from lmm_mcp.store.shelf import Shelf
from lmm_mcp.store.tables import StoreStats, named_errors, parts
from lmm_mcp.store.tidying import Tidying
from lmm_mcp.store.upkeep import Trouble

__all__ = ["ChunkStore", "EmbedderRecord", "Hit", "Scope", "StoreStats"]


class ChunkStore:
    """The tables in one folder. May be used from several threads."""

    def __init__(self, folder: Path, record: StoreRecord, database: Any, *, shelf_rows: int, exact_rows: int) -> None:
        self._folder = folder
        self._row = Row(folder, record, database)
        self._shelf_rows = shelf_rows
        self._pending: dict[bool, Pending] = {}
        """What awaits vectors of the embedder that is served (False), and of the next one (True); none = not known."""
        self._writing = threading.RLock()
        self._tidying = Tidying(self._row, self._writing, shelf_rows=shelf_rows, exact_rows=exact_rows)

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        create: bool = False,
        shelf_rows: int = shelf.SHELF_rows,
        exact_rows: int = vector_index.EXACT_rows,
    ) -> "ChunkStore":
        """Open the store. The writer passes `create=True`: what is missing is made, what is old is migrated.

        `shelf_rows`, `exact_rows`: see `shelf.py`, `vector_index.py`. Raises StoreTooNew for a store of a newer version,
        StoreError where there is none, or where one must be migrated by the writer first.
        """
        record = schema.read_record(folder)
        with named_errors(folder, "open"):
            if create:
                record = tables.prepare(folder, record)
            elif record is None:
                raise StoreError(f"there is no store in {folder} yet. Run `lmm import`.")
            elif record.schema_version < schema.SCHEMA_VERSION:
                raise StoreError(
                    f"the store in {folder} is of an older version. The next reading brings it up to date: ask again in a "
                    "moment, or run `lmm import`."
                )
            found = cls(folder, record, tables.connect(folder), shelf_rows=shelf_rows, exact_rows=exact_rows)
            if create:
                tables.sweep(found._row.database, folder, record)
                found._tidying.take_stock()
            return found

    @staticmethod
    def exists(folder: Path) -> bool:
        """Whether a store was ever made there."""
        return (folder / schema.RECORD_FILE).exists()

    @property
    def embedder(self) -> EmbedderRecord | None:
        """What made the vectors that are served; None if nothing was embedded yet."""
        self._shelves()
        return self._row.record.embedder

    @property
    def next_embedder(self) -> EmbedderRecord | None:
        """What is making others, to be served once they are complete; None where nothing is."""
        self._shelves()
        return self._row.record.next_embedder

    # --- writing ---------------------------------------------------------------------------------------------------

    def replace_thread(self, agent: str, thread_id: str, chunks: Sequence[Chunk]) -> int:
        """Make `chunks` the whole of the thread and return the number of rows written."""
        return self.replace_threads([(agent, thread_id, chunks)])

    def replace_threads(self, items: Sequence[tuple[str, str, Sequence[Chunk]]]) -> int:
        """Make each thread consist of its chunks, and return the number of rows written: one commit to each shelf.

        Rows that say the same already are left alone; chunks that are no longer named are deleted. A chunk whose text
        changed loses its vectors; one that only moved (project, session, thread) keeps them.
        """
        wanted = {chunk.id: chunk for _, _, chunks in items for chunk in chunks}
        threads = {(agent, thread_id) for agent, thread_id, _ in items}
        if not threads:
            return 0
        with self._writing, named_errors(self._folder, "write to"):
            shelves = self._shelves()
            found = [each.places(threads, wanted.keys()) for each in shelves]
            known = frozenset(chain.from_iterable(found))
            new = [chunk for chunk in wanted.values() if chunk.id not in known]
            num_changed, rewritten, all_gone = 0, [], []
            for each, old in zip(shelves, found, strict=True):
                here = [wanted[chunk_id] for chunk_id in old if chunk_id in wanted]
                changed = [chunk for chunk in here if old[chunk.id] != _place(chunk)]
                retold = [chunk for chunk in changed if old[chunk.id][-1] != chunk.content_hash]
                gone = [chunk_id for chunk_id, place in old.items() if chunk_id not in wanted and place[:2] in threads]
                each.delete_vectors([*gone, *(chunk.id for chunk in retold)])
                each.move_vectors(
                    {chunk.id: _scope(chunk) for chunk in changed if old[chunk.id][-1] == chunk.content_hash}
                )
                each.write(new if each is shelves[-1] else (), changed, gone)
                num_changed += len(changed)
                rewritten += retold
                all_gone += gone
            self._await([*new, *rewritten], all_gone)
            if new and shelves[-1].chunks.count_rows() >= self._shelf_rows:
                self._row.add_shelf()
            return len(new) + num_changed

    def replace_all(self, batches: Iterable[Sequence[Chunk]]) -> None:
        """Make `batches` all there is, at once: whoever reads meanwhile sees the old rows or the new ones.

        Vectors stay with chunks whose text is the same. An id that comes again is left out. Raises StoreError, and whatever
        `batches` raises: then all is as it was.
        """
        with self._writing, named_errors(self._folder, "write to"):
            old = self._shelves()
            record = self._row.record
            first = max(record.shelves) + 1
            made = renewal.write(self._row.database, first, batches, self._shelf_rows)
            for each in made:
                renewal.carry_vectors(self._row.database, each, old, record)
            self._row.write_record(schema.with_shelves(record, tuple(each.number for each in made)))
            self._tidying.take_stock()
            tables.sweep(self._row.database, self._folder, self._row.record)
            self._tidying.count_terms(always=True)
            self._pending.clear()

    def delete(self, ids: Collection[ChunkId]) -> None:
        """Delete chunks and their vectors. Unknown ids are no error. Their bytes stay on disk until `purge`."""
        with self._writing, named_errors(self._folder, "delete from"):
            for each in self._shelves():
                each.delete_vectors(ids)
                each.write((), (), ids)
            self._row.note_loss()
            self._await((), ids)

    def set_embedder(self, name: str, version: str, dim: int, *, anew: bool = False) -> None:
        """Say whose vectors are wanted. Those of another that lie here are served until all of the new ones are made.

        They are made beside them (`add_vectors(to_next=True)`), and `serve_next` puts them in their place; to name the old
        embedder again gives them up. `anew`: to make them all again where it is the same. Dying in between leaves what
        was served, and tables that nobody counts.
        """
        mine = EmbedderRecord(name, version, dim)
        with self._writing, named_errors(self._folder, "write to"):
            shelves, record = self._shelves(), self._row.record
            lost = [each for each in shelves if each.vectors is None]
            if record.embedder is None or not any(each.vectors.count_rows() for each in shelves if each not in lost):
                if record.embedder != mine or record.next_embedder is not None or lost:
                    made = self._made_set(dim)
                    self._serve(replace(record, embedder=mine, vector_set=made, next_embedder=None, newest_set=made))
                return
            for each in lost:
                tables.make_vectors(self._row.database, each.number, record.vector_set, record.embedder.dim)
            wanted = record
            if record.embedder == mine and not (anew or record.next_embedder == mine):
                wanted = replace(record, next_embedder=None)
            elif record.next_embedder != mine or any(each.next_vectors is None for each in shelves):
                wanted = replace(record, next_embedder=mine, newest_set=self._made_set(dim))
            if lost or wanted != record:
                self._serve(wanted)

    def serve_next(self) -> bool:
        """Serve the vectors of the next embedder from now on, in one step, and delete the others; False while some are missing."""
        with self._writing, named_errors(self._folder, "write to"):
            if self.next_embedder is None or self.num_unembedded(of_next=True):
                return False
            self._tidying.finish_next()
            record = self._row.record
            self._serve(
                replace(record, embedder=record.next_embedder, vector_set=record.newest_set, next_embedder=None)
            )
            return True

    def clear_vectors(self) -> None:
        """Delete all vectors and forget their embedders."""
        with self._writing, named_errors(self._folder, "write to"):
            self._shelves()
            made = self._new_set()
            record = replace(self._row.record, embedder=None, vector_set=made, next_embedder=None, newest_set=made)
            self._serve(record)

    def add_vectors(
        self,
        rows: Sequence[tuple[ChunkId, int, np.ndarray]],
        windows: Mapping[ChunkId, np.ndarray] | None = None,
        *,
        to_next: bool = False,
    ) -> None:
        """Add (chunk id, piece number, normalised vector). Repeated pieces are replaced, deleted chunks are left out.

        `windows`: the vectors of each chunk's windows, [windows, dim], in the order of `domain.windows`. `to_next`: they
        are of the next embedder, not of the one that is served.

        Raises StoreError before `set_embedder`, and MixedEmbeddings for vectors of another dimension.
        """
        with self._writing, named_errors(self._folder, "write to"):
            shelves = self._shelves()
            embedder = self._row.record.next_embedder if to_next else self._row.record.embedder
            if embedder is None or any((each.next_vectors if to_next else each.vectors) is None for each in shelves):
                raise StoreError("no embedder was named: call set_embedder before add_vectors.")
            left = {(chunk_id, piece): vector for chunk_id, piece, vector in rows}
            ids = {chunk_id for chunk_id, _ in left}
            kept = {chunk_id: cut.packed(vectors) for chunk_id, vectors in (windows or {}).items()}
            for each in reversed(shelves):  # what is embedded is new for the most part
                if left:
                    done = each.add_vectors(left, embedder, kept, to_next=to_next)
                    left = {key: vector for key, vector in left.items() if key[0] not in done}
            self._await((), ids, of=(to_next,))

    # --- reading ---------------------------------------------------------------------------------------------------

    def lexical(self, terms: Sequence[str], scope: Scope, limit: int) -> list[Hit]:
        """The chunks that hold any of `terms` (as `store.terms.terms` yields them), best first by BM25."""
        words = list(dict.fromkeys(word for term in terms for word in term.split()))
        if not words or limit < 1:
            return []

        def search() -> list[Hit]:
            known = self.frequencies() if len(self._shelves()) > 1 else None
            found = self._row.on_each(lambda each: each.by_words(words, scope, limit, known))
            return sorted(chain.from_iterable(found), key=lambda hit: (-hit.score, hit.chunk_id))[:limit]

        return self._row.searched(search)

    def nearest(self, vector: np.ndarray, scope: Scope, limit: int, *, of: EmbedderRecord | None = None) -> list[Hit]:
        """The chunks whose best piece is most similar to `vector` (normalised); none where nothing was embedded.

        `of`: who made `vector`. Raises MixedEmbeddings if the vectors that are served are of another, or of another
        dimension: they may have been replaced while the question was embedded.
        """

        def search() -> list[Hit]:
            embedder = self.embedder
            if embedder is None or limit < 1:
                return []
            if vector.shape != (embedder.dim,):
                raise MixedEmbeddings(
                    f"the question was embedded with {vector.size} dimensions, the store holds "
                    f"{embedder.dim} ({embedder.name}). Run `lmm embedder rebuild`."
                )
            found = self._row.on_each(lambda each: each.nearest(vector, scope, limit, of=of))
            return found[0] if len(found) == 1 else sorted(chain(*found), key=lambda hit: -hit.score)[:limit]

        return self._row.searched(search)

    def windows(self, ids: Sequence[ChunkId], *, of: EmbedderRecord | None = None) -> dict[ChunkId, np.ndarray]:
        """The vectors of the windows of these chunks, float32 [windows, dim]; those that have none are left out.

        `of`: as `nearest` takes it.
        """

        def search() -> dict[ChunkId, np.ndarray]:
            embedder = self.embedder
            if embedder is None or not ids:
                return {}
            # Each shelf says no where it is not of this embedder any more.
            held = self._row.on_each(lambda each: each.windows(ids, of=of or embedder))
            kept = {chunk_id: packed for each in held for chunk_id, packed in each.items()}
            return dict(zip(kept, cut.unpacked_all(list(kept.values()), embedder.dim), strict=True))

        return self._row.searched(search)

    def get(self, ids: Sequence[ChunkId]) -> list[Chunk]:
        """The chunks of these ids in the order asked; unknown ids are left out."""
        wanted = list(dict.fromkeys(ids))
        held = self._row.searched(lambda: self._row.on_each(lambda each: each.get(wanted)))
        found = {chunk.id: chunk for chunk in chain.from_iterable(held)}
        for part in parts(each for each in wanted if each not in found) if self._row.holds else ():
            found |= {chunk.id: chunk for chunk in self._load(any_id("id", part))}  # written a moment ago
        return [found[chunk_id] for chunk_id in wanted if chunk_id in found]

    def newest(self, scope: Scope, limit: int) -> list[Chunk]:
        """The chunks within scope that ended last, newest first. Reads two columns of what is in scope whole."""
        found = self._row.searched(lambda: chain.from_iterable(self._row.on_each(lambda each: each.ends(scope))))
        return self.get([chunk_id for _, chunk_id in heapq.nlargest(limit, found)])

    def thread(self, agent: str, thread_id: str) -> list[Chunk]:
        """All chunks of a thread in their order."""
        where = all_of(col("thread_id") == lit(thread_id), col("agent") == lit(agent))
        return sorted(self._load(where), key=lambda each: each.ordinal)

    def following(self, chunk: Chunk, limit: int) -> list[Chunk]:
        """The next chunks of its thread, in their order."""
        in_thread = (col("thread_id") == lit(chunk.thread_id), col("agent") == lit(chunk.agent))
        behind = (col("ordinal") > lit(chunk.ordinal), col("ordinal") <= lit(chunk.ordinal + limit))
        return sorted(self._load(all_of(*in_thread, *behind)), key=lambda each: each.ordinal)

    def count(self, scope: Scope = EVERYTHING) -> int:
        """Chunks within scope."""
        return self._row.searched(lambda: sum(self._row.on_each(lambda each: each.count(scope))))

    def unembedded(self, limit: int, *, of_next: bool = False) -> list[Chunk]:
        """Chunks that have no vector yet, or none of the next embedder, newest first."""
        with self._writing:
            ids = self._awaited(of_next).newest(limit)
            found = self.get(ids)
            if len(found) < len(ids):  # they went in a write that failed half-way: they would be awaited for ever
                self._pending.pop(of_next, None)
        return found

    def num_unembedded(self, *, of_next: bool = False) -> int:
        """How many chunks have no vector yet, or none of the next embedder."""
        with self._writing:
            return len(self._awaited(of_next))

    def projects(self) -> dict[str, int]:
        """Every project key with its number of chunks, largest first. Reads one column whole, once for each commit."""
        return self._row.searched(lambda: _summed(each.by_project() for each in self._shelves()))

    def frequencies(self) -> Frequencies:
        """In how many chunks each term occurs, as counted by the last upkeep."""
        return frequencies.load(self._folder)

    def stats(self) -> StoreStats:
        """Counts for `lmm status` and `lmm doctor`. Reads three columns of what is new whole: 20 ms for 50,000 chunks."""

        def search() -> StoreStats:
            shelves = self._shelves()
            tallies = [each.tally() for each in shelves]
            held = [table for each in shelves for table in each.tables]
            return StoreStats(
                num_chunks=sum(each.num_chunks for each in tallies),
                num_embedded=sum(each.num_embedded for each in tallies),
                by_agent=_summed(each.by_agent for each in tallies),
                by_project=_summed(each.by_project for each in tallies),
                num_unindexed=sum(tables.num_unindexed(each.chunks) for each in shelves),
                num_fragments=sum(map(tables.num_fragments, held)),
                num_versions=sum(len(table.list_versions()) for table in held),
                num_shelves=len(shelves),
                disk_bytes=tables.disk_bytes(self._folder),
                embedder=self._row.record.embedder,
                next_embedder=self._row.record.next_embedder,
                num_embedded_next=sum(each.num_embedded_next for each in tallies),
            )

        return self._row.searched(search)

    def threads(self) -> set[tuple[str, str]]:
        """Agent and thread id of every thread that has a chunk. Reads two columns whole."""
        return self._row.searched(lambda: set().union(*(tables.threads(each.chunks) for each in self._shelves())))

    def check(self) -> None:
        """Read all there is, once. Raises StoreError where a part of it is damaged or missing."""

        def search() -> None:
            for each in self._shelves():
                for table in each.tables:
                    tables.read_whole(table)
                if (query := query_of(["the"])) is not None:
                    best_of(each.chunks, query, EVERYTHING, 1)

        self._row.searched(search)

    def hold(self, *, is_wanted: bool = True) -> None:
        """Hold in memory what questions ask for, since many will come; or let go of it. See `held.py`."""
        with named_errors(self._folder, "read"):
            self._row.hold(is_wanted=is_wanted)

    @property
    def is_held(self) -> bool:
        """Whether it does."""
        return self._row.holds

    # --- upkeep ----------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """See what other processes wrote. Reads do so by themselves; this also forgets what was remembered here."""
        self._row.refresh()
        self._pending.clear()

    def upkeep_due(self, *, leaving: bool = False, busy: bool = False) -> bool:
        """Whether enough was written for `keep_up` to pay off.

        `leaving`: nothing more is coming for a while. `busy`: much more is coming at once.
        """
        return self._tidying.is_due(leaving=leaving, busy=busy)

    def keep_up(self, *, leaving: bool = False, busy: bool = False) -> None:
        """Do the upkeep that is due. A failure is remembered where all processes see it, and tried again later."""
        self._tidying.keep_up(leaving=leaving, busy=busy)

    def optimize(self, *, retain_s: float = upkeep.RETAIN_s) -> None:
        """Bring new rows into the indexes, join small files, drop versions older than `retain_s`. Raises StoreError."""
        self._tidying.optimize(retain_s=retain_s)

    def trouble(self) -> Trouble | None:
        """Upkeep that failed, and has not succeeded since, in whatever process; None where all is well."""
        return self._tidying.trouble()

    def purge(self) -> None:
        """Write everything anew and drop all that was before, so that nothing deleted is left on disk. Raises StoreError.

        Compaction alone leaves a deleted row's bytes in any file of which less than a tenth was deleted.
        """
        self._tidying.purge()

    # --- within ----------------------------------------------------------------------------------------------------

    def _load(self, where: Any) -> list[Chunk]:
        return self._row.searched(lambda: list(chain.from_iterable(self._row.on_each(lambda each: each.load(where)))))

    def _shelves(self) -> list[Shelf]:
        return self._row.shelves()

    def _new_set(self) -> int:
        """A number for tables of vectors, by which none were ever named."""
        record = self._row.record
        is_first = record.embedder is None and record.vector_set == record.newest_set == 0
        return 0 if is_first else max(record.vector_set, record.newest_set) + 1

    def _made_set(self, dim: int) -> int:
        number = self._new_set()
        for each in self._shelves():
            tables.make_vectors(self._row.database, each.number, number, dim)
        return number

    def _serve(self, record: StoreRecord) -> None:
        """Let `record` hold from now on, and delete the vectors that it does not name."""
        self._row.write_record(record)
        for each in self._shelves():
            each.forget_counts()
        self._pending.clear()
        tables.sweep(self._row.database, self._folder, record)

    def _awaited(self, of_next: bool) -> Pending:
        found = self._pending.get(of_next)
        if found is None or found.is_used_up:
            held = self._row.searched(lambda: [each.without_vectors(of_next=of_next) for each in self._shelves()])
            found = self._pending[of_next] = Pending(pa.concat_tables(held))
        return found

    def _await(
        self, written: Iterable[Chunk], done: Collection[ChunkId], *, of: Collection[bool] = (False, True)
    ) -> None:
        """Keep up with what awaits its vectors, of either embedder."""
        ages = {chunk.id: chunk.last_ms for chunk in written}
        for of_next in {*of} & self._pending.keys():
            if self._pending[of_next].drop(done):
                self._pending[of_next].add(ages)
            else:
                del self._pending[of_next]


def _place(chunk: Chunk) -> tuple[Any, ...]:
    return tuple(getattr(chunk, name) for name in schema.PLACE_COLUMNS)


def _scope(chunk: Chunk) -> tuple[Any, ...]:
    return tuple(getattr(chunk, name) for name in schema.SCOPE_COLUMNS)


def _summed(counts: Iterable[Any]) -> dict[str, int]:
    """Counts of several shelves, largest first."""
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))
