"""What the engine answers in one line, beside agents: `lmm_mcp.server.reach.ask(home, {"want": "status"}, timeout_s)`.

Each is a function from the engine and the request to what is answered, called on a thread of its own; it may take its time
and raise LmmError, whose message the asker gets. `engine.desk(request)` is the desk of whoever asks (`cwd`, `env`).
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lmm_mcp import memory

if TYPE_CHECKING:
    from lmm_mcp.server.engine import Engine

Answer = Callable[["Engine", dict[str, Any]], dict[str, Any]]


def status(engine: "Engine", _: dict[str, Any]) -> dict[str, Any]:
    """How the engine is: `clients`, `open` (requests not answered yet), `stays`, `up_s`, `resident_mb`, `has_model`, `ingest_pid` (0: not its child), `training` (what it does about the schedule, '' where it keeps none)."""
    return {
        "clients": len(engine.sessions),
        "open": sum(session.num_open for session in list(engine.sessions)),
        "stays": engine.stays,
        "up_s": round(time.time() - engine.started_s),
        "resident_mb": round(memory.resident_bytes() / 1e6),
        "has_model": engine.holdings.has_model,
        "ingest_pid": engine.keeper.child_pid,
        "training": engine.teacher.told if engine.teacher is not None else "",
    }


def stop(engine: "Engine", request: dict[str, Any]) -> dict[str, Any]:
    """End, and the ingest process with it. Agents that are connected start another one when they ask something."""
    said = status(engine, request)
    engine.call_soon(engine.leave, "stopped")
    return said


def retire(engine: "Engine", request: dict[str, Any]) -> dict[str, Any]:
    """Make room for another engine, which must hold `home.engine_start_lock`: agents then wait for it."""
    said = status(engine, request)
    engine.call_soon(engine.leave, "retired")
    return said


def brief(engine: "Engine", request: dict[str, Any]) -> dict[str, Any]:
    """The brief that opens a session: `text`, '' for nothing. Of the request: `cwd`, `session_id`, `source`."""
    from lmm_mcp.recall.opening import for_folder

    given = {name: str(request.get(name) or "") for name in ("cwd", "session_id", "source")}
    return {"text": for_folder(engine.holdings.ledger, engine.holdings.archive, **given)}


answers: dict[str, Answer] = {"status": status, "stop": stop, "retire": retire, "brief": brief}
