"""Reads a session file on trial, in a process of its own, to see whether that process lives: nothing is kept of it.

The file is taken all the way that the ingest process takes it, as far as that is work on its content.
"""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import orjson

from ingest import reading
from ingest.chunking import chunk_thread
from ingest.redaction import redact_event, redact_thread
from ingest.session import SourceFile
from ingest.turns import pair_turns
from lmm_mcp.domain.event import Event, Thread

_ORPHANED = 3


def ended(source: SourceFile) -> str:
    """How a process ended that read the file on trial: `signal SIGSEGV`, `exit code 1`; '' where it came through."""
    command = [sys.executable, "-P", "-m", "ingest", "--trial"]
    told = orjson.dumps({**asdict(source), "path": os.fsencode(source.path).hex()}) + b"\n"
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert child.stdin is not None
    try:
        with suppress(OSError):  # it has ended already
            child.stdin.write(told)
            child.stdin.flush()
        code = child.wait()  # its input stays open meanwhile: when we die, it does
    finally:
        with suppress(OSError):
            child.stdin.close()
        if child.poll() is None:
            child.kill()
            child.wait()
    if code < 0:
        with suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}" if code else ""


def main() -> int:
    """Be that process: the file is named on standard input, which stays open as long as somebody waits."""
    told = orjson.loads(sys.stdin.buffer.readline())
    source = SourceFile(**{**told, "path": Path(os.fsdecode(bytes.fromhex(told["path"])))})
    threading.Thread(target=_leave_with_parent, name="parent", daemon=True).start()
    with suppress(OSError):  # where memory runs out, it should be ours that is taken
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    try:
        _read(source)
    except MemoryError:
        return 1
    except Exception:  # what ends no process is told by those who read in earnest
        return 0
    return 0


def _read(source: SourceFile) -> None:
    threads: dict[str, Thread] = {}
    events: dict[str, dict[str, Event]] = {}
    cursor, has_more = source.start, True
    while has_more:
        found = reading.read(source, cursor)
        threads |= found.threads
        for thread_id, new in found.events.items():
            events.setdefault(thread_id, {}).update((event.id, redact_event(event)) for event in new)
        has_more = found.has_more and found.cursor != cursor
        cursor = found.cursor
    for thread_id, held in events.items():
        thread = redact_thread(threads[thread_id])
        chunk_thread(thread, pair_turns(thread, list(held.values())), project="")


def _leave_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(_ORPHANED)
