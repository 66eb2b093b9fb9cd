"""What happened in a session, one record at a time, the same for every agent.

Readers yield events, redaction cuts secrets out of them, the archive keeps them, `expand` shows them.
They live in the house and not in the ingest wing because the archive's reader needs them too.
"""

from dataclasses import dataclass
from typing import Literal

EventKind = Literal["prompt", "reply", "thought", "call", "result", "summary"]
"""prompt: typed by a person (or, in a sub-agent, the task it was given). reply: the agent's prose. thought: its visible
reasoning. call: it used a tool. result: what the tool gave back. summary: a compaction record or a session digest."""

LAST_ms = 253_402_128_000_000
"""The latest time an event may have: two days before the year 9999 ends, so that it can be shown in every time zone."""

EventId = str
SessionId = str
ThreadId = str


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that was said or done, with all of its text."""

    id: EventId
    """The agent's own id (message uuid, call id, ...), unique within the agent. A record that yields several events
    appends `#1`, `#2`, ... in their order within it. Never made from a path or a line number."""
    kind: EventKind
    text: str
    """prompt, reply, thought, summary: the prose. call: what was asked of the tool, readable (a command line, a patch,
    `key: value` lines). result: the tool's output, whole."""
    at_ms: int
    """UTC, milliseconds since 1970; 0 where the agent does not say."""
    call_id: str = ""
    """call and result: the agent's id that joins them."""
    tool: str = ""
    """call: the tool's name as the agent writes it."""
    command: str = ""
    """call: the shell command line, where the tool is a shell."""
    paths: tuple[str, ...] = ()
    """Files that a call reads or writes, as written there; for a result, files that it names in a structured field."""
    exit_code: int | None = None
    """result: the process's exit code, where the agent says."""
    failed: bool | None = None
    """result: whether the tool failed; None where it cannot be told."""
    group: str = ""
    """The model message this is a piece of: replies, thoughts and calls of one message share it."""
    cwd: str = ""
    """Working directory at that moment, '' where unknown."""
    branch: str = ""
    """Git branch at that moment, '' where unknown."""
    ours: bool = False
    """True for what this memory itself produced (its tool calls, its briefs): archived, never learned from."""


@dataclass(frozen=True, slots=True)
class Thread:
    """One transcript: a session's main line, or one sub-agent's."""

    agent: str
    """`claude-code`, `codex`, `notes`, ..."""
    session_id: SessionId
    """The agent's own session id; for a sub-agent its parent's."""
    thread_id: ThreadId
    """The session id again for a main line; the sub-agent's own id otherwise. Unique within the agent."""
    title: str = ""
    cwd: str = ""
    """First working directory seen."""
    branch: str = ""
    remote: str = ""
    """Git remote recorded by the agent itself, '' where it records none."""
    forked_from: SessionId = ""
    """The session this one was forked from, where the agent says."""
    parent: ThreadId = ""
    """A sub-agent's: the thread that started it, where the agent says; '' for a main line."""

    @property
    def is_subagent(self) -> bool:
        """Whether this is a sub-agent's transcript."""
        return self.thread_id != self.session_id
