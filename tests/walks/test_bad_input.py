"""Bad files and a bad machine, through the real processes: a clear message, nothing lost, the rest goes on."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import zstandard

from ingest import service
from ingest.readers import base, codex
from ingest.readers.claude_code import ClaudeCode
from lmm_mcp import samples
from lmm_mcp.config import Embedder, Settings
from lmm_mcp.paths import Home
from lmm_mcp.store.chunks import ChunkStore
from lmm_mcp.store.ledger import Ledger

GOOD = "The harbour crane lifts forty tons."


class Machine:
    """A user with session folders of their own, and the programs as they are started on that machine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.told = ""
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

    def read(self) -> None:
        """Read what is new, in this process: the machine is well."""
        settings = Settings(embedder=Embedder(name="none"))
        assert service.run(self.home, self.env, settings, [], stay=False) == 0

    def write(self, session: str, text: str) -> Path:
        path = self.sessions / f"{session}.jsonl"
        path.write_text(line(session, 1, text) + "\n", encoding="utf-8")
        return path

    def kept(self, session: str) -> str:
        """All that the store holds of a session, line by line."""
        chunks = ChunkStore.open(self.home.store).thread("claude-code", session)
        return "\n".join(line.text for chunk in chunks for line in chunk.lines)

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


# --- files ----------------------------------------------------------------------------------------------------------


def _torn(path: Path) -> None:
    path.write_text(
        f"{line('torn', 1, 'Before the tear.')}\n{line('torn', 2, 'Never finished.')[:-30]}", encoding="utf-8"
    )


def _glued(path: Path) -> None:
    path.write_text(
        line("glued", 1, "First on the line.") + line("glued", 2, "Second on the line.") + "\n", encoding="utf-8"
    )


def _not_utf8(path: Path) -> None:
    path.write_bytes(line("not-utf8", 1, "The berth of M?ller.").encode().replace(b"?", b"\xfc") + b"\n")


def _one_bad_line(path: Path) -> None:
    rest = line("one-bad-line", 2, "After the bad line.")
    path.write_text(f"{line('one-bad-line', 1, 'Before the bad line.')}\n{{not json}}\n{rest}\n", encoding="utf-8")


BAD_FILES = {
    "torn": _torn,
    "glued": _glued,
    "not-utf8": _not_utf8,
    "one-bad-line": _one_bad_line,
    "empty": Path.touch,
    "folder": Path.mkdir,
}


@pytest.fixture(scope="module")
def read_once(tmp_path_factory) -> Machine:
    """A machine with every kind of bad file and a good session, older and newer ones around it, imported once."""
    machine = Machine(tmp_path_factory.mktemp("bad"))
    for n, (name, make) in enumerate(BAD_FILES.items()):
        make(path := machine.sessions / f"{name}.jsonl")
        os.utime(path, (1_772_000_000 + n, 1_772_000_000 + n))
    for n, name in enumerate(("oldest", "newest")):
        os.utime(machine.write(name, f"{GOOD} Said by the {name}."), (1_771_000_000 + n * 2_000_000,) * 2)
    done = machine.run("import")
    assert done.returncode == 0, done.stderr
    machine.told = done.stdout
    return machine


def test_bad_files_keep_no_good_one_out(read_once):
    assert all(GOOD in text for text in (read_once.kept("oldest"), read_once.kept("newest")))
    assert "2 records could not be read" in read_once.told
    assert "`lmm doctor` lists them" in read_once.told


@pytest.mark.parametrize(
    ("name", "kept", "complaints"),
    [
        ("torn", ["Before the tear."], []),  # the rest may still be written
        ("glued", ["First on the line.", "Second on the line."], []),
        ("not-utf8", ["The berth of M\ufffdller."], []),
        ("one-bad-line", ["Before the bad line.", "After the bad line."], [2]),
        ("empty", [], []),
        ("folder", [], [0]),
    ],
)
def test_of_a_bad_file_all_is_kept_that_can_be_read_and_the_rest_is_said(read_once, name, kept, complaints):
    text = read_once.kept(name)
    assert all(part in text for part in kept)
    assert [at for at, _ in read_once.unreadable.get(f"{name}.jsonl", [])] == complaints


@pytest.mark.skipif(os.name != "posix", reason="rights as POSIX knows them")
def test_every_file_of_the_memory_is_readable_by_its_user_alone(read_once):
    everything = [read_once.home.root, *read_once.home.root.rglob("*")]
    assert len(everything) > 20
    assert not [path for path in everything if path.stat().st_mode & 0o077]


def test_the_doctor_lists_what_could_not_be_read_with_its_line(read_once):
    told = read_once.run("doctor").stdout
    assert f"{read_once.sessions / 'one-bad-line.jsonl'}:2: " in told
    assert f"{read_once.sessions / 'folder.jsonl'}: is a folder" in told


