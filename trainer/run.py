"""One training run, station by station: memory > lessons > training > placebo > judging > gate > promotion.

After each station its result lies in the run's folder and `state.json` says so; whatever dies goes on from there, and inside
training from the last checkpoint. Until the last station, which replaces one small file, nothing of it serves.
"""

import argparse
import dataclasses
import hashlib
import os
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import Timeout

from lmm_mcp import artifacts, children, training, training_runs
from lmm_mcp.artifacts import durable
from lmm_mcp.domain.verdict import Keep, Promote, ScoreSheet, Verdict
from lmm_mcp.domain.wording import counted
from lmm_mcp.errors import BadInput, LmmError, ModelError, TrainingBusy, TrainingError
from lmm_mcp.paths import Home
from lmm_mcp.training_runs import RunState
from trainer import (
    examining,
    forgetting_curve,
    gate,
    gathering,
    papers,
    planning,
    preflight,
    probes,
    reporting,
    thresholds,
    wording,
)
from trainer import plan as plans
from trainer.canaries import Extraction
from trainer.plan import Plan
from trainer.taught import ADAPTER, PLACEBO, UNSEEN, placebo_folder, trained
from trainer.underway import Run, Say, Stopped

CANARIES = "canaries.json"
SAID = "said.json"
"""What models said to some probes; the page shows it."""
MAY_WRITE = "sentences it may write"
FORGOTTEN_in_judging = "something was forgotten while models were asked; `lmm train resume` asks them anew."
SHEETS = {"base": "sheet-base.json", "old": "sheet-old.json", "new": "sheet-new.json"}
_LIBRARIES = ("torch", "transformers", "peft", "accelerate")


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
                run = _DO[station](run)
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
        with suppress(OSError):
            training.write_progress(run.home, said)
            if isinstance(problem, TrainingError) and not isinstance(problem, TrainingBusy) and _is_final(run):
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


# The stations


def _facts(run: Run) -> Run:
    children.derive(run.home, os.environ, look_up=run.look_up)
    return run


def _lessons(run: Run) -> Run:
    # What its version says of itself must hold, however late this station has its turn.
    plan = replace(run.plan, until_ms=run.plan.until_ms or run.state.started_ms)
    found = gathering.gather(run.home, os.environ, plan, run.look_up)
    until_ms = planning.learns_until_ms(run.home, run.plan, run.state.started_ms)
    own = artifacts.Sources.of(found.threads, found.chunks, as_of=found.as_of)
    sources = planning.with_those_of_its_start(run.home, run.plan, own)
    with gathering.nothing_forgotten(run.home, found.as_of):  # who forgets from now on finds what this run has read
        artifacts.write_sources(run.folder, sources)
        papers.write_lessons(run.folder / papers.LESSONS, found.lessons)
        papers.write_texts(run.folder / papers.TEXTS, found.texts)
        papers.write_probes(run.folder / papers.PROBES, found.probes)
        durable.write_json(run.folder / papers.ABOUT, {**found.about, "notes": found.notes, papers.UNTIL: until_ms})
    for line in found.notes:
        run.say(f"  {line}")
    counts = {"lessons": len(found.lessons), "texts": len(found.texts), "probes": len(found.probes)}
    return run.knowing(num_passages=found.num_passages, store_version=found.store_version, figures=counts)


def _training(run: Run) -> Run:
    return run.knowing(figures=trained(run, ADAPTER))


def _placebo(run: Run) -> Run:
    if not run.plan.placebo:
        return run
    target = placebo_folder(run.home, run.folder, run.plan)
    if target.is_dir():
        os.utime(target)
        return run
    figures = trained(run, PLACEBO)
    durable.make_folder(target.parent)
    durable.settle(run.folder / PLACEBO / "adapter")
    durable.publish(run.folder / PLACEBO / "adapter", target)
    planning.drop_old_placebos(run.home)
    return run.knowing(figures={f"placebo {name}": value for name, value in figures.items()})


def _judging(run: Run) -> Run:
    asked = papers.read_probes(run.folder / papers.PROBES)
    about = durable.read_json(run.folder / papers.ABOUT) or {}

    def on_arm(arm: str, done: float) -> None:
        run.look_up()
        run.tell("judging", done, arm)

    found = examining.examine(
        run.home,
        os.environ,
        run.plan,
        asked,
        str(about.get("probes_hash", "")),
        candidate=run.folder / ADAPTER / "adapter",
        placebo=placebo_folder(run.home, run.folder, run.plan) if run.plan.placebo else None,
        on_arm=on_arm,
        look_up=run.look_up,
    )
    sources = _sources(run).showing(found.shown)
    with gathering.nothing_forgotten(run.home, found.as_of, FORGOTTEN_in_judging):
        artifacts.write_sources(run.folder, sources)
        for name, sheet in (("base", found.base), ("old", found.old), ("new", found.new)):
            if sheet is not None:
                durable.write_json(run.folder / SHEETS[name], artifacts.sheet_told(sheet, with_outputs=True))
        durable.write_json(run.folder / CANARIES, [dataclasses.asdict(each) for each in found.canaries])
        durable.write_json(
            run.folder / SAID, {"samples": found.samples, "learned": found.learned, "forgotten": found.forgotten}
        )
    return run


