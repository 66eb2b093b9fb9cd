"""What one message of Cline or of a fork of it means: blocks in, events out.

Messages have ids in some stores, but they are made anew whenever a session goes over a wire: so they are named by what they say.
The harness speaks under the user's name: results of tools, the state of the editor, reminders. Only what a person typed
becomes a prompt; it stands in `<task>`, `<feedback>`, `<answer>` or `<user_message>`, or bare.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ingest.readers.call_ids import CallIds
from ingest.readers.cline_calls import SPEAKING, TaggedCall, describe, mcp_name, outcome_of, tagged
from ingest.readers.ours import is_our_command, is_our_resource, is_our_tool
from ingest.readers.transcript import Transcript
from ingest.readers.values import Naming
from lmm_mcp.domain.event import Event, EventKind, Thread

_NOISE = re.compile(
    r"<(environment_details|file_content|folder_content|explicit_instructions|mode_notice|system-reminder|hook_context"
    r"|final_file_content|workspace_diagnostics|terminal_output|git_working_state|slash_command)\b[^>]*>"
)
_TYPED = re.compile(r"<(task|feedback|answer|user_message|user_input)(?:\s[^>\n]*)?>")
_INJECTED = re.compile(
    r"\s*(?:\[ERROR\]|\[TASK RESUMPTION\]|\[NOTE\]|\[\[NOTE\]|# (?:TODO LIST|task_progress|Reminder)|You seem to be having trouble"
    r"|New (?:message|instructions) (?:to respond|for task)|\(see below|Task resumption in progress|The user (?:has )?provided"
    r"|If you have completed the user's task)"
)
_CONTINUED = re.compile(
    r"\s*(?:This session is being continued from a previous conversation|## Conversation Summary\b)"
)
_RESULT = re.compile(r"\s*\[([A-Za-z_]+)\b[^\n]*?\] Result:[ \n]*")
_THINKING = ("<thinking>", "</thinking>")
_SURROUNDINGS = ("<environment_details>", "</environment_details>")
_RESULTS = frozenset({"tool_result", "tool-result"})
_NOBODY = "-"
"""In place of the id of a call that is not there."""
_SILENT_BLOCKS = frozenset(
    {"image", "document", "file", "redacted_thinking", "cache_point", "thoughtSignature", "server_tool_use"}
)
_SUMMARIES = frozenset({"compaction", "compaction_summary"})
_PASSED_OVER = frozenset({"system", "developer"})
_ANSWER = re.compile(r"\A(?:(?:The user|You seem)[^<]{0,400})?\s*<(feedback|answer|user_message)>")
_ASKING = frozenset({"ask_followup_question", "ask_question"})
_FRAME_chars = 300
"""Of a result without a call that holds a person's words: what is shorter is only their frame."""


