"""Which memory model answers here: the version that is served, in a process of its own, or a server that the settings name."""

import logging
import os
from collections.abc import Mapping

from lmm_mcp import artifacts, config
from lmm_mcp.artifacts import places
from lmm_mcp.errors import ModelError
from lmm_mcp.model.cards import MAX_SENTENCES
from lmm_mcp.model.loopback import LoopbackRuntime
from lmm_mcp.model.runtime import ChildRuntime, Weights
from lmm_mcp.model.writer import MemoryWriter
from lmm_mcp.paths import Home

_log = logging.getLogger(__name__)


class Serving:
    """A runtime by the settings. Costs nothing while no version is served and no server named."""

    def __init__(self, home: Home, env: Mapping[str, str], settings: config.Model) -> None:
        self.settings = settings
        self._home = home
        self._child = ChildRuntime(
            home,
            env,
            self._weights,
            memory_mb=settings.memory_mb,
            idle_s=60.0 * settings.idle_minutes,
            num_threads=max(1, (os.cpu_count() or 1) // 2),  # with all of them a busy machine is ten times slower
        )
        self._server: LoopbackRuntime | None = None
        self.trouble = ""
        """Why the server that is named is not asked."""
        if settings.server:
            try:
                self._server = LoopbackRuntime(settings.server, model=settings.name, adapter=settings.adapter)
            except ModelError as problem:  # recall goes on without
                self.trouble = str(problem)
                _log.warning("%s", problem)

    def writer(self, *, wait_s: float = 0.0) -> MemoryWriter | None:
        """What answers now; None where nothing does. `wait_s`: how long to wait for a model of ours that is not loaded yet."""
        runtime = self._server or self._child
        if self.trouble or not runtime.version or self._is_forgotten():
            return None
        if wait_s and runtime is self._child:
            self._child.prepare(within_s=wait_s)
        return MemoryWriter(runtime, max_sentences=self.settings.max_sentences, allowed=self._sentences)

    def scribe(self) -> MemoryWriter | None:
        """The same, to write what is wanted later: as much as fits on a card, if what answers may write that much."""
        runtime = self._server or self._child
        if self.trouble or not runtime.version or self._is_forgotten():
            return None
        return MemoryWriter(runtime, max_sentences=MAX_SENTENCES, allowed=self._sentences)

    def learned(self) -> tuple[str, int] | None:
        """What answers now, and the time from which on it has learned nothing, 0 where nobody knows; None for nothing."""
        runtime = self._server or self._child
        if self.trouble or not (name := runtime.version) or self._is_forgotten():
            return None
        version: artifacts.Version | artifacts.Torn | None = artifacts.served(self._home)
        if self._server is not None:  # it may hold a version of ours under its name
            adapter = self.settings.adapter
            version = artifacts.find(self._home, adapter) if places.VERSION_NAME.fullmatch(adapter) else None
        return name, version.manifest.until_ms if isinstance(version, artifacts.Version) else 0

    def close(self) -> None:
        """End the process, if there is one; the next question starts it again."""
        self._child.close()

    def _is_forgotten(self) -> bool:
        """Whether the server is to answer with a version of ours of which something was forgotten since."""
        name = self.settings.adapter
        if self._server is None or not places.VERSION_NAME.fullmatch(name):
            return False
        try:
            found = artifacts.find(self._home, name)
        except ModelError:  # deleted: a clean one has taken its place
            return True
        return isinstance(found, artifacts.Version) and found.unclean is not None

    def _sentences(self, version: str) -> int:
        """How many sentences of its own a version may write, see `Manifest.max_sentences`.

        What a server holds that is no version of ours was judged by no gate: the setting decides, for briefs and cards alike.
        """
        if not places.VERSION_NAME.fullmatch(version):
            return self.settings.max_sentences
        try:
            found = artifacts.find(self._home, version)
        except ModelError:  # deleted since
            return 0
        return found.manifest.max_sentences if isinstance(found, artifacts.Version) else 0

    def _weights(self) -> Weights | None:
        version = artifacts.served(self._home)
        if version is None:
            return None
        return Weights(version.name, version.manifest.base, version.adapter, artifacts.bases_folder(self._home))
