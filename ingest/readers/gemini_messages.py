"""What Gemini CLI writes about a session, as a document or line by line: records in, events out. Qwen Code's first format too.

A line may say a message again (by its id) in a newer version, take messages back, or carry all of them anew. What was said
stays said: only the newer version of the same message takes the place of the older one, by the ids of its events.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from ingest.readers.base import parse_time_ms
from ingest.readers.calls import first_text, is_shell
from ingest.readers.claude_prompts import without_blocks
from ingest.readers.transcript import Transcript
from ingest.readers.values import exit_code_in, id_in
from lmm_mcp.domain.event import Event

_MODEL_TYPES = frozenset({"gemini", "qwen", "model", "assistant"})
_SILENT_TYPES = frozenset({"info", "error", "warning"})
_INJECTED = (
    "<session_context>",
    "This is the Gemini CLI. We are setting up",
    "This is the Qwen Code. We are setting up",
)
_SNAPSHOT = "<state_snapshot>"
_REFERENCED = "--- Content from referenced files ---"
_MASKED = "<tool_output_masked>"
_OUR_SERVER = "(lmm MCP Server)"
"""How older versions show a tool of this memory, which they call by its bare name."""
_ENDED = {"success": False, "error": True, "cancelled": True}
_EXIT_CODE = re.compile(r"^Exit Code: (-?\d+)\s*$", re.MULTILINE)
_ABSOLUTE = re.compile(r"(?:/[^\s/\"'`:*?<>|()\[\]{},;\\]+){2,}|[A-Za-z]:\\[^\s\"'`:*?<>|]+")
_LOOKED_AT_chars = 20_000
_MAX_PLACES = 64
"""Of the paths in one message, as many as are tried for being in the project."""


class GeminiTranscript(Transcript):
    """One session's main line or one sub-agent's."""

    agent = "gemini-cli"

    def take(self, record: Mapping[str, Any]) -> Iterator[Event]:
        """Events of a header, a message, or an update of either."""
        if isinstance(changed := record.get("$set"), Mapping):
            yield from self._header(changed)
        elif "$rewindTo" in record:
            return
        elif "id" in record and "type" in record:
            yield from self._message(record, is_repeat=False)
        elif "sessionId" in record or "messages" in record:
            yield from self._header(record)
        else:
            self.count_unknown("record", None)

    def _header(self, header: Mapping[str, Any]) -> Iterator[Event]:
        own = id_in(header.get("sessionId"))
        if own and self.thread.thread_id == self.thread.session_id:
            self.know(session_id=own, thread_id=own)
        elif own:  # a sub-agent: whose, says its place
            self.know(thread_id=own)
        self.know(title=first_text(header, ("summary",)).strip())
        if project_hash := first_text(header, ("projectHash",)):
            self.notes["project_hash"] = project_hash
        directories = header.get("directories")
        if not self.cwd and self.thread.is_subagent and isinstance(directories, list) and directories:
            self.stand_at(directories[0] if isinstance(directories[0], str) else "")
        messages = header.get("messages")
        for message in messages if isinstance(messages, list) else ():
            yield from self._message(message, is_repeat=True)

    def _message(self, message: Mapping[str, Any], *, is_repeat: bool) -> Iterator[Event]:
        """Events of one message. `is_repeat`: all messages are said anew, perhaps with outputs masked to save room."""
        kind = message.get("type")
        self.at_ms = parse_time_ms(message.get("timestamp"))
        own = self.unique_id(message.get("id")) or self.named(str(kind), text_of(message.get("content")))
        self.group = own
        if not self.cwd:
            self.seek_place(message)
        if kind == "user":
            yield from self._user(own, message)
        elif kind in _MODEL_TYPES:
            yield from self._model(own, message, is_repeat=is_repeat)
        elif kind not in _SILENT_TYPES:
            self.count_unknown("message", kind)

    def _user(self, own: str, message: Mapping[str, Any]) -> Iterator[Event]:
        shown, content = text_of(message.get("displayContent")), message.get("content")
        for number, response in enumerate(parts_in(content, "functionResponse")):
            call_id = id_in(response.get("id"))
            if not self._is_told(call_id):
                yield self.result(f"{own}#result{number or ''}", call_id, output_in(response.get("response")))
        text = text_of(content)
        if text.startswith(_INJECTED):
            return
        if _SNAPSHOT in text[:200]:
            yield from self.prose("summary", own, text)
        else:
            yield from self.prose("prompt", own, shown or typed_of(content))

    def _model(self, own: str, message: Mapping[str, Any], *, is_repeat: bool) -> Iterator[Event]:
        content = message.get("content")
        thoughts = [_thought(thought) for thought in maps_in(message.get("thoughts"))] or [
            text_of(content, thought=True)
        ]
        yield from self.prose("thought", f"{own}#thought", "\n".join(filter(None, thoughts)))
        yield from self.prose("reply", own, text_of(content))
        calls = list(maps_in(message.get("toolCalls")))
        for call in calls:
            yield from self._tool_call(own, call, is_repeat=is_repeat)
        for number, asked in enumerate(parts_in(content, "functionCall") if not calls else ()):
            call_id = id_in(asked.get("id"))
            yield self.call(f"{own}#{call_id or number}", call_id, first_text(asked, ("name",)), asked.get("args"))

    def _tool_call(self, own: str, call: Mapping[str, Any], *, is_repeat: bool) -> Iterator[Event]:
        call_id, arguments, tool = id_in(call.get("id")), call.get("args"), first_text(call, ("name",))
        self.at_ms = parse_time_ms(call.get("timestamp")) or self.at_ms
        place = first_text(arguments, ("directory", "dir_path")) if isinstance(arguments, Mapping) else ""
        elsewhere = {"cwd": place} if is_shell(tool) and place.startswith("/") else {}
        ours = first_text(call, ("displayName",)).endswith(_OUR_SERVER)
        asked = self.call(f"{own}#{call_id}", call_id, tool, arguments, ours=ours, **elsewhere)
        yield asked
        text = result_text(call)
        # What is masked or left out later was told when it was new.
        if (call.get("status") not in _ENDED and not text) or (is_repeat and self._is_told(call_id)):
            return
        if text.startswith(_MASKED) and self._is_told(call_id):
            return
        self._note_told(call_id)
        exit_code, failed = shell_code(text) if is_shell(tool) else None, _ENDED.get(str(call.get("status")))
        failed = True if exit_code else failed
        yield self.result(f"{asked.id}#result", call_id, text, failed=failed, exit_code=exit_code)

    def _is_told(self, call_id: str) -> bool:
        return _short(call_id) in self.notes.get("told", ())

    def _note_told(self, call_id: str) -> None:
        self.notes.setdefault("told", {})[_short(call_id)] = 1

    def seek_place(self, message: Mapping[str, Any]) -> None:
        """Find the project's folder: of a path in the message, the part whose hash is the project's."""
        project_hash = self.notes.get("project_hash", "")
        if len(project_hash) != 64:
            return
        tried = set(self._folders_named(message))
        for folder in tried:
            if hashlib.sha256(folder.encode("utf-8", "replace")).hexdigest() == project_hash:
                self.stand_at(folder)
                return

    def _folders_named(self, message: Mapping[str, Any]) -> Iterator[str]:
        for call in maps_in(message.get("toolCalls")):
            arguments = call.get("args")
            values = arguments.values() if isinstance(arguments, Mapping) else ()
            texts = [value for value in values if isinstance(value, str)]
            said = "\n".join((*texts, result_text(call)))[:_LOOKED_AT_chars]
            for path in list(dict.fromkeys(_ABSOLUTE.findall(said)))[:_MAX_PLACES]:
                yield path
                yield from map(str, (PureWindowsPath(path) if path[1:2] == ":" else PurePosixPath(path)).parents)


def text_of(content: object, *, thought: bool = False) -> str:
    """The text of a message's content, plain or in parts; `thought`: what the model thought, else what it said.

    >>> text_of([{"text": "so"}, {"text": "hm", "thought": True}]), text_of("so"), text_of([{"inlineData": {}}])
    ('so', 'so', '')
    """
    if isinstance(content, str):
        return "" if thought else content
    if isinstance(content, Mapping):
        content = [content]
    return "\n".join(_texts(content, thought=thought))


def typed_of(content: object) -> str:
    """What a person typed: without reminders, and without the files that were put behind it because they were named."""
    typed = []
    for text in _texts(content, thought=False) if isinstance(content, list) else [text_of(content)]:
        kept, mark, _ = text.partition(_REFERENCED)
        typed.append(without_blocks(kept, "system-reminder"))
        if mark:
            break
    return "\n".join(typed)


def output_in(response: object) -> str:
    """What a function gave back, of the `response` it is wrapped in."""
    if not isinstance(response, Mapping):
        return response if isinstance(response, str) else ""
    if said := first_text(response, ("output", "error", "result", "content", "llmContent")):
        return said
    return "\n".join(f"{key}: {value}" for key, value in response.items() if isinstance(value, str | int | float))


def result_text(call: Mapping[str, Any]) -> str:
    """What a recorded tool call gave back, as the model saw it, else as it was shown."""
    result = call.get("result")
    said = [output_in(part.get("response")) for part in parts_in(result, "functionResponse")]
    text = "\n".join(part for part in (*said, text_of(result)) if part)
    if text:
        return text
    shown = call.get("resultDisplay")
    return shown if isinstance(shown, str) else first_text(shown, ("fileDiff",)) if isinstance(shown, Mapping) else ""


def shell_code(output: str) -> int | None:
    r"""The exit code that the shell tool writes under a command's output.

    >>> shell_code("Output: 3 failed\nExit Code: 1"), shell_code("Exit Code: (none)")
    (1, None)
    """
    found = _EXIT_CODE.search(output)
    return exit_code_in(found[1]) if found else None


def _thought(thought: Mapping[str, Any]) -> str:
    return ": ".join(part for key in ("subject", "description") if (part := first_text(thought, (key,)).strip()))


def _texts(content: object, *, thought: bool) -> Iterator[str]:
    for part in content if isinstance(content, list) else ():
        if isinstance(part, str):
            if not thought and part:
                yield part
        elif isinstance(part, Mapping) and (part.get("thought") is True) is thought and (text := _text(part)):
            yield text


def _text(part: Mapping[str, Any]) -> str:
    return first_text(part, ("text",))


def parts_in(content: object, key: str) -> Iterator[Mapping[str, Any]]:
    """What the parts of a content hold under `key`, such as `functionCall`."""
    for part in maps_in(content if isinstance(content, list) else [content]):
        if isinstance(inner := part.get(key), Mapping):
            yield inner


def maps_in(value: object) -> Iterator[Mapping[str, Any]]:
    """Those members of a list that are objects."""
    return (item for item in (value if isinstance(value, list) else ()) if isinstance(item, Mapping))


def _short(call_id: str) -> str:
    return hashlib.blake2b(call_id.encode("utf-8", "replace"), digest_size=4).hexdigest()
