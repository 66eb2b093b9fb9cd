"""How long after an agent wrote a line it can be recalled, and what following costs while nothing happens.

    python benchmarks/following.py [--appends 200] [--files 20] [--idle 30]

Invents a home folder with sessions of several agents (files that are appended to, one that is rewritten whole for each
message, a SQLite database), starts `lmm mcp` as an agent does, and appends one message after another, each with a word of
its own. Prints seconds until `recall`, called over MCP, quotes that word, and the processor time of the ingest process
while nothing is written.
"""

import argparse
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import orjson
from mcp import Client, StdioServerParameters

from lmm_mcp import children
from lmm_mcp.paths import Home

ROOT = Path(__file__).resolve().parents[1]
PAUSE_s = 0.3
"""Between two appends at most: as agents talk, some at the same time."""
LOOK_EVERY_s = 0.03
PATIENCE_s = 60
TABLES = """
CREATE TABLE project (id text PRIMARY KEY, worktree text, vcs text, time_created integer, time_updated integer);
CREATE TABLE session (id text PRIMARY KEY, project_id text, parent_id text, slug text, directory text, title text,
  version text, revert text, time_created integer, time_updated integer, time_compacting integer, time_archived integer);
CREATE TABLE message (id text PRIMARY KEY, session_id text, time_created integer, time_updated integer, data text);
CREATE TABLE part (id text PRIMARY KEY, message_id text, session_id text, time_created integer, time_updated integer,
  data text);
INSERT INTO project VALUES ('p', '/home/ann/quay', 'git', 1772366400000, 1772366400000);
"""

Say = Callable[[int, str], None]
"""Writes message number so much with this text into one session."""


def claude_code(home: Path, session: int) -> Say:
    path = made(home / ".claude" / "projects" / "-work-quay" / f"c{session}.jsonl")

    def say(number: int, text: str) -> None:
        about = {
            "sessionId": f"c{session}",
            "cwd": "/home/ann/quay",
            "timestamp": moment(number),
            "uuid": f"c{session}-{number}",
        }
        append(path, {"type": "user", **about, "message": {"role": "user", "content": text}})

    return say


def codex(home: Path, session: int) -> Say:
    name = f"00000000-0000-4000-8000-{session:012}"
    path = made(home / ".codex" / "sessions" / "2026" / "03" / "01" / f"rollout-2026-03-01T10-00-00-{name}.jsonl")
    meta = {"id": name, "timestamp": moment(0), "cwd": "/home/ann/quay", "originator": "codex_cli_rs"}
    append(path, {"timestamp": moment(0), "type": "session_meta", "payload": meta})

    def say(number: int, text: str) -> None:
        message = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
        append(path, {"timestamp": moment(number), "type": "response_item", "payload": message})

    return say


def gemini_cli(home: Path, session: int) -> Say:
    """The older format: one document, written anew for each message."""
    folder = home / ".gemini" / "tmp" / "quay"
    path = made(folder / "chats" / f"session-2026-03-01T10-00-{session:08}.json")
    (folder / ".project_root").write_text("/home/ann/quay", encoding="utf-8")
    messages: list[dict[str, object]] = []

    def say(number: int, text: str) -> None:
        messages.append({"id": f"g{session}-{number}", "timestamp": moment(number), "type": "user", "content": text})
        beside = path.with_suffix(".tmp")
        about = {
            "sessionId": f"g{session}",
            "projectHash": "quay",
            "startTime": moment(0),
            "lastUpdated": moment(number),
        }
        beside.write_bytes(orjson.dumps({**about, "messages": messages}))
        beside.replace(path)

    return say


