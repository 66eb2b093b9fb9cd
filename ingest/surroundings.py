"""What the ingest process learns from outside: requests of others, the end of its parent, what the disk refuses."""

import errno
import logging
import os
import stat
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import orjson

from lmm_mcp.paths import Home

_log = logging.getLogger("lmm.ingest")


@dataclass(frozen=True, slots=True)
class Wish:
    """What another process handed over."""

    paths: tuple[Path, ...] = ()
    threads: tuple[tuple[str, str], ...] = ()
    """Agent and thread id of threads to be cut anew, after a part of them was forgotten."""


def requested(request: Path) -> Wish:
    """Read a request; an empty wish where it cannot be understood."""
    try:
        found = orjson.loads(request.read_bytes())
        return Wish(
            tuple(Path(path) for path in found["paths"]),
            tuple((str(agent), str(thread_id)) for agent, thread_id in found.get("cut_anew", ())),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        _log.warning("a handed-over request cannot be read: %s", problem)
        return Wish()


def watch_parent(stop: threading.Event) -> None:
    """Stop when standard input closes, where it is a pipe: then a parent holds the other end and has gone."""
    try:
        if not stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode):
            return
    except (OSError, ValueError, AttributeError):
        return

    def wait() -> None:
        try:
            while os.read(0, 4096):
                pass
        except OSError:
            pass
        stop.set()

    threading.Thread(target=wait, name="parent", daemon=True).start()


def explained(problem: OSError, home: Home) -> str:
    """Say what the system refused, and what to do about it."""
    if problem.errno == errno.ENOSPC:
        return f"the disk that holds {home.root} is full; free some space and run `lmm import`: nothing was lost"
    if problem.errno in {errno.EACCES, errno.EROFS, errno.EPERM}:
        return f"{problem.filename or home.root} cannot be written ({problem.strerror}); give this user the right to, then run `lmm import`"
    return f"{problem.strerror or problem}: {problem.filename or home.root}"
