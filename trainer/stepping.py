"""One step of a training: its passes through the network, and their gradient.

Where memory runs out, less goes through the network at once, then rows get shorter, then it stops and says so.
"""

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lmm_mcp.errors import TrainingError
from lmm_mcp.model.network import Network
from trainer.checkpoints import Place
from trainer.engine import Engine
from trainer.learning import weighed_loss
from trainer.recipe import Recipe
from trainer.tokens import Segment, batch_of, fitted, packed, total_weight

MAX_HALVINGS = 2
"""Of the rows that go through at once, before rows are shortened."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What one step saw."""

    mean: float
    """Weighed loss in nats, what is being made small."""
    median: float
    """Of the losses at the tokens asked for; the one that goes with judged quality."""
    num_tokens: int
    num_targets: int


def with_less(
    learn: Callable[..., Learned],
    learner: Any,
    teacher: Any,
    segments: Sequence[Segment],
    network: Network,
    recipe: Recipe,
    hall: Engine,
    place: Place,
) -> tuple[Learned, Place]:
    """One step by `learn`, with less at once where memory runs out; `place` as it is then. Raises TrainingError where nothing is left to lessen."""
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


def learn(
    learner: Any,
    teacher: Any,
    segments: Sequence[Segment],
    network: Network,
    recipe: Recipe,
    hall: Engine,
    place: Place,
) -> Learned:
    """Gather the gradient of one step, a few rows at a time. Raises torch.OutOfMemoryError in every process where any ran out."""
    whole_weight = total_weight(segments) or 1.0
    share = _Share()
    try:
        share = _own_share(learner, teacher, segments, network, recipe, hall, place, whole_weight)
    except (RuntimeError, MemoryError) as problem:
        if not _is_mended_by_less(problem, hall):
            raise
        share = _Share(ran_out=str(problem) or "out of memory")
    everyone: list[_Share] = hall.gathered([share])
    if ran_out := next((each.ran_out for each in everyone if each.ran_out), ""):
        raise torch.OutOfMemoryError(ran_out)  # in all of them, so that all go on with less
    hall.exchange(learner)
    losses = [loss for each in everyone for loss in each.losses]
    mean = sum(each.sum_of_losses for each in everyone) / whole_weight
    return Learned(mean, statistics.median(losses or [0.0]), sum(len(each.ids) for each in segments), len(losses))


@dataclass(frozen=True, slots=True)
class _Share:
    """What one process saw of a step."""

    sum_of_losses: float = 0.0
    losses: tuple[float, ...] = ()
    ran_out: str = ""
    """What was said where memory ran out on the way."""


def _own_share(
    learner: Any,
    teacher: Any,
    segments: Sequence[Segment],
    network: Network,
    recipe: Recipe,
    hall: Engine,
    place: Place,
    whole_weight: float,
) -> _Share:
    rows = packed(segments, place.seq_len)
    own = rows[hall.rank :: hall.num_processes]
    most = -(-len(rows) // hall.num_processes)  # every process goes through as often, be it with nothing
    starts = range(0, most, place.micro_rows)
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
    return _Share(sum_of_losses, tuple(losses))


def is_out_of_memory(problem: BaseException) -> bool:
    """Whether this is torch, or Python, saying that there is no memory left."""
    said = str(problem).lower()
    return isinstance(problem, (MemoryError, torch.OutOfMemoryError)) or any(
        words in said for words in ("out of memory", "can't allocate memory", "alloc_failed")
    )


def _is_mended_by_less(problem: BaseException, hall: Engine) -> bool:
    """Whether this process may go on with less: where weights are split, the others wait for it in the middle of a pass."""
    return is_out_of_memory(problem) and not hall.is_split


def _smaller(place: Place, recipe: Recipe, problem: BaseException, hall: Engine) -> Place:
    halved = place.micro_rows // 2
    if hall.is_split:
        less = f"--micro-rows {halved}" if halved else f"--seq-len {place.seq_len // 2}"
        raise TrainingError(
            f"there is not enough memory on {hall.device} for rows of {place.seq_len} tokens, {place.micro_rows} at once, and with weights split among processes this is not made smaller by itself; start anew with `{less}`."
        ) from problem
    if halved >= 1 and halved * 2**MAX_HALVINGS >= recipe.micro_rows:
        return dataclasses.replace(place, micro_rows=halved)
    if place.seq_len // 2 >= recipe.min_seq_len:
        return dataclasses.replace(place, seq_len=place.seq_len // 2)
    raise TrainingError(
        f"there is not enough memory on {hall.device} for rows of {place.seq_len} tokens, {place.micro_rows} at once; use a preset for less memory, a smaller base, or `--seq-len {place.seq_len // 2}`."
    ) from problem
