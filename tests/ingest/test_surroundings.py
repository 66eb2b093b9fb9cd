"""The end of a parent: its ingest process follows it, whatever it is at."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = (
    "import threading, time\nfrom ingest import surroundings\nsurroundings.LEAVE_WITHIN_s = 0.2\n"
    "stop = threading.Event()\nsurroundings.watch_parent(stop, threading.Event())\nprint('here', flush=True)\n"
    "stop.wait(60)\nprint('told', flush=True)\ntime.sleep(600)"
)


def test_who_is_at_work_for_long_ends_soon_after_its_parent():
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout.readline() == b"here\n"
    process.stdin.close()
    assert process.stdout.readline() == b"told\n"
    assert process.wait(30) == 0
    process.stdout.close()
