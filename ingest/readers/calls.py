"""Tool calls of agents whose tools resemble each other: a name and arguments in; readable text, command line and paths out.

Agents call the same argument by a dozen names (`old_string`, `old_str`, `oldText`), but a name never means two things. So a
call is told by what it carries; only shells, and tools that look into folders, are known by name.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from ingest.readers.base import without_base64
from ingest.readers.claude_calls import Call, compact_diff
from ingest.readers.codex_calls import command_line, patched_paths

_SHELLS = frozenset(
    """bash sh zsh shell powershell pwsh cmd terminal execute execute_bash execute_command run_shell_command run_command
    run_terminal_command run_in_terminal runcommands exec exec_command run runinterminal bash_tool local_shell
    run_terminal_cmd run_terminal_command_v2 copilot_runinterminal runcommand executebash executepwsh shell_command""".split()
)
_LOOKING = frozenset(
    """grep glob ls list list_directory list_dir search_file_content find rg search codebase_search grep_search
    find_path glob_file_search ripgrep_raw_search list_dir_v2 copilot_listdirectory""".split()
)
"""Their path is where they look, not a file they touch."""
_COMMANDS = ("command", "cmd", "script", "commandLine", "command_line")
_PATHS = tuple(
    """file_path filePath filepath path absolute_path notebook_path filename file target_file targetFile target_notebook
    relativeWorkspacePath relative_workspace_path""".split()
)
_CHANGE_LISTS = ("edits", "replacements", "operations")
_FILE_LISTS = ("paths", "files", "file_paths")
_BEFORE = ("old_string", "old_str", "oldText", "old_text", "oldString", "oldStr", "search")
_AFTER = ("new_string", "new_str", "newText", "new_text", "newString", "newStr", "replace")
_CONTENTS = ("content", "file_text", "contents", "new_source", "text", "code_edit", "contentsAfterEdit", "code")
_PATCHES = ("patch", "input", "diff", "patch_text", "patchText")
_TODO_LISTS = ("todos", "plan", "task_list", "tasks")
_TODO_MARKS = {"completed": "[x]", "done": "[x]", "in_progress": "[~]", "in-progress": "[~]"}


def is_shell(tool: str) -> bool:
    """Whether a tool runs command lines.

    >>> is_shell("run_shell_command"), is_shell("Execute"), is_shell("read_file")
    (True, True, False)
    """
    return tool.lower() in _SHELLS


def describe(tool: str, arguments: object) -> Call:
    r"""Describe one call. Unknown tools and odd arguments come out as `key: value` lines, never as an error.

    >>> describe("replace", {"file_path": "till.py", "old_string": "80", "new_string": "8080"})
    Call(text='till.py\n-80\n+8080', command='', paths=('till.py',))
    >>> describe("Execute", '{"command": "pytest -q"}').command
    'pytest -q'
    """
    if isinstance(arguments, str):
        arguments = _decoded(arguments)
    if not isinstance(arguments, Mapping):
        text = without_base64(_plain(arguments)) if arguments else ""
        return Call(text, "", patched_paths(text))
    if is_shell(tool) and (command := _command(arguments)):
        why = first_text(arguments, ("description",))
        return Call(without_base64(f"{command}\n# {why}" if why else command), without_base64(command), ())
    text, paths = _edit(arguments) or _todos(arguments) or _key_values(arguments), _paths(tool, arguments)
    return Call(without_base64(text), "", paths or patched_paths(text))


def first_text(arguments: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    """The first of these fields that holds a text; '' where none does."""
    return next((value for key in keys if isinstance(value := arguments.get(key), str) and value), "")


def _decoded(written: str) -> object:
    try:
        return orjson.loads(written) if written else {}
    except orjson.JSONDecodeError:
        return written


def _command(arguments: Mapping[str, Any]) -> str:
    given = next((value for key in _COMMANDS if (value := arguments.get(key))), "")
    return command_line(given) if isinstance(given, str | list) else ""


def _edit(arguments: Mapping[str, Any]) -> str:
    """A change of a file: what goes and what comes, the content written, or the patch as it stands; '' for other calls."""
    path = first_text(arguments, _PATHS)
    patch = first_text(arguments, _PATCHES)
    if "*** Begin Patch" in patch or patch.startswith(("--- ", "diff --git ", "@@ ")):
        return patch
    edits = arguments.get("edits") or arguments.get("replacements")
    parts = [
        _change(edit, path)
        for edit in (edits if isinstance(edits, list) else [arguments])
        if isinstance(edit, Mapping) and any(isinstance(edit.get(key), str) for key in (*_BEFORE, *_AFTER))
    ]
    if not parts and path and not isinstance(arguments.get("insert_line"), int):
        parts = [content] if (content := first_text(arguments, _CONTENTS)) else []
    return "\n".join((path, *parts) if path else parts) if parts else ""


def _change(edit: Mapping[str, Any], path: str) -> str:
    changed = compact_diff(first_text(edit, _BEFORE), first_text(edit, _AFTER))
    own = first_text(edit, _PATHS)
    return f"{own}\n{changed}" if own and own != path else changed


def _todos(arguments: Mapping[str, Any]) -> str:
    for key in _TODO_LISTS:
        if isinstance(steps := arguments.get(key), list) and steps and all(isinstance(step, Mapping) for step in steps):
            return "\n".join(
                f"{_TODO_MARKS.get(str(step.get('status')), '[ ]')} {first_text(step, ('content', 'step', 'title', 'description'))}"
                for step in steps
            )
    return ""


def _key_values(arguments: Mapping[str, Any]) -> str:
    return "\n".join(f"{key}: {_plain(value)}" for key, value in arguments.items() if value not in (None, "", [], {}))


def _paths(tool: str, arguments: Mapping[str, Any]) -> tuple[str, ...]:
    if tool.lower() in _LOOKING:
        return ()
    return tuple(dict.fromkeys(path for path in _named(arguments) if path and "\n" not in path))


def _named(arguments: Mapping[str, Any]) -> Iterator[str]:
    for key in _PATHS:
        if isinstance(value := arguments.get(key), str):
            yield value
    for key in (*_FILE_LISTS, *_CHANGE_LISTS):
        if isinstance(several := arguments.get(key), list):
            yield from (value for value in several if isinstance(value, str))
            yield from (first_text(value, _PATHS) for value in several if isinstance(value, Mapping))


def _plain(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (RecursionError, ValueError):
        return "(nested too deeply to show)"
