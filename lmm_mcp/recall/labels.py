"""A line of a passage in, what it belongs to out: the file of an edit, the command of an output, the column heads of a row. Pure.

A quote has to be understood by itself, and what it belongs to stands on another line.
"""

import re

from lmm_mcp.domain.chunk import Chunk, Line, parted
from lmm_mcp.domain.quoting import plain_name

MAX_COMMAND_chars = 32
MAX_HEADS_chars = 60
_PRINTED = ("output", "error")
_AROUND = re.compile(r"^(?:cd\s+\S+\s*(?:&&|;)\s*)+")
_OF_PATCH = re.compile(r"^\*\*\* (?:Update|Add|Delete) File: (?P<path>.+)$")


def label(chunk: Chunk, number: int) -> str:
    """What the line with this number belongs to, on one line and short; '' where nothing is known or it says so itself."""
    line = chunk.lines[number]
    if line.role == "edit":
        found = _file(chunk, number)
    elif line.role in _PRINTED:
        found = _command(chunk, number)
    elif _is_row(line):
        found = _heads(chunk, number)
    else:
        return ""
    return "" if found.removesuffix("…") in line.text else found.replace(": ", " ")


def _file(chunk: Chunk, number: int) -> str:
    """The name of the file that is changed, and whether that failed."""
    named = ""
    for before in reversed(chunk.lines[:number]):
        if before.span.event_id != chunk.lines[number].span.event_id:
            break
        if in_patch := _OF_PATCH.match(before.text):
            named = named or _name(in_patch["path"])
        elif before.role == "path":
            path, outcome = parted(before.text)
            failed = ", failed" if outcome else ""
            return f"{named or _name(path.partition(' ')[2])}{failed}"
        elif before.role == "command":
            return plain_name(before.text.partition(":")[0], MAX_COMMAND_chars)
    return named or (_name(chunk.files[0]) if len(chunk.files) == 1 else "")


def _command(chunk: Chunk, number: int) -> str:
    """The command that printed it."""
    for before in reversed(chunk.lines[:number]):
        if before.role == "command":
            if before.text.startswith("$ ") or ": " in before.text:
                run = _AROUND.sub("", parted(before.text)[0].removeprefix("$ "))
                return plain_name(run, MAX_COMMAND_chars)
        elif before.role not in _PRINTED:
            break
    return ""


def _heads(chunk: Chunk, number: int) -> str:
    """The first row of the table that it is a row of; '' for that row itself."""
    first = number
    while first and _is_row(chunk.lines[first - 1]) and _is_beside(chunk.lines[first - 1], chunk.lines[first]):
        first -= 1
    return plain_name(chunk.lines[first].text.strip("| "), MAX_HEADS_chars) if first < number else ""


def _is_row(line: Line) -> bool:
    text = line.text.lstrip()
    return text.startswith("|") and text.count("|") > 1


def _is_beside(before: Line, line: Line) -> bool:
    return before.role == line.role and before.span.event_id == line.span.event_id


def _name(path: str) -> str:
    return plain_name(re.split(r"[/\\]", path.rstrip("/\\"))[-1])
