"""`ChangeBox`: what facts tell of replaced values, held in memory, by project; read again when their file has changed."""

import threading
from pathlib import Path

from lmm_mcp.errors import LmmError
from lmm_mcp.recall import changes
from lmm_mcp.recall.changes import Changes
from lmm_mcp.store.facts import FactStore

_Stamp = tuple[tuple[int, int, int], ...]


class ChangeBox:
    """See the module. Nothing is kept open between two questions. Safe to call from several threads."""

    def __init__(self, path: Path) -> None:
        """`path`: of the store of facts, which need not be there."""
        self._path = path
        self._lock = threading.Lock()
        self._stamp: _Stamp = ()
        self._held: dict[str, Changes] = {}

    def of(self, project: str) -> Changes:
        """The changes of one project; none where the facts cannot be read just now: recall goes on without them."""
        with self._lock:
            stamp = self._looked_at()
            if stamp != self._stamp:
                self._held.clear()
                self._stamp = stamp
            if project not in self._held:
                self._held[project] = self._read(project) if stamp else {}
            return self._held[project]

    def _read(self, project: str) -> Changes:
        try:
            store = FactStore.open(self._path)
            try:
                return changes.known(store.changing(project))
            finally:
                store.close()
        except LmmError:
            return {}

    def _looked_at(self) -> _Stamp:
        """What is another whenever something was derived or forgotten."""
        found = []
        for path in (self._path, self._path.with_name(f"{self._path.name}-wal")):
            try:
                stat = path.stat()
            except OSError:
                continue
            if stat.st_size:
                found.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
        return tuple(found)
