"""The training loop: a recipe, texts and lessons in; a folder with what was learned out.

Whatever dies in between goes on from the last checkpoint with the same losses, with as many processes or fewer or more.
"""

import dataclasses
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lmm_mcp.domain.lesson import Lesson
from lmm_mcp.errors import TrainingError
from lmm_mcp.model.network import save_adapter
from trainer import checkpoints, engine, stepping
from trainer import recipe as recipes
from trainer.checkpoints import Place
from trainer.engine import Engine
from trainer.learning import Learner
from trainer.preparing import prepared
from trainer.recipe import Recipe
from trainer.run_log import RunLog
from trainer.stages import cpt, sft
from trainer.stepping import Learned
from trainer.tokens import Tokenized, steps_of

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run came to."""

    adapter: Path
    """What was learned, for `network.load`; of an unfinished run its last checkpoint's."""
    finished: bool
    """False where it was asked to stop; the same call goes on."""
    num_steps: int
    losses: tuple[float, ...]
    """Mean loss of each step in nats, over all stages."""
    num_tokens: int
    seconds: float
    """Of computing, over all parts of an interrupted run."""
    too_long: tuple[str, ...]
    """Ids of lessons that did not fit into a row."""
    unseen: tuple[str, ...]
    """Ids of lessons that the steps of the recipe did not reach."""
    seq_len: int
    """Of the last step; below the recipe's where memory ran out."""
    device: str
    num_processes: int


def train(
    recipe: Recipe,
    texts: Sequence[str],
    lessons: Sequence[Lesson],
    run_folder: Path,
    *,
    bases: Path | None = None,
    start_from: Path | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    log: Callable[[Line], None] = lambda _line: None,
    learn: Callable[..., Learned] = stepping.learn,
) -> Trained:
    """Follow the recipe; begin where the run in that folder stands. `start_from`: an adapter to go on from, not to begin anew.

    `log` hears of every step; `learn` is for tests. Raises TrainingError and ModelError.
    """
    # 1. where it computes, what it begins with, what it learns from
    run_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    hall = engine.start(recipe)
    data = _hash_of(recipe, texts, lessons, start_from)
    last = checkpoints.newest(run_folder)
    place = checkpoints.place_of(last) if last else Place("", 0, 0, data, recipe.seq_len, recipe.micro_rows)
    if place.data != data:
        raise TrainingError(
            f"the run in {run_folder} learns from something else or by another recipe; start a new run, or give it what it began with."
        )
    network, teacher = prepared(recipe, hall, bases=bases, learned=checkpoints.learned_in(last) if last else start_from)
    stages = _stages(recipe, texts, lessons, network.tokenizer)
    too_long = tuple(name for _, found in stages for name in found.too_long)
    learner = hall.spread(Learner(network.model))
    if hall.is_first and not last:
        (run_folder / "recipe.json").write_text(recipes.to_json(recipe), encoding="utf-8")
    book = RunLog(run_folder) if hall.is_first else None

    # 2. stage by stage, step by step
    stopped = False
    unseen: tuple[str, ...] = ()
    for stage, found in stages:
        steps = steps_of(
            found.segments,
            epochs=stage.epochs(recipe),
            tokens_per_step=recipe.tokens_per_step,
            min_steps=recipe.min_steps,
            max_steps=recipe.max_steps,
            seed=recipe.seed if recipe.shuffled else None,
        )
        if stage is sft:
            seen = {found.segments[index].name for step in steps for index in step}
            unseen = tuple(dict.fromkeys(each.name for each in found.segments if each.name not in seen))
        if stopped or _is_behind(stage.NAME, place, recipe):
            continue
        optimizer = torch.optim.AdamW(
            [each for each in learner.parameters() if each.requires_grad],
            lr=stage.peak_learning_rate(recipe),
            betas=recipe.betas,
            weight_decay=recipe.weight_decay,
        )
        if place.stage == stage.NAME and last:
            checkpoints.restore(last, learner, optimizer, hall)
        else:
            place = dataclasses.replace(place, stage=stage.NAME, step=0, num_steps=len(steps))
        for step in range(place.step, len(steps)):
            if stopped := hall.agreed(should_stop()):
                break
            rate = learning_rate(step, len(steps), stage.peak_learning_rate(recipe), recipe.warmup)
            started = time.perf_counter()
            chosen = [found.segments[index] for index in steps[step]]
            learned, place = stepping.with_less(learn, learner, teacher, chosen, network, recipe, hall, place)
            norm = _move(learner, optimizer, rate, recipe.clip, hall)
            seconds = time.perf_counter() - started
            place = dataclasses.replace(
                place,
                step=step + 1,
                losses=(*place.losses, learned.mean),
                num_tokens=place.num_tokens + learned.num_tokens,
                seconds=place.seconds + seconds,
            )
            line = _told(place, learned, rate, norm, seconds, hall)
            if book is not None:
                _wrote(book, line, run_folder)
                log(line)
            if _is_due(step + 1, len(steps), recipe.saves):
                last = checkpoints.save(run_folder, place, network, learner, optimizer, hall)
        if stopped and place.step and not _is_kept(place, last):
            last = checkpoints.save(run_folder, place, network, learner, optimizer, hall)

    # 3. what was learned
    if not place.step and not stopped:
        raise TrainingError(
            "there is nothing to learn from: no text and no lesson fits into a row; see `lmm train --dry-run`."
        )
    adapter = checkpoints.learned_in(last) if stopped and last else run_folder / "adapter"
    if not stopped:
        learned_state = checkpoints.learned_state(network, hall)
        if hall.is_first:
            save_adapter(network, adapter, state=learned_state)
    hall.wait()
    return Trained(
        adapter, not stopped, len(place.losses), place.losses, place.num_tokens, place.seconds,
        (*too_long, *place.lost), unseen, place.seq_len, hall.device.type, hall.num_processes,
    )  # fmt: skip


