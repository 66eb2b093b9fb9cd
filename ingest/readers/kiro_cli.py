"""What Kiro's agent in the terminal writes down, in three ways: a database row, and two kinds of JSON lines; records in, events out.

`Conversation` reads the turns of a row of `conversations_v2`, `Pieces` the records `Prompt`, `AssistantMessage` and
`ToolResults`, in which an answer may come in pieces, and `Log` lines with a `payload`, which later versions and the editor write.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ingest.readers.base import Decoded, parse_time_ms
from ingest.readers.call_ids import scoped
from ingest.readers.ours import is_our_tool
from ingest.readers.outputs import nested_json, output_text
from ingest.readers.transcript import Transcript
from ingest.readers.values import Naming, exit_code_in, id_in, is_failure
from lmm_mcp.domain.event import Event, Thread

AGENT = "kiro"
_SILENT_PAYLOADS = frozenset(
    """session_metadata usage_summary turn_end turn_start session_start session_end checkpoint context_usage title status
    permission_request permission_response""".split()
)
_SILENT_RECORDS = frozenset({"Clear", "Metadata", "SessionMetadata"})
_PROMPT, _ANSWER, _RESULTS, _COMPACTION = "Prompt", "AssistantMessage", "ToolResults", "Compaction"


class Session(Transcript):
    """What the three have in common."""

    agent = AGENT

    def __init__(self, thread: Thread, started_ms: int, context: Mapping[str, Any] | None = None) -> None:
        super().__init__(thread.thread_id, context or {})
        self.thread = thread
        self.cwd = self.cwd or thread.cwd
        self.notes.setdefault("last_ms", started_ms)
        self._names = Naming(thread.thread_id)

    def name(self, *said: str) -> str:
        """An id for what has none."""
        return self._names.name(*said)

    def now(self, value: object) -> None:
        """Learn the time of a record; without one, that of the last counts."""
        self.at_ms = self.notes["last_ms"] = parse_time_ms(value) or self.notes["last_ms"]

    def ask(self, given: object, tool: object, arguments: object) -> Event:
        """A call by the agent's id."""
        label = tool if isinstance(tool, str) and tool else "tool"
        call_id = scoped(self.thread.thread_id, given) or self.name("call", label, str(arguments))
        self.group = self.group or call_id
        # A server's tool is written `server___tool`.
        return self.call(call_id, call_id, label, nested_json(arguments), ours=is_our_tool(label.replace("___", "__")))

    def answer(self, given: object, content: object, *, failed: bool | None) -> Event:
        """What a call was answered."""
        text, code = output_text(content), _exit_code(content)
        call_id = scoped(self.thread.thread_id, given) or self.name("result", text)
        failed = True if failed or (code is not None and is_failure(code)) else failed
        return self.result(f"{call_id}#result", call_id, text, failed=failed, exit_code=code)


class Conversation(Session):
    """A row of `conversations_v2`: turns of what the user's side said and what the assistant answered."""

    def take(self, record: Mapping[str, Any]) -> Iterator[Event]:
        """Yield the events of a turn, or of `{"summary": a text}`."""
        if isinstance(text := record.get("summary"), str):
            self.now(None)
            yield from self.prose("summary", self.name("summary", text), text)
            return
        user, assistant = _mapping(record.get("user")), _mapping(record.get("assistant"))
        self.now(user.get("timestamp"))
        state = _mapping(_mapping(user.get("env_context")).get("env_state"))
        if isinstance(cwd := state.get("current_working_directory"), str):
            self.stand_at(cwd)
        for kind, content in _mapping(user.get("content")).items():
            if kind not in ("Prompt", "ToolUseResults", "CancelledToolUses"):
                self.count_unknown("content", kind)
                continue
            results = _mapping(content).get("tool_use_results")
            for result in _mappings(results):
                status = result.get("status")
                failed = kind == "CancelledToolUses" or (status != "Success" if isinstance(status, str) else None)
                yield self.answer(result.get("tool_use_id"), result.get("content"), failed=failed)
            if isinstance(said := _mapping(content).get("prompt"), str) and said.strip():
                yield from self.prose("prompt", self.name("prompt", said.strip()), said)
        self.now(_mapping(record.get("request_metadata")).get("stream_end_timestamp_ms"))
        for kind, content in assistant.items():
            if kind not in ("Response", "ToolUse"):
                self.count_unknown("answer", kind)
                continue
            answer = _mapping(content)
            text = output_text(answer.get("content"))
            self.group = id_in(answer.get("message_id")) or self.name("reply", text)
            yield from self.prose("reply", self.group, text)
            for use in _mappings(answer.get("tool_uses")):
                yield self.ask(use.get("id"), use.get("name"), use.get("args"))


