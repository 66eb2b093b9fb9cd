"""What one OpenCode message means: a message with its parts in, events out.

A part holds a call and its result in one record that is rewritten while the tool runs; both events are named by the part, so
what is read later takes the place of what was read before. Text that OpenCode puts into the user's mouth is marked
`synthetic`. The same in all of its stores, and in those of its forks.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ingest.readers.base import parse_time_ms, without_base64
from ingest.readers.calls import describe, is_shell
from ingest.readers.ours import begins_with_brief, is_only_a_brief, is_our_command, is_our_resource, is_our_tool
from ingest.readers.unknown import Unknown
from ingest.readers.values import ODDITIES, Naming, exit_code_in, id_in, is_failure
from ingest.readers.workdirs import workdir_of
from lmm_mcp.domain.event import Event, EventId, EventKind, Thread

_SILENT = frozenset({"step-start", "step-finish", "snapshot", "patch", "file", "agent", "retry", "compaction"})
"""Bookkeeping, data URLs, and mentions that stand in the text as well."""
_PLACEHOLDER = re.compile(r"(?:New|Child) session - \d{4}-\d\d-\d\dT[\d:.]+Z")
_NO_ID = "REDACTED"
"""What tools that clean transcripts leave of an id: it names nothing."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session as its store describes it."""

    id: str
    root: str
    """The main line at the root of its tree; its own id where it is that."""
    parent: str = ""
    title: str = ""
    directory: str = ""
    forked_from: str = ""

    def thread(self, agent: str) -> Thread:
        """The transcript that its events belong to."""
        title = "" if _PLACEHOLDER.fullmatch(self.title) else self.title
        return Thread(
            agent, self.root, self.id, title, self.directory, forked_from=self.forked_from, parent=self.parent
        )


@dataclass(frozen=True, slots=True)
class Message:
    """One message: what is said of it, and its parts in their order."""

    id: str
    info: Mapping[str, Any]
    parts: Sequence[Mapping[str, Any]]
    at_ms: int = 0
    """When its store says it was made, for messages that do not say it themselves."""


def own_id(value: object) -> str:
    """An id as OpenCode gave it; '' where there is none."""
    return "" if value == _NO_ID else id_in(value)


def events_of(message: Message, session: Session, naming: Naming, unknown: Unknown) -> Iterator[Event]:
    """Events of one message; what cannot be understood is noted in `unknown`."""
    role = message.info.get("role")
    if role == "user":
        yield from _prompt(message, session, naming, unknown)
    elif role == "assistant":
        for part in message.parts:
            try:
                yield from _part(part, message, session, naming, unknown)
            except ODDITIES as problem:
                unknown.odd("part", problem)
    else:
        unknown.kind("role", role)


def _prompt(message: Message, session: Session, naming: Naming, unknown: Unknown) -> Iterator[Event]:
    said: list[str] = []
    for part in message.parts:
        kind = part.get("type")
        if kind == "text":
            text = part.get("text")
            if not isinstance(text, str):
                unknown.odd("part", TypeError())
            elif part.get("synthetic") is not True and part.get("ignored") is not True:
                said.append(text)
        elif kind == "subtask":  # what the sub-agent is told stands in its own session
            command, about = _text(part.get("command")), _text(part.get("description"))
            said.append(f"/{command}: {about}" if command else _text(part.get("prompt")) or about)
        elif kind not in _SILENT:
            unknown.kind("part type", kind)
    text = without_base64("\n".join(filter(str.strip, said)))
    if text:
        at_ms = _created_ms(message)
        yield Event(
            message.id or naming.name("user", text, str(at_ms)),
            "prompt",
            text,
            at_ms,
            cwd=session.directory,
            ours=is_only_a_brief(text),
        )


def _part(
    part: Mapping[str, Any], message: Message, session: Session, naming: Naming, unknown: Unknown
) -> Iterator[Event]:
    kind = part.get("type")
    if kind == "text":
        # The answer to a compaction request is the summary that the session goes on from.
        yield from _prose("summary" if message.info.get("summary") is True else "reply", part, message, session, naming)
    elif kind == "reasoning":
        yield from _prose("thought", part, message, session, naming)
    elif kind == "tool":
        yield from _tool(part, message, session, naming, unknown)
    elif kind not in _SILENT and kind != "subtask":
        unknown.kind("part type", kind)


def _prose(
    kind: EventKind, part: Mapping[str, Any], message: Message, session: Session, naming: Naming
) -> Iterator[Event]:
    text = part["text"]
    if not isinstance(text, str):
        raise TypeError("text is no text")
    if text.strip():
        start = parse_time_ms(_mapping(part.get("time")).get("start"))
        yield Event(
            _part_id(part, message, naming, text),
            kind,
            without_base64(text),
            start or _created_ms(message),
            group=message.id,
            cwd=_cwd(message, session),
        )


def _tool(
    part: Mapping[str, Any], message: Message, session: Session, naming: Naming, unknown: Unknown
) -> Iterator[Event]:
    tool, state = part["tool"], part["state"]
    if not isinstance(tool, str) or not isinstance(state, Mapping):
        raise TypeError("a call of no tool")
    status = state.get("status")
    call = describe(tool, state.get("input"))
    part_id = _part_id(part, message, naming, f"{tool}\n{call.text}")
    time = _mapping(state.get("time"))
    start = parse_time_ms(time.get("start")) or _created_ms(message)
    cwd = _cwd(message, session)
    ours = is_our_tool(tool) or is_our_command(call.command) or is_our_resource(tool, call.text)
    yield Event(
        part_id,
        "call",
        call.text,
        start,
        call_id=part_id,
        tool=tool,
        command=call.command,
        paths=call.paths,
        group=message.id,
        cwd=workdir_of(state.get("input"), cwd) if call.command else cwd,
        ours=ours,
    )
    if status not in ("completed", "error"):
        if status not in ("pending", "running"):
            unknown.kind("tool status", status)
        return
    metadata = _mapping(state.get("metadata"))
    output = without_base64(_text(state.get("output" if status == "completed" else "error")))
    yield Event(
        f"{part_id}#result",
        "result",
        output,
        parse_time_ms(time.get("end")) or start,
        call_id=part_id,
        exit_code=exit_code_in(metadata.get("exit")),
        failed=_failed(tool, status, metadata),
        cwd=cwd,
        ours=ours or begins_with_brief(output),
    )


def _failed(tool: str, status: str, metadata: Mapping[str, Any]) -> bool | None:
    if status == "error" or tool == "invalid":  # a call that could not be made is answered by a tool of that name
        return True
    return is_failure(metadata.get("exit")) if is_shell(tool) else False


def _part_id(part: Mapping[str, Any], message: Message, naming: Naming, said: str) -> EventId:
    return own_id(part.get("id")) or naming.name(message.id, _text(part.get("type")), said)


def _created_ms(message: Message) -> int:
    return parse_time_ms(_mapping(message.info.get("time")).get("created")) or message.at_ms


def _cwd(message: Message, session: Session) -> str:
    return _text(_mapping(message.info.get("path")).get("cwd")) or session.directory


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
