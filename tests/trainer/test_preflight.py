"""What a run lacks is said before it begins."""

import sys
from dataclasses import replace
from typing import Any

import pytest

from lmm_mcp import artifacts
from lmm_mcp.artifacts import durable
from lmm_mcp.errors import BadInput, ModelError, TrainingError
from lmm_mcp.model import network
from lmm_mcp.paths import Home
from trainer import preflight, presets
from trainer.plan import Plan
from trainer.presets import of_gpu, preset

PLAN = Plan(recipe=preset("cpu-tiny", base="small"))


def test_what_a_small_run_needs_is_here(home: Home) -> None:
    assert preflight.look(home, PLAN) == []


def test_a_disk_without_room_is_refused_with_how_much_it_lacks(home: Home) -> None:
    with pytest.raises(TrainingError, match=r"keeps up to 0\.[12] GB.*0\.1 GB are free.*free some space"):
        preflight.look(home, PLAN, free_bytes=lambda _folder: 90_000_000)


def test_more_memory_than_there_is_is_said_and_not_refused(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "memory_bytes", lambda _device: 10_000_000)
    (told,) = preflight.look(home, PLAN)
    assert "--seq-len" in told


def test_a_gpu_that_no_preset_fits_is_said_to_be_left_alone(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "gpu_bytes", lambda: 4_000_000_000)
    (told,) = preflight.look(home, PLAN)
    assert "4.0 GB" in told
    monkeypatch.setattr(preflight, "gpu_bytes", lambda: 24_000_000_000)
    assert preflight.look(home, PLAN) == []


def test_a_package_or_a_base_that_is_missing_is_named(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(TrainingError, match="pip install bitsandbytes"):
        preflight.look(home, replace(PLAN, recipe=PLAN.recipe.but(method="qlora")))
    with pytest.raises(ModelError, match="make-base"):
        preflight.look(home, replace(PLAN, recipe=PLAN.recipe.but(base="tiny")))


def learned(home: Home, *, whole: bool = False) -> str:
    """A run that has learned by the recipe of `PLAN`, by its name."""
    folder = durable.make_folder(artifacts.run_folder(home, "2026-06-01-000000-001"))
    told = network.load(network.find_base("small", bases=artifacts.bases_folder(home)))
    model = told.model if whole else network.with_lora(told.model, rank=PLAN.recipe.rank, alpha=PLAN.recipe.alpha)
    network.save_adapter(network.Network(model, told.tokenizer, told.card), folder / "training" / "adapter")
    artifacts.write_sources(folder, artifacts.Sources.of((), (), as_of=0))
    return folder.name


@pytest.mark.parametrize(
    ("dials", "said"),
    [
        ({"rank": 4, "alpha": 8}, "--rank 32 --alpha 64;"),
        ({"method": "full"}, "--method lora;"),
        ({"dropout": 0.1}, r"--dropout 0\.0;"),
    ],
)
def test_what_was_learned_in_another_shape_is_not_gone_on_from(home: Home, dials: dict[str, Any], said: str) -> None:
    plan = replace(PLAN, from_checkpoint=learned(home))
    assert preflight.look(home, plan) == []
    with pytest.raises(BadInput, match=f"only be gone on from with {said}.* --from-checkpoint base"):
        preflight.look(home, replace(plan, recipe=plan.recipe.but(**dials)))


def test_whole_weights_are_gone_on_from_whole_only(home: Home) -> None:
    plan = replace(PLAN, from_checkpoint=learned(home, whole=True))
    with pytest.raises(BadInput, match="--method full;"):
        preflight.look(home, plan)
    assert preflight.look(home, replace(plan, recipe=plan.recipe.but(method="full"))) == []


def test_what_was_learned_on_another_base_is_refused_before_any_lesson_is_made(home: Home) -> None:
    plan = replace(PLAN, from_checkpoint=learned(home))
    card = next(artifacts.run_folder(home, plan.from_checkpoint).rglob(network.BASE_FILE))
    card.write_text('{"fingerprint": "0123456789abcdef"}', encoding="utf-8")
    with pytest.raises(ModelError, match="another base"):
        preflight.look(home, plan)


def test_checkpoints_of_a_large_model_take_room_as_its_rank_does() -> None:
    narrow, wide = (preflight.disk_bytes(preset("24gb", rank=rank, alpha=rank), 4_020_000_000) for rank in (16, 64))
    assert 1e9 < narrow < wide < 20e9
    assert preflight.disk_bytes(preset("24gb", method="full"), 4_020_000_000) > 100e9


@pytest.mark.parametrize(
    ("gigabytes", "name"), [(4, "cpu-tiny"), (6.4, "cpu-tiny"), (7.6, "8gb"), (11.5, "12gb"), (24, "24gb")]
)
def test_a_gpu_that_is_too_small_for_every_preset_is_left_alone(gigabytes: float, name: str) -> None:
    assert of_gpu(gigabytes) == name
    assert presets.PRESETS["cpu-tiny"].device == "cpu"
