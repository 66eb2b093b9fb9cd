"""What one Codex record means: events out of response items, and out of display events where nothing else was kept.

Codex writes almost everything twice, as a `response_item` (what the model saw) and as an `event_msg` (what the screen
showed). The first is read; the second only in files that hold no response item at all.
"""

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ingest.readers.codex_calls import Call, Output, command_line, read_call, read_output, text_of
from ingest.readers.ours import begins_with_brief, is_only_a_brief, is_our_command, is_our_resource, is_our_tool
from ingest.readers.values import exit_code_in, is_failure
from lmm_mcp.domain.event import Event, EventId, EventKind


class Names(Protocol):
    """What gives ids to messages that the agent gave none, and remembers which calls were ours."""

    def name(self, role: str, text: str) -> EventId:
        """Make an id of content and place; the same on every reading."""
        ...

    def own(self, value: object) -> str:
        """Return an id that the agent gave, with its thread before it where other threads may give the same; '' = none."""
        ...

    def opened(self, call_id: str) -> None:
        """Note that a call is ours."""
        ...

    def closed(self, call_id: str) -> bool:
        """Whether the call that this result belongs to was ours."""
        ...


@dataclass(frozen=True, slots=True)
class Moment:
    """Where and when a record was written."""

    at_ms: int
    cwd: str
    branch: str
    is_subagent: bool


CALLS = frozenset({"function_call", "custom_tool_call", "local_shell_call", "web_search_call", "image_generation_call"})
RESULTS = frozenset({"function_call_output", "custom_tool_call_output", "local_shell_call_output"})
KNOWN_ITEMS = CALLS | RESULTS | {"message", "agent_message", "reasoning"}
SILENT_ITEMS = frozenset(
    # Ciphertext, snapshots, and the harness looking up its own tools.
    {"compaction", "compaction_summary", "context_compaction", "compaction_trigger", "ghost_snapshot", "other"}
    | {"tool_search_call", "tool_search_output", "additional_tools"}
)
_KNOWN_EVENTS = frozenset(
    {
        "agent_message",
        "agent_reasoning",
        "agent_reasoning_raw_content",
        "agent_reasoning_section_break",
        "background_event",
        "context_compacted",
        "deprecation_notice",
        "entered_review_mode",
        "error",
        "exec_command_end",
        "exited_review_mode",
        "guardian_assessment",
        "hook_completed",
        "hook_started",
        "image_generation_end",
        "item_completed",
        "item_started",
        "mcp_tool_call_end",
        "model_reroute",
        "patch_apply_end",
        "patch_apply_updated",
        "plan_update",
        "request_user_input",
        "session_configured",
        "shutdown_complete",
        "stream_error",
        "sub_agent_activity",
        "task_complete",
        "task_started",
        "thread_goal_updated",
        "thread_name_updated",
        "thread_rolled_back",
        "thread_settings_applied",
        "token_count",
        "turn_aborted",
        "turn_complete",
        "turn_diff",
        "turn_started",
        "undo_completed",
        "undo_started",
        "user_message",
        "view_image_tool_call",
        "warning",
        "web_search_end",
    }
)
_KNOWN_ENDINGS = ("_begin", "_delta", "_request", "_response")


def is_known_event(kind: str) -> bool:
    """Whether a display event's type is one we know, and know to need nothing from beyond `display_events`."""
    return kind in _KNOWN_EVENTS or kind.startswith("collab_") or kind.endswith(_KNOWN_ENDINGS)


def item_events(item: Mapping[str, Any], moment: Moment, names: Names) -> Iterator[Event]:
    """Events of one response item: mostly one, none where it holds nothing of the session's own.

    Raises ValueError, TypeError and their like where the item is not built as items are.
    """
    kind = item.get("type")
    if kind == "message":
        yield from _message(item, moment, names)
    elif kind == "agent_message":  # between agents: a sub-agent's task, or what it sent back
        yield from _prose(
            "prompt" if moment.is_subagent else "reply", "agent", text_of(item.get("content")), item, moment, names
        )
    elif kind == "reasoning":
        thought = "\n\n".join(part for part in (text_of(item.get("summary")), text_of(item.get("content"))) if part)
        yield from _prose("thought", "reasoning", thought, item, moment, names)
    elif kind in CALLS:
        call = read_call(item)
        if not call.tool:
            raise ValueError("a call of no tool")
        call_id = _call_id(item, names) or names.name("call", f"{call.tool}\n{call.text}")
        yield _call(call, call_id, moment, names)
    elif kind in RESULTS:
        yield _result(read_output(item.get("output")), _call_id(item, names), moment, names)


