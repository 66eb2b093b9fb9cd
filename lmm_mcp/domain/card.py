"""A card: a few checked sentences about a project, a file or an error, written while nobody asks and told when somebody does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lmm_mcp.domain.chunk import ChunkId

KINDS = ("project", "file", "error")


@dataclass(frozen=True, slots=True)
class CardSentence:
    """One sentence with what it rests on."""

    text: str
    rests_on: tuple[tuple[ChunkId, int], ...]
    """Passages, and numbers of the lines within them, from 0."""


@dataclass(frozen=True, slots=True)
class Card:
    """What is worth knowing of one subject, as of a moment."""

    kind: str
    """One of `KINDS`."""
    project: str
    subject: str
    """The file's path, the error's signature, or the project's key."""
    sentences: tuple[CardSentence, ...]
    sources: Mapping[ChunkId, str]
    """Content hashes of the passages that it rests on: where one is another now, or gone, the card is void."""
    newest_ms: int
    """When the youngest line was said that its writer saw: it knows nothing of what came later."""
    model: str
    """Version that wrote or chose it."""


class Cards(Protocol):
    """Where cards are kept."""

    def of(self, project: str) -> Sequence[Card]:
        """All cards of a project."""
        ...
