"""The network that a recipe wants, ready to be trained: which weights are open, in which numbers, on which device."""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lmm_mcp.errors import TrainingError
from lmm_mcp.model.network import Network, find_base, load, with_lora
from trainer.engine import Engine
from trainer.learning import Learner
from trainer.recipe import Recipe


def prepared(recipe: Recipe, hall: Engine, *, bases: Path | None, learned: Path | None) -> tuple[Network, Any]:
    """The network, and a teacher where the network itself cannot be one.

    `learned`: what to go on from. Raises ModelError where the base or what was learned cannot be used, TrainingError where a part
    is missing on this machine.
    """
    device = str(hall.device)
    whole = recipe.method == "full"
    network = load(
        find_base(recipe.base, bases=bases),
        adapter=learned,
        device=device,
        # Weights that move need more digits than bfloat16 has.
        dtype=torch.float32 if whole or hall.device.type == "cpu" else torch.bfloat16,
        trainable=True,
        quantization=_four_bits() if recipe.method == "qlora" else None,
    )
    teacher = _teacher(recipe, network, hall, bases, learned) if whole else None
    model = network.model
    if whole:
        model.requires_grad_(True)
    elif learned is None:
        torch.manual_seed(recipe.seed)  # so that an adapter begins with the same numbers, whatever was drawn before
        model = with_lora(model, rank=recipe.rank, alpha=recipe.alpha, dropout=recipe.dropout)
    if recipe.checkpointing:
        compute_again(model)
    model.train()
    return Network(model, network.tokenizer, network.card), teacher


def compute_again(model: Any) -> None:
    """Have activations computed again on the way back instead of kept."""
    if hasattr(
        model, "activation_checkpointing_enable"
    ):  # as transformers calls it from 5.23 on, with a warning at the old name
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def check(recipe: Recipe) -> None:
    """Raises TrainingError where a package is missing that the recipe needs."""
    if recipe.method == "qlora":
        _four_bits()


def _teacher(
    recipe: Recipe, network: Network, hall: Engine, bases: Path | None, learned: Path | None
) -> nn.Module | None:
    """Where all weights move there is no adapter to switch off: the base itself, once more."""
    if not any(pull.teacher for _, pull in recipe.pulls):
        return None
    if learned is None:
        model = copy.deepcopy(network.model)
    else:
        model = load(find_base(recipe.base, bases=bases), device=str(hall.device), dtype=torch.float32).model
    return Learner(model.eval().requires_grad_(False))


def _four_bits() -> Any:
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as problem:
        raise TrainingError(
            "weights of four bits need the package bitsandbytes, which is not here: install it beside this program (`pip install bitsandbytes`), or choose `--method lora`."
        ) from problem
    from transformers import BitsAndBytesConfig

    config: Any = BitsAndBytesConfig
    return config(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
