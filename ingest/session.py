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
    has_more: bool = False
    """Only a slice was read: there is more behind the cursor, to be read at once."""


Item = Event | Thread | Unreadable | ReadTo
"""A reading is a stream of these. `Thread` says whose events follow, until the next `Thread`; it is repeated whenever
something about it became known (a title, a remote). A reading without events yields no `Thread` either, but where a session
says who started another one: of that `Thread` only what is not empty counts, and only if it is kept already."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A session file as found on disk, or one session of a file that holds many (a database)."""

    agent: str
    path: Path
    size: int
    """Bytes of the file; of a part: whatever grows with it, such as its number of rows. Another size means: read it again."""
    mtime_ns: int
    """Time of its last change. Another time means: read it again."""
    part: str = ""
    """Of a file that holds many sessions: the agent's own id of this one."""

    @property
    def name(self) -> str:
        """What the ledger knows it by."""
        return f"{self.path}#{self.part}" if self.part else str(self.path)

    @property
    def start(self) -> Cursor:
        """From where it is read the first time. A part is named by its cursor: `context["part"]`."""
        return Cursor(context={"part": self.part}) if self.part else Cursor()


class Reader(Protocol):
    """One agent's format. Stateless: whatever it must remember of a file goes through the cursor.

    There are three kinds of stores. Files that are appended to: `read` goes on behind the cursor's offset and ends with
    where it came to. Files that are rewritten whole: `read` yields all there is and ends with `ReadTo(Cursor())`.
    Databases: `sources` lists their sessions, and `read` yields all of the one that `cursor.context["part"]` names and
    ends with `ReadTo(cursor)`. Whatever is yielded again is compared with what is kept, by the events' ids: so ids are
    the agent's own, and where it gives none they are made from what is said (`values.Naming`), never from a position.
    """

    agent: str
    """Also the name of its folder in the archive: a-z, 0-9 and `-`."""
    version: int
    """Raise it when the meaning of what is yielded changes: files are then read again from the start."""
    lies_in_projects: bool
    """Its sessions lie in the folders that are worked in: `roots` is then also given those that are known, as `extra`."""

    def roots(self, env: Mapping[str, str], extra: Sequence[Path]) -> tuple[Path, ...]:
        """Folders where this agent's sessions may lie: its own variable, else its default under HOME, then `extra`.

        They need not exist. A user may name a session file itself as `extra`.
        """
        ...

    def discover(self, root: Path) -> Iterator[Path]:
        """Session files under `root`, nothing else: an allow-list, so that credentials beside them are never opened.

        A folder that cannot be listed is yielded itself, so that whoever opens what is found says why.
        """
        ...

    def session_of(self, root: Path, path: Path) -> Path | None:
        """The session file to look at because `path`, somewhere under `root`, has changed; None where it is none of ours.

        By its name alone, for it may be gone. The log of a database speaks for the database, a side file for its session.
        """
        ...

    def claims(self, path: Path) -> bool:
        """Whether `path`, named by the user, looks like a file of this agent (by name and first bytes)."""
        ...

    def sources(self, path: Path) -> Iterator["SourceFile | Unreadable"]:
        """What is to be read of the session file `path`: itself, or each session in it. Raises OSError."""
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
