"""Starts `python -m ingest` as a child and asks it to read; the house never imports that wing.

There is one ingest process for each memory home: it holds `home.write_lock`, which the operating system releases
however it ends. A second one hands its paths over and leaves. A child dies with its parent: its standard input is a
pipe from us, and the end of that file tells it to finish what it is reading and go.

Who must write the store without being the child (forgetting) borrows the lock: see `borrowed_write_lock`.
"""

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any, Literal

from filelock import FileLock, Timeout

from lmm_mcp import restarts
from lmm_mcp.errors import HomeError, StoreError, StoreLocked
from lmm_mcp.limits import TOO_MUCH_MEMORY_code
from lmm_mcp.paths import Home

Phase = Literal["importing", "embedding", "watching", "done"]
IDLE_NICENESS = 10
"""Ours is background work; the agent and its compiler come first."""
STOP_GRACE_s = 10.0
"""How long a child may take to finish the file it is in before it is killed (it is resumable at any point)."""
STDERR_LOG = "ingest-stderr.log"
"""What the last ingest process wrote to standard error: why it could not start, above all."""
_COMING = "coming."
_count = itertools.count()


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the ingest process is, as it last wrote it down."""

    pid: int = 0
    started_ms: int = 0
    updated_ms: int = 0
    phase: str = "importing"
    """`importing`, `embedding`, `watching`, `done`."""
    files_done: int = 0
    files_total: int = 0
    bytes_done: int = 0
    bytes_total: int = 0
    chunks: int = 0
    """Chunks in the store."""
    embedded: int = 0
    to_embed: int = 0
    """Chunks that have no vector yet."""
    to_embed_anew: int = 0
    """Chunks that have none of the model yet whose vectors are made beside those that are served."""
    current_agent: str = ""
    unreadable: int = 0
    """Records that could not be understood in this run."""
    observers: int = 0
    """Sessions that another memory tool held to watch or sum up others: left out in this run."""
    unwatched: str = ""
    """Why some folders are looked at every second or two instead of being watched, '' while all are watched."""
    blocked: str = ""
    """Why no session is read although the process runs, '' while all is well."""
    error: str = ""
    """What stopped it, '' while all is well."""

    @property
    def is_running(self) -> bool:
        """Whether the process that wrote this still lives."""
        return is_alive(self.pid)


def progress(home: Home) -> Progress | None:
    """Read what the ingest process last wrote about itself; None where none ever ran, or its file cannot be understood."""
    try:
        found = json.loads(home.progress.read_bytes())
    except (OSError, ValueError):  # ValueError: bad JSON or bad UTF-8
        return None
    if not isinstance(found, dict):
        return None
    kinds: dict[str, type] = {field.name: type(field.default) for field in fields(Progress)}
    known: dict[str, Any] = {name: value for name, value in found.items() if type(value) is kinds.get(name)}
    return Progress(**known)


@dataclass(frozen=True, slots=True)
class Surveyed:
    """What the ingest wing found of one agent on this machine."""

    agent: str
    is_excluded: bool
    """By the user's settings: it is not read."""
    is_built_in: bool
    """False for a reader that another package brought."""
    folders: tuple[str, ...]
    """Those of its places that exist."""
    num_sources: int
    """Session files; of databases, sessions."""
    newest_ms: int
    """When the newest of them changed, UTC milliseconds since 1970; 0 where there is none."""
    problems: tuple[str, ...]
    """What could not be listed, and why."""


def survey(home: Home, env: Mapping[str, str]) -> list[Surveyed]:
    """Ask the ingest wing whose sessions lie where: names only are looked at. Raises HomeError where it cannot tell."""
    command = [sys.executable, "-P", "-m", "ingest", "--survey"]
    where = home.root if home.root.is_dir() else None
    ours = {**env, "LMM_HOME": str(home.root)}
    done = subprocess.run(command, env=ours, cwd=where, capture_output=True, check=False)
    if done.returncode:
        told = done.stderr.decode("utf-8", "replace").strip().splitlines()
        if told and told[-1].startswith("lmm: "):  # it came so far that it says itself what to do
            raise HomeError(told[-1].removeprefix("lmm: "))
        raise HomeError(f"the readers cannot be started{f' ({told[-1]})' if told else ''}. Install lmm-mcp anew.")
    return [
        Surveyed(**{**found, "folders": tuple(found["folders"]), "problems": tuple(found["problems"])})
        for found in json.loads(done.stdout)
    ]


