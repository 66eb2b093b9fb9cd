"""Keeps the ingest process within its limits: of the disk that the memory takes, and of its own memory."""

import logging
import time
from contextlib import suppress

from ingest.pipeline import Rooms
from lmm_mcp import limits, memory, restarts
from lmm_mcp.config import Limits
from lmm_mcp.limits import DiskUse
from lmm_mcp.paths import Home

LOOK_EVERY_s = 15.0
"""How often the disk is looked at; a few dozen MB may be written in between."""
_MB = 1_000_000
_log = logging.getLogger("lmm.ingest")


class Watch:
    """Looks at disk and memory. `forget` after somebody else wrote or the settings changed."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._use = DiskUse(0, 0)
        self._look_at = 0.0
        self._was_full = False

    def forget(self) -> None:
        """Look anew at the next question."""
        self._look_at = 0.0

    def alarm(self, settings: Limits) -> str:
        """Why no session may be taken in; '' where there is room."""
        use = self._disk(settings)
        if use.is_full != self._was_full:
            self._was_full = use.is_full
            _log.warning("%s", limits.disk_alarm(use) if use.is_full else "there is room again: reading goes on")
        return limits.disk_alarm(use) if use.is_full else ""

    def has_room_for_notes(self, settings: Limits) -> bool:
        """Whether a note may be taken in: beyond the limit, too, as far as the reserve goes."""
        return not self._disk(settings).is_spent

    def is_memory_short(self, settings: Limits, rooms: Rooms) -> bool:
        """Whether this process holds too much memory even after it gave back what it could, and must be started anew."""
        cap_mb = limits.memory_cap_mb(settings)
        cap_bytes = cap_mb * _MB
        if not cap_bytes or memory.resident_bytes() < limits.NEAR * cap_bytes:
            return False
        rooms.archive.forget_recent()
        rooms.cuts.clear()
        memory.give_back()
        held = memory.resident_bytes()
        if held < cap_bytes:
            return False
        _log.warning("%d MB in memory, more than the %d MB allowed: starting anew", held // _MB, cap_mb)
        with suppress(OSError):  # on a full disk the log says it
            restarts.note(self._home, held_mb=held // _MB, cap_mb=cap_mb)
        return True

    def _disk(self, settings: Limits) -> DiskUse:
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY_s
            self._use = limits.disk_use(self._home.root, settings) if settings.disk_mb else DiskUse(0, 0)
        return self._use
