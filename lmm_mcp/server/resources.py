"""Further doors of the same memory, as MCP resources: they cost a model nothing until it, or its user, opens one.

    lmm://opening{?budget}                          what the project was left with, as told when a session begins
    lmm://opening/compacted/{session}{?budget}      the same after a compaction, the session's own work first
    lmm://timeline{?since,until,budget}             sessions of the project, newest first
    lmm://timeline/{+project}{?since,until,budget}  of another one, `*` for all
    lmm://file/{+path}{?budget}                     what to know before a file is touched

Everything read here stands in the fence, as what the tools answer does.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import anyio.to_thread
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceError
from mcp.server.mcpserver.resources.templates import ResourceSecurity

from lmm_mcp.errors import LmmError
from lmm_mcp.server.desk import Desk

_Found = TypeVar("_Found")
NOTHING_DONE = "Nothing is remembered of that time here."
NOTHING_LEFT = "Nothing is remembered of this project yet."
_OPENING = "What earlier sessions left in this project: open work, decisions, corrections, commands that work."
_COMPACTED = "The same for a session that was compacted, its own work first."
_TIMELINE = "Sessions of this project, newest first: titles, decisions, corrections, files."
_OF_PROJECT = "The same of another project; * for all."
_FILE = "What to know before touching a file: what was done there, and why."
_ONLY_A_NAME = ResourceSecurity(exempt_params={"path", "project"})
"""Nothing is opened under these names: they are looked for in what is remembered."""


def add(server: MCPServer[Any], here: Callable[[], Desk]) -> None:
    """Give a server these resources. `here`: the desk of whoever reads."""

    @server.resource("lmm://opening", name="opening", description=_OPENING)
    async def opening() -> str:
        return await _opening(here())

    # Listed beside the plain one, since a template is no resource to clients that list those.
    @server.resource("lmm://opening{?budget}", name="opening_within", description=_OPENING)
    async def opening_within(budget: str = "") -> str:
        return await _opening(here(), budget)

    @server.resource("lmm://opening/compacted/{session}{?budget}", name="opening_compacted", description=_COMPACTED)
    async def compacted(session: str, budget: str = "") -> str:
        return await _opening(here(), budget, session)

    @server.resource("lmm://timeline{?since,until,budget}", name="timeline", description=_TIMELINE)
    async def timeline(since: str = "", until: str = "", budget: str = "") -> str:
        return await _timeline(here(), None, since, until, budget)

    @server.resource(
        "lmm://timeline/{+project}{?since,until,budget}",
        name="timeline_of_project",
        description=_OF_PROJECT,
        security=_ONLY_A_NAME,
    )
    async def timeline_of(project: str, since: str = "", until: str = "", budget: str = "") -> str:
        return await _timeline(here(), project, since, until, budget)

    @server.resource("lmm://file/{+path}{?budget}", name="file", description=_FILE, security=_ONLY_A_NAME)
    async def file(path: str, budget: str = "") -> str:
        found = await _read(functools.partial(here().about_file, path, budget_tokens=budget))
        return found.text


async def _opening(desk: Desk, budget: str = "", compacted: str = "") -> str:
    return await _read(functools.partial(desk.opening, compacted=compacted, budget_tokens=budget)) or NOTHING_LEFT


async def _timeline(desk: Desk, project: str | None, since: str, until: str, budget: str) -> str:
    ask = functools.partial(desk.timeline, project, since=since, until=until, budget_tokens=budget)
    return await _read(ask) or NOTHING_DONE


async def _read(work: Callable[[], _Found]) -> _Found:
    """Do blocking work on a thread. Raises ResourceError with the next step."""
    try:
        return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
    except LmmError as problem:
        raise ResourceError(str(problem)) from problem