class Talk(Transcript):
    """One transcript while it is read: what later messages need to know of earlier ones."""

    agent = ""  # its thread names it

    def __init__(self, thread: Thread) -> None:
        """`thread`: whose messages they are. Those of a fork are named after its origin, whose messages it begins with."""
        super().__init__(thread.thread_id, {})
        self.thread = thread
        self.cwd, self.branch = thread.cwd, thread.branch
        self.moment_ms = 0
        """When the next message was written."""
        self.has_failed = False
        """Whether the screen says that the only result of the next message is a failure."""
        origin = thread.forked_from or thread.thread_id
        self._naming, self._ids = Naming(origin), CallIds(origin)
        self._pending: list[tuple[str, str]] = []  # tool and id of tagged calls that have no result yet
        self._open = ""  # id of the tagged call whose result is being told
        self._asked: dict[str, str] = {}  # tools by which the agent only spoke, by their id

    def take(self, record: Mapping[str, Any]) -> Iterator[Event]:
        """Events of one message."""
        self.at_ms = self.moment_ms
        role, metadata = record.get("role"), _mapping(record.get("metadata"))
        content = record.get("content")
        if record.get("type") == "reasoning" and role is None:
            content, role = [record], "assistant"
        if role in _PASSED_OVER or record.get("isTruncationMarker") is True:
            return
        if role not in ("user", "assistant", "tool", "error"):
            self.count_unknown("role", role)
            return
        blocks = content if isinstance(content, list) else [{"type": "text", "text": content}]
        blocks = [{"type": "text", "text": block} if isinstance(block, str) else block for block in blocks]
        text = "\n".join(_text(block.get("text")) for block in blocks if isinstance(block, Mapping))
        if record.get("isSummary") is True or metadata.get("kind") in _SUMMARIES:
            yield from self._prose("summary", _text(metadata.get("summary")) or text)
            return
        if role == "error":
            yield self.result(self._naming.name("error", text), "", text, failed=True)
            return
        self._open = ""
        results = [block for block in blocks if isinstance(block, Mapping) and block.get("type") in _RESULTS]
        self.has_failed = self.has_failed and len(results) == 1
        found: list[Event] = []
        if role == "assistant":
            self._pending = []
            found += self._prose("thought", _text(record.get("reasoning_content")))
            for activity in _maps(metadata.get("modelToolActivities")):  # tools that the provider ran by itself
                found += self._activity(activity)
        for block in blocks:
            if isinstance(block, Mapping):
                found += self._block(block, str(role))
            else:
                self.count_unknown("block", type(block).__name__)
        yield from _grouped(found) if role == "assistant" else found

    def _block(self, block: Mapping[str, Any], role: str) -> Iterator[Event]:
        kind = block.get("type")
        if kind == "text":
            said = _text(block.get("text"))
            yield from self._said(said) if role == "assistant" else self._told(said)
        elif kind in ("thinking", "reasoning"):
            summary = block.get("summary")
            thought = _text(block.get("thinking")) or _text(block.get("text")) or _text(summary)
            if not thought and isinstance(summary, list):
                thought = "\n\n".join(_text(part.get("text")) for part in summary if isinstance(part, Mapping))
            yield from self._prose("thought", thought)
        elif kind in ("tool_use", "tool-call"):
            tool = _text(block.get("name")) or _text(block.get("toolName"))
            yield from self._call(tool, block.get("input"), block.get("id") or block.get("toolCallId"))
        elif kind in _RESULTS:
            call_id = self._ids.answered(block.get("tool_use_id") or block.get("toolCallId"))
            content = block["content"] if "content" in block else block.get("output")
            yield from self._answer(content, block.get("is_error"), call_id)
        elif kind not in _SILENT_BLOCKS:
            self.count_unknown("block", kind)

    def _activity(self, activity: Mapping[str, Any]) -> Iterator[Event]:
        given = activity.get("toolCallId")
        yield from self._call(_text(activity.get("toolName")), activity.get("input"), given)
        if "output" in activity:
            yield from self._answer(activity["output"], activity.get("isError"), self._ids.answered(given))

    # The agent's side -------------------------------------------------------------------------------------------------

    def _said(self, text: str) -> Iterator[Event]:
        """Prose, with thoughts and calls in tags among it."""
        for piece in tagged(text):
            if isinstance(piece, TaggedCall):
                yield from self._call(piece.tool, piece.arguments, None)
                continue
            prose, thoughts = _without_thoughts(piece)
            for thought in thoughts:
                yield from self._prose("thought", thought)
            yield from self._prose("reply", prose)

    def _call(self, tool: str, arguments: object, given: object) -> Iterator[Event]:
        if not tool:
            self.count_unknown("call", tool)
            return
        if tool in SPEAKING and isinstance(arguments, Mapping):
            said = _text(arguments.get(SPEAKING[tool]))
            options = arguments.get("options") or arguments.get("follow_up")
            if isinstance(options, list):
                said = "\n".join([said, *(f"- {option}" for option in options if isinstance(option, str))])
            yield from self._prose("reply", said)
            if call_id := self._ids.opened(given):
                self._asked[call_id] = tool
            else:
                self._pending.append((tool, ""))
            return
        call = describe(tool, arguments)
        call_id = self._ids.opened(given)
        if not call_id:
            call_id = self._naming.name("call", call.tool, call.text)
            self._pending.append((tool, call_id))
        ours = is_our_tool(mcp_name(call.tool)) or is_our_command(call.command) or is_our_resource(call.tool, call.text)
        self._calls[call_id] = [call_id, ours]
        more = {"tool": call.tool, "command": call.command, "paths": call.paths, "cwd": call.workdir or self.cwd}
        yield self._event(call_id, "call", call.text, call_id=call_id, ours=ours, **more)

    # The harness's side -----------------------------------------------------------------------------------------------

    def _told(self, text: str) -> Iterator[Event]:
        """A text under the user's name: a result in words, words of the harness, or what a person typed."""
        text = _without_noise(text)
        if _CONTINUED.match(text):
            yield from self._prose("summary", text)
        elif head := _RESULT.match(text):
            self._open = self._answered(head[1])
            if text[head.end() :].strip():
                yield from self._answer(text[head.end() :], None, self._open)
                self._open = ""
        elif self._open:
            call_id, self._open = self._open, ""
            yield from self._answer(text, None, call_id)
        elif typed := _typed(text):
            for said in typed:
                yield from self._prose("prompt", said)
        elif not _INJECTED.match(text):
            yield from self._prose("prompt", text)

    def _answered(self, tool: str) -> str:
        """Id of the tagged call that a result in words answers; a made one where no call is known."""
        for number, (asked, call_id) in enumerate(self._pending):
            if asked == tool:
                del self._pending[number]
                return call_id or _NOBODY
        return _NOBODY

    def _answer(self, content: object, is_error: object, call_id: str) -> Iterator[Event]:
        outcome = outcome_of(content, is_error=is_error)
        outcome = outcome._replace(text=_without_frame(outcome.text))
        # A person's words within a result: an answer, a correction while the tool was refused.
        text, said = _without_answer(outcome.text)
        failed = True if self.has_failed and outcome.failed is None else outcome.failed
        if call_id in self._asked:
            if not said and self._asked[call_id] in _ASKING:
                said = text
        elif call_id not in ("", _NOBODY):
            yield self.result(f"{call_id}#result", call_id, text, failed=failed, exit_code=outcome.exit_code)
        elif text.strip() and not (said and len(text) < _FRAME_chars):
            yield self.result(self._naming.name("result", text), "", text, failed=failed, exit_code=outcome.exit_code)
        yield from self._prose("prompt", said)

    def _prose(self, kind: EventKind, text: str) -> Iterator[Event]:
        if text.strip():
            yield from self.prose(kind, self._naming.name(kind, text.strip()), text)


