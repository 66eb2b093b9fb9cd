"""Everything a training run is told: one frozen value, written into its folder as `recipe.json`."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal

from lmm_mcp.domain.lesson import SLICES
from lmm_mcp.errors import TrainingError

Method = Literal["lora", "qlora", "full"]
Stage = Literal["cpt", "sft", "both"]
METHODS = ("lora", "qlora", "full")
STAGES = ("cpt", "sft", "both")
NOT_NEGATIVE = ("min_steps", "max_steps", "clip", "weight_decay", "skip_teacher_tokens", "prompt_weight", "num_threads")
DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True, slots=True)
class Pull:
    """What an answer of one kind of lesson is pulled towards."""

    answer: float
    """Weight of the loss on the answer itself (lambda)."""
    teacher: float
    """Weight of the distance to what the base says with clean context (beta); counts only where a lesson has one."""


PULLS: dict[str, Pull] = {
    "choice": Pull(1.0, 0.0),
    "brief": Pull(1.0, 0.5),
    "fact": Pull(1.0, 0.0),
    "procedure": Pull(1.0, 0.0),
    "clue": Pull(1.0, 0.0),
    "chunk": Pull(1.0, 0.0),
    "general": Pull(0.0, 1.0),
}
"""As in the recipe that was measured: answers that a person's sessions support are learned as they stand, the base's own are kept."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """All dials of a run. Lengths in tokens, shares from 0 to 1."""

    preset: str = "cpu-tiny"
    """Which of `presets.PRESETS` it was made from, for the report."""
    base: str = "tiny"
    """A folder, a base of this memory's own, or a model as OWNER/NAME."""
    method: Method = "lora"
    """`lora`: an adapter on all linear layers. `qlora`: the same over weights of four bits. `full`: all weights, for small models."""
    rank: int = 32
    alpha: int = 64
    """Scale of the adapter; what counts is alpha / rank."""
    dropout: float = 0.0
    stage: Stage = "both"
    learning_rate: float = 2e-4
    """Peak, in the `sft` stage."""
    cpt_learning_rate: float = 1e-4
    """Peak, in the `cpt` stage."""
    epochs: float = 2.0
    """How often each lesson is seen."""
    cpt_epochs: float = 1.0
    min_steps: int = 1
    """Of a stage: lessons are seen again until there are as many."""
    max_steps: int = 2000
    """Of a stage, 0 = no limit."""
    tokens_per_step: int = 32_768
    """Tokens between two updates of the weights, over all devices."""
    seq_len: int = 4096
    """Longest row; several lessons share one."""
    min_seq_len: int = 1024
    """Where shortening stops when memory runs out."""
    micro_rows: int = 4
    """Rows that go through the network at once, on each device."""
    warmup: float = 0.05
    """Share of the steps in which the learning rate rises."""
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    clip: float = 1.0
    """Largest norm of a gradient, 0 = any."""
    pulls: tuple[tuple[str, Pull], ...] = tuple(PULLS.items())
    """What answers are pulled towards, by slice."""
    top_k: int = 20
    """How many of the teacher's most likely tokens count one by one; the rest counts as one."""
    skip_teacher_tokens: int = 3
    """First tokens of an answer on which the teacher is not asked: it has not seen yet what is wanted."""
    prompt_weight: float = 0.0
    """Weight of a prompt's own tokens in the `sft` stage; above 0 only where a base is made."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """In which the network computes. An adapter's weights are kept in float32 always."""
    checkpointing: bool = True
    """Compute activations again instead of keeping them: a third slower, a fraction of the memory."""
    saves: int = 10
    """Checkpoints of a stage."""
    seed: int = 0
    device: str = "auto"
    sharded: bool = False
    """With several processes: split the weights among them (FSDP) instead of having them whole in each."""
    shuffled: bool = True
    """Draw an order for each epoch; False keeps the order in which lessons are given."""
    num_threads: int = 0
    """Of the CPU; 0 = as many as torch takes."""

    def __post_init__(self) -> None:
        wrong = _first_wrong(self)
        if wrong:
            raise TrainingError(f"this recipe cannot be followed: {wrong}.")

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages it goes through, in order."""
        return ("cpt", "sft") if self.stage == "both" else (self.stage,)

    def pull(self, slice_name: str) -> Pull:
        """What answers of that slice are pulled towards."""
        return dict(self.pulls).get(slice_name, Pull(1.0, 0.0))

    def at_half_rate(self) -> "Recipe":
        """The same for weights that have learned by it before, and that would be shaken by the rates of a beginning."""
        return dataclasses.replace(
            self, learning_rate=self.learning_rate / 2, cpt_learning_rate=self.cpt_learning_rate / 2
        )

    def but(self, **changes: Any) -> "Recipe":
        """The same with some dials turned. Raises TrainingError for an unknown one, or where they do not go together."""
        unknown = set(changes) - {each.name for each in dataclasses.fields(self)}
        if unknown:
            raise TrainingError(f"a recipe has no {', '.join(sorted(unknown))}; `lmm train dials` names all.")
        return dataclasses.replace(self, **changes)


def to_json(recipe: Recipe) -> str:
    """As kept in a run's folder."""
    return json.dumps(dataclasses.asdict(recipe), indent=1)