def test_a_torn_line_is_read_once_it_is_whole(machine):
    _torn(machine.sessions / "torn.jsonl")
    machine.read()
    assert "Never finished." not in machine.kept("torn")
    _whole = [line("torn", 1, "Before the tear."), line("torn", 2, "Never finished.")]
    (machine.sessions / "torn.jsonl").write_text("\n".join(_whole) + "\n", encoding="utf-8")
    machine.read()
    assert "Never finished." in machine.kept("torn")


PEAK_bytes = 800_000_000
"""What the import of a large corpus may take, too."""
HUGE_bytes = 100_000_000


def _image(path: Path) -> None:
    """A prompt with a picture of a size that no picture has."""
    front, back = line("huge", 1, "Look at SPLIT the picture of the lock.").split("SPLIT")
    with path.open("w", encoding="utf-8") as out:
        out.write(f'{front}", "image": "')
        for _ in range(HUGE_bytes // 1_000_000):
            out.write("QUJD" * 250_000)
        out.write(f'", "more": "{back}\n')


def _noise(path: Path) -> None:
    with path.open("w", encoding="utf-8") as out:
        for _ in range(HUGE_bytes // 1_000_000):
            out.write("{noise}" * 142_857)
        out.write(f"\n{line('huge', 1, 'Look at the gate of the lock.')}\n")


@pytest.mark.skipif(os.name != "posix", reason="only POSIX tells the peak memory of a child")
@pytest.mark.parametrize(("make", "kept", "complaints"), [(_image, "Look at", []), (_noise, "Look at the gate", [1])])
def test_a_line_of_100_MB_is_read_or_said_in_bounded_memory(machine, make, kept, complaints):
    make(machine.sessions / "huge.jsonl")
    machine.write("good", GOOD)
    measure = (
        "import resource, subprocess, sys\n"
        "code = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL).returncode\n"
        "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss\n"
        "print(code, peak * (1 if sys.platform == 'darwin' else 1024))"
    )
    done = subprocess.run(
        [sys.executable, "-c", measure, sys.executable, "-m", "ingest", "--once"],
        env=machine.env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    code, peak_bytes = map(int, done.stdout.split())
    assert code == 0, done.stderr
    assert peak_bytes < PEAK_bytes
    assert kept in machine.kept("huge")
    assert GOOD in machine.kept("good")
    assert [at for at, _ in machine.unreadable.get("huge.jsonl", [])] == complaints


@pytest.mark.skipif(os.name != "posix", reason="rights as POSIX knows them")
def test_a_file_without_rights_is_said_and_read_once_it_may_be(machine):
    forbidden = machine.write("forbidden", "For the harbour master's eyes.")
    machine.write("good", GOOD)
    forbidden.chmod(0)
    as_mortal = "true"
    if os.access(forbidden, os.R_OK):  # root may read whatever it likes, unless it gives that up
        if shutil.which("setpriv") is None:
            pytest.skip("the tests run as root, and setpriv is not there to give its powers up")
        as_mortal = 'set -- setpriv --bounding-set=-all --inh-caps=-all "$@"'
    done = machine.run("import", before=as_mortal)
    assert done.returncode == 0, done.stderr
    assert "1 record could not be read" in done.stdout
    assert machine.unreadable == {"forbidden.jsonl": [(0, "cannot be read: Permission denied")]}
    assert GOOD in machine.kept("good")
    forbidden.chmod(0o600)
    machine.read()
    assert "master's eyes" in machine.kept("forbidden")
    assert not machine.unreadable


def test_a_file_that_shrinks_while_it_is_read_loses_nothing(machine, monkeypatch):
    records = [
        line("shrinks", n % 60, f"Load number {n}. " + "Heave. " * 100).replace("shrinks-", f"n{n}-")
        for n in range(1600)
    ]
    path = machine.sessions / "shrinks.jsonl"
    path.write_text("\n".join(records) + "\n", encoding="utf-8")
    machine.write("good", GOOD)
    whole, opened = path.read_bytes(), []

    class Shrinking:
        """The file as it is, cut behind our back after the first block."""

        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def seek(self, *where):
            return self.file.seek(*where)

        def read(self, num_bytes):
            opened.append(path.stat().st_size)
            if len(opened) == 2:
                os.truncate(path, 500_000)
            return self.file.read(num_bytes)

    open_file = base.open_file
    monkeypatch.setattr(base, "open_file", lambda each: Shrinking(open_file(each)) if each == path else open_file(each))
    machine.read()
    assert path.stat().st_size < opened[0]
    assert "Load number 100." in machine.kept("shrinks")
    assert GOOD in machine.kept("good")
    path.write_bytes(whole)
    machine.read()
    kept = machine.kept("shrinks")
    assert all(kept.count(f"Load number {n}. ") == 1 for n in range(1600))


def test_a_packed_session_is_read_slice_by_slice_to_its_end(machine, monkeypatch):
    monkeypatch.setattr(codex, "SLICE_bytes", 100_000)
    name = "rollout-2026-03-01T10-00-00-0199c7a0-0000-7000-8000-000000000001"
    path = machine.root / "codex" / "sessions" / "2026" / "03" / "01" / f"{name}.jsonl.zst"
    path.parent.mkdir(parents=True)
    records = [
        {"type": "session_meta", "payload": {"id": name[-36:], "cwd": "/work/harbour"}},
        *(
            {"type": "event_msg", "payload": {"type": "user_message", "message": f"Load number {n}. {'Heave. ' * 100}"}}
            for n in range(500)
        ),
    ]
    lines = (
        json.dumps({"timestamp": f"2026-03-01T10:{n // 60:02}:{n % 60:02}.000Z", **each})
        for n, each in enumerate(records)
    )
    path.write_bytes(zstandard.compress("".join(f"{each}\n" for each in lines).encode()))
    assert path.stat().st_size < 100_000  # less than where the second slice begins
    machine.read()
    chunks = ChunkStore.open(machine.home.store).thread("codex", name[-36:])
    said = "\n".join(line.text for chunk in chunks for line in chunk.lines)
    assert all(said.count(f"Load number {n}. ") == 1 for n in range(500))


@pytest.mark.parametrize("step", ["read", "sources"])
def test_a_file_that_a_reader_stumbles_over_is_said_and_keeps_no_other_out(machine, monkeypatch, caplog, step):
    machine.write("good", GOOD)
    stumbling_block = machine.write("odd", "Nobody foresaw this.")
    honest = getattr(ClaudeCode, step)

    def stumble(self, path, *more):
        if path == stumbling_block:
            raise KeyError(" ".join(("what", "the", "session", "says")))
        return honest(self, path, *more)

    monkeypatch.setattr(ClaudeCode, step, stumble)
    machine.read()
    assert GOOD in machine.kept("good")
    ((line_number, problem),) = machine.unreadable["odd.jsonl"]
    assert line_number == 0
    assert "(KeyError); please report this" in problem
    assert "in stumble" in caplog.text
    assert "what the session says" not in caplog.text
    monkeypatch.setattr(ClaudeCode, step, honest)
    machine.write("odd", "Nobody foresaw this. " * 2)
    machine.read()
    assert "Nobody foresaw" in machine.kept("odd")
    assert not machine.unreadable


def test_a_file_whose_name_goes_over_lines_is_named_on_one(machine):
    path = machine.sessions / "two\nlines\x1b[31m.jsonl"
    path.write_text("{not json\n", encoding="utf-8")
    machine.read()
    told = machine.run("doctor").stdout
    assert "two?lines.jsonl:1: not JSON" in told


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
@pytest.mark.parametrize("num_blocks", [1, 100])
def test_a_file_that_may_not_grow_stops_the_import_in_plain_words_and_the_next_one_goes_on(machine, num_blocks):
    for n in range(3):
        machine.write(f"s{n}", f"{GOOD} Lift {n}. " + "Slow down near the quay. " * 300)
    stopped = machine.run("import", before=f"ulimit -f {num_blocks}")
    assert stopped.returncode == 1
    assert "full" in stopped.stderr or "Check that the disk has space" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert ".rs:" not in stopped.stderr
    machine.read()
    assert all(ChunkStore.open(machine.home.store).thread("claude-code", f"s{n}") for n in range(3))


# --- the store ------------------------------------------------------------------------------------------------------


def _newer_store(home: Home) -> None:
    path = home.store / "store.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "schema_version": 99}), encoding="utf-8")


def _newer_ledger(home: Home) -> None:
    with closing(sqlite3.connect(home.ledger)) as ledger:
        ledger.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize("make_newer", [_newer_store, _newer_ledger])
def test_a_store_of_a_newer_version_is_left_alone_and_the_way_out_is_told(machine, make_newer):
    machine.write("s1", GOOD)
    machine.read()
    aside = machine.root / "aside"
    shutil.copytree(machine.home.root, aside)
    machine.write("s2", "The crane is painted red.")
    make_newer(machine.home)
    refused = machine.run("import")
    assert refused.returncode == 1
    assert "Upgrade lmm-mcp, or set LMM_HOME to another folder." in refused.stderr
    assert "Traceback" not in refused.stderr
    shutil.rmtree(machine.home.root)
    aside.rename(machine.home.root)
    machine.read()
    assert GOOD in machine.kept("s1")
    assert "painted red" in machine.kept("s2")


def test_a_locked_ledger_is_named_and_nothing_is_lost(machine):
    machine.write("s1", GOOD)
    machine.read()
    machine.write("s2", "The crane is painted red.")
    with closing(sqlite3.connect(machine.home.ledger, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        refused = machine.run("import")
    assert refused.returncode == 1
    assert "another process has been writing" in refused.stderr
    assert "Try again in a moment." in refused.stderr
    machine.read()
    assert GOOD in machine.kept("s1")
    assert "painted red" in machine.kept("s2")
