"""Exports of Claude.ai: conversations as lists of messages, in `conversations.json` or the zip that holds it."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ingest.readers.base import parse_time_ms
from ingest.readers.exports import Conversation, ExportReader
from ingest.readers.outputs import output_text
from ingest.readers.values import id_in
from lmm_mcp.domain.event import Event

AGENT = "claude-ai"
_SILENT = frozenset({"token_budget", "image", "flag"})
_PASTED = re.compile(r"|paste[\w-]*(?:\.txt)?")
"""Names of attachments that are no files: long text that was pasted becomes one."""


class ClaudeAi(ExportReader):
    """Reader of Claude.ai's exports."""

    agent = AGENT
    version = 1
    key = re.compile(rb'"chat_messages"\s*:\s*\[')

    def conversation(self, found: Mapping[str, Any]) -> tuple[Conversation, Iterator[Mapping[str, Any]]]:
        """The branch that is shown, where the export names it, else all messages as they stand."""
        return _Talk(found), _shown(found["chat_messages"], found.get("current_leaf_message_uuid"))


def _shown(messages: list[Any], leaf: object) -> Iterator[Mapping[str, Any]]:
    known = {_text(message.get("uuid")): message for message in messages if isinstance(message, Mapping)}
    if not isinstance(leaf, str) or leaf not in known:
        yield from (
            message if isinstance(message, Mapping) else {"sender": type(message).__name__} for message in messages
        )
        return
    chain: list[Mapping[str, Any]] = []
    while leaf in known:
        chain.append(known.pop(leaf))
        leaf = _text(chain[-1].get("parent_message_uuid"))
    yield from reversed(chain)


class _Talk(Conversation):
    agent = AGENT

    def __init__(self, found: Mapping[str, Any]) -> None:
        name = id_in(found.get("uuid"))
        if not name:
            raise ValueError("a conversation without id")
        super().__init__(name, {})
        self.know(title=_text(found.get("name")))
        self._last_ms = parse_time_ms(found.get("created_at"))
        self._open: list[tuple[str, str]] = []  # tool and id of calls that have no result yet

    def take(self, record: Mapping[str, Any]) -> Iterator[Event]:
        """Events of one message."""
        sender = record.get("sender")
        if sender not in ("human", "assistant"):
            self.count_unknown("sender", sender)
            return
        self.at_ms = self._last_ms = parse_time_ms(record.get("created_at")) or self._last_ms
        content = record.get("content")
        blocks = [block for block in content if isinstance(block, Mapping)] if isinstance(content, list) else []
        name = self.unique_id(record.get("uuid")) or self.named(str(sender), _text(record.get("text")), str(blocks))
        if sender == "human":
            texts = [_text(block.get("text")) for block in blocks if self._is_text(block)]
            said = "\n".join(filter(None, texts)) or _text(record.get("text"))
            yield from self.prose("prompt", name, "\n\n".join(filter(None, (said, *_attached(record)))))
            return
        self.group = name
        num_told = 0
        for number, block in enumerate(blocks, start=1):
            for event in self._block(block, name if len(blocks) == 1 else f"{name}#{number}"):
                num_told += 1
                yield event
        if not num_told:
            yield from self.prose("reply", name, _text(record.get("text")))

    def _is_text(self, block: Mapping[str, Any]) -> bool:
        kind = block.get("type")
        if kind not in ("text", "voice_note", *_SILENT):
            self.count_unknown("block", kind)
        return kind in ("text", "voice_note")

    def _block(self, block: Mapping[str, Any], name: str) -> Iterator[Event]:
        kind = block.get("type")
        self.at_ms = parse_time_ms(block.get("start_timestamp")) or self.at_ms
        if kind == "thinking":
            yield from self.prose("thought", name, _text(block.get("thinking")))
        elif kind == "tool_use":
            tool = _text(block.get("name"))
            call_id = self.unique_id(block.get("id")) or name
            self._open.append((tool, call_id))
            yield self.call(call_id, call_id, tool, block.get("input"))
        elif kind == "tool_result":
            is_error = block.get("is_error")
            failed = is_error if isinstance(is_error, bool) else None
            text = output_text(block.get("content")) or _text(block.get("message"))
            call_id = self._answered(self.unique_id(block.get("tool_use_id")), _text(block.get("name")))
            yield self.result(f"{call_id}#result" if call_id else name, call_id, text, failed=failed)
        elif self._is_text(block):
            yield from self.prose("reply", name, _text(block.get("text")))

    def _answered(self, given: str, tool: str) -> str:
        """The call that a result answers: by its id, else the first of that tool that waits. '' = none."""
        for number, (asked, call_id) in enumerate(self._open):
            if call_id == given or (not given and asked == tool):
                del self._open[number]
                return call_id
        return given


def _attached(record: Mapping[str, Any]) -> Iterator[str]:
    """What was pasted, whole; of files their names."""
    for attachment in _maps(record.get("attachments")):
        name, text = _text(attachment.get("file_name")), _text(attachment.get("extracted_content"))
        yield text if _PASTED.fullmatch(name) else f"[attached: {name}]"
    for file in _maps(record.get("files")):
        if name := _text(file.get("file_name")):
            yield f"[attached: {name}]"


def _maps(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
