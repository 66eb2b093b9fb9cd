"""What a Codex tool call asked for and what came back, taken out of its many wrappings. Pure functions over JSON values.

Commands come as text, as an argument list or inside `bash -lc`; outputs carry a frame of their own around what the tool
said. Neither is what happened: the command line is, and the output proper with its exit code.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from ingest.readers.shell import only_word
from ingest.readers.values import exit_code_in, is_failure


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call as it was meant."""

    tool: str
    text: str
    """What was asked, readable: a command line, a patch as written, what was typed, else `key: value` lines."""
    command: str = ""
    """The command line, where the tool is a shell."""
    workdir: str = ""
    """Where it runs, as written; '' = where the session is."""
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Output:
    """What a tool gave back, without the frame Codex puts around it."""

    text: str
    exit_code: int | None = None
    """None where the process still runs or the tool is none."""
    failed: bool | None = None


_SHELLS = frozenset({"exec_command", "shell", "shell_command", "local_shell", "container.exec", "unified_exec"})
_PATH_KEYS = ("path", "file_path", "file", "filename", "paths", "files")
_PATCHED = re.compile(r"^\*\*\* (?:(?:Update|Add|Delete) File|Move to): ([^\n]+)", re.MULTILINE)
_PATCH_COMMAND = re.compile(
    r"\s*(?:cd (?P<folder>\S+) && )?apply_patch\s*<<-?\s*(?P<quote>['\"]?)(?P<end>\w+)(?P=quote)\n(?P<patch>.*?\n)(?P=end)\s*",
    re.DOTALL,
)


def read_call(item: Mapping[str, Any]) -> Call:
    """Read a `function_call`, `custom_tool_call`, `local_shell_call`, `web_search_call` or `image_generation_call`."""
    kind, tool = item.get("type"), _tool_name(item)
    if kind == "local_shell_call":
        action = _mapping(item.get("action"))
        return _shell_call("local_shell", action.get("command"), _text(action.get("working_directory")))
    if kind == "web_search_call":
        return Call("web_search", "\n".join(_fields(_mapping(item.get("action")), skip=("type",))))
    if kind == "image_generation_call":  # its result is the picture itself, in base64
        return Call("image_generation", _text(item.get("revised_prompt")))
    if kind == "custom_tool_call":
        written = _text(item.get("input"))
        return Call(tool, written, paths=patched_paths(written))
    written = _text(item.get("arguments"))
    try:
        arguments = _mapping(orjson.loads(written))
    except orjson.JSONDecodeError:
        arguments = {}
    if not arguments:
        return Call(tool, "" if written == "{}" else written, paths=patched_paths(written))
    return _function_call(tool, arguments)


def _function_call(tool: str, arguments: Mapping[str, Any]) -> Call:
    if tool in _SHELLS:
        command = next((arguments[key] for key in ("cmd", "command", "input") if arguments.get(key)), "")
        return _shell_call(tool, command, _text(arguments.get("workdir")))
    if tool == "write_stdin":  # goes on with a process that runs already: no command of its own
        return Call(tool, _text(arguments.get("chars")))
    if tool == "apply_patch":
        patch = _text(arguments.get("input") or arguments.get("patch"))
        return Call(tool, patch, paths=patched_paths(patch))
    named = (arguments[key] for key in _PATH_KEYS if key in arguments)
    paths = [path for value in named for path in (value if isinstance(value, list) else [value])]
    return Call(tool, "\n".join(_fields(arguments)), paths=_each_once(path for path in paths if isinstance(path, str)))


def _shell_call(tool: str, command: object, workdir: str) -> Call:
    if isinstance(command, list) and len(command) == 2 and command[0] == "apply_patch":
        return Call(tool, _text(command[1]), workdir=workdir, paths=patched_paths(_text(command[1])))
    line = command_line(command)
    if "*** Begin Patch" not in line:
        return Call(tool, line, command=line, workdir=workdir)
    if patch := _PATCH_COMMAND.fullmatch(line):  # an edit that only happens to go through a shell
        folder = patch["folder"] or workdir
        return Call(tool, patch["patch"], workdir=folder, paths=patched_paths(patch["patch"]))
    return Call(tool, line, command=line, workdir=workdir, paths=patched_paths(line))


def patched_paths(patch: str) -> tuple[str, ...]:
    r"""Files that a patch in `apply_patch` form touches, as written there.

    >>> patched_paths("*** Begin Patch\n*** Update File: src/till.py\n@@\n-a\n+b\n*** End Patch")
    ('src/till.py',)
    """
    return _each_once(filter(None, map(str.strip, _PATCHED.findall(patch)))) if "*** " in patch else ()


