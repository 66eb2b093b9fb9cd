"""What one Crush message means: its role and parts in, events out."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ingest.readers.base import without_base64
from ingest.readers.call_ids import CallIds
from ingest.readers.calls import describe, is_shell
from ingest.readers.ours import begins_with_brief, is_only_a_brief, is_our_command, is_our_tool
from ingest.readers.outputs import nested_json
from ingest.readers.unknown import Unknown
from ingest.readers.values import ODDITIES, exit_code_in, is_failure
from ingest.readers.workdirs import workdir_of
from lmm_mcp.domain.event import Event, EventKind

_SILENT = frozenset({"finish", "binary", "image_url"})
_CWD = re.compile(r"\n*<cwd>[^<]*</cwd>\s*\Z")
_EXIT_CODE = re.compile(r"^Exit code (-?\d{1,10})\s*\Z", re.MULTILINE)
_ROLES = frozenset({"user", "assistant", "tool"})


@dataclass(frozen=True, slots=True)
class Moment:
    """The message that is read."""

    message_id: str
    at_ms: int
    cwd: str
    is_summary: bool


def events_of(
    role: object, parts: Sequence[object], moment: Moment, calls: CallIds, ours: set[str], unknown: Unknown
) -> Iterator[Event]:
    """Events of one message. `ours`: ids of calls of this memory, so far; what cannot be understood goes to `unknown`."""
    if role not in _ROLES:
        unknown.kind("role", role)
        return
    said: list[str] = []
    num_texts = num_thoughts = num_commands = 0
    for part in parts:
        try:
            assert isinstance(part, Mapping)
            kind, data = part.get("type"), part.get("data")
            if kind in _SILENT:
                continue
            if not isinstance(data, Mapping):
                raise TypeError("a part without data")
            if kind == "text" and role == "user":
                said += [_text(data, "text")] if data.get("hidden") is not True else []
            elif kind == "text":
                num_texts += 1
                yield from _prose("summary" if moment.is_summary else "reply", _text(data, "text"), num_texts, moment)
            elif kind == "reasoning":
                num_thoughts += 1
                yield from _thought(_text(data, "thinking"), num_thoughts, moment)
            elif kind == "tool_call":
                call = _call(data, moment, calls)
                if call.ours:
                    ours.add(call.id)
                yield call
            elif kind == "tool_result":
                yield _result(data, moment, calls, ours)
            elif kind == "shell_command":
                num_commands += 1
                yield from _typed_command(data, num_commands, moment)
            else:
                unknown.kind("part type", kind)
        except (AssertionError, *ODDITIES) as problem:
            unknown.odd("part", problem)
    text = without_base64("\n".join(filter(str.strip, said)))
    if text:
        yield Event(moment.message_id, "prompt", text, moment.at_ms, cwd=moment.cwd, ours=is_only_a_brief(text))


def _prose(kind: EventKind, text: str, number: int, moment: Moment) -> Iterator[Event]:
    if text.strip():
        name = moment.message_id if number == 1 else f"{moment.message_id}#{number}"
        yield Event(name, kind, without_base64(text), moment.at_ms, group=moment.message_id, cwd=moment.cwd)


def _thought(text: str, number: int, moment: Moment) -> Iterator[Event]:
    if text.strip():
        name = f"{moment.message_id}#thought{number if number > 1 else ''}"
        yield Event(name, "thought", without_base64(text), moment.at_ms, group=moment.message_id, cwd=moment.cwd)


def _call(data: Mapping[str, Any], moment: Moment, calls: CallIds) -> Event:
    tool = data["name"]
    if not isinstance(tool, str):
        raise TypeError("a call of no tool")
    arguments = nested_json(data.get("input"))
    call = describe(tool, arguments)
    call_id = calls.opened(data.get("id")) or f"{moment.message_id}#call"
    return Event(
        call_id,
        "call",
        call.text,
        moment.at_ms,
        call_id=call_id,
        tool=tool,
        command=call.command,
        paths=call.paths,
        group=moment.message_id,
        cwd=workdir_of(arguments, moment.cwd) if call.command else moment.cwd,
        ours=is_our_tool(tool) or is_our_command(call.command),
    )


def _result(data: Mapping[str, Any], moment: Moment, calls: CallIds, ours: set[str]) -> Event:
    call_id = calls.answered(data.get("tool_call_id"))
    text, tool = _text(data, "content"), _text(data, "name")
    code = None
    if is_shell(tool) or _CWD.search(text):
        text = _CWD.sub("", text)
        found = _EXIT_CODE.search(text)
        code = found[1] if found else None
    failed = data.get("is_error") is True or is_failure(code) is True
    return Event(
        f"{call_id}#result" if call_id else f"{moment.message_id}#result",
        "result",
        without_base64(text),
        moment.at_ms,
        call_id=call_id,
        exit_code=exit_code_in(code),
        failed=failed,
        cwd=moment.cwd,
        ours=call_id in ours or begins_with_brief(text),
    )


def _typed_command(data: Mapping[str, Any], number: int, moment: Moment) -> Iterator[Event]:
    """A command that the user ran from the prompt (`!ls`): a call without a model."""
    command, code = _text(data, "command"), data.get("exit_code")
    call_id = f"{moment.message_id}#{number}"
    ours = is_our_command(command)
    yield Event(
        call_id,
        "call",
        command,
        moment.at_ms,
        call_id=call_id,
        tool="shell_command",
        command=command,
        cwd=moment.cwd,
        ours=ours,
    )
    output = without_base64(_text(data, "output"))
    yield Event(
        f"{call_id}#result",
        "result",
        output,
        moment.at_ms,
        call_id=call_id,
        exit_code=exit_code_in(code),
        failed=is_failure(code),
        cwd=moment.cwd,
        ours=ours or begins_with_brief(output),
    )


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    return value if isinstance(value, str) else ""
