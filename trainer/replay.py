"""What is rehearsed in a run: new lessons, old ones by what speaks for them, and old ones by lot. Pure.

A run goes on from the adapter that serves, or begins at the base; either way what is not rehearsed is forgotten. While all
lessons fit, all are in; beyond that, half of a run is new, three tenths are the old lessons with most need, a fifth is drawn
from all old ones alike.
How well a memory is held is its stage, of Leitner's boxes: a passed probe advances it, a failed one sets it back.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TypeVar

from lmm_mcp.domain.lesson import Lesson

NEW, BY_PRIORITY, BY_LOT = "new", "old, by priority", "old, by lot"
SHARES: Mapping[str, float] = {NEW: 0.5, BY_PRIORITY: 0.3, BY_LOT: 0.2}
WEIGHTS: Mapping[str, float] = {"salience": 0.4, "recency": 0.2, "diversity": 0.2, "need": 0.2}
HALF_LIFE_ms = 30 * 86_400_000
"""After so long a memory's recency is half."""
LAST_STAGE = 3
RATE_BY_STAGE = (1.0, 0.5, 0.25, 0.125)
"""How likely a memory is drawn at each stage, of what it would be at the first."""
_MIDDLING = 0.5
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Standing:
    """How well one memory was held when it was last probed."""

    stage: int = 0
    """0 to `LAST_STAGE`."""
    recalled: float = 0.0
    """Probability with which its probes were answered from memory alone."""
    num_runs: int = 0
    """Runs that have taught it."""


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """A lesson that is in, with why."""

    lesson: Lesson
    part: str
    """`NEW`, `BY_PRIORITY` or `BY_LOT`."""
    priority: float
    reasons: Mapping[str, float]
    """What the priority is made of: each part of `WEIGHTS`, 0 to 1 before it is weighed."""


@dataclass(frozen=True, slots=True)
class Mix:
    """What a run learns from."""

    rehearsed: tuple[Rehearsed, ...]
    num_left: Mapping[str, int]
    """How many of each part were not taken."""

    @property
    def lessons(self) -> tuple[Lesson, ...]:
        """The lessons that are in."""
        return tuple(each.lesson for each in self.rehearsed)

    @property
    def shares(self) -> Mapping[str, float]:
        """The realised share of each part, 0 to 1."""
        counts = Counter(each.part for each in self.rehearsed)
        return {part: counts[part] / (counts.total() or 1) for part in SHARES}

    def told(self, num: int = 5) -> list[str]:
        """The mix in a few lines, with the lessons that most speaks for and why. Names no content."""
        counts = Counter(each.part for each in self.rehearsed)
        lines = [f"{part}: {counts[part]} of {counts[part] + self.num_left.get(part, 0)}" for part in SHARES]
        slices = Counter(each.lesson.slice for each in self.rehearsed)
        lines.append(", ".join(f"{name} {num_}" for name, num_ in sorted(slices.items())))
        for each in sorted(self.rehearsed, key=lambda each: (-each.priority, each.lesson.id))[:num]:
            why = ", ".join(f"{name} {value:.2f}" for name, value in each.reasons.items())
            lines.append(f"{each.lesson.slice} {each.lesson.id}: {each.priority:.2f} ({why})")
        return lines


def chosen(
    lessons: Sequence[Lesson],
    standings: Mapping[str, Standing],
    *,
    salience: Mapping[str, float],
    now_ms: int,
    num: int,
    seed: int,
) -> Mix:
    """Choose `num` lessons, 0 = all. `standings` and `salience` are by memory; a memory without a standing is new.

    The same for the same arguments. What one part leaves free goes to the others.
    """
    weighed = _weighed(lessons, standings, salience, now_ms)
    new = [each for each in weighed if each.part == NEW]
    old = [each for each in weighed if each.part != NEW]
    if not num or num >= len(weighed):
        return Mix(tuple(weighed), {})
    dice = Random(seed)  # noqa: S311 - the same choice every time
    room = {NEW: min(len(new), round(num * SHARES[NEW]))}
    room[BY_PRIORITY] = min(len(old), round((num - room[NEW]) * SHARES[BY_PRIORITY] / (1 - SHARES[NEW])))
    taken = drawn(new, [max(1e-3, each.priority) for each in new], room[NEW], dice)
    by_priority = drawn(old, [_drawing_weight(each, standings) for each in old], room[BY_PRIORITY], dice)
    taken += [replace(each, part=BY_PRIORITY) for each in by_priority]
    prior = {each.lesson.id for each in by_priority}
    left = [each for each in old if each.lesson.id not in prior]
    by_lot = drawn(left, [1.0] * len(left), num - len(taken), dice)
    taken += [replace(each, part=BY_LOT) for each in by_lot]
    there = {each.lesson.id for each in taken}
    more = [each for each in new if each.lesson.id not in there]
    taken += drawn(more, [max(1e-3, each.priority) for each in more], num - len(taken), dice)
    in_order = {each.lesson.id: each for each in taken}
    return Mix(
        tuple(in_order[each.lesson.id] for each in weighed if each.lesson.id in in_order),
        {
            NEW: len(new) - sum(each.part == NEW for each in taken),
            BY_PRIORITY: 0,
            BY_LOT: len(old) - sum(each.part != NEW for each in taken),
        },
    )


def drawn(items: Sequence[_T], weights: Sequence[float], num: int, dice: Random) -> list[_T]:
    """Draw without putting back, each as likely as its weight (Efraimidis and Spirakis, 2006): largest u^(1/w) first."""
    keys = [(math.log(dice.random() or 1e-300) / max(weight, 1e-9), n) for n, weight in enumerate(weights)]
    return [items[n] for _, n in sorted(keys, reverse=True)[: max(0, num)]]


def advanced(
    standings: Mapping[str, Standing], recalled: Mapping[str, float], taught: Iterable[str]
) -> dict[str, Standing]:
    """The standings after a run. `recalled`: by memory how often its probes were answered from memory alone, 0 to 1."""
    after = {memory: replace(each) for memory, each in standings.items()}
    for memory in taught:
        before = after.get(memory, Standing())
        after[memory] = replace(before, num_runs=before.num_runs + 1)
    for memory, probability in recalled.items():
        before = after.get(memory, Standing())
        step = 1 if probability >= _MIDDLING else -1
        stage = min(LAST_STAGE, max(0, before.stage + step))
        after[memory] = replace(before, stage=stage, recalled=probability)
    return after


def _weighed(
    lessons: Sequence[Lesson], standings: Mapping[str, Standing], salience: Mapping[str, float], now_ms: int
) -> list[Rehearsed]:
    groups = Counter((each.slice, each.category, each.project) for each in lessons)
    largest = max(groups.values(), default=1)
    found = []
    for each in lessons:
        standing = standings.get(each.memory)
        reasons = {
            "salience": salience.get(each.memory, _MIDDLING),
            "recency": 0.5 ** (max(0, now_ms - each.at_ms) / HALF_LIFE_ms) if each.at_ms else _MIDDLING,
            "diversity": 1 - groups[each.slice, each.category, each.project] / (largest + 1),
            "need": 1 - standing.recalled if standing else 1.0,
        }
        priority = sum(WEIGHTS[name] * value for name, value in reasons.items())
        found.append(Rehearsed(each, BY_LOT if standing else NEW, priority, reasons))
    return found


def _drawing_weight(each: Rehearsed, standings: Mapping[str, Standing]) -> float:
    return each.priority * RATE_BY_STAGE[standings[each.lesson.memory].stage]
