"""What a process that answers many questions holds of a shelf in memory: its vectors, where its rows lie, their words and, where
they are not too many, the passages themselves. So a question asks LanceDB for nothing as a rule: while a bulk import writes
and tidies, what is read there waits ten times as long as it takes.

What others wrote is looked for a few times a second at most, beside the questions.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from lmm_mcp.domain.chunk import ChunkId
from lmm_mcp.store import blocks, bodies, postings, tables
from lmm_mcp.store.blocks import ROW_ID, Block, Blocks, Column
from lmm_mcp.store.bodies import Bodies
from lmm_mcp.store.kept import Kept
from lmm_mcp.store.postings import Words
from lmm_mcp.store.search import Hit, Scope

LOOK_EVERY_s = 0.5
"""Where many ask, what was written is looked for so often: a look costs as much as a question."""
WAIT_AFTER_s = 0.8
PATIENCE_s = 0.1
"""Who asks so long after the last look waits for the next one until it has gone on so long: a note is promised after two
seconds. One that takes longer brings in a bulk import."""
LONG_s = 0.1
"""While looks take longer, since a bulk import writes, nobody waits for one before the last is QUIET_s old."""
QUIET_s = 2.0
PATIENCE_after_quiet_s = 1.2
"""Who asks so long after the last look waits so long for the next one, whatever came meanwhile. Where many ask, that one was begun
WAIT_AFTER_s after the last: it is as old by then, and nobody waits."""
_SHARE = 2
"""A look that took long is not repeated before so many times as long have passed, nor put off beyond WAIT_AFTER_s."""
MAX_WINDOW_bytes = 8_000_000
"""Of the windows' vectors that were read lately, 2 kB a passage."""
MAX_WINDOW_bytes_whole = 100_000_000
"""More than those of a whole shelf."""
_PART_rows = 500
"""Read at once, so that questions get their turn."""
_FEW_new_rows = 1_000
"""The passages of so many are read before the rows are to be had, so that no question has to; of more after that."""
_VECTOR_columns = ("chunk_id", "vector", "project", "agent", "first_ms", "last_ms")
_ROW_columns = ("id", "project", "agent", "first_ms", "last_ms", "written_ms")
FEW_rows = 3_000
"""The words of so many are read before the first question; of more (2 s for 80,000) beside the questions after it."""

_NOT_WHOLE = -1
"""A version that no table has: the next look finds something to do."""

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rows:
    """Where the passages lie."""

    version: int
    rows: Blocks
    by_project: dict[str, int]
    words: Words | None
    """None: not read yet, the text index must do."""
    moved: Mapping[int, int]
    """Old row ids of those that upkeep moved since the last look, to their new ones."""


@dataclass(frozen=True, slots=True)
class Vectors:
    """The vectors of the passages."""

    version: int
    rows: Blocks
    moved: Mapping[int, int]
    """As of the passages."""


