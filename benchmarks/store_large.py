"""A store of a million chunks: written, kept up, searched: `python benchmarks/store_large.py [1000000] [--keep FOLDER]`.

Text and vectors are those of `synthetic.py`: clustered vectors, Zipf text, the asker's project 5 %. Chunks come in batches
of 2,000 as in a bulk import, vectors follow, upkeep runs when it is due, as the ingest process does it. Reading is measured
in a process of its own, over the whole way of a question but the model: its vector is given.
`--keep`: leave the store in this folder, or take it from there if it lies there already.
"""

import argparse
import gc
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from store_live import settled
from synthetic import CHUNKS_A_THREAD, DIM, MINE, Maker

from lmm_mcp.domain.recall import Question
from lmm_mcp.recall.pipeline import Recaller
from lmm_mcp.server.engine import COLLECT_AT
from lmm_mcp.store.chunks import ChunkStore, Scope
from lmm_mcp.store.terms import terms

THREADS_A_BATCH = 20
NUM_QUESTIONS = 200
NUM_JUDGED = 100
TOP = 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("size", nargs="?", type=int, default=1_000_000, help="number of chunks")
    parser.add_argument("--words", type=int, default=100, help="words a chunk; 230 make 1,500 characters")
    parser.add_argument("--keep", type=Path, help="folder of the store")
    parser.add_argument("--read", action="store_true", help="only search what lies there")
    asked = parser.parse_args()
    folder = asked.keep or Path(tempfile.mkdtemp(prefix="lmm-large-"))
    try:
        if asked.read:
            read(folder / "store", asked.size, asked.words)
            return 0
        if not (folder / "written.json").exists():
            write(folder, asked.size, asked.words)
        print((folder / "written.json").read_text(encoding="utf-8"))
        again = [
            sys.executable,
            __file__,
            str(asked.size),
            "--words",
            str(asked.words),
            "--keep",
            str(folder),
            "--read",
        ]
        return subprocess.run(again, check=False).returncode
    finally:
        if asked.keep is None:
            shutil.rmtree(folder)


