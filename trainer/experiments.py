"""`lmm experiment lmm-runs`: four recipes on one memory, judged by the same probes, beside retrieval and retrieval with generation.

Each run has a folder among the other runs, says after each step what is done, and is gone on with from there; one that is done
is not done again while memory, base and options are the same. Nothing of them ever serves.
"""

import argparse
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import Timeout

from lmm_mcp import artifacts, children, training, training_runs
from lmm_mcp.artifacts import durable
from lmm_mcp.domain.lesson import Probe
from lmm_mcp.errors import BadInput, TrainingBusy, TrainingError
from lmm_mcp.evaluation import history
from lmm_mcp.evaluation.receipt import store_hash
from lmm_mcp.model import network
from lmm_mcp.paths import Home
from lmm_mcp.store.ledger import Ledger
from lmm_mcp.store.terms import terms
from lmm_mcp.training_runs import EXPERIMENT, RunState
from trainer import ablations, gathering, judging, leaks, papers, planning, preflight, scoring
from trainer import plan as plans
from trainer.ablations import UNCAPPED, Ablation
from trainer.plan import Plan
from trainer.recalling import Recalls
from trainer.scoring import Row
from trainer.speaking import NetworkSpeaker
from trainer.taught import ADAPTER, trained
from trainer.underway import Run, Say, Stopped

NAMES = ("lmm-runs",)
STEPS = ("lessons", "training", "judging")
ROWS = "rows.json"
MIN_PROBES = 20
"""Of fewer, differences between runs are chance."""


@dataclass(frozen=True, slots=True)
class _Experiment:
    home: Home
    plan: Plan
    mark: str
    """Of all that its result depends on."""
    max_probes: int
    who_stops: Callable[[], str]
    say: Say


def main(home: Home, told: argparse.Namespace, dials: Mapping[str, Any], who_stops: Callable[[], str], say: Say) -> int:
    """Do all runs that are not done, and print their table; an exit code. Raises LmmError."""
    if told.name not in NAMES:
        raise BadInput(f"there is no experiment {told.name!r}; write {', '.join(NAMES)}.")
    plan = replace(planning.plan_of(told, dials), placebo=False, promotes=False)
    plan = replace(plan, options=replace(plan.options, max_per_memory=UNCAPPED, max_of_one=4 * UNCAPPED))
    for line in preflight.look(home, plan):
        say(line)

    def look_up() -> None:
        if who_stops():
            raise Stopped

    try:
        with training.lock(home).acquire(timeout=training.PATIENCE_s):
            training.forget_stop(home)
            artifacts.sweep(home)
            children.derive(home, os.environ, look_up=look_up)
            mark = _mark(home, plan, told.max_per_memory, told.max_probes)
            experiment = _Experiment(home, plan, mark, told.max_probes, who_stops, say)
            done = _all_done(experiment, told.max_per_memory)
    except Stopped:
        say("stopped; the same command goes on where it was")
        return 0
    except Timeout as problem:
        raise TrainingBusy(
            "another training is at work; `lmm train log` shows how far it is, `lmm train stop` ends it."
        ) from problem
    rows = [row for run in done for row in _rows(run.folder)]
    for line in scoring.table(_in_order(rows)):
        say(line)
    return 0


