"""A staying ingest process follows sessions while they are written: no hand-over, no rescan, only what it sees itself."""

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lmm_mcp import children, notes
from lmm_mcp.paths import Home
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.chunks import ChunkStore, Scope
from lmm_mcp.store.terms import terms

SOON_s = 25.0
"""Well before the next rescan; on a quiet machine it takes one second."""


OPENCODE = """
CREATE TABLE project (id text PRIMARY KEY, worktree text, vcs text, time_created integer, time_updated integer);
CREATE TABLE session (id text PRIMARY KEY, project_id text, parent_id text, slug text, directory text, title text,
  version text, revert text, time_created integer, time_updated integer, time_compacting integer, time_archived integer);
CREATE TABLE message (id text PRIMARY KEY, session_id text, time_created integer, time_updated integer, data text);
CREATE TABLE part (id text PRIMARY KEY, message_id text, session_id text, time_created integer, time_updated integer,
  data text);
INSERT INTO project VALUES ('p', '/work/harbour', 'git', 1772366400000, 1772366400000);
INSERT INTO session VALUES ('ses_1', 'p', NULL, 's', '/work/harbour', 'Crane', '1', NULL, 1772366400000, 1772366400000,
  NULL, NULL);
"""


def say_in_opencode(agent: sqlite3.Connection, n: int, text: str) -> None:
    at_ms = 1_772_366_400_000 + n * 1_000
    message = json.dumps({"role": "user", "time": {"created": at_ms}})
    agent.execute("BEGIN")
    agent.execute("INSERT INTO message VALUES (?, 'ses_1', ?, ?, ?)", (f"msg_{n:012}", at_ms, at_ms, message))
    part = (f"prt_{n:012}", f"msg_{n:012}", at_ms, at_ms, json.dumps({"type": "text", "text": text}))
    agent.execute("INSERT INTO part VALUES (?, ?, 'ses_1', ?, ?, ?)", part)
    agent.execute("UPDATE session SET time_updated = ?", (at_ms,))
    agent.execute("COMMIT")


def prompt(session: str, n: int, text: str) -> bytes:
    """A line of Claude Code's."""
    record = {
        "type": "user",
        "uuid": f"{session}-{n}",
        "sessionId": session,
        "timestamp": f"2026-03-01T10:{n // 60:02}:{n % 60:02}.000Z",
        "cwd": "/work/harbour",
        "message": {"role": "user", "content": text},
    }
    return json.dumps(record).encode() + b"\n"


