"""The short form of `benchmarks/training.py`: on a CPU, with a shape that is small, by the code that a GPU runs."""

import json
import sys
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch

from trainer import presets
from trainer.tokens import Segment

MACHINE = {"date": "2026-11-22", "hardware": "a GPU", "versions": "torch 9", "precision": "bfloat16", "rate": 1e14}


@pytest.fixture(scope="module")
def bench(benchmarks):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    found = benchmarks("training", "training_plan", "training_rows")
    yield SimpleNamespace(whole=found.training, plan=found.training_plan, rows=found.training_rows)
    torch.set_num_threads(before)


def test_our_step_a_preset_and_a_brief_are_measured(bench, monkeypatch):
    monkeypatch.setattr(bench.rows, "STEPS", 2)
    monkeypatch.setattr(bench.rows, "NUM_BRIEFS", 3)
    monkeypatch.setattr(bench.rows, "BRIEF_tokens", 20)
    ours = bench.rows.measured(bench.plan.Row("ours", checkpointing=False, rate=1e12))
    assert ours["tokens_per_s"] > 0 and 0 < ours["mfu"] < 1 and ours["peak_gb"] > 0
    assert ours["note"] == "8 rows of 256 at once"
    preset = bench.rows.measured(bench.plan.Row("preset", preset="8gb", rate=1e12))
    assert preset["limit_gb"] == 8 and preset["fits"] and preset["note"] == "1 rows of 128 at once"
    briefs = bench.rows.measured(bench.plan.Row("briefs"))
    assert briefs["num_briefs"] == 3 and "3 briefs of 20 tokens" in briefs["note"]
    assert briefs["p95_s"] >= 20 / briefs["tokens_per_s"] * 0.99


def test_activations_that_are_computed_again_give_the_same_gradient(bench):
    gradients = []
    for checkpointing in (False, True):
        row = bench.plan.Row("ours", checkpointing=checkpointing)
        recipe = bench.rows.recipe_of(row).but(checkpointing=checkpointing)
        model = bench.rows.model_of(row, recipe)
        assert model.get_base_model().is_gradient_checkpointing is checkpointing
        ids = torch.arange(3, 67)[None]
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        gradients.append({name: each.grad for name, each in model.named_parameters() if each.grad is not None})
    kept, again = gradients
    assert kept and set(kept) == set(again) and all("lora" in name for name in kept)
    assert all(torch.allclose(kept[name], again[name], atol=1e-6) for name in kept)
    assert any(each.abs().max() > 0 for each in kept.values())


def test_a_preset_that_had_to_do_with_less_is_measured_again_with_all_and_has_missed(bench, monkeypatch):
    limits = []
    monkeypatch.setattr(bench.rows, "limited", limits.append)
    monkeypatch.setattr(bench.rows, "STEPS", 1)
    learn, passes = bench.rows.stepping.learn, []

    def short_of_memory(*arguments):
        passes.append(arguments[-1].micro_rows)
        if len(limits) == 1 and arguments[-1].micro_rows > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return learn(*arguments)

    monkeypatch.setattr(bench.rows.stepping, "learn", short_of_memory)
    found = bench.rows.measured(bench.plan.Row("preset", preset="24gb", rate=1e12))
    assert found["fits"] is False and found["note"] == "only 1 rows of 256 fit"
    assert limits == [24e9, float("inf")]
    assert passes[0] == 2 and passes[-1] == 2, "what it needs is told of all its rows"
    line = {"name": "preset 24gb", "row": asdict(bench.plan.Row("preset", preset="24gb")), "machine": MACHINE, **found}
    assert "**missed**" in bench.whole.verdicts([line])[0]


def test_operations_are_four_a_weight_and_token_and_attention_is_counted_within_lessons(bench):
    shape = {
        "hidden_size": 10, "intermediate_size": 20, "num_hidden_layers": 3, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 8, "vocab_size": 100,
    }  # fmt: skip
    layer = 10 * 16 + 10 * 8 * 2 + 16 * 10 + 3 * 10 * 20
    lessons = [Segment(tuple(range(6)), 4, 1.0), Segment(tuple(range(4)), 3, 1.0)]
    attention = 3 * 6 * 16 * (6**2 + 4**2)
    assert bench.rows.operations(shape, lessons) == 4 * (3 * layer * 10 + 100 * 10 * 3) + attention