def opencode(home: Path, session: int) -> Say:
    """One database for all sessions, with what is new in its write-ahead log."""
    path = made(home / ".local" / "share" / "opencode" / "opencode.db")
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    if not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(TABLES)
    start_ms = 1_772_366_400_000
    row = (
        f"ses_{session}",
        "p",
        None,
        "s",
        "/home/ann/quay",
        f"Session {session}",
        "1",
        None,
        start_ms,
        start_ms,
        None,
        None,
    )
    connection.execute(f"INSERT INTO session VALUES ({', '.join('?' * 12)})", row)

    def say(number: int, text: str) -> None:
        at_ms = start_ms + number * 1000
        name = f"{session}_{number:09}"
        message = orjson.dumps({"role": "user", "time": {"created": at_ms}}).decode()
        part = orjson.dumps({"type": "text", "text": text}).decode()
        connection.execute("BEGIN")
        connection.execute("INSERT INTO message VALUES (?, ?, ?, ?, ?)", (f"msg_{name}", row[0], at_ms, at_ms, message))
        connection.execute(
            "INSERT INTO part VALUES (?, ?, ?, ?, ?, ?)", (f"prt_{name}", f"msg_{name}", row[0], at_ms, at_ms, part)
        )
        connection.execute("UPDATE session SET time_updated = ? WHERE id = ?", (at_ms, row[0]))
        connection.execute("COMMIT")

    return say


AGENTS = (claude_code, codex, gemini_cli, opencode)


async def measure(num_files: int, num_appends: int, idle_s: float) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        chance = random.Random(1)
        sessions = [(AGENTS[n % len(AGENTS)].__name__, AGENTS[n % len(AGENTS)](root, n)) for n in range(num_files)]
        for number in range(20):
            for _, say in sessions:
                say(
                    number,
                    f"message {number} about {' '.join(chance.choices(('ropes', 'buoys', 'cranes', 'tides'), k=40))}",
                )
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        env = {**kept, "HOME": folder, "LMM_HOME": f"{root}/lmm", "PYTHONPATH": str(ROOT), "LMM_EMBEDDER_NAME": "none"}
        home = Home(root / "lmm").ensure()
        command = StdioServerParameters(command=sys.executable, args=["-m", "lmm_mcp", "mcp"], env=env, cwd=folder)
        async with Client(command) as client:
            with anyio.fail_after(PATIENCE_s):
                while (said := children.progress(home)) is None or said.phase != "watching":
                    await anyio.sleep(0.1)
            times: dict[str, list[float]] = {}
            for number in range(num_appends):
                agent, say = chance.choice(sessions)
                word = f"zanzibar{number:04}" + "".join(chance.choices("bcdfgh", k=6))
                say(100 + number, f"the {word} was moored at the quay")
                written = time.monotonic()
                with anyio.fail_after(PATIENCE_s):
                    while not await knows(client, word):
                        await anyio.sleep(LOOK_EVERY_s)
                times.setdefault(agent, []).append(time.monotonic() - written)
                await anyio.sleep(chance.random() * PAUSE_s)
            print(f"appended line to recallable, {num_appends} appends over {num_files} sessions, seconds")
            print(f"{'':<14} {'p50':>6} {'p95':>6} {'worst':>6}")
            for agent, found in [*sorted(times.items()), ("all", [each for some in times.values() for each in some])]:
                found.sort()
                p95 = found[min(len(found) - 1, int(len(found) * 0.95))]
                print(f"{agent:<14} {statistics.median(found):>6.2f} {p95:>6.2f} {found[-1]:>6.2f}")
            said = children.progress(home)
            if said is not None and idle_s:
                await anyio.sleep(2)
                before = processor_s(said.pid)
                await anyio.sleep(idle_s)
                share = (processor_s(said.pid) - before) / idle_s
                print(f"ingest process while nothing happens: {share:.2%} of a core, over {idle_s:.0f} s")


async def knows(client: Client, word: str) -> bool:
    reply = await client.call_tool("recall", {"query": word, "project": "*"})
    answer = reply.structured_content or {}
    return answer.get("status") == "found" and word in answer["text"]


def processor_s(pid: int) -> float:
    """Processor time a process has used (Linux)."""
    user, system = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def append(path: Path, record: dict[str, object]) -> None:
    with path.open("ab") as out:
        out.write(orjson.dumps(record) + b"\n")


def moment(number: int) -> str:
    return f"2026-03-01T{10 + number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}.000Z"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--appends", type=int, default=200)
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--idle", type=float, default=30)
    asked = parser.parse_args()
    anyio.run(measure, asked.files, asked.appends, asked.idle)


if __name__ == "__main__":
    main()