def _all_done(experiment: _Experiment, max_per_memory: int) -> list[Run]:
    """Every run, done."""
    runs = [_begun(experiment, number, each) for number, each in enumerate(ablations.RUNS)]
    if not all("lessons" in run.state.done for run in runs):
        runs = _with_lessons(experiment, runs, max_per_memory)
    recall: Recalls | None = None
    for number, (run, ablation) in enumerate(zip(runs, ablations.RUNS, strict=True)):
        run.look_up()
        if "training" not in run.state.done:
            experiment.say(f"{ablation.name} ...")
            figures = trained(run, ADAPTER) if ablation.stage else {}
            runs[number] = run = run.knowing(figures=figures).past("training")
        if "judging" not in run.state.done:
            if recall is None:
                recall = Recalls(gathering.opened(experiment.home, os.environ))
            run.tell("judging", 0.0, ablation.name)
            rows = [asdict(row) for row in _judged(run, ablation, recall)]
            durable.write_json(run.folder / ROWS, rows)
            run = run.knowing(ended_ms=time.time_ns() // 1_000_000).past("judging")
            runs[number] = run
        training_runs.without_weights(run.folder, has_version=True)  # its rows are all that is kept of it
    runs[-1].tell("done", 1.0, EXPERIMENT)
    return runs


def _begun(experiment: _Experiment, number: int, ablation: Ablation) -> Run:
    """The run of this ablation that was begun before, or a new one."""
    mark = f"{experiment.mark}-{number}"
    plan = experiment.plan
    if ablation.stage is not None:
        plan = replace(plan, recipe=plan.recipe.but(stage=ablation.stage))
    for folder, state in training_runs.runs(experiment.home):
        if state.options_hash == mark and state.verdict == EXPERIMENT and not artifacts.is_unclean(folder):
            return Run(experiment.home, folder, plan, state, experiment.who_stops, experiment.say)
    began_ms = time.time_ns() // 1_000_000
    name = datetime.fromtimestamp(began_ms / 1000, UTC).strftime("%Y-%m-%d-%H%M%S")
    run_id = f"{name}-lmm-runs-{number}-{os.getpid() % 1000:03d}"
    folder = durable.make_folder(artifacts.run_folder(experiment.home, run_id))
    plans.save(plan, folder)
    state = RunState(run_id, began_ms, mark, verdict=EXPERIMENT, reasons=(ablation.name,))
    training_runs.save(folder, state)
    return Run(experiment.home, folder, plan, state, experiment.who_stops, experiment.say)


def _with_lessons(experiment: _Experiment, runs: Sequence[Run], max_per_memory: int) -> list[Run]:
    """The same with their lessons and probes written; all of one look at the memory, or none."""
    home, plan = experiment.home, experiment.plan
    runs[0].tell("lessons", 0.0)
    as_of = artifacts.forgettings(home)
    # Whoever goes on later must find what this one found.
    plan = plan if plan.until_ms else replace(plan, until_ms=min(run.state.started_ms for run in runs))
    pool = gathering.pooled(home, os.environ, plan, runs[0].look_up, freezes=False)
    asked = _probes(pool, experiment.max_probes)
    if not asked:
        raise TrainingError(
            "nothing in this memory can be asked by which runs could be compared. Let more sessions come together."
        )
    words = leaks.Wordings.of(pool.held_out)
    unprobed = [each for each in pool.built.texts if not words.stand_in(each)]
    experiment.say(f"{len(asked)} probes{' (too few to tell runs apart)' if len(asked) < MIN_PROBES else ''}")
    found = []
    for run, ablation in zip(runs, ablations.RUNS, strict=True):
        mine = ablations.lessons_of(ablation, pool, plan, max_per_memory=max_per_memory)
        if ablation.stage is not None and not mine:
            raise TrainingError(f"there is no lesson for the run {ablation.name!r}. Let more sessions come together.")
        texts = unprobed if ablation.stage == "both" else []
        threads = {thread for lesson in mine for thread in lesson.threads}
        threads |= {thread for probe in asked for thread in probe.threads}
        threads |= set(pool.built.text_threads) if texts else set()
        chunks = dict.fromkeys(chunk for each in mine for chunk in each.sources)
        with gathering.nothing_forgotten(home, as_of):  # what is forgotten from now on finds what this run has read
            artifacts.write_sources(run.folder, artifacts.Sources.of(threads, chunks, as_of=as_of))
            papers.write_lessons(run.folder / papers.LESSONS, mine)
            papers.write_texts(run.folder / papers.TEXTS, texts)
            papers.write_probes(run.folder / papers.PROBES, asked)
        once = len({each.id for each in mine})
        counts = {"lessons": once, "texts": len(texts), "probes": len(asked)}
        experiment.say(f"{ablation.name}: {once} lessons, {len(texts)} texts")
        known = run.knowing(figures=counts, num_passages=pool.memory.store.count())
        found.append(replace(known, state=replace(known.state, done=())).past("lessons"))
    return found


def _judged(run: Run, ablation: Ablation, recall: Recalls) -> Iterator[Row]:
    """What this run's model says by heart; of the first also retrieval alone, of the first and last with generation."""
    asked = papers.read_probes(run.folder / papers.PROBES)
    base = network.find_base(run.plan.recipe.base, bases=artifacts.bases_folder(run.home))
    adapter = run.folder / ADAPTER / "adapter" if ablation.stage else None
    device = planning.base_of(run.home, run.plan).device
    known = network.load(base, adapter=adapter, device=device)
    speaker = NetworkSpeaker(known, ablation.name, look_up=run.look_up)
    frequencies = gathering.opened(run.home, os.environ).store.frequencies()

    def rarity(word: str) -> float:
        return max(frequencies.idf(terms(word)).values(), default=0.0)

    def row(name: str, outcomes: Sequence[Any], losses: Sequence[float] = ()) -> Row:
        return scoring.row_of(name, asked, outcomes, losses, rarity)

    losses = [loss for each in asked for loss in speaker.answer_losses(each.prompt, each.answers[0])]
    run.look_up()
    yield row(ablation.name, judging.from_memory(asked, speaker), losses)
    run.look_up()
    if ablation is ablations.BASE:
        yield row(scoring.RETRIEVAL, judging.ranked(asked, recall=recall))
    if ablation in (ablations.BASE, ablations.RUNS[-1]):
        yield row(
            f"{scoring.RETRIEVAL} + {ablation.name}",
            judging.served(asked, speaker, recall=recall, is_sure=recall.is_sure),
        )


def _probes(pool: gathering.Pool, most: int) -> list[Probe]:
    """Those of the bank that have an answer to be held against, evenly of all kinds and weeks."""
    asked = [each for each in pool.bank.probes if each.answers and each.slice in ("fact", "choice")]
    once = list({each.id: each for each in asked}.values())
    return history.spread(
        once, most or len(once), ids=lambda each: each.id, groups=lambda each: (each.slice, each.category, each.cohort)
    )


def _mark(home: Home, plan: Plan, max_per_memory: int, max_probes: int) -> str:
    with_what = [
        plan.hash,
        planning.base_of(home, plan).fingerprint,
        store_hash(Ledger.open(home.ledger)),
        [max_per_memory, max_probes],
        [asdict(each) for each in ablations.RUNS],
    ]
    return hashlib.blake2b(json.dumps(with_what, sort_keys=True).encode(), digest_size=8).hexdigest()


def _rows(folder: Path) -> list[Row]:
    return [Row(**each) for each in durable.read_json(folder / ROWS) or ()]


def _in_order(rows: Sequence[Row]) -> list[Row]:
    """What is said by heart first, then what is served."""
    return sorted(rows, key=lambda row: row.name.startswith(scoring.RETRIEVAL))