def learning_rate(step: int, num_steps: int, peak: float, warmup: float) -> float:
    """Rise over the first share of the steps, then fall in a straight line towards 0.

    >>> [round(learning_rate(step, 10, 1.0, 0.2), 2) for step in (0, 1, 2, 9)]
    [0.5, 1.0, 1.0, 0.12]
    """
    rising = max(1, round(num_steps * warmup))
    if step < rising:
        return peak * (step + 1) / rising
    return peak * (num_steps - step) / max(1, num_steps - rising)


def _move(learner: Any, optimizer: torch.optim.Optimizer, rate: float, clip: float, hall: Engine) -> float:
    norm = hall.clip([each for each in learner.parameters() if each.grad is not None], clip)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm


def _told(place: Place, learned: Learned, rate: float, norm: float, seconds: float, hall: Engine) -> Line:
    return {
        "stage": place.stage,
        "step": place.step,
        "num_steps": place.num_steps,
        "loss_mean": learned.mean,
        "loss_median": learned.median,
        "lr": rate,
        "grad_norm": norm,
        "num_tokens": learned.num_tokens,
        "tokens_per_s": learned.num_tokens / seconds if seconds else 0.0,
        "memory_mb": round(hall.memory_mb(), 1),
        "seq_len": place.seq_len,
        "micro_rows": place.micro_rows,
    }


def _wrote(book: RunLog, line: Line, run_folder: Path) -> None:
    try:
        book.write(line)
    except OSError as problem:
        raise TrainingError(
            f"{run_folder} cannot be written: {problem.strerror}; free some space and run `lmm train resume`: the last checkpoint is whole."
        ) from problem


def _stages(
    recipe: Recipe, texts: Sequence[str], lessons: Sequence[Lesson], tokenizer: Any
) -> list[tuple[Any, Tokenized]]:
    found: list[tuple[Any, Tokenized]] = []
    if "cpt" in recipe.stages:
        found.append((cpt, cpt.segments(texts, tokenizer, recipe)))
    if "sft" in recipe.stages:
        found.append((sft, sft.segments(lessons, tokenizer, recipe)))
    return found


def _is_behind(stage: str, place: Place, recipe: Recipe) -> bool:
    """Whether the run has gone on to a later stage."""
    return bool(place.stage) and recipe.stages.index(stage) < recipe.stages.index(place.stage)


def _is_kept(place: Place, last: Path | None) -> bool:
    """Whether that checkpoint stands there. Not by all of it: its seconds are those of the process that wrote it."""
    if last is None:
        return False
    kept = checkpoints.place_of(last)
    return (kept.stage, kept.step) == (place.stage, place.step)


def _is_due(step: int, num_steps: int, saves: int) -> bool:
    """Whether another tenth of the stage is done."""
    return step * saves // num_steps > (step - 1) * saves // num_steps


def _hash_of(recipe: Recipe, texts: Sequence[str], lessons: Sequence[Lesson], start_from: Path | None) -> str:
    digest = hashlib.blake2b(digest_size=8)
    digest.update(recipes.to_json(recipe.but(num_threads=0)).encode())
    for piece in (*texts, *(f"{each.id}{each.weight}{each.clean_prompt}" for each in lessons), str(start_from or "")):
        digest.update(hashlib.blake2b(piece.encode("utf-8", "surrogatepass"), digest_size=8).digest())
    return digest.hexdigest()
