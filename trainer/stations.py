"""The stations of a training run, from the memory to the version that may serve.

Each takes the run as those before left it, leaves its result in the run's folder, and returns the run with more known of it.
One that died in the middle is done again from its beginning; training goes on from its last checkpoint.
"""

import dataclasses
import hashlib
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import metadata

from lmm_mcp import artifacts, children
from lmm_mcp.artifacts import durable
from lmm_mcp.domain.verdict import Promote, ScoreSheet, Verdict
from lmm_mcp.domain.wording import counted
from lmm_mcp.errors import TrainingError
from trainer import (
    examining,
    forgetting_curve,
    gate,
    gathering,
    papers,
    planning,
    probes,
    thresholds,
    wording,
)
from trainer.canaries import Extraction
from trainer.taught import ADAPTER, PLACEBO, UNSEEN, placebo_folder, trained
from trainer.underway import Run

CANARIES = "canaries.json"
SAID = "said.json"
"""What models said to some probes; the page shows it."""
MAY_WRITE = "sentences it may write"
FORGOTTEN_in_judging = "something was forgotten while models were asked; `lmm train resume` asks them anew."
SHEETS = {"base": "sheet-base.json", "old": "sheet-old.json", "new": "sheet-new.json"}
_LIBRARIES = ("torch", "transformers", "peft", "accelerate")


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
    verdict, sheet = verdict_of(run), _sheet(run, "new")
    assert sheet is not None
    sources = _sources(run).showing(())  # a version holds no words
    made = version_made(run)
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


DO: Mapping[str, Callable[[Run], Run]] = {
    "facts": _facts,
    "lessons": _lessons,
    "training": _training,
    "placebo": _placebo,
    "judging": _judging,
    "gate": _gate,
    "promotion": _promotion,
}


def _sheet(run: Run, name: str) -> ScoreSheet | None:
    return artifacts.sheet_of(durable.read_json(run.folder / SHEETS[name]))


def verdict_of(run: Run) -> Verdict:
    """What the gate decided. Raises TrainingError where that is not known."""
    found = artifacts.verdict_of(durable.read_json(run.folder / "verdict.json"))
    if found is None:
        raise TrainingError(f"{run.folder} holds no verdict. Start anew with `lmm train --fresh`.")
    return found


def _sources(run: Run) -> artifacts.Sources:
    found = artifacts.read_sources(run.folder)
    if found is None:
        raise TrainingError(f"{run.folder} does not say what it was made from. Start anew with `lmm train --fresh`.")
    return found


def version_made(run: Run) -> artifacts.Version | None:
    """The version that the run kept; None where it kept none."""
    made = (each for each in artifacts.versions(run.home) if isinstance(each, artifacts.Version))
    return next((each for each in made if each.manifest.run == run.state.run_id), None)


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
