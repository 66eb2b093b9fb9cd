"""How long it takes until a home folder full of sessions can be searched by words, and how much memory that needs.

    python benchmarks/import_sessions.py HOME_FOLDER [--runs 3]

HOME_FOLDER holds `.claude` and `.codex`. Each run reads it into a fresh memory home with a fresh process, without an
embedder; the process is the one that `lmm import` starts. Prints one line a run and the median.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lmm_mcp.store.chunks import ChunkStore


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    files = [path for path in arguments.home.rglob("*") if path.name.endswith((".jsonl", ".jsonl.zst"))]
    size_mb = sum(path.stat().st_size for path in files) / 1e6
    times = []
    for run in range(arguments.runs):
        with tempfile.TemporaryDirectory() as folder:
            env = {
                **os.environ,
                "HOME": str(arguments.home),
                "LMM_HOME": folder,
                "LMM_EMBEDDER_NAME": "none",
                "CLAUDE_CONFIG_DIR": str(arguments.home / ".claude"),
                "CODEX_HOME": str(arguments.home / ".codex"),
            }
            started = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "ingest", "--once"],
                env=env,
                check=True,
                stdin=subprocess.DEVNULL,
                capture_output=True,
            )
            seconds = time.perf_counter() - started
            num_chunks = ChunkStore.open(Path(folder) / "store").count()
            disk_mb = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 1e6
        times.append(seconds)
        # Linux counts in kB; the highest of all children so far, so the first run is the one to read.
        peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(
            f"run {run + 1}: {len(files)} files, {size_mb:.1f} MB in {seconds:.2f} s; {num_chunks} chunks; {disk_mb:.1f} MB on disk; peak {peak_mb:.0f} MB"
        )
    print(f"median {statistics.median(times):.2f} s of {len(times)} runs")


if __name__ == "__main__":
    main()
