"""How much disk and memory the memory may take, and what is said when a limit is near."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lmm_mcp import memory
from lmm_mcp.config import Limits, MIN_MEMORY_mb

NEAR = 0.8
"""Share of a limit from which it is said."""
RESERVE_bytes = 50_000_000
"""Beyond the limit, for what `remember` is told."""
TOO_MUCH_MEMORY_code = 75
"""Exit code of an ingest process that held too much memory: it wants to be started anew at once. EX_TEMPFAIL of sysexits.h."""
_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class DiskUse:
    """What a memory home takes, and what it may take."""

    used_bytes: int
    cap_bytes: int
    """0 = as much as there is."""

    @property
    def is_full(self) -> bool:
        """Whether no session may be taken in any more."""
        return 0 < self.cap_bytes <= self.used_bytes

    @property
    def is_spent(self) -> bool:
        """Whether not even a note may be taken in any more."""
        return 0 < self.cap_bytes + RESERVE_bytes <= self.used_bytes and self.is_full

    @property
    def is_near(self) -> bool:
        """Whether the limit is near, or reached."""
        return 0 < NEAR * self.cap_bytes <= self.used_bytes


def disk_use(root: Path, limits: Limits) -> DiskUse:
    """Look through the memory home: a millisecond for each hundred files."""
    return DiskUse(folder_bytes(root), limits.disk_mb * _MB)


def disk_alarm(use: DiskUse) -> str:
    """One sentence with the numbers and the next step; '' while all is well.

    >>> disk_alarm(DiskUse(16, 20)).split(";")[0]
    'the memory takes 0 of the 0 MB that limits.disk_mb allows'
    """
    if not use.is_near:
        return ""
    took = (
        f"the memory takes {use.used_bytes / _MB:,.0f} of the {use.cap_bytes / _MB:,.0f} MB that limits.disk_mb allows"
    )
    steps = "raise it (`lmm config set limits.disk_mb ...`; 0 = no limit) or remove something (`lmm forget`)"
    if not use.is_full:
        return f"{took}; when they are used up no more sessions are read: {steps}"
    return f"{took}; no session is read until there is room, and nothing is lost: {steps}"


def memory_cap_mb(limits: Limits) -> int:
    """What the ingest process may hold, in MB, 0 for all: where the machine, or the container, has little, three quarters of it."""
    has_mb = memory.machine_bytes() // 1_000_000
    if not limits.memory_mb or not has_mb:
        return limits.memory_mb
    return min(limits.memory_mb, max(MIN_MEMORY_mb, 3 * has_mb // 4))


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below; those that vanish while we look count nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118 - a store has thousands
    return total
