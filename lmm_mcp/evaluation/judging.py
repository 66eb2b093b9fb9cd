"""An answer in, figures out: how much of what was needed it holds, and whether it rightly kept silent. Pure.

Every figure is a share, 0 to 1, of one question; a table holds their means. Text is compared lower-cased with white space
folded, and a token is four characters, so that no tokenizer decides.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lmm_mcp.domain.recall import CHARS_PER_TOKEN

BUDGETS_tokens = (250, 500, 1000, 2000)
MISLED_WITHIN_tokens = 1000
TOP_SESSIONS = (1, 5)
_MARKED = re.compile(r"supersed|no longer|\bwas\b|\bold\b|until|replaced|formerly|before:|->|→|~~", re.IGNORECASE)
"""What tells a reader that a value holds no more."""


@dataclass(frozen=True, slots=True)
class Key:
    """What a right answer to one question holds."""

    answers: tuple[tuple[str, ...], ...]
    """The needed items, each with its alternatives; none: the right answer is silence."""
    sessions: frozenset[str] = frozenset()
    """Those that hold the evidence."""
    stale: tuple[str, ...] = ()
    """Values that held before."""


def folded(text: str) -> str:
    r"""Lower-cased, on one line.

    >>> folded("  Port   8080 ")
    'port 8080'
    """
    return " ".join(text.split()).lower()


def found(answers: Iterable[Sequence[str]], text: str) -> list[bool]:
    """Which of the needed items stand in `text`.

    >>> found([["8080", "8081"], ["pnpm"]], "the port is 8081")
    [True, False]
    """
    whole = folded(text)
    return [any(folded(alternative) in whole for alternative in item) for item in answers]


def judge(key: Key, text: str, sessions: Sequence[str], *, abstained: bool) -> Mapping[str, float]:
    r"""The figures of one answer. `sessions`: those cited, best first.

    `cover@N`, `full@N`: the share of the needed items in the first N tokens, and whether all are there. `hit@K`: whether a
    session that holds the answer is among the first K. `mute`: silent though it could have answered. `stale`: an old value is
    told as if it held. `quiet`: silent where nothing is known.

    >>> judge(Key((("8081",),), frozenset({"s1"}), ("8080",)), "port 8080\nport 8081", ["s2", "s1"], abstained=False)["stale"]
    1.0
    """
    is_quiet = abstained or not text.strip()
    if not key.answers:
        return {"quiet": float(is_quiet)}
    figures = {"mute": float(is_quiet)}
    for budget in BUDGETS_tokens:
        there = found(key.answers, text[: budget * CHARS_PER_TOKEN])
        figures[f"cover@{budget}"] = sum(there) / len(there)
        figures[f"full@{budget}"] = float(all(there))
    if key.sessions:
        for top in TOP_SESSIONS:
            figures[f"hit@{top}"] = float(any(session in key.sessions for session in sessions[:top]))
    if key.stale:
        figures["stale"] = float(is_misleading(key, text))
    return figures


def is_misleading(key: Key, text: str) -> bool:
    """Whether a reader would take an old value for the one that holds: it stands first, unmarked, on a line of its own."""
    lines = [folded(line) for line in text[: MISLED_WITHIN_tokens * CHARS_PER_TOKEN].splitlines()]
    latest = [folded(alternative) for item in key.answers for alternative in item]
    first = next((n for n, line in enumerate(lines) if any(value in line for value in latest)), len(lines))
    return any(any(folded(old) in line for old in key.stale) and not _MARKED.search(line) for line in lines[:first])
