"""A fact: one short statement about a project that sessions support, with what it was read from and while it held."""

import hashlib
from dataclasses import dataclass

from lmm_mcp.domain.chunk import Span

CATEGORIES = (
    "preference",
    "project fact",
    "decision",
    "procedure",
    "correction",
    "error and fix",
    "codebase structure",
    "open task",
)
"""What a fact, and a lesson made of it, is about."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where a fact was read: a stretch of an archived, redacted message."""

    agent: str
    thread_id: str
    session_id: str
    span: Span
    role: str
    """Who said it, as roles of chunk lines are named: `user`, `agent`, `command`, `output`, ..."""
    at_ms: int


@dataclass(frozen=True, slots=True)
class Fact:
    """One statement. Two of them with the same `key` and another `value` cannot hold at once if the relation is functional."""

    project: str
    category: str
    """One of `CATEGORIES`."""
    relation: str
    """From the registry of relations, such as `test command` or `package manager`."""
    subject: str
    """What it is said of, '' for the project itself: a file, a service, an error."""
    value: str
    """Verbatim from its evidence."""
    text: str
    """The statement as a sentence that stands for itself; every identifier in it occurs in the evidence."""
    evidence: tuple[Evidence, ...]
    """Oldest first, one for each session at least."""
    from_ms: int
    """When it was first said."""
    until_ms: int = 0
    """When another value took its place, 0 while it holds."""
    superseded_by: str = ""
    """Id of the fact that took its place."""
    volatility: str = "stable"
    """`stable`, `slow` or `volatile`; what is volatile is never trained on."""
    confidence: float = 0.0
    """0 to 1, growing with the number of sessions that say so."""

    @property
    def id(self) -> str:
        """A hash of what it says, 16 hexadecimal digits: the same statement read twice is one fact."""
        name = "\x1f".join((self.project, self.relation, self.subject, self.value))
        return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is a value of."""
        return self.project, self.relation, self.subject

    @property
    def holds(self) -> bool:
        """Whether nothing newer took its place."""
        return not self.until_ms

    @property
    def num_sessions(self) -> int:
        """How many sessions say so."""
        return len({each.session_id for each in self.evidence})


@dataclass(frozen=True, slots=True)
class Salience:
    """How much a passage is worth remembering, with the reasons; it ranks and promotes, and never decides what exists."""

    chunk_id: str
    score: float
    """0 to 1."""
    reasons: tuple[tuple[str, float], ...]
    """(feature, what it added), largest first."""
