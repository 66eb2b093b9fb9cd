"""The process that holds the network: JSON lines in, JSON lines out. It may crash or run out of memory; that costs one brief.

    {"id": 7, "do": "load", "base": "...", "adapter": "..."}                              > {"id": 7, "ok": true}
    {"id": 8, "do": "choose", "prompt": "...", "offered": [1, 2, 3], "until_s": 1790000000.5}  > {"id": 8, "chosen": [2], "confidence": 0.9}
    {"id": 9, "do": "write", "prompt": "...", "max_new_tokens": 180, "copied": [{"number": 1, ...}], "until_s": 1790000002.5}
                                                                                                > {"id": 9, "text": "..."}

`until_s` counts from 1970, so that waiting for others counts, too. What cannot be done is answered by `error`, what came too late
by `late`. The process leaves at once when its standard input closes, whatever it is at: so nothing is left behind, however its
parent ended. It leaves, too, when nobody has asked for a while, and when it holds more memory than it may.
"""

import argparse
import json
import os
import queue
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from lmm_mcp import memory
from lmm_mcp.domain.writing import Offered
from lmm_mcp.errors import LmmError
from lmm_mcp.limits import TOO_MUCH_MEMORY_code
from lmm_mcp.model.copying import TOKENS_PER_SENTENCE

WATCH_EVERY_s = 0.25
_MB = 1_000_000


def main() -> None:
    """Answer until standard input closes."""
    parser = argparse.ArgumentParser(prog="python -m lmm_mcp.model")
    parser.add_argument("--memory-mb", type=int, default=0, help="leave beyond this much, 0 = no limit")
    parser.add_argument("--idle-s", type=float, default=0, help="leave after so long without a request, 0 = never")
    parser.add_argument("--threads", type=int, default=0, help="threads for one request, 0 = as torch has it")
    arguments = parser.parse_args()
    # Whatever a library prints must not land among the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    _be_the_first_to_go()
    requests: queue.Queue[dict[str, Any]] = queue.Queue()
    clock = _Clock()
    threading.Thread(target=_read, args=(requests, clock), daemon=True).start()
    threading.Thread(target=_watch, args=(clock, arguments.memory_mb, arguments.idle_s), daemon=True).start()
    hand = _Hand(arguments.threads)
    while True:
        request = requests.get()
        reply = hand.answer(request)
        clock.done()
        with suppress(BrokenPipeError):
            answers.write(json.dumps({"id": request.get("id"), **reply}) + "\n")


class _Clock:
    """When somebody last wanted something."""

    def __init__(self) -> None:
        self._num_open = 0
        self._since_s = time.monotonic()
        self._lock = threading.Lock()

    def asked(self) -> None:
        with self._lock:
            self._num_open += 1

    def done(self) -> None:
        with self._lock:
            self._num_open -= 1
            self._since_s = time.monotonic()

    def idle_s(self) -> float:
        with self._lock:
            return 0.0 if self._num_open else time.monotonic() - self._since_s


class _Hand:
    """Does what is asked, one thing at a time."""

    def __init__(self, num_threads: int) -> None:
        self._num_threads = num_threads
        self._network: Any = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            match request.get("do"):
                case "load":
                    return self._load(request)
                case "choose" | "write" if self._network is not None:
                    return self._say(request)
                case _:
                    return {"error": "nothing is loaded, or this request is not known"}
        except LmmError as problem:
            return {"error": str(problem)}
        except Exception as problem:  # of torch's many: the caller goes on without us, and is told why
            return {"error": f"{type(problem).__name__}: {problem}"}

    def _load(self, request: dict[str, Any]) -> dict[str, Any]:
        import torch

        from lmm_mcp.model import network

        if self._num_threads:
            torch.set_num_threads(self._num_threads)
        self._network = None  # first of all: two at once may be more than there is room for
        adapter = Path(request["adapter"]) if request.get("adapter") else None
        base = network.find_base(request["base"], bases=Path(request["bases"]) if request.get("bases") else None)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._network = network.ready_to_serve(network.load(base, adapter=adapter, device=device))
        return {"ok": True}

    def _say(self, request: dict[str, Any]) -> dict[str, Any]:
        from lmm_mcp.model import generate

        is_late = generate.deadline(float(request["until_s"]) - time.time())
        prompt = str(request["prompt"])
        try:
            if request["do"] == "choose":
                found = generate.choose(self._network, prompt, list(request["offered"]), is_late=is_late)
                return {"chosen": list(found.chosen), "confidence": found.confidence}
            size = int(request["max_new_tokens"])
            lines = [Offered(**each) for each in request.get("copied", ())]
            grammar = generate.copying_for(self._network, lines, most=size // TOKENS_PER_SENTENCE) if lines else None
            (text,) = generate.generate(
                self._network, [prompt], max_new_tokens=size, constraint=grammar, is_late=is_late
            )
        except generate.TooLate:
            return {"late": True}
        return {"text": text}


def _read(requests: "queue.Queue[dict[str, Any]]", clock: _Clock) -> None:
    """Take requests in, and leave when there will be no more."""
    for line in sys.stdin.buffer:
        try:
            request = json.loads(line)
        except ValueError:
            break  # our parent died while it wrote
        clock.asked()
        requests.put(request)
    os._exit(0)  # in the middle of a thought: nobody is there to hear it


def _watch(clock: _Clock, memory_mb: int, idle_s: float) -> None:
    parent = os.getppid()
    while True:
        time.sleep(WATCH_EVERY_s)
        if memory_mb and memory.resident_bytes() > memory_mb * _MB:
            os._exit(TOO_MUCH_MEMORY_code)
        if (idle_s and clock.idle_s() > idle_s) or os.getppid() != parent:
            os._exit(0)


def _be_the_first_to_go() -> None:
    """Where memory runs short the system ends this process rather than the engine or the user's compiler."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("900", encoding="utf-8")
