"""A lesson: what the memory model is asked, what it should answer, and what of the memory that was made from."""

import hashlib
from dataclasses import dataclass

from lmm_mcp.domain.chunk import ChunkId

SLICES = ("choice", "brief", "fact", "procedure", "clue", "chunk", "general")
"""Kinds of lessons: naming the evidence lines that answer; writing the brief; facts asked without evidence; steps and
corrections; search words; context to memory; and what any model should still be able to do."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """One prompt with its answer. Everything a training run needs to know of it."""

    slice: str
    """One of `SLICES`."""
    category: str
    """One of `domain.fact.CATEGORIES`, '' where none fits."""
    prompt: str
    """Rendered by `lmm_mcp.prompting`: byte for byte what is served."""
    answer: str
    template: str
    """`name@hash` of the prompt file."""
    family: str
    """Of phrasings it was written with; families of probes are never trained on."""
    memory: str
    """What is taught, as an id: of a fact or a passage. Caps and probes count by it."""
    sources: tuple[ChunkId, ...]
    """Passages it was made from, by the ids recall cites."""
    threads: tuple[tuple[str, str], ...]
    """(agent, thread id) of these, so that what is forgotten can be found."""
    project: str = ""
    at_ms: int = 0
    """When the youngest of its sources was said."""
    weight: float = 1.0
    """Before it is normalised to a mean of 1 within its slice."""
    clean_prompt: str = ""
    """The same prompt with gold evidence only, for the teacher; '' where there is nothing to distil."""

    @property
    def id(self) -> str:
        """A hash of what is asked and answered, 16 hexadecimal digits."""
        name = "\x1f".join((self.slice, self.prompt, self.answer))
        return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Probe:
    """A question that judges and never trains; frozen once written."""

    slice: str
    category: str
    prompt: str
    answers: tuple[str, ...]
    """Any of these, found in the output after folding, is right; for choices: the numbers that answer, none for abstention."""
    family: str
    """Of phrasings; disjoint from all that is trained on."""
    memory: str
    cohort: str
    """The ISO week (`2026-W07`) in which what it asks for was learned; `general` for what any model should know."""
    threads: tuple[tuple[str, str], ...] = ()

    @property
    def id(self) -> str:
        """As `Lesson.id`."""
        name = "\x1f".join((self.slice, self.prompt, *self.answers))
        return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
