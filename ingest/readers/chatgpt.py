"""Exports of ChatGPT: conversations as trees of messages, of which the branch that is shown is told.

In: `conversations.json`, `conversations-000.json`, ... or the zip that holds them; out: one thread for each conversation.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ingest.readers.base import parse_time_ms
from ingest.readers.exports import Conversation, ExportReader
from ingest.readers.outputs import output_text
from ingest.readers.values import id_in
from lmm_mcp.domain.event import Event

AGENT = "chatgpt"
_TEXTS = frozenset({"text", "multimodal_text"})
_CODES = frozenset({"code"})
_RESULTS = frozenset(
    "execution_output tether_quote tether_browsing_display system_error computer_output sonic_webpage citable_code_output".split()
)
_SILENT = frozenset(
    "user_editable_context model_editable_context reasoning_recap super_widget app_pairing_content".split()
)
_SILENT_PARTS = frozenset({"image_asset_pointer", "audio_asset_pointer", "video_container_asset_pointer"})
_EVERYBODY = "all"


class ChatGpt(ExportReader):
    """Reader of ChatGPT's exports."""

    agent = AGENT
    version = 1
    key = re.compile(rb'"mapping"\s*:\s*\{')

    def conversation(self, found: Mapping[str, Any]) -> tuple[Conversation, Iterator[Mapping[str, Any]]]:
        """The branch that ends in `current_node`."""
        wrapped = found.get("raw_provider_payload")  # what a browser's extension saved of the page
        found = wrapped if isinstance(wrapped, Mapping) else found
        return _Talk(found), _shown(found["mapping"], found.get("current_node"))


def _shown(mapping: Mapping[str, Any], current: object) -> Iterator[Mapping[str, Any]]:
    """The messages from the root to the node that is shown; without one, to that of the latest message."""
    nodes = {name: node for name, node in mapping.items() if isinstance(node, Mapping)}
    if not isinstance(current, str) or current not in nodes:
        leaves = [name for name, node in nodes.items() if not node.get("children")]
        current = max(leaves, key=lambda name: (_at_ms(nodes[name]), name), default=None)
    chain: list[Mapping[str, Any]] = []
    seen: set[str] = set()
    while isinstance(current, str) and current in nodes and current not in seen:
        seen.add(current)
        node = nodes[current]
        if isinstance(message := node.get("message"), Mapping):
            chain.append({"id": node.get("id"), **message})
        current = node.get("parent")
    yield from reversed(chain)


def _at_ms(node: Mapping[str, Any]) -> int:
    message = node.get("message")
    return parse_time_ms(message.get("create_time")) if isinstance(message, Mapping) else 0


class _Talk(Conversation):
    agent = AGENT

    def __init__(self, found: Mapping[str, Any]) -> None:
        name = id_in(found.get("conversation_id")) or id_in(found.get("id"))
        if not name:
            raise ValueError("a conversation without id")
        super().__init__(name, {})
        self.know(title=_text(found.get("title")))
        self._began_ms = parse_time_ms(found.get("create_time"))
        self._open: list[tuple[str, str]] = []  # tool and id of calls that have no result yet

    def take(self, record: Mapping[str, Any]) -> Iterator[Event]:
        """Events of one message."""
        author, content, metadata = (_mapping(record.get(key)) for key in ("author", "content", "metadata"))
        role, kind = author.get("role"), content.get("content_type")
        self.at_ms = self._began_ms = parse_time_ms(record.get("create_time")) or self._began_ms
        if kind in _SILENT or role == "system" or metadata.get("is_visually_hidden_from_conversation") is True:
            return
        name = self.unique_id(record.get("id")) or self.named(str(role), str(content))
        text = self._content(content)
        if role == "tool":
            yield self._result(name, _text(author.get("name")), text, metadata, has_failed=kind == "system_error")
        elif role == "user":
            yield from self.prose("prompt", name, text)
        elif role == "assistant":
            self.group = name
            recipient = _text(record.get("recipient")) or _EVERYBODY
            if kind in _CODES or recipient != _EVERYBODY:
                tool = recipient if recipient != _EVERYBODY else _text(content.get("language")) or "code"
                self._open.append((tool, name))
                yield self.call(name, name, tool, text)
            elif kind == "thoughts":
                yield from self.prose("thought", name, text)
            else:
                yield from self.prose("reply", name, text)
        else:
            self.count_unknown("role", role)

    def _result(self, name: str, tool: str, text: str, metadata: Mapping[str, Any], *, has_failed: bool) -> Event:
        call_id = next((call_id for asked, call_id in reversed(self._open) if asked == tool), "")
        if not call_id and self._open:
            call_id = self._open[-1][1]
        self._open = [each for each in self._open if each[1] != call_id]
        status = _text(_mapping(metadata.get("aggregate_result")).get("status"))
        failed = True if has_failed or status.startswith("failed") else False if status == "success" else None
        return self.result(name, call_id, text, failed=failed)

    def _content(self, content: Mapping[str, Any]) -> str:
        kind = content.get("content_type")
        if kind == "thoughts" and isinstance(content.get("thoughts"), list):
            thoughts = [thought for thought in content["thoughts"] if isinstance(thought, Mapping)]
            told = (_text(thought.get("content")) or _text(thought.get("summary")) for thought in thoughts)
            return "\n\n".join(filter(None, told))
        if kind not in _TEXTS | _CODES | _RESULTS | {"thoughts"}:
            self.count_unknown("content", kind)
        parts = content.get("parts")
        if not isinstance(parts, list):
            return "\n".join(filter(None, (_text(content.get(key)) for key in ("title", "url", "text", "result"))))
        texts = []
        for part in parts:
            shape = part.get("content_type") if isinstance(part, Mapping) else None
            if shape in _SILENT_PARTS:
                continue
            if shape not in (None, "text", "audio_transcription", "real_time_user_audio_video_asset_pointer"):
                self.count_unknown("part", shape)
            texts.append(part if isinstance(part, str) else output_text(_mapping(part).get("text")))
        return "\n".join(text for text in texts if text)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
