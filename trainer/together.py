"""One training by several processes of this machine: the parent starts, watches and ends them; each follows `loop.train`.

The first tells of its steps by lines of JSON on its standard output. The standard input of each is a pipe from the parent: a line
asks to leave at the next step, which all of them do together; its end says that the parent has gone, and with it the lock that
keeps other trainings away, so they go at once.
"""

import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from lmm_mcp.artifacts import durable
from lmm_mcp.children import mark_of
from lmm_mcp.errors import LmmError, TrainingError
from lmm_mcp.paths import Home
from trainer import engine
from trainer.loop import Line, Trained

MEETING = ".meeting"
"""By this file processes find each other."""
REPORT = "trained.json"
"""What came of it, from the first of them."""
LOOK_EVERY_s = 0.1
_LEAVE = b"leave\n"
_MOST_WORDS_bytes = 4000
_OURS = "lmm: "
"""Before the one line that an error of this program is told in."""


@dataclass(frozen=True, slots=True)
class Seat:
    """Of one process among those that train together."""

    folder: Path
    """Of the run."""
    name: str
    """Of the training: the folder in it."""
    rank: int
    num_processes: int


# The parent


def train(
    home: Home,
    folder: Path,
    name: str,
    num_processes: int,
    *,
    num_threads: int,
    should_stop: Callable[[], bool],
    log: Callable[[Line], None],
) -> Trained:
    """Have the training `name` of the run in `folder` done by so many processes, and none of them left when this returns.

    `num_threads` of each, 0 = the machine's shared among them. What `should_stop` or `log` raises ends them at once, and so does the death of any.
    Raises TrainingError with what was said last.
    """
    there = durable.make_folder(folder / name)
    meeting, report = there / MEETING, there / REPORT
    for left in (meeting, report):
        left.unlink(missing_ok=True)
    threads = num_threads or max(1, (os.cpu_count() or 1) // num_processes)
    them: list[_Child] = []
    try:
        for rank in range(num_processes):
            child = _Child(home, Seat(folder, name, rank, num_processes), threads)
            them.append(child)  # at once: where the next one cannot be started, this one must be ended
        _watch(them, should_stop, log)
    finally:
        for each in them:
            each.end()
        meeting.unlink(missing_ok=True)
    found = _read(report)
    report.unlink()
    return found


def _watch(them: Sequence["_Child"], should_stop: Callable[[], bool], log: Callable[[Line], None]) -> None:
    """Until all of them have ended well."""
    told: queue.SimpleQueue[Line] = queue.SimpleQueue()
    ear = threading.Thread(target=_listen, args=(them[0].told, told), daemon=True)
    ear.start()
    is_asked = False
    while None in (codes := [each.poll() for each in them]) or any(codes):
        if any(codes):
            _tell_of_death(codes, them)
        with suppress(queue.Empty):
            log(told.get(timeout=LOOK_EVERY_s))
        if should_stop() and not is_asked:
            is_asked = True
            for each in them:
                each.ask_to_leave()
    ear.join()
    while not told.empty():
        log(told.get())


def _listen(source: IO[bytes], told: "queue.SimpleQueue[Line]") -> None:
    for line in source:
        with suppress(ValueError):  # what a library prints is none of ours
            found = json.loads(line)
            if isinstance(found, dict):
                told.put(found)


class _Child:
    """One of the processes, as its parent sees it."""

    def __init__(self, home: Home, seat: Seat, num_threads: int) -> None:
        # -P: a folder `trainer` in the working directory, which may be a stranger's repository, must not be run.
        command = [sys.executable, "-P", *mark_of(home), "-m", "trainer", "learn", str(seat.folder), seat.name]
        command += [str(seat.rank), str(seat.num_processes)]
        ours = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": str(num_threads)}
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL if seat.rank else subprocess.PIPE,
                stderr=self._words,
                env={**ours, **os.environ, "LMM_HOME": str(home.root)},
                cwd=home.root,
            )
        except OSError as problem:
            self._words.close()
            raise TrainingError(
                f"cannot start a process of this training: {problem}. `lmm doctor` looks for the reason."
            ) from problem

    @property
    def told(self) -> IO[bytes]:
        """What the first one says."""
        assert self._process.stdout is not None
        return self._process.stdout

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.poll()

    def ask_to_leave(self) -> None:
        """At its next step."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(_LEAVE)
            self._process.stdin.flush()

    def last_words(self) -> str:
        """The last line of its complaints."""
        size = self._words.seek(0, os.SEEK_END)
        self._words.seek(max(0, size - _MOST_WORDS_bytes))
        lines = self._words.read().decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def end(self) -> None:
        """Now, if it has not ended."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._words):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


def _tell_of_death(codes: Sequence[int | None], them: Sequence[_Child]) -> NoReturn:
    words = [each.last_words() if code else "" for code, each in zip(codes, them, strict=True)]
    if ours := next((said for said in words if said.startswith(_OURS)), ""):
        raise TrainingError(ours.removeprefix(_OURS))
    # One that was ended from outside comes first: the others then complain that they have lost it.
    rank = min((rank for rank, code in enumerate(codes) if code), key=lambda rank: codes[rank] or 0)
    code = codes[rank] or 0
    how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
    if code == -getattr(signal, "SIGKILL", 9):
        how += ", as where memory runs out"
    raise TrainingError(
        f"process {rank + 1} of the {len(them)} that trained together {how}{f': {words[rank]}' if words[rank] else ''}. "
        "`lmm train resume` goes on from the last checkpoint; `--processes 1` with it does so in one."
    )


def _read(report: Path) -> Trained:
    try:
        tree: dict[str, Any] = durable.read_json(report)
        listed = {name: tuple(tree[name]) for name in ("losses", "too_long", "unseen")}
        return Trained(**{**tree, **listed, "adapter": Path(tree["adapter"])})
    except (TypeError, KeyError) as problem:
        raise TrainingError(
            f"{report} does not say what was learned; `lmm train resume` goes on from the last checkpoint."
        ) from problem


# The children


def take_part(seat: Seat, device: str, follow: Callable[..., Trained], who_stops: Callable[[], str]) -> int:
    """Be one of the processes: meet the others and `follow` the training with them; an exit code. Raises LmmError, OSError."""
    is_asked = threading.Event()
    threading.Thread(target=_heed_parent, args=(is_asked,), daemon=True).start()
    try:
        engine.join(seat.rank, seat.num_processes, seat.folder / seat.name / MEETING, wanted=device)
        done = follow(
            should_stop=lambda: is_asked.is_set() or bool(who_stops()),
            log=_say if seat.rank == 0 else lambda _line: None,
        )
    except (LmmError, OSError):
        raise
    except Exception:
        traceback.print_exc()  # and no orderly end, which would wait for the others
        return 1
    if seat.rank == 0:
        told = {**dataclasses.asdict(done), "adapter": str(done.adapter)}
        durable.write_json(seat.folder / seat.name / REPORT, told)
    return 0


def _heed_parent(is_asked: threading.Event) -> None:
    for _ in sys.stdin.buffer:
        is_asked.set()
    os._exit(1)


def _say(line: Line) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
