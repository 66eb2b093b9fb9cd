"""A session while it is read, for agents that write records: what must be known from earlier ones, and events made alike.

Records in, events out. A reader of one agent says in `take` what its records mean; here stands what all of them need: whose
the events are, which calls are ours, what was not understood, and all of that carried from one reading to the next.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from ingest.readers.base import Decoded, SLICE_bytes, json_lines, without_base64
from ingest.readers.calls import describe
from ingest.readers.ours import begins_with_brief, is_only_a_brief, is_our_command, is_our_resource, is_our_tool
from ingest.readers.values import ODDITIES, Naming, id_in, type_name
from ingest.session import Cursor, Item, ReadTo, Unreadable
from lmm_mcp.domain.event import Event, EventKind, Thread

_NUM_CALLS_KEPT = 128
_NUM_UNKNOWN_KEPT = 32
_NUM_NAMES_KEPT = 128
_UNIQUE_chars = 16
"""Shorter call ids (`call_1`) count within a request and come again in every other: they cannot join call and result."""


class Known:
    """What is known of a session so far. Lives as long as one reading; `context` is what the next one begins with."""

    agent: ClassVar[str]

    def __init__(self, name: str, context: Mapping[str, Any]) -> None:
        """Go on from an earlier reading's `context()`, {} at the start; `name` is the session's id until it says another."""
        self.thread = Thread(self.agent, name, name)
        self.at_ms = 0
        self.group = ""
        self.cwd: str = context.get("cwd", "")
        self.branch: str = context.get("branch", "")
        self.has_spoken: bool = context.get("has_spoken", False)
        self.notes: dict[str, Any] = deepcopy(dict(context.get("notes", {})))  # the caller may use its cursor again
        """Whatever else an agent's reader must remember; JSON types only."""
        self.unknown: dict[str, int] = dict(context.get("unknown", {}))
        self._naming = Naming("", context.get("named"))
        self._calls: dict[str, list[Any]] = {name: list(call) for name, call in context.get("calls", {}).items()}
        """Agent's call id -> [the id that joins it with its result, whether it was ours] of the last calls, oldest first."""
        if context:
            self.thread = Thread(*context["thread"])

    def context(self) -> dict[str, Any]:
        """Everything the next reading needs, as JSON types."""
        return {
            "thread": [getattr(self.thread, name) for name in self.thread.__dataclass_fields__],
            "cwd": self.cwd,
            "branch": self.branch,
            "has_spoken": self.has_spoken,
            "notes": self.notes,
            "unknown": self.unknown,
            "calls": self._calls,
            "named": self._naming.seen,
        }

    # What is known -----------------------------------------------------------------------------------------------------

    def know(self, **fields: str) -> None:
        """Learn about the thread; '' is no knowledge."""
        if learnt := {name: value for name, value in fields.items() if value}:
            self.thread = replace(self.thread, **learnt)

    def stand_at(self, cwd: str, branch: str = "") -> None:
        """Learn where the agent stands now; the first folder and branch are also the thread's."""
        self.cwd, self.branch = cwd or self.cwd, branch or self.branch
        self.know(cwd=self.thread.cwd or self.cwd, branch=self.thread.branch or self.branch)

    def count_unknown(self, what: str, name: object) -> None:
        """Remember a type that is not known, under at most 32 names however broken the file is."""
        label = f"unknown {what} type {type_name(name)!r}"
        if label not in self.unknown and len(self.unknown) >= _NUM_UNKNOWN_KEPT:
            label = f"other unknown {what} types"
        self.unknown[label] = self.unknown.get(label, 0) + 1

    def unique_id(self, value: object) -> str:
        """An agent's id, made unique among all sessions where it is too short for that; '' where there is none.

        By its time and not by its session: a fork copies both into a session of its own, and they are the same message still.
        """
        name = id_in(value)
        if not name or len(name) >= _UNIQUE_chars:
            return name
        return f"{name}@{self.at_ms:x}" if self.at_ms else f"{self.thread.thread_id}/{name}"

    def named(self, *said: str) -> str:
        """An id for a message without one, made of its time (or, without one, its session) and what is said."""
        name = self._naming.name("" if self.at_ms else self.thread.thread_id, str(self.at_ms), *said)
        # The same words at the same time stand close together; without times, far enough back.
        while len(self._naming.seen) > _NUM_NAMES_KEPT:
            del self._naming.seen[next(iter(self._naming.seen))]
        return name

    # What is said ------------------------------------------------------------------------------------------------------

    def prose(self, kind: EventKind, event_id: str, text: str) -> Iterator[Event]:
        """A prompt, reply, thought or summary; nothing where there are no words."""
        text = without_base64(text.strip())
        if text:
            ours = kind == "prompt" and is_only_a_brief(text)  # a client may hand a brief over as if it were typed
            yield self._event(event_id, kind, text, ours=ours)

    def call(
        self, event_id: str, call_id: str, tool: str, arguments: object, *, ours: bool = False, **more: Any
    ) -> Event:
        """A tool call, described, and ours if it asks this memory (by its name, its command line, or as the reader knows)."""
        call = describe(tool, arguments)
        ours = ours or is_our_tool(tool) or is_our_command(call.command) or is_our_resource(tool, call.text)
        joint = call_id if len(call_id) >= _UNIQUE_chars else event_id
        self._calls.pop(call_id, None)
        self._calls[call_id] = [joint, ours]
        while len(self._calls) > _NUM_CALLS_KEPT:
            del self._calls[next(iter(self._calls))]
        fields = {"command": call.command, "paths": call.paths, **more}
        return self._event(event_id, "call", call.text, call_id=joint, tool=tool, ours=ours, **fields)

    def result(
        self, event_id: str, call_id: str, text: str, *, failed: bool | None = None, exit_code: int | None = None
    ) -> Event:
        """What a tool gave back."""
        joint, was_ours = self._calls.get(call_id, (call_id, False))
        text = without_base64(text)
        ours = was_ours or begins_with_brief(text)
        return self._event(event_id, "result", text, call_id=joint, failed=failed, exit_code=exit_code, ours=ours)

    def _event(self, event_id: str, kind: EventKind, text: str, **fields: Any) -> Event:
        group = "" if kind in ("prompt", "result", "summary") else self.group
        place = {"cwd": self.cwd, "branch": self.branch}
        return Event(event_id, kind, text, self.at_ms, group=group, **(place | fields))


