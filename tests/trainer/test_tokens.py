"""Lessons and documents as rows: what shares a row must not see its neighbours, and nothing may be cut unseen."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lmm_mcp.domain.lesson import Lesson
from lmm_mcp.model.network import load
from trainer.base import small_base
from trainer.learning import Learner, weighed_loss
from trainer.recipe import Recipe
from trainer.tokens import (
    Segment,
    batch_of,
    cut,
    document_segments,
    fitted,
    lesson_segments,
    normalised,
    packed,
    steps_of,
    total_weight,
)  # fmt: skip

RECIPE = Recipe(seq_len=96, min_seq_len=32, tokens_per_step=256, precision="float32", device="cpu")
LESSON = Lesson("fact", "", "Project: amber\nQuestion: which port?\nAnswer:", "5433", "fact@0", "mine", "", (), ())


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_base(tmp_path_factory.mktemp("bases") / "tiny", ["which port does amber use? 5433 since March"])


def rows_of(segments: list[Segment], *, row_len: int) -> list[list[Segment]]:
    return packed(segments, row_len)


def loss_of(learner: Learner, rows: list[list[Segment]]) -> float:
    taught = any(each.teacher for row in rows for each in row)
    with torch.no_grad():
        batches = [batch_of([row], pad=1, skip_teacher=0, taught=taught) for row in rows]
        total = sum(float(weighed_loss(learner, batch, top_k=5)[0]) for batch in batches)
    return total / total_weight(each for row in rows for each in row)


@pytest.mark.parametrize("taught", [False, True])
def test_lessons_that_share_a_row_have_the_losses_they_have_alone(base: Path, taught: bool) -> None:
    network = load(base)
    clean = "Project: amber\nAnswer:" if taught else ""
    kind = "brief" if taught else "fact"
    lessons = [replace(LESSON, slice=kind, answer=f"{n} and {n * 7}", clean_prompt=clean) for n in range(9)]
    segments = list(lesson_segments(lessons, network.tokenizer, RECIPE).segments)
    learner = Learner(network.model)
    together = rows_of(segments, row_len=96)
    assert len(together) < len(segments)
    alone = loss_of(learner, [[each] for each in segments])
    assert loss_of(learner, together) == pytest.approx(alone, abs=1e-5)
    batch = batch_of(together, pad=1, skip_teacher=0, taught=taught)
    with torch.no_grad():
        at_once = float(weighed_loss(learner, batch, top_k=5)[0]) / total_weight(segments)
    assert at_once == pytest.approx(alone, abs=1e-5), "several rows at once, padded to one length"


def test_a_network_that_saw_its_neighbours_would_have_other_losses(base: Path) -> None:
    network = load(base)
    segments = list(
        lesson_segments([replace(LESSON, answer=str(n)) for n in range(4)], network.tokenizer, RECIPE).segments
    )
    batch = batch_of([segments], pad=1, skip_teacher=0)
    through = replace(batch, positions_BT=torch.arange(batch.ids_BT.shape[1])[None])
    learner = Learner(network.model)
    with torch.no_grad():
        assert (
            abs(float(weighed_loss(learner, batch, top_k=1)[0]) - float(weighed_loss(learner, through, top_k=1)[0]))
            > 1e-3
        )


def test_asked_at_chosen_places_a_network_says_what_it_says_everywhere(base: Path) -> None:
    network = load(base)
    segments = lesson_segments([LESSON, replace(LESSON, answer="9")], network.tokenizer, RECIPE).segments
    batch = batch_of([segments], pad=1, skip_teacher=0)
    learner = Learner(network.model)
    assert learner.plain
    quick, _ = learner(batch)
    learner.plain = False
    slow, _ = learner(batch)
    assert torch.allclose(quick, slow, atol=1e-5)


def test_a_long_vocabulary_goes_through_in_stretches_with_the_same_gradient(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grads = []
    for stretch in (64_000_000, 2_000):
        monkeypatch.setattr("trainer.learning.STRETCH_logits", stretch)
        network = load(base)
        segments = lesson_segments([LESSON] * 5, network.tokenizer, RECIPE).segments
        loss, _ = weighed_loss(Learner(network.model), batch_of([segments], pad=1, skip_teacher=0), top_k=1)
        loss.backward()
        grads.append(network.model.get_input_embeddings().weight.grad)
    assert torch.allclose(*grads, atol=1e-5)


def test_only_the_answer_is_learned_and_the_answer_ends(base: Path) -> None:
    tokenizer = load(base).tokenizer
    (segment,) = lesson_segments([LESSON], tokenizer, RECIPE).segments
    batch = batch_of([[segment]], pad=1, skip_teacher=3)
    assert tokenizer.decode(batch.targets_N[:-1]).strip() == "5433" and batch.targets_N[-1] == tokenizer.eos_token_id
    assert len(batch.targets_N) == segment.num_answer


def test_a_teacher_is_asked_about_the_same_tokens_but_not_the_first_ones(base: Path) -> None:
    tokenizer = load(base).tokenizer
    lessons = [
        replace(LESSON, slice="brief", answer="use port 5433 [1].", clean_prompt=f"clean {n}:") for n in range(3)
    ]
    segments = lesson_segments([*lessons, LESSON], tokenizer, RECIPE).segments
    batch = batch_of(packed(segments, 96), pad=1, skip_teacher=3, taught=True)
    assert batch.teacher is not None
    asked = batch.targets_N[batch.pulls_N > 0]
    assert torch.equal(asked, batch.teacher.targets_N)
    assert len(asked) == sum(each.num_answer - 3 for each in segments if each.teacher)


def test_a_lesson_too_long_for_a_row_is_named_and_a_document_goes_on_in_the_next(base: Path) -> None:
    tokenizer = load(base).tokenizer
    long = replace(LESSON, prompt="why " * 200)
    found = lesson_segments([long, LESSON], tokenizer, RECIPE)
    assert found.too_long == (long.id,) and len(found.segments) == 1
    text = " ".join(f"line {n}" for n in range(120))
    pieces = document_segments([text], tokenizer, RECIPE).segments
    whole = document_segments([text], tokenizer, RECIPE.but(seq_len=4096, tokens_per_step=4096)).segments[0]
    learned = [token for each in pieces for token in each.ids[each.first :]]
    assert len(pieces) > 1 and learned == list(whole.ids[1:])


@given(st.integers(2, 400), st.integers(2, 64))
def test_pieces_of_a_document_ask_for_every_token_once(length: int, row_len: int) -> None:
    pieces = cut(Segment(tuple(range(length)), 1, 1.0), row_len)
    assert [token for each in pieces for token in each.ids[1:]] == list(range(1, length))
    assert all(2 <= len(each.ids) <= row_len for each in pieces)


@given(st.lists(st.integers(1, 50), max_size=60))
def test_packing_loses_nothing_and_overfills_no_row(lengths: list[int]) -> None:
    segments = [Segment(tuple(range(length)), 0, 1.0, name=str(number)) for number, length in enumerate(lengths)]
    rows = packed(segments, 50)
    assert sorted(each.name for row in rows for each in row) == sorted(each.name for each in segments)
    assert all(sum(len(each.ids) for each in row) <= 50 for row in rows)


@settings(max_examples=50)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=40), st.floats(0.3, 3.0), st.integers(0, 5))
def test_every_lesson_is_seen_as_often_as_the_recipe_says(lengths: list[int], epochs: float, seed: int) -> None:
    segments = [Segment(tuple(range(length)), 0, 1.0) for length in lengths]
    plan = {"epochs": epochs, "tokens_per_step": 50, "min_steps": 1, "max_steps": 0}
    steps = steps_of(segments, **plan, seed=seed)  # type: ignore[arg-type]
    seen = [index for step in steps for index in step]
    assert len(seen) >= int(epochs) * len(segments) and {seen.count(n) for n in range(len(segments))} <= {
        int(epochs),
        int(epochs) + 1,
    }
    assert all(len(step) == 1 or sum(lengths[index] for index in step) <= 50 for step in steps)
    assert steps == steps_of(segments, **plan, seed=seed)  # type: ignore[arg-type]


def test_few_lessons_are_seen_again_until_there_are_steps_enough() -> None:
    segments = [Segment((1, 2), 1, 1.0)]
    assert len(steps_of(segments, epochs=1, tokens_per_step=50, min_steps=7, max_steps=0, seed=0)) == 7
    assert steps_of([], epochs=1, tokens_per_step=50, min_steps=7, max_steps=0, seed=0) == []


def test_weights_have_a_mean_of_one_within_each_slice() -> None:
    lessons = [replace(LESSON, weight=w) for w in (0.5, 1.5, 1.0)] + [
        replace(LESSON, slice="clue", weight=w) for w in (4.0, 2.0)
    ]
    weights = normalised(lessons)
    assert sum(weights[:3]) / 3 == pytest.approx(1) and sum(weights[3:]) / 2 == pytest.approx(1)


def test_lessons_that_no_longer_fit_are_left_out_and_documents_are_cut_anew() -> None:
    kept, lost = fitted(
        [Segment(tuple(range(40)), 1, 1.0, slice="fact", name="a"), Segment(tuple(range(40)), 1, 1.0)], 32
    )
    assert [each.name for each in lost] == ["a"] and [len(each.ids) for each in kept] == [32, 9]