class Machine:
    """A user whose agents write sessions, and an ingest process that stays."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.projects = root / "claude" / "projects"
        self.codex = root / "codex" / "sessions"
        self.home = Home(root / "lmm").ensure()
        own = {"HOME": str(root), "CLAUDE_CONFIG_DIR": str(root / "claude"), "CODEX_HOME": str(root / "codex")}
        self.env = {**os.environ, **own, "LMM_HOME": str(self.home.root), "LMM_EMBEDDER_NAME": "none"}
        self.child: children.IngestChild | None = None

    def start(self) -> children.IngestChild:
        self.child = children.start_ingest(self.home, self.env, stay=True)
        until(
            lambda: (
                (said := children.progress(self.home)) is not None
                and said.pid == self.child.pid
                and said.phase == "watching"
            )
        )
        return self.child

    def say(self, session: str, n: int, text: str) -> Path:
        """A prompt in a session of Claude Code."""
        path = self.projects / "p" / f"{session}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as out:
            out.write(prompt(session, n, text))
        return path

    def knows(self, text: str) -> bool:
        if not ChunkStore.exists(self.home.store):
            return False
        return bool(ChunkStore.open(self.home.store).lexical(terms(text), Scope(), 1))

    def log(self) -> str:
        return (self.home.logs / "ingest.log").read_text(encoding="utf-8")


def until(holds: Callable[[], bool], *, at_most_s: float = SOON_s) -> None:
    end = time.monotonic() + at_most_s
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    if machine.child is not None:
        machine.child.stop()


def test_a_line_that_is_appended_is_found_before_the_next_rescan(machine):
    machine.say("s1", 1, "The harbour crane lifts forty tons.")
    machine.start()
    assert machine.knows("harbour crane")
    machine.say("s1", 2, "Its winch was replaced by a zanzibar model.")
    until(lambda: machine.knows("zanzibar"))
    machine.say("s2", 1, "A new session speaks of the pelican buoy.")
    until(lambda: machine.knows("pelican"))


def test_what_is_written_in_pieces_while_it_is_read_is_kept_once_and_whole(machine):
    machine.start()
    dice = random.Random(1)
    (machine.projects / "p").mkdir(parents=True)
    with (machine.projects / "p" / "s1.jsonl").open("ab", buffering=0) as out:
        for n in range(400):
            line = prompt("s1", n, f"Load number {n}. " + "Heave. " * (n % 50))
            at = dice.randrange(len(line))
            out.write(line[:at])
            time.sleep(0.005)  # as an agent talks
            out.write(line[at:])
    until(lambda: len(kept(machine, "s1")) >= 400)
    assert kept(machine, "s1") == [f"s1-{n}" for n in range(400)]


def kept(machine: Machine, session: str) -> list[str]:
    found = Archive(machine.home.archive).read("claude-code", session)
    return [event.id for event in found[1]] if found is not None else []


def test_an_agent_that_is_used_for_the_first_time_is_followed(machine):
    machine.start()
    machine.say("s1", 1, "The very first session, about a zanzibar ferry.")
    until(lambda: machine.knows("zanzibar"))


def test_what_is_written_during_a_pause_waits_for_its_end_without_keeping_the_machine_busy(machine):
    machine.say("s1", 1, "The harbour crane lifts forty tons.")
    child = machine.start()
    machine.home.paused.touch()
    machine.say("s1", 2, "Said during the pause: zanzibar.")
    notes.remember(machine.home, "A pelican is told.", project="", cwd="", now_ms=1_772_000_000_000)
    until(lambda: machine.knows("pelican"))
    if sys.platform == "linux":
        before_s = processor_s(child.pid)
        time.sleep(2)  # what nothing happens in cannot be waited for
        assert processor_s(child.pid) - before_s < 0.5
    assert not machine.knows("zanzibar")
    machine.home.paused.unlink()
    until(lambda: machine.knows("zanzibar"))


def processor_s(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def test_a_session_of_a_database_is_found_while_its_agent_has_it_open(machine):
    path = machine.root / ".local" / "share" / "opencode" / "opencode.db"
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as agent:
        agent.execute("PRAGMA journal_mode = WAL")
        agent.executescript(OPENCODE)
        say_in_opencode(agent, 1, "The harbour crane lifts forty tons.")
        machine.start()
        assert machine.knows("harbour crane")
        say_in_opencode(agent, 2, "Its winch was replaced by a zanzibar model.")
        until(lambda: machine.knows("zanzibar"))
    assert machine.knows("harbour crane")


def test_what_the_clock_says_does_not_matter(machine):
    path = machine.say("s1", 1, "The harbour crane lifts forty tons.")
    os.utime(path, (4_000_000_000, 4_000_000_000))  # written in the future, before the clock was set back
    machine.start()
    assert machine.knows("harbour crane")
    machine.say("s1", 2, "Its winch was replaced by a zanzibar model.")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    until(lambda: machine.knows("zanzibar"))
    machine.say("s1", 3, "And its hook by a pelican.")
    os.utime(path, (1_000_000_000, 1_000_000_000))  # longer, but not newer
    until(lambda: machine.knows("pelican"))


def test_a_note_is_found_at_once(machine):
    machine.start()
    notes.remember(machine.home, "Zanzibar deploys on Tuesdays.", project="", cwd="", now_ms=1_772_000_000_000)
    until(lambda: machine.knows("zanzibar"))


def test_a_folder_that_vanishes_and_comes_back_is_followed_again_and_nothing_is_lost(machine):
    machine.say("s1", 1, "The harbour crane lifts forty tons.")
    machine.start()
    away = machine.projects.with_name("away")
    machine.projects.rename(away)
    until(lambda: "is gone" in machine.log())
    elsewhere = Machine(machine.root / "copy")
    elsewhere.projects = away
    elsewhere.say("s1", 2, "Said while nobody could look: zanzibar.")
    away.rename(machine.projects)
    until(lambda: machine.knows("zanzibar"))
    machine.say("s1", 3, "And a pelican afterwards.")
    until(lambda: machine.knows("pelican"))
    assert machine.log().count("is gone") == 1
    assert machine.knows("harbour crane")
    assert ChunkStore.open(machine.home.store).count() == len(
        ChunkStore.open(machine.home.store).thread("claude-code", "s1")
    )


def test_a_folder_that_is_made_anew_at_once_is_followed(machine):
    machine.say("s1", 1, "The harbour crane lifts forty tons.")
    machine.start()
    shutil.rmtree(machine.projects)
    machine.say("s1", 2, "A new beginning in zanzibar.")
    until(lambda: machine.knows("zanzibar"))
    machine.say("s2", 1, "And a pelican.")
    until(lambda: machine.knows("pelican"))


MAY_MOUNT = ["unshare", "--user", "--map-root-user", "--mount"]
PREPARED = """
import subprocess, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_following import Machine, until

