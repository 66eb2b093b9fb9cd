"""Lessons and documents as token ids, their order, and rows of several of them.

A row is several segments one behind another. Each starts at position 0, and by that alone the attention of transformers keeps
them apart: a mask of ones, or a cache, would let them see each other (a test holds packed and unpacked losses equal).
What does not fit is left out and counted; an answer is never cut.
"""

import hashlib
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lmm_mcp.domain.lesson import Lesson
from lmm_mcp.model.rendering import answer_ids, document_ids, prompt_ids
from trainer.recipe import Recipe

# B rows, T tokens of a row, N targets (tokens on which a loss is taken)
CLIP_weight = (0.25, 4.0)
"""How far the weight of one lesson may lie from the mean of its slice."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One lesson, or one piece of a document."""

    ids: tuple[int, ...]
    first: int
    """The first token that is to be learned; those before it are its prompt."""
    weight: float
    """Of each of these tokens in the loss."""
    pull: float = 1.0
    """Of the loss on the answer itself (lambda)."""
    prompt_weight: float = 0.0
    """Of each token before `first`."""
    teacher: tuple[int, ...] = ()
    """The clean prompt and the same answer; () where nothing is distilled."""
    teacher_pull: float = 0.0
    """beta."""
    slice: str = ""
    name: str = ""
    """Id of the lesson, or hash of the document."""

    @property
    def num_answer(self) -> int:
        """How many tokens are to be learned."""
        return len(self.ids) - self.first


@dataclass(frozen=True, slots=True)
class Tokenized:
    """What can be trained on, and what did not fit."""

    segments: tuple[Segment, ...]
    too_long: tuple[str, ...] = ()
    """Names of lessons longer than a row."""

    @property
    def num_tokens(self) -> int:
        """Of one look at all of it."""
        return sum(len(each.ids) for each in self.segments)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows for one pass through the network, and what is asked of it."""

    ids_BT: Tensor
    positions_BT: Tensor
    rows_N: Tensor
    """Row of the place from which a target is foretold: one before the target itself."""
    columns_N: Tensor
    targets_N: Tensor
    weights_N: Tensor
    """Of the loss on the target; see `total_weight` for what the sum is divided by."""
    pulls_N: Tensor
    """Of the distance to the teacher; 0 where it is not asked."""
    teacher: "Batch | None" = None
    """The same targets, in the same order, behind clean prompts; targets without a teacher are missing."""

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        return Batch(
            self.ids_BT.to(device),
            self.positions_BT.to(device),
            self.rows_N.to(device),
            self.columns_N.to(device),
            self.targets_N.to(device),
            self.weights_N.to(device),
            self.pulls_N.to(device),
            None if self.teacher is None else self.teacher.to(device),
        )


def lesson_segments(lessons: Sequence[Lesson], tokenizer: Any, recipe: Recipe) -> Tokenized:
    """Each lesson as one segment, its weight normalised to a mean of 1 within its slice."""
    weights = normalised(lessons)
    segments, too_long = [], []
    for lesson, weight in zip(lessons, weights, strict=True):
        prompt, answer = prompt_ids(tokenizer, lesson.prompt), answer_ids(tokenizer, lesson.answer)
        pull = recipe.pull(lesson.slice)
        clean = prompt_ids(tokenizer, lesson.clean_prompt) if lesson.clean_prompt and pull.teacher else []
        if max(len(prompt), len(clean)) + len(answer) > recipe.seq_len:
            too_long.append(lesson.id)
            continue
        segments.append(
            Segment(
                ids=(*prompt, *answer),
                first=len(prompt),
                weight=weight,
                # With nobody to distil from, the answer itself is all there is to learn.
                pull=pull.answer if clean else pull.answer or 1.0,
                prompt_weight=recipe.prompt_weight * weight,
                teacher=(*clean, *answer) if clean else (),
                teacher_pull=pull.teacher if clean else 0.0,
                slice=lesson.slice,
                name=lesson.id,
            )
        )
    return Tokenized(tuple(segments), tuple(too_long))


def document_segments(texts: Sequence[str], tokenizer: Any, recipe: Recipe) -> Tokenized:
    """Documents as segments; one that is longer than a row goes on in the next, and no token is lost."""
    segments = []
    for text in texts:
        ids = document_ids(tokenizer, text)
        name = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        segments += cut(Segment(tuple(ids), 1, 1.0, name=name), recipe.seq_len)
    return Tokenized(tuple(segments))


def cut(document: Segment, seq_len: int) -> list[Segment]:
    """Pieces of a document, each with the last token of the one before as its first, which it is not asked for."""
    if len(document.ids) <= seq_len:
        return [document]
    starts = range(0, len(document.ids) - 1, seq_len - 1)
    return [replace(document, ids=document.ids[start : start + seq_len]) for start in starts]


def normalised(lessons: Sequence[Lesson]) -> list[float]:
    """Weights with a mean of 1 within each slice, so that weighing does not shift what the slices weigh together.

    >>> from dataclasses import replace
    >>> one = Lesson("fact", "", "p", "a", "", "", "", (), (), weight=1.0)
    >>> normalised([one, replace(one, weight=3.0)])
    [0.5, 1.5]
    """
    by_slice: dict[str, list[float]] = defaultdict(list)
    for lesson in lessons:
        by_slice[lesson.slice].append(max(0.0, lesson.weight))
    means = {name: sum(weights) / len(weights) or 1.0 for name, weights in by_slice.items()}
    low, high = CLIP_weight
    return [min(high, max(low, max(0.0, each.weight) / means[each.slice])) for each in lessons]


def steps_of(
    segments: Sequence[Segment],
    *,
    epochs: float,
    tokens_per_step: int,
    min_steps: int,
    max_steps: int,
    seed: int | None,
) -> list[tuple[int, ...]]:
    """What each update of the weights learns from, as indices: every epoch in an order of its own, drawn from the seed.

    Without a seed every epoch keeps the order given.
    A step holds what fits into `tokens_per_step`, one segment at least. Part of an epoch at the end is its beginning.
    """
    steps: list[tuple[int, ...]] = []
    step: list[int] = []
    filled, epoch, left = 0, 0, epochs
    while segments and (left > 1e-9 or len(steps) < min_steps):
        order = list(range(len(segments)))
        if seed is not None:
            random.Random(f"{seed}:{epoch}").shuffle(order)  # noqa: S311 - an order, no secret
        for index in order[: max(1, round(len(order) * left))] if 1e-9 < left < 1 else order:
            if step and filled + len(segments[index].ids) > tokens_per_step:
                steps.append(tuple(step))
                step, filled = [], 0
            step.append(index)
            filled += len(segments[index].ids)
        epoch, left = epoch + 1, left - 1
        if left <= 1e-9 and step:  # what is left over is a step too, before it is asked whether these are enough
            steps.append(tuple(step))
            step, filled = [], 0
    return steps[:max_steps] if max_steps else steps


def packed(segments: Iterable[Segment], seq_len: int) -> list[list[Segment]]:
    """Rows of at most `seq_len` tokens: the longest first, each into the fullest row where it fits."""
    rows: list[list[Segment]] = []
    room: list[int] = []
    for segment in sorted(segments, key=lambda each: -len(each.ids)):
        fitting = [number for number, free in enumerate(room) if free >= len(segment.ids)]
        if fitting:
            number = min(fitting, key=lambda number: room[number])
        else:
            number = len(rows)
            rows.append([])
            room.append(seq_len)
        rows[number].append(segment)
        room[number] -= len(segment.ids)
    return rows


def fitted(segments: Iterable[Segment], seq_len: int) -> tuple[list[Segment], list[Segment]]:
    """What goes into rows of that length, and the lessons that do not; documents are cut anew."""
    kept: list[Segment] = []
    lost: list[Segment] = []
    for segment in segments:
        if max(len(segment.ids), len(segment.teacher)) <= seq_len:
            kept.append(segment)
        elif segment.slice:
            lost.append(segment)
        else:
            kept += cut(segment, seq_len)
    return kept, lost


def total_weight(segments: Iterable[Segment]) -> float:
    """What the loss over these is divided by."""
    return sum(each.weight * each.num_answer + each.prompt_weight * max(0, each.first - 1) for each in segments)


def batch_of(rows: Sequence[Sequence[Segment]], *, pad: int, skip_teacher: int, taught: bool = False) -> Batch:
    """Tensors of some rows. No row at all, or only a teacher's, yields one of padding, in which nothing is asked."""
    taught_segments = [each for row in rows for each in row if each.teacher]
    student = _laid_out([[(each.ids, _targets(each, skip_teacher)) for each in row] for row in rows], pad)
    if not taught:
        return student
    length = student.ids_BT.shape[1]
    shown = [replace(each, ids=each.teacher, first=len(each.teacher) - each.num_answer) for each in taught_segments]
    longest = max([length, *(len(each.ids) for each in shown)])
    teacher_rows: list[list[tuple[tuple[int, ...], list[tuple[int, float, float]]]]] = []
    room = 0
    for each in shown:  # in the order of the student's targets, not by length
        if not teacher_rows or room < len(each.ids):
            teacher_rows.append([])
            room = longest
        asked = [target for target in _targets(replace(each, prompt_weight=0.0), skip_teacher) if target[2] > 0]
        teacher_rows[-1].append((each.ids, asked))
        room -= len(each.ids)
    return replace(student, teacher=_laid_out(teacher_rows, pad))


