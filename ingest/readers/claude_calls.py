"""Claude Code's tool calls as a person would write them down: name and input in, readable text, command and paths out."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ingest.readers.base import without_base64

SHELLS = frozenset({"Bash", "PowerShell"})
_FOLDER_TOOLS = frozenset({"Grep", "Glob", "LS"})
"""Their `path` is where they look, not a file they touch."""
_PATH_KEYS = ("file_path", "filePath", "notebook_path", "path")
_TODO_MARKS = {"completed": "[x]", "in_progress": "[~]"}


class Call(NamedTuple):
    """What an Event says about a tool call."""

    text: str
    command: str
    paths: tuple[str, ...]


def describe(tool: str, arguments: object) -> Call:
    """Describe one call. Unknown tools and odd inputs come out as `key: value` lines, never as an error."""
    if not isinstance(arguments, Mapping):
        return Call(without_base64(_plain(arguments)) if arguments else "", "", ())
    command = _str(arguments, "command") if tool in SHELLS else ""
    text = _WRITERS.get(tool, _key_values)(arguments) or _key_values(arguments)
    return Call(without_base64(text), without_base64(command), _paths(tool, arguments))


def compact_diff(old: str, new: str) -> str:
    r"""Show what changes, line by line, with one common line on either side.

    >>> print(compact_diff("port:\n  web: 80\nend", "port:\n  web: 8080\nend"))
     port:
    -  web: 80
    +  web: 8080
     end
    """
    before, after = (text.split("\n") if text else [] for text in (old, new))
    shortest = min(len(before), len(after))
    head = next((n for n in range(shortest) if before[n] != after[n]), shortest)
    tail = next((n for n in range(shortest - head) if before[-1 - n] != after[-1 - n]), shortest - head)
    lines = [f" {before[head - 1]}"] if head else []
    lines += [f"-{line}" for line in before[head : len(before) - tail]]
    lines += [f"+{line}" for line in after[head : len(after) - tail]]
    lines += [f" {before[-tail]}"] if tail else []
    return "\n".join(lines)


def _shell(arguments: Mapping[str, Any]) -> str:
    command, description = _str(arguments, "command"), _str(arguments, "description")
    return f"{command}\n# {description}" if description else command


def _edit(arguments: Mapping[str, Any]) -> str:
    edits = arguments.get("edits")
    parts = [_str(arguments, "file_path")]
    for edit in edits if isinstance(edits, list) else [arguments]:
        if isinstance(edit, Mapping):
            everywhere = "(every occurrence)\n" if edit.get("replace_all") is True else ""
            parts.append(everywhere + compact_diff(_str(edit, "old_string"), _str(edit, "new_string")))
    return "\n".join(parts)


def _write(arguments: Mapping[str, Any]) -> str:
    return f"{_str(arguments, 'file_path')}\n{_str(arguments, 'content')}"


def _notebook(arguments: Mapping[str, Any]) -> str:
    return f"{_str(arguments, 'notebook_path')}\n{_str(arguments, 'new_source')}"


def _todos(arguments: Mapping[str, Any]) -> str:
    return "\n".join(
        f"{_TODO_MARKS.get(_str(todo, 'status'), '[ ]')} {_str(todo, 'content')}"
        for todo in _maps(arguments.get("todos"))
    )


def _questions(arguments: Mapping[str, Any]) -> str:
    lines: list[str] = []
    for question in _maps(arguments.get("questions")):
        lines.append(_str(question, "question"))
        for option in _maps(question.get("options")):
            label, description = _str(option, "label"), _str(option, "description")
            lines.append(f"- {label}: {description}" if description else f"- {label}")
    return "\n".join(lines)


def _plan(arguments: Mapping[str, Any]) -> str:
    return _str(arguments, "plan")


_WRITERS = {
    **dict.fromkeys(SHELLS, _shell),
    "Edit": _edit,
    "MultiEdit": _edit,
    "Write": _write,
    "NotebookEdit": _notebook,
    "TodoWrite": _todos,
    "AskUserQuestion": _questions,
    "ExitPlanMode": _plan,
}


def _key_values(arguments: Mapping[str, Any]) -> str:
    return "\n".join(f"{key}: {_plain(value)}" for key, value in arguments.items())


def _paths(tool: str, arguments: Mapping[str, Any]) -> tuple[str, ...]:
    if tool in _FOLDER_TOOLS:
        return ()
    return tuple(dict.fromkeys(found for key in _PATH_KEYS if (found := _str(arguments, key)) and "\n" not in found))


def _plain(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:
        return "(nested too deeply to show)"


def _str(mapping: Mapping[str, Any], key: str) -> str:
    value = mapping.get(key)
    return value if isinstance(value, str) else ""


def _maps(value: object) -> Iterable[Mapping[str, Any]]:
    return (item for item in value if isinstance(item, Mapping)) if isinstance(value, list) else ()