def write(folder: Path, size: int, words: int) -> None:
    """Write chunks and vectors as the ingest process does, and note what that took."""
    store = ChunkStore.open(folder / "store", create=True)
    make = Maker(words=words)
    took = {"write_s": 0.0, "upkeep_s": 0.0, "longest_upkeep_s": 0.0, "vectors_s": 0.0}
    num_upkeeps = 0

    def keep_up(*, busy: bool = False, leaving: bool = False) -> None:
        nonlocal num_upkeeps
        if store.upkeep_due(busy=busy, leaving=leaving):
            began = time.perf_counter()
            store.keep_up(busy=busy, leaving=leaving)
            last = time.perf_counter() - began
            took["upkeep_s"] += last
            took["longest_upkeep_s"] = max(took["longest_upkeep_s"], last)
            num_upkeeps += 1
            if trouble := store.trouble():
                raise SystemExit(trouble.problem)

    for first in range(0, size // CHUNKS_A_THREAD, THREADS_A_BATCH):
        items = list(make.threads(first, THREADS_A_BATCH))
        began = time.perf_counter()
        store.replace_threads(items)
        took["write_s"] += time.perf_counter() - began
        keep_up(busy=True)
        if first % 1_000 == 0:
            print(f"  {first * CHUNKS_A_THREAD:,} chunks, {took}, {peak_mb():,.0f} MB", flush=True)
    keep_up(leaving=True)
    store.set_embedder("synthetic", "1", DIM)
    while chunks := store.unembedded(2_000):
        made = CENTRES.embedded(chunks)
        began = time.perf_counter()
        store.add_vectors(*made)
        took["vectors_s"] += time.perf_counter() - began
        keep_up()
        if (num_left := store.num_unembedded()) % 50_000 < 2_000:
            print(f"  {num_left:,} chunks without vectors, {took}, {peak_mb():,.0f} MB", flush=True)
    keep_up(leaving=True)
    stats = store.stats()
    told = {name: round(value, 1) for name, value in took.items()} | {
        "chunks": stats.num_chunks,
        "upkeeps": num_upkeeps,
        "peak_mb": round(peak_mb()),
        "disk_mb": round(stats.disk_bytes / 1e6),
        "shelves": stats.num_shelves,
        "fragments": stats.num_fragments,
        "versions": stats.num_versions,
    }
    (folder / "written.json").write_text(json.dumps(told), encoding="utf-8")


CENTRES = Maker(words=1)


def read(folder: Path, size: int, words: int) -> None:
    """Search in a process of its own, and compare with a search through every vector."""
    asks = Maker(words=words, seed=11)
    before_mb = resident_mb()
    store = ChunkStore.open(folder)
    store.hold()  # as an engine does, and the next line
    gc.set_threshold(*COLLECT_AT)
    vectors = CENTRES.vectors(NUM_QUESTIONS)
    texts = [asks.question() for _ in range(NUM_QUESTIONS)]

    numbers = {text: n for n, text in enumerate(texts)}

    class Given:
        """A model whose answer is known."""

        name, version, dim = "synthetic", "1", DIM

        def embed(self, texts: list[str]) -> np.ndarray:
            return vectors[numbers.get(texts[0], 0)][None]

    recaller = Recaller(store, Given())  # type: ignore[arg-type]
    mine = Scope(project=MINE)
    settled(lambda n: recaller.recall(Question(texts[n])))
    timed("recall, my project", lambda n: recaller.recall(Question(texts[n], project=MINE)))
    timed("recall, everything", lambda n: recaller.recall(Question(texts[n])))
    timed("by words, my project", lambda n: store.lexical(terms(texts[n]), mine, 60))
    timed("by words, everything", lambda n: store.lexical(terms(texts[n]), Scope(), 60))
    timed("nearest, my project", lambda n: store.nearest(vectors[n], mine, 60))
    timed("nearest, everything", lambda n: store.nearest(vectors[n], Scope(), 60))
    ids = [f"{n * 0x9E3779B97F4A7C15 % 2**64:016x}" for n in range(0, size, size // 4_000)]
    timed("40 chunks by id", lambda n: store.get(ids[n * 20 : n * 20 + 40]))
    timed("count of my project", lambda _: store.count(mine), 5)
    timed("projects", lambda _: store.projects(), 5)
    timed("stats", lambda _: store.stats(), 3)
    timed("threads", lambda _: store.threads(), 3)
    timed("num_unembedded", lambda _: store.num_unembedded(), 3)
    print(f"  reader: {before_mb:,.0f} MB before, {resident_mb():,.0f} MB after, peak {peak_mb():,.0f} MB", flush=True)
    for name, scope in (("my project", mine), ("everything", Scope())):
        print(f"  recall@{TOP} against brute force, {name}: {judged(store, vectors[:NUM_JUDGED], scope):.3f}")


def judged(store: ChunkStore, questions: np.ndarray, scope: Scope) -> float:
    """Share of the nearest by looking at every vector that `nearest` finds, too."""
    best_ids: list[list[str]] = [[] for _ in questions]
    best: list[np.ndarray] = [np.empty(0, np.float32) for _ in questions]
    for shelf in store._shelves():
        for batch in shelf.vectors.search().select(["chunk_id", "vector", "project"]).limit(2**31 - 1).to_batches(8192):
            rows = batch["vector"].flatten().to_numpy().reshape(-1, DIM)
            ids = np.array(batch["chunk_id"].to_pylist())
            if scope.project is not None:
                meant = np.array(batch["project"].to_pylist()) == scope.project
                rows, ids = rows[meant], ids[meant]
            if not len(ids):
                continue
            scores = questions @ rows.T
            for n, row in enumerate(scores):
                top = np.argsort(-row)[:TOP]
                names, values = [*best_ids[n], *ids[top]], np.append(best[n], row[top])
                order = np.argsort(-values)[:TOP]
                best_ids[n], best[n] = [names[at] for at in order], values[order]
    hits = 0
    for n, question in enumerate(questions):
        hits += len({hit.chunk_id for hit in store.nearest(question, scope, 60)[:TOP]} & set(best_ids[n]))
    return hits / (TOP * len(questions))


def timed(name: str, act: Callable[[int], object], times: int = NUM_QUESTIONS) -> None:
    """Print how long it took, and how much computing that was: on a shared machine the one grows with what others do."""
    act(0)
    taken_ms = []
    spent_s = time.process_time()
    for n in range(times):
        began = time.perf_counter()
        act(n)
        taken_ms.append((time.perf_counter() - began) * 1000)
    spent_ms = (time.process_time() - spent_s) * 1000 / times
    taken_ms.sort()
    p50, p95 = taken_ms[len(taken_ms) // 2], taken_ms[int(len(taken_ms) * 0.95)]
    print(f"  {name:28} p50 {p50:6.1f} ms   p95 {p95:6.1f} ms   of a core {spent_ms:6.1f} ms", flush=True)


def peak_mb() -> float:
    """Most memory this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def resident_mb() -> float:
    """Memory this process holds now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    sys.exit(main())
