"""From what was asked for to a plan: presets, dials, and the folders that names stand for."""

import argparse
import dataclasses
import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import torch

from lmm_mcp import artifacts, training_runs
from lmm_mcp.artifacts import durable, places, records
from lmm_mcp.errors import BadInput, ModelError
from lmm_mcp.model import network
from lmm_mcp.paths import Home
from trainer import engine, papers, presets, stranger
from trainer import recipe as recipes
from trainer.lessons import Options
from trainer.plan import NEEDED, Plan
from trainer.recipe import Recipe

NUM_PLACEBOS = 5
MOST_of_placebo = 256
"""Steps. So many teach it its sixty facts, and more would take as long as what it is compared with."""
FROM_BASE = "base"
"""As `--from-checkpoint`: begin at the base, whatever serves."""
ALIKE = ("method", "rank", "alpha", "dropout")
"""What a recipe must share with that of the weights it goes on from."""
LEAST = (("renderings", 0), ("max_per_memory", 1), ("max_lessons", 0))
NAMED = ("base", "method", "stage")
"""Dials that have an option of their own."""


@dataclass(frozen=True, slots=True)
class Fits:
    """How much of what is made a machine can learn in its time."""

    max_texts: int = 1_500
    renderings: int = 6
    """In how many wordings a fact is told."""
    most: tuple[tuple[str, int], ...] = ()
    repeats: tuple[tuple[str, int], ...] = ()


SMALL = Fits(
    max_texts=100,
    renderings=12,
    most=(("choice", 200), ("brief", 60), ("clue", 80), ("chunk", 40), ("general", 40), ("procedure", 40)),
    # A small network learns a fact by heart, and needs to hear it often; a fact is a fifteenth of the length of a choice. In
    # twelve wordings five times rather than in six ten times: it knows more in a wording that it never heard.
    repeats=(("fact", 5), ("procedure", 5)),
)
"""What two cores learn in a few minutes."""


@dataclass(frozen=True, slots=True)
class Base:
    """What a run starts from."""

    folder: Path
    fingerprint: str
    device: str


def plan_of(told: argparse.Namespace, dials: Mapping[str, Any]) -> Plan:
    """The plan for these options. Raises TrainingError or BadInput with the next step."""
    for name, least in LEAST:
        if (num := getattr(told, name)) < least:
            raise BadInput(f"--{name.replace('_', '-')} {num} is too few; write {least} or more.")
    recipe = presets.preset(fitting() if told.preset == "auto" else told.preset)
    given = {name: value for name in NAMED if (value := getattr(told, name))}
    most = dials.get("max_steps", 0)
    fewest = {"min_steps": min(recipe.min_steps, most)} if most and "min_steps" not in dials else {}
    recipe = recipe.but(**{**presets.OF_A_RUN, **given, **fewest, **dials})
    engine.chosen_device(recipe.device)  # what this machine cannot do is said before anything is begun
    fits = SMALL if recipe.preset == "cpu-tiny" else Fits()
    options = Options(
        max_texts=fits.max_texts,
        renderings=told.renderings or fits.renderings,
        use_chunk_pairs=told.use_chunk_pairs,
        max_per_memory=told.max_per_memory,
        seed=recipe.seed,
    )
    if told.slices:
        options = replace(options, slices=tuple(each.strip() for each in told.slices.split(",")))
    plan = Plan(
        recipe=recipe,
        options=options,
        needed=options.slices if told.slices else NEEDED,
        until_ms=_end_of_day_ms(told.until),
        max_lessons=told.max_lessons,
        most=fits.most,
        repeats=fits.repeats,
        replay=told.replay,
        placebo=told.placebo,
        promotes=not told.no_promote,
        from_checkpoint=told.from_checkpoint,
        eases=not {"learning_rate", "cpt_learning_rate"} & set(dials),  # a rate that was asked for is kept
    )
    return by_processes(plan, 1 if told.processes is None else told.processes)


