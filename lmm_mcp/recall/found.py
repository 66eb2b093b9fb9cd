"""`Evidence`: one line that may be quoted, with what speaks for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lmm_mcp.domain.chunk import Chunk, Line


@dataclass(frozen=True, slots=True)
class Evidence:
    """One line that may be quoted."""

    chunk: Chunk
    line: Line
    score: float
    text: str
    """As quoted: on one line, cut, without control characters, with marks such as ours defused."""
    of: str = ""
    """What the line belongs to, as quoted: the file of an edit, the command of an output, the heads of a row; '' for none."""
    superseded: bool = False
    """A newer line takes it back, or tells the same with another value."""
    replaced: tuple[str, str] | None = None
    """A value that it states and that holds no more, and the one that holds; None where nothing of it is known to be old."""
    number: int = 0
    """Of the line within its chunk, from 0."""
    window: int = -1
    """Of the window of its chunk in which it stands, from 0 (see `domain.windows`); -1 where that has no vector."""
    terms: frozenset[str] = frozenset()
    """The search terms it holds; none where it shares nothing with the question."""
    why: Mapping[str, float] = field(default_factory=dict)
    """What its score is made of, by part."""
    lead: float = 0.0
    """What is added to its score where lines are ranked: the more, the less near it is to everything (`hubs`)."""

    @property
    def age(self) -> tuple[int, int, int]:
        """Larger = newer; within a session by place."""
        return self.chunk.last_ms, self.chunk.ordinal, self.number