class _Followed(Generic[_T]):
    """The newest known state of something that others change."""

    def __init__(self) -> None:
        self._held: _T | None = None
        self._looked_s = self._began_s = float("-inf")
        self._took_s = 0.0
        self._lock = threading.Lock()
        self._look: threading.Event | None = None
        """Set when the look that goes on has ended."""
        self._finishing = threading.Lock()
        self._finished: _T | None = None

    def now(self, update: Callable[[_T | None], _T], shown: Callable[[_T], None], then: Callable[[_T], None]) -> _T:
        """The state of a moment ago. `update` makes the present one of the one that was held. Raises what it raises.

        `shown` is called with each new state as soon as it is to be had, `then` after that, for what may take longer.

        It is brought up to date beside the question: thousands of new rows take longer than an answer may. One that comes
        after some quiet waits for that, as a rule for a few milliseconds.
        """
        if (held := self._held) is None:
            with self._lock:
                if (held := self._held) is None:
                    self._looked_s = time.monotonic()  # what is written while we look may be missed
                    self._held = held = update(None)
            return held
        age_s = time.monotonic() - self._looked_s
        if age_s < max(LOOK_EVERY_s, min(_SHARE * self._took_s, WAIT_AFTER_s)):
            return held
        look = self._begun(update, shown, then)
        if age_s >= (WAIT_AFTER_s if self._took_s < LONG_s else QUIET_s):
            patience_s = PATIENCE_s if age_s < QUIET_s else PATIENCE_after_quiet_s
            look.wait(max(0.0, self._began_s + patience_s - time.monotonic()))
        return self._held or held

    def _begun(
        self, update: Callable[[_T | None], _T], shown: Callable[[_T], None], then: Callable[[_T], None]
    ) -> threading.Event:
        with self._lock:
            if self._look is None or self._look.is_set():
                self._look = threading.Event()
                self._began_s = time.monotonic()
                look = self._look
                try:
                    target, asked = self._bring_in, (look, update, shown, then)
                    threading.Thread(target=target, args=asked, name="look", daemon=True).start()
                except RuntimeError:  # no thread is to be had, or we are leaving
                    look.set()
            return self._look

    def _bring_in(
        self,
        look: threading.Event,
        update: Callable[[_T | None], _T],
        shown: Callable[[_T], None],
        then: Callable[[_T], None],
    ) -> None:
        began_s, before, held = time.monotonic(), self._held, None
        try:
            self._held = held = update(before)
            if held is not before:
                shown(held)
            self._looked_s, self._took_s = began_s, time.monotonic() - began_s
        except (
            Exception
        ):  # a table was dropped or purged under its feet: the next question begins anew, and says what is wrong
            _log.debug("rows could not be brought up to date", exc_info=True)
            self._held = None
        finally:
            look.set()
        if held is None or not self._finishing.acquire(blocking=False):
            return
        try:
            if held is not self._finished:
                then(held)
                self._finished = held
        except Exception:  # what is not held is read when it is asked for
            _log.debug("rows could not be held", exc_info=True)
        finally:
            self._finishing.release()


class Held:
    """See the module. Made for one shelf; thrown away with it, or to give its memory back.

    `is_whole`: passages and the vectors of their windows are held, too; else those of them that were asked for lately.
    """

    def __init__(self, *, is_whole: bool = True) -> None:
        self.is_whole = is_whole
        self._rows: _Followed[Rows] = _Followed()
        self._vectors: _Followed[Vectors] = _Followed()
        self.passages = Bodies(is_whole=is_whole)
        """By row id."""
        self.windows: Kept[bytes] = Kept(MAX_WINDOW_bytes_whole if is_whole else MAX_WINDOW_bytes, _size)
        """Their windows' vectors, packed, by the row id of their vector."""

    def rows(self, chunks: Any) -> Rows:
        """The passages, as they were a moment ago. Raises what LanceDB raises."""

        def look(before: Rows | None) -> Rows:
            version = chunks.version
            if before is not None and before.version == version:
                return before
            found = blocks.looked(chunks, before.rows if before else (), _ROW_columns)
            by_project = tables.most_frequent_first(Counter(blocks.rows(found, "project")))
            if before is None and sum(by_project.values()) > FEW_rows:
                return Rows(_NOT_WHOLE, found, by_project, None, {})
            moved = blocks.moved(before.rows, found, _written) if before else {}
            words = postings.looked(chunks, found, (before.words if before else None) or (), moved)
            if before is not None:
                read(found, moved, _FEW_new_rows)
            return Rows(version, found, by_project, words, moved)

        def read(rows: Blocks, moved: Mapping[int, int], most: int) -> None:
            for part in self._parts(self.passages.lacking(blocks.rows(rows, ROW_ID)), moved, most):
                self.passages.add(bodies.packed(chunks.take_row_ids(part)))

        return self._rows.now(
            look, lambda now: self.passages.renumber(now.moved), lambda now: read(now.rows, {}, tables.ALL_ROWS)
        )

    def vectors(self, table: Any) -> Blocks:
        """The vectors, as they were a moment ago. Raises what LanceDB raises."""

        def look(before: Vectors | None) -> Vectors:
            version = table.version
            if before is not None and before.version == version:
                return before
            found = blocks.looked(table, before.rows if before else (), _VECTOR_columns)
            moved = blocks.moved(before.rows, found, _begins) if before else {}
            if before is not None:
                read(found, moved, _FEW_new_rows)
            return Vectors(version, found, moved)

        def read(rows: Blocks, moved: Mapping[int, int], most: int) -> None:
            for part in self._parts(self.windows.lacking(blocks.rows(rows, ROW_ID)), moved, most):
                self.windows.add(bodies.windows_of(table.take_row_ids(part)))

        followed = self._vectors.now(
            look, lambda now: self.windows.renumber(now.moved), lambda now: read(now.rows, {}, tables.ALL_ROWS)
        )
        return followed.rows

    def _parts(self, row_ids: list[int], moved: Mapping[int, int], most: int) -> Iterator[list[int]]:
        """Rows to be read at once, so that questions get their turn; none where not all are held, or they are too many.

        `moved`: what is held under old row ids, and needs no reading.
        """
        held = set(moved.values())
        row_ids = [row_id for row_id in row_ids if row_id not in held]
        for start in range(0, len(row_ids) if self.is_whole and len(row_ids) <= most else 0, _PART_rows):
            yield row_ids[start : start + _PART_rows]


