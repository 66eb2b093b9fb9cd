"""A run at work: what is known of it, how it tells how far it is, and why it would have to end."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lmm_mcp import artifacts, training, training_runs
from lmm_mcp.errors import TrainingError
from lmm_mcp.paths import Home
from lmm_mcp.training_runs import RunState
from trainer import gathering
from trainer.plan import Plan

Say = Callable[[str], None]


class Stopped(Exception):
    """Somebody wants this process to stop; what was done is kept."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run at work."""

    home: Home
    folder: Path
    plan: Plan
    state: RunState
    who_stops: Callable[[], str]
    say: Say

    def knowing(self, **known: Any) -> "Run":
        """The same with more known of its state; `figures` are added to those there are."""
        figures = {**self.state.figures, **known.pop("figures", {})}
        return replace(self, state=replace(self.state, figures=figures, **known))

    def past(self, station: str) -> "Run":
        """The same with one more station behind it, written down."""
        state = self.state.with_done(station)
        training_runs.save(self.folder, state)
        return replace(self, state=state)

    def tell(self, station: str, done: float, told: str = "") -> None:
        """Say how far it is, for `lmm train log`."""
        now_ms = time.time_ns() // 1_000_000
        said = training.Progress(os.getpid(), self.state.run_id, self.state.started_ms, now_ms, station, done, told)
        training.write_progress(self.home, said)

    def look_up(self) -> None:
        """Raise Stopped where somebody wants that, TrainingError where something it read was forgotten meanwhile."""
        if self.who_stops():
            raise Stopped
        if artifacts.is_unclean(self.folder):
            raise TrainingError(gathering.FORGOTTEN)