class Pieces(Session):
    """Records of `sessions/cli`, after `joined`."""

    def take(self, record: Mapping[str, Any]) -> Iterator[Event]:
        """Yield the events of a record."""
        kind, data = record.get("kind"), _mapping(record.get("data"))
        self.now(_mapping(data.get("meta")).get("timestamp"))
        content = _mappings(data.get("content"))
        said = "".join(output_text(part.get("data")) for part in content if part.get("kind") == "text")
        name = id_in(data.get("message_id"))
        if kind == _PROMPT:
            yield from self.prose("prompt", name or self.name("prompt", said.strip()), said)
        elif kind == _ANSWER:
            self.group = name or self.name("reply", said)
            thought = "".join(output_text(part.get("data")) for part in content if part.get("kind") == "thinking")
            yield from self.prose("thought", f"{self.group}#thought", thought)
            yield from self.prose("reply", self.group, said)
            for part in content:
                if part.get("kind") == "toolUse":
                    use = _mapping(part.get("data"))
                    yield self.ask(use.get("toolUseId"), use.get("name"), use.get("input"))
        elif kind == _RESULTS:
            for part in content:
                if part.get("kind") == "toolResult":
                    result = _mapping(part.get("data"))
                    status = result.get("status")
                    failed = status.lower() != "success" if isinstance(status, str) else None
                    yield self.answer(result.get("toolUseId"), result.get("content"), failed=failed)
        elif kind == _COMPACTION:
            told = output_text(data.get("summary")) or said
            yield from self.prose("summary", name or self.name("summary", told), told)
        elif kind not in _SILENT_RECORDS:
            self.count_unknown("record", kind)
        for part in content:
            if part.get("kind") not in ("text", "thinking", "toolUse", "toolResult", "image"):
                self.count_unknown("content", part.get("kind"))


def joined(decoded: Iterable[Decoded]) -> Iterator[Decoded]:
    """Put the pieces of an answer together: each record carries the next piece of it, all of them the same message id."""
    held: tuple[int, dict[str, Any]] | None = None
    for item in decoded:
        if held and isinstance(item, tuple) and _continues(held[1], item[1]):
            content = [*held[1]["data"]["content"], *item[1]["data"]["content"]]
            held = held[0], {**held[1], "data": {**held[1]["data"], "content": content}}
            continue
        if held:
            yield held
        held = None
        if isinstance(item, tuple):
            held = item
        else:
            yield item
    if held:
        yield held


def _continues(held: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    both = [_mapping(each.get("data")) for each in (held, record)]
    names = [data.get("message_id") for data in both]
    lists = all(isinstance(data.get("content"), list) for data in both)
    return bool(lists and names[0] and names[0] == names[1] and held.get("kind") == record.get("kind") == _ANSWER)


class Log(Session):
    """Lines of `messages.jsonl`, appended to."""

    def name(self, *said: str) -> str:
        """An id for what has none, also where the file is read in pieces."""
        return self.named(*said)

    def take(self, record: Mapping[str, Any]) -> Iterator[Event]:
        """Yield the events of a line."""
        self.now(record.get("timestamp"))
        payload = record.get("payload")
        line = payload if isinstance(payload, Mapping) else record  # the first versions had no envelope
        kind = line.get("type") or line.get("role")
        content = line.get("content")
        text = content if isinstance(content, str) else output_text(content)
        name = id_in(record.get("id")) or id_in(line.get("id")) or id_in(line.get("messageId"))
        if kind in ("user", "human"):
            yield from self.prose("prompt", name or self.name("prompt", text), text)
        elif kind in ("assistant", "bot"):
            does = str(line.get("operationType") or "").lower()
            said = "thought" if does.startswith(("think", "reason")) else "reply"
            self.group = name or self.name(said, text)
            yield from self.prose("thought" if said == "thought" else "reply", self.group, text)
        elif kind == "tool_call":
            yield self.ask(line.get("toolCallId"), line.get("toolName"), line.get("args"))
        elif kind == "tool_result":
            success = line.get("success")
            failed = not success if isinstance(success, bool) else None
            yield self.answer(line.get("toolCallId"), nested_json(content), failed=failed)
        elif kind not in _SILENT_PAYLOADS:
            self.count_unknown("record", kind)


def _exit_code(content: object) -> int | None:
    """The exit code of a command, which stands as a text among what it wrote."""
    for part in content if isinstance(content, list) else [content]:
        told = _mapping(part)
        inner = nested_json(
            told.get("Json") or told.get("json") or (told.get("data") if told.get("kind") == "json" else told)
        )
        found = _mapping(inner)
        for key in ("exit_status", "exit_code", "exitCode"):
            if (code := exit_code_in(found.get(key))) is not None:
                return code
    return None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
