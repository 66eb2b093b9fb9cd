"""The trainings of a run: what each learns from, and that it is learned, by this process or by several of its own."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmm_mcp import artifacts
from lmm_mcp.artifacts import durable
from lmm_mcp.domain.lesson import Lesson
from lmm_mcp.paths import Home
from trainer import loop, papers, planning, run_log, stranger, together
from trainer import plan as plans
from trainer.plan import Plan
from trainer.recipe import Recipe
from trainer.stages import sft
from trainer.underway import Run, Stopped

ADAPTER, PLACEBO = "training", "placebo"
"""Folders of a run in which something is trained."""
UNSEEN = "unseen.json"
"""Ids of lessons that were made and not learned."""


@dataclass(frozen=True, slots=True)
class Teaching:
    """What one training learns from, and how."""

    recipe: Recipe
    texts: Sequence[str]
    lessons: Sequence[Lesson]
    start_from: Path | None


def teaching(home: Home, folder: Path, plan: Plan, name: str) -> Teaching:
    """Read what the training `name` of the run in `folder` learns from. Raises TrainingError where it cannot be read."""
    if name == PLACEBO:
        recipe = planning.placebo_recipe(plan.recipe, num_lesson_steps(folder))
        return Teaching(recipe, (), stranger.of_placebo(), None)
    lessons, texts = papers.read_lessons(folder / papers.LESSONS), papers.read_texts(folder / papers.TEXTS)
    return Teaching(plan.followed, texts, lessons, planning.start_from(home, plan))


def num_lesson_steps(folder: Path) -> int:
    """In how many steps the candidate of the run in `folder` learned its lessons; 0 where it learned none."""
    found = (line["num_steps"] for line in run_log.read(folder / ADAPTER) if line.get("stage") == sft.NAME)
    return int(next(found, 0))


def placebo_folder(home: Home, folder: Path, plan: Plan) -> Path:
    """Where the placebo of the run in `folder` lies, or is to lie."""
    return planning.placebo_folder(home, plan, num_lesson_steps(folder))


def follow(home: Home, folder: Path, plan: Plan, name: str, **listeners: Any) -> loop.Trained:
    """Go through the training `name` in this process, from where it stands; `listeners` as `loop.train` has them."""
    mine = teaching(home, folder, plan, name)
    return loop.train(
        mine.recipe,
        mine.texts,
        mine.lessons,
        folder / name,
        bases=artifacts.bases_folder(home),
        start_from=mine.start_from,
        **listeners,
    )


def trained(run: Run, name: str) -> dict[str, float]:
    """Figures of the training `name`, which came to its end. Raises Stopped, LmmError, OSError."""

    def log(line: Mapping[str, Any]) -> None:
        told = f"{line['stage']} step {line['step']} of {line['num_steps']}"
        run.tell(name, line["step"] / max(1, line["num_steps"]), told)
        if line["step"] * 10 // line["num_steps"] > (line["step"] - 1) * 10 // line["num_steps"]:
            run.say(
                f"  {line['stage']} {line['step']}/{line['num_steps']}: loss {line['loss_mean']:.3f} (median {line['loss_median']:.3f}), {line['tokens_per_s']:.0f} tokens/s"
            )

    def should_stop() -> bool:
        if artifacts.is_unclean(run.folder):
            run.look_up()
        return bool(run.who_stops())

    if run.plan.processes > 1:
        done = together.train(
            run.home,
            run.folder,
            name,
            run.plan.processes,
            num_threads=run.plan.recipe.num_threads,
            should_stop=should_stop,
            log=log,
        )
    else:
        done = follow(run.home, run.folder, run.plan, name, should_stop=should_stop, log=log)
    if not done.finished:
        raise Stopped
    if done.unseen:
        run.say(f"  {len(done.unseen)} lessons were not reached in so many steps: give it more with --max-steps")
    if name == ADAPTER:
        durable.write_json(run.folder / UNSEEN, [*done.unseen, *done.too_long])
    if done.too_long:
        run.say(f"  left out: {len(set(done.too_long))} lessons that are longer than a row of {done.seq_len} tokens")
    return {
        "steps": done.num_steps,
        "tokens": done.num_tokens,
        "tokens/s": round(done.num_tokens / done.seconds) if done.seconds else 0,
        "last loss": round(done.losses[-1], 4) if done.losses else 0.0,
        "too long": len(done.too_long),
        "unseen": len(done.unseen),
    }


def take_part(home: Home, seat: together.Seat, who_stops: Callable[[], str]) -> int:
    """Be one of the processes that go through a training of a run; an exit code. Raises LmmError, OSError."""
    plan = plans.load(seat.folder)
    follow_plan = functools.partial(follow, home, seat.folder, plan, seat.name)
    return together.take_part(seat, plan.recipe.device, follow_plan, who_stops)
