"""Keeps one ingest process at work for a memory home as long as the engine lives.

Where some other one is at work (`lmm import`, or the child of an engine that has just gone) it waits until that has left. A
child that fails, or holds too much memory again and again, is started ever more rarely, so that a broken machine is not kept
busy.
"""

import logging
import threading
from collections.abc import Mapping

from lmm_mcp import children, restarts
from lmm_mcp.errors import HomeError
from lmm_mcp.limits import TOO_MUCH_MEMORY_code
from lmm_mcp.paths import Home
from lmm_mcp.refusal import refusal_of

LOOK_EVERY_s = 15.0
_LOOK_AT_OTHERS_EVERY_s = 1.0
"""While a process that is not our child has the store: it may be the last engine's, about to leave."""
_FIRST_RETRY_s = 5.0
_LAST_RETRY_s = 600.0
_REFUSED_RETRY_s = 30.0

_log = logging.getLogger(__name__)


class Keeper:
    """See the module. `start` returns at once; `stop` sends our child home."""

    def __init__(self, home: Home, env: Mapping[str, str]) -> None:
        self._home = home
        self._env = env
        self._child: children.IngestChild | None = None
        self._num_failures = 0
        self._is_resting = False
        """Whether no child is started for a while, since the last ones held too much memory."""
        self._wake = threading.Event()
        self._is_over = False
        self._thread = threading.Thread(target=self._keep, name="ingest-keeper", daemon=True)

    def start(self) -> None:
        """Begin to look after it. Does nothing the second time."""
        if self._thread.ident is None:
            self._thread.start()

    def look_now(self) -> None:
        """Something is to be read soon (a note was left): see that somebody is there to do it."""
        self._wake.set()

    @property
    def child_pid(self) -> int:
        """Process id of our child, 0 where there is none."""
        child = self._child  # another thread may let go of it
        return child.pid if child is not None and child.poll() is None else 0

    def is_beginning(self) -> bool:
        """Whether we have reading begun, and the process that does it has not said yet what it found."""
        if self._is_over or self._num_failures or self._is_resting:
            return False
        said = children.progress(self._home)
        if said is not None and said.is_running:
            return said.phase == "importing" and not said.files_total
        child = self._child  # another thread may let go of it
        return child is None or child.poll() is None

    def stop(self) -> None:
        """Send our child home without waiting for it: it finishes the file it is in."""
        self._is_over = True
        self._wake.set()
        if self._child is not None:
            self._child.let_go()

    def _keep(self) -> None:
        while not self._is_over:
            try:
                pause_s = self._look()
            except HomeError as problem:
                self._num_failures += 1
                _log.warning("%s", problem)
                pause_s = self._retry_s()
            self._wake.wait(pause_s)
            self._wake.clear()

    def _look(self) -> float:
        """Start a child where none is at work; seconds until the next look."""
        if self._child is not None:
            code = self._child.poll()
            if code is None:
                self._num_failures = 0
                return LOOK_EVERY_s
            self._child = None
            if code not in (0, TOO_MUCH_MEMORY_code):  # 0: it found another one at work and handed over
                self._num_failures += 1
                _log.warning("the ingest process ended with code %d; see ingest-stderr.log", code)
                # A full disk is made room on by somebody, sooner or later: to look for that costs little.
                return min(self._retry_s(), _REFUSED_RETRY_s) if refusal_of(code) else self._retry_s()
            if code == TOO_MUCH_MEMORY_code and (pause_s := restarts.pause_s(self._home)):
                _log.warning("the ingest process needed more than limits.memory_mb again; it starts in %.0f s", pause_s)
                self._is_resting = True
                return pause_s
        reading = children.progress(self._home)
        if reading is None or not reading.is_running:
            self._child = children.start_ingest(self._home, self._env, stay=True)
            self._is_resting = False
            _log.info("started the ingest process %d", self._child.pid)
            return _FIRST_RETRY_s
        return _LOOK_AT_OTHERS_EVERY_s

    def _retry_s(self) -> float:
        return float(min(_LAST_RETRY_s, _FIRST_RETRY_s * 2 ** min(self._num_failures, 10)))
