"""How long the brief that opens a session takes, in a memory of some size.

    python benchmarks/opening.py [--chunks 15000] [--runs 30]

Makes a memory of invented sessions (ledger and archive, as ingest leaves them; the store is not asked), then prints: the
brief by itself in a process that is warm, as the engine gives it, and the whole hook as an agent starts it, without an engine.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ingest.chunking import CHUNKER_VERSION, chunk_thread
from ingest.turns import pair_turns
from lmm_mcp.domain.event import Event, Thread
from lmm_mcp.domain.recall import num_tokens
from lmm_mcp.paths import Home
from lmm_mcp.recall import opening
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.ledger import Ledger

NUM_PROJECTS = 5
NUM_TURNS = 60
COMMANDS = ("uv run pytest -q", "npm run build", "make lint", "cargo test", "ls -la", "git status")
SAID = (
    "We decided to keep the {} in the {} because the {} is slower.",
    "Please look at the {} of the {} and mend it.",
    "No, don't touch the {}; the {} must stay as it is.",
    "The {} is done. Next step: the {} of the {}.",
    "I looked at the {} and found that the {} is read twice.",
)
WORDS = "cart harbour pier gauge lamp mast sail port index queue worker socket ledger parser theme migration".split()


def events_of(name: str, dice: random.Random) -> list[Event]:
    """One session: prompts, replies, commands with long outputs."""
    events: list[Event] = []
    at_ms = 1_760_000_000_000 + dice.randrange(20_000_000_000)

    def said(kind: str, text: str, **more: object) -> None:
        events.append(Event(f"{name}-{len(events)}", kind, text, at_ms + len(events) * 4000, **more))  # type: ignore[arg-type]

    for turn in range(NUM_TURNS):
        said("prompt", " ".join(_sentence(dice) for _ in range(2)))
        said("reply", "\n".join(_sentence(dice) for _ in range(6)))
        call = f"{name}-call-{turn}"
        said("call", command := dice.choice(COMMANDS), call_id=call, tool="Bash", command=command)
        said("result", "line of output\n" * 150, call_id=call, exit_code=dice.choice((0, 0, 0, 1)))
        said("reply", _sentence(dice))
    return events


def _sentence(dice: random.Random) -> str:
    return dice.choice(SAID).format(*(dice.choice(WORDS) for _ in range(3)))


def make(home: Home, num_chunks: int) -> int:
    """Fill a memory until it has that many chunks; their number."""
    ledger, archive = Ledger.open(home.ledger), Archive(home.archive)
    made, dice = 0, random.Random(7)
    for number in range(100_000):
        project = f"/home/ann/project{number % NUM_PROJECTS}"
        thread = Thread("claude-code", f"session-{number}", f"session-{number}", cwd=project)
        events = events_of(thread.thread_id, dice)
        chunks = chunk_thread(thread, pair_turns(thread, events), project=project)
        archive.append(thread, events, sync=False)
        with ledger.transaction():
            ledger.record_thread(
                thread,
                project=project,
                first_ms=events[0].at_ms,
                last_ms=events[-1].at_ms,
                num_events=len(events),
                chunker_version=CHUNKER_VERSION,
            )
            rows = [(chunk.id, chunk.event_ids[0], chunk.event_ids[-1]) for chunk in chunks]
            ledger.record_chunks(thread.agent, thread.thread_id, rows)
        made += len(chunks)
        if made >= num_chunks:
            break
    archive.flush()
    ledger.close()
    return made


def told(what: str, times_ms: list[float]) -> None:
    ordered = sorted(times_ms)
    p95 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
    print(f"{what}: p50 {statistics.median(ordered):.0f} ms, p95 {p95:.0f} ms of {len(ordered)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=15_000)
    parser.add_argument("--runs", type=int, default=30)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder)).ensure()
        num_chunks = make(home, arguments.chunks)
        ledger, archive = Ledger.open(home.ledger), Archive(home.archive)
        sizes, times_ms = [], []
        for run in range(arguments.runs):
            started_s = time.perf_counter()
            brief = opening.for_folder(ledger, archive, cwd=f"/home/ann/project{run % NUM_PROJECTS}")
            times_ms.append((time.perf_counter() - started_s) * 1000)
            sizes.append(num_tokens(brief))
        ledger.close()
        print(f"{num_chunks:,} chunks; a brief has {min(sizes)} to {max(sizes)} tokens")
        told("brief", times_ms)
        times_ms = []
        env = {**os.environ, "LMM_HOME": folder}
        for run in range(arguments.runs):
            given = json.dumps(
                {"cwd": f"/home/ann/project{run % NUM_PROJECTS}", "session_id": "new", "source": "startup"}
            )
            started_s = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "lmm_mcp", "hook", "session-start"],
                input=given.encode(),
                env=env,
                capture_output=True,
            )
            times_ms.append((time.perf_counter() - started_s) * 1000)
            assert done.stdout, "the hook said nothing"
        told("hook, without an engine", times_ms)


if __name__ == "__main__":
    main()
