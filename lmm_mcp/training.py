"""The trainer as the house sees it: a child process of its own, one at a time, told to stop by a file, seen through two others.

locks/train.lock      held by the trainer for as long as it works; the operating system releases it however it ends
locks/train.json      what it last said about itself (`Progress`)
locks/train.stop      somebody wants it to stop; it finishes its step, keeps a checkpoint and leaves
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lmm_mcp.children import IDLE_NICENESS, mark_of
from lmm_mcp.domain.wording import EXTRA_TRAIN
from lmm_mcp.errors import TrainingBusy, TrainingError
from lmm_mcp.paths import Home

MODULE = "trainer"
NEEDED = ("torch", "transformers", "peft", "accelerate")
"""What the `train` extra installs."""
LOG = "train.log"
PATIENCE_s = 2.0
"""For which a trainer waits for its lock: whoever looks whether one is at work holds it for a moment."""
LEAVE_WITH_US = "--leave-with-parent"
"""Tells the trainer that its standard input is a pipe from whoever started it: when that closes, it keeps what it has and goes."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the trainer is, as it last wrote it down."""

    pid: int = 0
    run_id: str = ""
    started_ms: int = 0
    updated_ms: int = 0
    station: str = ""
    """One of `training_runs.STATIONS`, or `done`, `stopped`, `failed`."""
    done: float = 0.0
    """Share of this station that is done, 0 to 1."""
    told: str = ""
    """One line about it, without content of sessions."""
    error: str = ""
    """What ended it, with the next step; '' while all is well."""


def progress(home: Home) -> Progress | None:
    """Read what the trainer last wrote about itself; None where none ever ran, or its file cannot be understood."""
    try:
        found = json.loads(_place(home, "json").read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict):
        return None
    kinds: dict[str, type] = {field.name: type(field.default) for field in fields(Progress)}
    known: dict[str, Any] = {
        name: float(value) if kinds.get(name) is float and type(value) is int else value
        for name, value in found.items()
    }
    understood: dict[str, Any] = {name: value for name, value in known.items() if type(value) is kinds.get(name)}
    return Progress(**understood)


def write_progress(home: Home, said: Progress) -> None:
    """Say how far this process is. Raises OSError."""
    target = _place(home, "json")
    beside = target.with_suffix(f".{os.getpid()}.part")
    beside.write_text(json.dumps(asdict(said)), encoding="utf-8")
    beside.replace(target)


def lock(home: Home) -> FileLock:
    """The lock that a trainer holds while it works; not yet taken."""
    return FileLock(_place(home, "lock"))


def is_busy(home: Home) -> bool:
    """Whether a trainer is at work. Its lock is taken for a moment to find out."""
    try:
        with lock(home).acquire(timeout=0):
            return False
    except Timeout:
        return True


def ask_to_stop(home: Home, *, by: str) -> None:
    """Ask the trainer to keep what it has and leave. `by`: `user`, or `schedule`, which goes on with it later.

    Where none runs, the next one removes this and goes on.
    """
    _place(home, "stop").write_text(by, encoding="utf-8")


def stop_wanted(home: Home) -> str:
    """Who asked the trainer to stop since `forget_stop`, '' for nobody."""
    try:
        return _place(home, "stop").read_text(encoding="utf-8") or "user"
    except FileNotFoundError:
        return ""


def forget_stop(home: Home) -> None:
    """What a trainer does that has just taken the lock: an older wish was not meant for it."""
    _place(home, "stop").unlink(missing_ok=True)


@contextmanager
def at_work(home: Home) -> Iterator[None]:
    """Be the one trainer of a memory home for a while, whom no older wish to stop concerns. Raises TrainingBusy."""
    try:
        with lock(home).acquire(timeout=PATIENCE_s):
            forget_stop(home)
            yield
    except Timeout as problem:
        raise TrainingBusy(
            "another training is at work; `lmm train log` shows how far it is, `lmm train stop` ends it."
        ) from problem


def missing() -> list[str]:
    """What has to be installed before anything can be trained: names of packages."""
    import importlib.util

    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


def check_installed() -> None:
    """Raise TrainingError with the next step where packages for training are missing."""
    if gone := missing():
        raise TrainingError(f"training needs {', '.join(gone)}, which are not installed here: {EXTRA_TRAIN}.")


class Trainer:
    """A running `python -m trainer`. It leaves when it is told to, and when we die, unless it was to outlive us."""

    def __init__(self, process: "subprocess.Popen[bytes]", home: Home) -> None:
        self._process = process
        self._home = home

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.poll()

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait for its end; None where that did not come within `timeout_s`."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout_s)
        return None

    def ask_to_stop(self, *, by: str) -> None:
        """Have it keep what it has and leave, at its next step."""
        ask_to_stop(self._home, by=by)

    def let_go(self) -> None:
        """Close its pipe, which asks the same and needs no disk."""
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()

    def end(self) -> None:
        """End it now; what it did since its last checkpoint is done again by the next one."""
        with suppress(OSError):
            self._process.kill()


def start(
    home: Home, env: Mapping[str, str], arguments: Sequence[str], *, to_log: bool = False, outlive_us: bool = False
) -> Trainer:
    """Start `python -m trainer` with these arguments at idle priority. Raises TrainingError where it cannot be started.

    `to_log`: its words go to a log file, otherwise where ours go. `outlive_us`: it goes on after this process has ended,
    which only a user may ask for.
    """
    check_installed()
    # -P: a folder `trainer` in the working directory, which may be a stranger's repository, must not be run.
    command = [sys.executable, "-P", *mark_of(home), "-m", MODULE, *arguments]
    if not outlive_us:
        command.append(LEAVE_WITH_US)
    # No model hub is asked unless the user names a model to be downloaded, which is another command.
    ours = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **env, "LMM_HOME": str(home.root)}
    log = None
    try:
        if to_log:
            descriptor = os.open(home.logs / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            log = os.fdopen(descriptor, "ab")
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL if outlive_us else subprocess.PIPE,
            stdout=log or None,
            stderr=log or None,
            env=ours,
            cwd=home.root,
            start_new_session=True,  # Ctrl-C in our terminal is ours to answer: we ask it to stop
        )
    except OSError as problem:
        raise TrainingError(f"cannot start the trainer: {problem}. `lmm doctor` looks for the reason.") from problem
    finally:
        if log is not None:
            log.close()
    if os.name == "posix":
        with suppress(OSError):  # priority is a courtesy
            os.setpriority(os.PRIO_PROCESS, process.pid, IDLE_NICENESS)
    return Trainer(process, home)


def _place(home: Home, kind: str) -> Path:
    return home.write_lock.with_name(f"train.{kind}")
