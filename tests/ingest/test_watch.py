"""Notifications as the real system gives them, and refuses them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest import mounts as file_systems
from ingest.changes import Changes
from ingest.mounts import foreign_file_system
from ingest.readers.claude_code import ClaudeCode
from ingest.watch import Watch

PATIENCE_s = 20.0
ROOT = Path(__file__).resolve().parents[2]


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_s
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def watched():
    """(Watch, the names it told of)."""
    told: list[str] = []
    watch = Watch(lambda folder, name: told.append(f"{folder.name}:{Path(name).relative_to(folder)}"), lambda: None)
    yield watch, told
    watch.close()


def test_what_is_written_in_a_new_folder_of_a_new_folder_is_told(watched, tmp_path):
    watch, told = watched
    assert watch.place(tmp_path, below=True) == ""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "s.jsonl").write_text("one")
    until(lambda: f"{tmp_path.name}:a/b/s.jsonl" in told)


def test_what_is_moved_is_told_by_its_new_name(watched, tmp_path):
    watch, told = watched
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "s.jsonl").write_text("one")
    watch.place(tmp_path, below=True)
    (tmp_path / "a" / "s.jsonl").rename(tmp_path / "b" / "s.jsonl")
    until(lambda: f"{tmp_path.name}:b/s.jsonl" in told)
    assert f"{tmp_path.name}:a/s.jsonl" not in told


def test_a_folder_behind_a_symbolic_link_is_watched_and_named_as_the_user_does(watched, tmp_path):
    watch, told = watched
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert watch.place(tmp_path / "link", below=True) == ""
    assert watch.place(tmp_path / "real", below=True) == ""
    (tmp_path / "real" / "s.jsonl").write_text("one")
    until(lambda: {"link:s.jsonl", "real:s.jsonl"} <= set(told))
    watch.remove(tmp_path / "real")
    told.clear()
    (tmp_path / "real" / "t.jsonl").write_text("one")
    until(lambda: "link:t.jsonl" in told)
    assert "real:t.jsonl" not in told


def test_a_folder_that_is_not_there_is_refused_and_one_that_went_is_known_to_have_gone(watched, tmp_path):
    watch, _ = watched
    assert watch.place(tmp_path / "missing", below=True)
    (tmp_path / "there").mkdir()
    assert watch.place(tmp_path / "there", below=True) == ""
    assert watch.is_watched(tmp_path / "there")
    (tmp_path / "there").rmdir()
    until(lambda: not watch.is_watched(tmp_path / "there"))


def test_reading_the_files_that_are_watched_is_no_news(watched, tmp_path):
    watch, told = watched
    (tmp_path / "s.jsonl").write_text("one")
    watch.place(tmp_path, below=True)
    (tmp_path / "s.jsonl").read_text()
    list(tmp_path.iterdir())
    (tmp_path / "t.jsonl").write_text("one")
    until(lambda: f"{tmp_path.name}:t.jsonl" in told)
    assert f"{tmp_path.name}:s.jsonl" not in told


# --- what the system cannot do --------------------------------------------------------------------------------------

WATCHER = """
import json, sys, threading, time
from pathlib import Path
from ingest.changes import Changes
from ingest.readers.claude_code import ClaudeCode
from ingest.watch import num_watches

root, reader = Path(sys.argv[1]), ClaudeCode()
changes = Changes(threading.Event())
changes.follow([(reader, root)])
changes.renew([(reader, path) for path in sorted(reader.discover(root))])
say = lambda **what: print(json.dumps(what), flush=True)
say(problem=changes.problem(), watches=num_watches())
for line in sys.stdin:
    end = time.monotonic() + 20
    seen = []
    while line.strip() not in seen and not changes.must_rescan and time.monotonic() < end:
        seen += [path.name for _, path in changes.take()]
        time.sleep(0.02)
    say(seen=seen, must_rescan=changes.must_rescan)
