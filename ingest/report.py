"""How far the ingest process is, written down for `lmm status` and for whoever follows an import."""

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ingest.session import SourceFile
from lmm_mcp.children import Phase, Progress, write_progress
from lmm_mcp.paths import Home

EVERY_s = 0.2
"""Five times a second at most."""
SIGN_OF_LIFE_s = 10.0
"""Where there is no news, it is said again that we live."""
_log = logging.getLogger("lmm.ingest")


class Report:
    """What this process has to say about itself."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._progress = Progress(pid=os.getpid(), started_ms=_now_ms())
        self._written, self._written_at = self._progress, 0.0

    def planned(self, files: Sequence[SourceFile]) -> None:
        """Count files that are to be read."""
        old = self._progress
        num_bytes = old.bytes_total + sum(item.size for item in files)
        self._progress = replace(old, files_total=old.files_total + len(files), bytes_total=num_bytes)

    def unreadable(self, number: int) -> None:
        """Count what could not be understood."""
        self._progress = replace(self._progress, unreadable=self._progress.unreadable + number)

    def observers(self, number: int) -> None:
        """Count sessions of other memory tools' observers, which are left out."""
        self._progress = replace(self._progress, observers=self._progress.observers + number)

    def unwatched(self, problem: str) -> None:
        """Say why some folders are not watched; '' where all are."""
        self._progress = replace(self._progress, unwatched=problem)

    def read(self, source: SourceFile, num_bytes: int, *, is_whole: bool) -> None:
        """Count a file, or a slice of it, that was read."""
        old = self._progress
        self._progress = replace(
            old,
            files_done=min(old.files_done + is_whole, max(old.files_total, 1)),
            bytes_done=min(old.bytes_done + num_bytes, max(old.bytes_total, source.size)),
        )

    def blocked(self, why: str) -> None:
        """Why no session is read, '' where nothing is in the way."""
        self._progress = replace(self._progress, blocked=why)

    def say(self, phase: Phase, *, now: bool = False, current_agent: str = "", error: str = "", **counts: int) -> None:
        """Write down what is done at the moment. `counts`: `chunks`, `embedded`, `to_embed`, where they are known."""
        old = self._progress
        about: dict[str, Any] = {"phase": phase, "current_agent": current_agent, "error": error, **counts}
        self._progress = replace(old, updated_ms=_now_ms(), **about)
        is_news = replace(self._progress, updated_ms=0) != replace(self._written, updated_ms=0)
        pause_s = EVERY_s if is_news else SIGN_OF_LIFE_s
        if not now and phase == old.phase and time.monotonic() - self._written_at < pause_s:
            return
        self._written = self._progress
        self._written_at = time.monotonic()
        try:
            write_progress(self._home, self._progress)
        except OSError as problem:  # how far we are is a courtesy; the work itself complains where it cannot go on
            _log.warning("progress cannot be written: %s", problem)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
