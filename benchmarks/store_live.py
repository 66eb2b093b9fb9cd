"""A store that grows as live work lets it grow, against one written at once: `python benchmarks/store_live.py [100000]`.

2,000 batches: each is a session that grows by 50 chunks, every second one rewrites the last chunk of the first half, and the
vectors of what is new follow at once. Upkeep runs when it is due, as the ingest process does it. Disk is compared with a
store of the same rows that was written at once; a question goes the whole way but for the model, whose vector is given.
"""

import argparse
import gc
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from synthetic import CHUNKS_A_THREAD, DIM, MINE, Maker

from lmm_mcp import memory
from lmm_mcp.domain.chunk import Chunk
from lmm_mcp.domain.recall import Question
from lmm_mcp.recall.pipeline import Recaller
from lmm_mcp.server.engine import COLLECT_AT
from lmm_mcp.store.chunks import ChunkStore, Scope
from lmm_mcp.store.tables import disk_bytes

HALF = CHUNKS_A_THREAD // 2
NUM_QUESTIONS = 100
IDLE_s = 0.05
"""Of a core, in a second."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("size", nargs="?", type=int, default=100_000, help="number of chunks")
    parser.add_argument("--words", type=int, default=100, help="words a chunk; 230 make 1,500 characters")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="lmm-live-"))
    try:
        at_once_mb = written_at_once(folder / "at once", asked.size, asked.words)
        grown(folder / "live", asked.size, asked.words, at_once_mb)
    finally:
        shutil.rmtree(folder)
    return 0


def written_at_once(folder: Path, size: int, words: int) -> float:
    """MB on disk of a store written in large batches and kept up once."""
    store = ChunkStore.open(folder, create=True)
    make, vectors = Maker(words=words), Maker(words=1)
    began = time.perf_counter()
    for first in range(0, size // CHUNKS_A_THREAD, 50):
        store.replace_threads(list(make.threads(first, 50)))
    store.set_embedder("synthetic", "1", DIM)
    while chunks := store.unembedded(5_000):
        store.add_vectors(*vectors.embedded(chunks))
    store.optimize(retain_s=0)
    store.optimize(retain_s=0)
    found = disk_bytes(folder) / 1e6
    print(f"  written at once: {time.perf_counter() - began:.0f} s, {found:,.0f} MB, {shape(store)}", flush=True)
    return found


def grown(folder: Path, size: int, words: int, at_once_mb: float) -> None:
    """Grow a store by small batches and measure it before and after upkeep."""
    store = ChunkStore.open(folder, create=True)
    store.set_embedder("synthetic", "1", DIM)
    make, vectors = Maker(words=words), Maker(words=1)
    writes_ms: list[float] = []
    upkeeps_s: list[float] = []
    peak, peak_mb = 0.0, 0.0
    num_batches = 2 * size // CHUNKS_A_THREAD
    for number in range(size // CHUNKS_A_THREAD):
        ((agent, thread_id, chunks),) = make.threads(number, 1)
        for rows in (chunks[:HALF], [*chunks[: HALF - 1], told_anew(chunks[HALF - 1]), *chunks[HALF:]]):
            began = time.perf_counter()
            store.replace_thread(agent, thread_id, rows)
            waiting = store.unembedded(2 * HALF)
            store.add_vectors(*vectors.embedded(waiting))
            writes_ms.append((time.perf_counter() - began) * 1000)
            if store.upkeep_due():
                began = time.perf_counter()
                store.keep_up()
                upkeeps_s.append(time.perf_counter() - began)
            peak_mb = max(peak_mb, memory.resident_bytes() / 1e6)
        if number % 50 == 49:
            share = disk_bytes(folder) / 1e6 / (at_once_mb * (number + 1) * CHUNKS_A_THREAD / size)
            peak = max(peak, share if number > size // CHUNKS_A_THREAD // 10 else 0)
    print(f"  {num_batches:,} batches: write {told(writes_ms)}", flush=True)
    if trouble := store.trouble():
        raise SystemExit(trouble.problem)
    print(
        f"  {len(upkeeps_s)} upkeeps, {sum(upkeeps_s):.0f} s in all, longest {max(upkeeps_s, default=0):.1f} s, "
        f"process at most {peak_mb:,.0f} MB"
    )
    now_mb = disk_bytes(folder) / 1e6
    print(
        f"  before upkeep: {now_mb:,.0f} MB = {now_mb / at_once_mb:.2f}x (at most {peak:.2f}x on the way), {shape(store)}"
    )
    ask(folder)
    began = time.perf_counter()
    store.optimize(retain_s=0)
    took_s = time.perf_counter() - began
    store.optimize(retain_s=0)
    now_mb = disk_bytes(folder) / 1e6
    print(f"  after upkeep ({took_s:.1f} s): {now_mb:,.0f} MB = {now_mb / at_once_mb:.2f}x, {shape(store)}")
    ask(folder)
    assert store.count() == size == store.stats().num_embedded


def told_anew(chunk: Chunk) -> Chunk:
    """The chunk with another text."""
    return replace(chunk, content_hash=f"{chunk.content_hash} told anew")


def shape(store: ChunkStore) -> str:
    """Of what the store consists."""
    stats = store.stats()
    return f"{stats.num_shelves} shelves, {stats.num_fragments} files, {stats.num_versions} versions, {stats.num_unindexed:,} rows not indexed"


def ask(folder: Path) -> None:
    """Ask from a handle of its own, as an agent would."""
    store = ChunkStore.open(folder)
    store.hold()  # as an engine does, and the next line
    gc.set_threshold(*COLLECT_AT)
    make = Maker(words=1, seed=11)
    questions = [make.question() for _ in range(NUM_QUESTIONS)]
    vectors = make.vectors(NUM_QUESTIONS)

    class Given:
        """A model whose answer is known."""

        name, version, dim = "synthetic", "1", DIM

        def embed(self, texts: list[str]) -> np.ndarray:
            return vectors[questions.index(texts[0]) if texts[0] in questions else 0][None]

    recaller = Recaller(store, Given())  # type: ignore[arg-type]
    took_s = settled(lambda n: recaller.recall(Question(questions[n])))
    print(f"    all that is held was brought in {took_s:.0f} s after the first question, beside others", flush=True)
    timed("recall, my project", lambda n: recaller.recall(Question(questions[n], project=MINE)))
    timed("recall, everything", lambda n: recaller.recall(Question(questions[n])))
    timed("by words, everything", lambda n: store.lexical(questions[n].split(), Scope(), 60))
    timed("nearest, everything", lambda n: store.nearest(vectors[n], Scope(), 60))


def settled(ask: Callable[[int], object]) -> float:
    """Ask, as agents would, until the process does nothing between two questions; seconds."""
    began, spent_s = time.perf_counter(), 1.0
    for n in range(NUM_QUESTIONS):
        if spent_s < IDLE_s:
            break
        ask(n)
        before_s = time.process_time()
        time.sleep(1)
        spent_s = time.process_time() - before_s
    return time.perf_counter() - began


def timed(name: str, act: Callable[[int], object]) -> None:
    act(0)
    taken_ms = []
    spent_s = time.process_time()
    for n in range(NUM_QUESTIONS):
        began = time.perf_counter()
        act(n)
        taken_ms.append((time.perf_counter() - began) * 1000)
    spent_ms = (time.process_time() - spent_s) * 1000 / NUM_QUESTIONS
    print(f"    {name:24} {told(taken_ms)}, of a core {spent_ms:.1f} ms", flush=True)


def told(taken_ms: list[float]) -> str:
    """Median and the worst of twenty."""
    taken_ms = sorted(taken_ms)
    return f"p50 {taken_ms[len(taken_ms) // 2]:.1f} ms, p95 {taken_ms[int(len(taken_ms) * 0.95)]:.1f} ms"


if __name__ == "__main__":
    sys.exit(main())
