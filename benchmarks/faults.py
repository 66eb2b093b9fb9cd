"""Every fault of reading, keeping and serving that the suite tries, at full length, by one command.

    python benchmarks/faults.py [--kills 200] [--quick]

Runs, one after the other: `kill -9` of the ingest process, also while it embeds, and of the engine (benchmarks/killing.py), then
the tests of the suite with bad files and deadly ones, full and read-only disks, clocks set back, unmounted folders, limits, files
that grow while they are read, and kills during upkeep, joining of shelves, embedding anew, forgetting, deriving and serving. What needs rights that this user has not is skipped, and pytest says so. Exit code 1 where one fails.
"""

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = (
    *(
        f"walks/test_{name}.py"
        for name in "bad_input deadly_file deriving following growing_files killing limits_walk reembedding".split()
    ),
    *(
        f"lmm_mcp/test_{name}.py"
        for name in "engine fact_store forgetting_killed keeper next_vectors pipe running shelves upkeep".split()
    ),
    "ingest/test_sqlite.py",
    "ingest/test_watch.py",
)


def main() -> int:
    """Run them all; 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="only the tests of the suite")
    arguments = parser.parse_args()
    commands = []
    if not arguments.quick:
        commands += [
            ["benchmarks/killing.py", "--kills", str(arguments.kills), "--what", what] for what in ("ingest", "engine")
        ]
        commands += [
            ["benchmarks/killing.py", "--kills", str(max(1, arguments.kills // 5)), "--embed", "--megabytes", "1"]
        ]
    commands += [["-m", "pytest", "-q", *(f"tests/{name}" for name in TESTS)]]
    codes = [subprocess.call([sys.executable, *command], cwd=ROOT) for command in commands]
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