def _size(packed: bytes) -> int:
    """With what Python and the table of rows need for each, also where it is empty."""
    return 100 + len(packed)


def _written(block: Block) -> Column:
    """When each passage was written: one that upkeep moved was not written anew."""
    return block.columns["written_ms"]


def _begins(block: Block) -> Column:
    """The first number of each vector: other words have another one."""
    found: Column = block.columns["vector"][:, 0]
    return found


def nearest(held: Blocks, vector: npt.NDArray[np.float32], scope: Scope, limit: int) -> list[Hit]:
    """The chunks with the pieces most similar to `vector` within scope, best first, equal ones by id. Exact."""
    similar = [_similarities(each, vector, scope) for each in held]
    every = np.concatenate(similar) if similar else np.empty(0, np.float32)
    num_there = int(np.isfinite(every).sum())
    wanted = limit
    while num := min(wanted, num_there):
        worst = np.partition(every, len(every) - num)[len(every) - num]
        best: dict[str, Hit] = {}
        for block, scores in zip(held, similar, strict=True):
            near = np.flatnonzero(scores >= worst)
            for chunk_id, score in zip(block.columns["chunk_id"][near].tolist(), scores[near].tolist(), strict=True):
                if chunk_id not in best or best[chunk_id].score < score:
                    best[chunk_id] = Hit(chunk_id, score)
        if len(best) >= limit or num == num_there:
            return sorted(best.values(), key=lambda hit: (-hit.score, hit.chunk_id))[:limit]
        wanted *= 4  # a few chunks of many pieces took all places
    return []


def _similarities(block: blocks.Block, vector: npt.NDArray[np.float32], scope: Scope) -> npt.NDArray[np.float32]:
    """Of each row; minus infinity for what is gone or out of scope."""
    is_in = blocks.in_scope(block, scope)
    # Not a matrix product: that one wakes threads which then wait for a core, and what it gives a row depends on its
    # neighbours in the last digit, so that equal passages would change places with every upkeep.
    vectors = block.columns["vector"]
    if 2 * int(is_in.sum()) > len(is_in):
        found: npt.NDArray[np.float32] = np.where(is_in, np.einsum("nd,d->n", vectors, vector), -np.inf)
        return found
    found = np.full(len(is_in), -np.inf, np.float32)
    found[is_in] = np.einsum("nd,d->n", vectors[is_in], vector)
    return found


def row_ids(held: Blocks, ids: Sequence[ChunkId]) -> dict[ChunkId, int]:
    """Where these chunks lie in the table; those that are not there are left out."""
    places = {chunk_id: blocks.place(held, chunk_id) for chunk_id in ids}
    return {chunk_id: int(at[0].columns[ROW_ID][at[1]]) for chunk_id, at in places.items() if at is not None}
