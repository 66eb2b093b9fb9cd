"""What cursor-agent's messages mean: records of a transcript or of its store in, events out.

A transcript holds what was said and asked, without times, ids and results; the store has all of that, but perhaps no more the
beginning. So messages are named by their words, which are the same in both, and each call of a transcript takes its result
from the store: that of the call with the same tool and the same arguments.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import orjson

from ingest.readers.base import parse_time_ms
from ingest.readers.ours import is_our_tool
from ingest.readers.outputs import nested_json, output_text
from ingest.readers.transcript import Transcript
from ingest.readers.values import Naming, exit_code_in, id_in
from lmm_mcp.domain.event import Event, Thread

AGENT = "cursor-agent"

_QUERY = re.compile(r"<user_query>(.*?)</user_query>", re.DOTALL)
_STAMP = re.compile(r"<timestamp>([^<]{6,80})</timestamp>")
_MOMENT = re.compile(
    r"(?P<month>[A-Z][a-z]{2})[a-z]* (?P<day>\d{1,2}), (?P<year>\d{4}),? (?P<hour>\d{1,2}):(?P<minute>\d{2})(?::\d{2})?"
    r"\s?(?P<half>[AP]M)?(?: \(UTC(?:(?P<sign>[+-])(?P<off_hours>\d{1,2})(?::(?P<off_minutes>\d{2}))?)?\))?"
)
_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
_INJECTED = re.compile(
    r"<(timestamp|user_info|git_status|project_layout|rules|always_applied_workspace_rules|agent_requestable_workspace_rules"
    r"|user_rules|system_reminder|system_notification|attached_files|open_and_recently_viewed_files|additional_data"
    r"|agent_skills|manually_attached_skills|agent_transcripts|mcp_instructions|mcp_file_system|image_files)\b[^>]*>.*?</\1>",
    re.DOTALL,
)
_SILENT_RECORDS = frozenset({"turn_ended", "turn_started"})
_SILENT_BLOCKS = frozenset({"image", "file", "redacted-reasoning", "redacted_thinking", "redacted-thinking"})
_FRAME = re.compile(r"\AExit code: (-?\d{1,10})[ \t]*\n?\s*(?:Command output:\s*)?")
_ONE_LINE_ERROR = re.compile(r"\s*(?:Error|Rejected): ?[^\n]{0,200}\s*\Z")
_REFUSALS = frozenset({"error", "failure", "rejected"})
_WITHHELD = "[REDACTED]"


@dataclass(slots=True)
class Results:
    """What the tools of a session gave back: by the call's id, and in their order by tool and arguments."""

    by_id: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = field(default_factory=dict)
    ids: dict[str, deque[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, messages: Iterable[Mapping[str, Any]]) -> "Results":
        """Collect them from the messages of a store."""
        found = cls()
        for message in messages:
            for block in _blocks(message):
                name = block.get("toolCallId")
                if not isinstance(name, str) or not name:
                    continue
                if block.get("type") == "tool-call":
                    found.ids.setdefault(_asked(block.get("toolName"), block.get("args")), deque()).append(name)
                elif block.get("type") == "tool-result":
                    found.by_id[name] = (message, block)
        return found

    def next_id(self, tool: object, arguments: object) -> str:
        """The agent's id of the next call of this tool with these arguments; '' where the store has none."""
        waiting = self.ids.get(_asked(tool, arguments))
        return waiting.popleft() if waiting else ""


class Talk(Transcript):
    """One transcript while it is read."""

    agent = AGENT

    def __init__(self, thread: Thread, started_ms: int, results: Results) -> None:
        super().__init__(thread.thread_id, {})
        self.thread = thread
        self.cwd, self._last_ms = thread.cwd, started_ms
        self._names = Naming(thread.thread_id)
        self._results = results

    def take(self, record: Mapping[str, Any]) -> Iterator[Event]:
        """Yield the events of a message."""
        role = record.get("role")
        self.at_ms = self._last_ms = parse_time_ms(record.get("createdAt")) or self._last_ms
        if role == "user":
            yield from self._prompt(record)
        elif role == "assistant":
            for block in _blocks(record):
                yield from self._piece(block)
        elif role is None and (kind := record.get("type")) is not None:
            if kind not in _SILENT_RECORDS:
                self.count_unknown("record", kind)
        elif role not in ("system", "tool"):
            self.count_unknown("role", role)

    def _prompt(self, record: Mapping[str, Any]) -> Iterator[Event]:
        written = "\n".join(text for block in _blocks(record) if isinstance(text := block.get("text"), str))
        if stamp := _STAMP.search(written):
            self.at_ms = self._last_ms = moment_ms(stamp[1]) or self._last_ms
        queries = _QUERY.findall(written)
        said = "\n".join(queries) if queries else _INJECTED.sub("", written)
        if said.strip():
            yield from self.prose("prompt", self._name("prompt", said), said)

    def _piece(self, block: Mapping[str, Any]) -> Iterator[Event]:
        kind = block.get("type")
        if kind == "text":
            said = str(block.get("text") or "").replace(_WITHHELD, "").strip()
            yield from self._said("reply", said)
        elif kind in ("reasoning", "thinking"):
            yield from self._said("thought", str(block.get("text") or block.get("thinking") or ""))
        elif kind in ("tool_use", "tool-call"):
            yield from self._call(block)
        elif kind == "tool_result":  # of a transcript written by some other version: its result beside its call
            call_id = id_in(block.get("tool_use_id"))
            text = output_text(block.get("content"))
            yield self.result(self._name("result", call_id, text), call_id, text, failed=block.get("is_error") is True)
        elif kind not in _SILENT_BLOCKS:
            self.count_unknown("block", kind)

    def _said(self, kind: Any, text: str) -> Iterator[Event]:
        if text.strip():
            name = self._name(kind, text)
            self.group = self.group or name
            yield from self.prose(kind, name, text)

    def _call(self, block: Mapping[str, Any]) -> Iterator[Event]:
        tool = block.get("name") or block.get("toolName")
        arguments = nested_json(block.get("input") if "input" in block else block.get("args"))
        name = self._name("call", _asked(tool, arguments))
        self.group = self.group or name
        given = self._results.next_id(tool, arguments) or str(block.get("toolCallId") or "")
        call_id = id_in(given) or name
        server = tool_of_server(arguments)
        asked = arguments.get("arguments") if server and isinstance(arguments, Mapping) else arguments
        place = arguments.get("working_directory") if isinstance(arguments, Mapping) else None
        more: dict[str, Any] = {"cwd": place} if isinstance(place, str) and place else {}
        yield self.call(name, call_id, str(tool or "tool"), asked, ours=is_our_tool(server), **more)
        if given in self._results.by_id:
            message, answer = self._results.by_id[given]
            text, code, failed = outcome(message, answer)
            yield self.result(f"{name}#result", call_id, text, failed=failed, exit_code=code)

    def _name(self, *said: str) -> str:
        return self._names.name(*(part.strip() for part in said))


def tool_of_server(arguments: object) -> str:
    """Which tool of which server a call through an intermediary asks for, as `server/tool`; '' for any other call.

    >>> tool_of_server({"server": "lmm", "toolName": "recall", "arguments": {}}), tool_of_server({"path": "a"})
    ('lmm/recall', '')
    """
    if not isinstance(arguments, Mapping):
        return ""
    server, tool = arguments.get("server"), arguments.get("toolName")
    return f"{server}/{tool}" if isinstance(server, str) and isinstance(tool, str) else ""


def outcome(message: Mapping[str, Any], block: Mapping[str, Any]) -> tuple[str, int | None, bool | None]:
    """Text, exit code and failure of a result. `isError` says nothing: it is false for a command that failed."""
    text = output_text(block.get("result") if "result" in block else block.get("output"))
    kind, payload = _high_level(message)
    code = exit_code_in(payload.get("exitCode"))
    if frame := _FRAME.match(text):
        code = exit_code_in(frame[1]) if code is None else code
        text = _unfenced(text[frame.end() :])
    if kind:
        return text, code, kind in _REFUSALS
    if code is not None:
        return text, code, code != 0
    return text, code, block.get("isError") is True or _ONE_LINE_ERROR.match(text) is not None


def moment_ms(stamp: str) -> int:
    """Milliseconds since 1970 of a time as cursor-agent writes it for the model; 0 where it is none.

    >>> moment_ms("Sunday, Mar 1, 2026, 2:00 PM (UTC+2)") == parse_time_ms("2026-03-01T12:00:00Z")
    True
    """
    found = _MOMENT.search(stamp)
    if found is None or found["month"] not in _MONTHS:
        return 0
    hour = int(found["hour"])
    if found["half"]:
        hour = hour % 12 + (12 if found["half"] == "PM" else 0)
    offset = timedelta(hours=int(found["off_hours"] or 0), minutes=int(found["off_minutes"] or 0))
    month = _MONTHS.index(found["month"]) + 1
    try:
        zone = timezone(-offset if found["sign"] == "-" else offset)
        moment = datetime(int(found["year"]), month, int(found["day"]), hour, int(found["minute"]), tzinfo=zone)
    except ValueError:  # a 31st of February, an offset of days
        return 0
    return parse_time_ms(moment.isoformat())


def _high_level(message: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    found: Any = message
    for key in ("providerOptions", "cursor", "highLevelToolCallResult", "output"):
        found = found.get(key) if isinstance(found, Mapping) else None
    kind = next(iter(found), "") if isinstance(found, Mapping) else ""
    payload = found[kind] if kind else {}
    return str(kind), payload if isinstance(payload, Mapping) else {}


def _unfenced(text: str) -> str:
    inner = text.strip()
    if not inner.startswith("```"):
        return text
    body = inner.partition("\n")[2]
    end = body.rfind("```")
    return body[:end].rstrip("\n") if end >= 0 else body


def _blocks(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The pieces of a message, in a transcript or in the store."""
    message = record.get("message")
    content = message.get("content") if isinstance(message, Mapping) else record.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in content if isinstance(block, Mapping)] if isinstance(content, list) else []


def _asked(tool: object, arguments: object) -> str:
    """A call told from others by what it asks."""
    try:
        return f"{tool} " + orjson.dumps(nested_json(arguments), option=orjson.OPT_SORT_KEYS).decode()
    except (TypeError, ValueError):
        return f"{tool} {arguments!r}"
