"""How long the store takes to write and to answer, over synthetic chunks: `python benchmarks/store.py [10000 100000]`.

The texts are invented: words drawn with the frequencies of natural language (Zipf), about 1,500 characters a chunk, with
paths and identifiers among them. Vectors are random and normalised. Nothing is downloaded, nobody's sessions are read.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lmm_mcp.domain.chunk import Chunk, Line, Span
from lmm_mcp.store.chunks import ChunkStore, Scope
from lmm_mcp.store.ledger import Ledger

DIM = 384
CHUNKS_A_THREAD = 100
THREADS_A_COMMIT = 20
PROJECTS = 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", type=int, default=[10_000, 100_000], help="numbers of chunks")
    for size in parser.parse_args().sizes:
        folder = Path(tempfile.mkdtemp(prefix="lmm-store-"))
        try:
            measure(size, folder)
        finally:
            shutil.rmtree(folder)
    return 0


def measure(size: int, folder: Path) -> None:
    print(f"\n{size:,} chunks")
    store = ChunkStore.open(folder / "store", create=True)
    make = Maker()
    writing = 0.0
    for start in range(0, size, CHUNKS_A_THREAD * THREADS_A_COMMIT):
        stop = min(size, start + CHUNKS_A_THREAD * THREADS_A_COMMIT)
        items = [
            ("codex", f"t{at}", make.thread(at)) for at in range(start // CHUNKS_A_THREAD, stop // CHUNKS_A_THREAD)
        ]
        began = time.perf_counter()
        store.replace_threads(items)
        writing += time.perf_counter() - began
    say("insert, analysis included", f"{writing:.2f} s, {size / writing:,.0f} rows/s")
    once("optimize (text index, compaction, term counts)", store.optimize)
    store.set_embedder("synthetic", "1", DIM)
    ids = list(store._pending or ()) or [chunk.id for chunk in store.unembedded(size)]
    began = time.perf_counter()
    for start in range(0, size, 2_000):
        part = ids[start : start + 2_000]
        store.add_vectors(
            [(chunk_id, 0, vector) for chunk_id, vector in zip(part, make.vectors(len(part)), strict=True)]
        )
    say("add vectors", f"{time.perf_counter() - began:.2f} s")
    once("optimize", store.optimize)

    scope = Scope(project="project-3", until_ms=10**12)
    often("lexical, 10 terms", lambda: store.lexical(make.question(), Scope(), 60))
    often("lexical, 10 terms, one project (5 %)", lambda: store.lexical(make.question(), scope, 60))
    often("nearest", lambda: store.nearest(make.vectors(1)[0], Scope(), 60))
    often("nearest, one project (5 %)", lambda: store.nearest(make.vectors(1)[0], scope, 60))
    often("get 40", lambda: store.get(make.some(ids, 40)))
    often("count of a scope", lambda: store.count(scope))
    thread = make.thread(0)
    often("replace_thread, 100 chunks, unchanged", lambda: store.replace_thread("codex", "t0", thread), 10)
    often(
        "replace_thread, 1 of 100 chunks new", lambda: store.replace_thread("codex", "t0", [*thread, make.chunk(0)]), 10
    )
    often("lexical, with some rows not indexed", lambda: store.lexical(make.question(), Scope(), 60))
    once("optimize", store.optimize)
    often("stats", store.stats, 3)
    once("purge", store.purge)
    stats = store.stats()
    say("on disk", f"{stats.disk_bytes / 1e6:.0f} MB, {stats.num_fragments} files, {stats.num_versions} versions")

    ledger = Ledger.open(folder / "ledger.sqlite")
    events = [f"event-{number:032}" for number in range(size)]
    once("ledger: claim as many events", lambda: ledger.claim("codex", "t1", events))
    once("ledger: owners of them", lambda: ledger.owners("codex", events))


class Maker:
    """Invents chunks, questions and vectors; the same ones in every run."""

    def __init__(self) -> None:
        self._dice = np.random.default_rng(7)
        letters = np.array(list("etaoinshrdlucmfwyp"))
        lengths = self._dice.integers(3, 10, 30_000)
        self._words = ["".join(self._dice.choice(letters, length)) for length in lengths]
        self._number = 0

    def chunk(self, ordinal: int, thread: str = "t0") -> Chunk:
        self._number += 1
        ranks = np.minimum(self._dice.zipf(1.2, 230), len(self._words)) - 1
        words = [self._words[rank] for rank in ranks]
        words[::20] = [f"{a}_{b}" for a, b in zip(words[::20], words[1::20], strict=False)]
        lines = [
            Line("agent", " ".join(words[at : at + 23]), Span(f"e{self._number}", at, at + 23))
            for at in range(0, 230, 23)
        ]
        return Chunk(
            id=f"{self._number:016x}",
            agent="codex",
            session_id=thread,
            thread_id=thread,
            project=f"project-{int(thread[1:]) % PROJECTS}",
            branch="main",
            first_ms=1_000 + self._number,
            last_ms=1_500 + self._number,
            part=0,
            ordinal=ordinal,
            header=f"{thread} main 2026-11-20 codex",
            lines=tuple(lines),
            files=(f"src/{words[0]}/{words[1]}.py",),
            commands=(f"pytest tests/{words[2]}  [exit 0]",),
            content_hash=str(self._number),
        )

    def thread(self, number: int) -> list[Chunk]:
        return [self.chunk(ordinal, f"t{number}") for ordinal in range(CHUNKS_A_THREAD)]

    def question(self) -> list[str]:
        return [self._words[rank] for rank in np.minimum(self._dice.zipf(1.2, 10), len(self._words)) - 1]

    def vectors(self, count: int) -> np.ndarray:
        found = self._dice.standard_normal((count, DIM), dtype=np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    def some(self, ids: list[str], count: int) -> list[str]:
        return [ids[at] for at in self._dice.integers(0, len(ids), count)]


def once(name: str, act: Callable[[], object]) -> None:
    began = time.perf_counter()
    act()
    say(name, f"{time.perf_counter() - began:.2f} s")


def often(name: str, act: Callable[[], object], times: int = 50) -> None:
    act()
    taken_ms = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        taken_ms.append((time.perf_counter() - began) * 1000)
    taken_ms.sort()
    say(name, f"p50 {statistics.median(taken_ms):.1f} ms, p95 {taken_ms[int(times * 0.95)]:.1f} ms")


def say(name: str, found: str) -> None:
    print(f"  {name:48} {found}")


if __name__ == "__main__":
    sys.exit(main())