root = Path({root!r})
machine = Machine(root)
def run(*command):
    subprocess.run([str(each) for each in command], check=True)
"""
UNMOUNTED = """
elsewhere = Machine(root / "elsewhere")
elsewhere.projects = root / "disk"
(elsewhere.projects / "p").mkdir(parents=True)
machine.projects.mkdir(parents=True)
run("mount", "--bind", elsewhere.projects, machine.projects)
machine.say("s1", 1, "The harbour crane lifts forty tons.")
machine.start()
try:
    run("umount", machine.projects)
    until(lambda: "is another folder now" in machine.log())
    elsewhere.say("s1", 2, "Said while nobody could look: zanzibar.")
    run("mount", "--bind", elsewhere.projects, machine.projects)
    until(lambda: machine.knows("zanzibar"))
    machine.say("s1", 3, "And a pelican afterwards.")
    until(lambda: machine.knows("pelican"))
    assert machine.knows("harbour crane")
finally:
    machine.child.stop()
"""
FULL = """
run("mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", machine.home.root)
machine.home.ensure()
machine.say("s1", 1, "The harbour crane lifts forty tons.")
child = machine.start()
filler = machine.home.root / "filler"
try:
    try:
        with filler.open("wb", buffering=0) as out:
            while True:
                out.write(bytes(4096))
    except OSError:
        pass
    machine.say("s1", 2, "Said while the disk was full: zanzibar. " + "Heave. " * 30_000)
    assert child.wait(30) == 74, child.poll()
    filler.unlink()
    machine.start()
    until(lambda: machine.knows("zanzibar"))
    assert machine.knows("harbour crane")
finally:
    machine.child.stop()
"""


@pytest.mark.parametrize("steps", [UNMOUNTED, FULL], ids=["a disk of sessions is unmounted", "the disk is full"])
def test_what_happens_to_a_disk_is_survived_and_nothing_is_lost(tmp_path, steps):
    probe = [*MAY_MOUNT, "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("this machine lets this user mount nothing")
    script = PREPARED.format(tests=str(Path(__file__).parent), root=str(tmp_path)) + steps
    done = subprocess.run([*MAY_MOUNT, sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_process_that_is_asked_to_stop_leaves_and_the_next_one_stays(machine):
    child = machine.start()
    children.ask_to_stop(machine.home)
    assert child.wait(SOON_s) == 0
    assert not children.is_stop_wanted(machine.home)
    children.ask_to_stop(machine.home)  # nobody is there
    machine.start()
    machine.say("s1", 1, "Somebody follows zanzibar.")
    until(lambda: machine.knows("zanzibar"))
