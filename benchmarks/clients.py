"""Many agents at once on one engine, while a bulk import goes on: how long recall takes, and how many processes there are.

    python benchmarks/clients.py HOME [--clients 16] [--seconds 60] [--every 2] [--files 300]

HOME is a memory home that has read something; it is copied, not written to. Sessions are invented, with words as frequent as in
natural language (`synthetic.py`), and imported meanwhile. Each client asks a question every `--every` seconds at its own pace; at the end all ask in the same moment. Linux only: processes are
counted in /proc.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "benchmarks"))

from idle import Client, cpu_s  # noqa: E402
from synthetic import WORDS_A_LINE, Maker  # noqa: E402

from lmm_mcp import children  # noqa: E402
from lmm_mcp.paths import Home  # noqa: E402
from lmm_mcp.server import reach  # noqa: E402

LINES_A_MESSAGE = 8
WORDS_A_QUESTION = 8
NUM_QUESTIONS = 2_000
SAMPLE_EVERY_s = 0.1


def invented_sessions(folder: Path, num_files: int, chance: random.Random, maker: Maker) -> None:
    """Sessions of Claude Code of some 100 kB each."""
    for number in range(num_files):
        session = f"00000000-0000-4000-8000-{number:012d}"
        records = []
        for turn in range(40):
            for kind in ("user", "assistant"):
                lines = [maker.question(WORDS_A_LINE) for _ in range(LINES_A_MESSAGE)]
                text = "\n".join([*lines, f"{chance.getrandbits(40):x}"])
                records.append(
                    {
                        "type": kind,
                        "cwd": f"/home/ann/project-{number % 7}",
                        "sessionId": session,
                        "version": "2.1.214",
                        "uuid": f"{number:08d}-0000-4000-8000-{turn:011d}{'0' if kind == 'user' else '1'}",
                        "timestamp": f"2026-03-{1 + number % 28:02d}T10:{turn:02d}:00.000Z",
                        "message": {
                            "role": kind,
                            "content": text if kind == "user" else [{"type": "text", "text": text}],
                        },
                    }
                )
        target = folder / "projects" / f"-home-ann-project-{number % 7}" / f"{session}.jsonl"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def processes(home: Home) -> Counter[str]:
    """How many engines and ingest processes of this home there are now."""
    found: Counter[str] = Counter()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            told = (folder / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:  # it has just ended
            continue
        if any(part.removeprefix("lmm_home=") == str(home.root) for part in told):
            found["ingest" if "ingest" in told else "engine"] += 1
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("home", type=Path)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--every", type=float, default=2.0)
    parser.add_argument("--files", type=int, default=300)
    arguments = parser.parse_args()
    chance = random.Random(17)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / "lmm"
        shutil.copytree(arguments.home, copy, ignore=shutil.ignore_patterns("locks"))
        env = {name: value for name, value in os.environ.items() if not name.startswith("LMM_")}
        env |= {"HOME": folder, "LMM_HOME": str(copy), "PYTHONPATH": str(ROOT), "LMM_ENGINE_LINGER_S": "2"}
        env |= {"CLAUDE_CONFIG_DIR": str(Path(folder) / "claude"), "CODEX_HOME": str(Path(folder) / "codex")}
        home = Home(copy)
        counts: list[Counter[str]] = []
        is_over = threading.Event()

        def sample() -> None:
            while not is_over.wait(SAMPLE_EVERY_s):
                counts.append(processes(home))

        sampler = threading.Thread(target=sample, daemon=True)  # a client that finds no engine ends us
        sampler.start()
        started: list[Client] = []
        starters = [
            threading.Thread(target=lambda: started.append(Client(env, folder))) for _ in range(arguments.clients)
        ]
        for thread in starters:  # all at once
            thread.start()
        for thread in starters:
            thread.join()
        started[0].recall("anything")  # the engine is warm
        maker = Maker()
        questions = [f"{maker.asked(WORDS_A_QUESTION)}?" for _ in range(NUM_QUESTIONS)]
        invented_sessions(Path(folder) / "claude", arguments.files, chance, maker)
        while (said := children.progress(home)) is None or said.phase != "importing" or said.files_total < 10:
            time.sleep(0.2)
        pid = int(reach.ask(home, {"want": "status"}, 10)["pid"])
        cpu_before_s = cpu_s(pid)
        latencies, errors = paced(started, questions, arguments.seconds, arguments.every, chance)
        print(f"CPU of the engine for each question: {(cpu_s(pid) - cpu_before_s) / len(latencies) * 1000:.0f} ms")
        said = children.progress(home)
        print(f"read meanwhile: {said.files_done} of {said.files_total} files, now {said.phase}")
        tell(f"{len(started)} clients, each every {arguments.every:.1f} s", latencies, errors)
        tell("all in the same moment", *paced(started, questions, 0.0, 0.0, chance))
        now = reach.ask(home, {"want": "status"}, 10)
        print(f"the engine after that: {now['clients']} clients, {now['resident_mb']} MB")
        for client in started:
            client.process.kill()
            client.process.wait()
        killed = time.monotonic()
        while processes(home):
            time.sleep(0.1)
        print(f"nothing is left {time.monotonic() - killed:.1f} s after all clients were killed (they linger 2 s here)")
        is_over.set()
        sampler.join()
        for kind in ("engine", "ingest"):
            print(
                f"{kind} processes in {len(counts)} samples: {dict(sorted(Counter(c[kind] for c in counts).items()))}"
            )


def paced(
    clients: list[Client], questions: list[str], seconds: float, every_s: float, chance: random.Random
) -> tuple[list[float], list[str]]:
    """Let all ask, each at its own pace, until the time is over; milliseconds of each question, and errors."""
    latencies: list[float] = []
    errors: list[str] = []
    seeds = [chance.random() for _ in clients]
    start = threading.Barrier(len(clients))

    def ask(client: Client, seed: float) -> None:
        own = random.Random(seed)
        start.wait()
        ends_s = time.monotonic() + seconds
        while True:
            time.sleep(own.uniform(0, 2 * every_s))
            began = time.perf_counter()
            try:
                client.recall(own.choice(questions))
            except (AssertionError, OSError, ValueError) as problem:
                errors.append(repr(problem)[:200])
            latencies.append((time.perf_counter() - began) * 1000)
            if time.monotonic() >= ends_s:
                return

    threads = [threading.Thread(target=ask, args=pair) for pair in zip(clients, seeds, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies, errors


def tell(what: str, latencies: list[float], errors: list[str]) -> None:
    cuts = statistics.quantiles(latencies, n=20)
    print(
        f"{what}: {len(latencies)} questions, p50 {statistics.median(latencies):.0f} ms, p95 {cuts[18]:.0f} ms, "
        f"most {max(latencies):.0f} ms, {len(errors)} errors {errors[:2] or ''}",
        flush=True,
    )


if __name__ == "__main__":
    main()
