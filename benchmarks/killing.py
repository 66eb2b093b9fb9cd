"""Whether anything is lost or doubled when a process is killed in the middle of an import (`kill -9`), at many moments.

    python benchmarks/killing.py [--kills 200] [--what ingest|engine] [--embed] [--megabytes 5] [--sessions FOLDER]

Imports sessions (invented ones of so many megabytes, or the user folder named) once undisturbed. Then again and again into
a new memory, and each time kills the process at random moments until an import comes through, and compares what the memory
holds with the undisturbed one: chunks by id and content hash, archived messages by id and text, threads by their rows. With
`--embed` passages are embedded too (MiniLM, as it is bundled), and their vectors compared: each passage has one, the same to
the bit, and none awaits one. `engine`: the engine is killed; the ingest process, its child, ends by itself.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmm_mcp import children, embedder_fetch
from lmm_mcp.paths import Home
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.chunks import ChunkStore
from lmm_mcp.store.ledger import Ledger

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_s = 300.0
WORDS = "quay crane buoy rope tide lock berth winch ferry mast hull anchor pilot harbour barge cargo".split()


@dataclass(frozen=True)
class Held:
    """What a memory holds, in a form that can be compared."""

    chunks: dict[str, str]
    """Chunk id -> content hash."""
    messages: Counter[tuple[str, str, str]]
    """(agent, event id, text) -> how often it is archived."""
    threads: dict[tuple[str, str], tuple[object, ...]]
    vectors: dict[str, str] = field(default_factory=dict)
    """Chunk id -> hash of its vector and of those of its windows."""

    @staticmethod
    def by(home: Home, *, embeds: bool = False) -> "Held":
        archive, store, ledger = Archive(home.archive), ChunkStore.open(home.store), Ledger.open(home.ledger)
        messages: Counter[tuple[str, str, str]] = Counter()
        chunks: list[tuple[str, str]] = []
        for _, thread in archive.threads():
            kept = archive.read(thread.agent, thread.thread_id)
            messages.update((thread.agent, event.id, event.text) for event in (kept[1] if kept else []))
            chunks += [(each.id, each.content_hash) for each in store.thread(thread.agent, thread.thread_id)]
        assert len(dict(chunks)) == len(chunks) == store.count(), "a chunk is there twice, or belongs to no thread"
        rows = {
            (row.thread.agent, row.thread.thread_id): (row.thread, row.project, row.num_events)
            for row in ledger.threads()
        }
        ledger.close()
        vectors = [pair for shelf in store._shelves() if shelf.vectors is not None for pair in hashed(shelf.vectors)]
        assert len(dict(vectors)) == len(vectors), "a passage has two vectors"
        if embeds:
            assert not store.num_unembedded(), "passages await their vectors"
            assert dict(vectors).keys() == dict(chunks).keys(), "vectors are missing, or of passages that are no more"
        return Held(dict(chunks), messages, rows, dict(vectors))

    def difference(self, other: "Held") -> str:
        """What the other one has lost or doubled; '' where both are the same."""
        told = []
        pairs = {"chunks": (self.chunks, other.chunks), "threads": (self.threads, other.threads)}
        pairs["vectors"] = (self.vectors, other.vectors)
        for name, (mine, its) in pairs.items():
            lost, more = len(mine.items() - its.items()), len(its.items() - mine.items())
            told += [f"{name}: {lost} lost or changed, {more} more"] if lost or more else []
        lost, more = (self.messages - other.messages).total(), (other.messages - self.messages).total()
        return "; ".join(told + ([f"messages: {lost} lost, {more} more"] if lost or more else []))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--what", choices=("ingest", "engine"), default="ingest")
    parser.add_argument("--embed", action="store_true", help="embed what is imported, too")
    parser.add_argument("--megabytes", type=float, default=5)
    parser.add_argument("--sessions", type=Path, help="a user's home folder, such as one with .claude and .codex in it")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        user = asked.sessions or root / "user"
        if asked.sessions is None:
            write_sessions(user, asked.megabytes)
        if asked.embed:
            embedder_fetch.install_bundled(Home(root / "model"))
        models = Home(root / "model").models if asked.embed else None
        seconds, kills, rounds = measure(root, user, asked.kills, asked.what, models=models, say=print)
    print(
        f"{kills} kills of the {asked.what} process in {rounds} imports ({seconds:.1f} s undisturbed): 0 lost, 0 doubled"
    )


def measure(
    root: Path,
    user: Path,
    num_kills: int,
    what: str,
    *,
    models: Path | None = None,
    seed: int = 1,
    say: Callable[[str], object] = str,
) -> tuple[float, int, int]:
    """(seconds of an undisturbed import, kills, imports); raises AssertionError where something was lost or doubled.

    `models`: a folder of embedders made ready; None = by words alone.
    """
    dice = random.Random(seed)
    embeds = models is not None
    home = made(root / "undisturbed", models)
    _, working_s = run(home, user, "ingest", None, embeds=embeds)
    wanted = Held.by(home, embeds=embeds)
    assert wanted.chunks, "there is nothing to import"
    say(f"undisturbed: {len(wanted.chunks):,} chunks, {wanted.messages.total():,} messages, {working_s:.1f} s")
    kills = rounds = 0
    while kills < num_kills:
        home = made(root / f"round{rounds}", models)
        rounds += 1
        # The moments are spread over the whole of an import, and beyond both of its ends.
        # They reach further each time: after a death files are read on trial, which takes longer than it took undisturbed.
        num_died = 0
        while run(home, user, what, dice.uniform(-0.15, 1.1 + 0.1 * num_died) * working_s, embeds=embeds) is None:
            num_died += 1
        kills += num_died
        difference = wanted.difference(Held.by(home, embeds=embeds))
        assert not difference, f"import {rounds}, after {kills} kills: {difference}"
        say(f"import {rounds}: the same, {kills} kills so far")
        shutil.rmtree(home.root)
    return working_s, kills, rounds


def made(root: Path, models: Path | None) -> Home:
    home = Home(root).ensure()
    if models is not None:
        home.models.symlink_to(models)
    return home


def hashed(vectors: Any) -> Iterator[tuple[str, str]]:
    """(chunk id, hash of its vectors) of each row of a table of vectors."""
    rows = vectors.to_arrow()
    for row in rows.select(["chunk_id", "piece", "vector", "windows"]).to_pylist():
        told = f"{row['piece']} {row['vector']} {row['windows']!r}"
        yield row["chunk_id"], hashlib.blake2b(told.encode(), digest_size=16).hexdigest()


def run(
    home: Home, user: Path, what: str, kill_after_s: float | None, *, embeds: bool = False
) -> tuple[float, float] | None:
    """Start a process that imports; (seconds to the first sign of it, seconds of its work), None where it was killed.

    `kill_after_s` counts from the first sign; of a negative one from the start of the process, so that it dies before.
    """
    env = {
        **os.environ,
        "HOME": str(user),
        "USERPROFILE": str(user),
        "CLAUDE_CONFIG_DIR": str(user / ".claude"),
        "CODEX_HOME": str(user / ".codex"),
        "LMM_HOME": str(home.root),
        "PYTHONPATH": str(ROOT),
    }
    env |= {"LMM_EMBEDDER_NUM_THREADS": "1"} if embeds else {"LMM_EMBEDDER_NAME": "none"}
    module = ["ingest", "--once"]
    if what == "engine":
        module = ["lmm_mcp.server.engine", "--home", str(home.root), "--stay"]
    before = children.progress(home)
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", *module],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=home.root,
    )
    try:
        if kill_after_s is not None and kill_after_s < 0:
            time.sleep(-kill_after_s)
            process.send_signal(signal.SIGKILL)
            return None
        while (said := children.progress(home)) is None or (
            before is not None and said.started_ms == before.started_ms
        ):
            assert time.monotonic() - started < PATIENCE_s, f"the {what} process does not begin"
            assert process.poll() in (None, 0), f"the {what} process ended with code {process.returncode}"
            if process.poll() is not None:
                break
            time.sleep(0.005)
        begun = time.monotonic()
        while kill_after_s is None or time.monotonic() - begun < kill_after_s:
            assert time.monotonic() - begun < PATIENCE_s, f"the {what} process does not end"
            if is_done(home, process, what):
                return begun - started, time.monotonic() - begun
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        return None
    finally:
        leave(home, process, what)


def is_done(home: Home, process: "subprocess.Popen[bytes]", what: str) -> bool:
    """Whether the import is complete; a process that stays says so by watching."""
    if what == "ingest":
        assert process.poll() in (None, 0), f"the ingest process ended with code {process.returncode}"
        return process.poll() == 0
    said = children.progress(home)
    return said is not None and said.is_running and said.phase == "watching"


def leave(home: Home, process: "subprocess.Popen[bytes]", what: str) -> None:
    """End what still runs, and wait until nobody of ours is left."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    process.wait(PATIENCE_s)
    deadline = time.monotonic() + PATIENCE_s
    while what == "engine" and (said := children.progress(home)) is not None and said.is_running:
        assert time.monotonic() < deadline, "the ingest process outlives its engine"
        time.sleep(0.01)


