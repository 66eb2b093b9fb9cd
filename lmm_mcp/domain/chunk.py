"""The unit of recall: one coherent exchange, small enough to be embedded, with its header and its evidence."""

import hashlib
import re
from dataclasses import dataclass

from lmm_mcp.domain.event import EventId, SessionId, ThreadId

ChunkId = str
NAMES_VERSION = 1
"""Part of every chunk's id. Raised only where chunks are cut so differently that an old id would name something else: each new id
means that the chunk is embedded anew, which one that says the same under its old id is not."""
_OUTCOME = re.compile(r"\s+\[(?:exit -?\d+|failed)\]\Z")


@dataclass(frozen=True, slots=True)
class Span:
    """Characters [start, end) of the text of one archived event."""

    event_id: EventId
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chunk, as a brief may quote it."""

    role: str
    """`user`, `agent`, `thought`, `command`, `output`, `error`, `edit`, `path`, `summary`, `note`."""
    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class Chunk:
    """One exchange, or one part of a long one."""

    id: ChunkId
    agent: str
    session_id: SessionId
    """As shown to callers: a sub-agent's is its parent's, a fork's the one where the message first appeared."""
    thread_id: ThreadId
    project: str
    """Project key, see `lmm_mcp.domain.project`."""
    branch: str
    first_ms: int
    """UTC, milliseconds since 1970, of its first event; 0 unknown."""
    last_ms: int
    part: int
    """0-based part number within its turn."""
    ordinal: int
    """0-based position among the chunks of its thread: neighbours differ by one."""
    header: str
    """Project, branch, date, agent, files touched and commands with outcome, on a few short lines."""
    lines: tuple[Line, ...]
    files: tuple[str, ...]
    """Files touched by this part's calls."""
    commands: tuple[str, ...]
    """Shell command lines, each with its outcome: `pytest -q  [exit 1]`."""
    content_hash: str
    """Of everything above that a reader can see; equal hash = nothing to write."""

    @property
    def event_ids(self) -> tuple[EventId, ...]:
        """The events it was made from, in order, each once."""
        return tuple(dict.fromkeys(line.span.event_id for line in self.lines))

    def text_of(self, *roles: str) -> str:
        """The lines of the given roles (all if none is named), one under another."""
        return "\n".join(line.text for line in self.lines if not roles or line.role in roles)


def chunk_id(agent: str, first_event_id: EventId, part: int, version: int = NAMES_VERSION) -> ChunkId:
    """Name a chunk by what it is made of, never by where its file lies: 16 hexadecimal digits.

    >>> chunk_id("codex", "call_1", 0, 1) == chunk_id("codex", "call_1", 0, 1)
    True
    >>> chunk_id("codex", "call_1", 0, 1) == chunk_id("codex", "call_1", 0, 2)
    False
    """
    name = "\x1f".join((agent, first_event_id, str(part), str(version)))
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def parted(text: str) -> tuple[str, str]:
    """What was done, and the mark at its end that says how it went, `  [exit 1]` or `  [failed]`; '' where there is none.

    >>> parted("pytest -q  [exit 1]"), parted("pytest -q")
    (('pytest -q', '  [exit 1]'), ('pytest -q', ''))
    """
    found = _OUTCOME.search(text, max(0, len(text) - 40))
    return (text[: found.start()], found.group()) if found else (text, "")
