"""One training run, station by station: memory > lessons > training > placebo > judging > gate > promotion.

After each station its result lies in the run's folder and `state.json` says so; whatever dies goes on from there, and inside
training from the last checkpoint. Until the last station, which replaces one small file, nothing of it serves.
"""

import argparse
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import Timeout

from lmm_mcp import artifacts, training, training_runs
from lmm_mcp.artifacts import durable
from lmm_mcp.domain.verdict import Keep, Promote
from lmm_mcp.errors import BadInput, LmmError, ModelError, TrainingBusy, TrainingError
from lmm_mcp.paths import Home
from lmm_mcp.training_runs import RunState
from trainer import forgetting_curve, gathering, planning, preflight, reporting, stations
from trainer import plan as plans
from trainer.plan import Plan
from trainer.underway import Run, Say, Stopped


def main(home: Home, told: argparse.Namespace, dials: Mapping[str, Any], who_stops: Callable[[], str], say: Say) -> int:
    """Do what was asked for; an exit code. Raises LmmError."""
    plan = planning.going_on(home, planning.plan_of(told, dials))
    resumed = _gone_on_with(home, told)
    ahead = _loaded(resumed[0], told) if resumed else plan
    planning.base_of(home, ahead)  # what is missing is said now, not after minutes of making lessons
    if resumed is None:
        planning.start_from(home, ahead)
    elif not _has_its_start(home, *resumed):
        raise BadInput(
            f"{ahead.from_checkpoint}, from which run {resumed[1].run_id} goes on, was forgotten or is gone, and it has not "
            "learned all of its lessons yet. `lmm train --fresh` starts a new one."
        )
    for line in preflight.look(home, plan) if ahead is plan else ():  # what is gone on with has its room
        say(line)
    if told.only_check:
        return 0
    if told.dry_run:
        for line in gathering.dry_run(home, os.environ, plan):
            say(line)
        say(f"begins at {plan.from_checkpoint or 'the base'}")
        return 0
    try:
        with training.lock(home).acquire(timeout=training.PATIENCE_s):
            training.forget_stop(home)
            artifacts.sweep(home)
            return _with_lock(_begun(home, plan, told, who_stops, say))
    except Timeout as problem:
        raise TrainingBusy(
            "another training is at work; `lmm train log` shows how far it is, `lmm train stop` ends it."
        ) from problem


def _gone_on_with(home: Home, told: argparse.Namespace) -> tuple[Path, RunState] | None:
    """The run that is to be resumed by its own plan, whatever the options say; None where a new one is wanted."""
    unfinished = training_runs.unfinished(home)
    if unfinished is None or told.fresh or artifacts.is_unclean(unfinished[0]):
        return None
    if told.resume or (told.by_schedule and unfinished[1].stopped_by != "user" and _has_its_start(home, *unfinished)):
        return unfinished
    return None


def _has_its_start(home: Home, folder: Path, state: RunState) -> bool:
    """Whether what a run goes on from is still there, where it needs it yet: it may be forgotten, or have given way."""
    if "training" in state.done:
        return True
    try:
        planning.start_from(home, plans.load(folder))
    except (BadInput, ModelError):
        return False
    return True


def _loaded(folder: Path, told: argparse.Namespace) -> Plan:
    """The plan of a run, to be done by as many processes as are asked for now: what is learned is the same."""
    plan = plans.load(folder)
    return planning.by_processes(plan, told.processes or plan.processes)


def _begun(home: Home, plan: Plan, told: argparse.Namespace, who_stops: Callable[[], str], say: Say) -> Run:
    """The run to go on with, or a new one."""
    unfinished = training_runs.unfinished(home)
    if unfinished is not None and not told.fresh:
        folder, state = unfinished
        # What the user stopped is the user's to go on with.
        is_ours = state.stopped_by != "user" if told.by_schedule else state.options_hash == plan.hash
        is_wanted = told.resume or (is_ours and _has_its_start(home, folder, state))
        if is_wanted and not artifacts.is_unclean(folder):
            say(f"going on with run {state.run_id} at {state.next_station}")
            return Run(home, folder, _loaded(folder, told), replace(state, stopped_by=""), who_stops, say)
    if told.resume:
        raise BadInput("there is no run to go on with; `lmm train` starts one.")
    training_runs.tidy(home)
    began_ms = time.time_ns() // 1_000_000
    run_id = datetime.fromtimestamp(began_ms / 1000, UTC).strftime("%Y-%m-%d-%H%M%S") + f"-{os.getpid() % 1000:03d}"
    folder = durable.make_folder(artifacts.run_folder(home, run_id))
    plans.save(plan, folder)
    state = RunState(run_id, began_ms, plan.hash)
    training_runs.save(folder, state)
    rate = " at half the rate" if plan.followed != plan.recipe else ""
    going_on = f", going on from {plan.from_checkpoint}{rate}" if plan.from_checkpoint else ""
    say(f"run {run_id}: {plan.recipe.preset}, base {plan.recipe.base}{going_on}")
    return Run(home, folder, plan, state, who_stops, say)


