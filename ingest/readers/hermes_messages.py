"""What one row of Hermes' messages means: a row in, events out; the same for its database and for its exports."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ingest.readers.base import parse_time_ms
from ingest.readers.calls import first_text
from ingest.readers.documents import json_value
from ingest.readers.message_events import Calls, Spoken
from ingest.readers.outputs import nested_json, output_text
from ingest.readers.unknown import Unknown
from ingest.readers.values import ODDITIES, Naming, exit_code_in, id_in
from lmm_mcp.domain.event import Event, Thread

_STRUCTURED = "\0json:"
"""How content begins that is no text but a list of parts."""
_SILENT = frozenset({"system", "session_meta", "developer"})
_SUMMARIES = ("[CONTEXT COMPACTION", "[CONTEXT SUMMARY]")
_REVIEWS = ("Review the conversation above and update the skill", "Review the conversation above and consider saving")
"""What the harness asks in the user's name."""
_NEVER_RAN = -1


class Conversation:
    """One session while it is read."""

    def __init__(self, thread: Thread) -> None:
        self._thread = thread
        self._calls = Calls(thread.thread_id)
        self._naming = Naming(thread.thread_id)
        self._told: set[str] = set()
        self.unknown = Unknown()

    def events_of(self, row: Mapping[str, Any]) -> Iterator[Event]:
        """Events of one row; what cannot be understood is noted in `unknown`."""
        if row.get("active") == 0 and not row.get("compacted"):  # taken back; what was compacted away was said
            return
        try:
            yield from self._events_of(row)
        except ODDITIES as problem:
            self.unknown.odd("message", problem)

    def _events_of(self, row: Mapping[str, Any]) -> Iterator[Event]:
        role, text = row.get("role"), _text_of(row.get("content"))
        if role not in ("user", "assistant", "tool"):
            if role not in _SILENT:
                self.unknown.kind("role", role)
            return
        calls = _calls_in(row.get("tool_calls"))
        at_ms = parse_time_ms(row.get("timestamp"))
        answered = id_in(row.get("tool_call_id"))
        said = (str(role), text, answered, *(str(call.get("id") or call.get("call_id")) for call in calls))
        own = _hash(str(at_ms), *said) if at_ms else self._naming.name(*said)
        if own in self._told:
            return  # a copy that compaction made
        self._told.add(own)
        message = Spoken(own, at_ms, self._thread.cwd)
        if role == "tool":
            yield from self._result(row, text, message)
        elif text.startswith(_SUMMARIES):
            yield from message.prose("summary", text)
        elif role == "user":
            yield from () if text.lstrip().startswith(_REVIEWS) else message.prompt([text])
        else:
            yield from message.prose("thought", first_text(row, ("reasoning_content", "reasoning")))
            yield from message.prose("reply", text)
            for call in calls:
                told = call.get("function")
                told = told if isinstance(told, Mapping) else call
                call_id = call.get("id") or call.get("call_id")
                yield self._calls.call(message, call_id, first_text(told, ("name",)), told.get("arguments"))

    def _result(self, row: Mapping[str, Any], text: str, message: Spoken) -> Iterator[Event]:
        if not text and not row.get("tool_call_id"):
            return
        told = nested_json(text)
        shown, code, failed = text, exit_code_in(row.get("exit_code")), row.get("failed") is True
        if isinstance(told, Mapping):
            shown = output_text(told) or output_text(told.get("error")) or text
            code = code if code is not None else exit_code_in(told.get("exit_code"))
            failed = failed or told.get("success") is False or bool(told.get("error"))
        failed = failed or row.get("effect_disposition") == "denied" or code not in (None, 0)
        code = None if code == _NEVER_RAN else code
        yield self._calls.result(message, row.get("tool_call_id"), shown, exit_code=code, failed=failed)


def _text_of(content: object) -> str:
    """Text of a content: as it is, or of its parts; pictures are left out."""
    if isinstance(content, str) and content.startswith(_STRUCTURED):
        content = json_value(content.removeprefix(_STRUCTURED), Path())
    if isinstance(content, Mapping):
        content = [content]
    if isinstance(content, list):
        parts = (part for part in content if isinstance(part, Mapping) and part.get("type", "text") == "text")
        return "\n".join(text for part in parts if (text := first_text(part, ("text",))))
    return content if isinstance(content, str) else ""


def _calls_in(value: object) -> list[Mapping[str, Any]]:
    found = json_value(value, Path()) if isinstance(value, str) and value else value
    return [call for call in found if isinstance(call, Mapping)] if isinstance(found, list) else []


def _hash(*said: str) -> str:
    return hashlib.blake2b("\0".join(said).encode("utf-8", "replace"), digest_size=12).hexdigest()
