"""Kimi Code: `sessions/<folder>/<session>/agents/<name>/wire.jsonl`, one for each agent of a session; `state.json` says whose they are.

The wire is only appended to. A turn that failed is undone by a later record and asked again, so the same prompt stands there
twice: it is told once. An agent that was forked from another begins with a copy of what that one had been told.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ingest.readers.base import FileReader, SLICE_bytes, json_lines, parse_time_ms
from ingest.readers.calls import first_text
from ingest.readers.claude_prompts import without_blocks
from ingest.readers.documents import json_document
from ingest.readers.factory_droid import first_record, text_of
from ingest.readers.growing import Growing, read_pieces
from ingest.readers.kimi_words import exit_code_of, is_bookkeeping, result_text
from ingest.readers.places import named_folder
from ingest.readers.values import id_in
from ingest.readers.walking import Inside, files_below, inside_of
from ingest.session import Cursor, Item
from lmm_mcp.domain.event import Event
from lmm_mcp.paths import user_home

_WIRE = "wire.jsonl"
_STATE = "state.json"
_AGENTS = "agents"
_MAIN = "main"
_MAX_STATE_bytes = 4 * 1024 * 1024
_NUM_TURNS_KEPT = 32
_NUM_CALLS_KEPT = 256
_UNNAMED = frozenset({"New Session", "Untitled"})
_SILENT_EVENTS = frozenset({"step.begin", "step.end", "step.retry", "step.interrupted", "llm.request", "llm.response"})
_SILENT_PARTS = frozenset({"image_url", "audio_url", "video_url", "image"})


class Kimi(FileReader):
    """Reader of Kimi Code sessions."""

    agent = "kimi"
    version = 1

    def roots(self, env: Mapping[str, str], extra: Sequence[Path]) -> tuple[Path, ...]:
        """`sessions` in `KIMI_CODE_HOME` (`KIMI_HOME`), else in `~/.kimi-code`, then `extra`."""
        own = named_folder(env, "KIMI_CODE_HOME") or named_folder(env, "KIMI_HOME") or user_home(env) / ".kimi-code"
        return tuple(dict.fromkeys((own / "sessions", *extra)))

    def discover(self, root: Path) -> Iterator[Path]:
        """The wire of every agent of every session."""
        yield from files_below(root, _is_wire, _is_entered)

    def session_of(self, root: Path, path: Path) -> Path | None:
        """A wire speaks for itself, a session's state for its main agent."""
        inside = inside_of(root, path)
        if len(inside) == 3 and inside[2] == _STATE:
            wire = path.parent / _AGENTS / _MAIN / _WIRE
            return wire if wire.exists() else None
        return path if path == root or _is_wire(inside) else None

    def claims(self, path: Path) -> bool:
        """By its name and its header."""
        if path.name != _WIRE or not path.is_file():
            return False
        first = first_record(path)
        return first.get("type") == "metadata" and "protocol_version" in first

    def read(self, path: Path, cursor: Cursor) -> Iterator[Item]:
        """Yield what stands behind `cursor`. Raises OSError."""
        session = path.parent.parent.parent if path.parent.parent.name == _AGENTS else path.parent
        wire = _Wire(id_in(session.name), cursor.context)
        wire.learn_state(
            _state(session), id_in(path.parent.name) if session != path.parent else _MAIN, is_start=not cursor.context
        )
        yield from read_pieces(path, json_lines(path, cursor, slice_bytes=SLICE_bytes), wire)


