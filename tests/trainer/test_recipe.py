"""Recipes: what cannot be followed is refused with the reason, and what a run will cost is told before."""

from pathlib import Path

import pytest
import torch

from lmm_mcp.errors import TrainingError
from trainer import run_log
from trainer.engine import chosen_device
from trainer.presets import PRESETS, estimate, preset
from trainer.recipe import Pull, Recipe, from_json, to_json


@pytest.mark.parametrize("name", PRESETS)
def test_a_recipe_comes_back_as_it_was_written(name: str) -> None:
    assert from_json(to_json(PRESETS[name])) == PRESETS[name] and PRESETS[name].preset == name


@pytest.mark.parametrize(
    ("dials", "said"),
    [
        ({"method": "magic"}, "method"),
        ({"stage": "rl"}, "stage"),
        ({"rank": 0}, "rank"),
        ({"seq_len": 64, "min_seq_len": 128}, "seq_len"),
        ({"tokens_per_step": 100}, "tokens_per_step"),
        ({"learning_rate": 0.0}, "learning rates"),
        ({"min_steps": 10, "max_steps": 5}, "min_steps"),
        ({"pulls": (("gossip", Pull(1, 0)),)}, "slice"),
        ({"pulls": (("fact", Pull(-1, 0)),)}, "negative"),
        ({"warmup": 1.0}, "warmup"),
        ({"num_threads": -1}, "num_threads must not be negative"),
        ({"min_steps": -1, "max_steps": -1}, "max_steps.* must not be negative"),
        ({"colour": "red"}, "colour.*lmm train dials"),
    ],
)
def test_a_recipe_that_cannot_be_followed_says_why(dials: dict[str, object], said: str) -> None:
    with pytest.raises(TrainingError, match=said):
        Recipe().but(**dials)


@pytest.mark.parametrize("text", ["", "{}", '{"pulls": [], "betas": [], "unheard": 1}', '{"pulls": 3}'])
def test_a_recipe_of_another_version_is_refused(text: str) -> None:
    with pytest.raises(TrainingError, match="new run"):
        from_json(text)


def test_an_unknown_preset_is_refused_with_those_there_are() -> None:
    with pytest.raises(TrainingError, match="cpu-tiny"):
        preset("huge")


def test_a_preset_that_needs_a_gpu_says_so_where_there_is_none() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one here")
    for name, recipe in PRESETS.items():
        if name not in ("cpu-tiny", "mps"):
            with pytest.raises(TrainingError, match="--preset cpu-tiny"):
                chosen_device(recipe.device)
    assert chosen_device("auto") in ("cpu", "mps")


@pytest.mark.parametrize(("name", "limit_gb"), [("8gb", 8), ("12gb", 12), ("24gb", 24), ("80gb", 80), ("cpu-tiny", 2)])
def test_a_preset_is_expected_to_fit_into_the_memory_it_is_for(name: str, limit_gb: float) -> None:
    assert estimate(PRESETS[name], 1_000_000).memory_bytes < limit_gb * 1e9


def test_an_estimate_grows_with_what_is_to_be_learned_and_goes_by_what_was_measured() -> None:
    recipe = preset("cpu-tiny")
    assert estimate(recipe, 2_000_000).seconds == pytest.approx(2 * estimate(recipe, 1_000_000).seconds)
    assert estimate(recipe, 900_000, tokens_per_s=3000).seconds == 300
    assert estimate(recipe.but(seq_len=2048, tokens_per_step=2048), 1).memory_bytes > estimate(recipe, 1).memory_bytes


def test_a_torn_last_line_of_the_log_costs_that_line_only(tmp_path: Path) -> None:
    folder = tmp_path
    assert run_log.read(folder) == []
    run_log.RunLog(folder).write({"stage": "sft", "step": 1, "loss_mean": 2.0})
    with (folder / run_log.FILE).open("a", encoding="utf-8") as torn:
        torn.write('{"stage": "sft", "step": 2, "lo')
    assert [line["step"] for line in run_log.read(folder)] == [1]
    run_log.RunLog(folder).write({"stage": "sft", "step": 2, "loss_mean": 1.0})
    run_log.RunLog(folder).write({"stage": "sft", "step": 2, "loss_mean": 1.5})
    assert [(line["step"], line["loss_mean"]) for line in run_log.read(folder)] == [(1, 2.0), (2, 1.5)]
