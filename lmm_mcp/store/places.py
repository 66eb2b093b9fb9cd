"""Where the rows of a large table lie, by id: forty rows that are named by their places are read in 7 to 10 ms, those that are
looked for in 10 to 13, and a shelf that does not have them is not asked at all. Sixteen bytes a row.

For shelves that are too old to be held in memory (`held.py`). What is known may be some seconds old: who asks makes sure that
the row that is read is the one that was meant, and looks for those that are gone.
"""

import logging
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lmm_mcp.store.blocks import ROW_ID
from lmm_mcp.store.tables import ALL_ROWS

LOOK_EVERY_s = 10.0
"""A table is not read through more often, however much is written to it: that takes 0.4 s for half a million rows."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Known:
    version: int
    hashes: npt.NDArray[np.int64]
    """Of each id, in order; those of this process alone."""
    row_ids: npt.NDArray[np.uint64]


class Places:
    """Of one table. Safe to call from several threads."""

    def __init__(self, column: str) -> None:
        """`column`: the one that holds the ids; several rows may have the same."""
        self._column = column
        self._known: _Known | None = None
        self._looking = threading.Lock()
        self._looked_s = float("-inf")

    def of(self, table: Any, ids: Collection[str]) -> list[int] | None:
        """The row ids under which `ids` lie; None where that is not known yet. Raises what LanceDB raises."""
        known = self._known
        is_time = time.monotonic() - self._looked_s >= LOOK_EVERY_s
        if is_time and (known is None or table.version != known.version):
            self._begin(table)
        if known is None:
            return None
        wanted = np.fromiter(map(hash, ids), np.int64, len(ids))
        first, end = (np.searchsorted(known.hashes, wanted, side) for side in ("left", "right"))
        return [int(row_id) for at, to in zip(first, end, strict=True) for row_id in known.row_ids[at:to]]

    def forget(self) -> None:
        """Take what is known for true no more; it is looked for anew when that is due."""
        self._known = None

    def _begin(self, table: Any) -> None:
        """Read them beside the questions, unless that is being done."""
        if self._looking.acquire(blocking=False):
            try:
                threading.Thread(target=self._look, args=(table,), name="places", daemon=True).start()
            except RuntimeError:  # no thread is to be had, or we are leaving
                self._looking.release()

    def _look(self, table: Any) -> None:
        try:
            version = table.version
            found = table.search().with_row_id(True).select([self._column]).limit(ALL_ROWS).to_arrow()
            hashes = np.fromiter(map(hash, found[self._column].to_pylist()), np.int64, found.num_rows)
            order = np.argsort(hashes, kind="stable")
            self._known = _Known(version, hashes[order], found[ROW_ID].to_numpy()[order])
        except Exception:  # a table was dropped or purged under its feet: rows are looked for, as before
            _log.debug("places could not be read", exc_info=True)
        finally:
            self._looked_s = time.monotonic()
            self._looking.release()
