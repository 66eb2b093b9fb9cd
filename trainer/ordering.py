"""Lessons in, the same in the order in which they are learned: what disturbs each other is kept further apart than a step. Pure.

The loop cuts steps by tokens, wherever that falls. So there are no batches here that it could cut through: the order itself has
the property, for every stretch that may become a step. Of the 4,410 lessons of a
real run 943 had come within a step of one that disturbs them, in batches of 32; in this order none does.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

from lmm_mcp.domain.lesson import Lesson
from lmm_mcp.domain.recall import CHARS_PER_TOKEN
from trainer import near

APART = 0.5
"""Lessons that say so much alike disturb each other within one step, unless they tell old from new."""
MAX_WAITING = 64
"""Lessons that wait for a place; beyond that the one that waited longest takes the next."""
_EVENLY = 0.8
"""Of an even distance, so that there is some choice."""
CHANGED = "/changed/"
"""In the family of a lesson that tells what held before and what holds now."""
Length = Callable[[Lesson], int]
Group = tuple[Lesson, ...]
Alike = Mapping[str, Collection[str]]
"""By prompt, the prompts that ask nearly the same, itself among them."""


@dataclass(frozen=True, slots=True)
class Mixed:
    """How an order came out."""

    num: int
    num_disturbed: int
    """Lessons so near to one before them that disturbs them that a step may hold both."""
    num_changes: int
    """Lessons that tell of a change."""
    num_beside: int
    """Those of them that stand right beside what holds now."""

    def told(self, tokens_per_step: int) -> str:
        """In one line."""
        return (
            f"order: {self.num_disturbed} of {self.num} come within {tokens_per_step:,} tokens of one that disturbs them; "
            f"{self.num_beside} of {self.num_changes} that tell of a change stand beside what holds now"
        )


def for_steps(
    lessons: Sequence[Lesson], *, tokens_per_step: int, seed: int, beside: Mapping[str, str] | None = None
) -> list[Lesson]:
    """Order lessons for steps of that many tokens.

    A token counts as four characters. A tokenizer that makes more tokens of them only makes steps that hold less than is kept
    apart.
    """
    size = tokens_per_step * CHARS_PER_TOKEN
    return in_order(lessons, size=size, seed=seed, beside=beside, length=num_chars)


def num_chars(lesson: Lesson) -> int:
    """What a lesson takes of a step."""
    return len(lesson.prompt) + len(lesson.answer)


def in_order(
    lessons: Sequence[Lesson],
    *,
    size: int,
    seed: int,
    beside: Mapping[str, str] | None = None,
    length: Length = lambda _: 1,
) -> list[Lesson]:
    """Put lessons into an order in which no stretch of up to `size` holds two that disturb each other, as far as that can be.

    Two disturb each other that teach the same memory or ask nearly the same. What tells of a change stands right beside what
    holds now: a lesson of a family `changed` beside one of its own fact, and one of a memory in `beside` (what was superseded)
    beside one of the memory named there. `length`: of a lesson, in the unit of `size`.
    """
    dice = Random(seed)  # noqa: S311 - the same order every time
    shuffled = list(lessons)
    dice.shuffle(shuffled)
    by_memory: dict[str, list[Group]] = defaultdict(list)
    for group in _together(shuffled, beside or {}):
        by_memory[group[0].memory or group[0].id].append(group)
    # Lessons of one memory at even distances, from a start of its own: as far apart as there is room, over epochs as well.
    placed: list[tuple[float, Group]] = []
    for those in by_memory.values():
        start = dice.random()
        placed += [((n + start) / len(those), group) for n, group in enumerate(those)]
    placed.sort(key=lambda each: each[0])
    alike = _alike(lessons)
    behind = _Behind(size, length, reach=_within_reason(lessons, alike, size, length))
    return _apart([group for _, group in placed], alike, behind)


def mixed(
    ordered: Sequence[Lesson], *, size: int, beside: Mapping[str, str] | None = None, length: Length = num_chars
) -> Mixed:
    """Look through an order: how much of what `in_order` promises it holds."""
    behind, alike = _Behind(size, length), _alike(ordered)
    changes = near_by = disturbed = 0
    for group in _as_they_stand(ordered, beside or {}):
        disturbed += behind.disturbs(group, alike)
        changes += sum(bool(_partner_of(each, beside or {})) for each in group)
        near_by += len(group) - 1
        behind.add(group)
    return Mixed(len(ordered), disturbed, changes, near_by)


@dataclass(slots=True)
class _Behind:
    """Where each memory and each prompt stood last in the order so far."""

    size: int
    length: Length
    reach: Mapping[str, float] = field(default_factory=dict)
    """By memory and by prompt how far it disturbs, where that is less than `size`."""
    end: int = 0
    memories: dict[str, int] = field(default_factory=dict)
    """At which place the last lesson of it begins."""
    prompts: dict[str, int] = field(default_factory=dict)

    def disturbs(self, group: Group, alike: Alike) -> bool:
        """Whether a step may hold the group, were it next, together with something that disturbs it."""
        end = self.end
        for lesson in group:
            end += self.length(lesson)
            if lesson.memory and self.memories.get(lesson.memory, -self.size) >= end - self._reach(lesson.memory):
                return True
            least = end - self._reach(lesson.prompt)
            if any(self.prompts.get(other, -self.size) >= least for other in alike.get(lesson.prompt, ())):
                return True
        return False

    def _reach(self, name: str) -> float:
        return self.reach.get(name, self.size)

    def add(self, group: Group) -> None:
        """Put a group next."""
        for lesson in group:
            self.memories[lesson.memory] = self.prompts[lesson.prompt] = self.end
            self.end += self.length(lesson)


def _apart(groups: Sequence[Group], alike: Alike, behind: _Behind) -> list[Lesson]:
    """The same order, in which what would disturb something just before it waits until that is far enough."""
    ordered = list[Group]()
    coming, waiting = deque(groups), deque[Group]()
    while coming or waiting:
        group = next((each for each in waiting if not behind.disturbs(each, alike)), None)
        if group is not None:
            waiting.remove(group)
        elif not coming:
            break
        else:
            group = coming.popleft()
            if behind.disturbs(group, alike):
                waiting.append(group)
                if len(waiting) <= MAX_WAITING:
                    continue
                group = waiting.popleft()
        behind.add(group)
        ordered.append(group)
    for group in waiting:
        _put_in(ordered, group, alike, behind.length)
    return [lesson for group in ordered for lesson in group]


def _within_reason(lessons: Sequence[Lesson], alike: Alike, size: int, length: Length) -> dict[str, float]:
    """How far apart what is taught or asked too often for `size` can be: little less than evenly over the whole."""
    whole = _EVENLY * sum(map(length, lessons))
    by_memory, by_prompt = Counter(each.memory for each in lessons), Counter(each.prompt for each in lessons)
    asked = {prompt: sum(by_prompt[other] for other in alike[prompt]) for prompt in by_prompt}
    return {name: whole / num for name, num in [*asked.items(), *by_memory.items()] if whole / num < size}


def _put_in(ordered: list[Group], group: Group, alike: Alike, length: Length) -> None:
    """Put what waited in vain where it is furthest from what it disturbs. That moves others only further apart."""
    memories = {lesson.memory for lesson in group if lesson.memory}
    asked = set[str]().union(*(alike.get(lesson.prompt, ()) for lesson in group))
    ends, disturbing = [0], [0]
    for place, other in enumerate(ordered, 1):
        ends.append(ends[-1] + sum(map(length, other)))
        if any(lesson.memory in memories or lesson.prompt in asked for lesson in other):
            disturbing.append(place)
    first, last = max(pairwise([*disturbing, len(ordered)]), key=lambda gap: ends[gap[1]] - ends[gap[0]])
    middle = (ends[first] + ends[last]) / 2
    ordered.insert(next(place for place in range(first, last + 1) if ends[place] >= middle), group)


def _alike(lessons: Sequence[Lesson]) -> dict[str, set[str]]:
    prompts = list(dict.fromkeys(lesson.prompt for lesson in lessons))
    found = {prompt: {prompt} for prompt in prompts}
    for one, other in near.pairs([near.shingles(prompt) for prompt in prompts], nearly=APART):
        found[prompts[one]].add(prompts[other])
        found[prompts[other]].add(prompts[one])
    return found


def _together(lessons: Sequence[Lesson], beside: Mapping[str, str]) -> Iterator[Group]:
    """Each lesson by itself, or what tells of a change with one about what holds now."""
    free: dict[str, list[Lesson]] = defaultdict(list)
    telling: list[tuple[Lesson, str]] = []
    for lesson in lessons:
        if partner := _partner_of(lesson, beside):
            telling.append((lesson, partner))
        else:
            free[lesson.memory].append(lesson)
    for lesson, partner in telling:
        yield (lesson, free[partner].pop()) if free.get(partner) else (lesson,)
    for those in free.values():
        for lesson in those:
            yield (lesson,)


def _as_they_stand(ordered: Sequence[Lesson], beside: Mapping[str, str]) -> Iterator[Group]:
    """The order, what tells of a change together with the next where that is about what holds now."""
    at = 0
    while at < len(ordered):
        partner = _partner_of(ordered[at], beside)
        following = ordered[at + 1] if at + 1 < len(ordered) else None
        is_pair = bool(partner) and following is not None and following.memory == partner
        is_pair = is_pair and following is not None and not _partner_of(following, beside)
        group = tuple(ordered[at : at + 1 + is_pair])
        yield group
        at += len(group)


def _partner_of(lesson: Lesson, beside: Mapping[str, str]) -> str:
    """The memory beside which a lesson is to be learned; '' for one that tells of no change."""
    return beside.get(lesson.memory) or (lesson.memory if CHANGED in lesson.family else "")
