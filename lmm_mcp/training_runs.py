"""What became of training runs: one `state.json` in each run's folder, written by the trainer after every station."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lmm_mcp.artifacts import durable, places, unlearning
from lmm_mcp.paths import Home

STATIONS = ("facts", "lessons", "training", "placebo", "judging", "gate", "promotion")
"""In this order. Each is done again from its start, or from its last checkpoint, where a run died in it."""
STATE = "state.json"
NUM_KEPT = 20
"""Runs whose lessons, scores and reports are kept."""
_TRAINED = ("training", "placebo")
"""Folders of a run in which something is trained."""
EXPERIMENT = "experiment"
"""In place of a verdict: a run that compares recipes. Nothing of it ever serves, and `lmm train` does not go on with it."""


@dataclass(frozen=True, slots=True)
class RunState:
    """How far one run came."""

    run_id: str
    started_ms: int
    options_hash: str
    """Of recipe and options: a run is gone on with only by the same."""
    done: tuple[str, ...] = ()
    """Stations that are behind it."""
    num_passages: int = 0
    """In the store when it began."""
    store_version: str = ""
    """Of the store it read."""
    ended_ms: int = 0
    """0 while it can be gone on with."""
    stopped_by: str = ""
    """`user` or `schedule`, where somebody stopped it."""
    verdict: str = ""
    """`promote`, `keep`, `failed`, or EXPERIMENT; '' while there is none."""
    reasons: tuple[str, ...] = ()
    version: str = ""
    """The version that was made of it."""
    figures: dict[str, float] = field(default_factory=dict)
    """What the stations told: counts, seconds, losses."""

    @property
    def is_unfinished(self) -> bool:
        """Whether there is something to go on with."""
        return not self.ended_ms

    @property
    def next_station(self) -> str:
        """The first that is not done, '' where all are."""
        return next((each for each in STATIONS if each not in self.done), "")

    def with_done(self, station: str) -> "RunState":
        """The same with one more station behind it."""
        return replace(self, done=(*self.done, station), stopped_by="")


def save(folder: Path, state: RunState) -> None:
    """Write it down, whole or not at all. Raises OSError."""
    durable.write_json(folder / STATE, asdict(state))


def load(folder: Path) -> RunState | None:
    """Read it; None where there is none that can be understood."""
    try:
        found: dict[str, Any] = json.loads((folder / STATE).read_bytes())
        listed = {name: tuple(found[name]) for name in ("done", "reasons")}
        return RunState(**{**found, **listed})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def runs(home: Home) -> Iterator[tuple[Path, RunState]]:
    """Every run that can be understood, newest first."""
    try:
        folders = sorted((each for each in places.runs_folder(home).iterdir() if each.is_dir()), reverse=True)
    except OSError:
        return
    for folder in folders:
        if (state := load(folder)) is not None:
            yield folder, state


def unfinished(home: Home) -> tuple[Path, RunState] | None:
    """The newest run, where it can be gone on with: not where something that it read was forgotten."""
    newest = next(_lessons(home), None)
    if newest is None or not newest[1].is_unfinished or unlearning.is_unclean(newest[0]):
        return None
    return newest


def last_finished(home: Home) -> RunState | None:
    """The newest run that came to its end."""
    return next((state for _, state in _lessons(home) if not state.is_unfinished), None)


def note_stop(home: Home, *, by: str) -> None:
    """Write down who stopped the newest run, where that was ended before it could. Nobody may be at work on it. Raises OSError."""
    found = unfinished(home)
    if found is not None and not found[1].stopped_by:
        save(found[0], replace(found[1], stopped_by=by))


def without_weights(folder: Path, *, has_version: bool) -> None:
    """Take away what a run that is over needs no more: checkpoints, and weights where a version holds them. Raises OSError."""
    for name in _TRAINED:
        durable.remove(folder / name / "checkpoints")
        if has_version:
            durable.remove(folder / name / "adapter")


def tidy(home: Home) -> None:
    """Keep the newest runs, and checkpoints only of experiments, before a new run begins: with no other run is gone on then.

    For whoever holds the trainer's lock. Raises OSError.
    """
    durable.sweep(places.runs_folder(home))
    names = list(reversed(places.runs(home)))
    for name in names[NUM_KEPT:]:
        durable.remove(places.run_folder(home, name))
    for name in names[:NUM_KEPT]:
        folder = places.run_folder(home, name)
        state = load(folder)
        if state is None or state.verdict != EXPERIMENT:
            without_weights(folder, has_version=False)


def _lessons(home: Home) -> Iterator[tuple[Path, RunState]]:
    return (each for each in runs(home) if each[1].verdict != EXPERIMENT)
