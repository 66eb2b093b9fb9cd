"""What a small model learns, keeps and forgets on two cores: the figures of the memory model, on invented users with random values.

    python benchmarks/learning.py --base FOLDER facts          new facts, other words, no retrieval; and a placebo
    python benchmarks/learning.py --base FOLDER renderings     the same facts said once, three and six times
    python benchmarks/learning.py --base FOLDER nights         ten nights of six new facts, as `lmm train` goes on by itself and otherwise
    python benchmarks/learning.py --base FOLDER forget         what comes out before `lmm forget` and after the rebuild
    python benchmarks/learning.py --base FOLDER briefs         which sentences stand, and what 250 tokens hold

FOLDER is a base as `lmm train make-base` leaves it in `artifacts/bases/`. Lessons, wordings, loop, probes, judges and the
forgetting are the product's own; only the users are invented (learning_world.py). Everything is made in a temporary folder.
"""

import argparse
import dataclasses
import os
import platform
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import learning_world as world  # noqa: E402
import torch  # noqa: E402

from lmm_mcp import artifacts  # noqa: E402
from lmm_mcp.domain.fact import Fact  # noqa: E402
from lmm_mcp.domain.lesson import Lesson, Probe  # noqa: E402
from lmm_mcp.domain.verdict import Keep, Promote, ScoreSheet  # noqa: E402
from lmm_mcp.evaluation import runs  # noqa: E402
from lmm_mcp.model import network  # noqa: E402
from lmm_mcp.paths import Home  # noqa: E402
from trainer import (  # noqa: E402
    cli,
    engine,
    forgetting_curve,
    gate,
    gathering,
    judging,
    loop,
    ordering,
    planning,
    presets,
    replay,
    thresholds,
)
from trainer.judging import Dials  # noqa: E402
from trainer.plan import Plan  # noqa: E402
from trainer.replay import Standing  # noqa: E402
from trainer.speaking import NetworkSpeaker  # noqa: E402

BY_ITSELF, REBUILT, NEW_ONLY = "as lmm train by itself", "from the base", "new only"
"""How a night learns: as `lmm train` chooses, all that holds; always from the base, all that holds; from last night, what is new."""
CLOSED = Dials(writes=False)
NUM_FACTS, RENDERINGS = 24, 6
NUM_NIGHTS, NUM_A_NIGHT, NUM_CHANGED = 10, 6, 2
Scores = Mapping[str, float]
"""By probe."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What every row works with."""

    base: Path
    folder: Path
    dials: Mapping[str, int | float | str]
    """Of the recipe, where they differ from the preset's."""


def taught(bench: Bench, name: str, lessons: Sequence[Lesson], *, seed: int) -> Path:
    """An adapter by the preset `cpu-tiny`, in the order in which a run would learn."""
    recipe = presets.preset(
        "cpu-tiny", base=str(bench.base), stage="sft", shuffled=False, seed=seed, num_threads=1, **bench.dials
    )
    ordered = ordering.for_steps(lessons, tokens_per_step=recipe.tokens_per_step, seed=seed)
    return loop.train(recipe, (), ordered, bench.folder / name).adapter


def judged(bench: Bench, probes: Sequence[Probe], adapter: Path, placebo: Path | None = None) -> judging.Judged:
    """Base, adapter and placebo on the same probes, with nothing found for any of them."""
    load = partial(network.load, bench.base, device=str(bench.dials.get("device", "cpu")))
    base = NetworkSpeaker(load(), judging.BASE)
    other = NetworkSpeaker(load(adapter=placebo), "placebo") if placebo else None
    candidate = NetworkSpeaker(load(adapter=adapter), adapter.parent.name)
    return judging.judge(probes, base=base, candidate=candidate, placebo=other, dials=CLOSED)


def scores(sheet: ScoreSheet, arm: str, prefix: str = "") -> dict[str, float]:
    """Right or wrong, by probe."""
    return {f"{prefix}{each.probe_id}": each.score for each in sheet.outcomes[arm] if each.slice == "fact"}