def by_processes(plan: Plan, num_processes: int) -> Plan:
    """The same plan, done by so many processes. Raises BadInput where they have no place on this machine."""
    if num_processes < 1:
        raise BadInput(f"--processes {num_processes} is too few; write 1 or more.")
    most, of_what = engine.most_processes(plan.recipe.device)
    if num_processes > most:
        raise BadInput(f"--processes {num_processes} is too many: one runs on each {of_what}, and here are {most}.")
    return replace(plan, processes=num_processes)


def fitting() -> str:
    """The largest preset that fits this machine; `cpu-tiny` where its GPU is too small for all of them."""
    device = engine.chosen_device("auto")
    if device != "cuda":
        return "mps" if device == "mps" else "cpu-tiny"
    gigabytes = torch.cuda.get_device_properties(0).total_memory / 1e9
    return presets.of_gpu(gigabytes)


def base_of(home: Home, plan: Plan) -> Base:
    """Find the base of a plan. Raises ModelError where it is not here."""
    folder = network.find_base(plan.recipe.base, bases=artifacts.bases_folder(home))
    return Base(folder, network.fingerprint(folder), engine.chosen_device(plan.recipe.device))


def placebo_recipe(recipe: Recipe, num_steps: int) -> Recipe:
    """How a placebo learns beside a candidate that took so many steps on its lessons: in no fewer, up to MOST_of_placebo.

    Rounded up to a power of two, as far as the recipe goes, so that runs of nearly the same length share one.
    """
    if not num_steps:
        return recipe.but(stage="sft")
    num = min(1 << (num_steps - 1).bit_length(), MOST_of_placebo)
    num = min(num, recipe.max_steps) if recipe.max_steps else num
    return recipe.but(stage="sft", min_steps=num, max_steps=num)


def placebo_folder(home: Home, plan: Plan, num_steps: int) -> Path:
    """Where the placebo of this recipe on this base lies, once it was trained: the next run need not do it again."""
    recipe = placebo_recipe(plan.recipe, num_steps)
    told = f"{recipes.to_json(recipe)} {base_of(home, plan).fingerprint} {stranger.MADE}"
    return artifacts.placebos_folder(home) / hashlib.blake2b(told.encode(), digest_size=8).hexdigest()


def drop_old_placebos(home: Home) -> None:
    """Keep those that were used last: of each recipe and seed there may be one."""
    folders = [each for each in artifacts.placebos_folder(home).iterdir() if not each.name.startswith(".")]
    for folder in sorted(folders, key=lambda each: -each.stat().st_mtime_ns)[NUM_PLACEBOS:]:
        durable.remove(folder)
    durable.sweep(artifacts.placebos_folder(home))


def going_on(home: Home, plan: Plan) -> Plan:
    """The same plan, going on from the version that serves, where nothing else was asked for and it fits the recipe.

    A night that begins at the base has to learn all that holds in the steps of one night, and knows less of it afterwards than
    one that goes on and rehearses (docs/benchmarks.md, ten nights). After a forgetting nothing clean may serve, and
    a run begins at the base; so does one that may learn up to a day only, where what serves learned later things.
    """
    if plan.from_checkpoint:
        return replace(plan, from_checkpoint="") if plan.from_checkpoint == FROM_BASE else plan
    plan = replace(plan, start_is_implied=True)
    serving = artifacts.served(home) if plan.replay else None
    if serving is None or serving.manifest.base_hash != base_of(home, plan).fingerprint:
        return plan
    recipe = dataclasses.asdict(plan.recipe)
    is_alike = all(serving.manifest.recipe.get(name) == recipe[name] for name in ALIKE)
    is_too_late = plan.until_ms and not 0 < serving.manifest.until_ms <= plan.until_ms
    if not is_alike or is_too_late:
        return plan
    return replace(plan, from_checkpoint=serving.name)


