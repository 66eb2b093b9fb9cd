"""Tool calls of Cline and its forks: native blocks and the older tags in text in, readable text, command and paths out."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ingest.readers import calls
from ingest.readers.base import without_base64
from ingest.readers.values import exit_code_in


class Call(NamedTuple):
    """A tool call as it was meant."""

    tool: str
    text: str
    """What was asked, readable."""
    command: str = ""
    paths: tuple[str, ...] = ()
    workdir: str = ""
    """Where it runs, '' = where the session is."""


class TaggedCall(NamedTuple):
    """A call that stands in the agent's prose, in tags."""

    tool: str
    arguments: dict[str, str]


class Outcome(NamedTuple):
    """What a tool gave back, without the frame around it."""

    text: str
    exit_code: int | None = None
    failed: bool | None = None


SPEAKING = {
    "attempt_completion": "result",
    "ask_followup_question": "question",
    "ask_question": "question",
    "plan_mode_respond": "response",
    "plan_mode_response": "response",
    "act_mode_respond": "response",
    "submit_and_exit": "summary",
}
"""Tools by which the agent only speaks to the user, and where what it says stands."""
_TAGGED = (
    *SPEAKING,
    *"""execute_command read_file write_to_file replace_in_file apply_diff insert_content search_and_replace search_files
    list_files list_code_definition_names browser_action use_mcp_tool access_mcp_resource load_mcp_documentation new_task
    switch_mode fetch_instructions update_todo_list codebase_search condense summarize_task new_rule web_fetch web_search
    edit_file apply_patch generate_image run_slash_command report_bug focus_chain use_subagents""".split(),
)
_OPENING = re.compile(rf"<({'|'.join(_TAGGED)})>")
_PARAMETER = re.compile(r"<([a-z_]+)>")
_WHOLE = frozenset({"content", "diff", "result", "response", "arguments"})
"""Parameters that may hold tags of their own: they end with the last closing tag."""
_LOOKING = frozenset("list_files search_files list_code_definition_names codebase_search search_codebase".split())
"""Their path is where they look, not a file they touch."""
_TAGGED_PATH = re.compile(r"<path>([^<\n]+)</path>")
_MCP_NATIVE = re.compile(r"^(?:mcp--)?(.+?)(?:0mcp0|--|__)(.+)$")


def describe(tool: str, arguments: object) -> Call:
    """Describe one call. Unknown tools and odd inputs come out as `key: value` lines, never as an error."""
    given = arguments if isinstance(arguments, Mapping) else {}
    if tool == "use_mcp_tool":
        name = f"{_str(given, 'server_name')}__{_str(given, 'tool_name')}"
        return Call(name, calls.describe(name, given.get("arguments")).text)
    if tool == "run_commands":
        commands = given.get("commands")
        line = "\n".join(
            item if isinstance(item, str) else _str(item, "command")
            for item in (commands if isinstance(commands, list) else [commands])
        )
        return Call(tool, without_base64(line), without_base64(line))
    text, command, paths = calls.describe(tool, arguments)
    if _str(given, "diff") and _str(given, "path"):
        text = without_base64(f"{_str(given, 'path')}\n{_str(given, 'diff')}")
    if tool not in _LOOKING:
        paths = tuple(dict.fromkeys((*paths, *_listed(given))))
    return Call(tool, text, command, () if tool in _LOOKING else paths, _str(given, "cwd") if command else "")


def mcp_name(tool: str) -> str:
    """A tool's name with its server's before it, however the agent joins the two.

    >>> mcp_name("mcp--lmm--recall"), mcp_name("c1lmm0mcp0recall"), mcp_name("lmm__recall"), mcp_name("read_file")
    ('lmm__recall', 'c1lmm__recall', 'lmm__recall', 'read_file')
    """
    found = _MCP_NATIVE.match(tool)
    return f"{found[1]}__{found[2]}" if found else tool


def tagged(text: str) -> Iterator[str | TaggedCall]:
    """Take an agent's words apart into prose and the calls that stand in them, in order.

    >>> list(tagged("Look. <read_file><path>a.py</path></read_file>"))
    ['Look. ', TaggedCall(tool='read_file', arguments={'path': 'a.py'})]
    """
    told = at = 0
    unclosed: set[str] = set()
    while (opening := _OPENING.search(text, at)) is not None:
        tool, closing = opening[1], f"</{opening[1]}>"
        end = -1 if tool in unclosed else text.find(closing, opening.end())
        if end < 0:  # a tag that is only spoken of, or a call cut off: words
            unclosed.add(tool)
            at = opening.end()
            continue
        if opening.start() > told:
            yield text[told : opening.start()]
        yield TaggedCall(tool, _parameters(text[opening.end() : end]))
        told = at = end + len(closing)
    if told < len(text):
        yield text[told:]


