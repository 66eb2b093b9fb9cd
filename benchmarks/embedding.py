"""How fast text becomes vectors: bulk chunks a second, one question in milliseconds, time to be ready, resident memory.

    python benchmarks/embedding.py [--threads N] [--chunks N] [--tokens N] [--model NAME]

The chunks are synthetic: sentences and code about made-up things, cut to about so many tokens of the model. Run it on a calm
machine: it prints the load beside the figures. Without --model it makes MiniLM from the bundled package in a temporary folder.
"""

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from lmm_mcp import embedder_fetch, embedding
from lmm_mcp.paths import Home, home_of

NOUNS = (
    "lock ledger shard parser timeout retry schema worker branch digest cache socket token index queue commit".split()
)
VERBS = "fails hangs returns rejects rebuilds truncates forgets doubles skips replays".split()


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--chunks", type=int, default=400)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--model", help="a model that is ready in LMM_HOME")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = home_of(os.environ) if asked.model else Home(Path(temporary))
        started = time.perf_counter()
        if not asked.model:
            embedder_fetch.install_bundled(home)
        made_s = time.perf_counter() - started
        before_mb = resident_mb()
        started = time.perf_counter()
        embedder = embedding.load_named(home, asked.model or embedding.MINILM, num_threads=asked.threads)
        ready_s = time.perf_counter() - started
        if isinstance(embedder, embedding.NoEmbedder):
            sys.exit(f"{embedder.reason}: {embedder.next_step}")
        chunks = synthetic_chunks(embedder, asked.chunks, asked.tokens)
        mean_tokens = statistics.mean(map(embedder.num_tokens, chunks))
        embedder.embed(chunks[:8])
        rates, core_rates = [], []
        for _ in range(3):
            started, started_cpu = time.perf_counter(), time.process_time()
            embedder.embed(chunks)
            rates.append(len(chunks) / (time.perf_counter() - started))
            core_rates.append(len(chunks) / (time.process_time() - started_cpu))
        query_ms = []
        for number in range(60):
            started = time.perf_counter()
            embedding.embed_query(
                embedder, f"why does the {NOUNS[number % len(NOUNS)]} fail after the retry of worker {number}?"
            )
            query_ms.append(1000 * (time.perf_counter() - started))
        print(
            f"model {embedder.name} version {embedder.version}, {asked.threads} threads, load {os.getloadavg()[0]:.1f}"
        )
        print(f"made in            {made_s:8.2f} s")
        print(f"ready in           {ready_s:8.2f} s")
        print(
            f"bulk, best of 3    {max(rates):8.1f} chunks/s of {mean_tokens:.0f} tokens ({max(rates) * mean_tokens:.0f} tokens/s)"
        )
        if not asked.model:
            ceiling = matmul_flops() / minilm_flops(mean_tokens)
            print(f"  at most          {ceiling:8.1f} chunks/s, at the speed of plain matrix products of its shape")
        print(f"bulk, all three    {', '.join(f'{rate:.1f}' for rate in rates):>8}")
        print(f"bulk, a core second{max(core_rates):8.1f} chunks (what a busy machine would do if it were calm)")
        print(f"question, median   {statistics.median(query_ms):8.1f} ms (worst {max(query_ms):.1f})")
        print(f"resident           {resident_mb():8.0f} MB ({before_mb:.0f} before)")


def matmul_flops() -> float:
    """Floating-point operations a second of numpy's float32 product in the shape of the widest layer; the best of 12."""
    tokens, hidden, inner = 6400, 384, 1536
    left = np.ones((tokens, hidden), np.float32)
    right = np.ones((hidden, inner), np.float32)
    seconds = []
    for _ in range(12):
        started = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - started)
    return 2 * tokens * hidden * inner / min(seconds)


def minilm_flops(num_tokens: float) -> float:
    """Floating-point operations of MiniLM's matrix products for one text: 6 layers, 384 wide, 1,536 within."""
    projections = 2 * (4 * 384 * 384 + 2 * 384 * 1536)
    attention = 2 * 2 * 384 * num_tokens
    return 6 * num_tokens * (projections + attention)


def synthetic_chunks(embedder: embedding.OnnxEmbedder, count: int, num_tokens: int) -> list[str]:
    """Make chunks of about so many tokens, from 75 % to 125 % of it, the same ones every time."""
    dice = random.Random(7)
    chunks = []
    for _ in range(count):
        wanted = min(int(num_tokens * dice.uniform(0.75, 1.25)), embedder.max_tokens)
        words: list[str] = []
        while embedder.num_tokens(" ".join(words)) < wanted:
            words += _line(dice).split(" ")
        while embedder.num_tokens(" ".join(words)) > wanted:
            words.pop()
        chunks.append(" ".join(words))
    return chunks


def _line(dice: random.Random) -> str:
    noun, verb, other = dice.choice(NOUNS), dice.choice(VERBS), dice.choice(NOUNS)
    return dice.choice(
        (
            f"The {noun} {verb} when the {other} is stale, so we moved it behind the {dice.choice(NOUNS)}.",
            f"def {noun}_{other}(self, {other}: int = {dice.randrange(999)}) -> str: return self.{noun}[{other}]",
            f"$ pytest -q tests/{noun}/test_{other}.py::{verb}  [exit {dice.randrange(3)}]",
        )
    )


def resident_mb() -> float:
    """Read this process's resident memory where the system says it (Linux), else 0."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
