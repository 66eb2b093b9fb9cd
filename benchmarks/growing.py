"""How soon a note and an appended line can be recalled while, and after, a very large session is read.

    python benchmarks/growing.py [--megabytes 60] [--steps 40]

Invents one Claude Code session of so many megabytes, with so many steps (calls and their outputs) for each prompt, and
starts the ingest process as an agent does. A note is left in the middle of the import; afterwards lines are appended one
by one. Prints seconds until the words of each are found in the store, and the peak memory of the process (Linux).
"""

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from lmm_mcp import children, notes
from lmm_mcp.errors import StoreError
from lmm_mcp.paths import Home
from lmm_mcp.store.chunks import ChunkStore, Scope
from lmm_mcp.store.terms import terms

NUM_APPENDED = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=60)
    parser.add_argument("--steps", type=int, default=40)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        file = root / "claude" / "projects" / "-work-quay" / "s1.jsonl"
        file.parent.mkdir(parents=True)
        num_records = write(file, asked.megabytes, asked.steps)
        home = Home(root / "lmm").ensure()
        own = {"HOME": folder, "CLAUDE_CONFIG_DIR": f"{root}/claude", "CODEX_HOME": f"{root}/codex"}
        environment = {**os.environ, **own, "LMM_HOME": f"{root}/lmm", "LMM_EMBEDDER_NAME": "none"}
        started = time.monotonic()
        child = children.start_ingest(home, environment, stay=True)
        until(lambda: found(home, "quay"))
        notes.remember(home, "zanzibar stays", project="", cwd="", now_ms=time.time_ns() // 1_000_000)
        print(f"a note left during the import   {until(lambda: found(home, 'zanzibar')):6.2f} s")
        until(lambda: (said := children.progress(home)) is not None and said.phase == "watching")
        print(f"import of {asked.megabytes:.0f} MB, {num_records:,} records   {time.monotonic() - started:6.1f} s")
        times = []
        for number in range(NUM_APPENDED):
            word = "pelican" + "abcdefghij"[number] * 3
            with file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(record(f"x{number}", "assistant", [{"type": "text", "text": word}])) + "\n")
            children.hand_over(home, [file])
            times.append(until(lambda word=word: found(home, word)))
        print(f"a line appended, median of {NUM_APPENDED}   {statistics.median(times):6.2f} s (worst {max(times):.2f})")
        print(f"peak memory   {peak_mb(child.pid)} MB")
        child.stop()


def write(file: Path, megabytes: float, steps: int) -> int:
    """Invent the session; the number of its records."""
    chance = random.Random(1)
    words = [f"quay{number}" for number in range(5000)]
    number = 0
    with file.open("w", encoding="utf-8") as out:
        while out.tell() < megabytes * 1e6:
            if number % steps == 0:
                said = record(f"u{number}", "user", "quay " + " ".join(chance.choices(words, k=30)))
            elif number % 2:
                call = {"type": "tool_use", "id": f"t{number}", "name": "Bash", "input": {"command": f"make {number}"}}
                said = record(f"u{number}", "assistant", [call])
            else:
                printed = "\n".join(" ".join(chance.choices(words, k=10)) for _ in range(30))
                result = {"type": "tool_result", "tool_use_id": f"t{number - 1}", "content": printed}
                said = record(f"u{number}", "user", [result])
            out.write(json.dumps(said) + "\n")
            number += 1
    return number


def record(uuid: str, role: str, content: object) -> dict[str, object]:
    """One line of a Claude Code session."""
    about = {"sessionId": "s1", "cwd": "/home/ann/quay", "timestamp": "2026-03-01T10:00:00.000Z", "uuid": uuid}
    return {"type": role, **about, "message": {"id": f"m-{uuid}", "role": role, "content": content}}


def found(home: Home, word: str) -> bool:
    """Whether the store has it."""
    try:
        return bool(ChunkStore.open(home.store).lexical(terms(word), Scope(), 1))
    except StoreError:  # not made yet
        return False


def until(holds: Callable[[], bool]) -> float:
    """Wait; the seconds that took."""
    started = time.monotonic()
    while not holds():
        if time.monotonic() - started > 600:
            raise SystemExit("waited in vain for ten minutes")
        time.sleep(0.02)
    return time.monotonic() - started


def peak_mb(pid: int) -> str:
    """The most memory a process ever held."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return "?"
    return next(str(int(line.split()[1]) // 1000) for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
