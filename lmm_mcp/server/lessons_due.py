"""When the memory model is trained without being asked: the schedule of the settings, and what the engine does about it.

Only an engine that stays (`lmm serve`) keeps a schedule. It starts the trainer when the time has come and the machine is idle,
and asks it to stop as soon as the machine is wanted; the trainer keeps what it has, and goes on at the next occasion.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from lmm_mcp import artifacts, training, training_runs
from lmm_mcp.domain.schedule import Schedule, parse
from lmm_mcp.errors import LmmError
from lmm_mcp.paths import Home
from lmm_mcp.server import idleness

LOOK_EVERY_s = 20.0
WATCH_EVERY_s = 5.0
"""While we train: so long the machine may be wanted before the trainer hears of it; it stops at its next step."""
NIGHT = (1, 6)
"""Hours, local time: from, to."""
QUIET_s = {"nightly": 300.0, "idle": 1800.0, "after": 120.0}
"""Without a question, before training by that schedule may start."""
AT_MOST_EVERY_s = 20 * 3600.0
"""Between two runs that were finished, by `nightly` and `idle`."""
NEW_PASSAGES = 50
"""Fewer new passages than these are not worth a run by `nightly` and `idle`."""
_YIELD_QUIET_s = 30.0
"""A question that came so recently while we train means that somebody works here."""
_GRACE_s = 30.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """What there is to learn, and when that was done last."""

    num_new: int
    """Passages since the last finished run; all of them where something that the memory model knew was forgotten since."""
    last_end_ms: int
    """When that ended, 0 where there was none."""
    is_unfinished: bool = False
    """A run was stopped and waits to be gone on with."""


def standing(home: Home, num_passages: int) -> Standing:
    """What there is to learn, as the runs so far tell. `num_passages`: in the store now."""
    last, unfinished = training_runs.last_finished(home), training_runs.unfinished(home)
    num_known = last.num_passages if last and _lost_ms(home) <= last.started_ms else 0
    return Standing(
        num_new=num_passages - num_known,
        last_end_ms=last.ended_ms if last else 0,
        is_unfinished=unfinished is not None and unfinished[1].stopped_by == "schedule",
    )


def _lost_ms(home: Home) -> int:
    """When something was forgotten of what the version learned that was promoted last; 0 where nothing was."""
    found = next((each for each in artifacts.versions(home) if each.name == artifacts.current(home)), None)
    return found.unclean.at_ms if isinstance(found, artifacts.Version) and found.unclean is not None else 0


def not_yet(schedule: Schedule, standing: Standing, now: datetime) -> str:
    """Why no run is due, '' where one is."""
    if schedule.kind == "off":
        return "no schedule is set"
    if schedule.kind == "nightly" and not NIGHT[0] <= now.hour < NIGHT[1]:
        return f"it is not night ({NIGHT[0]} to {NIGHT[1]} o'clock)"
    if standing.is_unfinished:
        return ""
    if schedule.kind == "after":
        missing = schedule.after - standing.num_new
        return f"{missing} passages are missing to {schedule.after}" if missing > 0 else ""
    if now.timestamp() - standing.last_end_ms / 1000 < AT_MOST_EVERY_s:
        return "the last run is not a day old"
    if standing.num_new < NEW_PASSAGES:
        return f"only {standing.num_new} passages are new"
    return ""


class Teacher:
    """Keeps the schedule of one engine, on a thread of its own.

    `schedule`: what the settings say now. `standing`: what there is to learn. `quiet_s`: seconds since the last question.
    """

    def __init__(
        self,
        home: Home,
        env: Mapping[str, str],
        *,
        schedule: Callable[[], str],
        standing: Callable[[], Standing],
        quiet_s: Callable[[], float],
        look_every_s: float = LOOK_EVERY_s,
    ) -> None:
        self._home, self._env = home, env
        self._schedule, self._standing, self._quiet_s = schedule, standing, quiet_s
        self._look_every_s = look_every_s
        self._over = threading.Event()
        self._child: training.Trainer | None = None
        self._asked_to_stop_s = 0.0
        self._was_ended = False
        self._failed_at_s = 0.0
        self.told = "not looked yet"
        """Why nothing is trained now, or that it is; for `lmm status` and `lmm train --schedule`."""
        self._thread = threading.Thread(target=self._keep, name="teacher", daemon=True)

    def start(self) -> None:
        """Begin to keep the schedule. Does nothing the second time."""
        if self._thread.ident is None:
            self._thread.start()

    def stop(self) -> None:
        """Keep it no longer; a trainer of ours is asked to leave, which it does at its next step."""
        self._over.set()
        if self._child is not None:
            self._child.let_go()

    def _keep(self) -> None:
        while not self._over.wait(
            self._look_every_s if self._child is None else min(self._look_every_s, WATCH_EVERY_s)
        ):
            try:
                self.told = self.look()
            except (LmmError, OSError) as problem:
                self._failed_at_s = time.monotonic()
                self.told = str(problem)
                _log.warning("training by schedule: %s", problem)

    def look(self) -> str:
        """Start, leave alone, or stop the trainer, as the machine is now; what was found, in a few words."""
        schedule = parse(self._schedule()) or Schedule("off")
        if self._child is not None:
            code = self._child.poll()
            if code is None:
                return self._mind(schedule)
            if code and self._was_ended:  # by us, so that it could not say itself why it stopped
                training_runs.note_stop(self._home, by="schedule")
            elif code:
                self._failed_at_s = time.monotonic()
                _log.warning("the trainer ended with code %d; see %s", code, training.LOG)
            self._child = None
        if schedule.kind == "off":
            return "no schedule is set"
        if self._failed_at_s and time.monotonic() - self._failed_at_s < 3600:
            return "the last run failed; it is tried again an hour later"
        if why := not_yet(schedule, self._standing(), datetime.now().astimezone()):
            return why
        machine = idleness.look(self._quiet_s(), self._env)
        if why := idleness.objection(machine, needs_quiet_s=QUIET_s[schedule.kind]):
            return why
        if training.is_busy(self._home):
            return "a run that somebody else started is at work"
        training.forget_stop(self._home)
        self._child = training.start(self._home, self._env, ["run", "--by-schedule"], to_log=True)
        self._asked_to_stop_s, self._was_ended = 0.0, False
        _log.info("started the trainer %d (%s)", self._child.pid, schedule.kind)
        return "training"

    def _mind(self, schedule: Schedule) -> str:
        assert self._child is not None
        if self._asked_to_stop_s:
            if time.monotonic() - self._asked_to_stop_s > _GRACE_s:
                self._child.end()  # nothing is lost but what it did since its last checkpoint
                self._was_ended = True
            return "stopping"
        machine = idleness.look(self._quiet_s(), self._env, trainer=self._child.pid)
        # What is beyond ours is somebody else's.
        why = idleness.objection(machine, needs_quiet_s=_YIELD_QUIET_s, our_load_per_core=machine.our_load_per_core)
        if schedule.kind == "off":
            why = "no schedule is set any more"
        if not why:
            return "training"
        self._child.ask_to_stop(by="schedule")
        self._asked_to_stop_s = time.monotonic()
        _log.info("the trainer gives way: %s", why)
        return f"gives way: {why}"
