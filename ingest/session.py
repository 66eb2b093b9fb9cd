"""The nouns of the ingest wing: what a reader yields and what turns are made of. They never leave this wing.

`Event` and `Thread`, which the archive keeps, live in `lmm_mcp.domain.event`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from lmm_mcp.domain.event import Event, Thread


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something in a session file that could not be understood. Counted and shown by `lmm doctor`, never dropped silently."""

    path: str
    line: int
    """1-based line number; 0 where lines mean nothing."""
    problem: str
    """One short sentence; never the text of the line, which may hold secrets."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a file has been read, and what must be remembered to read on from there. JSON-able, kept in the ledger."""

    offset: int = 0
    """Bytes consumed: just behind the last complete record. Always 0 for files that are read whole."""
    line: int = 0
    """Complete lines consumed."""
    context: Mapping[str, Any] = field(default_factory=dict)
    """Whatever the reader needs from earlier in the file (session id, cwd, last ids). JSON types only."""


@dataclass(frozen=True, slots=True)
class ReadTo:
    """The last item of every reading: where the next one starts."""

    cursor: Cursor


Item = Event | Thread | Unreadable | ReadTo
"""A reading is a stream of these. `Thread` says whose events follow, until the next `Thread`; it is repeated whenever
something about it became known (a title, a remote). A reading without events yields no `Thread` either."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A session file as found on disk."""

    agent: str
    path: Path
    size: int
    mtime_ns: int


class Reader(Protocol):
    """One agent's format. Stateless: everything it must remember goes through the cursor."""

    agent: str
    version: int
    """Raise it when the meaning of what is yielded changes: files are then read again from the start."""

    def roots(self, env: Mapping[str, str], extra: Sequence[Path]) -> tuple[Path, ...]:
        """Folders where this agent's sessions may lie: its own variable, else its default under HOME, then `extra`."""
        ...

    def discover(self, root: Path) -> Iterator[Path]:
        """Session files under `root`, nothing else: an allow-list, so that credentials beside them are never opened."""
        ...

    def claims(self, path: Path) -> bool:
        """Whether `path`, named by the user, looks like a file of this agent (by name and first bytes)."""
        ...

    def read(self, path: Path, cursor: Cursor) -> Iterator[Item]:
        """Yield what stands behind `cursor`. Never raises for bad content; raises OSError where the file cannot be read."""
        ...


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call with its result, once both are known."""

    call: Event
    result: Event | None


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange: a prompt (None where a transcript starts in the middle) and everything up to the next one."""

    thread: Thread
    prompt: Event | None
    steps: tuple[Event | ToolCall, ...]
    """Replies, thoughts, summaries and calls in order."""

    @property
    def first_event(self) -> Event:
        """The event that names this turn."""
        if self.prompt is not None:
            return self.prompt
        step = self.steps[0]
        return step.call if isinstance(step, ToolCall) else step
