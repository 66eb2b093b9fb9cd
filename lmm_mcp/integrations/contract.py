"""What connecting an agent means: its files as they are and as they would be. Nothing is written here.

Whatever is written can be taken back to the same bytes. What cannot be told from a file afterwards (was there an empty
list before? was there a file at all?) goes into the `Trace`, which never holds text of the user's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

SERVER = "lmm"
"""The name under which agents know this memory; their tools are called after it, such as `mcp__lmm__recall`."""

State = Literal["connected", "stale", "partly", "foreign", "absent"]
"""stale: an entry of ours that starts another program. partly: something of it is missing. foreign: the name `lmm` is
taken by something else. absent: nothing of ours is there."""


@dataclass(frozen=True, slots=True)
class Program:
    """How this very installation is started."""

    words: tuple[str, ...]
    """The full path first, since agents start it without the user's PATH."""
    home: str = ""
    """Memory home to be named, '' for the usual one."""


@dataclass(frozen=True, slots=True)
class Trace:
    """What a file lacked before something of ours was written into it: places, and the blanks that stood there."""

    made: Mapping[str, str | None] = field(default_factory=dict)
    """Place, such as `hooks/SessionStart`, to the blanks in its empty brackets; None where the place was not there. The
    place '' is the file itself, `..` its folder, `.` the blanks that were all of it."""
    text: str = ""
    """What was added to a file that is changed by lines and not by places: our own lines, and blanks."""


@dataclass(frozen=True, slots=True)
class Change:
    """One file as it is, and as it would be."""

    path: Path
    before: bytes | None
    """None where there is no file."""
    after: bytes | None
    """None where the file goes: we made it, and nothing else is in it."""
    trace: Trace = field(default_factory=Trace)
    """What must be remembered to take it back; empty once it is taken back."""
    takes_folder: bool = False
    """Whether its folder goes with it, if nothing else is in there."""
    locked_by: Path | None = None
    """Folder that the agent makes while it writes this file; who finds it there waits."""

    @property
    def is_none(self) -> bool:
        """Whether all is as it should be already."""
        return self.before == self.after


@dataclass(frozen=True, slots=True)
class Look:
    """How an agent's configuration stands."""

    state: State
    told: str
    """One short clause for people, such as the program that is started."""


class Integration(Protocol):
    """One agent. Stateless; `env` says where its files are."""

    name: str
    """As in citations: `claude-code`."""
    title: str
    meaning: str
    """What in its entry does not explain itself, for people who look at it; a clause."""

    def folder(self, env: Mapping[str, str]) -> Path:
        """Where it keeps its configuration: if that is there, the agent is."""
        ...

    def connect(
        self, env: Mapping[str, str], program: Program, traces: Mapping[str, Trace], *, force: bool = False
    ) -> list[Change]:
        """What is to be written. Raises ConfigError for a damaged file, and for a foreign entry unless `force`."""
        ...

    def disconnect(self, env: Mapping[str, str], traces: Mapping[str, Trace]) -> list[Change]:
        """What is to be taken back. `traces`: what `connect` left, by path. Raises ConfigError for a damaged file."""
        ...

    def look(self, env: Mapping[str, str], program: Program) -> Look:
        """See how things stand. Raises ConfigError for a damaged file."""
        ...