def gain(before: Scores, after: Scores) -> runs.Difference:
    """How much more is right, paired by probe, with its 95 % interval."""
    a, b = (
        runs.Run("learning", name, {}, tuple(runs.Row(each, (), {"right": score}) for each, score in found.items()))
        for name, found in (("before", before), ("after", after))
    )
    return runs.difference(a, b)[0]


def told(difference: runs.Difference) -> str:
    """`+0.54 (+0.42 to +0.67)`."""
    mean = difference.difference
    return f"{mean.value:+.2f} ({mean.low:+.2f} to {mean.high:+.2f})"


# New facts --------------------------------------------------------------------------------------------------------------


def facts(
    bench: Bench, seeds: Sequence[int], *, num: int = NUM_FACTS, renderings: int = RENDERINGS
) -> Mapping[str, Scores]:
    """Scores of base, adapter and placebo over all seeds. A seed is a user; another one's adapter is the placebo."""
    users = [*seeds, *([seeds[-1] + 1] if len(seeds) == 1 else [])]
    held = {user: world.held(world.facts(f"u{user}", num)) for user in users}
    adapters = {
        user: taught(bench, f"facts {user} {renderings}", world.lessons(held[user], renderings, seed=user), seed=user)
        for user in users
    }
    found: dict[str, dict[str, float]] = {"base": {}, "adapter": {}, "placebo": {}}
    for user, stranger in zip(seeds, (*users[1:], users[0]), strict=False):
        seen = judged(bench, world.asked(held[user], seed=user), adapters[user], adapters[stranger])
        found["base"] |= scores(seen.base, "weights", f"{user} ")
        found["adapter"] |= scores(seen.new, "weights", f"{user} ")
        found["placebo"] |= scores(seen.new, "placebo", f"{user} ")
    return found


def show_facts(bench: Bench, seeds: Sequence[int]) -> None:
    found = facts(bench, seeds)
    print(
        f"{NUM_FACTS} facts of 4 projects and {len(world.KINDS)} relations, {RENDERINGS} renderings, seeds {list(seeds)}\n"
    )
    print("| model | right | against the base |\n|---|---|---|")
    for name, those in found.items():
        against = "" if name == "base" else told(gain(found["base"], those))
        print(f"| {name} | {share(those):.2f} of {len(those)} | {against} |")
    for user in seeds:
        mine = [value for name, value in found["adapter"].items() if name.startswith(f"{user} ")]
        print(f"  seed {user}: {sum(mine) / len(mine):.2f}")


def share(those: Scores) -> float:
    """How many are right, 0 to 1."""
    return sum(those.values()) / (len(those) or 1)


def show_renderings(bench: Bench, seeds: Sequence[int], nums: Sequence[int]) -> None:
    print("| renderings of a fact | right | against the base |\n|---|---|---|")
    for num in nums:
        found = facts(bench, seeds, renderings=num)
        print(f"| {num} | {share(found['adapter']):.2f} | {told(gain(found['base'], found['adapter']))} |", flush=True)


# Nights ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Night:
    """What one night gave."""

    sheet: ScoreSheet
    """On every probe that held then."""
    start: str
    """The version that it went on from, '' = the base."""
    rate: float
    """Peak of its learning."""
    serves: bool
    """False where gate G3 kept it out, so that the next night goes on from what served before."""
    serving: ScoreSheet
    """What serves after it, on the same probes."""


def planned(bench: Bench, home: Home, way: str, *, seed: int, most: int = 0) -> Plan:
    """What `lmm train` does that night, told nothing but the way: where it begins, at which rate, in how many steps."""
    serving = artifacts.served(home)
    start = {REBUILT: planning.FROM_BASE, NEW_ONLY: serving.name if serving else ""}.get(way, "")
    options = ["--preset", "cpu-tiny", "--base", str(bench.base), "--stage", "sft", "--max-lessons", str(most)]
    told = cli.parser().parse_args(["run", *options, "--from-checkpoint", start])
    return planning.going_on(home, planning.plan_of(told, {"seed": seed, "num_threads": 1, **bench.dials}))


