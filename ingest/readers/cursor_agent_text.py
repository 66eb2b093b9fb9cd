"""cursor-agent's oldest transcripts, plain text: lines in, records out as its JSON lines have them.

A line `user:` or `assistant:` begins a message; within one, `[Thinking]`, `[Tool call] name` and `[Tool result] name` begin a
piece that goes on as long as lines are indented or empty.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

from ingest.readers.base import MAX_LINE_bytes
from ingest.readers.opening import open_file
from ingest.readers.outputs import nested_json

_ROLE = re.compile(r"^(user|assistant):[ \t]*$", re.MULTILINE)
_PIECE = re.compile(r"^\s*\[(Thinking|Tool call|Tool result)\][ \t]*(.*)$")
_ARGUMENT = re.compile(r"^\s*([A-Za-z_]\w*)[ \t]*=[ \t]?(.*)$")


def records_in(path: Path) -> Iterator[dict[str, Any]]:
    """The messages of a transcript. Raises OSError."""
    with open_file(path) as stream:
        text = stream.read(MAX_LINE_bytes).decode("utf-8", "replace").replace("\r\n", "\n")
    _, *parts = _ROLE.split(text)
    for role, body in zip(parts[::2], parts[1::2], strict=True):
        content = list(_pieces(body)) if role == "assistant" else [{"type": "text", "text": body.strip()}]
        yield {"role": role, "message": {"content": content}}


def _pieces(body: str) -> Iterator[dict[str, Any]]:
    kind, label, lines = "text", "", list[str]()
    for line in body.split("\n"):
        begins = _PIECE.match(line)
        ends = kind != "text" and line.strip() and not line[0].isspace()
        if begins or ends:
            yield from _piece(kind, label, lines)
            kind, label, lines = (begins[1], begins[2].strip(), []) if begins else ("text", "", [line])
        else:
            lines.append(line)
    yield from _piece(kind, label, lines)


def _piece(kind: str, label: str, lines: list[str]) -> Iterator[dict[str, Any]]:
    body = dedent("\n".join(lines)).strip()
    if kind == "Tool call":
        yield {"type": "tool_use", "name": label, "input": _arguments(body)}
    elif kind == "Tool result":
        if body:
            yield {"type": "tool_result", "tool_use_id": "", "content": body}
    elif kind == "Thinking":
        yield {"type": "thinking", "thinking": f"{label}\n{body}".strip()}
    elif body:
        yield {"type": "text", "text": body}


def _arguments(body: str) -> Any:
    found = nested_json(body)
    if found is not body or not body:
        return found or {}
    pairs = [_ARGUMENT.match(line) for line in body.split("\n") if line.strip()]
    return {pair[1]: pair[2] for pair in pairs if pair} if all(pairs) else body
