"""When a shelf is due for upkeep, what is done then, and what is remembered of upkeep that failed.

Upkeep joins small files, brings new rows into the indexes and drops old versions. It costs by the size of the shelf, so it
is due when a share of the shelf is new, and never for each message of a session that grows.

Failures are kept in `upkeep.json` beside the tables, where every process sees them: a store whose upkeep fails grows
without a bound (others found 300 GB for a few MB that way), so `lmm status` and `lmm doctor` say so. Each further attempt
waits twice as long, up to a day.
"""

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from lmm_mcp.store import tables, vector_index
from lmm_mcp.store.shelf import Shelf, Untidy

RECORD_FILE = "upkeep.json"
NEW_rows = 1_000
"""Rows that are not in the text index cost a search 15 ms for each thousand."""
BUSY_rows = 4_000
"""While much is being read: fewer pauses against slower searches."""
NEW_SHARE = 50
"""A large shelf bears one in so many rows."""
NUM_COMMITS = 64
ROWS_A_COMMIT = 500
"""Each commit leaves a small file. A large shelf bears one more for each so many rows; its vectors, quick to join, do not."""
LEAVING_COMMITS = 8
LEAVING_SHARE = 100
"""Who leaves, or has read all there was, tidies up what is more than one in so many rows."""
RETAIN_s = 60.0
"""How long old versions stay for those who are still reading them."""
MANY_FRAGMENTS = 2_000
MANY_VERSIONS = 4_000
"""A store that is kept up never has so many: an alarm."""
FAN = 4
"""So many closed shelves of a size, side by side, are joined into one."""
NUM_SIZES = 3
"""30,000, 120,000 and 480,000 rows: the largest are never joined, which bounds what joining takes."""
_LITTER_SHARE = 1.5
_LITTLE_bytes = 5_000_000
_FIRST_RETRY_s = 60.0
_LAST_RETRY_s = 86_400.0
_REBUILD_AFTER = 2
"""Failures after which the text index is made anew, since it may be what is broken."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Upkeep that failed, and has not succeeded since."""

    num_failures: int = 0
    since_ms: int = 0
    retry_ms: int = 0
    """Not to be tried again before (UTC milliseconds since 1970)."""
    problem: str = ""
    """What was said, with the next step."""


def take_stock(shelf: Shelf, folder: Path, *, is_open: bool) -> None:
    """Find out what an earlier process left untidy."""
    shelf.untidy = Untidy(
        num_rows=tables.num_unindexed(shelf.chunks),
        num_commits=max(0, tables.num_fragments(shelf.chunks) - 1),
        num_vector_commits=sum(max(0, tables.num_fragments(table) - 1) for table in shelf.vector_tables),
        littered_s=time.monotonic() if _is_much_litter(shelf, folder) else 0.0,
        is_unfinished=not is_open and vector_index.lacks_scalar(shelf.chunks, shelf.vectors),
    )