_UNIX_SHELLS = frozenset({"bash", "sh", "zsh", "dash", "ksh", "fish"})
_WRAPPED = re.compile(r"^(?:\S*/)?(?:bash|zsh|sh) -l?c (?=['\"])")


def command_line(command: object) -> str:
    r"""Undo the wrapping of a command: what a person would have typed.

    >>> command_line(["bash", "-lc", "pytest -q | tail"]), command_line(["git", "commit", "-m", "open the till"])
    ('pytest -q | tail', "git commit -m 'open the till'")
    >>> command_line("bash -lc 'ls src'")
    'ls src'
    >>> command_line([r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe", "-NoProfile", "-Command", "dir"])
    'dir'
    """
    if isinstance(command, str):
        if wrapping := _WRAPPED.match(command):
            inner = only_word(command[wrapping.end() :].strip())
            return command if inner is None else inner
        return command
    if not isinstance(command, list) or not command:
        return ""
    argv = [_text(part) for part in command]
    program = re.split(r"[/\\]", argv[0])[-1].lower().removesuffix(".exe")
    if len(argv) > 2 and program in _UNIX_SHELLS and argv[-2].startswith("-") and argv[-2].endswith("c"):
        return argv[-1]
    if program in ("powershell", "pwsh", "cmd"):
        for at, part in enumerate(argv[:-1]):
            if part.lower() in ("-command", "-c", "/c"):
                return " ".join(argv[at + 1 :])
    return shlex.join(argv)


_FRAME = re.compile(
    r"\A(?:(?:Exit code|Chunk ID|Wall time|Process exited with code|Process running with session ID"
    r"|Original token count|Total output lines)\b[^\n]*\n)+Output:(?:\n|\Z)(?:Total output lines: \d+\n\n?)?"
)
_EXIT_CODE = re.compile(r"^(?:Exit code: |Process exited with code )(-?[0-9]+)", re.MULTILINE)
_FAILED = re.compile(
    r"apply_patch verification failed|(?:exec_command|write_stdin|apply_patch) failed|execution error\b"
    r"|failed to parse function arguments|unsupported (?:custom tool )?call\b|failed in sandbox\b|command timed out\b"
)


def read_output(value: object) -> Output:
    r"""Take the frame off a tool's output and the exit code out of it.

    >>> read_output("Exit code: 0\nWall time: 0.1 seconds\nOutput:\n3 passed\n")
    Output(text='3 passed\n', exit_code=0, failed=False)
    >>> read_output("Chunk ID: 4fa1\nWall time: 1.0 seconds\nProcess running with session ID 7\nOutput:\n...")
    Output(text='...', exit_code=None, failed=None)
    >>> read_output('{"output":"no such file","metadata":{"exit_code":2,"duration_seconds":0.1}}')
    Output(text='no such file', exit_code=2, failed=True)
    """
    success: bool | None = None
    if isinstance(value, Mapping):
        success = value["success"] if isinstance(value.get("success"), bool) else None
        value = value.get("content") or value.get("output")
    text = text_of(value)
    if text.startswith('{"output":'):
        try:
            framed = orjson.loads(text)
        except orjson.JSONDecodeError:  # the tool's own words after all
            framed = None
        if isinstance(framed, dict) and isinstance(framed.get("metadata"), dict):
            code = framed["metadata"].get("exit_code")
            if (failed := is_failure(code)) is not None:
                return Output(_text(framed["output"]), exit_code_in(code), failed)
            text = _text(framed["output"])
    if frame := _FRAME.match(text):
        code_line = _EXIT_CODE.search(frame[0])
        text = text[frame.end() :]
        if code_line:
            return Output(text, exit_code_in(code_line[1]), is_failure(code_line[1]))
    elif _FAILED.match(text):
        return Output(text, failed=True)
    return Output(text, failed=None if success is None else not success)


def text_of(content: object) -> str:
    r"""Take the text out of a content value: plain text, or parts that hold text; images and ciphertext are left out.

    >>> text_of([{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "data:"}, {"text": "b"}])
    'a\nb'
    """
    if isinstance(content, list):
        return "\n".join(
            part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
    return _text(content)


def _tool_name(item: Mapping[str, Any]) -> str:
    name, namespace = _text(item.get("name")), _text(item.get("namespace"))
    return f"{namespace}__{name.lstrip('_')}" if namespace else name


def _fields(arguments: Mapping[str, Any], skip: tuple[str, ...] = ()) -> Iterator[str]:
    for key, value in arguments.items():
        if key == "plan" and isinstance(value, list):
            for step in value:
                done = _mapping(step)
                yield f"[{_text(done.get('status'))}] {_text(done.get('step'))}"
        elif value not in (None, "", [], {}) and key not in skip:
            yield f"{key}: {value if isinstance(value, str) else orjson.dumps(value).decode()}"


def _each_once(paths: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(paths))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