def write_sessions(user: Path, megabytes: float) -> None:
    """Invent sessions of two agents: many small ones, some large ones, and forks that begin with a copy of another."""
    dice = random.Random(7)
    folder = user / ".claude" / "projects" / "-work-quay"
    rollouts = user / ".codex" / "sessions" / "2026" / "03" / "01"
    for each in (folder, rollouts):
        each.mkdir(parents=True)
    written = number = 0
    while written < megabytes * 1e6:
        number += 1
        num_turns = dice.choice((2, 3, 5, 8, 60))
        if number % 3 == 0:
            name = f"00000000-0000-4000-8000-{number:012}"
            lines = codex_lines(name, num_turns, dice)
            path = rollouts / f"rollout-2026-03-01T10-00-00-{name}.jsonl"
            if number % 6 == 0:
                fork = f"00000000-0000-4000-8000-{number + 10**9:012}"
                target = rollouts / f"rollout-2026-03-01T11-00-00-{fork}.jsonl"
                written += target.write_text("".join(codex_fork(fork, name, lines, dice)), encoding="utf-8")
        else:
            lines = claude_lines(f"s{number}", num_turns, dice)
            path = folder / f"s{number}.jsonl"
            if number % 5 == 0:
                fork = [line.replace(f'"sessionId": "s{number}"', f'"sessionId": "f{number}"') for line in lines]
                fork += claude_lines(f"f{number}", 2, dice)
                written += (folder / f"f{number}.jsonl").write_text("".join(fork), encoding="utf-8")
        written += path.write_text("".join(lines), encoding="utf-8")


