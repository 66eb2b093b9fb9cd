"""What happens behind the client's back once it has its list of tools: model, ingest process, store."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

from lmm_mcp.errors import EmbedderError, LmmError
from lmm_mcp.server.desk import Desk

AFTER_HANDSHAKE_s = 1.0
"""Patience for the client's tools/list, which most send right after the handshake: it should not compete with our imports."""

_log = logging.getLogger(__name__)


class WarmUp:
    """Middleware that starts the opening of everything as soon as, and not before, the first client has what it waits for.

    `start_reading` is called first, on a thread, and again for each client; it need not do anything.
    """

    def __init__(self, desk: Desk, start_reading: Callable[[], None]) -> None:
        self._desk = desk
        self._start_reading = start_reading
        self._lock = threading.Lock()
        self._is_warm = False

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Pass the message on; see to the warm-up around it."""
        loop = asyncio.get_running_loop()
        if ctx.method == "tools/call" and not self._is_warm:
            self.begin()
        result = await call_next(ctx)
        if ctx.method == "tools/list":
            # Not before the answer has left: importing holds the interpreter's lock for long stretches.
            loop.call_later(0.05, self.begin)
        elif ctx.method in ("initialize", "server/discover"):
            loop.call_later(AFTER_HANDSHAKE_s, self.begin)
        return result

    def begin(self) -> None:
        """See to it, on a thread, that reading is begun and everything open."""
        threading.Thread(target=self._warm_up, name="warm-up", daemon=True).start()

    def _warm_up(self) -> None:
        started = time.perf_counter()
        with self._lock:
            try:
                self._start_reading()
                if self._is_warm:
                    return
                self._is_warm = True
                self._desk.warm_up()
            except LmmError as problem:  # every call will say so to whoever can act on it
                _log.warning("warm-up: %s", problem)
            except Exception:
                _log.exception("warm-up failed")
            else:
                _log.info("warm after %.1f s", time.perf_counter() - started)


def make_model_ready(desk: Desk) -> None:
    """Make the bundled model servable where it is wanted, at hand and not made yet (2 s, once); else recall goes by words."""
    from lmm_mcp.embedding import MINILM, NoEmbedder, full_name, look  # loads numpy

    wanted = desk.settings.embedder
    if full_name(wanted.name) != MINILM or not isinstance(look(desk.home, wanted), NoEmbedder):
        return
    from lmm_mcp import embedder_fetch  # loads onnx, which needs as much memory as the model

    if embedder_fetch.bundle() is None:
        return
    try:
        embedder_fetch.install_bundled(desk.home)
    except EmbedderError as problem:
        _log.warning("%s", problem)
    desk.look_for_model()