def nights(bench: Bench, seed: int, way: str, num: int = NUM_NIGHTS, most: int = 0) -> list[Night]:
    """One user's nights, each a version of a memory of its own. `way`: one of the above. `most`: lessons a night, 0 = all."""
    user, home = f"n{seed}", Home(bench.folder / f"{way} {seed} {most}")
    known: list[Fact] = []
    standings: dict[str, Standing] = {}
    frozen: dict[str, Probe] = {}
    found: list[Night] = []
    for night in range(num):
        now_ms = world.FIRST_ms + night * world.WEEK_ms  # a week apart, so that every night has a cohort
        known, new = _a_night(known, user, now_ms, night)
        held = world.held(known, until_ms=now_ms + world.WEEK_ms - 1)
        frozen |= {each.memory: each for each in world.asked(held, seed=seed) if each.memory not in frozen}
        probes = [
            frozen[each.fact.id] for each in held if each.fact.id in frozen
        ]  # what was superseded is asked of nobody
        plan = planned(bench, home, way, seed=seed, most=most)
        lessons = world.lessons(held, plan.options.renderings, seed=seed)
        if way == NEW_ONLY:
            lessons = [each for each in lessons if each.memory in new]
        else:
            mix = replay.chosen(lessons, standings, salience={}, now_ms=now_ms, num=plan.max_lessons, seed=seed)
            lessons = list(mix.lessons)
        one = _slept(bench, home, plan, lessons, probes, f"{way} {seed} {most} {night}")
        memory_of = {each.id: each.memory for each in probes}
        recalled = {memory_of[each.probe_id]: each.score for each in one.sheet.outcomes["weights"]}
        standings = replay.advanced(standings, recalled, {each.memory for each in lessons})
        found.append(one)
        begun = f"from {one.start or 'the base'} at {one.rate:g}"
        left = "" if one.serves else f", kept out by G3; what serves knows {share(_right(one.serving)):.2f}"
        print(f"  {way}, night {night + 1} {begun}: {share(_right(one.sheet)):.2f} of {len(probes)}{left}", flush=True)
    return found


def _slept(
    bench: Bench, home: Home, plan: Plan, lessons: Sequence[Lesson], probes: Sequence[Probe], name: str
) -> Night:
    """Learn, be asked, be compared with what serves, and serve."""
    recipe, served = plan.followed, artifacts.served(home)
    trained = loop.train(
        recipe, (), gathering.as_learned(lessons, plan), bench.folder / name, start_from=planning.start_from(home, plan)
    )
    seen = judged(bench, probes, trained.adapter)
    old = judged(bench, probes, served.adapter).new if served else None
    limits = thresholds.thresholds_for(recipe.preset)
    kept = gate.g3_old_knowledge(
        gate.Hearing(
            new=seen.new,
            base=seen.base,
            old=old,
            lint=(),
            probes={},
            old_probes=served.judged_by() if served else frozenset(),
            limits=limits,
        )
    )
    manifest = artifacts.Manifest(
        base=recipe.base,
        base_hash=planning.base_of(home, plan).fingerprint,
        store_version="",
        lessons_hash="",
        probes_hash=seen.new.probes_hash,
        recipe=dataclasses.asdict(recipe),
        seed=recipe.seed,
        run=name,
        code_version="",
        libraries={},
        hardware="",
        verdict=Promote((kept,)) if kept.passed else Keep((kept,)),
        start=plan.from_checkpoint,
    )
    draft = artifacts.draft(home)
    planning.copy_weights(trained.adapter, draft / "adapter")
    made = artifacts.commit(home, draft, manifest, seen.new, artifacts.Sources.of((), (), as_of=0))
    serves = kept.passed or not plan.start_is_implied  # the other ways show what becomes of them without a gate
    if serves:
        artifacts.promote(home, made.name, force=True)
    serving = seen.new if serves else old or seen.base
    return Night(seen.new, plan.from_checkpoint, recipe.learning_rate, serves, serving)


