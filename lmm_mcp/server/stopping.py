"""`lmm stop`: ends the engine and the ingest process of a memory home. Asks first; what hangs is ended where it provably is ours."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from lmm_mcp import children
from lmm_mcp.children import Progress
from lmm_mcp.domain.wording import counted
from lmm_mcp.errors import EngineError
from lmm_mcp.paths import Home
from lmm_mcp.server import endpoint
from lmm_mcp.server.version import version

ASK_s = 5.0
LEAVE_s = 12.0
"""How long one that said yes may take: an engine finishes its answers, an ingest process its file."""
_FOLLOWS_s = 1.0
_TERMINATE_s = 3.0
_LOOK_EVERY_s = 0.05


def stop(home: Home) -> list[str]:
    """End the engine and the ingest process, whoever started it; what was done. Raises EngineError where that cannot be."""
    told, child_pid = _stop_engine(home)
    said = children.progress(home)
    pids = {said.pid if said is not None and said.is_running else child_pid} - {0}
    # Some only just come; of others the mark was left, and their number is somebody else's now.
    pids |= {pid for pid in children.those_who_came(home) if _is_ours(pid, "ingest", home)}
    return [*told, *(_stop_ingest(home, pid) for pid in sorted(pids))]


def _stop_engine(home: Home) -> tuple[list[str], int]:
    """What was done, and the process id of the ingest process that was its child, 0 for none."""
    _wait_for_one_that_starts(home)
    if _is_free(home):
        return [], 0
    ends_s = time.monotonic() + LEAVE_s
    while (said := _told_to_stop(home)) is None and time.monotonic() < ends_s:
        if _until(lambda: _is_free(home), _LOOK_EVERY_s):
            return ["the engine has ended"], 0
    pid = (said or endpoint.about(home)).get("pid", 0)
    if _until(lambda: _is_free(home), LEAVE_s if said else 0.5):
        agents = counted(int((said or {}).get("clients", 0)), "agent")
        return [f"the engine has ended (process {pid}, {agents} connected)"], int((said or {}).get("ingest_pid", 0))
    if not isinstance(pid, int) or not _is_ours(pid, "lmm_mcp.server.engine", home):
        raise EngineError(
            f"an engine holds {home.engine_lock} and does not answer, and process {pid} is not provably it. "
            "Find it in the list of processes (lmm_mcp.server.engine) and end it there."
        )
    if not _ended_by_force(pid, lambda: _is_free(home)):
        raise EngineError(f"the engine (process {pid}) cannot be ended. End it in the list of processes.")
    return [f"the engine did not answer and was ended (process {pid})"], 0


def _told_to_stop(home: Home) -> dict[str, Any] | None:
    """What the engine said to it, {} where it hangs. None where it has no door: it only just comes, or leaves and still answers."""
    greeted = endpoint.greet(home, {"want": "stop"}, version=version(), timeout_s=ASK_s)
    if greeted is not None:
        greeted[0].close()
        return greeted[1] if greeted[1].get("welcome") else None
    if (there := endpoint.connect(home, timeout_s=ASK_s)) is None:
        return None
    there[0].close()
    return {}


def _stop_ingest(home: Home, pid: int) -> str:
    def is_gone() -> bool:
        return not Progress(pid=pid).is_running

    def is_gone_if_asked() -> bool:
        children.ask_to_stop(
            home
        )  # again and again: one that only just started takes an older wish for somebody else's
        return is_gone()

    # The engine's own child leaves with it.
    if _until(is_gone, _FOLLOWS_s) or _until(is_gone_if_asked, LEAVE_s):
        children.forget_stop(home)
        return f"the ingest process has ended (process {pid})"
    if not _is_ours(pid, "ingest", home):
        raise EngineError(
            f"process {pid} reads sessions into {home.root} and does not end, and is not provably ours. End it in the list of processes."
        )
    if not _ended_by_force(pid, is_gone):
        raise EngineError(f"the ingest process {pid} cannot be ended. End it in the list of processes.")
    return f"the ingest process did not answer and was ended (process {pid}); reading goes on where it was"


def _wait_for_one_that_starts(home: Home) -> None:
    """An engine that is being started has no lock yet: then the lock of whoever starts it is held."""

    def is_up_or_given_up() -> bool:
        if not _is_free(home):
            return True
        starting = endpoint.hold(home.engine_start_lock)
        if starting is not None:
            starting.release()
        return starting is not None

    _until(is_up_or_given_up, LEAVE_s)


def _is_free(home: Home) -> bool:
    lock = endpoint.hold(home.engine_lock)
    if lock is None:
        return False
    lock.release()
    return True


def _until(is_so: Callable[[], bool], at_most_s: float) -> bool:
    ends_s = time.monotonic() + at_most_s
    while not is_so():
        if time.monotonic() >= ends_s:
            return False
        time.sleep(_LOOK_EVERY_s)
    return True


def _ended_by_force(pid: int, is_gone: Callable[[], bool]) -> bool:
    for name in ("SIGTERM", "SIGKILL"):
        with suppress(OSError):
            os.kill(pid, getattr(signal, name, signal.SIGTERM))
        if _until(is_gone, _TERMINATE_s):
            return True
    return False


def _is_ours(pid: int, module: str, home: Home) -> bool:
    """Whether this process is that module of this memory home, by its command line."""
    told = f"{_command_line(pid)} "
    return f" -m {module} " in told and any(f"{mark}{home.root} " in told for mark in ("--home ", "lmm_home="))


def _command_line(pid: int) -> str:
    """Its command line, parts joined by a blank; '' where this system does not tell."""
    if pid <= 0 or sys.platform == "win32":
        return ""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "surrogateescape").replace("\0", " ")
    with suppress(OSError):  # macOS
        told = subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, check=False)
        return told.stdout.decode("utf-8", "surrogateescape").strip()
    return ""