def _gate(run: Run) -> Run:
    base, old, new = (_sheet(run, name) for name in ("base", "old", "new"))
    assert base is not None and new is not None
    asked = papers.read_probes(run.folder / papers.PROBES)
    serving = next((each for each in artifacts.versions(run.home) if old is not None and each.name == old.model), None)
    hearing = gate.Hearing(
        new=new,
        base=base,
        old=old,
        lint=gathering.findings_of(run.folder),
        probes={each.id: each for each in asked},
        canaries=tuple(Extraction(**each) for each in durable.read_json(run.folder / CANARIES) or ()),
        old_probes=serving.judged_by() if isinstance(serving, artifacts.Version) else frozenset(),
        limits=thresholds.thresholds_for(run.plan.recipe.preset),
    )
    verdict = gate.judge(hearing)
    durable.write_json(run.folder / "verdict.json", artifacts.verdict_told(verdict))
    allowed = wording.sentences(hearing)
    for finding in verdict.findings:
        run.say(f"  {finding.gate} {'passed ' if finding.passed else 'refused'} {finding.told}")
    run.say(f"  it may write {counted(allowed, 'sentence')} of its own" if allowed else "  it may only choose lines")
    return run.knowing(figures={MAY_WRITE: allowed})


def _promotion(run: Run) -> Run:
    verdict, sheet = _verdict(run), _sheet(run, "new")
    assert sheet is not None
    sources = _sources(run).showing(())  # a version holds no words
    made = next((each for each in artifacts.versions(run.home) if _is_of(each, run.state.run_id)), None)
    if made is None:  # else this station died after it had kept the version
        draft = artifacts.draft(run.home)
        planning.copy_weights(run.folder / ADAPTER / "adapter", draft / "adapter")
        made = artifacts.commit(run.home, draft, _manifest(run, verdict, sheet), sheet, sources)
    learned = sorted({each.cohort for each in papers.read_probes(run.folder / papers.PROBES)} - {"general"})
    curve = artifacts.curve_file(run.home)
    row = forgetting_curve.row_of(
        replace(sheet, model=made.name),
        made_ms=run.state.started_ms,
        learned=learned,
        promoted=isinstance(verdict, Promote) and run.plan.promotes,
    )
    rows = forgetting_curve.after_run(forgetting_curve.load(curve), row, sheet, _sheet(run, "old"))
    forgetting_curve.save(curve, rows)
    if (change := forgetting_curve.transfer(rows)).is_alarming:
        run.say(f"  {forgetting_curve.told(change)}")
    unseen = set(durable.read_json(run.folder / UNSEEN) or ())
    taught = {each.memory for each in papers.read_lessons(run.folder / papers.LESSONS) if each.id not in unseen}
    probes.remember_results(run.home, sheet, taught=taught, run=run.state.run_id)
    if isinstance(verdict, Promote) and run.plan.promotes:
        artifacts.promote(run.home, made.name)
    return run.knowing(version=made.name)


_DO: Mapping[str, Callable[[Run], Run]] = {
    "facts": _facts,
    "lessons": _lessons,
    "training": _training,
    "placebo": _placebo,
    "judging": _judging,
    "gate": _gate,
    "promotion": _promotion,
}


def _ended(run: Run) -> int:
    verdict = _verdict(run)
    reasons = verdict.reasons if isinstance(verdict, Keep) else ()
    run = _at_its_end(run, "promote" if isinstance(verdict, Promote) else "keep", reasons)
    kept = forgetting_curve.table(forgetting_curve.load(artifacts.curve_file(run.home)))
    page = reporting.write(run.folder, run.state, verdict, kept=kept)
    has_version = any(_is_of(each, run.state.run_id) for each in artifacts.versions(run.home))
    training_runs.without_weights(run.folder, has_version=has_version)
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


def _sheet(run: Run, name: str) -> ScoreSheet | None:
    return artifacts.sheet_of(durable.read_json(run.folder / SHEETS[name]))


def _verdict(run: Run) -> Verdict:
    found = artifacts.verdict_of(durable.read_json(run.folder / "verdict.json"))
    if found is None:
        raise TrainingError(f"{run.folder} holds no verdict. Start anew with `lmm train --fresh`.")
    return found


def _sources(run: Run) -> artifacts.Sources:
    found = artifacts.read_sources(run.folder)
    if found is None:
        raise TrainingError(f"{run.folder} does not say what it was made from. Start anew with `lmm train --fresh`.")
    return found


def _is_of(version: "artifacts.Version | artifacts.Torn", run_id: str) -> bool:
    return isinstance(version, artifacts.Version) and version.manifest.run == run_id


def _manifest(run: Run, verdict: Verdict, sheet: ScoreSheet) -> artifacts.Manifest:
    base = planning.base_of(run.home, run.plan)
    lessons = (run.folder / papers.LESSONS).read_bytes()
    about = durable.read_json(run.folder / papers.ABOUT) or {}
    return artifacts.Manifest(
        base=run.plan.recipe.base,
        base_hash=base.fingerprint,
        store_version=run.state.store_version,
        lessons_hash=hashlib.sha256(lessons).hexdigest()[:16],
        probes_hash=sheet.probes_hash,
        recipe=dataclasses.asdict(run.plan.followed),
        seed=run.plan.recipe.seed,
        run=run.state.run_id,
        code_version=_version_of("lmm-mcp"),
        libraries={name: _version_of(name) for name in _LIBRARIES},
        hardware=f"{platform.machine()}, {os.cpu_count()} cores, {base.device}",
        verdict=verdict,
        num_lessons=lessons.count(b"\n"),
        made_ms=run.state.started_ms,
        until_ms=int(about.get(papers.UNTIL, 0)),
        start=run.plan.from_checkpoint,
        max_sentences=int(run.state.figures.get(MAY_WRITE, 0)),
    )


def _version_of(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "unknown"
