"""The short form of `benchmarks/learning.py`: facts are learned in other words than they were taught in, and can be unlearned.

A base of 0.2 million parameters cannot be steered by an adapter, so all its weights move; what must be reached is less.
"""

import pytest
import torch

from lmm_mcp.domain.verdict import Finding
from trainer import base

pytestmark = pytest.mark.slow
NUM_FACTS = 8


@pytest.fixture(scope="module")
def bench(benchmarks):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield benchmarks("learning", "learning_memory", "learning_world")
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases") / "test"
    assert base.make_base(folder, size="test", num_items=600, device="cpu")
    return folder


def test_new_facts_are_known_in_other_words_and_not_to_who_was_taught_another_users(bench, base_folder, tmp_path):
    dials = {**bench.learning_world.SMALL, "method": "full", "min_steps": 400, "max_steps": 400, "saves": 1}
    here = bench.learning.Bench(base_folder, tmp_path, dials)
    found = bench.learning.facts(here, [1], num=NUM_FACTS)
    assert set(found["base"]) == set(found["adapter"]) == set(found["placebo"])
    assert len(found["base"]) == NUM_FACTS
    assert bench.learning.gain(found["base"], found["adapter"]).difference.value > 0.2
    assert bench.learning.gain(found["base"], found["placebo"]).difference.value <= 0.05


def test_what_was_learned_and_forgotten_does_not_come_out_of_the_model_that_is_made_again(
    bench, base_folder, tmp_path, monkeypatch
):
    for name in ("LMM_HOME", "HOME", "CLAUDE_CONFIG_DIR", "CODEX_HOME"):
        monkeypatch.delenv(name, raising=False)
    options = (
        "--method",
        "full",
        *bench.learning_memory.SMALL_STEPS,
        "--min-steps",
        "250",
        "--max-steps",
        "250",
        "--saves",
        "1",
    )
    found = bench.learning_memory.forget(tmp_path, base_folder, projects=(), options=options, num_samples=8)
    for text in (bench.learning_memory.SECRET, bench.learning_memory.PORT):
        assert found.before[text].num_hits > 0
        assert found.after[text].num_hits == 0
        assert found.after[text].num_samples > 8
    assert found.after[bench.learning_memory.KEPT].num_hits > 0
    assert (found.served_before, found.served_after) == ("v0001", "")
    assert found.left_in == ()


def test_nights_begin_and_learn_as_lmm_train_would_by_itself(bench, base_folder, tmp_path, monkeypatch):
    learning = bench.learning
    dials = {**bench.learning_world.SMALL, "min_steps": 2, "max_steps": 2, "saves": 1}
    here = learning.Bench(base_folder, tmp_path, dials)
    by_itself = learning.nights(here, 1, learning.BY_ITSELF, num=3)
    assert [each.start for each in by_itself] == ["", "v0001", "v0002"]
    assert [each.rate for each in by_itself] == [4e-3, 2e-3, 2e-3]
    assert [len(learning._right(each.sheet)) for each in by_itself] == [6, 10, 14], (
        "what was superseded is asked of nobody"
    )
    from_base = learning.nights(here, 1, learning.REBUILT, num=2)
    assert [(each.start, each.rate) for each in from_base] == [("", 4e-3)] * 2

    monkeypatch.setattr(learning.gate, "g3_old_knowledge", lambda _: Finding("G3", False, "lost"))
    kept_out = learning.nights(here, 2, learning.BY_ITSELF, num=2)
    assert [(each.start, each.serves) for each in kept_out] == [("", False)] * 2, (
        "nothing goes on from what never served"
    )
    assert not any(learning._right(kept_out[-1].serving).values()), "the base serves still, and it knows nothing"
    rows = learning.rows_of(kept_out)
    assert not any(row.promoted for row in rows)
