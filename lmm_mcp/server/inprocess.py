"""The tools without a second process: a client and the server in one, joined in memory. What `lmm bench` measures with."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from anyio.from_thread import start_blocking_portal

from lmm_mcp.errors import LmmError
from lmm_mcp.server.desk import Desk
from lmm_mcp.server.tools import build_server

Call = Callable[..., dict[str, Any]]


@contextmanager
def tool_caller(desk: Desk) -> Iterator[Call]:
    """Give a function `call(tool, **arguments)` that returns the tool's structured answer.

    Everything an agent's call goes through is gone through: schema, checks, the tool, serialisation. Raises LmmError
    with the tool's own words where it refuses.
    """
    from mcp import Client

    desk.holdings.for_many = True
    failed: Exception | None = None
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(Client(build_server(desk))) as client:

        def call(tool: str, **arguments: Any) -> dict[str, Any]:
            reply = portal.call(client.call_tool, tool, arguments)
            if reply.is_error or reply.structured_content is None:
                raise LmmError(" ".join(getattr(block, "text", "") for block in reply.content))
            return dict(reply.structured_content)

        try:
            yield call
        except Exception as problem:  # on its way through the client it would become a group of errors
            failed = problem
    if failed is not None:
        raise failed
