r"""A tool call as a person would write it down, for agents that pass a tool's name and a JSON object of arguments.

Name and arguments in; readable text, command line and paths out. Many agents took their tools from each other, so that the
same few keys say the same: `command`; `filePath` with `oldString` and `newString`, or in snake case; `content`; a patch.
"""

import json
import posixpath
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ingest.readers.base import without_base64
from ingest.readers.claude_calls import compact_diff
from ingest.readers.codex_calls import patched_paths

_PATH_KEYS = ("filePath", "file_path", "path", "filename", "file")
_LISTS_OF_PATHS = ("paths", "files", "filePaths")
_LOOKING = ("glob", "grep", "ls", "list", "list_directory", "search", "codesearch", "tree", "sourcegraph")
"""Their `path` is where they look, not a file they touch."""
_OLD, _NEW = ("oldString", "old_string", "old_str"), ("newString", "new_string", "new_str")
_CONTENT = ("content", "file_text")
_PATCH = ("patchText", "patch", "diff")
_WORKDIR = ("workdir", "working_dir", "cwd")
_DONE = {"completed": "[x]", "in_progress": "[~]"}


class ToolCall(NamedTuple):
    """What an Event says about a call."""

    text: str
    command: str = ""
    paths: tuple[str, ...] = ()
    workdir: str = ""
    """Where it runs, as written; '' = where the session is."""


def describe(tool: str, arguments: object, *, shells: frozenset[str]) -> ToolCall:
    r"""Describe one call. Unknown tools and odd arguments come out as `key: value` lines, never as an error.

    >>> describe("bash", {"command": "make all", "description": "build"}, shells=frozenset({"bash"}))
    ToolCall(text='make all\n# build', command='make all', paths=(), workdir='')
    >>> describe("edit", {"filePath": "a.py", "oldString": "x = 1", "newString": "x = 2"}, shells=frozenset()).text
    'a.py\n-x = 1\n+x = 2'
    """
    if not isinstance(arguments, Mapping):
        return ToolCall(without_base64(_plain(arguments)) if arguments else "")
    command = _first(arguments, ("command",)) if tool in shells else ""
    if command:
        note = _first(arguments, ("description",))
        text = f"{command}\n# {note}" if note else command
        return ToolCall(without_base64(text), without_base64(command), (), _first(arguments, _WORKDIR))
    text = _edit(arguments) or _patch(arguments) or _todos(arguments) or _key_values(arguments)
    return ToolCall(without_base64(text), "", tuple(dict.fromkeys(_paths(tool, arguments))))


def joined(cwd: str, workdir: str) -> str:
    """The folder `workdir`, seen from `cwd`.

    >>> joined("/home/mira/harbour", "crane/.."), joined("/home/mira", "/srv"), joined("", "crane")
    ('/home/mira/harbour', '/srv', 'crane')
    """
    if not workdir or workdir == cwd:
        return cwd
    if not cwd or workdir.startswith(("/", "\\", "~")) or workdir[1:2] == ":":
        return workdir
    return posixpath.normpath(posixpath.join(cwd, workdir))


def _edit(arguments: Mapping[str, Any]) -> str:
    path = _first(arguments, _PATH_KEYS)
    if not path:
        return ""
    edits = arguments.get("edits")
    changes = [each for each in edits if isinstance(each, Mapping)] if isinstance(edits, list) else [arguments]
    shown = [
        compact_diff(_first(change, _OLD), _first(change, _NEW))
        for change in changes
        if any(isinstance(change.get(key), str) for key in (*_OLD, *_NEW))
    ]
    if shown:
        return "\n".join((path, *shown))
    content = _first(arguments, _CONTENT)
    return f"{path}\n{content}" if content else ""


def _patch(arguments: Mapping[str, Any]) -> str:
    return _first(arguments, _PATCH)


def _todos(arguments: Mapping[str, Any]) -> str:
    todos = arguments.get("todos")
    listed = [todo for todo in todos if isinstance(todo, Mapping)] if isinstance(todos, list) else []
    return "\n".join(f"{_DONE.get(_first(todo, ('status',)), '[ ]')} {_first(todo, ('content',))}" for todo in listed)


def _key_values(arguments: Mapping[str, Any]) -> str:
    return "\n".join(f"{key}: {_plain(value)}" for key, value in arguments.items() if value not in (None, "", [], {}))


def _paths(tool: str, arguments: Mapping[str, Any]) -> Iterator[str]:
    if tool.rpartition("__")[2] not in _LOOKING:
        for key in _PATH_KEYS:
            if (path := _first(arguments, (key,))) and "\n" not in path:
                yield path
        for key in _LISTS_OF_PATHS:
            listed = arguments.get(key)
            yield from (path for path in listed if isinstance(path, str)) if isinstance(listed, list) else ()
        yield from patched_paths(_patch(arguments))


def _first(mapping: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    return next((value for key in keys if isinstance(value := mapping.get(key), str) and value), "")


def _plain(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:
        return "(nested too deeply to show)"