class _Wire(Growing):
    agent = "kimi"
    is_main = True

    def learn_state(self, state: Mapping[str, Any], name: str, *, is_start: bool) -> None:
        """Learn what the session's state says of it and of this agent."""
        session = id_in(state.get("sessionId")) or id_in(state.get("id")) or self.thread.session_id
        agents = state.get("agents")
        mine = agents.get(name) if isinstance(agents, Mapping) else None
        mine = mine if isinstance(mine, Mapping) else {}
        self.is_main = name == _MAIN
        if self.is_main:
            title = first_text(state, ("title",)).strip()
            self.know(session_id=session, thread_id=session, title="" if title in _UNNAMED else title)
            self.know(forked_from=id_in(state.get("forkedFrom")))
        else:
            above = id_in(mine.get("parentAgentId")) or id_in(mine.get("forkedFrom")) or _MAIN
            parent = session if above in (_MAIN, name) else f"{session}/{above}"
            self.know(session_id=session, thread_id=f"{session}/{name}", parent=parent)
            self.know(title=first_text(mine, ("title", "description", "name")).strip())
            if is_start and mine.get("forkedFrom"):
                self.notes["is_copy"] = True
        self.stand_at(first_text(state, ("cwd", "workDir")), first_text(state, ("gitBranch", "git_branch")))

    def take_record(self, record: Mapping[str, Any]) -> Iterator[Event]:
        """Events of one record."""
        kind = record.get("type")
        self.at_ms = parse_time_ms(record.get("time"))
        if kind == "context.append_loop_event":
            event = record.get("event")
            if not isinstance(event, Mapping):
                raise TypeError("a loop event without an event")
            self.at_ms = self.at_ms or parse_time_ms(event.get("time"))
            yield from self._loop(event)
        elif kind == "context.append_message":
            yield from self.close()
            message = record.get("message")
            if not isinstance(message, Mapping):
                raise TypeError("a message record without a message")
            yield from self._message(message)
        elif kind == "context.apply_compaction":
            yield from self.close()
            text = first_text(record, ("summary",)) or text_of(record.get("summary"))
            yield from self.prose("summary", self.named("compaction", text), text)
        elif kind == "context.undo":
            yield from self.close()
            self._undo(record.get("count"))
        elif kind == "turn.prompt":
            self.notes["turns"] = [*self.notes.get("turns", ()), []][-_NUM_TURNS_KEPT:]
        elif not is_bookkeeping(kind):
            self.count_unknown("record", kind)

    # Messages ----------------------------------------------------------------------------------------------------------

    def _message(self, message: Mapping[str, Any]) -> Iterator[Event]:
        role, content, origin = message.get("role"), message.get("content"), message.get("origin")
        source = first_text(origin, ("kind",)) if isinstance(origin, Mapping) else ""
        if role == "user":
            text = without_blocks(text_of(content), "system-reminder").strip()
            if source == "compaction_summary":
                yield from self.prose("summary", self.named("compaction", text), text)
            elif text and (
                source in ("", "user") or (not self.is_main and source not in ("injection", "system_trigger"))
            ):
                yield from self._prompt(text)
        elif role not in ("assistant", "tool", "system"):
            self.count_unknown("message", role)
        elif self.notes.get("is_copy") or role == "system":
            return
        elif role == "assistant":
            yield from self._brought(message)
        else:
            yield self._result(message.get("toolCallId"), {"output": content, "isError": message.get("isError")})

    def _brought(self, message: Mapping[str, Any]) -> Iterator[Event]:
        """A reply that was not spoken in this wire's own loop: of a session that was brought from elsewhere."""
        text = text_of(message.get("content"))
        self.group = self.named("assistant", text)
        yield from self.prose("reply", self.group, text)
        calls = message.get("toolCalls")
        for number, call in enumerate(calls if isinstance(calls, list) else (), start=1):
            function = call.get("function")
            told = function if isinstance(function, Mapping) else call
            own = f"{self.group}#{number}"
            yield self._call(own, id_in(call.get("id")), first_text(told, ("name",)), told.get("arguments"))

    def _prompt(self, text: str) -> Iterator[Event]:
        key = text[:200]
        undone = dict(self.notes.get("undone", {}))
        before = undone.pop(key, "")
        own = before or self.named("user", text)
        self.notes["undone"] = undone
        if turns := self.notes.get("turns"):
            self.notes["turns"] = [*turns[:-1], [*turns[-1], [key, own]]]
        if self.notes.get("is_copy"):  # only the last before the agent's own first step is not a copy
            self.notes["held"] = [own, text, self.at_ms]
        elif not before:
            yield from self.prose("prompt", own, text)

    def _undo(self, count: object) -> None:
        number = count if isinstance(count, int) and count > 0 else 1
        turns = self.notes.get("turns", [])
        prompts = [prompt for turn in turns[-number:] for prompt in turn]
        self.notes["undone"] = dict(prompts)
        self.notes["turns"] = turns[:-number]

    # The loop ----------------------------------------------------------------------------------------------------------

    def _loop(self, event: Mapping[str, Any]) -> Iterator[Event]:
        kind = event.get("type")
        if self.notes.pop("is_copy", False) and (held := self.notes.pop("held", None)):
            now, self.at_ms = self.at_ms, held[2]
            yield from self.prose("prompt", held[0], held[1])
            self.at_ms = now
        self.group = id_in(event.get("stepUuid")) or id_in(event.get("turnId"))
        if kind == "content.part":
            yield from self._part(event)
            return
        if kind not in ("llm.request", "llm.response"):
            yield from self.close()
        if kind == "tool.call":
            tool, own = first_text(event, ("name",)), id_in(event.get("uuid"))
            yield self._call(own, id_in(event.get("toolCallId")), tool, event.get("args"))
        elif kind == "tool.result":
            yield self._result(event.get("toolCallId"), event.get("result"))
        elif kind not in _SILENT_EVENTS:
            self.count_unknown("loop event", kind)

    def _part(self, event: Mapping[str, Any]) -> Iterator[Event]:
        part = event.get("part")
        if not isinstance(part, Mapping):
            raise TypeError("a part without content")
        kind = part.get("type")
        if kind in ("text", "think"):
            text = first_text(part, ("think", "text") if kind == "think" else ("text",))
            key = f"{self.group}:{kind}"
            yield from self.piece(key, "thought" if kind == "think" else "reply", text, own=id_in(event.get("uuid")))
        elif kind not in _SILENT_PARTS:
            yield from self.close()
            self.count_unknown("part", kind)

    def _call(self, own: str, agents_id: str, tool: str, arguments: object) -> Event:
        """A call, under the id of its record: Kimi's own ids (`Shell:0`) come again in every session."""
        own = own or self.named("call", agents_id, tool)
        ids = {name: joint for name, joint in self.notes.get("ids", {}).items() if name != agents_id}
        self.notes["ids"] = dict([*ids.items(), (agents_id, own)][-_NUM_CALLS_KEPT:])
        return self.call(own, own, tool, arguments)

    def _result(self, agents_id: object, result: object) -> Event:
        call_id, text = self.notes.get("ids", {}).get(id_in(agents_id), ""), result_text(result)
        failed = result.get("isError") if isinstance(result, Mapping) else None
        code = exit_code_of(text)
        own = f"{call_id}#result" if call_id else self.named("result", text)
        return self.result(own, call_id, text, failed=bool(code) or failed is True, exit_code=code)


def _state(session: Path) -> Mapping[str, Any]:
    try:
        found = json_document(session / _STATE, max_bytes=_MAX_STATE_bytes)
    except OSError:
        return {}
    return found if isinstance(found, Mapping) else {}


def _is_wire(inside: Inside) -> bool:
    return len(inside) == 5 and inside[2] == _AGENTS and inside[4] == _WIRE


def _is_entered(inside: Inside) -> bool:
    return len(inside) < 3 or (inside[2] == _AGENTS and len(inside) < 5)