def summary_event(text: str, event_id: EventId, moment: Moment) -> Event:
    """Make the event of a compaction record."""
    return Event(event_id, "summary", text, moment.at_ms, cwd=moment.cwd, branch=moment.branch)


def display_events(event: Mapping[str, Any], moment: Moment, names: Names) -> Iterator[Event]:
    """Events of one `event_msg`, for files that keep no response items."""
    kind = event.get("type")
    if kind == "user_message":
        yield from _prompt([text_of(event.get("message"))], {}, moment, names)
    elif kind == "agent_message":
        yield from _prose("reply", "assistant", text_of(event.get("message")), {}, moment, names)
    elif kind == "agent_reasoning":
        yield from _prose("thought", "reasoning", text_of(event.get("text")), {}, moment, names)
    elif kind == "exec_command_end":
        line, code = command_line(event.get("command")), event.get("exit_code")
        call_id = names.own(event.get("call_id")) or names.name("call", line)
        output = text_of(event.get("aggregated_output")) or text_of(event.get("stdout")) + text_of(event.get("stderr"))
        yield _call(Call("exec_command", line, line, text_of(event.get("cwd"))), call_id, moment, names)
        yield _result(Output(output, exit_code_in(code), is_failure(code)), call_id, moment, names)
    elif kind == "patch_apply_end":
        changes = event.get("changes")
        paths = tuple(changes) if isinstance(changes, dict) else ()
        call_id = names.own(event.get("call_id")) or names.name("call", "\n".join(paths))
        text = "\n".join(["*** Begin Patch", *_patch_lines(changes), "*** End Patch"])
        yield _call(Call("apply_patch", text, paths=paths), call_id, moment, names)
        success = event.get("success")
        output = text_of(event.get("stdout")) + text_of(event.get("stderr"))
        yield _result(Output(output, failed=not success if isinstance(success, bool) else None), call_id, moment, names)


def _patch_lines(changes: object) -> Iterator[str]:
    verbs = {"add": "Add", "delete": "Delete"}
    for path, change in changes.items() if isinstance(changes, dict) else ():
        shape = change if isinstance(change, dict) else {}
        yield f"*** {verbs.get(str(shape.get('type')), 'Update')} File: {path}"
        yield str(shape.get("unified_diff") or shape.get("content") or "")


# Messages ------------------------------------------------------------------------------------------------------------

# Written by the harness under the user's name. A list and not "anything in a tag": people paste HTML.
_INJECTED = re.compile(
    r"\s*(?:# AGENTS\.md instructions for |<(?:environment_context|permissions instructions|user_instructions|app-context"
    r"|apps_instructions|plugins|plugins_instructions|recommended_plugins|codex_internal_context|turn_aborted|skills?"
    r"|skills_instructions|skills_section|subagents|subagent_notification|user_action|collaboration_mode|model_switch"
    r"|personality_spec|hook_prompt|child_agents_instructions|developer_instructions|system-reminder|goal_context)\b)"
)
_IMAGE_MARK = re.compile(r"\s*</?image\b[^>]*>\s*")
_EDITOR_CONTEXT = re.compile(
    r"\A\s*# (?:Context from my IDE setup|Files mentioned by the user)\b.*?^## My request for Codex:\s*",
    re.DOTALL | re.MULTILINE,
)
# In pieces, each sought once behind the one before: a single pattern would go back for another combination of them.
_USER_SHELL = re.compile(r"\s*<user_shell_command>\s*<command>\n?")
_USER_SHELL_MIDDLE = re.compile(r"\n?</command>\s*<result>\n?")
_USER_SHELL_END = "</result>"
_USER_SHELL_FRAME = re.compile(r"\AExit code: (-?[0-9]+)\n(?:Duration: [^\n]*\n)?Output:\n?")
_STATED_CWD = re.compile(r"<cwd>([^<\n]+)</cwd>|^Current working directory: (\S[^\n]*)$", re.MULTILINE)


