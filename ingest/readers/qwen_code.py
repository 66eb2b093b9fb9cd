"""Qwen Code: `projects/<folder>/chats/<session>.jsonl`, sub-agents' in `subagents/<session>/`; before that Gemini's documents.

A line is one record, named by its uuid, with its session, folder and branch. What was compressed or rewound was said before.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ingest.readers.base import FileReader, json_lines, parse_time_ms
from ingest.readers.calls import first_text
from ingest.readers.gemini_cli import has_header, read_session
from ingest.readers.gemini_messages import GeminiTranscript, maps_in, output_in, parts_in, shell_code, text_of, typed_of
from ingest.readers.places import named_folder
from ingest.readers.transcript import Transcript, read_lines
from ingest.readers.values import id_in
from ingest.readers.walking import Inside, files_below, inside_of
from ingest.session import Cursor, Item
from lmm_mcp.domain.event import Event
from lmm_mcp.paths import user_home

_NUM_LINES_LOOKED_AT = 5
_MAX_LOOK_bytes = 1024 * 1024
_TYPES = frozenset({"user", "assistant", "tool_result", "system"})
_TYPED = frozenset({"", "mid_turn_user_message", "cron", "realtime_message"})
"""Subtypes of user records that hold what a person said, or had said for them at a set time."""
_SAID_BY_MACHINE = frozenset({"goal_control", "goal_runtime", "system"})
_SILENT = frozenset(
    """session_notes slash_command ui_telemetry at_command attribution_snapshot notification background_task_completed
    session_source session_execution_engine omni_recall session_model session_approval_mode rewind agent_bootstrap
    agent_launch_prompt agent_retry agent_session_ready file_history_snapshot user_text_elements session_artifact_event
    session_artifact_snapshot session_sources_snapshot branch_checkpoint goal_state goal_runtime goal_turn_end
    code_mode_tool_result turn_result managed_session_header_v1 managed_session_event_v1 managed_session_commit_v1""".split()
)
_ENDED = {"success": False, "error": True, "cancelled": True}
_OTHER_FOLDERS = frozenset("history extensions debug ide bin skills commands arena agents memory checkpoints".split())
_HOLDING = ("chats", "subagents")


class QwenCode(FileReader):
    """Reader of Qwen Code sessions."""

    agent = "qwen-code"
    version = 1

    def roots(self, env: Mapping[str, str], extra: Sequence[Path]) -> tuple[Path, ...]:
        """`QWEN_RUNTIME_DIR`, else `QWEN_HOME`, and always `~/.qwen`, where sessions lay before; then `extra`."""
        named = named_folder(env, "QWEN_RUNTIME_DIR") or named_folder(env, "QWEN_HOME")
        own = (named, user_home(env) / ".qwen", *extra)
        return tuple(dict.fromkeys(folder for folder in own if folder is not None))

    def discover(self, root: Path) -> Iterator[Path]:
        """Sessions and their sub-agents' under `projects` and `tmp`; credentials and settings are never named."""
        yield from files_below(root, _is_session, _is_entered)

    def session_of(self, root: Path, path: Path) -> Path | None:
        """Every session file speaks for itself."""
        return path if path == root or _is_session(inside_of(root, path)) else None

    def claims(self, path: Path) -> bool:
        """Whether the first lines are Qwen's records, or a document as Gemini CLI writes it that lies in Qwen's place."""
        if path.suffix == ".json":
            return ".qwen" in path.parts and has_header(path)
        if path.suffix != ".jsonl" or not path.is_file():
            return False
        lines = json_lines(path, Cursor(), final=True, max_line_bytes=_MAX_LOOK_bytes)
        return any(isinstance(item, tuple) and _has_our_shape(item[1]) for item in islice(lines, _NUM_LINES_LOOKED_AT))

    def read(self, path: Path, cursor: Cursor) -> Iterator[Item]:
        """Yield what stands behind `cursor`, all of it where the file is a document. Raises OSError."""
        if path.suffix == ".json":
            yield from read_session(path, cursor, _Document(id_in(path.stem), cursor.context))
            return
        yield from read_lines(path, cursor, _Lines(id_in(path.stem), cursor.context))


class _Document(GeminiTranscript):
    agent = "qwen-code"


