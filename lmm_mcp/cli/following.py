"""Watching the ingest process at work: a bar for a person, silence for a program, and its complaint if it fails."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from lmm_mcp import children, restarts
from lmm_mcp.children import IngestChild, Progress
from lmm_mcp.cli import terminal
from lmm_mcp.errors import StoreError, StoreLocked
from lmm_mcp.limits import TOO_MUCH_MEMORY_code
from lmm_mcp.paths import Home
from lmm_mcp.refusal import explained, refusal_of

if TYPE_CHECKING:  # a tenth of a second, which only those commands should take that read
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

_LOOK_EVERY_s = 0.15
SILENT_s = 30.0
"""How long somebody may hold the write lock without a word: forgetting and starting take seconds."""
AT_WORK_SILENT_s = 180.0
"""As above for an ingest process that lives: it says nothing while it joins the files of a large store."""
_MAX_STARTS = 4
_OWN_WORD = "lmm: "
"""Before what the ingest process says of an error that it knows; everything else is a crash."""


def follow(
    home: Home, child: IngestChild, *, is_enough: Callable[[Progress], bool], at_most_s: float | None = None
) -> Progress:
    """Watch until the child has ended, `is_enough` says so, or the time is over; the last it said.

    A child that finds another ingest process at work hands its paths over and leaves: then that other one is watched.
    Raises StoreError with what the process complained about, StoreLocked where whoever holds the lock does not answer.
    Ctrl-C sends our child home and rises.
    """
    started_s = time.monotonic()
    said = Progress()
    other = _Other(home, child)
    try:
        with _bars() as bars:
            import_bar = bars.add_task("looking for sessions", total=None, told="")
            embed_bar = bars.add_task("embedding", total=None, visible=False, told="")
            while at_most_s is None or time.monotonic() - started_s < at_most_s:
                code = child.poll()
                said = children.progress(home) or said
                if code == TOO_MUCH_MEMORY_code:
                    if pause_s := restarts.pause_s(home):
                        bars.update(import_bar, description="waiting (limits.memory_mb)")
                        time.sleep(pause_s)
                    child.start_again()
                    continue
                is_ours = said.pid == child.pid
                if is_ours or (code == 0 and said.is_running):
                    _show(bars, import_bar, embed_bar, said)
                if code not in (None, 0) or (is_ours and said.error):
                    raise StoreError(_complaint(home, said if is_ours else Progress(), code))
                if is_ours and (code == 0 or is_enough(said)):
                    return said
                if code == 0 and other.has_done_it(said, is_enough):
                    return said
                time.sleep(_LOOK_EVERY_s)
    except KeyboardInterrupt:
        child.let_go()
        raise
    return said


class _Other:
    """The process that held the lock when our child came, and what became of the request our child left for it."""

    def __init__(self, home: Home, child: IngestChild) -> None:
        self._home, self._child = home, child
        self._sign: tuple[object, ...] = ()
        self._heard_s = time.monotonic()
        self._num_calm = 0
        self._num_starts = 1

    def has_done_it(self, said: Progress, is_enough: Callable[[Progress], bool]) -> bool:
        """Whether what was asked is done. Where the other one has gone without doing it, our child is started again.

        Raises StoreLocked where nothing is heard of it for too long, StoreError with what it complained about.
        """
        waiting = children.waiting_requests(self._home, self._child.pid)
        if said.is_running:
            # It may only just have found what was handed over: it must be calm twice, with nothing waiting.
            self._num_calm = self._num_calm + 1 if is_enough(said) and not waiting else 0
            if self._num_calm > 1:
                return True
        elif not waiting and said.phase == "done" and said.updated_ms >= self._child.started_ms:
            if said.error:
                raise StoreError(said.error)
            return True
        elif self._num_starts < _MAX_STARTS and children.is_lock_free(self._home):
            for request in waiting:
                request.unlink(missing_ok=True)
            self._child.start_again()
            self._num_starts += 1
        self._listen((said.pid, said.updated_ms, self._child.pid, len(waiting)), said)
        return False

    def _listen(self, sign: tuple[object, ...], said: Progress) -> None:
        now_s = time.monotonic()
        if sign != self._sign:
            self._sign, self._heard_s = sign, now_s
        silent_s = now_s - self._heard_s
        if silent_s > (AT_WORK_SILENT_s if said.is_running else SILENT_s):
            who = f"process {said.pid}" if said.is_running else "another process"
            raise StoreLocked(
                f"{who} holds the write lock of {self._home.root} and has not answered for {silent_s:.0f} s, so nothing was "
                "read. Close the agents that use this memory, or end that process, and run `lmm import` again."
            )


def is_imported(said: Progress) -> bool:
    """Whether all that was found can be recalled by its words."""
    return said.phase != "importing"


def is_embedded(said: Progress) -> bool:
    """Whether nothing is left to do, or to do without a model."""
    return said.phase in ("watching", "done")


def _bars() -> "Bars":
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = terminal.complaints()
    return Bars(
        TextColumn("{task.description:<22}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[told]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _show(bars: "Bars", import_bar: "TaskID", embed_bar: "TaskID", said: Progress) -> None:
    if said.files_total:
        told = f"{said.files_done:,}/{said.files_total:,} files"
        what = f"reading {said.current_agent}".strip() if said.phase == "importing" else "read"
        bars.update(import_bar, description=what, completed=said.bytes_done, total=max(said.bytes_total, 1), told=told)
    if said.phase == "embedding" or said.to_embed:
        left = said.to_embed or said.to_embed_anew
        done, total = said.chunks - left, max(said.chunks, 1)
        bars.update(embed_bar, visible=True, completed=done, total=total, told=f"{done:,}/{total:,} passages")


def _complaint(home: Home, said: Progress, code: int | None) -> str:
    """Why the process failed, with the next step: in its own words, else by its exit code, else where to look."""
    log = home.logs / children.STDERR_LOG
    try:
        told = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        told = []
    own = [line.removeprefix(_OWN_WORD) for line in told if line.startswith(_OWN_WORD)]
    refusal = refusal_of(code or 0)
    why = explained(refusal, home.root)
    if refusal == "full":  # whatever could still be written of it comes from somebody who knew less
        return why
    if said.error or own or why:
        return said.error or (own[-1] if own else why)
    last = told[-1].rstrip(".") if told else f"it ended with code {code} and said nothing"
    return f"the ingest process failed: {last}. `lmm doctor` looks for the reason; {log} may tell more."
