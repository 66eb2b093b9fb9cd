"""What the ingest process learns from outside: requests of others, and the end of its parent."""

import logging
import os
import stat
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import orjson

LEAVE_WITHIN_s = 20.0
"""Joining half a million passages takes a minute and more, and none of our processes may be left that long."""
_log = logging.getLogger("lmm.ingest")


@dataclass(frozen=True, slots=True)
class Wish:
    """What another process handed over."""

    paths: tuple[Path, ...] = ()
    threads: tuple[tuple[str, str], ...] = ()
    """Agent and thread id of threads to be cut anew, after a part of them was forgotten."""
    derives: bool = False
    """All that can be derived from what is archived is to be derived now."""


def requested(request: Path) -> Wish:
    """Read a request; an empty wish where it cannot be understood."""
    try:
        found = orjson.loads(request.read_bytes())
        return Wish(
            tuple(Path(path) for path in found["paths"]),
            tuple((str(agent), str(thread_id)) for agent, thread_id in found.get("cut_anew", ())),
            found.get("derive") is True,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        _log.warning("a handed-over request cannot be read: %s", problem)
        return Wish()


def watch_parent(stop: threading.Event, bell: threading.Event) -> None:
    """Stop, and ring the bell, when standard input closes, where it is a pipe: then a parent held the other end and has gone.

    End this process where it stands, LEAVE_WITHIN_s later: whatever is killed is gone on with at the next start.
    """
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
        bell.set()
        time.sleep(LEAVE_WITHIN_s)
        _log.warning("still at work %.0f s after whoever started this has gone: ended where it stood", LEAVE_WITHIN_s)
        os._exit(0)

    threading.Thread(target=wait, name="parent", daemon=True).start()