def test_every_preset_for_a_gpu_of_nvidias_is_measured_at_the_shape_of_its_base(bench):
    wanted = {name: each.base.rsplit("-", 1)[-1].lower() for name, each in presets.PRESETS.items() if each.device == "cuda"}  # fmt: skip
    assert wanted == bench.plan.OF_PRESET
    rows = list(bench.plan.planned(bench.plan.KINDS, ["0.6b", "1.7b", "4b"], rate=1.0))
    assert {each.preset: each.shape for each in rows if each.kind == "preset"} == wanted
    assert len({bench.plan.name_of(each) for each in rows}) == len(rows)


def test_what_is_missing_fails_or_takes_too_long_is_a_row_with_its_reason(bench):
    row = bench.plan.Row("ours")
    assert bench.whole.measured(bench.plan.Row("unsloth"))["reason"].startswith("not installed: unsloth")
    assert bench.whole.measured(row, limit_s=0.01)["reason"] == "stopped after 0 s"
    assert "ended with code 2" in bench.whole.measured(row, program="nothing_there.py")["reason"]
    assert bench.rows.measured(replace(row, kind="preset", preset="nogb"))["reason"].startswith("TrainingError: ")


def test_rows_are_kept_as_they_come_and_a_later_call_adds_to_them(bench, tmp_path, monkeypatch, capsys):
    asked = []

    def cut_off(row):
        asked.append(row.kind)
        if asked.count("ours") == 2:
            raise KeyboardInterrupt
        return dict(MACHINE) if row.kind == "machine" else _found(1000.0)

    monkeypatch.setattr(bench.whole, "measured", cut_off)
    monkeypatch.setattr(sys, "argv", ["training.py", "--out", str(tmp_path), "--shape", "1.7b", "--rows", "speed"])
    with pytest.raises(KeyboardInterrupt):
        bench.whole.main()
    assert "| 1.7b ours | 1,000 | 50.0% |" in (tmp_path / "table.md").read_text(encoding="utf-8")
    monkeypatch.setattr(bench.whole, "measured", lambda row: MACHINE if row.kind == "machine" else _found(2000.0))
    bench.whole.main()
    lines = [json.loads(each) for each in (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert len(lines) == 7 and lines[0]["machine"]["hardware"] == "a GPU"
    assert "1,000" not in table and table.count("| 2,000 |") == 6
    assert table.count("a matrix product in bfloat16 runs at 100 TFLOPS") == 1
    capsys.readouterr()


def test_the_table_says_what_was_wanted_and_whether_it_came(bench):
    def line(tokens_per_s, mfu=0.5, **row):
        made = bench.plan.Row(shape="1.7b", **row)
        return {"name": bench.plan.name_of(made), "row": asdict(made), "machine": MACHINE, **_found(tokens_per_s, mfu)}

    lines = [
        line(1000.0, 0.4, kind="ours"),
        line(1400.0, 0.44, kind="ours", checkpointing=False),
        line(1000.0, kind="trl"),
        line(1500.0, kind="trl", packing=True),
        {**line(0.0, kind="unsloth"), "reason": "not installed: unsloth"},
    ]
    assert bench.whole.verdicts(lines) == [
        "1.7b: 44.0% of the matrix product's rate: **missed** (wanted: at least 0.45)",
        "1.7b: 1.40 times TRL's defaults: passed (wanted: at least 1.3)",
        "1.7b: 0.93 times the best of the others: **missed** (wanted: at least 1)",
    ]
    assert "not compared" in bench.whole.verdicts(lines[:2])[1]
    assert "| 1.7b Unsloth, packing |  |  |  |  | not installed: unsloth |" in bench.whole.table(lines)


def _found(tokens_per_s, mfu=0.5):
    return {"tokens_per_s": tokens_per_s, "mfu": mfu, "peak_gb": 1.0, "held_gb": 2.0, "note": "so"}
