"""The order of lessons: wherever a step is cut, it holds nothing that disturbs the rest of it."""

from dataclasses import replace
from itertools import combinations, pairwise
from random import Random

import pytest

from lmm_mcp.domain.lesson import Lesson
from lmm_mcp.domain.recall import CHARS_PER_TOKEN
from trainer import near, ordering
from trainer.tokens import Segment, steps_of

SAME = "Question: which of the nine lamps on the old pier burns longest in the fog of {0}?"


def lesson(n: int, **more) -> Lesson:
    given = {
        "slice": "fact",
        "category": "project fact",
        "prompt": f"Project: p{n % 3}\nQuestion: {n} what {n * n} of {n * 31} and {n * 17}?\nAnswer:",
        "answer": f"{n}",
        "template": "fact@0",
        "family": "train/noun/forward/0",
        "memory": f"m{n}",
        "sources": (),
        "threads": (),
    }
    return Lesson(**(given | more))


def steps(ordered: list[Lesson], tokens_per_step: int, *, begins_at: int = 0) -> list[list[Lesson]]:
    """As the loop cuts them, by a tokenizer that makes a token of four characters; `begins_at`: of the first step."""
    segments = [Segment(tuple(range(-(-ordering.num_chars(each) // CHARS_PER_TOKEN))), 1, 1.0) for each in ordered]
    cut = steps_of(segments[begins_at:], epochs=1, tokens_per_step=tokens_per_step, min_steps=1, max_steps=0, seed=None)
    return [[ordered[begins_at + index] for index in step] for step in cut]


def disturb(one: Lesson, other: Lesson) -> bool:
    alike = near.overlap(near.shingles(one.prompt), near.shingles(other.prompt)) >= ordering.APART
    return one.memory == other.memory or alike


def test_nothing_is_lost_and_the_same_seed_gives_the_same_order():
    lessons = [lesson(n) for n in range(48)] + [lesson(n) for n in range(7)]
    ordered = ordering.in_order(lessons, size=8, seed=2)
    assert sorted(each.id for each in ordered) == sorted(each.id for each in lessons)
    assert ordered == ordering.in_order(lessons, size=8, seed=2) != ordering.in_order(lessons, size=8, seed=3)
    assert ordering.in_order([], size=8, seed=2) == []


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("begins_at", [0, 1, 5])
def test_wherever_a_step_is_cut_it_holds_no_two_that_disturb_each_other(seed, begins_at):
    dice = Random(seed)
    short = [lesson(n % 40, prompt=f"{n % 40} q{n} r{n * 7}?", answer=str(n)) for n in range(240)]
    long = [lesson(100 + n, prompt=" ".join(f"w{dice.randrange(10**6)}" for _ in range(90))) for n in range(20)]
    alike = [lesson(200 + n, prompt=SAME.format(n)) for n in range(12)]
    ordered = ordering.for_steps([*short, *long, *alike], tokens_per_step=200, seed=seed)
    cut = steps(ordered, 200, begins_at=begins_at)
    assert len(set(map(len, cut))) > 2, "steps hold now fewer, now more"
    assert not [pair for step in cut for pair in combinations(step, 2) if disturb(*pair)]
    assert ordering.mixed(ordered, size=200 * CHARS_PER_TOKEN).num_disturbed == 0


def test_batches_of_so_many_lessons_would_be_cut_through():
    """What the order before this one did: runs of 32 lessons, which steps by tokens do not follow."""
    lessons = [lesson(n % 32, prompt=f"{n % 32} q{n} r{n * 7}?", answer=str(n)) for n in range(128)]
    batches = [lessons[start : start + 32] for start in range(0, 128, 32)]
    for number, batch in enumerate(batches):
        Random(number).shuffle(batch)
    ordered = [each for batch in batches for each in batch]
    assert any(disturb(*pair) for step in steps(ordered, 90) for pair in combinations(step, 2))
    assert ordering.mixed(ordered, size=90 * CHARS_PER_TOKEN).num_disturbed > 0


def test_what_is_taught_too_often_to_be_kept_apart_is_spread_evenly_and_told():
    lessons = [lesson(0, prompt=f"{n} q{n}?", answer=str(n)) for n in range(20)] + [lesson(n) for n in range(1, 41)]
    ordered = ordering.in_order(lessons, size=8, seed=1)
    places = [n for n, each in enumerate(ordered) if each.memory == "m0"]
    assert min(b - a for a, b in pairwise(places)) >= 2
    found = ordering.mixed(ordered, size=8, length=lambda _: 1)
    assert found.num_disturbed == 19
    assert found.told(2048).startswith("order: 19 of 60 come within 2,048 tokens")


def test_what_tells_of_a_change_stands_right_beside_what_holds_now():
    changed = lesson(3, slice="procedure", prompt="what was 3 before?", family="train/noun/changed/0")
    lessons = [lesson(n) for n in range(40)] + [changed, lesson(3, prompt="3, in other words?")]
    ordered = ordering.in_order(lessons, size=8, seed=5, beside={"m7": "m30"})
    at = ordered.index(changed)
    assert ordered[at + 1].memory == "m3"
    old = next(n for n, each in enumerate(ordered) if each.memory == "m7")
    assert ordered[old + 1].memory == "m30"
    found = ordering.mixed(ordered, size=8, beside={"m7": "m30"}, length=lambda _: 1)
    assert (found.num_changes, found.num_beside, found.num_disturbed) == (2, 2, 0)
    apart = [each for each in ordered if each is not changed] + [changed]
    assert ordering.mixed(apart, size=8, beside={"m7": "m30"}, length=lambda _: 1).num_beside == 1


def test_lessons_without_a_memory_do_not_disturb_each_other_by_that():
    lessons = [replace(lesson(n), memory="") for n in range(30)]
    assert ordering.mixed(ordering.in_order(lessons, size=8, seed=0), size=8, length=lambda _: 1).num_disturbed == 0


def test_thousands_of_lessons_are_ordered_in_seconds():
    lessons = [lesson(n) for n in range(4000)]
    ordered = ordering.in_order(lessons, size=16, seed=0)
    assert len(ordered) == 4000
    assert not list(near.pairs([near.shingles(each.prompt) for each in ordered[:16]], nearly=ordering.APART))
