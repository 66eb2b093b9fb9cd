"""What an engine needs while nobody asks: memory and CPU with everything open, after the model is put away, and of a pipe.

    python benchmarks/idle.py HOME [--seconds 20] [--reading]

HOME is a memory home that has read something; it is copied, not written to. Linux only: figures come out of /proc.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lmm_mcp.paths import Home  # noqa: E402
from lmm_mcp.server import reach  # noqa: E402

QUESTIONS = ("which port does the database use?", "why did the build fail?", "what was decided about the cache?")
MODEL_IDLE_s = 25.0
SETTLES_s = 10.0
"""What questions leave behind is tidied up after a few seconds of quiet."""
_TICKS_per_s = os.sysconf("SC_CLK_TCK")


class Client:
    """`lmm mcp`, spoken to by hand."""

    def __init__(self, env: dict[str, str], cwd: str, *options: str) -> None:
        self._num_asked = 0
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lmm_mcp", "mcp", *options],
            env=env,
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        client = {"name": "idle", "version": "0"}
        self.ask("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client})
        self.say({"method": "notifications/initialized"})

    def say(self, message: dict[str, object]) -> None:
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self.process.stdin.flush()

    def ask(self, method: str, params: dict[str, object]) -> dict[str, object]:
        self._num_asked += 1
        self.say({"id": self._num_asked, "method": method, "params": params})
        for line in self.process.stdout:
            answer = json.loads(line)
            if answer.get("id") == self._num_asked:
                assert "result" in answer, answer
                return answer["result"]
        raise AssertionError("the pipe has ended")

    def recall(self, query: str) -> dict[str, object]:
        found = self.ask("tools/call", {"name": "recall", "arguments": {"query": query, "project": "*"}})
        assert not found.get("isError"), found
        return found


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_per_s


def share_of_core(pid: int, seconds: float) -> float:
    before, started = cpu_s(pid), time.monotonic()
    time.sleep(seconds)
    return (cpu_s(pid) - before) / (time.monotonic() - started)


def main() -> None:
    """Measure and print a small table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("home", type=Path)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--reading", action="store_true", help="with the ingest process beside")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / "lmm"
        shutil.copytree(arguments.home, copy, ignore=shutil.ignore_patterns("locks"))
        env = {name: value for name, value in os.environ.items() if not name.startswith("LMM_")}
        env |= {"HOME": folder, "LMM_HOME": str(copy), "PYTHONPATH": str(ROOT), "LMM_ENGINE_LINGER_S": "2"}
        env |= {"LMM_ENGINE_MODEL_IDLE_S": str(arguments.seconds + MODEL_IDLE_s)}
        home = Home(copy)
        client = Client(env, folder, *([] if arguments.reading else ["--no-ingest"]))
        try:
            measure(home, client, arguments.seconds)
        finally:
            client.process.stdin.close()
            client.process.wait()
            reach.ask(home, {"want": "stop"}, 10)


def measure(home: Home, client: Client, seconds: float) -> None:
    for query in QUESTIONS:
        client.recall(query)
    now = reach.ask(home, {"want": "status"}, 10)
    pid = int(now["pid"])
    print(f"{'':<34} {'resident MB':>12} {'% of a core':>12}")

    def tell(what: str, of: int) -> None:
        share = share_of_core(of, seconds)
        print(f"{what:<34} {resident_mb(of):>12.0f} {share * 100:>12.2f}", flush=True)

    print(f"engine, just after {len(QUESTIONS)} questions: {resident_mb(pid):.0f} MB")
    time.sleep(SETTLES_s)
    tell(f"engine, model {'open' if now['has_model'] else 'not there'}", pid)
    tell("pipe", client.process.pid)
    while reach.ask(home, {"want": "status"}, 10)["has_model"]:
        time.sleep(1)
    tell("engine, model put away", pid)
    started = time.perf_counter()
    client.recall(QUESTIONS[0])
    print(f"the first question after that took {(time.perf_counter() - started) * 1000:.0f} ms")
    print(f"engine afterwards {resident_mb(pid):.0f} MB")
    if child := int(now["ingest_pid"]):
        tell("ingest process", child)


if __name__ == "__main__":
    main()