def stated_cwd(item: Mapping[str, Any]) -> str:
    """Read the working directory out of an injected environment block: all that the oldest files have. '' = none."""
    if item.get("type") != "message" or item.get("role") != "user":
        return ""
    text = text_of(item.get("content"))
    found = _STATED_CWD.search(text) if text.lstrip().startswith("<environment_context>") else None
    return (found[1] or found[2]).strip() if found else ""


def _message(item: Mapping[str, Any], moment: Moment, names: Names) -> Iterator[Event]:
    content, role = item.get("content"), item.get("role")
    if not isinstance(content, str | list):
        raise TypeError("content is neither text nor parts")
    if role == "assistant":
        yield from _prose("reply", "assistant", text_of(content), item, moment, names)
    elif role == "user":
        yield from _prompt(
            [text_of([part]) for part in content] if isinstance(content, list) else [text_of(content)],
            item,
            moment,
            names,
        )


def _prompt(parts: list[str], item: Mapping[str, Any], moment: Moment, names: Names) -> Iterator[Event]:
    if typed := _user_shell(parts[0] if parts else ""):
        yield from _typed_command(*typed, item, moment, names)
        return
    own = [part for part in parts if part.strip() and not _INJECTED.match(part) and not _IMAGE_MARK.fullmatch(part)]
    yield from _prose("prompt", "user", _EDITOR_CONTEXT.sub("", "\n".join(own)), item, moment, names)


def _user_shell(text: str) -> tuple[str, str] | None:
    """The command line that a user ran from the prompt and its result, if that is what `text` holds."""
    if not (head := _USER_SHELL.match(text)) or not (middle := _USER_SHELL_MIDDLE.search(text, head.end())):
        return None
    end = text.find(_USER_SHELL_END, middle.end())
    return (text[head.end() : middle.start()], text[middle.end() : end].removesuffix("\n")) if end >= 0 else None


def _typed_command(line: str, result: str, item: Mapping[str, Any], moment: Moment, names: Names) -> Iterator[Event]:
    """A command the user ran from the prompt (`!ls`): a call without a model."""
    call_id = names.own(item.get("id")) or names.name("user_shell", f"{line}\n{result}")
    yield _call(Call("user_shell_command", line, command=line), call_id, moment, names)
    frame = _USER_SHELL_FRAME.match(result)
    code = frame[1] if frame else None
    text = result[frame.end() :] if frame else result
    yield _result(Output(text, exit_code_in(code), is_failure(code)), call_id, moment, names)


def _prose(
    kind: EventKind, role: str, text: str, item: Mapping[str, Any], moment: Moment, names: Names
) -> Iterator[Event]:
    if text.strip():
        event_id = names.own(item.get("id")) or names.name(role, text)
        ours = kind == "prompt" and is_only_a_brief(text)  # a client may hand a brief over as if it were typed
        yield Event(event_id, kind, text, moment.at_ms, cwd=moment.cwd, branch=moment.branch, ours=ours)


# Calls ---------------------------------------------------------------------------------------------------------------


def _call(call: Call, call_id: str, moment: Moment, names: Names) -> Event:
    ours = is_our_tool(call.tool) or is_our_command(call.command) or is_our_resource(call.tool, call.text)
    if ours:
        names.opened(call_id)
    return Event(
        call_id,
        "call",
        call.text,
        moment.at_ms,
        call_id=call_id,
        tool=call.tool,
        command=call.command,
        paths=call.paths,
        cwd=_joined(moment.cwd, call.workdir),
        branch=moment.branch,
        ours=ours,
    )


def _call_id(item: Mapping[str, Any], names: Names) -> str:
    return names.own(item.get("call_id")) or names.own(item.get("id"))


def _result(output: Output, call_id: str, moment: Moment, names: Names) -> Event:
    ours = names.closed(call_id) or begins_with_brief(output.text)
    return Event(
        f"{call_id}#result" if call_id else names.name("result", output.text),
        "result",
        output.text,
        moment.at_ms,
        call_id=call_id,
        exit_code=output.exit_code,
        failed=output.failed,
        cwd=moment.cwd,
        branch=moment.branch,
        ours=ours,
    )


def _joined(cwd: str, workdir: str) -> str:
    if not workdir or workdir == cwd:
        return cwd
    if not cwd or workdir.startswith(("/", "\\", "~")) or workdir[1:2] == ":":
        return workdir
    return posixpath.normpath(posixpath.join(cwd, workdir))
