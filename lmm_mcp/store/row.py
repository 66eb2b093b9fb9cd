"""A row of shelves: the tables of a store as its record names them, kept in step with what other processes make and drop.

Errors of LanceDB leave `searched` as StoreErrors; whatever writes sees to its own.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from lmm_mcp import memory
from lmm_mcp.store import schema, shelf, tables
from lmm_mcp.store.held import Held
from lmm_mcp.store.schema import StoreRecord
from lmm_mcp.store.shelf import Shelf
from lmm_mcp.store.tables import named_errors

_SEARCH_threads = 4
HELD_ROW_bytes = 4_000


def held_rows(machine_bytes: int) -> int:
    """How many rows may be held of all shelves on a machine with so much memory (0: nobody knows).

    >>> [held_rows(each * 10**9) for each in (0, 1, 8, 32, 256)]
    [80000, 62500, 80000, 160000, 200000]
    """
    wanted = max(80_000, min(machine_bytes // 50 // HELD_ROW_bytes, 200_000))
    return min(wanted, machine_bytes // 4 // HELD_ROW_bytes) if machine_bytes else wanted


MAX_HELD_rows = held_rows(memory.machine_bytes())
"""A fiftieth of the memory of this machine, 320 to 800 MB, and never more than a quarter; beyond, the older ones are searched in
their tables, by their indexes, at several times the cost."""
MAX_WHOLE_rows = 45_000
"""Of the newest shelves, 3 kB more each: their passages and the vectors of their windows; of others those that were asked for lately."""

_T = TypeVar("_T")


class Row:
    """The shelves in one folder, oldest first; new rows go to the last. May be used from several threads."""

    def __init__(self, folder: Path, record: StoreRecord, database: Any) -> None:
        self.folder, self.database = folder, database
        self.record = record
        """As it was when `shelves` was last called."""
        self._held = [Shelf(database, number) for number in record.shelves]
        self._served = record.embedder, record.vector_set
        """Whose vectors those shelves have."""
        self.holds = False
        """Whether rows are held in memory."""
        self._stamp: tuple[int, int] | None = None
        self._looking = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def shelves(self) -> list[Shelf]:
        """The shelves, with what another process made or dropped meanwhile."""
        try:
            found = (self.folder / schema.RECORD_FILE).stat()
        except FileNotFoundError:
            return self._held
        stamp = found.st_mtime_ns, found.st_ino  # the clock of a file system stands still for milliseconds
        if stamp != self._stamp:
            with self._looking:
                before, self.record = self.record, schema.read_record(self.folder) or self.record
                served = self.record.embedder, self.record.vector_set
                held = self._kept(is_same=served == self._served)
                for each in held:
                    shelf.reopened(each, self.database, self.folder, self.record)
                self._hold_some(held, keep=_has_only_grown(before, self.record))
                self._held, self._served, self._stamp = held, served, stamp
        return self._held

    def _kept(self, *, is_same: bool) -> list[Shelf]:
        """The shelves of the record, those that were known as they are; new ones unless the same vectors are served."""
        known = {each.number: each for each in self._held}
        if is_same:
            return [known.get(number) or Shelf(self.database, number) for number in self.record.shelves]
        # A question that is being asked goes on with what it has: all of it is of one embedder.
        made = [Shelf(self.database, number) for number in self.record.shelves]
        for each in made:
            each.untidy = known[each.number].untidy if each.number in known else each.untidy
        return made

    def hold(self, *, is_wanted: bool) -> None:
        """Hold in memory what questions ask for, as far as it is not large; or let go of it."""
        if is_wanted != self.holds:
            self.holds = is_wanted
            self._hold_some(self.shelves())

    def _hold_some(self, shelves: list[Shelf], *, keep: bool = False) -> None:
        """Share out what may be held. `keep`: nothing was forgotten, so what is held already stays."""
        left, num_rows = MAX_HELD_rows if self.holds else 0, 0
        for each in reversed(shelves):  # the last one first, since it is written to
            num_rows += each.chunks.count_rows() if left > 0 else 0
            is_whole = num_rows <= MAX_WHOLE_rows
            stays = keep and each.held is not None and each.held.is_whole == is_whole
            left -= max(each.chunks.count_rows(), shelf.SHELF_rows if each is shelves[-1] else 0) if left > 0 else 0
            each.held = None if left <= 0 else each.held if stays else Held(is_whole=is_whole)
            knows = self.holds and each.held is None
            if not keep or knows != (each.chunk_places is not None):
                each.know_places(is_wanted=knows)

    def write_record(self, record: StoreRecord) -> None:
        """Let `record` hold from now on."""
        schema.write_record(self.folder, record)
        self._stamp = None

    def note_loss(self) -> None:
        """Have whoever holds rows in memory let go of them, also one who looks only after more shelves have come."""
        self.write_record(replace(self.record, num_losses=self.record.num_losses + 1))

    def refresh(self) -> None:
        """See what other processes wrote, and forget what was counted here."""
        for each in list(self._held):
            each.chunks.checkout_latest()
            each.forget_counts()
        self._stamp = None
        self.shelves()

    def searched(self, search: Callable[[], _T]) -> _T:
        """Run a search; once more if the version it read was purged under its feet. Raises StoreError."""
        try:
            return search()
        except Exception as problem:
            if not tables.is_of_lance(problem):
                raise
        with named_errors(self.folder, "read"):
            self.refresh()
            return search()

    def on_each(self, search: Callable[[Shelf], _T]) -> list[_T]:
        """Search every shelf, several at a time."""
        shelves = self.shelves()
        if len(shelves) == 1:
            return [search(shelves[0])]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_SEARCH_threads, "shelves")
        return list(self._pool.map(search, shelves))

    def num_vectors(self) -> int:
        """Vectors on all shelves."""
        return sum(each.vectors.count_rows() for each in self.shelves() if each.vectors is not None)

    def add_shelf(self) -> None:
        """Open the next shelf. Dying in between leaves tables that nobody counts."""
        record = self.record
        number = max(record.shelves) + 1
        tables.make_chunks(self.database, number)
        if record.embedder is not None:
            tables.make_vectors(self.database, number, record.vector_set, record.embedder.dim)
        if record.next_embedder is not None:
            tables.make_vectors(self.database, number, record.newest_set, record.next_embedder.dim)
        self.write_record(schema.with_shelves(record, (*record.shelves, number)))
        self.shelves()[-2].untidy.is_unfinished = True


def _has_only_grown(before: StoreRecord, now: StoreRecord) -> bool:
    """Whether shelves came, if anything, and no rows went, see `StoreRecord.num_losses`."""
    is_changed = before != now
    # Vectors of a next embedder, which nobody asks yet, are no loss.
    now = replace(now, next_embedder=before.next_embedder, newest_set=before.newest_set)
    return is_changed and schema.with_shelves(now, now.shelves[: len(before.shelves)]) == before
