"""Recipes by the memory that a machine has, and what a run by one of them will cost."""

from dataclasses import dataclass
from typing import Any

from lmm_mcp.errors import TrainingError
from trainer.recipe import Recipe

_SHARED: dict[str, Any] = {"rank": 32, "alpha": 64, "min_steps": 20, "max_steps": 2000}
PRESETS: dict[str, Recipe] = {
    "cpu-tiny": Recipe(
        preset="cpu-tiny",
        base="tiny",
        device="cpu",
        rank=32,
        alpha=64,
        learning_rate=4e-3,  # a fact is learned by steps, not by tokens: twice as many, half as large, teach more
        cpt_learning_rate=5e-4,
        epochs=6,
        min_steps=200,
        max_steps=1000,
        tokens_per_step=1024,
        seq_len=1024,
        min_seq_len=256,
        micro_rows=2,
        precision="float32",
        checkpointing=False,
    ),
    "8gb": Recipe(
        preset="8gb",
        base="Qwen/Qwen3-1.7B",
        device="cuda",
        learning_rate=2e-4,
        seq_len=2048,
        micro_rows=1,
        **_SHARED,
    ),
    "12gb": Recipe(
        preset="12gb",
        base="Qwen/Qwen3-1.7B",
        device="cuda",
        learning_rate=2e-4,
        seq_len=4096,
        micro_rows=1,
        **_SHARED,
    ),
    "24gb": Recipe(
        preset="24gb",
        base="Qwen/Qwen3-4B",
        device="cuda",
        learning_rate=1.5e-4,
        seq_len=4096,
        micro_rows=2,
        **_SHARED,
    ),
    "80gb": Recipe(
        preset="80gb",
        base="Qwen/Qwen3-4B",
        device="cuda",
        learning_rate=1.5e-4,
        seq_len=4096,
        micro_rows=8,
        tokens_per_step=65_536,
        **_SHARED,
    ),
    "mps": Recipe(
        preset="mps",
        base="Qwen/Qwen3-0.6B",
        device="mps",
        learning_rate=3e-4,
        seq_len=2048,
        micro_rows=1,
        **_SHARED,
    ),
}
"""`mps` is the same loop on Apple's GPUs; nobody has run it yet."""
OF_A_RUN: dict[str, Any] = {"shuffled": False}
"""Of every preset, as a run follows it: lessons come in the order in which they do not disturb one another, see `ordering`."""
_RATES = {"cpu": 2.5e10, "cuda": 6e13, "mps": 4e12}
"""Operations a second that a device is taken to reach, until a run has measured it: two cores, a consumer's card, a laptop."""
NUM_PARAMETERS = {"tiny": 1_000_000, "Qwen/Qwen3-0.6B": 600_000_000, "Qwen/Qwen3-1.7B": 1_720_000_000, "Qwen/Qwen3-4B": 4_020_000_000}  # fmt: skip
SMALLEST_GPU_gb = 7
"""Smaller ones hold no preset: a card that is sold as one of 8 GB tells of 7.5 and more."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run will cost, within a factor of two or so."""

    seconds: float
    memory_bytes: int
    """On the device."""


def preset(name: str, **changes: Any) -> Recipe:
    """The recipe of that name with some dials turned. Raises TrainingError for an unknown name or dial."""
    if name not in PRESETS:
        raise TrainingError(f"there is no preset {name!r}; there are {', '.join(PRESETS)}.")
    return PRESETS[name].but(**changes)


def default(dial: str) -> str:
    """What a run has that is told nothing about a dial, in words."""
    found = {str(OF_A_RUN.get(dial, getattr(each, dial))) for each in PRESETS.values()}
    return found.pop() if len(found) == 1 else "what the preset says"


def estimate(
    recipe: Recipe, num_tokens: int, *, num_parameters: int = 0, num_words: int = 0, tokens_per_s: float = 0.0
) -> Estimate:
    """Time and memory for that many tokens (over all epochs). `tokens_per_s`: as an earlier run measured, where there was one."""
    device = recipe.device if recipe.device != "auto" else "cpu"
    num_parameters = num_parameters or NUM_PARAMETERS.get(recipe.base, 1_000_000_000)
    num_words = num_words or (2_200 if recipe.base == "tiny" else 151_936)
    # Forward 2N; backward 4N, of which an adapter needs the half that carries gradients on; once more forward to save memory.
    operations = (6 if recipe.method == "full" else 4) + (2 if recipe.checkpointing else 0)
    seconds = num_tokens / tokens_per_s if tokens_per_s else num_tokens * operations * num_parameters / _RATES[device]
    width = _width(num_parameters)
    num_layers = _layers(num_parameters)
    weights = num_parameters * {"full": 4, "lora": 4 if device == "cpu" else 2, "qlora": 0.6}[recipe.method]
    learned = learned_parameters(recipe, num_parameters)  # each with its value, gradient and two moments
    tokens = recipe.seq_len * recipe.micro_rows
    kept = (
        tokens * width * (num_layers + 40 if recipe.checkpointing else num_layers * 34) * (4 if device == "cpu" else 2)
    )
    logits = min(tokens * num_words, 64_000_000) * 4 * 3
    return Estimate(seconds, int(weights + learned * 16 + kept + logits + (300_000_000 if device != "cpu" else 0)))


def learned_parameters(recipe: Recipe, num_parameters: int) -> int:
    """How many numbers move: of an adapter on all linear layers, seven matrices a layer, rank times the sum of their sides."""
    if recipe.method == "full":
        return num_parameters
    return _layers(num_parameters) * recipe.rank * 22 * _width(num_parameters)


def of_gpu(gigabytes: float) -> str:
    """The largest preset for a CUDA device of that memory; `cpu-tiny`, which computes beside it, where none fits.

    >>> of_gpu(80), of_gpu(16), of_gpu(8.5), of_gpu(4)
    ('80gb', '12gb', '8gb', 'cpu-tiny')
    """
    of_memory = ((75, "80gb"), (22, "24gb"), (11, "12gb"), (SMALLEST_GPU_gb, "8gb"))
    return next((name for least, name in of_memory if gigabytes >= least), "cpu-tiny")


def reading_s(recipe: Recipe, num_tokens: int, *, num_parameters: int) -> float:
    """Seconds in which a network of that size reads so many tokens, by what its device is taken to reach."""
    return num_tokens * 2 * num_parameters / _RATES[recipe.device if recipe.device != "auto" else "cpu"]


def _layers(num_parameters: int) -> int:
    return max(2, num_parameters // (13 * _width(num_parameters) ** 2))


def _width(num_parameters: int) -> int:
    """Of a network of that size, as Qwen3's are shaped."""
    sides = ((2_500_000_000, 2560), (1_000_000_000, 2048), (300_000_000, 1024), (0, 192))
    return next(width for least, width in sides if num_parameters >= least)