"""


class Watcher:
    """`Changes` in a process of its own, of which something is taken away."""

    def __init__(self, root: Path, *, limits: dict[str, int]) -> None:
        command = [sys.executable, "-c", WATCHER, str(root)]
        if limits:
            probe = ["unshare", "--user", "--map-root-user", "true"]
            if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True).returncode:
                pytest.skip("this machine lets this user have no limits of its own")
            steps = [f"echo {value} > /proc/sys/user/max_inotify_{name}" for name, value in limits.items()]
            command = [
                "unshare",
                "--user",
                "--map-root-user",
                "sh",
                "-c",
                f'{" && ".join(steps)} && exec "$@"',
                "sh",
                *command,
            ]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.first = self.told()

    def told(self) -> dict:
        return json.loads(self.process.stdout.readline())

    def look_for(self, name: str) -> dict:
        self.process.stdin.write(f"{name}\n")
        self.process.stdin.flush()
        return self.told()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def watcher(tmp_path):
    running: list[Watcher] = []

    def start(**limits: int) -> Watcher:
        running.append(Watcher(tmp_path, limits=limits))
        return running[-1]

    yield start
    for each in running:
        each.end()


def sessions(root: Path, num_folders: int) -> list[Path]:
    paths = [root / f"p{n:03}" / f"s{n:03}.jsonl" for n in range(num_folders)]
    for path in paths:
        path.parent.mkdir()
        path.write_text("one")
    return paths


linux_only = pytest.mark.skipif(sys.platform != "linux", reason="limits of inotify")


@linux_only
@pytest.mark.parametrize(
    ("limits", "told"), [({"watches": 10}, "max_user_watches"), ({"instances": 0}, "instance limit reached")]
)
def test_where_the_system_has_too_few_notifications_it_is_said_and_changes_are_seen_nevertheless(
    watcher, tmp_path, limits, told
):
    paths = sessions(tmp_path, 30)
    running = watcher(**limits)
    assert told in running.first["problem"]
    for path in (paths[0], paths[29]):
        with path.open("a") as out:
            out.write(" two")
        assert path.name in running.look_for(path.name)["seen"]
    (tmp_path / "p015" / "new.jsonl").write_text("one")
    assert "new.jsonl" in running.look_for("new.jsonl")["seen"]


@linux_only
def test_where_all_is_watched_nothing_is_complained_of(watcher, tmp_path):
    sessions(tmp_path, 30)
    running = watcher()
    assert running.first == {"problem": "", "watches": 31}


@linux_only
@pytest.mark.slow
def test_after_so_many_changes_that_some_were_not_told_all_is_looked_through_and_watching_goes_on(watcher, tmp_path):
    queue = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if queue > 50_000:
        pytest.skip("this machine's queue is too long to be filled in a test")
    paths = sessions(tmp_path, 300)
    running = watcher()
    os.kill(running.process.pid, signal.SIGSTOP)
    for n in range(queue + 2_000):
        with paths[n % 300].open("a") as out:
            out.write("x")
    os.kill(running.process.pid, signal.SIGCONT)
    assert running.look_for("none of these")["must_rescan"]


# --- Changes, by a clock of their own -------------------------------------------------------------------------------


class Clock:
    now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def followed(tmp_path):
    """A session of Claude Code, what follows it, and the clock by which it does so."""
    clock, reader = Clock(), ClaudeCode()
    path = tmp_path / "projects" / "p" / "s1.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("one")
    changes = Changes(threading.Event(), clock=clock)
    changes.follow([(reader, tmp_path / "projects"), (reader, tmp_path / "later")])
    changes.renew([(reader, path)])
    yield changes, path, clock
    changes.close()


def seen_within(changes: Changes, clock: Clock, seconds: float) -> list[str]:
    found = []
    end_s = clock.now_s + seconds
    while clock.now_s < end_s:
        found += [path.name for _, path in changes.take()]
        clock.now_s += 0.1
    return found


@pytest.fixture
def polled(monkeypatch, request):
    """The same where nothing is told, so that this clock alone counts."""
    monkeypatch.setattr("ingest.changes.foreign_file_system", lambda root: "nfs4")
    return request.getfixturevalue("followed")


def test_a_session_that_takes_long_to_read_is_read_the_more_seldom(polled):
    changes, path, clock = polled
    assert "nfs4" in changes.problem()
    assert seen_within(changes, clock, 3) == []
    path.write_text("one two")
    assert seen_within(changes, clock, 3) == ["s1.jsonl"]
    changes.rest(path, 2.0)
    changes.rest(path, 0.01)  # to list a database took long, one session of it did not
    path.write_text("one two three")
    assert seen_within(changes, clock, 9) == []
    assert seen_within(changes, clock, 3) == ["s1.jsonl"]


def test_a_new_session_is_followed_from_its_first_line_on_where_nothing_is_told(polled):
    changes, path, clock = polled
    new = path.with_name("s2.jsonl")
    for text in ("one", "one two", "one two three"):
        new.write_text(text)
        assert seen_within(changes, clock, 3) == ["s2.jsonl"]


def test_a_folder_that_appears_later_is_followed(followed, tmp_path):
    changes, _, clock = followed
    seen_within(changes, clock, 1.5)
    assert not changes.must_rescan
    (tmp_path / "later" / "q").mkdir(parents=True)
    seen_within(changes, clock, 1.5)
    assert changes.must_rescan
    (tmp_path / "later" / "q" / "s2.jsonl").write_text("one")
    found: list[str] = []

    def seen() -> bool:
        found.extend(seen_within(changes, clock, 0.5))
        return "s2.jsonl" in found

    until(seen)


def test_while_nothing_changes_it_is_slept(followed):
    changes, _, clock = followed
    changes.take()
    assert 0 < changes.wait_s(60) <= 1
    clock.now_s += 5
    assert changes.wait_s(60) == 0


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("server:/home /home/mira nfs4 rw 0 0", "nfs4"),
        ("C:\\134 /home 9p rw 0 0", "9p"),
        ("sshfs /home/mira/my\\040work fuse.sshfs rw 0 0", "fuse.sshfs"),
        ("portal /home/mira/my\\040work fuse rw 0 0", "fuse"),
        ("/dev/sdb1 /home fuseblk rw 0 0", ""),
        ("/dev/sda1 /home ext4 rw 0 0", ""),
        ("server:/data /home/mir nfs rw 0 0", ""),
    ],
)
def test_file_systems_that_others_write_on_are_known(tmp_path, line, kind):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"overlay / overlay rw 0 0\n{line}\n")
    assert foreign_file_system(Path("/home/mira/my work"), mounts=mounts) == kind
    assert foreign_file_system(Path("/elsewhere"), mounts=mounts) == ""


MAC = """/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)
devfs on /dev (devfs, local, nobrowse)
/dev/disk3s5 on /System/Volumes/Data (apfs, local, journaled, nobrowse, protect)
//ann@nas.local/my%20work on /Volumes/my work (smbfs, nodev, nosuid, mounted by ann)
nas:/export on /Users/ann/shared (on nas) (nfs, nodev, nosuid)
ann@host: on /Users/ann/far (macfuse, nodev, nosuid, synchronous, mounted by ann)
map auto_home on /System/Volumes/Data/home (autofs, automounted, nobrowse)
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/Users/ann/.claude/projects", ""),
        ("/Volumes/my work/.claude", "smbfs"),
        ("/Volumes/my workshop", ""),
        ("/Users/ann/shared (on nas)/x", "nfs"),
        ("/Users/ann/far", "macfuse"),
    ],
)
def test_file_systems_that_others_write_on_are_known_on_macos(monkeypatch, folder, kind):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(file_systems, "_mount", lambda: MAC)
    assert foreign_file_system(Path(folder)) == kind


@pytest.mark.parametrize("place", ["\\\\nas\\work\\.claude", "\\\\?\\UNC\\nas\\work"])
def test_a_network_share_of_windows_is_known_by_its_name(place):
    assert file_systems._of_windows(place) == "a network share"
    assert file_systems._of_windows("C:\\Users\\ann") == ""