def stated_cwd(record: object) -> str:
    """The working directory that the harness tells the model under the user's name; '' where it does not."""
    content = record.get("content") if isinstance(record, Mapping) else None
    for block in content if isinstance(content, list) else [content]:
        text = _text(block.get("text")) if isinstance(block, Mapping) else _text(block)
        if found := _STATED_CWD.search(text):
            return found[1] or found[2]
    return ""


_STATED_CWD = re.compile(
    r"^# Current Work(?:ing|space) Directory \(([^\n]+?)\) Files|current working directory is now '([^'\n]+)'", re.M
)


def title_of(task: object) -> str:
    """The line by which a list of tasks calls one: the first of its first prompt."""
    lines = [line.strip() for line in _text(task).splitlines()]
    return next((line[:200] for line in lines if line and not _TYPED.fullmatch(line)), "")


def _without_noise(text: str) -> str:
    kept, at = [], 0
    unclosed: set[str] = set()
    while (opening := _NOISE.search(text, at)) is not None:
        closing = f"</{opening[1]}>"
        end = -1 if closing in unclosed else text.find(closing, opening.end())
        kept.append(text[at : opening.start()])
        if end < 0:  # only spoken of
            unclosed.add(closing)
            kept.append(opening[0])
        at = opening.end() if end < 0 else end + len(closing)
    return "".join([*kept, text[at:]])


def _typed(text: str) -> list[str]:
    """What a person typed, as the harness hands it on within tags."""
    found: list[str] = []
    at = 0
    while (opening := _TYPED.search(text, at)) is not None:
        closing = f"</{opening[1]}>"
        # A whole text in one tag may speak of that tag.
        is_whole = not text[: opening.start()].strip() and text.rstrip().endswith(closing)
        end = text.rfind(closing) if is_whole else text.find(closing, opening.end())
        if end < opening.end():
            break
        at = end + len(closing)
        found.append(_without_noise(text[opening.end() : end]).strip())
    return [said for said in found if said]


def _without_thoughts(text: str) -> tuple[str, list[str]]:
    """Prose, and the thoughts in tags that stood among it."""
    opening, closing = _THINKING
    kept, thoughts, at = [], [], 0
    while (start := text.find(opening, at)) >= 0 and (end := text.find(closing, start)) >= 0:
        kept.append(text[at:start])
        thoughts.append(text[start + len(opening) : end].strip())
        at = end + len(closing)
    return "".join([*kept, text[at:]]).strip(), thoughts


def _without_frame(result: str) -> str:
    """A result without the words before it that name its call, and without the state of the editor behind it."""
    opening, closing = _SURROUNDINGS
    head = _RESULT.match(result)
    text = result[head.end() :] if head else result
    if text.rstrip().endswith(closing) and (start := text.rfind(opening)) >= 0:
        text = text[:start].rstrip()
    return text


def _without_answer(text: str) -> tuple[str, str]:
    """A result without the person's words that came with it, and those words. Its own text may hold such tags, too."""
    if (opening := _ANSWER.search(text)) is None:
        return text, ""
    end = text.find(f"</{opening[1]}>", opening.end())
    if end < 0:
        return text, ""
    said = text[opening.end() : end].strip()
    return (text[: opening.start(1) - 1] + text[end + len(opening[1]) + 3 :]).strip(), said


def _grouped(events: list[Event]) -> list[Event]:
    return [replace(event, group=events[0].id) for event in events]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _maps(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
