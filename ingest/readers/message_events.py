"""Events of messages that hold several things at once: thoughts, prose, calls, or the results of earlier calls.

For agents whose messages have ids, while their parts have none. A part is named by its message and what it is, not by its
place: a message that is spoken bit by bit may get its parts in another order.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from ingest.readers.base import without_base64
from ingest.readers.call_ids import CallIds
from ingest.readers.calls import describe
from ingest.readers.ours import begins_with_brief, is_only_a_brief, is_our_command, is_our_resource, is_our_tool
from ingest.readers.workdirs import workdir_of
from lmm_mcp.domain.event import Event, EventKind


@dataclass(frozen=True, slots=True)
class Spoken:
    """One message, while its parts are told."""

    message_id: str
    at_ms: int
    cwd: str
    num_said: dict[str, int] = field(default_factory=dict)
    """How many parts of a kind were told."""

    def prompt(self, texts: list[str]) -> Iterator[Event]:
        """What a person typed, in one piece however it was sent; nothing where there are no words."""
        text = without_base64("\n".join(filter(str.strip, texts)))
        if text:
            ours = is_only_a_brief(text)  # a client may hand a brief over as if it were typed
            yield Event(self.message_id, "prompt", text, self.at_ms, cwd=self.cwd, ours=ours)

    def prose(self, kind: EventKind, text: str) -> Iterator[Event]:
        """A reply, a thought or a summary; nothing where there are no words."""
        number = self.next("thought" if kind == "thought" else "text")
        suffix = f"#{'thought' if kind == 'thought' else ''}{number if number > 1 else ''}"
        if text.strip():
            name = self.message_id + suffix.removesuffix("#")
            yield Event(name, kind, without_base64(text), self.at_ms, group=self.message_id, cwd=self.cwd)

    def next(self, what: str) -> int:
        """The number of the next part of this kind, from 1."""
        self.num_said[what] = self.num_said.get(what, 0) + 1
        return self.num_said[what]


class Calls:
    """The calls of one transcript: which result answers which, and which are ours."""

    def __init__(self, session_id: str) -> None:
        self._ids = CallIds(session_id)
        self._ours: set[str] = set()

    def call(
        self, message: Spoken, agents_id: object, tool: str, arguments: object, *, described_as: str = ""
    ) -> Event:
        """A tool call. `described_as`: the tool's name without what its server put before it."""
        told = describe(described_as or tool, arguments)
        call_id = self._ids.opened(agents_id) or f"{message.message_id}#call{message.next('call')}"
        ours = is_our_tool(tool) or is_our_command(told.command) or is_our_resource(tool, told.text)
        if ours:
            self._ours.add(call_id)
        return Event(
            call_id,
            "call",
            told.text,
            message.at_ms,
            call_id=call_id,
            tool=tool,
            command=told.command,
            paths=told.paths,
            group=message.message_id,
            cwd=workdir_of(arguments, message.cwd) if told.command else message.cwd,
            ours=ours,
        )

    def result(
        self, message: Spoken, agents_id: object, text: str, *, exit_code: int | None = None, failed: bool | None = None
    ) -> Event:
        """What a tool gave back."""
        call_id = self._ids.answered(agents_id)
        return Event(
            f"{call_id}#result" if call_id else f"{message.message_id}#result{message.next('result')}",
            "result",
            without_base64(text),
            message.at_ms,
            call_id=call_id,
            exit_code=exit_code,
            failed=failed,
            cwd=message.cwd,
            ours=call_id in self._ours or begins_with_brief(text),
        )
