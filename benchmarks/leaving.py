"""How long it takes until nothing is left when all agents are killed, with the waits as they are installed.

    python benchmarks/leaving.py [--clients 16]

The memory home is made for this. Linux only: processes are looked for in /proc.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "benchmarks"))

from clients import processes  # noqa: E402
from idle import Client  # noqa: E402

from lmm_mcp.paths import Home  # noqa: E402

GIVE_UP_s = 180.0


def main() -> None:
    """Start the agents, kill them, wait."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=16)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lmm-leaving-") as folder:
        home = Home(Path(folder) / "lmm").ensure()
        env = {name: value for name, value in os.environ.items() if not name.startswith("LMM_")}
        env |= {"LMM_HOME": str(home.root), "HOME": folder, "USERPROFILE": folder, "LMM_EMBEDDER_NAME": "none"}
        clients = [Client(env, folder) for _ in range(arguments.clients)]
        while processes(home)["ingest"] < 1:
            time.sleep(0.1)
        print(f"{arguments.clients} agents, and {dict(processes(home))}")
        for client in clients:
            client.process.send_signal(signal.SIGKILL)
            client.process.wait()
        killed_s = time.monotonic()
        while processes(home).total() and time.monotonic() - killed_s < GIVE_UP_s:
            time.sleep(0.1)
        left = processes(home)
        print(
            f"all killed; {'left after' if left else 'nothing left after'} {time.monotonic() - killed_s:.1f} s {dict(left)}"
        )


if __name__ == "__main__":
    main()
