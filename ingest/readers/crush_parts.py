"""What one Crush message means: its role and parts in, events out."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ingest.readers.calls import is_shell
from ingest.readers.message_events import Calls, Spoken
from ingest.readers.outputs import nested_json
from ingest.readers.unknown import Unknown
from ingest.readers.values import ODDITIES, exit_code_in, is_failure
from lmm_mcp.domain.event import Event

_SILENT = frozenset({"finish", "binary", "image_url"})
_ROLES = frozenset({"user", "assistant", "tool"})
_CWD = re.compile(r"\n*<cwd>[^<]*</cwd>\s*\Z")
_EXIT_CODE = re.compile(r"^Exit code (-?\d{1,10})\s*\Z", re.MULTILINE)


def events_of(
    role: object, parts: Sequence[object], message: Spoken, calls: Calls, unknown: Unknown, *, is_summary: bool
) -> Iterator[Event]:
    """Events of one message; what cannot be understood goes to `unknown`."""
    if role not in _ROLES:
        unknown.kind("role", role)
        return
    typed: list[str] = []
    for part in parts:
        try:
            kind, data = _opened(part)
            if kind == "text" and role == "user":
                typed += [_text(data, "text")] if data.get("hidden") is not True else []
            elif kind == "text":
                yield from message.prose("summary" if is_summary else "reply", _text(data, "text"))
            elif kind == "reasoning":
                yield from message.prose("thought", _text(data, "thinking"))
            elif kind == "tool_call":
                yield calls.call(message, data.get("id"), _name(data), nested_json(data.get("input")))
            elif kind == "tool_result":
                yield _result(data, message, calls)
            elif kind == "shell_command":
                yield from _typed_command(data, message, calls)
            elif kind not in _SILENT:
                unknown.kind("part type", kind)
        except ODDITIES as problem:
            unknown.odd("part", problem)
    yield from message.prompt(typed)


def _opened(part: object) -> tuple[object, Mapping[str, Any]]:
    if not isinstance(part, Mapping) or not isinstance(part.get("data"), Mapping):
        raise TypeError("a part without data")
    return part.get("type"), part["data"]


def _result(data: Mapping[str, Any], message: Spoken, calls: Calls) -> Event:
    text, code = _text(data, "content"), None
    if is_shell(_text(data, "name")):
        text = _CWD.sub("", text)
        found = _EXIT_CODE.search(text)
        code = found[1] if found else None
    failed = data.get("is_error") is True or is_failure(code) is True
    return calls.result(message, data.get("tool_call_id"), text, exit_code=exit_code_in(code), failed=failed)


def _typed_command(data: Mapping[str, Any], message: Spoken, calls: Calls) -> Iterator[Event]:
    """A command that the user ran from the prompt (`!ls`): a call without a model."""
    code, name = data.get("exit_code"), f"{message.message_id}#{message.next('command')}"
    arguments = {"command": _text(data, "command")}
    yield calls.call(message, name, "shell_command", arguments, described_as="shell")
    output = _text(data, "output")
    yield calls.result(message, name, output, exit_code=exit_code_in(code), failed=is_failure(code))


def _name(data: Mapping[str, Any]) -> str:
    if not isinstance(data.get("name"), str):
        raise TypeError("a call of no tool")
    return str(data["name"])


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    return value if isinstance(value, str) else ""
