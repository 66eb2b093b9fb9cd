"""What a memory model made of the evidence, brought into the brief: chosen lines first, checked sentences before them. Pure.

The ranking found the lines and the model chooses among them, so nothing is lost: what it left out follows what it chose. Only
where it finds no answer at all, and the ranking is not sure of its best line, is nothing told.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lmm_mcp.domain.wording import counted
from lmm_mcp.domain.writing import MAX_OFFERED, Written
from lmm_mcp.recall.evidence import quoted
from lmm_mcp.recall.found import Evidence


@dataclass(frozen=True, slots=True)
class Told:
    """A sentence that was checked, with the lines it rests on."""

    text: str
    """As quoted: on one line, without marks of ours."""
    rests_on: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a brief is made of."""

    lines: tuple[Evidence, ...] = ()
    """Most useful first; none where nothing is worth telling."""
    sentences: tuple[Told, ...] = ()
    written: Written | None = None
    """What the memory model said; None where none serves, or it was too slow."""
    num_offered: int = 0
    """Lines that were shown to it; 0 where none serves."""
    num_chosen: int = 0
    """Lines at the head that it chose."""
    card_by: str = ""
    """Version that wrote the sentences while nobody asked, '' where they are none of a card."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the caller should know of the model's part in this."""
        if self.card_by:
            return (f"summed up before by the memory model {self.card_by}",)
        if self.written is None or not (self.written.chosen or self.sentences):
            return ()
        what = "summed up and put in order" if self.sentences else "put in order"
        return (f"{what} by the memory model {self.written.model}",)


def is_told(chosen: Sequence[int], *, is_sure: bool) -> bool:
    """Whether lines are told at all: where a model finds no answer in them (chose none), only those that the ranking is sure of."""
    return bool(chosen) or is_sure


def answer(ranked: Sequence[Evidence], written: Written | None, *, is_sure: bool = True) -> Answer:
    """Join the ranking with what a model made of it. `is_sure`: whether the ranking stands by its lines whatever the model says."""
    num_offered = min(len(ranked), MAX_OFFERED)
    if written is None:
        return Answer(tuple(ranked), num_offered=num_offered)
    if not is_told(written.chosen, is_sure=is_sure):
        return Answer(written=written, num_offered=num_offered)
    chosen = dict.fromkeys(number - 1 for number in written.chosen if 0 < number <= num_offered)
    lines = (*(ranked[n] for n in chosen), *(each for n, each in enumerate(ranked) if n not in chosen))
    sentences = tuple(
        Told(quoted(each.text), tuple(ranked[number - 1] for number in each.cites)) for each in written.sentences
    )
    return Answer(lines, sentences, written, num_offered, len(chosen))


def explained(told: Answer) -> list[str]:
    """What the model did, for a person."""
    card = [f"card of the memory model {told.card_by}: {counted(len(told.sentences), 'sentence')}"] * bool(told.card_by)
    if not told.num_offered:
        return card
    found = told.written
    if found is None:
        return [*card, f"memory model: shown {counted(told.num_offered, 'line')}, it had no answer in time"]
    chose = f"chose {', '.join(map(str, found.chosen))}" if found.chosen else "found that none answers"
    wrote = f"; of its sentences {len(found.sentences)} stand, {found.dropped} dropped"
    is_writing = found.sentences or found.dropped
    return [
        *card,
        f"memory model {found.model}: shown the best {counted(told.num_offered, 'line')}, it {chose}{wrote if is_writing else ''}",
    ]
