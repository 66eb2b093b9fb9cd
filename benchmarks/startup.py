"""How long an agent waits for `lmm mcp`: from spawn to the handshake answered, and to the list of tools answered.

    python benchmarks/startup.py [--runs 10] [--era legacy|2026-07-28]

Speaks the protocol by hand, so that no client's own start is measured. Uses an empty memory home of its own. `cold`: no engine
runs, `warm`: one does. A bare server of the SDK, with one tool that does nothing, is started in turn with ours: what it needs
no engine can save. Resident memory of the process the agent starts is told where there is /proc.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CLIENT = {"name": "startup", "version": "0"}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": CLIENT,
    "io.modelcontextprotocol/clientCapabilities": {},
}
BARE = "from mcp.server import MCPServer\nserver = MCPServer('bare')\nserver.tool()(abs)\nserver.run()\n"
OURS = ["-m", "lmm_mcp", "mcp", "--no-ingest"]
WARM_UP_s = 3.0
"""Until the engine has opened what it opens behind the first client's back."""
HELLO = {
    "legacy": ("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": CLIENT}),
    "2026-07-28": ("server/discover", {"_meta": META}),
}


def measure(era: str, home: Path, server_arguments: list[str] = OURS) -> tuple[float, float, float]:
    """Seconds to the first answer and to the list of tools, and resident MB then (0 where it cannot be known)."""
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *server_arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(home),
        cwd=home,
    ) as server:

        def ask(number: int, method: str, params: dict[str, object]) -> float:
            send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
            answer = json.loads(server.stdout.readline())
            assert "result" in answer, answer
            return time.perf_counter() - started

        def send(message: dict[str, object]) -> None:
            server.stdin.write(json.dumps(message).encode() + b"\n")
            server.stdin.flush()

        hello_s = ask(1, *HELLO[era])
        if era == "legacy":
            send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        tools_s = ask(2, "tools/list", {} if era == "legacy" else {"_meta": META})
        resident = resident_mb(server.pid)
        server.stdin.close()
    return hello_s, tools_s, resident


def environment(home: Path) -> dict[str, str]:
    """Of a user who has nothing but this memory; children compile and keep their bytecode, as an installed program does."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("LMM_")}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**env, "LMM_HOME": str(home), "HOME": str(home), "PYTHONPATH": str(ROOT)}


def resident_mb(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def stop(home: Path) -> None:
    """See that no engine runs."""
    subprocess.run(
        [sys.executable, "-m", "lmm_mcp", "stop"], env=environment(home), check=True, stdout=subprocess.DEVNULL
    )


def main() -> None:
    """Measure and print a small table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--era", choices=[*HELLO], action="append")
    arguments = parser.parse_args()
    print(
        f"{'era':<12} {'server':<14} {'handshake':>10} {'tools/list':>10} {'MB':>5}   "
        f"median of {arguments.runs}, seconds from spawn"
    )
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        measure("legacy", home)  # writes the bytecode and fills the disk's cache
        for era in arguments.era or HELLO:
            times: dict[str, list[tuple[float, float, float]]] = {
                "lmm mcp, cold": [],
                "lmm mcp, warm": [],
                "bare SDK": [],
            }
            for _ in range(arguments.runs):
                stop(home)
                times["lmm mcp, cold"].append(measure(era, home))
                time.sleep(WARM_UP_s)
                times["lmm mcp, warm"].append(measure(era, home))
                times["bare SDK"].append(measure(era, home, ["-c", BARE]))
            for name, of_server in times.items():
                hello_s, tools_s, resident = (statistics.median(column) for column in zip(*of_server, strict=True))
                print(f"{era:<12} {name:<14} {hello_s:>10.2f} {tools_s:>10.2f} {resident:>5.0f}", flush=True)
        stop(home)


if __name__ == "__main__":
    main()
