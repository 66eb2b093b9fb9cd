"""What happens behind the client's back once it has its list of tools: model, ingest process, store."""

import asyncio
import logging
import threading
import time
from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

from lmm_mcp.errors import EmbedderError, LmmError
from lmm_mcp.server.desk import Desk
from lmm_mcp.server.keeper import Keeper

AFTER_HANDSHAKE_s = 1.0
"""Patience for the client's tools/list, which most send right after the handshake: it should not compete with our imports."""

_log = logging.getLogger(__name__)


class WarmUp:
    """Middleware that starts the opening of everything as soon as, and not before, the client has what it waits for."""

    def __init__(self, desk: Desk, keeper: Keeper | None) -> None:
        self._desk = desk
        self._keeper = keeper
        self._has_begun = False

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Pass the message on; see to the warm-up around it."""
        if ctx.method == "tools/call":
            self._begin()
        result = await call_next(ctx)
        if ctx.method == "tools/list":
            # Not before the answer has left: importing holds the interpreter's lock for long stretches.
            asyncio.get_running_loop().call_later(0.05, self._begin)
        elif ctx.method in ("initialize", "server/discover"):
            asyncio.get_running_loop().call_later(AFTER_HANDSHAKE_s, self._begin)
        return result

    def _begin(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            threading.Thread(target=self._warm_up, name="warm-up", daemon=True).start()

    def _warm_up(self) -> None:
        started = time.perf_counter()
        try:
            if self._keeper is not None:
                make_model_ready(self._desk)  # before the ingest process looks for it
                self._keeper.start()
            self._desk.warm_up()
        except LmmError as problem:  # every call will say so to whoever can act on it
            _log.warning("warm-up: %s", problem)
        except Exception:
            _log.exception("warm-up failed")
        else:
            _log.info("warm after %.1f s", time.perf_counter() - started)


def make_model_ready(desk: Desk) -> None:
    """Make the bundled model servable where it is wanted, at hand and not made yet (2 s, once); else recall goes by words."""
    from lmm_mcp import embedder_fetch  # these load numpy and onnx
    from lmm_mcp.embedding import MINILM, NoEmbedder, full_name

    if full_name(desk.settings.embedder.name) != MINILM or not isinstance(desk.embedder(), NoEmbedder):
        return
    if embedder_fetch.bundle() is None:
        return
    try:
        embedder_fetch.install_bundled(desk.home)
    except EmbedderError as problem:
        _log.warning("%s", problem)
    desk.look_for_model()
