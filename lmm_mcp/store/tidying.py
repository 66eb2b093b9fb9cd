"""Upkeep of a whole store: which shelves are due, their upkeep, small shelves joined, terms counted, all written anew.

`upkeep.py` says what is done to one shelf; here it is done to those of a row, under the lock of whoever writes.
"""

import threading
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from lmm_mcp import memory
from lmm_mcp.errors import StoreError
from lmm_mcp.store import frequencies, renewal, schema, shelf, tables, upkeep
from lmm_mcp.store.row import Row
from lmm_mcp.store.shelf import Shelf
from lmm_mcp.store.tables import named_errors
from lmm_mcp.store.upkeep import Trouble


class Tidying:
    """See the module. `writing` is held while anything is changed; `shelf_rows`, `exact_rows`: as in `ChunkStore.open`."""

    def __init__(self, row: Row, writing: threading.RLock, *, shelf_rows: int, exact_rows: int) -> None:
        self._row, self._writing = row, writing
        self._shelf_rows, self._exact_rows = shelf_rows, exact_rows
        self.failed: Trouble | None = upkeep.trouble(row.folder)
        """What this process knows of upkeep that failed."""

    def is_due(self, *, leaving: bool, busy: bool) -> bool:
        """Whether enough was written for `keep_up` to pay off."""
        return upkeep.may_try(self.failed) and bool(self._due(leaving=leaving, busy=busy))

    def keep_up(self, *, leaving: bool, busy: bool) -> None:
        """Do the upkeep that is due. A failure is remembered where all processes see it, and tried again later."""
        try:
            if upkeep.may_try(self.failed) and (due := self._due(leaving=leaving, busy=busy)):
                self._tidy(due)
        except StoreError as problem:
            self.failed = upkeep.note_failure(self._row.folder, str(problem), self.failed)

    def optimize(self, *, retain_s: float) -> None:
        """Do the upkeep of every shelf; drop versions older than `retain_s`. Raises StoreError."""
        self._tidy({each: each.tables for each in self._row.shelves()}, retain_s=retain_s)

    def trouble(self) -> Trouble | None:
        """Upkeep that failed, and has not succeeded since, in whatever process; None where all is well."""
        return upkeep.trouble(self._row.folder) or self.failed

    def purge(self) -> None:
        """Write everything anew and drop all that was before. Raises StoreError."""
        with self._writing, named_errors(self._row.folder, "purge"):
            for each in self._row.shelves():
                each.chunks = tables.rewrite_chunks(self._row.database, each.chunks)
                if each.vectors is not None:
                    each.vectors = tables.rewrite(self._row.database, each.vectors)
                if each.next_vectors is not None:
                    each.next_vectors = tables.rewrite(self._row.database, each.next_vectors)
                each.forget_counts()
            self._tidy({each: each.tables for each in self._row.shelves()}, recount=True)
            for table in chain.from_iterable(each.tables for each in self._row.shelves()):
                tables.drop_old_versions(table)
            for each in self._row.shelves():
                each.untidy = shelf.Untidy()
            self._row.note_loss()

    def take_stock(self) -> None:
        """Find out what an earlier process left untidy."""
        shelves = self._row.shelves()
        for each in shelves:
            upkeep.take_stock(each, self._row.folder, is_open=each is shelves[-1])

    def finish_next(self) -> None:
        """Make the indexes of vectors that will be served in a moment."""
        shelves = self._row.shelves()
        num_vectors = sum(each.next_vectors.count_rows() for each in shelves if each.next_vectors is not None)
        for each in shelves[:-1]:
            upkeep.index_vectors(each.chunks, each.next_vectors, num_vectors=num_vectors, exact_rows=self._exact_rows)

    def count_terms(self, *, always: bool) -> None:
        """Count terms anew on shelves that have changed much. Several shelves have a file each beside that of all."""
        shelves, folder = self._row.shelves(), self._row.folder
        names = [frequencies.file_of(each.number) for each in shelves] if len(shelves) > 1 else [frequencies.FILE]
        counted = []
        is_new = False
        for each, name in zip(shelves, names, strict=True):
            found = frequencies.load(folder, name)
            if always or frequencies.is_worth_recounting(found, each.chunks.count_rows()):
                found = frequencies.count(tables.texts(each.chunks, "terms"))
                frequencies.save(found, folder, name)
                is_new = True
            counted.append(found)
        if is_new and len(shelves) > 1:
            frequencies.save(frequencies.merged(counted), folder)

    def _due(self, *, leaving: bool, busy: bool) -> dict[Shelf, list[Any]]:
        """Shelves with those tables that are due."""
        with named_errors(self._row.folder, "optimize"):
            shelves = self._row.shelves()
            num_vectors = self._row.num_vectors() if len(shelves) > 1 else 0
            found = {each: upkeep.due(each, leaving=leaving, busy=busy) for each in shelves}
            for each in shelves[:-1]:
                if upkeep.may_want_index(each, num_vectors, exact_rows=self._exact_rows):
                    found[each] = each.tables
            return {each: held for each, held in found.items() if held}

    def _tidy(
        self, due: Mapping[Shelf, Sequence[Any]], *, retain_s: float = upkeep.RETAIN_s, recount: bool = False
    ) -> None:
        with self._writing, named_errors(self._row.folder, "optimize"):
            index_anew = upkeep.wants_new_index(self.failed)
            for each, held in due.items():
                upkeep.tidy(
                    each,
                    held,
                    is_open=each is self._row.shelves()[-1],
                    num_vectors=self._row.num_vectors(),
                    retain_s=retain_s,
                    exact_rows=self._exact_rows,
                    index_anew=index_anew,
                )
                memory.give_back()
            while self._join_some():
                memory.give_back()
            self.count_terms(always=recount)
            self.failed = None
            upkeep.note_success(self._row.folder)

    def _join_some(self) -> bool:
        """Join shelves where several of a size stand side by side; False where none do."""
        row = self._row
        shelves = row.shelves()
        sizes = [each.chunks.count_rows() for each in shelves[:-1]]
        if (found := upkeep.to_join(sizes, shelf_rows=self._shelf_rows)) is None:
            return False
        start, stop = found
        record = row.record
        number = max(record.shelves) + 1
        made = renewal.join(row.database, number, shelves[start:stop], record)
        upkeep.finish(made, num_vectors=row.num_vectors(), exact_rows=self._exact_rows)
        parts_of = [frequencies.load(row.folder, frequencies.file_of(each.number)) for each in shelves[start:stop]]
        frequencies.save(frequencies.merged(parts_of), row.folder, frequencies.file_of(number))
        row.write_record(schema.with_shelves(record, (*record.shelves[:start], number, *record.shelves[stop:])))
        row.shelves()
        tables.sweep(row.database, row.folder, row.record)
        return True