def claude_lines(session: str, num_turns: int, dice: random.Random) -> list[str]:
    lines = []
    for n in range(num_turns * 2):
        role = "assistant" if n % 2 else "user"
        text = speech(dice)
        content = [{"type": "text", "text": text}] if n % 2 else text
        about = {"sessionId": session, "cwd": "/home/ann/quay", "timestamp": moment(n), "uuid": f"{session}-{n}"}
        record = {"type": role, **about, "message": {"id": f"m-{session}-{n}", "role": role, "content": content}}
        lines.append(json.dumps(record) + "\n")
    return lines


def codex_lines(name: str, num_turns: int, dice: random.Random) -> list[str]:
    meta = {"id": name, "timestamp": moment(0), "cwd": "/home/ann/dock", "originator": "codex_cli_rs"}
    lines = [json.dumps({"timestamp": moment(0), "type": "session_meta", "payload": meta}) + "\n"]
    for n in range(num_turns * 2):
        kind = ("assistant", "output_text") if n % 2 else ("user", "input_text")
        message = {"type": "message", "role": kind[0], "content": [{"type": kind[1], "text": speech(dice)}]}
        lines.append(json.dumps({"timestamp": moment(n + 1), "type": "response_item", "payload": message}) + "\n")
    return lines


def codex_fork(name: str, origin: str, lines: list[str], dice: random.Random) -> list[str]:
    """A session that goes on from another one: it begins with all of it, under new times."""
    meta, *own = codex_lines(name, 2, dice)
    first = json.loads(meta)
    first["payload"]["forked_from_id"] = origin
    copied = [json.dumps({**json.loads(line), "timestamp": moment(4_000 + n)}) + "\n" for n, line in enumerate(lines)]
    return [json.dumps(first) + "\n", *copied, *own]


def speech(dice: random.Random) -> str:
    words = dice.choices(WORDS, k=dice.choice((8, 30, 120)))
    return " ".join([*words, f"item{dice.randrange(10**6)}"])


def moment(number: int) -> str:
    return f"2026-03-01T{10 + number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}.000Z"


if __name__ == "__main__":
    main()