def write_progress(home: Home, progress: Progress) -> None:
    """Say how far this process is. Raises OSError."""
    beside = home.progress.with_suffix(f".{os.getpid()}.part")
    beside.write_text(json.dumps(asdict(progress)), encoding="utf-8")
    beside.replace(home.progress)


class IngestChild:
    """A running `python -m ingest`."""

    def __init__(self, start: Callable[[], "subprocess.Popen[bytes]"]) -> None:
        self._start = start
        self.start_again()

    def start_again(self) -> None:
        """Start one more in its place, to do the same; the old one must have left. Raises HomeError."""
        self.started_ms = time.time_ns() // 1_000_000
        self._process = self._start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit code, None while it runs. 0 also when it handed its paths over to the one that holds the lock.

        One that the machine refused to let write says so by its code: see `refusal`.
        """
        code = self._process.poll()
        if code is not None:
            self.let_go()
        return code

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait for its end; None where that did not come within `timeout_s`."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        return self.poll()

    def let_go(self) -> None:
        """Close its pipe: it finishes the file it is in and leaves."""
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()

    def leave_behind(self) -> None:
        """Never ask for it again: it goes on without us, and gives way to what the user does next."""
        if self.poll() is None:
            _give_way(self._process.pid)
            self._process.returncode = 0  # else Python complains that nobody waited for it

    def stop(self, grace_s: float = STOP_GRACE_s) -> int:
        """Ask it to leave, wait, and end it where it does not; its exit code."""
        self.let_go()
        for hurry in (self._process.terminate, self._process.kill):
            try:
                return self._process.wait(grace_s)
            except subprocess.TimeoutExpired:
                hurry()
        return self._process.wait()


def start_ingest(
    home: Home,
    env: Mapping[str, str],
    *,
    stay: bool,
    paths: Sequence[Path] = (),
    idle_priority: bool = True,
    outlive_us: bool = False,
    rebuild: bool = False,
    derive: bool = False,
) -> IngestChild:
    """Start the ingest process; it reads `paths`, or where none are named all sessions it can find.

    `stay`: goes on watching for notes, handed-over paths and grown files. `outlive_us`: goes on after this process has
    ended, which only a user may ask for. `rebuild`: makes the store anew from the archive instead, and leaves. `derive`: derives facts and
    salience from the archive instead, and leaves; `derive` waits for that. Raises HomeError where it cannot be started at all.
    """
    # -P: the working directory of an agent is a stranger's repository, and a folder `ingest` in it must not be run.
    command = [
        sys.executable,
        "-P",
        *mark_of(home),
        "-m",
        "ingest",
        "--rebuild" if rebuild else "--derive" if derive else "--stay" if stay else "--once",
        *(str(path.absolute()) for path in paths),
    ]
    ours = {**env, "LMM_HOME": str(home.root)}

    def start() -> "subprocess.Popen[bytes]":
        try:
            with _complaints_file(home) as complaints:
                process = subprocess.Popen(
                    command,
                    # The child leaves when a pipe closes; where there is none, nothing tells it to.
                    stdin=subprocess.DEVNULL if outlive_us else subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=complaints,
                    env=ours,
                    cwd=home.root,
                    start_new_session=True,  # Ctrl-C in our terminal is ours to answer: it closes the pipe
                    creationflags=getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0) if idle_priority else 0,
                )
        except OSError as problem:
            raise HomeError(
                f"cannot start the ingest process: {problem}. `lmm doctor` looks for the reason."
            ) from problem
        if idle_priority:
            _give_way(process.pid)
        return process

    return IngestChild(start)


def derive(
    home: Home, env: Mapping[str, str], *, silent_s: float = 180.0, look_up: Callable[[], None] = lambda: None
) -> None:
    """Have facts and salience derived from all that is archived, and wait until they are.

    A staying ingest process that holds the write lock is asked to do it. `look_up` is called while we wait, and raises where
    nobody should wait any longer: what was derived by then stays. Raises HomeError where none can be started, StoreError with
    what the process complained about, StoreLocked where whoever holds the lock says nothing for `silent_s`.
    """
    child = start_ingest(home, env, stay=False, derive=True, idle_priority=False)
    try:
        _wait_until_derived(home, child, silent_s, look_up)
    finally:
        child.stop()  # first: it may be about to hand its request over
        for request in waiting_requests(home, child.pid):
            request.unlink(missing_ok=True)


def _pause(pause_s: float, look_up: Callable[[], None]) -> None:
    """Wait so long; `look_up` may raise to end that."""
    end_s = time.monotonic() + pause_s
    while (left_s := end_s - time.monotonic()) > 0:
        look_up()
        time.sleep(min(left_s, 0.2))


def _wait_until_derived(home: Home, child: IngestChild, silent_s: float, look_up: Callable[[], None]) -> None:
    sign: tuple[int, int] = (0, 0)
    heard_s = time.monotonic()
    while True:
        look_up()
        code, said = child.poll(), progress(home) or Progress()
        waiting = waiting_requests(home, child.pid)
        if code == TOO_MUCH_MEMORY_code:
            _pause(restarts.pause_s(home), look_up)
            child.start_again()
        elif code:
            told = said.error if said.pid == child.pid else ""
            raise StoreError(
                told
                or f"nothing was derived: the ingest process ended with code {code}; {home.logs / STDERR_LOG} may tell why."
            )
        elif code == 0 and not waiting:
            return  # it has done it, or whoever it had asked
        elif code == 0 and said.is_running and said.blocked:
            raise StoreError(f"nothing is derived: {said.blocked}")
        elif code == 0 and not said.is_running and is_lock_free(home):
            for request in waiting:  # whoever held the lock has gone without doing it
                request.unlink(missing_ok=True)
            child.start_again()
        if sign != (sign := (child.pid, said.updated_ms)):
            heard_s = time.monotonic()
        elif code == 0 and time.monotonic() - heard_s > silent_s:
            raise StoreLocked(
                f"another process holds the write lock of {home.root} and has not answered for {silent_s:.0f} s. "
                "Close the agents that use this memory, or end that process, and try again."
            )
        time.sleep(0.1)


def mark_of(home: Home) -> list[str]:
    """Options that Python ignores: by them whoever lists processes sees whose this one is, and `lmm stop` that it is ours."""
    return ["-X", f"lmm_home={home.root}"]


def _give_way(pid: int) -> None:
    if os.name == "posix":
        with suppress(OSError):  # it has ended already, or this system forbids it: priority is a courtesy
            os.setpriority(os.PRIO_PROCESS, pid, IDLE_NICENESS)


def _complaints_file(home: Home) -> IO[bytes]:
    """Where the child's complaints go: nowhere on a disk that takes no file, for then its exit code tells."""
    try:
        descriptor = os.open(home.logs / STDERR_LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        return os.fdopen(descriptor, "wb")
    except OSError:
        return Path(os.devnull).open("wb")


def hand_over(
    home: Home, paths: Sequence[Path], *, cut_anew: Sequence[tuple[str, str]] = (), derive: bool = False
) -> Path:
    """Ask the ingest process that holds the lock to read `paths`; where none runs, the next one finds the request.

    No path asks it to look for sessions now. `cut_anew`: (agent, thread id) of archived threads whose chunks are gone.
    `derive`: asks instead for facts and salience of all that is archived.
    """
    threads = [list(thread) for thread in cut_anew]
    request = {"paths": [str(path.absolute()) for path in paths], "cut_anew": threads}
    return _write_request(home, {**request, "derive": True} if derive else request)


def waiting_requests(home: Home, pid: int) -> list[Path]:
    """What this process handed over and nobody has taken yet."""
    return sorted(home.handover.glob(f"{pid}-*.json"))


def _write_request(home: Home, request: dict[str, Any]) -> Path:
    name = f"{os.getpid()}-{time.time_ns()}{next(_count)}.json"
    beside, target = home.handover / f".{name}.part", home.handover / name
    beside.write_text(json.dumps(request), encoding="utf-8")
    beside.replace(target)
    return target


@contextmanager
def borrowed_write_lock(home: Home, *, timeout_s: float = 30.0) -> Iterator[None]:
    """Hold the write lock for a while, also where a staying ingest process has it: a file beside it asks for it.

    Raises StoreLocked where nobody lets go in time.
    """
    wish = _wish(home)
    wish.write_text(str(os.getpid()), encoding="utf-8")
    try:
        with FileLock(home.write_lock).acquire(timeout=timeout_s, poll_interval=0.1):
            yield
    except Timeout as problem:
        raise StoreLocked(
            f"another process has been writing to {home.root} for {timeout_s:.0f} s. "
            "Wait until `lmm status` says that the import is done, or close the agents that use this memory, and try again."
        ) from problem
    finally:
        wish.unlink(missing_ok=True)


def is_lock_free(home: Home) -> bool:
    """Whether no process holds the write lock. It is taken for a moment to find out."""
    try:
        with FileLock(home.write_lock).acquire(timeout=0):
            return True
    except Timeout:
        return False


def is_lock_wanted(home: Home) -> bool:
    """Whether somebody waits for the write lock: a staying ingest process then lets go of it until this is over."""
    try:
        return is_alive(int(_wish(home).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return False


def come(home: Home) -> Path:
    """Say that this is an ingest process, which may be far from having the lock yet; the mark, for it to remove in the end."""
    mark = home.write_lock.with_name(f"{_COMING}{os.getpid()}")
    mark.touch(mode=0o600)
    return mark


def those_who_came(home: Home) -> list[int]:
    """The ids of all ingest processes of this home that may be alive. Marks that the dead left are removed."""
    found = []
    for mark in home.write_lock.parent.glob(f"{_COMING}*"):
        pid = int(digits) if (digits := mark.name.removeprefix(_COMING)).isdecimal() else 0
        if is_alive(pid):
            found.append(pid)
        else:
            mark.unlink(missing_ok=True)
    return sorted(found)


def ask_to_stop(home: Home) -> None:
    """Ask the ingest process that holds the lock to finish the file it is in and leave: one without a parent, too.

    It is asked by a file beside the lock. Where nobody runs, the next ingest process removes it and stays.
    """
    _farewell(home).touch(mode=0o600)


def is_stop_wanted(home: Home) -> bool:
    """Whether somebody asked the ingest process to leave since `forget_stop`."""
    return _farewell(home).exists()


def forget_stop(home: Home) -> None:
    """What a process does that has just taken the lock: an older wish was not meant for it."""
    _farewell(home).unlink(missing_ok=True)


def _wish(home: Home) -> Path:
    return home.write_lock.with_name("ingest.wanted")


def _farewell(home: Home) -> Path:
    return home.write_lock.with_name("ingest.stop")


def is_alive(pid: int) -> bool:
    """Whether there is a process of this id."""
    if pid <= 0:
        return False
    if sys.platform == "win32":
        return _is_alive_on_windows(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's process: it lives
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """A child that ended and was not waited for yet: it does no more work, though signals still find it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError, UnicodeDecodeError):
        return False


def _is_alive_on_windows(pid: int) -> bool:  # os.kill(pid, 0) would end it there
    if sys.platform == "win32":
        import ctypes

        kernel = ctypes.WinDLL("kernel32")
        handle = kernel.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
        if handle:
            code = ctypes.c_ulong()
            kernel.GetExitCodeProcess(handle, ctypes.byref(code))
            kernel.CloseHandle(handle)
            return code.value == 259  # STILL_ACTIVE
    return False
