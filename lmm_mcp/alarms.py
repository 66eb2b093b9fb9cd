"""What threatens a memory: its disk is full, a limit is near, upkeep fails. Each with the next step, for status and doctor."""

from dataclasses import dataclass
from pathlib import Path

from lmm_mcp import limits, refusal, restarts
from lmm_mcp.config import Limits
from lmm_mcp.limits import DiskUse
from lmm_mcp.restarts import Restarts
from lmm_mcp.store import upkeep
from lmm_mcp.store.tables import StoreStats
from lmm_mcp.store.upkeep import Trouble


@dataclass(frozen=True, slots=True)
class Alarm:
    """One threat."""

    what: str
    """With the numbers."""
    next_step: str
    is_bad: bool = False
    """Something does not work any more; else it will not, sooner or later."""

    def told(self) -> str:
        """All of it in one line."""
        return f"{self.what}; {self.next_step}"


def of_disk(root: Path, wanted: Limits, use: DiskUse | None = None) -> list[Alarm]:
    """Look at the disk and at what the memory takes of it."""
    found = []
    if refusal.is_full(root):
        what = f"the disk that holds {root} is full: nothing can be written, and nothing was lost"
        found.append(Alarm(what, "free some space; reading goes on by itself", is_bad=True))
    use = limits.disk_use(root, wanted) if use is None else use
    if told := limits.disk_alarm(use):
        what, _, step = told.rpartition(": ")
        found.append(Alarm(what, step, is_bad=use.is_full))
    return found


def of_memory(found: Restarts, wanted: Limits) -> list[Alarm]:
    """Look at how often reading had to begin anew, since it took more memory than it may."""
    number = found.num_within(restarts.SAID_FOR_s)
    cap_mb = limits.memory_cap_mb(wanted)
    if number < restarts.MANY or not 0 < cap_mb <= found.cap_mb:  # the limit was raised since
        return []
    by, more = "limits.memory_mb allows", "raise it (`lmm config set limits.memory_mb ...`; 0 = no limit)"
    if cap_mb < wanted.memory_mb:
        by, more = "three quarters of what this machine or container has are", "give it more"
    what = f"the ingest process was started anew {number:,} times within an hour, since it held {found.held_mb:,} MB where {by} {cap_mb:,}"
    return [Alarm(what, f"{more}; reading goes on meanwhile, ever more slowly")]


def of_store(stats: StoreStats, trouble: Trouble | None) -> list[Alarm]:
    """Look at how the store is kept up."""
    found = []
    if trouble is not None:
        times = "once" if trouble.num_failures == 1 else f"{trouble.num_failures:,} times in a row"
        what = f"the upkeep of the store failed {times}, so it grows and slows down: {trouble.problem.rstrip('.')}"
        found.append(Alarm(what, "it is tried again ever more rarely; `lmm rebuild` makes the store anew", is_bad=True))
    for number, many, name in (
        (stats.num_fragments, upkeep.MANY_FRAGMENTS, "files"),
        (stats.num_versions, upkeep.MANY_VERSIONS, "versions"),
    ):
        if number > many:
            what = f"the store consists of {number:,} {name}, where upkeep leaves fewer than {many:,}"
            found.append(Alarm(what, "see `ingest.log`; `lmm rebuild` makes the store anew"))
    return found
