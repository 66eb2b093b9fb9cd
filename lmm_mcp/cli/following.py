"""Watching the ingest process at work: a bar for a person, silence for a program, and its complaint if it fails."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from lmm_mcp import children
from lmm_mcp.children import IngestChild, Progress
from lmm_mcp.cli import terminal
from lmm_mcp.errors import StoreError
from lmm_mcp.paths import Home
from lmm_mcp.refusal import explained, refusal_of

if TYPE_CHECKING:  # a tenth of a second, which only those commands should take that read
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

_LOOK_EVERY_s = 0.15
_OWN_WORD = "lmm: "
"""Before what the ingest process says of an error that it knows; everything else is a crash."""


def follow(
    home: Home, child: IngestChild, *, is_enough: Callable[[Progress], bool], at_most_s: float | None = None
) -> Progress:
    """Watch until the child has ended, `is_enough` says so, or the time is over; the last it said.

    A child that finds another ingest process at work hands its paths over and leaves: then that other one is watched.
    Raises StoreError with what the process complained about. Ctrl-C sends our child home and rises.
    """
    started_s = time.monotonic()
    said = Progress()
    try:
        with _bars() as bars:
            import_bar = bars.add_task("looking for sessions", total=None, told="")
            embed_bar = bars.add_task("embedding", total=None, visible=False, told="")
            num_calm = 0
            while at_most_s is None or time.monotonic() - started_s < at_most_s:
                code = child.poll()
                said = children.progress(home) or said
                is_others = code == 0 and said.pid != child.pid and said.is_running
                if said.pid == child.pid or is_others:
                    _show(bars, import_bar, embed_bar, said)
                if code not in (None, 0) or (said.pid == child.pid and said.error):
                    raise StoreError(_complaint(home, said if said.pid == child.pid else Progress(), code))
                if said.pid == child.pid and is_enough(said):
                    return said
                # Another one may not have found yet what was handed over: it must be calm twice, with nothing waiting.
                is_calm = is_others and is_enough(said) and not any(home.handover.glob("*.json"))
                num_calm = num_calm + 1 if is_calm else 0
                if num_calm > 1 or (code == 0 and not is_others):
                    return said
                time.sleep(_LOOK_EVERY_s)
    except KeyboardInterrupt:
        child.let_go()
        raise
    return said


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
        told = f"{said.embedded:,}/{said.embedded + said.to_embed:,} passages"
        bars.update(
            embed_bar, visible=True, completed=said.embedded, total=max(said.embedded + said.to_embed, 1), told=told
        )


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