class _Lines(Transcript):
    agent = "qwen-code"

    def take(self, record: Mapping[str, Any]) -> Iterator[Event]:
        """Events of one record."""
        kind, subtype = record.get("type"), first_text(record, ("subtype",))
        if kind not in _TYPES:
            self.count_unknown("record", kind)
            return
        self._belong(record)
        self.at_ms = parse_time_ms(record.get("timestamp"))
        parts = _mapping(record.get("message")).get("parts")
        own = self.unique_id(record.get("uuid")) or self.named(str(kind), text_of(parts))
        self.group = own
        payload = _mapping(record.get("systemPayload"))
        if kind == "system":
            yield from self._system(own, subtype, payload)
        elif kind == "assistant":
            yield from self._assistant(own, parts)
        elif kind == "tool_result":
            yield from self._results(own, parts, _mapping(record.get("toolCallResult")))
        elif subtype in _TYPED and record.get("provenance") not in _SAID_BY_MACHINE:
            yield from self._results(own, parts, {})
            yield from self.prose("prompt", own, first_text(payload, ("displayText",)) or typed_of(parts))
        elif subtype not in _TYPED | _SILENT:
            self.count_unknown("user record", subtype)

    def _belong(self, record: Mapping[str, Any]) -> None:
        session, agent = id_in(record.get("sessionId")) or self.thread.session_id, id_in(record.get("agentId"))
        if agent and record.get("isSidechain") is not False:
            # Their names are short: `explore-7f3c` comes again in another session.
            self.know(session_id=session, thread_id=f"{session}/{agent}", parent=session)
            self.know(title=self.thread.title or first_text(record, ("agentName",)))
        elif not self.thread.parent:
            self.know(session_id=session, thread_id=session)
        source = _mapping(record.get("forkedFrom"))
        self.know(forked_from=self.thread.forked_from or id_in(source.get("sessionId")))
        self.stand_at(first_text(record, ("cwd",)), first_text(record, ("gitBranch",)))

    def _assistant(self, own: str, parts: object) -> Iterator[Event]:
        yield from self.prose("thought", f"{own}#thought", text_of(parts, thought=True))
        yield from self.prose("reply", own, text_of(parts))
        for number, asked in enumerate(parts_in(parts, "functionCall"), start=1):
            call_id = id_in(asked.get("id")) or f"{own}#{number}"
            yield self.call(f"{own}#{number}", call_id, first_text(asked, ("name",)), asked.get("args"))

    def _results(self, own: str, parts: object, told: Mapping[str, Any]) -> Iterator[Event]:
        for number, response in enumerate(parts_in(parts, "functionResponse")):
            call_id = id_in(response.get("id")) or id_in(told.get("callId"))
            inner = _mapping(response.get("response"))
            text = output_in(inner) or first_text(told, ("resultDisplay",))
            code = shell_code(text) if first_text(response, ("name",)) == "run_shell_command" else None
            event_id = f"{own}#result{number or ''}"
            yield self.result(event_id, call_id, text, failed=_failed(told, inner, code), exit_code=code)

    def _system(self, own: str, subtype: str, payload: Mapping[str, Any]) -> Iterator[Event]:
        if subtype == "chat_compression":
            summaries = (text_of(turn.get("parts")) for turn in maps_in(payload.get("compressedHistory")))
            # The rest of the new history is what was said and kept: it stands above.
            yield from self.prose("summary", own, next((text for text in summaries if "<state_snapshot>" in text), ""))
        elif subtype == "custom_title":
            is_manual = payload.get("titleSource") != "auto"
            if is_manual or not self.notes.get("is_entitled"):
                self.know(title=first_text(payload, ("customTitle",)).strip())
                self.notes["is_entitled"] = is_manual
        elif subtype == "parent_session":
            parent = id_in(payload.get("parentSessionId"))
            if parent and parent != self.thread.thread_id and not self.has_spoken:
                self.know(session_id=parent, parent=parent)
        elif subtype not in _SILENT:
            self.count_unknown("system record", subtype)


def _failed(told: Mapping[str, Any], response: Mapping[str, Any], exit_code: int | None) -> bool | None:
    if exit_code:
        return True
    if told.get("status") in _ENDED:
        return _ENDED[str(told["status"])]
    return True if "error" in response and "output" not in response else None


def _is_session(inside: Inside) -> bool:
    if len(inside) < 2:
        return False
    name = inside[-1]
    if inside[-2] == "chats":
        return name.endswith(".jsonl") or (name.startswith("session-") and name.endswith(".json"))
    return len(inside) > 2 and inside[-3] == "subagents" and name.startswith("agent-") and name.endswith(".jsonl")


def _is_entered(inside: Inside) -> bool:
    if "subagents" in inside:
        return len(inside) - inside.index("subagents") <= 2
    if "chats" in inside:
        return inside[-1] == "chats"
    return inside[0] not in _OTHER_FOLDERS and (len(inside) <= 2 or (len(inside) == 3 and inside[-1] in _HOLDING))


def _has_our_shape(record: Mapping[str, Any]) -> bool:
    if record.get("type") not in _TYPES or "sessionId" not in record:
        return False
    message = _mapping(record.get("message"))
    return "systemPayload" in record or (isinstance(message.get("parts"), list) and "role" in message)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
