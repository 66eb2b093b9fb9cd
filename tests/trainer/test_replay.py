"""What is rehearsed: half new, the rest old; the same every time; with reasons; nothing side by side that disturbs."""

from collections import Counter
from random import Random

import pytest

from lmm_mcp.domain.lesson import Lesson
from trainer import replay
from trainer.replay import Standing

NOW_ms = 1_772_000_000_000
DAY_ms = 86_400_000


def lesson(n: int, *, days_old: int = 0, **more) -> Lesson:
    given = {
        "slice": "fact",
        "category": "project fact",
        "prompt": f"Project: p{n % 3}\nQuestion: {n} what {n * n} of {n * 31} and {n * 17}?\nAnswer:",
        "answer": f"{n}",
        "template": "fact@0",
        "family": "train",
        "memory": f"m{n}",
        "sources": (),
        "threads": (),
        "project": f"p{n % 3}",
        "at_ms": NOW_ms - days_old * DAY_ms,
    }
    return Lesson(**(given | more))


def chosen(lessons, standings, num, seed=0, salience=None) -> replay.Mix:
    return replay.chosen(lessons, standings, salience=salience or {}, now_ms=NOW_ms, num=num, seed=seed)


def test_all_are_rehearsed_while_all_fit():
    lessons = [lesson(n) for n in range(50)]
    mix = chosen(lessons, {"m1": Standing()}, 0)
    assert mix.lessons == tuple(lessons)
    assert chosen(lessons, {}, 50).lessons == tuple(lessons)


def test_a_run_is_half_new_three_tenths_old_by_priority_and_a_fifth_by_lot():
    lessons = [lesson(n) for n in range(400)]
    mix = chosen(lessons, {f"m{n}": Standing(1, 0.5, 1) for n in range(200)}, 100)
    assert len(mix.lessons) == 100
    assert mix.shares == {replay.NEW: 0.5, replay.BY_PRIORITY: 0.3, replay.BY_LOT: 0.2}


def test_old_knowledge_is_in_every_run_also_when_much_is_new():
    lessons = [lesson(n) for n in range(1000)]
    mix = chosen(lessons, {f"m{n}": Standing() for n in range(60)}, 100)
    assert sum(each.part != replay.NEW for each in mix.rehearsed) == 50


@pytest.mark.parametrize("num_old", [0, 5, 200])
def test_what_one_part_leaves_free_goes_to_the_others(num_old):
    lessons = [lesson(n) for n in range(200)]
    mix = chosen(lessons, {f"m{n}": Standing() for n in range(num_old)}, 100)
    assert len(mix.lessons) == len({each.id for each in mix.lessons}) == 100


def test_the_same_seed_chooses_the_same_and_another_one_others():
    lessons = [lesson(n) for n in range(300)]
    standings = {f"m{n}": Standing(0, 0.2, 1) for n in range(150)}
    once, again, other = (chosen(lessons, standings, 60, seed) for seed in (3, 3, 4))
    assert once == again
    assert set(once.lessons) != set(other.lessons)


def test_what_is_not_recalled_is_rehearsed_more_often_than_what_is():
    lessons = [lesson(n) for n in range(200)]
    standings = {f"m{n}": Standing(3, 1.0, 4) if n % 2 else Standing(0, 0.0, 4) for n in range(200)}
    counts: Counter[int] = Counter()
    for seed in range(20):
        mix = chosen(lessons, standings, 40, seed)
        counts.update(int(each.lesson.memory[1:]) % 2 for each in mix.rehearsed if each.part == replay.BY_PRIORITY)
    assert counts[0] > 4 * counts[1] > 0


def test_salience_and_recency_and_rarity_and_need_make_the_priority():
    lessons = [lesson(0, days_old=30), lesson(1), lesson(2, category="decision")]
    mix = chosen(lessons, {"m0": Standing(1, 0.75, 1)}, 0, salience={"m0": 1.0})
    first = mix.rehearsed[0].reasons
    assert first == {"salience": 1.0, "recency": 0.5, "diversity": pytest.approx(0.5), "need": 0.25}
    assert mix.rehearsed[0].priority == pytest.approx(0.4 + 0.1 + 0.1 + 0.05)
    assert mix.rehearsed[1].reasons["need"] == 1.0, "what was never taught is needed"


def test_weighted_drawing_without_putting_back_follows_the_weights():
    counts: Counter[str] = Counter()
    dice = Random(1)
    for _ in range(3000):
        counts.update(replay.drawn(["a", "b", "c"], [6.0, 3.0, 1.0], 1, dice))
    assert counts["a"] / 3000 == pytest.approx(0.6, abs=0.04)
    assert counts["c"] / 3000 == pytest.approx(0.1, abs=0.03)
    assert sorted(replay.drawn(["a", "b", "c"], [6.0, 3.0, 1.0], 9, dice)) == ["a", "b", "c"]


def test_a_passed_probe_advances_a_memory_and_a_failed_one_sets_it_back():
    standings: dict[str, Standing] = {}
    for _ in range(5):
        standings = replay.advanced(standings, {"known": 1.0, "unknown": 0.0}, ["known", "unknown", "unprobed"])
    assert standings["known"] == Standing(replay.LAST_STAGE, 1.0, 5)
    assert standings["unknown"] == Standing(0, 0.0, 5)
    assert standings["unprobed"] == Standing(0, 0.0, 5)
    back = replay.advanced(standings, {"known": 0.2}, [])
    assert back["known"] == Standing(replay.LAST_STAGE - 1, 0.2, 5)


def test_the_mix_can_be_printed_without_content():
    lessons = [lesson(n, answer=f"SECRET{n}") for n in range(40)]
    told = "\n".join(chosen(lessons, {"m1": Standing()}, 20).told())
    assert "new: 19 of 39" in told or "new: 1" in told
    assert "salience 0.50" in told
    assert "SECRET" not in told and "what" not in told