class Transcript(Known, ABC):
    """A session of which the agent writes records."""

    @abstractmethod
    def take(self, record: Mapping[str, Any]) -> Iterator[Event]:
        """Yield the events of the next record; may raise any of ODDITIES where it is not built as expected."""


def read_lines(path: Path, cursor: Cursor, transcript: Transcript) -> Iterator[Item]:
    """Read a JSON-lines session behind `cursor`; the last item carries the transcript's context. Raises OSError."""
    yield from read_records(path, json_lines(path, cursor, slice_bytes=SLICE_bytes), transcript)


def read_document(path: Path, records: Iterable[Mapping[str, Any]], transcript: Transcript) -> Iterator[Item]:
    """Read the records of a file that is rewritten whole; a later reading begins at its start again."""
    numbered: Iterable[Decoded] = ((0, dict(record)) for record in records)
    yield from read_records(path, numbered, transcript)
    yield ReadTo(Cursor())


def read_records(path: Path, decoded: Iterable[Decoded], transcript: Transcript) -> Iterator[Item]:
    """Yield what records say, threads before their events, and at the end what was not understood."""
    announced = transcript.thread if transcript.has_spoken else None
    is_told = False  # a reading names its thread anew before the first event
    num_unknown = sum(transcript.unknown.values())
    num_odd: dict[str, int] = {}
    end: ReadTo | None = None
    for item in decoded:
        if isinstance(item, ReadTo):
            end = item
        elif isinstance(item, Unreadable):
            yield item
        else:
            line, record = item
            transcript.at_ms, transcript.group = 0, ""
            try:
                for event in transcript.take(record):
                    if transcript.thread != announced or not is_told:
                        announced, is_told = transcript.thread, True
                        yield announced
                    transcript.has_spoken = True
                    yield event
            except ODDITIES as problem:
                what = f"a record that is not built as expected ({type(problem).__name__})"
                if line:
                    yield Unreadable(str(path), line, what)
                else:
                    num_odd[what] = num_odd.get(what, 0) + 1
    if announced is not None and announced != transcript.thread:
        yield transcript.thread
    for what, num_times in num_odd.items():
        yield Unreadable(str(path), 0, f"{what} ({num_times:,} times)")
    if sum(transcript.unknown.values()) > num_unknown:
        for what, num_times in transcript.unknown.items():
            yield Unreadable(str(path), 0, f"{what} ({num_times:,} times)")
    if end is not None:
        yield replace(end, cursor=replace(end.cursor, context=transcript.context()))
