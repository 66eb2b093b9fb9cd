"""Bad files and a bad machine, through the real processes: a clear message, nothing lost, the rest goes on."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lmm_mcp import samples
from lmm_mcp.paths import Home
from lmm_mcp.store.chunks import ChunkStore
from lmm_mcp.store.ledger import Ledger

GOOD = "The harbour crane lifts forty tons."


class Machine:
    """A user with session folders of their own, and the programs as they are started on that machine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sessions = root / "claude" / "projects" / "p"
        self.sessions.mkdir(parents=True)
        self.home = Home(root / "lmm").ensure()
        self.env = {
            **os.environ,
            "HOME": str(root),
            "LMM_HOME": str(self.home.root),
            "CLAUDE_CONFIG_DIR": str(root / "claude"),
            "CODEX_HOME": str(root / "codex"),
            "LMM_EMBEDDER_NAME": "none",
        }

    def run(self, *arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
        """Run `lmm`; `before`: what a shell does first, such as setting a limit."""
        command = [sys.executable, "-m", "lmm_mcp", *arguments]
        if before:
            command = ["sh", "-c", f'{before}; exec "$@"', "sh", *command]
        return subprocess.run(command, env=self.env, cwd=self.root, capture_output=True, text=True, timeout=120)

    def write(self, session: str, text: str) -> Path:
        path = self.sessions / f"{session}.jsonl"
        path.write_text(line(session, 1, text) + "\n", encoding="utf-8")
        return path

    def is_remembered(self, text: str) -> bool:
        """Whether recall finds the text, whatever project it was said in."""
        return text in self.run("recall", text, "--project", "*").stdout

    @property
    def unreadable(self) -> dict[str, list[tuple[int, str]]]:
        found: dict[str, list[tuple[int, str]]] = {}
        for row in Ledger.open(self.home.ledger).unreadable():
            found.setdefault(Path(row.path).name, []).append((row.line, row.problem))
        return found


def line(session: str, n: int, text: str) -> str:
    return json.dumps(
        {
            "type": "user",
            "uuid": f"{session}-{n}",
            "sessionId": session,
            "timestamp": f"2026-03-01T10:00:{n:02}.000Z",
            "cwd": "/work/harbour",
            "message": {"role": "user", "content": text},
        }
    )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


# --- the machine --------------------------------------------------------------------------------------------------

MAY_MOUNT = ["unshare", "--user", "--map-root-user", "--mount"]


def on_a_small_disk(machine: Machine, steps: str) -> list[str]:
    """Run shell steps where the memory home is a disk of its own, 200 kB large; what they printed, line by line."""
    probe = [*MAY_MOUNT, "mount", "-t", "tmpfs", "tmpfs", str(machine.home.root)]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("this machine lets this user mount nothing, so there is no small disk to fill")
    script = (
        f'mount -t tmpfs -o size=200k tmpfs "$LMM_HOME"\nlmm() {{ "{sys.executable}" -m lmm_mcp "$@" 2>&1; }}\n{steps}'
    )
    env = {**samples.environment(machine.env, machine.home.root), "LMM_EMBEDDER_NAME": "none"}
    done = subprocess.run(
        [*MAY_MOUNT, "sh", "-c", script], env=env, cwd=machine.root, capture_output=True, text=True, timeout=120
    )
    assert not done.stderr
    return done.stdout.splitlines()


def test_a_full_disk_is_named_though_no_word_can_be_written_on_it_and_nothing_is_lost(machine):
    first, first_code, *second, second_code, third = on_a_small_disk(
        machine,
        """
        lmm import; echo $?
        cat /dev/zero > "$LMM_HOME/filler" 2> /dev/null
        lmm import; echo $?
        rm "$LMM_HOME/filler"; mount -o remount,size=50m "$LMM_HOME"
        lmm import
        """,
    )
    told = (
        f"lmm: the disk that holds {machine.home.root} is full; free some space and run `lmm import`: nothing was lost"
    )
    assert (first, first_code) == (told, "1")
    assert (second, second_code) == ([told], "1")
    assert third.startswith("read 4 files")


def test_a_disk_that_may_only_be_read_is_named(machine):
    told, code = on_a_small_disk(
        machine,
        """
        mkdir -p "$LMM_HOME/archive" "$LMM_HOME/notes" "$LMM_HOME/logs" "$LMM_HOME/locks/handover"; chmod 700 "$LMM_HOME"
        mount -o remount,ro "$LMM_HOME"
        lmm import; echo $?
        """,
    )
    assert told.startswith(f"lmm: {machine.home.root} cannot be written; give this user the right to")
    assert code == "1"


@pytest.mark.skipif(os.name != "posix", reason="only POSIX limits the size of files")
@pytest.mark.parametrize("num_blocks", [1, 12, 100])
def test_a_file_that_may_not_grow_stops_the_import_in_plain_words_and_the_next_one_goes_on(machine, num_blocks):
    for n in range(3):
        machine.write(f"s{n}", f"{GOOD} Lift {n}. " + "Slow down near the quay. " * 300)
    stopped = machine.run("import", before=f"ulimit -f {num_blocks}")
    assert stopped.returncode == 1
    assert "full" in stopped.stderr or "Check that the disk has space" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert ".rs:" not in stopped.stderr
    done = machine.run("import")
    assert done.returncode == 0, done.stderr
    assert all(ChunkStore.open(machine.home.store).thread("claude-code", f"s{n}") for n in range(3))
