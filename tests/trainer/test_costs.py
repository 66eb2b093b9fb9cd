"""What a run is said to take before it is begun: by its own steps, with placebo and judging, and by earlier runs where there are some."""

from dataclasses import replace

import pytest

from lmm_mcp import artifacts, training_runs
from lmm_mcp.artifacts import durable
from lmm_mcp.paths import Home
from lmm_mcp.training_runs import RunState
from trainer import costs, planning, presets
from trainer import plan as plans
from trainer.base import small_base
from trainer.costs import Amount
from trainer.plan import Plan

AMOUNT = Amount(lesson_tokens=20_000, text_tokens=4_000, num_probes=80, made_s=60.0, num_parameters=1_000_000)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return str(small_base(tmp_path_factory.mktemp("bases") / "small", ["which port does amber use?"]))


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path / "lmm").ensure()


def plan(base: str, **dials) -> Plan:
    given = {"epochs": 6, "cpt_epochs": 1, "tokens_per_step": 2048, "min_steps": 1, "max_steps": 0}
    return Plan(recipe=presets.preset("cpu-tiny", base=base, **(given | dials)))


def test_steps_are_those_that_the_loop_will_cut(home, base):
    assert costs.cost_of(home, plan(base), AMOUNT).steps == {"cpt": 2, "sft": 59}
    assert costs.cost_of(home, plan(base, min_steps=100), AMOUNT).steps == {"cpt": 100, "sft": 100}
    assert costs.cost_of(home, plan(base, max_steps=30), AMOUNT).steps == {"cpt": 2, "sft": 30}
    assert costs.cost_of(home, plan(base, stage="sft"), AMOUNT).steps == {"sft": 59}
    assert costs.cost_of(home, plan(base), replace(AMOUNT, text_tokens=0)).steps["cpt"] == 0


def test_more_steps_take_longer_and_fewer_do_not_take_what_is_never_reached(home, base):
    once, more, less = (
        costs.cost_of(home, plan(base, stage="sft", **dials), AMOUNT).seconds["training"]
        for dials in ({}, {"min_steps": 118}, {"max_steps": 30})
    )
    assert more == pytest.approx(2 * once, rel=0.05)
    assert less == pytest.approx(once / 2, rel=0.05)


def test_a_placebo_counts_until_there_is_one_and_judging_always(home, base):
    wanted = plan(base)
    found = costs.cost_of(home, wanted, AMOUNT)
    assert list(found.seconds) == ["facts and lessons", "training", "placebo", "judging"]
    assert found.seconds["facts and lessons"] == 60
    assert all(found.seconds.values())
    twice = costs.cost_of(home, wanted, replace(AMOUNT, num_probes=160))
    assert twice.seconds["judging"] == pytest.approx(2 * found.seconds["judging"])
    assert "placebo" not in costs.cost_of(home, replace(wanted, placebo=False), AMOUNT).seconds
    durable.make_folder(planning.placebo_folder(home, wanted, found.steps["sft"]))
    assert "placebo" not in costs.cost_of(home, wanted, AMOUNT).seconds


def test_what_an_earlier_run_of_the_same_kind_measured_is_taken(home, base):
    figures = {"tokens/s": 1000, "placebo tokens/s": 500, "facts s": 7, "judging s": 120, "probes": 40}
    for number, base_of_run in enumerate((base, "another")):
        folder = durable.make_folder(artifacts.run_folder(home, f"2026-01-0{number + 1}-000000-001"))
        plans.save(plan(base_of_run), folder)
        state = RunState(folder.name, 1, "x", figures={**figures, "tokens/s": 1000 * (number + 1)})
        training_runs.save(folder, state)
    found = costs.cost_of(home, plan(base), AMOUNT)
    assert found.measured_by == "2026-01-01-000000-001"
    assert found.seconds["facts and lessons"] == 67
    assert found.seconds["judging"] == 240
    assert found.seconds["training"] == pytest.approx(124, rel=0.05)
    assert found.seconds["placebo"] == pytest.approx(249, rel=0.05)
    assert "by the figures of run 2026-01-01-000000-001" in found.told("cpu-tiny", "cpu")
    assert "taken to do" in costs.cost_of(home, plan(base, method="full"), AMOUNT).told("cpu-tiny", "cpu")


def test_a_placebo_learns_in_as_many_steps_as_the_candidate_up_to_a_bound_and_runs_of_like_length_share_it(home, base):
    recipe = plan(base, min_steps=20, max_steps=1000).recipe
    steps = {num: planning.placebo_recipe(recipe, num) for num in (0, 1, 100, 200, 1000)}
    assert [(each.min_steps, each.max_steps) for each in steps.values()] == [
        (20, 1000),
        (1, 1),
        (128, 128),
        (256, 256),
        (256, 256),
    ]
    assert {each.stage for each in steps.values()} == {"sft"}
    folders = [planning.placebo_folder(home, plan(base, max_steps=1000), num) for num in (150, 200, 100)]
    assert folders[0] == folders[1] != folders[2]
