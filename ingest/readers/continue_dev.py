"""Continue: one JSON document for each session, `sessions/<id>.json`, rewritten whole; `sessions.json` beside them is the list.

Messages have neither ids nor times: they are named by what they say, and dated by when the list says the session began. Files
and diffs that were attached to a prompt, rules, prompts as the model got them and editor states are left out.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ingest.readers.base import FileReader, parse_time_ms
from ingest.readers.call_ids import CallIds
from ingest.readers.documents import json_document
from ingest.readers.opening import first_bytes
from ingest.readers.outputs import output_text
from ingest.readers.places import named_folder
from ingest.readers.transcript import Transcript, read_document
from ingest.readers.values import Naming, id_in
from ingest.readers.workspaces import path_of
from ingest.session import Cursor, Item, Unreadable
from lmm_mcp.domain.event import Event, EventKind
from lmm_mcp.paths import user_home

AGENT = "continue"
_FOLDER = "sessions"
_LIST = "sessions.json"
_NAME = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\.json")
_FIRST_bytes = 4096
_SILENT_ROLES = frozenset({"system", "developer"})
_SILENT_PARTS = frozenset({"imageUrl", "image_url", "image"})
_FAILED = {"errored": True, "canceled": True, "cancelled": True, "done": False}


class Continue(FileReader):
    """Reader of Continue (editor extensions and its command line)."""

    agent = AGENT
    version = 1

    def roots(self, env: Mapping[str, str], extra: Sequence[Path]) -> tuple[Path, ...]:
        """`CONTINUE_GLOBAL_DIR`, else `~/.continue`, then `extra`."""
        own = named_folder(env, "CONTINUE_GLOBAL_DIR") or user_home(env) / ".continue"
        return tuple(dict.fromkeys((own, *extra)))

    def discover(self, root: Path) -> Iterator[Path]:
        """The documents in `sessions/`; of a root that is that folder itself, those in it."""
        folder = root if root.name == _FOLDER else root / _FOLDER
        if root.is_file():
            yield root
        elif folder.is_dir():
            yield from sorted(path for path in folder.iterdir() if _is_session(path.name) and path.is_file())

    def session_of(self, root: Path, path: Path) -> Path | None:
        """A document speaks for itself; the list changes with each of them and speaks for none."""
        folder = root if root.name == _FOLDER else root / _FOLDER
        return path if path == root or (path.parent == folder and _is_session(path.name)) else None

    def claims(self, path: Path) -> bool:
        """A document that begins with the id by which it is called, and with a title, a folder or a history."""
        if not _is_session(path.name) or not path.is_file():
            return False
        head = first_bytes(path, _FIRST_bytes).decode("utf-8", "replace")
        named = re.search(r'"sessionId"\s*:\s*"([^"]*)"', head)
        if named is None and (path.parent / _LIST).is_file():
            return path.parent.name == _FOLDER and '"history"' in head
        return (
            named is not None
            and named[1] == path.stem
            and re.search(r'"(?:history|workspaceDirectory)"', head) is not None
        )

    def read(self, path: Path, cursor: Cursor) -> Iterator[Item]:  # noqa: ARG002 - the protocol; always read whole
        """Yield the whole session."""
        found = json_document(path)
        if isinstance(found, Unreadable):
            yield found
            found = {"history": []}
        history = found.get("history") if isinstance(found, Mapping) else None
        if not isinstance(history, list):
            yield Unreadable(str(path), 0, "holds no history")
            history = []
        document: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
        conversation = _Conversation(path, document)
        yield from read_document(path, conversation.in_order(history), conversation)


def _is_session(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


class _Conversation(Transcript):
    """One session while it is read."""

    agent = AGENT

    def __init__(self, path: Path, document: Mapping[str, Any]) -> None:
        listed = _listed(path)
        session_id = id_in(document.get("sessionId")) or id_in(path.stem)
        super().__init__(session_id, {})
        self.know(title=_text(document.get("title")) or _text(listed.get("title")))
        self.stand_at(path_of(document.get("workspaceDirectory")) or path_of(listed.get("workspaceDirectory")))
        self._now_ms = max(map(_time_ms, (document.get("dateCreated"), listed.get("dateCreated"))))
        self._naming, self._ids = Naming(session_id), CallIds(session_id)
        self._told_alone: Counter[str] = Counter()  # results that have a message of their own

        self._outcomes: dict[str, bool | None] = {}  # whether a call failed, by the agent's id

    def in_order(self, history: list[Any]) -> Iterator[Mapping[str, Any]]:
        """The items of a history, noting first which results are told by themselves."""
        messages = [item.get("message") for item in history if isinstance(item, Mapping)]
        alone = (message.get("toolCallId") for message in messages if isinstance(message, Mapping))
        self._told_alone = Counter(call_id for call_id in alone if isinstance(call_id, str))
        for item in history:
            if isinstance(item, Mapping):
                yield item
            else:
                self.count_unknown("item", type(item).__name__)

    def take(self, record: Mapping[str, Any]) -> Iterator[Event]:
        """Events of one item of the history."""
        self.at_ms = self._now_ms
        if _text(record.get("conversationSummary")):
            yield from self._said("summary", _text(record["conversationSummary"]))
        message = record["message"]
        role = message.get("role")
        if role in _SILENT_ROLES:
            return
        text = self._content(message.get("content"))
        if role == "user":
            yield from self._said("prompt", text)
        elif role == "thinking":
            yield from self._said("thought", text)
        elif role == "assistant":
            yield from self._assistant(record, message, text)
        elif role == "tool":
            given = message.get("toolCallId")
            yield self._result(given, text, self._outcomes.get(given) if isinstance(given, str) else None)
        else:
            self.count_unknown("role", role)

    def _assistant(self, record: Mapping[str, Any], message: Mapping[str, Any], text: str) -> Iterator[Event]:
        states = {
            state["toolCallId"]: state
            for state in _maps(record.get("toolCallStates"))
            if isinstance(state.get("toolCallId"), str)
        }
        self._outcomes |= {given: _FAILED.get(_text(state.get("status"))) for given, state in states.items()}
        calls = _maps(message.get("toolCalls")) or _maps([state.get("toolCall") for state in states.values()])
        self.group = self._naming.name("message", text, *(str(call.get("id")) for call in calls))
        reasoning = record.get("reasoning")
        if isinstance(reasoning, Mapping):
            # The only time there is.
            self.at_ms = self._now_ms = parse_time_ms(reasoning.get("startAt")) or self._now_ms
            yield from self._said("thought", _text(reasoning.get("text")))
        yield from self._said("reply", text)
        names: list[tuple[object, str]] = []
        for call in calls:
            function = call.get("function")
            function = function if isinstance(function, Mapping) else {}
            tool, arguments = _text(function.get("name")), function.get("arguments")
            if not tool:
                self.count_unknown("call", tool)
                continue
            given = call.get("id")
            call_id = self._ids.opened(given) or self._naming.name("call", tool, str(arguments))
            names.append((given, call_id))
            yield self.call(call_id, call_id, tool, arguments)
        for given, call_id in names:
            state = states.get(given) if isinstance(given, str) else None
            if state is None or self._is_told_alone(given):
                continue
            failed = _FAILED.get(_text(state.get("status")))
            output = state.get("output")
            if failed is not None or output:
                yield self.result(f"{call_id}#result", call_id, self._content(output), failed=failed)

    def _is_told_alone(self, given: object) -> bool:
        if not isinstance(given, str) or not self._told_alone[given]:
            return False
        self._told_alone[given] -= 1  # a provider may give the same id to a later call
        return True

    def _result(self, given: object, text: str, failed: bool | None) -> Event:
        call_id = self._ids.answered(given)
        return self.result(
            f"{call_id}#result" if call_id else self._naming.name("result", text), call_id, text, failed=failed
        )

    def _said(self, kind: EventKind, text: str) -> Iterator[Event]:
        if text.strip():
            yield from self.prose(kind, self._naming.name(kind, text.strip()), text)

    def _content(self, content: object) -> str:
        """The text of a message or of what a tool gave back; pictures are left out."""
        if not isinstance(content, list):
            return _text(content)
        texts = []
        for part in content:
            if isinstance(part, Mapping) and part.get("type") in _SILENT_PARTS:
                continue
            if isinstance(part, Mapping) and part.get("type") not in (None, "text"):
                self.count_unknown("part", part.get("type"))
                continue
            texts.append(output_text(part))
        return "\n".join(text for text in texts if text)


def _listed(path: Path) -> Mapping[str, Any]:
    """What the list of sessions says of this one."""
    try:
        found = json_document(path.with_name(_LIST))
    except OSError:
        return {}
    for entry in _maps(found):
        if entry.get("sessionId") == path.stem:
            return entry
    return {}


def _time_ms(value: object) -> int:
    return parse_time_ms(int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 16 else value)


def _maps(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
