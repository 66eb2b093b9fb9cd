"""The answer to `prompts/choose.md`: numbers of lines, best first, with blanks between, or `none`. Read, and held to while it is written.

`Choices` tells after every token which ones may follow, for any tokenizer, so that a model cannot name what was not offered,
name a line twice, or say anything else. What it may say is found by spelling legal answers, not by knowing how tokens are made.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from lmm_mcp.domain.writing import MAX_CHOSEN

NONE = "none"
Spelling = Callable[[str], Sequence[int]]
"""An answer as the token ids that say it, without the one that ends it."""


class Constraint(Protocol):
    """What may be said next."""

    def allowed(self, said: Sequence[int]) -> Sequence[int]:
        """The tokens that may follow those said so far; none where these are no beginning of anything allowed."""
        ...


def answer(chosen: Sequence[int]) -> str:
    """The answer that names these lines.

    >>> answer((3, 1)), answer(())
    ('3 1', 'none')
    """
    return " ".join(map(str, chosen)) or NONE


def parse(text: str, offered: Collection[int]) -> tuple[int, ...] | None:
    """The lines that an answer names, () for `none`; None for anything else.

    >>> parse("3 1", range(1, 6)), parse("none", range(1, 6)), parse("9", range(1, 6)), parse("1 1", range(1, 6))
    ((3, 1), (), None, None)
    """
    words = text.split()
    if words == [NONE]:
        return ()
    if not words or len(words) > MAX_CHOSEN or not all(word.isdecimal() and word.isascii() for word in words):
        return None
    chosen = tuple(map(int, words))
    is_legal = len(set(chosen)) == len(chosen) and set(chosen) <= set(offered) and answer(chosen) == " ".join(words)
    return chosen if is_legal else None


class Choices:
    """The grammar, spelled by one tokenizer. `offered`: the numbers that may be named; `end`: the token that ends an answer."""

    def __init__(self, offered: Collection[int], spell: Spelling, end: int) -> None:
        self._offered = tuple(offered)
        self._spell = spell
        self._end = end
        self._spelled: dict[tuple[int, ...], tuple[int, ...]] = {}

    def allowed(self, said: Sequence[int]) -> tuple[int, ...]:
        """See `Constraint`. In the order of the numbers offered; the end comes where the answer may be over."""
        said = tuple(said)
        following: dict[int, None] = {}
        waiting: list[tuple[int, ...]] = [(), *((number,) for number in self._offered)]
        while waiting:
            chosen = waiting.pop(0)
            spelled = self._spelling(chosen)
            if spelled[: len(said)] == said:  # what was said is the beginning of this answer, or all of it
                following[spelled[len(said)] if len(spelled) > len(said) else self._end] = None
            elif not chosen or said[: len(spelled)] != spelled:
                continue
            if chosen and len(chosen) < MAX_CHOSEN and len(spelled) <= len(said):
                waiting += [(*chosen, number) for number in self._offered if number not in chosen]
        return tuple(following)

    @property
    def none(self) -> int:
        """The token with which `none` begins."""
        return self._spelling(())[0]

    def _spelling(self, chosen: tuple[int, ...]) -> tuple[int, ...]:
        if chosen not in self._spelled:
            self._spelled[chosen] = tuple(self._spell(answer(chosen)))
        return self._spelled[chosen]