def _parameters(body: str) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    while (opening := _PARAMETER.search(body, at)) is not None:
        name, closing = opening[1], f"</{opening[1]}>"
        end = body.rfind(closing) if name in _WHOLE else body.find(closing, opening.end())
        if end < opening.end():
            end = len(body)
        found[name] = body[opening.end() : end].strip("\n")
        at = end + len(closing)
    return found


_EXIT = re.compile(
    r"\A(?:Command (?:executed|failed|exited|terminated)|Executed command)[^\n]*?(?:[Ee]xit code:?|exited with code|with code) (-?\d+)"
)
_HEAD = re.compile(r"\ACommand (executed|failed|exited|terminated)[^\n]*\n(?:Output:\n)?")
_NOT_RUN = re.compile(
    r"\A\s*(?:The tool execution failed|The user denied this operation|Error\b|\[ERROR\]|<tool_use_error>|Missing value for required"
    r"|Unable to apply diff|Command failed|Invalid JSON argument|Access to \S+ is blocked)"
)
_WRAPPED_ERROR = re.compile(
    r"\A\s*The tool execution failed with the following error:\s*<error>\n?(.*?)\n?</error>\s*\Z", re.S
)


def outcome_of(content: object, *, is_error: object = None) -> Outcome:
    r"""Take the text of a result out of its wrappings, and how it went.

    >>> outcome_of("Command executed in terminal. Exit code: 2\nOutput:\nno such file")
    Outcome(text='no such file', exit_code=2, failed=True)
    >>> outcome_of([{"query": "make", "result": "", "error": "Command exited with code 1", "success": False}])
    Outcome(text='Command exited with code 1', exit_code=1, failed=True)
    """
    failed: bool | None = is_error if isinstance(is_error, bool) else None
    text, entries_failed, entries_code = _content(content)
    failed = True if entries_failed else failed
    is_several = isinstance(content, list) and len(content) > 1
    stated = None if is_several else _EXIT.match(text)
    code = exit_code_in(stated[1]) if stated else entries_code
    if code is not None:
        failed = code != 0 or bool(failed)
    if not is_several and (head := _HEAD.match(text)):
        failed = True if head[1] == "failed" and failed is None else failed
        text = text[head.end() :]
    elif wrapped := _WRAPPED_ERROR.match(text):
        text, failed = wrapped[1], True
    elif _NOT_RUN.match(text):
        failed = True
    return Outcome(without_base64(text), code, failed)


_CODE = re.compile(r"exit(?:ed with)? code:? (-?\d+)", re.I)


def _content(content: object) -> tuple[str, bool, int | None]:
    """Text, whether an entry says that it failed, and the one exit code that is said."""
    if isinstance(content, str):
        return content, False, None
    if isinstance(content, Mapping):  # {"type": "text", "value": ...} or an entry by itself
        content = [content]
    if not isinstance(content, list):
        return ("" if content is None else _plain(content)), False, None
    texts: list[str] = []
    failed, code = False, None
    for entry in content:
        if isinstance(entry, str):
            texts.append(entry)
        if not isinstance(entry, Mapping):
            continue
        said = next(
            (entry[key] for key in ("text", "value", "result", "output") if isinstance(entry.get(key), str)), ""
        )
        if not said and isinstance(entry.get("result"), Mapping | list):
            said = _plain(entry["result"])
        error = _str(entry, "error")
        failed |= entry.get("success") is False or str(entry.get("type", "")).startswith("error")
        if error and error not in said:
            said = f"{said}\n{error}" if said else error
        if (stated := _CODE.search(error)) is not None and len(content) == 1:
            code = exit_code_in(stated[1])
        texts.append(said)
    return "\n".join(text for text in texts if text), failed, code


def _listed(arguments: Mapping[str, Any]) -> Iterator[str]:
    """Files of calls that name several, as a list of entries or in tags."""
    yield from map(str.strip, _TAGGED_PATH.findall(_str(arguments, "args")))
    files = arguments.get("files")
    for item in files if isinstance(files, list) else ():
        if path := _str(item, "path") or _str(item, "file_path"):
            yield path


def _plain(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (RecursionError, ValueError):
        return "(nested too deeply to show)"


def _str(mapping: object, key: str) -> str:
    value = mapping.get(key) if isinstance(mapping, Mapping) else None
    return value if isinstance(value, str) else ""
