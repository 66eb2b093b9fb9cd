"""When the ingest process held too much memory and was started anew: written down by it, seen by who starts it and by who asks.

Now and then that is as it should be, since a process gives back less than it took. Again and again means that the limit is
too low for what is remembered: then it is said, and each start waits a little longer.
"""

import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from lmm_mcp.paths import Home

MANY = 3
"""Starts within `SAID_FOR_s` from which on it is said; within `SLOWED_FOR_s`, from which on they are slowed down."""
SAID_FOR_s = 3600.0
SLOWED_FOR_s = 600.0
_FIRST_PAUSE_s, _LAST_PAUSE_s = 5.0, 600.0
_MAX_KEPT = 50


@dataclass(frozen=True, slots=True)
class Restarts:
    """The latest starts for want of memory."""

    at_ms: tuple[int, ...] = ()
    """When, oldest first, UTC milliseconds since 1970."""
    held_mb: int = 0
    """What the last one held when it left."""
    cap_mb: int = 0
    """What it was allowed."""

    def num_within(self, seconds: float, now_ms: int | None = None) -> int:
        """How many of them were in the last `seconds`. A clock that was set back makes none of them recent."""
        now = _now_ms() if now_ms is None else now_ms
        return sum(0 <= now - each <= seconds * 1000 for each in self.at_ms)


def known(home: Home) -> Restarts:
    """Those of this memory; none where nothing was written down or it cannot be read."""
    found: Any = None
    with suppress(OSError, ValueError):
        found = json.loads(home.restarts.read_bytes())
    if not isinstance(found, dict):
        return Restarts()
    times = found.get("at_ms")
    at_ms = tuple(each for each in times if isinstance(each, int)) if isinstance(times, list) else ()
    held, cap = found.get("held_mb"), found.get("cap_mb")
    return Restarts(at_ms, held if isinstance(held, int) else 0, cap if isinstance(cap, int) else 0)


def note(home: Home, *, held_mb: int, cap_mb: int) -> None:
    """Write down that the ingest process leaves now, to be started anew. Raises OSError."""
    at_ms = [*known(home).at_ms, _now_ms()][-_MAX_KEPT:]
    beside = home.restarts.with_suffix(f".{os.getpid()}.part")
    beside.write_text(json.dumps({"at_ms": at_ms, "held_mb": held_mb, "cap_mb": cap_mb}), encoding="utf-8")
    beside.replace(home.restarts)


def pause_s(home: Home) -> float:
    """How long to wait before the next start: not at all, unless there were many of late."""
    num_many = known(home).num_within(SLOWED_FOR_s) - MANY
    return min(_LAST_PAUSE_s, _FIRST_PAUSE_s * float(2**num_many)) if num_many >= 0 else 0.0


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
