"""How long an agent waits for `lmm mcp`: from spawn to the handshake answered, and to the list of tools answered.

    python benchmarks/startup.py [--runs 10] [--era legacy|2026-07-28]

Speaks the protocol by hand, so that no client's own start is measured. Uses an empty memory home of its own. A bare server
of the SDK, with one tool that does nothing, is started in turn with ours: what it needs nobody can save.
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
HELLO = {
    "legacy": ("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": CLIENT}),
    "2026-07-28": ("server/discover", {"_meta": META}),
}


def measure(era: str, home: Path, server_arguments: list[str] = OURS) -> tuple[float, float]:
    """Seconds to the first answer and to the list of tools."""
    env = {**os.environ, "LMM_HOME": str(home), "HOME": str(home), "PYTHONPATH": str(ROOT)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *server_arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=env,
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
        server.stdin.close()
    return hello_s, tools_s


def main() -> None:
    """Measure and print a small table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--era", choices=[*HELLO], action="append")
    arguments = parser.parse_args()
    print(
        f"{'era':<12} {'server':<8} {'handshake':>10} {'tools/list':>10}   median of {arguments.runs}, seconds from spawn"
    )
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        measure("legacy", Path(home))  # writes the bytecode and fills the disk's cache
        for era in arguments.era or HELLO:
            servers = {"lmm mcp": OURS, "bare SDK": ["-c", BARE]}
            times: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
            for _ in range(arguments.runs):
                for name, its_arguments in servers.items():
                    times[name].append(measure(era, Path(home), its_arguments))
            for name, of_server in times.items():
                hello_s, tools_s = (statistics.median(column) for column in zip(*of_server, strict=True))
                print(f"{era:<12} {name:<8} {hello_s:>10.2f} {tools_s:>10.2f}")


if __name__ == "__main__":
    main()
