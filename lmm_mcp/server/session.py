"""One agent's connection to the engine: lines in, lines out, and which requests are not answered yet.

The protocol itself is the SDK's. What is ours is the end: a connection ends when the agent has gone, or when the engine
leaves; in both cases what was asked is answered first. Lines that were not taken stay with the pipe, which asks them again.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, cast

from mcp.server import MCPServer
from mcp.server.stdio import stdio_server

from lmm_mcp.server.desk import Desk
from lmm_mcp.server.endpoint import ENDLESS
from lmm_mcp.server.mending import mended

MAX_OPEN_requests = 64
"""Of one agent; more wait in its own pipe."""
ANSWER_GRACE_s = 8.0
"""How long a connection that is to end waits for the answers to what was asked."""
STOPPED = "notifications/lmm/stopped"
"""What the pipe is told where somebody stopped the engine on purpose: not to start one before it is asked something."""

asking: ContextVar[Desk] = ContextVar("asking")
"""The desk of whoever's request is being answered."""


class Session:
    """One connection, after the welcome."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, desk: Desk) -> None:
        self._reader, self._writer, self._desk = reader, writer, desk
        self._open: set[str] = set()
        self._changed = asyncio.Event()
        self._is_ending = asyncio.Event()
        self._is_broken = False

    async def serve(self, server: MCPServer[Any]) -> None:
        """Answer until the agent goes or `end` is called."""
        asking.set(self._desk)
        # The public way in serves standard input and output only; this is what it does.
        core = server._lowlevel_server
        # It wants files and reads lines from one and writes lines to the other: nothing else is asked of them.
        async with stdio_server(cast(Any, self._lines()), cast(Any, self)) as (incoming, outgoing):
            await core.run(incoming, outgoing, core.create_initialization_options())

    @property
    def num_open(self) -> int:
        """Requests that are not answered yet."""
        return len(self._open)

    def end(self) -> None:
        """Take no further line; `serve` returns when what was asked is answered."""
        self._is_ending.set()

    async def say_stopped(self) -> None:
        """Tell the pipe that the engine was stopped on purpose."""
        await self.write(json.dumps({"jsonrpc": "2.0", "method": STOPPED}) + "\n")

    async def _lines(self) -> AsyncIterator[str]:
        ending = asyncio.ensure_future(self._is_ending.wait())
        try:
            while not (self._is_ending.is_set() or self._is_broken):
                if len(self._open) >= MAX_OPEN_requests:
                    await self._next_answer(1.0)
                    continue
                reading = asyncio.ensure_future(self._reader.readline())
                await asyncio.wait({reading, ending}, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    reading.cancel()
                    break
                try:
                    line = reading.result()
                except (OSError, ValueError):  # the pipe was killed, or sends what no honest one would
                    break
                if not line.endswith(b"\n"):
                    break
                line = mended(line)
                self._note_asked(line)
                yield line.decode("utf-8", "replace")
        finally:
            ending.cancel()
        ends_s = time.monotonic() + ANSWER_GRACE_s
        while self._open and not self._is_broken and (left_s := ends_s - time.monotonic()) > 0:
            await self._next_answer(left_s)

    async def write(self, text: str) -> None:
        """Write one answer. An agent that has gone gets none."""
        try:
            self._writer.write(text.encode("utf-8", "replace"))
            await self._writer.drain()
        except OSError:
            self._is_broken = True
        self._note_answered(text)

    async def flush(self) -> None:
        """Nothing is kept back."""

    def _note_asked(self, line: bytes) -> None:
        message = _parsed(line)
        if message.get("method") == ENDLESS:
            return
        if "method" in message and message.get("id") is not None:
            self._open.add(repr(message["id"]))
        elif message.get("method") == "notifications/cancelled":  # it will not be answered
            with suppress(AttributeError):
                self._open.discard(repr(message.get("params", {}).get("requestId")))

    def _note_answered(self, text: str) -> None:
        if self._open and "method" not in (message := _parsed(text)):
            self._open.discard(repr(message.get("id")))
        self._changed.set()

    async def _next_answer(self, at_most_s: float) -> None:
        self._changed.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), at_most_s)


def _parsed(line: str | bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