def _targets(segment: Segment, skip_teacher: int) -> list[tuple[int, float, float]]:
    """(place, weight of its loss, weight of the distance to the teacher) of all that is asked in a segment."""
    found = []
    for place in range(1, len(segment.ids)):
        answer = place >= segment.first
        weight = segment.weight * segment.pull if answer else segment.prompt_weight
        asked = answer and bool(segment.teacher) and place >= segment.first + skip_teacher
        pull = segment.weight * segment.teacher_pull if asked else 0.0
        if weight > 0 or pull > 0:
            found.append((place, weight, pull))
    return found


def _laid_out(rows: Sequence[Sequence[tuple[tuple[int, ...], list[tuple[int, float, float]]]]], pad: int) -> Batch:
    length = max((sum(len(ids) for ids, _ in row) for row in rows), default=2)
    num_rows = max(1, len(rows))
    ids = torch.full((num_rows, length), pad, dtype=torch.long)
    # Padding stays at position 0: each token of it is a segment of its own, and nothing that counts sees it.
    positions = torch.zeros((num_rows, length), dtype=torch.long)
    found: list[tuple[int, int, int, float, float]] = []
    for number, row in enumerate(rows):
        start = 0
        for segment_ids, targets in row:
            end = start + len(segment_ids)
            ids[number, start:end] = torch.tensor(segment_ids)
            positions[number, start:end] = torch.arange(len(segment_ids))
            found += [(number, start + place - 1, segment_ids[place], weight, pull) for place, weight, pull in targets]
            start = end
    at_row, at_column, wanted, weights, pulls = zip(*found, strict=True) if found else [()] * 5
    return Batch(
        ids,
        positions,
        torch.tensor(at_row, dtype=torch.long),
        torch.tensor(at_column, dtype=torch.long),
        torch.tensor(wanted, dtype=torch.long),
        torch.tensor(weights, dtype=torch.float32),
        torch.tensor(pulls, dtype=torch.float32),
    )
