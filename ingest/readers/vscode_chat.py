"""What a request of a VS Code chat means: its JSON document in, events out.

An answer is a list of parts for the chat view: stretches of prose that a link or a tool call interrupts, thoughts, calls,
edits, and much that only moves the view. What an edit changed stands in its call; only an edit without one is told by itself.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ingest.readers.base import parse_time_ms
from ingest.readers.outputs import output_text
from ingest.readers.transcript import Transcript
from ingest.readers.values import Naming, id_in
from ingest.readers.vscode_calls import asked_in, invocation, paired
from ingest.readers.workspaces import path_of
from lmm_mcp.domain.event import Event, EventKind, Thread

AGENT = "vscode-copilot"
_CALL = "toolInvocationSerialized"
_SILENT = frozenset(
    """mcpServersStarting mcpServersStartingSlow progressTaskSerialized progressTask progressTaskResult progressMessage undoStop codeblockUri
    prepareToolInvocation confirmation command treeData reference references usedContext contentReference codeCitation
    multiDiffData extensions pullRequest elicitation elicitationSerialized elicitation2 questionCarousel todoList hook
    workspaceEdit clearToPreviousToolInvocation externalEdits externalToolInvocationUpdate autoModeResolution systemNotification
    mcpAuthenticationRequired changesSummary disabledClaudeHooks planReview info warning move notebookEdit textEdit""".split()
)
_EDITS = frozenset({"textEditGroup", "notebookEditGroup"})
_EDITING_TOOL = re.compile(r"edit|replace|insert|create|patch|write", re.IGNORECASE)
_EMPTY_FENCE = re.compile(r"^(`{3,})\w*\n\s*\1[ \t]*\n?", re.MULTILINE)


class Chat(Transcript):
    """One chat while its requests are read."""

    agent = AGENT

    def __init__(self, thread: Thread, started_ms: int) -> None:
        super().__init__(thread.thread_id, {})
        self.thread = self._main = thread
        self.cwd, self.branch, self._last_ms = thread.cwd, thread.branch, started_ms
        self._names = Naming(thread.thread_id)

    def take(self, record: Mapping[str, Any]) -> Iterator[Event]:
        """Yield the events of a request and its answer."""
        self.thread = self._main
        self.at_ms = self._last_ms = parse_time_ms(record.get("timestamp")) or self._last_ms
        message = record.get("message")
        said = message.get("text") if isinstance(message, Mapping) else message
        said = said if isinstance(said, str) else ""
        name = id_in(record.get("requestId")) or self._names.name("prompt", said)
        yield from self.prose("prompt", name, said)
        self.group = id_in(record.get("responseId")) or f"{name}#answer"
        yield from self._summaries(record)
        answer = record.get("response")
        if isinstance(answer, list):
            yield from self._answer([part if isinstance(part, Mapping) else {"value": part} for part in answer], record)

    def _summaries(self, record: Mapping[str, Any]) -> Iterator[Event]:
        metadata = _mapping(_mapping(record.get("result")).get("metadata"))
        several = metadata.get("summaries")
        found = several if isinstance(several, list) else [metadata.get("summary")]
        for number, summary in enumerate(found, 1):
            if isinstance(text := _mapping(summary).get("text"), str):
                yield from self.prose("summary", f"{self.group}#summary{number}", text)

    def _answer(self, parts: list[Mapping[str, Any]], record: Mapping[str, Any]) -> Iterator[Event]:
        calls = [part for part in parts if part.get("kind") == _CALL]
        own = [part for part in calls if not _is_subagents(part)]
        asked = dict(zip(map(id, own), paired(own, asked_in(record)), strict=True))
        edits_by_tool = any(_EDITING_TOOL.search(str(part.get("toolId"))) for part in calls)
        words: list[str] = []
        counts = {"reply": 0, "thought": 0, "edit": 0}
        for part in parts:
            kind = part.get("kind")
            if (text := _words(part)) is not None:
                words.append(text)
                continue
            if kind in _SILENT:
                continue
            yield from self._reply(words, counts)
            if kind == _CALL:
                yield from self._call(part, asked.get(id(part)))
            elif kind == "thinking":
                counts["thought"] += 1
                thought = output_text(part.get("value"))
                yield from self.prose("thought", f"{self.group}#thought{counts['thought']}", thought)
            elif kind in _EDITS:
                counts["edit"] += 1
                if not edits_by_tool and (path := path_of(part.get("uri"))):
                    name = f"{self.group}#edit{counts['edit']}"
                    yield self.call(name, name, str(kind), {"path": path, "content": _written(part.get("edits"))})
            else:
                self.count_unknown("part", kind)
        yield from self._reply(words, counts)
        for part in calls:  # behind what the sub-agents did, which stands among the parts
            data = _mapping(part.get("toolSpecificData"))
            if data.get("kind") == "subagent" and (given := id_in(part.get("toolCallId"))):
                yield from self._delegated(given, data, "reply", "result")

    def _reply(self, words: list[str], counts: dict[str, int]) -> Iterator[Event]:
        text = _EMPTY_FENCE.sub("", "".join(words))
        words.clear()
        if text.strip():
            counts["reply"] += 1
            yield from self.prose("reply", f"{self.group}#{counts['reply']}", text)

    def _call(self, part: Mapping[str, Any], asked: Any) -> Iterator[Event]:
        found = invocation(part, asked)
        tool = part.get("toolId") if isinstance(part.get("toolId"), str) else ""
        label = tool or "tool"
        given = id_in(part.get("toolCallId"))
        name = f"{self.group}:{given or self._names.name('call', self.group, label, str(found.arguments))}"
        inside = self._subagent(part)
        self.thread = inside or self._main
        more: dict[str, Any] = {"command": found.command} if found.command else {}
        if found.cwd:
            more["cwd"] = found.cwd
        if found.paths:
            more["paths"] = found.paths
        yield self.call(name, name, label, found.arguments, **more)
        if found.has_answer:
            result = self.result(f"{name}#result", name, found.answer, failed=found.failed, exit_code=found.exit_code)
            yield replace(result, paths=found.answer_paths)
        self.thread = self._main
        data = _mapping(part.get("toolSpecificData"))
        if data.get("kind") == "subagent" and given:
            yield from self._delegated(given, data, "prompt", "prompt")

    def _delegated(self, call_id: str, data: Mapping[str, Any], kind: EventKind, key: str) -> Iterator[Event]:
        """What a sub-agent was told, or what it answered."""
        group = self.group
        self.thread, self.group = self._child(call_id), f"{call_id}#answer"
        yield from self.prose(kind, f"{call_id}#{kind}", output_text(data.get(key)))
        self.thread, self.group = self._main, group

    def _subagent(self, part: Mapping[str, Any]) -> Thread | None:
        caller = id_in(part.get("subAgentInvocationId"))
        return self._child(caller) if caller and _is_subagents(part) else None

    def _child(self, call_id: str) -> Thread:
        main = self._main
        return replace(main, thread_id=f"{main.thread_id}:{call_id}", parent=main.thread_id, title="")


def _words(part: Mapping[str, Any]) -> str | None:
    """The prose of a part, None where it is none."""
    kind, value = part.get("kind"), part.get("value")
    if kind is None or kind in ("markdownContent", "markdownVuln"):
        value = part.get("content") if value is None else value
        found = value.get("value") if isinstance(value, Mapping) else value
        if found is None and kind is None:
            return None
        return found if isinstance(found, str) else ""
    if kind == "inlineReference":
        shown = _mapping(part.get("inlineReference"))
        label = part.get("name") or shown.get("name")
        path = path_of(shown) or path_of(shown.get("uri")) or path_of(_mapping(shown.get("location")).get("uri"))
        return f"`{label if isinstance(label, str) and label else path.rpartition('/')[2]}`"
    return None


def _is_subagents(part: Mapping[str, Any]) -> bool:
    """Whether a call was made by a sub-agent."""
    caller = part.get("subAgentInvocationId")
    return isinstance(caller, str) and bool(caller) and caller != part.get("toolCallId")


def _written(edits: object) -> str:
    """The new text of an edit, which comes in the pieces in which the model wrote it."""
    if isinstance(edits, list):
        return "\n".join(text for edit in edits if (text := _written(edit)))
    if isinstance(edits, Mapping):
        whole = edits.get("text")
        return whole if isinstance(whole, str) else _written(edits.get("edits"))
    return ""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
