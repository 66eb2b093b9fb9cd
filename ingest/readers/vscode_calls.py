"""Tool calls of a VS Code chat: what the chat view kept of a call, and what the model asked and was given.

The first stands among the parts of an answer, with an exit code or a message for the reader; the second, in full, beside the
answer, once that is finished. Older versions gave the two different ids; then they are paired in their order.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ingest.readers.calls import describe
from ingest.readers.outputs import nested_json, output_text
from ingest.readers.values import exit_code_in, is_failure
from ingest.readers.workspaces import path_of

_LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]*)\)")
_ERROR = re.compile(r"\s*ERROR(?::| while calling tool)")
_DENIED = 0
_MAX_DEPTH = 60


@dataclass(frozen=True, slots=True)
class Asked:
    """A call as the model made it."""

    arguments: Any
    answer: Any
    """What it was given back; None where that was not kept."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """A call as it is told."""

    arguments: Any
    command: str
    cwd: str
    paths: tuple[str, ...]
    answer: str
    answer_paths: tuple[str, ...]
    exit_code: int | None
    failed: bool | None

    @property
    def has_answer(self) -> bool:
        """Whether anything is known of how it ended."""
        return bool(self.answer.strip() or self.answer_paths or self.failed or self.exit_code is not None)


def asked_in(request: Mapping[str, Any]) -> dict[str, Asked]:
    """The calls of a request by the model's ids, in their order; {} while it is being answered."""
    metadata = _mapping(_mapping(request.get("result")).get("metadata"))
    answers = _mapping(metadata.get("toolCallResults"))
    rounds = metadata.get("toolCallRounds")
    found: dict[str, Asked] = {}
    for each in rounds if isinstance(rounds, list) else []:
        calls = _mapping(each).get("toolCalls")
        for call in calls if isinstance(calls, list) else []:
            if isinstance(name := _mapping(call).get("id"), str):
                found[name] = Asked(nested_json(call.get("arguments")), answers.get(name))
    return found


def paired(parts: Sequence[Mapping[str, Any]], asked: Mapping[str, Asked]) -> list[Asked | None]:
    """For each call of the chat view what the model asked: by its id, else by its place if there are as many."""
    names = [str(part.get("toolCallId") or "") for part in parts]
    if any(name in asked for name in names):
        return [asked.get(name) for name in names]
    return list(asked.values()) if len(asked) == len(parts) else [None] * len(parts)


def invocation(part: Mapping[str, Any], asked: Asked | None) -> Invocation:
    """All that is known of a call."""
    data = _mapping(part.get("toolSpecificData"))
    details = part.get("resultDetails")
    message = part.get("invocationMessage")
    command = _command(data)
    shown = data.get("terminalCommandOutput")
    code = exit_code_in(_mapping(data.get("terminalCommandState")).get("exitCode"))
    answer = output_text(shown) or (_told(asked.answer) if asked else "") or _details_text(details) or _subagents(data)
    files = tuple(dict.fromkeys(_files(details)))
    arguments = _arguments(part, data, asked)
    paths = describe("", arguments).paths if isinstance(arguments, Mapping) else ()
    return Invocation(
        arguments=arguments if arguments else plain(message),
        command=command,
        cwd=path_of(data.get("cwd")),
        paths=() if paths else tuple(dict.fromkeys(_linked(message))),
        answer=answer or ("" if files else plain(part.get("pastTenseMessage"))),
        answer_paths=files,
        exit_code=code,
        failed=_failed(part, details, code, answer),
    )


def plain(message: object) -> str:
    """A message of the chat view without its markdown links.

    >>> plain({"value": "Reading [](file:///srv/till.py#1-9) of [the till](file:///srv)"})
    'Reading /srv/till.py of the till'
    """
    text = message.get("value") if isinstance(message, Mapping) else message
    if not isinstance(text, str):
        return ""
    return _LINK.sub(lambda link: link[1] or path_of(link[2].partition("#")[0]) or link[2], text)


def _arguments(part: Mapping[str, Any], data: Mapping[str, Any], asked: Asked | None) -> Any:
    details = _mapping(part.get("resultDetails"))
    found = asked.arguments if asked else None
    if found in (None, "", {}):
        found = nested_json(data.get("rawInput")) or nested_json(details.get("input"))
    if found in (None, "", {}) and isinstance(todos := data.get("todoList"), list):
        found = {"todos": todos}
    if found in (None, "", {}):
        found = {key: value for key in ("description", "prompt") if (value := data.get(key))}
    command = _command(data)
    return {**(found if isinstance(found, Mapping) else {}), "command": command} if command else found


def _command(data: Mapping[str, Any]) -> str:
    """The command line as it was run: a person may have changed what the model wanted."""
    line = _mapping(data.get("commandLine"))
    given = [line.get(key) for key in ("userEdited", "toolEdited", "original")] + [data.get("command")]
    return next((value for value in given if isinstance(value, str) and value), "") if _is_terminal(data) else ""


def _is_terminal(data: Mapping[str, Any]) -> bool:
    return data.get("kind") == "terminal"


def _subagents(data: Mapping[str, Any]) -> str:
    return output_text(data.get("result")) if data.get("kind") == "subagent" else ""


def _told(answer: object) -> str:
    """The text of an answer, which may be a tree of what was rendered into the prompt."""
    content = _mapping(answer).get("content")
    return "\n".join(text for part in (content if isinstance(content, list) else []) if (text := _part_text(part)))


def _part_text(part: object) -> str:
    value = part.get("value") if isinstance(part, Mapping) else part
    node = _mapping(value).get("node")
    if not isinstance(node, Mapping):
        return output_text(value)
    told: list[str] = []
    for text, on_new_line in _leaves(node):
        told.append("\n" if on_new_line and told and not told[-1].endswith("\n") else "")
        told.append(text)
    return "".join(told).strip("\n")


def _leaves(node: object, depth: int = 0) -> Iterator[tuple[str, bool]]:
    if not isinstance(node, Mapping) or depth > _MAX_DEPTH:
        return
    if isinstance(text := node.get("text"), str):
        yield text, node.get("lineBreakBefore") is True
    children = node.get("children")
    for child in children if isinstance(children, list) else []:
        yield from _leaves(child, depth + 1)


def _details_text(details: object) -> str:
    """What a tool of a server gave back."""
    return output_text(details.get("output")) if isinstance(details, Mapping) else ""


def _files(details: object) -> Iterator[str]:
    for item in details if isinstance(details, list) else []:
        if path := path_of(_mapping(item).get("uri") or item):
            yield path


def _linked(message: object) -> Iterator[str]:
    yield from (path for uri in _mapping(_mapping(message).get("uris")) if (path := path_of(uri.partition("#")[0])))


def _failed(part: Mapping[str, Any], details: object, code: int | None, answer: str) -> bool | None:
    confirmed = part.get("isConfirmed")
    if confirmed is False or _mapping(confirmed).get("type") == _DENIED:
        return True
    if code is not None:
        return is_failure(code)
    if isinstance(said := _mapping(details).get("isError"), bool):
        return said
    return True if _ERROR.match(answer) else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