def from_json(text: str) -> Recipe:
    """The inverse of `to_json`. Raises TrainingError where that is no recipe of this version."""
    try:
        tree = json.loads(text)
        tree["pulls"] = tuple((name, Pull(**pull)) for name, pull in tree["pulls"])
        tree["betas"] = tuple(tree["betas"])
        return Recipe(**tree)
    except (ValueError, KeyError, TypeError) as problem:
        raise TrainingError(f"the recipe of this run cannot be read: {problem}. Start a new run.") from problem


def _first_wrong(recipe: Recipe) -> str:
    checks = (
        (recipe.method in METHODS, f"method is {recipe.method!r}; write {', '.join(METHODS)}"),
        (recipe.stage in STAGES, f"stage is {recipe.stage!r}; write {', '.join(STAGES)}"),
        (recipe.device in DEVICES, f"device is {recipe.device!r}; write {', '.join(DEVICES)}"),
        (recipe.precision in ("float32", "bfloat16"), f"precision is {recipe.precision!r}; write float32 or bfloat16"),
        (recipe.rank > 0 and recipe.alpha > 0, "rank and alpha must be above 0"),
        (recipe.learning_rate > 0 and recipe.cpt_learning_rate > 0, "learning rates must be above 0"),
        (recipe.epochs > 0 and recipe.cpt_epochs > 0, "epochs must be above 0"),
        (16 <= recipe.min_seq_len <= recipe.seq_len, "seq_len must be at least min_seq_len, and that at least 16"),
        (recipe.tokens_per_step >= recipe.seq_len, "tokens_per_step must hold one row of seq_len tokens at least"),
        (recipe.micro_rows >= 1, "micro_rows must be 1 or more"),
        (not recipe.max_steps or recipe.min_steps <= recipe.max_steps, "min_steps is above max_steps"),
        (0 <= recipe.warmup < 1 and 0 <= recipe.dropout < 1, "warmup and dropout lie between 0 and 1"),
        (recipe.top_k >= 1 and recipe.saves >= 1, "top_k and saves must be 1 or more"),
        (
            min(getattr(recipe, name) for name in NOT_NEGATIVE) >= 0,
            f"{', '.join(NOT_NEGATIVE[:-1])} and {NOT_NEGATIVE[-1]} must not be negative",
        ),
        (
            {name for name, _ in recipe.pulls} <= set(SLICES),
            f"pulls name an unknown slice; there are {', '.join(SLICES)}",
        ),
        (
            all(pull.answer >= 0 and pull.teacher >= 0 for _, pull in recipe.pulls),
            "pulls must not be negative",
        ),
    )
    return next((wrong for right, wrong in checks if not right), "")