def _with_lock(run: Run) -> int:
    try:
        for station in training_runs.STATIONS:
            if station not in run.state.done:
                run.look_up()
                run.tell(station, 0.0)
                run.say(f"{station} ...")
                began_s = time.monotonic()
                run = stations.DO[station](run)
                run = run.knowing(figures={f"{station} s": round(time.monotonic() - began_s, 1)}).past(station)
        return _ended(run)
    except Stopped:
        by = run.who_stops() or "user"
        training_runs.save(run.folder, replace(run.state, stopped_by=by))
        run.tell("stopped", 0.0, "`lmm train resume` goes on")
        run.say("stopped; `lmm train resume` goes on where it was")
        return 0
    except (LmmError, OSError) as problem:
        message = str(problem) if isinstance(problem, LmmError) else _of_disk(run.folder, problem)
        with suppress(OSError):  # the disk may be full: what is told below matters more
            if artifacts.is_unclean(run.folder):  # whose files were taken away under us
                message = gathering.FORGOTTEN
                artifacts.sweep(run.home)  # what we wrote there since
        said = training.Progress(
            os.getpid(),
            run.state.run_id,
            run.state.started_ms,
            time.time_ns() // 1_000_000,
            "failed",
            0.0,
            error=message,
        )
        with suppress(OSError, LmmError):
            training.write_progress(run.home, said)
            if isinstance(problem, TrainingError) and not isinstance(problem, TrainingBusy) and _is_final(run):
                if not artifacts.is_unclean(run.folder):
                    run = run.knowing(num_passages=gathering.num_passages(run.home))  # of no use before there are more
                training_runs.save(run.folder, _at_its_end(run, "failed", (message,)).state)
        raise TrainingError(message) from problem


def _is_final(run: Run) -> bool:
    """Whether going on would only fail again: what it read is gone, or there was nothing to learn from."""
    return artifacts.is_unclean(run.folder) or "lessons" not in run.state.done


def _of_disk(folder: Path, problem: OSError) -> str:
    return (
        f"{folder} cannot be written: {problem.strerror or problem}. "
        "Free some space and run `lmm train resume`; what was done is kept, and the old model serves."
    )


def _ended(run: Run) -> int:
    verdict = stations.verdict_of(run)
    reasons = verdict.reasons if isinstance(verdict, Keep) else ()
    run = _at_its_end(run, "promote" if isinstance(verdict, Promote) else "keep", reasons)
    kept = forgetting_curve.table(forgetting_curve.load(artifacts.curve_file(run.home)))
    page = reporting.write(run.folder, run.state, verdict, kept=kept)
    training_runs.without_weights(run.folder, has_version=stations.version_made(run) is not None)
    training_runs.save(run.folder, run.state)  # last: whoever dies before goes on here
    if artifacts.is_unclean(run.folder):  # marked before its page was there
        artifacts.sweep(run.home)
    if isinstance(verdict, Promote) and run.plan.promotes:
        run.say(f"{run.state.version} serves now; it passed every gate. Report: {page}")
    elif isinstance(verdict, Promote):
        run.say(f"{run.state.version} passed every gate, and was not asked to serve. Report: {page}")
    else:
        run.say(f"the old model stays: {'; '.join(reasons)}. Report: {page}")
    run.tell("done", 1.0, run.state.verdict)
    return 0


def _at_its_end(run: Run, verdict: str, reasons: tuple[str, ...]) -> Run:
    """The same with what came of it, not yet written down."""
    state = replace(run.state, ended_ms=time.time_ns() // 1_000_000, verdict=verdict, reasons=reasons)
    return replace(run, state=state)