def due(shelf: Shelf, *, leaving: bool = False, busy: bool = False, retain_s: float = RETAIN_s) -> list[Any]:
    """The tables of which so much is new that upkeep pays off.

    `leaving`: nothing more is coming for a while. `busy`: much more is coming at once.
    """
    left, num_rows = shelf.untidy, shelf.chunks.count_rows()
    # Dropping old versions costs nothing where nothing is new. Where something is, it waits for the next upkeep, or every
    # upkeep of a session that grows would bring another one a minute later.
    is_litter_due = not left.num_rows and 0 < left.littered_s < time.monotonic() - retain_s
    if left.is_unfinished or (is_litter_due and not busy):
        return shelf.tables
    found = []
    most_rows = (
        BUSY_rows if busy else max(1, num_rows // LEAVING_SHARE) if leaving else max(NEW_rows, num_rows // NEW_SHARE)
    )
    most_commits = (LEAVING_COMMITS if leaving else NUM_COMMITS) + num_rows // ROWS_A_COMMIT
    if left.num_rows >= most_rows or left.num_commits >= most_commits:
        found.append(shelf.chunks)
    if left.num_vector_commits >= (LEAVING_COMMITS if leaving else NUM_COMMITS):
        found += shelf.vector_tables
    return found


def may_want_index(shelf: Shelf, num_vectors: int, *, exact_rows: int) -> bool:
    """Whether a closed shelf got vectors, and enough of them for an index of its own."""
    return shelf.untidy.num_vector_commits > 0 and vector_index.is_due(
        shelf.chunks, shelf.vectors, num_vectors, exact_rows=exact_rows
    )


def tidy(
    shelf: Shelf,
    held: Sequence[Any],
    *,
    is_open: bool,
    num_vectors: int,
    retain_s: float = RETAIN_s,
    exact_rows: int = vector_index.EXACT_rows,
    index_anew: bool = False,
) -> None:
    """Join small files, bring new rows into the indexes, make those that a closed shelf has, drop old versions.

    `held`: the tables of the shelf that are due; `num_vectors`: in the whole store. What dies in between leaves the rows as
    they were; files that no version names are deleted next time. Raises what LanceDB raises.
    """
    if index_anew:
        tables.index_terms(shelf.chunks, anew=True)
    left = shelf.untidy
    # What the last upkeep replaced goes now, however soon that is: one shelf lies on the disk twice at most.
    since_s = time.monotonic() - left.tidied_s if left.tidied_s else retain_s
    retained = timedelta(seconds=max(min(retain_s, since_s), 0.001))  # LanceDB warns of zero
    for table in held:
        # Unverified files are those of writers that died: we are the only one that writes.
        table.optimize(cleanup_older_than=retained, delete_unverified=True)
        if table is shelf.chunks:
            left.num_rows = left.num_commits = 0
        else:
            left.num_vector_commits = 0
    if not is_open:
        finish(shelf, num_vectors=num_vectors, exact_rows=exact_rows)
        left.is_unfinished = False
    left.tidied_s = time.monotonic()
    left.littered_s = left.tidied_s if _is_littered(shelf) else 0.0


def finish(shelf: Shelf, *, num_vectors: int, exact_rows: int = vector_index.EXACT_rows) -> None:
    """Make the indexes that a closed shelf has."""
    index_vectors(shelf.chunks, shelf.vectors, num_vectors=num_vectors, exact_rows=exact_rows)


def index_vectors(chunks: Any, vectors: Any, *, num_vectors: int, exact_rows: int) -> None:
    """The same for either set of its vectors."""
    vector_index.build_scalar(chunks, vectors)
    if vector_index.is_due(chunks, vectors, num_vectors, exact_rows=exact_rows):
        vector_index.build(vectors)


def to_join(sizes: Sequence[int], *, shelf_rows: int) -> tuple[int, int] | None:
    """From where to where closed shelves of these sizes should be joined; None where all is well.

    >>> to_join([480, 130, 30, 31, 33, 35], shelf_rows=30), to_join([480, 130, 30], shelf_rows=30)
    ((2, 6), None)
    """
    # What was deleted makes a shelf smaller: it counts as one of its size while half of it is left.
    ranks = [sum(size >= shelf_rows * FAN**n // 2 for n in range(1, NUM_SIZES)) for size in sizes]
    for start in range(len(ranks) - FAN + 1):
        if len(set(ranks[start : start + FAN])) == 1 and ranks[start] < NUM_SIZES - 1:
            return start, start + FAN
    return None


def _is_much_litter(shelf: Shelf, folder: Path) -> bool:
    """Whether data that no row is in takes half as much as the rest, which an upkeep that was cut off may have left."""
    on_disk = sum(tables.disk_bytes(folder / f"{table.name}.lance" / "data") for table in shelf.tables)
    return on_disk > _LITTER_SHARE * sum(int(table.stats()["total_bytes"]) for table in shelf.tables) + _LITTLE_bytes


def _is_littered(shelf: Shelf) -> bool:
    return any(len(table.list_versions()) > 1 for table in shelf.tables)


def trouble(folder: Path) -> Trouble | None:
    """What failed, as the last process that tried has left it; None where all is well."""
    try:
        return Trouble(**json.loads((folder / RECORD_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def note_failure(folder: Path, problem: str, before: Trouble | None) -> Trouble:
    """Remember a failure, on a disk that is full only in what is returned."""
    now_ms = time.time_ns() // 1_000_000
    num_failures = 1 + (before.num_failures if before else 0)
    wait_s = min(_LAST_RETRY_s, _FIRST_RETRY_s * 2 ** min(num_failures - 1, 20))
    found = Trouble(num_failures, before.since_ms if before else now_ms, now_ms + int(wait_s * 1000), problem)
    beside = folder / f"{RECORD_FILE}.new"
    with suppress(OSError):
        beside.write_text(json.dumps(asdict(found)), encoding="utf-8")
        beside.replace(folder / RECORD_FILE)
    return found


def note_success(folder: Path) -> None:
    """Nothing is wrong any more."""
    with suppress(OSError):
        (folder / RECORD_FILE).unlink(missing_ok=True)


def may_try(found: Trouble | None) -> bool:
    """Whether it is time to try; a clock that was set back does not put it off for ever."""
    if found is None:
        return True
    left_ms = found.retry_ms - time.time_ns() // 1_000_000
    return not 0 < left_ms <= _LAST_RETRY_s * 1000


def wants_new_index(found: Trouble | None) -> bool:
    """Whether failures go on, so that the text index is suspected."""
    return found is not None and found.num_failures >= _REBUILD_AFTER
