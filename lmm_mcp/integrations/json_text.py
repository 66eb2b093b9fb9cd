r"""Changes one member of a JSON text and leaves every other character as it is: order, indentation, line ends, all.

A path is a tuple of keys; places are looked up in the text itself, by the decoder of the standard library, so that files
of megabytes take milliseconds. What was put in at the end can be taken out again without a trace:

>>> text = '{\n    "a": [1,2]\n}\n'
>>> longer = put(text, ("servers", "lmm"), {"command": "x"})
>>> print(longer, end="")
{
    "a": [1,2],
    "servers": {
        "lmm": {
            "command": "x"
        }
    }
}
>>> drop(longer, ("servers",)) == text
True
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]  # the C one, not in the stubs
from typing import Any

Path = tuple[str | int, ...]

_BLANKS = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()
_DEFAULT_INDENT = "  "


class NoJson(ValueError):
    """The text is not what its place asks for: no JSON, or of another shape."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an object, or item of an array, and where it stands."""

    key: str | int
    start: int
    """Of its key, or of an item itself."""
    value_start: int
    end: int


def parsed(text: str) -> Any:
    """The whole as a value; a text of blanks is an empty object. Raises NoJson with the line."""
    if not text.strip():
        return {}
    try:
        return json.loads(text)
    except json.JSONDecodeError as problem:
        raise NoJson(f"line {problem.lineno}: {problem.msg}") from problem
    except RecursionError as problem:
        raise NoJson("it is nested too deeply") from problem


def put(text: str, path: Path, value: Any) -> str:
    """Set the value at `path`; objects that are missing on the way are made, and so is an item one behind an array's end.

    Raises NoJson where something else than an object or array stands on the way.
    """
    if not text.strip():
        text = "{}" + (text if "\n" in text else "\n")
    unit = _indent_of(text)
    line_end = "\r\n" if "\r\n" in text else "\n"
    at = _BLANKS.match(text)
    assert at is not None
    start = at.end()
    for depth, key in enumerate(path):
        found = members(text, start)
        known = next((each for each in reversed(found) if each.key == key), None)
        if known is None:
            rest: Any = value
            for missing in reversed(path[depth + 1 :]):
                rest = {missing: rest} if isinstance(missing, str) else [rest]
            return _added(text, start, found, key, rest, unit, line_end)
        start = known.value_start
        if depth == len(path) - 1:
            prefix = _line_prefix(text, known.start)
            return text[:start] + _dumped(value, unit, prefix, line_end, is_flat=False) + text[known.end :]
    raise NoJson("no path was given")


def drop(text: str, path: Path, *, blanks: str = "") -> str:
    """Take the member at `path` out; `blanks` is what its brackets then hold if it was the only one. Nothing there: as it is."""
    span = _find(text, path[:-1])
    if span is None:
        return text
    found = members(text, span)
    for n, each in enumerate(found):
        if each.key != path[-1]:
            continue
        if len(found) == 1:
            return text[: span + 1] + blanks + text[_end_of(text, span) - 1 :]
        if n + 1 < len(found):
            return text[: each.start] + text[found[n + 1].start :]
        return text[: found[n - 1].end] + text[each.end :]
    return text


def inside(text: str, path: Path) -> str | None:
    """What stands between the brackets at `path`; None where nothing is there."""
    span = _find(text, path)
    return None if span is None else text[span + 1 : _end_of(text, span) - 1]


def members(text: str, start: int) -> list[Member]:
    """The members of the object or array that begins at `start`. Raises NoJson where none begins there."""
    opening = text[start : start + 1]
    if opening not in ("{", "["):
        raise NoJson("something else than an object or a list stands where ours belongs")
    found: list[Member] = []
    at = _skip(text, start + 1)
    while text[at : at + 1] not in ("}", "]"):
        begins = at
        key: str | int = len(found)
        try:
            if opening == "{":
                key, at = scanstring(text, at + 1, True)
                at = _skip(text, _skip(text, at) + 1)
            value_start = at
            _, at = _DECODER.raw_decode(text, at)
        except (json.JSONDecodeError, RecursionError) as problem:
            raise NoJson(str(problem)) from problem
        found.append(Member(key, begins, value_start, at))
        at = _skip(text, at)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
    return found


def _find(text: str, path: Sequence[str | int]) -> int | None:
    start = _skip(text, 0)
    for key in path:
        found = next((each for each in reversed(members(text, start)) if each.key == key), None)
        if found is None:
            return None
        start = found.value_start
    return start if text[start : start + 1] in ("{", "[") else None


def _end_of(text: str, start: int) -> int:
    return _DECODER.raw_decode(text, start)[1]


def _added(text: str, start: int, found: list[Member], key: str | int, value: Any, unit: str, line_end: str) -> str:
    name = f"{json.dumps(key, ensure_ascii=False)}: " if isinstance(key, str) else ""
    if isinstance(key, int) != (text[start] == "[") or (isinstance(key, int) and key != len(found)):
        raise NoJson("something else than an object or a list stands where ours belongs")
    if found:
        glue = text[start + 1 : found[0].start]
        is_flat = "\n" not in glue
        prefix = glue.rpartition("\n")[2]
        if is_flat:  # members follow each other as the first two do
            glue = text[_skip(text, found[0].end) + 1 : found[1].start] if len(found) > 1 else " "
        member = name + _dumped(value, unit, prefix, line_end, is_flat=is_flat)
        at = found[-1].end
        return f"{text[:at]},{glue}{member}{text[at:]}"
    outer = _line_prefix(text, start)
    prefix = outer + unit
    member = name + _dumped(value, unit, prefix, line_end, is_flat=False)
    end = _end_of(text, start) - 1
    return f"{text[: start + 1]}{line_end}{prefix}{member}{line_end}{outer}{text[end:]}"


def _dumped(value: Any, unit: str, prefix: str, line_end: str, *, is_flat: bool) -> str:
    if is_flat:
        return json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False, indent=unit).replace("\n", line_end + prefix)


def _indent_of(text: str) -> str:
    found = re.search(r"\{[ \t]*\r?\n([ \t]+)\S", text)
    return found[1] if found else _DEFAULT_INDENT


def _line_prefix(text: str, at: int) -> str:
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _skip(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    assert found is not None
    return found.end()
