"""What one Goose message means: its role and contents in, events out. The same in the database and in the lines before it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ingest.readers.message_events import Calls, Spoken
from ingest.readers.outputs import output_text
from ingest.readers.unknown import Unknown
from ingest.readers.values import ODDITIES, Naming, exit_code_in, id_in, is_failure
from lmm_mcp.domain.event import Event

_SILENT = frozenset(
    {
        "image",
        "redactedThinking",
        "systemNotification",
        "toolConfirmationRequest",
        "actionRequired",
        "contextLengthExceeded",
        "summarizationRequested",
        "conversationCompacted",
    }
)
"""Pictures, ciphertext, and what the screen showed or asked."""
_CALLS = frozenset({"toolRequest", "frontendToolRequest"})
_LEGACY_SESSION = re.compile(r"\d{8}_\d{6}|(?!\d{8}_\d+$).*")
"""Sessions that began as files of lines: called by the second, or as the user pleased."""


class Conversation:
    """One session while it is read: what must be known from earlier messages."""

    def __init__(self, session_id: str, cwd: str, *, is_lines: bool = False) -> None:
        self._cwd = cwd
        self._naming = Naming(session_id)
        self._calls = Calls(session_id)
        self._prompts: set[str] = set()
        # The move to the database gave messages new ids or none: of a session that moved, both tell by what was said.
        self._keeps_ids = not is_lines and _LEGACY_SESSION.fullmatch(session_id) is None
        self._made_up = re.compile(rf"msg_{re.escape(session_id)}_\d+")
        self.unknown = Unknown()

    def events_of(
        self, given_id: object, role: object, contents: object, at_s: int, metadata: Mapping[str, Any]
    ) -> Iterator[Event]:
        """Events of one message; what cannot be understood is noted in `unknown`."""
        if role not in ("user", "assistant") or not isinstance(contents, list):
            if isinstance(contents, list):
                self.unknown.kind("role", role)
            else:
                self.unknown.odd("message", TypeError())
            return
        message = Spoken(self._name(given_id, str(role), contents, at_s), at_s * 1000, self._cwd)
        # Told to the model alone: the summary it goes on from, in the user's name, and what to do with it.
        is_injected = metadata.get("userVisible") is False
        typed: list[str] = []
        for content in contents:
            try:
                kind = content["type"]
                if kind == "text" and role == "user":
                    typed.append(_text(content, "text"))
                elif kind == "text":
                    yield from () if is_injected else message.prose("reply", _text(content, "text"))
                elif kind in ("thinking", "reasoning"):
                    yield from message.prose("thought", _text(content, "thinking") or _text(content, "text"))
                elif kind in _CALLS:
                    yield self._call(content, message)
                elif kind == "toolResponse":
                    yield self._result(content, message)
                elif kind not in _SILENT:
                    self.unknown.kind("content type", kind)
            except ODDITIES as problem:
                self.unknown.odd("content", problem)
        yield from self._typed(typed, message, is_injected=is_injected)

    def _typed(self, texts: list[str], message: Spoken, *, is_injected: bool) -> Iterator[Event]:
        said = "\n".join(filter(str.strip, texts))
        if not is_injected:
            self._prompts.add(said)
            yield from message.prompt(texts)
        elif said not in self._prompts:  # the last prompt is told to the model once more
            yield from message.prose("summary", said)

    def _call(self, content: Mapping[str, Any], message: Spoken) -> Event:
        asked = content["toolCall"]
        value = asked.get("value")
        if not isinstance(value, Mapping):  # the model wrote what is no call
            return self._calls.call(message, content.get("id"), "", _text(asked, "error"))
        name = value["name"]
        if not isinstance(name, str):
            raise TypeError("a call of no tool")
        # Tools are called after the extension that brings them: developer__shell.
        return self._calls.call(
            message, content.get("id"), name, value.get("arguments"), described_as=name.rpartition("__")[2]
        )

    def _result(self, content: Mapping[str, Any], message: Spoken) -> Event:
        given = content["toolResult"]
        value = given.get("value")
        if given.get("status") == "error":
            return self._calls.result(message, content.get("id"), output_text(given.get("error")), failed=True)
        # Before it was an object with a content, the value was the content.
        parts = value.get("content") if isinstance(value, Mapping) else value
        shown = [part for part in parts if _is_for_the_model(part)] if isinstance(parts, list) else parts
        structured = value.get("structuredContent") if isinstance(value, Mapping) else None
        code = structured.get("exit_code") if isinstance(structured, Mapping) else None
        is_error = value.get("isError") is True if isinstance(value, Mapping) else False
        text = output_text(_texts(shown)) or output_text(structured)
        return self._calls.result(
            message, content.get("id"), text, exit_code=exit_code_in(code), failed=is_error or is_failure(code) is True
        )

    def _name(self, given_id: object, role: str, contents: Sequence[object], at_s: int) -> str:
        if self._keeps_ids and (own := id_in(given_id)) and not self._made_up.fullmatch(own):
            return own
        said = [
            str(content.get(key))
            for content in contents
            if isinstance(content, Mapping)
            for key in ("text", "thinking", "id")
            if isinstance(content.get(key), str)
        ]
        return self._naming.name(role, str(at_s), *said)


def _is_for_the_model(part: object) -> bool:
    """Whether a part of a result was told to the model: tools say the same again for the screen."""
    notes = part.get("annotations") if isinstance(part, Mapping) else None
    audience = notes.get("audience") if isinstance(notes, Mapping) else None
    return not isinstance(audience, list) or not audience or "assistant" in audience


def _texts(parts: object) -> object:
    """Text parts as they are, and of embedded resources what can be read; pictures are left out."""
    if not isinstance(parts, list):
        return parts
    told: list[object] = []
    for part in parts:
        if isinstance(part, Mapping) and part.get("type") == "resource":
            resource = part.get("resource")
            told.append(resource.get("text") if isinstance(resource, Mapping) else None)
        elif not isinstance(part, Mapping) or part.get("type", "text") == "text":
            told.append(part)
    return told


def _text(content: Mapping[str, Any], name: str) -> str:
    value = content.get(name)
    return value if isinstance(value, str) else ""
