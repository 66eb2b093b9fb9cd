"""The training loop: a recipe, texts and lessons in; a folder with what was learned out.

Whatever dies in between goes on from the last checkpoint with the same losses. Where memory runs out, less goes through the
network at once, then rows get shorter, then it stops and says so.
"""

import dataclasses
import hashlib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lmm_mcp.domain.lesson import Lesson
from lmm_mcp.errors import TrainingError
from lmm_mcp.model.network import Network, save_adapter
from trainer import checkpoints, engine
from trainer import recipe as recipes
from trainer.checkpoints import Place
from trainer.engine import Engine
from trainer.learning import Learner, weighed_loss
from trainer.preparing import prepared
from trainer.recipe import Recipe
from trainer.run_log import RunLog
from trainer.stages import cpt, sft
from trainer.tokens import Segment, Tokenized, batch_of, fitted, packed, steps_of, total_weight

MAX_HALVINGS = 2
"""Of the rows that go through at once, before rows are shortened."""
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
    learn: Callable[..., "Learned"] | None = None,
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
    learn = learn or _learn

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
            learned, place = _with_less(learn, learner, teacher, chosen, network, recipe, hall, place)
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
        if stopped and (last is None or checkpoints.place_of(last) != place) and place.step:
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


@dataclass(frozen=True, slots=True)
class Learned:
    """What one step saw."""

    mean: float
    """Weighed loss in nats, what is being made small."""
    median: float
    """Of the losses at the tokens asked for; the one that goes with judged quality."""
    num_tokens: int
    num_targets: int


def _learn(
    learner: Any,
    teacher: Any,
    segments: Sequence[Segment],
    network: Network,
    recipe: Recipe,
    hall: Engine,
    place: Place,
) -> Learned:
    """Gather the gradient of one step, a few rows at a time."""
    rows = packed(segments, place.seq_len)
    own = rows[hall.rank :: hall.num_processes]
    most = -(-len(rows) // hall.num_processes)  # every process goes through as often, be it with nothing
    starts = range(0, most, place.micro_rows)
    whole_weight = total_weight(segments) or 1.0
    taught = any(each.teacher for each in segments)
    pad = network.tokenizer.pad_token_id
    losses: list[float] = []
    sum_of_losses = 0.0
    for start in starts:
        batch = batch_of(
            own[start : start + place.micro_rows],
            pad=pad if pad is not None else 0,
            skip_teacher=recipe.skip_teacher_tokens,
            taught=taught,
        ).to(hall.device)
        with hall.alone(learner, alone=start + place.micro_rows < most):
            with torch.autocast(hall.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
                loss, loss_N = weighed_loss(learner, batch, top_k=recipe.top_k, teacher=teacher)
            hall.backward(loss / whole_weight)
        sum_of_losses += float(loss.detach())
        losses += loss_N[batch.weights_N >= batch.weights_N.max() * 0.5].tolist() if len(loss_N) else []
    mean = sum(hall.gathered([sum_of_losses])) / whole_weight
    everywhere = hall.gathered(losses)
    return Learned(
        mean, statistics.median(everywhere or [0.0]), sum(len(each.ids) for each in segments), len(everywhere)
    )


def _with_less(
    learn: Callable[..., Learned],
    learner: Any,
    teacher: Any,
    segments: Sequence[Segment],
    network: Network,
    recipe: Recipe,
    hall: Engine,
    place: Place,
) -> tuple[Learned, Place]:
    """One step, with less at once where memory runs out."""
    while True:
        fitting, lost = fitted(segments, place.seq_len)
        if lost:
            place = dataclasses.replace(place, lost=tuple(dict.fromkeys((*place.lost, *(each.name for each in lost)))))
        try:
            return learn(learner, teacher, fitting, network, recipe, hall, place), place
        except (RuntimeError, MemoryError) as problem:
            if not is_out_of_memory(problem):
                raise
            place = _smaller(place, recipe, problem, hall)
        learner.zero_grad(set_to_none=True)
        if hall.device.type == "cuda":
            torch.cuda.empty_cache()


def is_out_of_memory(problem: BaseException) -> bool:
    """Whether this is torch, or Python, saying that there is no memory left."""
    said = str(problem).lower()
    return isinstance(problem, (MemoryError, torch.OutOfMemoryError)) or any(
        words in said for words in ("out of memory", "can't allocate memory", "alloc_failed")
    )


def _smaller(place: Place, recipe: Recipe, problem: BaseException, hall: Engine) -> Place:
    halved = place.micro_rows // 2
    if halved >= 1 and halved * 2**MAX_HALVINGS >= recipe.micro_rows and hall.num_processes == 1:
        return dataclasses.replace(place, micro_rows=halved)
    if place.seq_len // 2 >= recipe.min_seq_len and hall.num_processes == 1:
        return dataclasses.replace(place, seq_len=place.seq_len // 2)
    raise TrainingError(
        f"there is not enough memory on {hall.device} for rows of {place.seq_len} tokens, {place.micro_rows} at once; use a preset for less memory, a smaller base, or `--seq-len {place.seq_len // 2}`."
    ) from problem


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


def _is_due(step: int, num_steps: int, saves: int) -> bool:
    """Whether another tenth of the stage is done."""
    return step * saves // num_steps > (step - 1) * saves // num_steps


def _hash_of(recipe: Recipe, texts: Sequence[str], lessons: Sequence[Lesson], start_from: Path | None) -> str:
    digest = hashlib.blake2b(digest_size=8)
    digest.update(recipes.to_json(recipe.but(num_threads=0)).encode())
    for piece in (*texts, *(f"{each.id}{each.weight}{each.clean_prompt}" for each in lessons), str(start_from or "")):
        digest.update(hashlib.blake2b(piece.encode("utf-8", "surrogatepass"), digest_size=8).digest())
    return digest.hexdigest()