def _a_night(known: list[Fact], user: str, now_ms: int, night: int) -> tuple[list[Fact], set[str]]:
    """All facts after that day, and the ids of those that it brought: some of them take the place of older ones."""
    num_changed = NUM_CHANGED if night else 0
    holding = [each for each in known if each.holds and each.from_ms < now_ms]
    changed = [world.superseded(each, user, now_ms) for each in holding[:: max(1, len(holding) // 2)][:num_changed]]
    old = {before.id: before for before, _ in changed}
    taken = {each.key for each in known}
    fresh = [each for each in world.facts(user, 4 * NUM_A_NIGHT, at_ms=now_ms) if each.key not in taken]
    new = [*(after for _, after in changed), *fresh[: NUM_A_NIGHT - num_changed]]
    return [*(old.get(each.id, each) for each in known), *new], {each.id for each in new}


def _right(sheet: ScoreSheet) -> dict[str, float]:
    return {each.probe_id: each.score for each in sheet.outcomes["weights"]}


def rows_of(found: Sequence[Night]) -> tuple[forgetting_curve.Row, ...]:
    """The matrix of versions and weeks, over the facts that still hold at the end: the others shall be forgotten."""
    lasting = set(_right(found[-1].sheet))
    rows = []
    for number, night in enumerate(found):
        outcomes = tuple(each for each in night.sheet.outcomes["weights"] if each.probe_id in lasting)
        kept = dataclasses.replace(night.sheet, model=f"night {number + 1}", outcomes={"weights": outcomes})
        learned = sorted({each.cohort for each in outcomes})
        rows.append(forgetting_curve.row_of(kept, made_ms=number, learned=learned, promoted=night.serves))
    return tuple(rows)


def show_nights(bench: Bench, seeds: Sequence[int], ways: Sequence[str], most: int = 0) -> None:
    print("| way | right at the end | backward transfer | slope a night |\n|---|---|---|---|")
    for way in ways:
        ends, backward, slopes = [], [], []
        for seed in seeds:
            rows = rows_of(found := nights(bench, seed, way, most=most))
            transfer = forgetting_curve.transfer(rows)
            ends.append(share(_right(found[-1].serving)))
            backward.append(transfer.backward or 0.0)
            slopes.append(transfer.slope or 0.0)
            print(forgetting_curve.table(rows), flush=True)
        print(f"| {way} | {_mean(ends):.2f} | {_mean(backward):+.3f} | {_mean(slopes):+.3f} |", flush=True)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("facts", "renderings", "nights", "forget", "briefs"))
    parser.add_argument("--base", type=Path, required=True, help="folder of a base model")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument(
        "--steps",
        type=int,
        default=world.SMALL["min_steps"],
        help="of a training, the fewest; 0: by the preset as it is",
    )
    parser.add_argument(
        "--learning-rate",
        type=float,
        help="larger bases want less than the preset's; nights that go on do not halve it",
    )
    parser.add_argument("--renderings", type=int, nargs="+", default=[1, 3, 6], help="of a fact")
    parser.add_argument("--ways", nargs="+", default=[BY_ITSELF, REBUILT, NEW_ONLY], help="in which a night learns")
    parser.add_argument("--most", type=int, default=0, help="lessons a night, 0 = all")
    parser.add_argument("--run", type=Path, help="for briefs: a run that was made, instead of one on invented sessions")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    where = engine.chosen_device("auto")
    about = network.load(args.base).card
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "transformers", "peft"))
    print(
        f"{platform.machine()}, {where}, one core of {os.cpu_count()}, {versions}; base of {about.num_parameters:,} parameters"
    )
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        dials: dict[str, int | float | str] = {}
        if args.steps:
            dials |= {**world.SMALL, "min_steps": args.steps, "max_steps": args.steps}
        if args.learning_rate:
            dials["learning_rate"] = args.learning_rate
        if where != "cpu":
            dials |= {"device": where, "precision": "bfloat16"}  # as the presets for GPUs have it
        bench = Bench(args.base.resolve(), Path(folder), dials)
        match args.what:
            case "facts":
                show_facts(bench, args.seeds)
            case "renderings":
                show_renderings(bench, args.seeds, args.renderings)
            case "nights":
                show_nights(bench, args.seeds, args.ways, args.most)
            case "forget" | "briefs":
                import learning_memory

                learning_memory.show(args.what, bench.base, bench.folder, args.run)
    print(f"\n{time.monotonic() - began_s:.0f} s")


if __name__ == "__main__":
    main()