def start_from(home: Home, plan: Plan) -> Path | None:
    """The folder of what a plan goes on from; None where it starts from the base. Raises BadInput where there is none.

    BadInput also where it learned later things than the plan may. Raises ModelError where something of it was forgotten, or
    nothing tells what it was trained on.
    """
    name = plan.from_checkpoint
    if not name:
        return None
    for folder in _places(home, name):
        if (folder / network.ADAPTER_FILE).is_file() or (folder / network.WEIGHTS_FILE).is_file():
            if artifacts.is_unclean(folder.parent) or artifacts.is_unclean(folder.parent.parent):
                raise ModelError(f"something that {name} was trained on was forgotten, so nothing can go on from it.")
            if _sources_of(folder) is None:
                raise ModelError(
                    f"{name} does not say what it was trained on, so that forgetting could not reach what goes on from it. Name a version or a run of this memory."
                )
            if plan.until_ms and not 0 < (learned_ms := _learned_until_ms(folder)) <= plan.until_ms:
                raise BadInput(
                    f"{name} {'learned what came after the day of --until' if learned_ms else 'does not say until when it learned'}; name an earlier one, or write --from-checkpoint {FROM_BASE}."
                )
            return folder
    raise BadInput(
        f"{name} holds nothing to go on from; name a version (`lmm model list`), a run (`lmm train log`), or a folder with an adapter."
    )


def learns_until_ms(home: Home, plan: Plan, started_ms: int) -> int:
    """The time after which nothing was said that a run's weights have seen, with what they go on from. Raises as `start_from`."""
    start = start_from(home, plan)
    return max(plan.until_ms or started_ms, _learned_until_ms(start) if start is not None else 0)


def _learned_until_ms(learned: Path) -> int:
    """The last moment of which the adapter in a version's or a run's folder may know; 0 where nothing tells."""
    version = learned.parent
    if (version / places.MANIFEST).is_file():
        try:
            return records.manifest_of(durable.read_json(version / places.MANIFEST)).until_ms
        except ValueError:
            return 0
    about = durable.read_json(learned.parent.parent / papers.ABOUT) or {}
    return int(about.get(papers.UNTIL, 0))


def with_those_of_its_start(home: Home, plan: Plan, own: artifacts.Sources) -> artifacts.Sources:
    """The sources of a run, with those of what it goes on from: that has learned them, too."""
    start = start_from(home, plan)
    known = _sources_of(start) if start is not None else None
    if known is None:
        return own
    chunks = tuple(dict.fromkeys((*own.chunks, *known.chunks)))
    # Of `own`, not of the start: that it is clean was looked at just now.
    return artifacts.Sources(own.threads | known.threads, chunks, own.as_of)


def _sources_of(learned: Path) -> artifacts.Sources | None:
    """What the adapter in a version's or a run's folder was trained on."""
    return artifacts.read_sources(learned.parent) or artifacts.read_sources(learned.parent.parent)


def copy_weights(source: Path, target: Path) -> None:
    """Bring what was learned into a draft, without what only a training needs. Raises OSError."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.pt", "*.bin", "optimizer*"))
    for folder, _, names in os.walk(target):
        Path(folder).chmod(0o700)
        for name in names:
            (Path(folder) / name).chmod(0o600)


def _places(home: Home, name: str) -> list[Path]:
    places = [Path(name).expanduser()]
    if "/" not in name and os.sep not in name:
        state = training_runs.load(artifacts.runs_folder(home) / name)
        made = [state.version] if state is not None and state.version else []  # which holds what the run learned
        places += [artifacts.versions_folder(home) / each / "adapter" for each in (name, *made)]
        places.append(artifacts.runs_folder(home) / name / "training" / "adapter")
    return places


def _end_of_day_ms(text: str) -> int:
    """The last millisecond of a day that is written as 2026-02-15; 0 for ''. Raises BadInput for anything else."""
    if not text:
        return 0
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as problem:
        raise BadInput(f"--until {text!r} is no day; write it as 2026-02-15.") from problem
    return int((day + timedelta(days=1)).timestamp() * 1000) - 1
