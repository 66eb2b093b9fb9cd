"""Every agent's sessions of a corpus, read into a memory of their own and counted twice: by the archive, and by scanners of each format.

    python benchmarks/reading.py CORPUS_DIR

CORPUS_DIR holds `MANIFEST.tsv` and the files that it names. Each agent's files are laid out in an empty home folder as the agent
keeps them, the states of sessions that grew one after the other, and read without an embedder, by words alone, into an empty
memory home in this process. Prints one row for each agent. The scanners are those of the tests.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lmm_mcp.store.archive import Archive
from tests.corpus import places
from tests.corpus.everything import SCANNERS, Everything

COLUMNS = (
    "agent",
    "files",
    "sessions",
    "sub-agents",
    "prompts",
    "replies",
    "calls",
    "results",
    "counted",
    "lost",
    "doubled",
    "invented",
    "changed",
    "not understood",
    "s",
    "MB/s",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    corpus = parser.parse_args().corpus
    print("| " + " | ".join(COLUMNS) + " |")
    print("|---" * len(COLUMNS) + "|")
    total: Counter[str] = Counter()
    for agent in sorted(SCANNERS):
        with tempfile.TemporaryDirectory() as folder:
            row = measured(corpus, agent, Path(folder))
        total.update({name: value for name, value in row.items() if isinstance(value, int | float)})
        show(row)
    num_bytes = total.pop("bytes")
    show({"agent": "all", **total, "bytes": num_bytes})


def show(row: dict[str, str | int | float]) -> None:
    seconds, num_bytes = float(row["s"]), float(row["bytes"])
    shown = {**row, "s": f"{seconds:.1f}", "MB/s": f"{num_bytes / 1e6 / seconds:.1f}"}
    print(
        "| "
        + " | ".join(f"{value:,}" if isinstance(value := shown[name], int) else str(value) for name in COLUMNS)
        + " |"
    )


def measured(corpus: Path, agent: str, folder: Path) -> dict[str, str | int | float]:
    """Read one agent's files and count."""
    files = [file for file in places.laid_out(corpus, folder / "user") if file.agent == agent]
    memory = Everything.laid_out(folder, files)
    started = time.perf_counter()
    memory.read_in_steps()
    seconds = time.perf_counter() - started
    archived = memory.archived()
    found = memory.tally(agent, archived)
    threads = [thread for _, thread in Archive(memory.home.archive).threads()]
    kinds = Counter(event.kind for events in archived.values() for event in events)
    return {
        "agent": agent,
        "files": len(files),
        "sessions": sum(not thread.is_subagent for thread in threads),
        "sub-agents": sum(thread.is_subagent for thread in threads),
        "prompts": kinds["prompt"],
        "replies": kinds["reply"],
        "calls": kinds["call"],
        "results": kinds["result"],
        "counted": found.num.total(),
        "lost": len(found.lost),
        "doubled": len(found.doubled),
        "invented": len(found.invented),
        "changed": len(found.changed),
        "not understood": len(memory.problems()),
        "s": seconds,
        "bytes": sum(file.stored.stat().st_size for file in files),
    }


if __name__ == "__main__":
    main()
