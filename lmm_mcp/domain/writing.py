"""What recall offers the memory model, and what it may answer: the one thing that `recall` and `model` both know."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lmm_mcp.domain.chunk import ChunkId

MAX_OFFERED = 12
"""Evidence lines a model is shown."""
MAX_OFFERED_chars = 200
"""Of each."""
MAX_CHOSEN = 5


@dataclass(frozen=True, slots=True)
class Offered:
    """One evidence line as a model sees it."""

    number: int
    """From 1, in the order shown."""
    chunk_id: ChunkId
    line_number: int
    """Of the line within its chunk, from 0."""
    role: str
    text: str
    """As quoted in a brief, at most `MAX_OFFERED_chars`."""
    day: str
    """`2026-02-15`, '' unknown."""
    superseded: bool = False

    def shown(self) -> str:
        """The line as it stands in a prompt.

        >>> Offered(2, "a" * 16, 0, "command", "pytest -q", "2026-02-15").shown()
        '[2] 2026-02-15 command: pytest -q'
        """
        was = " (superseded)" if self.superseded else ""
        return f"[{self.number}] {self.day or 'undated'} {self.role}{was}: {self.text}"


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of a written brief."""

    text: str
    """Without its citations."""
    cites: tuple[int, ...]
    """Numbers of the lines it rests on."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a model made of the evidence."""

    chosen: tuple[int, ...]
    """Numbers of the lines that answer, best first; none = it says that nothing here answers."""
    sentences: tuple[Sentence, ...] = ()
    """Those that were checked against the cited lines and stand."""
    dropped: int = 0
    """Sentences that did not."""
    model: str = ""
    """Version that wrote it."""


class Writer(Protocol):
    """A memory model that serves. Never raises: where it cannot answer in time, it answers None."""

    def write(self, question: str, offered: Sequence[Offered], *, within_s: float) -> Written | None:
        """Choose among `offered`, and write what it may; None where it failed or was too slow."""
        ...
