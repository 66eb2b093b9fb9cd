"""What one bubble of a Cursor conversation means: its JSON document in, events out.

A bubble is a message or a piece of one: what a person typed, a stretch of prose, a thought, or a tool call that holds its own
result and is rewritten while the tool runs. That a call failed is said in four places, and `status` alone is right in two.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ingest.readers.base import parse_time_ms
from ingest.readers.calls import describe
from ingest.readers.ours import is_our_tool
from ingest.readers.outputs import nested_json, output_text
from ingest.readers.transcript import Transcript
from ingest.readers.values import Naming, exit_code_in, id_in, is_failure
from lmm_mcp.domain.event import Event, Thread
from lmm_mcp.domain.project import normalise_path

AGENT = "cursor"
_PERSON, _MODEL = 1, 2
_TOOL, _THINKING, _COMPACTION = 15, 30, 22
"""Of `capabilityType`; others mark what the editor shows beside a text."""
_YEAR_2000_ms = 946_684_800_000
_RUNNING = frozenset({"pending", "running", "started", "streaming", "loading", "generating", "created"})
_REFUSED = frozenset({"cancelled", "canceled", "rejected", "skipped", "aborted"})
_ENDS = ("clientRpcSendTime", "clientSettleTime", "clientEndTime")
_MAX_DEPTH = 40


class Conversation(Transcript):
    """One conversation while its bubbles are read in their order."""

    agent = AGENT

    def __init__(self, thread: Thread, started_ms: int) -> None:
        super().__init__(thread.thread_id, {})
        self.thread = thread
        self.cwd, self.branch, self._last_ms = thread.cwd, thread.branch, started_ms
        self._names = Naming(thread.thread_id)

    def take(self, record: Mapping[str, Any]) -> Iterator[Event]:
        """Yield the events of a bubble."""
        kind, capability = record.get("type"), record.get("capabilityType")
        self.at_ms = self._last_ms = _time_ms(record) or self._last_ms
        self.stand_at(_folder(record))
        said, thought, tool = text_of(record), _thought(record.get("thinking")), record.get("toolFormerData")
        name = id_in(record.get("bubbleId")) or self._names.name(str(kind), said, thought, str(tool))
        self.group = name
        if kind == _PERSON:
            yield from self.prose("prompt", name, said)
        elif kind == _MODEL:
            yield from self.prose("thought", f"{name}#thought", thought)
            yield from self.prose("summary" if capability == _COMPACTION else "reply", name, said)
            if isinstance(tool, Mapping) and tool:
                yield from self._tool(name, tool)
            elif not (said or thought) and isinstance(capability, int) and capability > _THINKING:
                self.count_unknown("capability", f"{capability}")
        else:
            self.count_unknown("bubble", str(kind))

    def _tool(self, name: str, tool: Mapping[str, Any]) -> Iterator[Event]:
        label = tool.get("name") if isinstance(tool.get("name"), str) else ""
        arguments, server = _arguments(tool)
        call_id = id_in(tool.get("toolCallId")) or name
        place = arguments.get("cwd") if isinstance(arguments, Mapping) else None
        more: dict[str, Any] = {"cwd": place} if isinstance(place, str) and place else {}
        if is_our_tool(server):
            more["ours"] = True
        yield self.call(f"{name}#call", call_id, label or server or "tool", arguments, **more)
        status, result = tool.get("status"), nested_json(tool.get("result"))
        if status in _RUNNING or not (status or result):
            return
        text = output_text(result) or _complaint(tool.get("error"))
        code = _exit_code(result)
        yield self.result(f"{name}#result", call_id, text, failed=_failed(tool, result, code), exit_code=code)


def text_of(record: Mapping[str, Any]) -> str:
    """The words of a bubble: plain where Cursor kept them so, else out of its editor's document."""
    for key in ("text", "rawText"):
        if isinstance(value := record.get(key), str) and value.strip():
            return value
    rich = nested_json(record.get("richText"))
    return "\n".join(_paragraphs(rich)).strip() if isinstance(rich, Mapping) else ""


def _paragraphs(node: object, depth: int = 0) -> Iterator[str]:
    """Texts of a rich text document (Lexical or ProseMirror), one a paragraph."""
    if depth > _MAX_DEPTH or not isinstance(node, Mapping):
        return
    inner = node.get("root") or node.get("children") or node.get("content")
    parts = [
        text for child in (inner if isinstance(inner, list) else [inner]) for text in _paragraphs(child, depth + 1)
    ]
    if isinstance(text := node.get("text"), str):
        yield text
    if node.get("type") == "paragraph":
        yield "".join(parts)
    else:
        yield from parts


def _thought(value: object) -> str:
    found = value.get("text") if isinstance(value, Mapping) else value
    return found if isinstance(found, str) else ""


def _time_ms(record: Mapping[str, Any]) -> int:
    """When a bubble was written; its clock's times count now from 1970 and now from when the window was opened."""
    for key in ("createdAt", "timestamp"):
        if at_ms := _since_2000(record.get(key)):
            return at_ms
    timing = record.get("timingInfo")
    if not isinstance(timing, Mapping):
        return 0
    return next((at_ms for key in ("clientStartTime", *_ENDS) if (at_ms := _since_2000(timing.get(key)))), 0)


def _since_2000(value: object) -> int:
    if isinstance(value, int | float) and not isinstance(value, bool) and not value >= _YEAR_2000_ms:
        return 0
    return parse_time_ms(value)


def _folder(record: Mapping[str, Any]) -> str:
    uris = record.get("workspaceUris")
    found = record.get("workspaceProjectDir") or (uris[0] if isinstance(uris, list) and uris else "")
    return normalise_path(found) if isinstance(found, str) else ""


def _arguments(tool: Mapping[str, Any]) -> tuple[object, str]:
    """What a tool was asked, and for a tool of an MCP server which one it is (`server/tool`)."""
    raw, params = nested_json(tool.get("rawArgs")), nested_json(tool.get("params"))
    calls = params.get("tools") if isinstance(params, Mapping) else None
    if isinstance(calls, list) and len(calls) == 1 and isinstance(calls[0], Mapping):
        called = calls[0]
        return nested_json(called.get("parameters")), f"{called.get('serverName') or ''}/{called.get('name') or ''}"
    found = next((value for value in (raw, params) if isinstance(value, Mapping) and value), raw or params)
    if isinstance(found, Mapping) and isinstance(params, Mapping) and not describe("", found).paths:
        found = {**params, **found}  # a path may stand among the parameters only
    return found, ""


def _exit_code(result: object) -> int | None:
    if not isinstance(result, Mapping):
        return None
    code = exit_code_in(result.get("exitCodeV2"))
    return exit_code_in(result.get("exitCode")) if code is None else code


def _failed(tool: Mapping[str, Any], result: object, code: int | None) -> bool | None:
    more = tool.get("additionalData")
    status = tool.get("status")
    also = more.get("status") if isinstance(more, Mapping) else None
    rejected = isinstance(result, Mapping) and result.get("rejected") is True
    if rejected or tool.get("userDecision") == "rejected" or bool({status, also} & {"error", *_REFUSED}):
        return True
    return is_failure(code) if code is not None else False if status == "completed" else None


def _complaint(error: object) -> str:
    found = nested_json(error)
    if isinstance(found, Mapping):
        told = found.get("modelVisibleErrorMessage") or found.get("clientVisibleErrorMessage")
        return told if isinstance(told, str) else output_text(found)
    return found if isinstance(found, str) else ""
