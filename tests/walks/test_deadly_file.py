"""A session file that ends every process that reads it, through the real processes: all others are read, and it is said."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lmm_mcp.paths import Home
from lmm_mcp.store.chunks import ChunkStore
from lmm_mcp.store.ledger import Ledger

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")

READER = """
import os, signal, sys
from pathlib import Path
from ingest.readers.base import FileReader, json_lines
from lmm_mcp.domain.event import Event, Thread

class Viper(FileReader):
    agent = "viper"
    version = 1

    def roots(self, env, extra):
        return (Path(env["HOME"]) / "viper", *extra)

    def discover(self, root):
        yield from sorted(root.glob("*.jsonl"))

    def claims(self, path):
        return path.parent.name == "viper"

    def read(self, path, cursor):
        thread = Thread(self.agent, session_id=path.stem, thread_id=path.stem)
        for item in json_lines(path, cursor):
            if not isinstance(item, tuple):
                yield item
                continue
            text = item[1]["text"]
            if "bites" in text:
                os.kill(os.getpid(), signal.SIGSEGV)
            if "sleeps" in text and os.environ.get("LMM_TEST_STRANGER") and "--trial" not in sys.argv:
                os.kill(os.getpid(), signal.SIGKILL)  # somebody else did that: on trial it lives
            yield thread
            yield Event(f"{path.stem}-1", "prompt", text, 0)
"""


class Machine:
    """A user with sessions of an agent that another package reads, badly."""

    def __init__(self, root: Path) -> None:
        package = root / "package"
        (package / "viper-1.0.dist-info").mkdir(parents=True)
        (package / "viper.py").write_text(READER, encoding="utf-8")
        (package / "viper-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: viper\nVersion: 1.0\n")
        points = "[lmm_mcp.readers]\nviper = viper:Viper\n"
        (package / "viper-1.0.dist-info" / "entry_points.txt").write_text(points, encoding="utf-8")
        self.sessions = root / "viper"
        self.sessions.mkdir()
        self.home = Home(root / "lmm").ensure()
        repository = Path(__file__).resolve().parents[2]
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("LMM_")},
            "HOME": str(root),
            "LMM_HOME": str(self.home.root),
            "LMM_EMBEDDER_NAME": "none",
            "PYTHONPATH": os.pathsep.join((str(package), str(repository))),
        }

    def write(self, number: int, text: str, *, time_s: int = 1_700_000_000) -> Path:
        path = self.sessions / f"s{number}.jsonl"
        path.write_text(json.dumps({"text": text}) + "\n", encoding="utf-8")
        os.utime(path, (time_s, time_s))
        return path

    def ingest(self, **more: str) -> int:
        command = [sys.executable, "-P", "-m", "ingest", "--once"]
        return subprocess.run(
            command, env=self.env | more, cwd=self.home.root, capture_output=True, timeout=120
        ).returncode

    def lmm(self, *arguments: str) -> str:
        command = [sys.executable, "-P", "-m", "lmm_mcp", *arguments]
        return subprocess.run(
            command, env=self.env, cwd=self.home.root, capture_output=True, text=True, timeout=120
        ).stdout

    @property
    def num_threads(self) -> int:
        return len(ChunkStore.open(self.home.store).threads())

    @property
    def told(self) -> list[str]:
        return [row.problem for row in Ledger.open(self.home.ledger).unreadable()]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_file_that_ends_every_process_is_left_aside_until_it_changes(machine):
    machine.write(9, "the harbour pilot bites")
    for number in range(3):  # older than the deadly one, so that they come after it
        machine.write(number, f"crane number {number} lifts forty tons", time_s=1_000_000_000)
    assert machine.ingest() == -signal.SIGSEGV
    assert machine.ingest() == 0
    assert machine.num_threads == 3
    (problem,) = machine.told
    assert "SIGSEGV" in problem and "left aside" in problem
    assert "left aside" in machine.lmm("doctor")
    assert "left aside" in machine.lmm("agents")
    assert machine.ingest() == 0, "it is not opened again"
    machine.write(9, "the harbour pilot waves", time_s=1_800_000_000)
    assert machine.ingest() == 0
    assert machine.num_threads == 4
    assert machine.told == []


def test_a_file_during_which_somebody_killed_the_process_is_read_last_and_whole(machine):
    machine.write(9, "the pilot sleeps")
    machine.write(1, "a crane lifts", time_s=1_000_000_000)
    for _ in range(5):
        assert machine.ingest(LMM_TEST_STRANGER="1") == -signal.SIGKILL
    assert machine.num_threads == 1, "the other one was read before it"
    assert machine.ingest() == 0
    assert machine.num_threads == 2
    assert machine.told == []
