"""What the engine answers in one line, beside agents: `lmm_mcp.server.reach.ask(home, {"want": "status"}, timeout_s)`.

Each is a function from the engine and the request to what is answered, called on a thread of its own; it may take its time
and raise LmmError, whose message the asker gets. `engine.desk(request)` is the desk of whoever asks (`cwd`, `env`).
"""

import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmm_mcp.server.engine import Engine

Answer = Callable[["Engine", dict[str, Any]], dict[str, Any]]


def status(engine: "Engine", _: dict[str, Any]) -> dict[str, Any]:
    """How the engine is: `clients`, `open` (requests not answered yet), `stays`, `up_s`, `resident_mb`, `has_model`, `ingest_pid` (0: not its child)."""
    return {
        "clients": len(engine.sessions),
        "open": sum(session.num_open for session in list(engine.sessions)),
        "stays": engine.stays,
        "up_s": round(time.time() - engine.started_s),
        "resident_mb": round(resident_mb()),
        "has_model": engine.shelves.has_model,
        "ingest_pid": engine.keeper.child_pid,
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


def stay(engine: "Engine", request: dict[str, Any]) -> dict[str, Any]:
    """Do not leave for want of agents from now on (`"stay": false` takes that back)."""
    engine.stays = bool(request.get("stay", True))
    return status(engine, request)


def brief(engine: "Engine", request: dict[str, Any]) -> dict[str, Any]:
    """The brief that opens a session: `text`, '' for nothing. Of the request: `cwd`, `session_id`, `source`."""
    from lmm_mcp.recall.opening import for_folder

    given = {name: str(request.get(name) or "") for name in ("cwd", "session_id", "source")}
    return {"text": for_folder(engine.shelves.ledger, engine.shelves.archive, **given)}


answers: dict[str, Answer] = {"status": status, "stop": stop, "retire": retire, "stay": stay, "brief": brief}


def resident_mb() -> float:
    """Memory of this process that is in use, in MB; the most it ever was where the system tells no more."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - a file of one line
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, ValueError, AttributeError):
        pass
    try:
        import resource
    except ImportError:
        return 0.0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most / 1e3
