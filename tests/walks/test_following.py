"""A staying ingest process follows sessions while they are written: no hand-over, no rescan, only what it sees itself."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lmm_mcp import children, notes
from lmm_mcp.paths import Home
from lmm_mcp.store.chunks import ChunkStore, Scope
from lmm_mcp.store.terms import terms

SOON_s = 20.0
"""Well before the next rescan; on a quiet machine it takes one second."""


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
        record = {
            "type": "user",
            "uuid": f"{session}-{n}",
            "sessionId": session,
            "timestamp": f"2026-03-01T10:00:{n:02}.000Z",
            "cwd": "/work/harbour",
            "message": {"role": "user", "content": text},
        }
        with path.open("a", encoding="utf-8") as out:
            out.write(json.dumps(record) + "\n")
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


def test_an_agent_that_is_used_for_the_first_time_is_followed(machine):
    machine.start()
    machine.say("s1", 1, "The very first session, about a zanzibar ferry.")
    until(lambda: machine.knows("zanzibar"))


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


def test_a_process_that_is_asked_to_stop_leaves_and_the_next_one_stays(machine):
    child = machine.start()
    children.ask_to_stop(machine.home)
    assert child.wait(SOON_s) == 0
    assert not children.is_stop_wanted(machine.home)
    children.ask_to_stop(machine.home)  # nobody is there
    machine.start()
    machine.say("s1", 1, "Somebody follows zanzibar.")
    until(lambda: machine.knows("zanzibar"))
