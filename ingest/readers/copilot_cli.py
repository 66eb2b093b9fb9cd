"""GitHub Copilot CLI: `session-state/<id>/events.jsonl`, before that `session-state/<id>.jsonl`; its title in `workspace.yaml`.

A line is `{type, data, id, parentId, timestamp}`. Much is written several times: a call as the model asked for it, as it was
started and as hooks saw it; a prompt as typed and as the model got it. Only the first of each is read. Sub-agents write
between the lines of their session, under the id of the agent or of the call that started them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from ingest.readers.base import FileReader, json_lines, parse_time_ms
from ingest.readers.calls import first_text
from ingest.readers.opening import open_file
from ingest.readers.places import named_folder
from ingest.readers.transcript import Transcript, read_lines
from ingest.readers.values import exit_code_in, id_in
from ingest.readers.walking import Inside, files_below, inside_of, is_like_an_id
from ingest.session import Cursor, Item
from lmm_mcp.domain.event import Event, Thread
from lmm_mcp.paths import user_home

_STATE = "session-state"
_EVENTS = "events.jsonl"
_WORKSPACE = "workspace.yaml"
_MAX_WORKSPACE_bytes = 65_536
_MAX_LOOK_bytes = 1024 * 1024
_NUM_CALLERS_KEPT = 256
_UNIQUE_chars = 16
_TYPED = frozenset({"", "user"})
"""Where a user's message comes from, if it comes from the user: skills and the like speak in their name, too."""
_SILENT_KINDS = frozenset(
    {
        "hook",
        "permission",
        "system",
        "user_input",
        "elicitation",
        "external_tool",
        "command",
        "commands",
        "capabilities",
    }
    | {"exit_plan_mode", "mcp", "sampling", "pending_messages", "skill", "auto_mode_switch", "model", "sandbox"}
)
"""What stands before the dot in records of state, telemetry and second copies."""
_SILENT = frozenset(
    """abort assistant.turn_start assistant.turn_end assistant.intent assistant.usage assistant.streaming_delta
    assistant.message_start assistant.message_delta assistant.reasoning_delta assistant.idle tool.execution_partial_result
    tool.execution_progress tool.user_requested subagent.completed subagent.failed subagent.selected subagent.deselected
    session.model_change session.info session.warning session.error session.idle session.shutdown session.truncation
    session.compaction_start session.plan_changed session.mode_changed session.permissions_changed session.task_complete
    session.snapshot_rewind session.usage_info session.workspace_file_changed session.background_tasks_changed
    session.tools_updated session.skills_loaded session.mcp_servers_loaded session.mcp_server_status_changed
    session.extensions_loaded session.custom_agents_updated session.remote_steerable_changed session.custom_notification
    session.schedule_created session.schedule_cancelled session.autopilot_objective_changed session.todos_changed
    session.import_legacy session.workspace_updated""".split()
)
_EXIT_CODE = re.compile(r"<(?:shellId: [^<>\n]* completed|exited) with exit code (-?\d+)>\s*\Z")
_BLOCK_SCALAR = frozenset({"|", "|-", ">", ">-", "|+", ">+"})


class CopilotCli(FileReader):
    """Reader of GitHub Copilot CLI sessions."""

    agent = "copilot-cli"
    version = 1

    def roots(self, env: Mapping[str, str], extra: Sequence[Path]) -> tuple[Path, ...]:
        """`session-state` in `COPILOT_HOME`, in `.copilot` of `XDG_STATE_HOME` (older), else of the home folder; then `extra`."""
        state = named_folder(env, "XDG_STATE_HOME")
        own = (named_folder(env, "COPILOT_HOME"), state and state / ".copilot", user_home(env) / ".copilot")
        more = (folder / _STATE if folder.name == ".copilot" else folder for folder in extra)
        return tuple(dict.fromkeys((*(folder / _STATE for folder in own if folder), *more)))

    def discover(self, root: Path) -> Iterator[Path]:
        """The events of each session; its checkpoints and files, and credentials beside it, are never named."""
        for path in files_below(root, _is_session, _is_entered):
            if _current(path) == path:
                yield path

    def session_of(self, root: Path, path: Path) -> Path | None:
        """Events speak for themselves, the workspace file beside them for them."""
        inside = inside_of(root, path)
        if len(inside) == 2 and inside[1] == _WORKSPACE:
            events = path.with_name(_EVENTS)
            return events if events.exists() else None
        return _current(path) if path == root or _is_session(inside) else None

    def claims(self, path: Path) -> bool:
        """Whether the first record is how a session of this agent starts."""
        if path.suffix != ".jsonl" or not path.is_file():
            return False
        lines = json_lines(path, Cursor(), final=True, max_line_bytes=_MAX_LOOK_bytes)
        first = next((item[1] for item in islice(lines, 2) if isinstance(item, tuple)), {})
        data = first.get("data")
        if first.get("type") != "session.start" or not isinstance(data, dict):
            return False
        return "copilotVersion" in data or "copilot" in first_text(data, ("producer",))

    def read(self, path: Path, cursor: Cursor) -> Iterator[Item]:
        """Yield what stands behind `cursor`. Raises OSError."""
        named = path.parent.name if path.name == _EVENTS else path.stem
        transcript = _Events(id_in(named), cursor.context)
        if path.name == _EVENTS:
            transcript.learn_workspace(_workspace(path.with_name(_WORKSPACE)))
        yield from read_lines(path, cursor, transcript)


class _Events(Transcript):
    agent = "copilot-cli"

    def learn_workspace(self, said: Mapping[str, str]) -> None:
        """Learn the title, and where the work is done if no record has said so."""
        self.know(title=said.get("name", "") or said.get("summary", ""))
        if not self.cwd:
            self._stand_in(said, said.get("repository", ""))

    def take(self, record: Mapping[str, Any]) -> Iterator[Event]:
        """Events of one record, in the thread of the agent that it is of."""
        kind, data = record.get("type"), record.get("data")
        if not isinstance(kind, str) or not isinstance(data, Mapping):
            self.count_unknown("record", kind)
            return
        self.at_ms = parse_time_ms(record.get("timestamp"))
        own = self.unique_id(record.get("id")) or self.named(
            kind, str(data.get("content")), str(data.get("toolCallId"))
        )
        key = id_in(record.get("agentId")) or id_in(data.get("parentToolCallId"))
        if kind == "subagent.started":
            self._start_agent(record, data)
        elif kind.startswith("session."):
            yield from self._session(kind, own, data)
        else:
            main = self.thread
            self.thread = self._agents_thread(key) if key else main
            try:
                yield from self._said(kind, own, key, data)
            finally:
                self.thread = main

    def _said(self, kind: str, own: str, key: str, data: Mapping[str, Any]) -> Iterator[Event]:
        if kind == "user.message":
            if first_text(data, ("source",)) in _TYPED:
                yield from self.prose("prompt", own, first_text(data, ("content",)))
        elif kind == "assistant.message":
            yield from self._message(own, key, data)
        elif kind == "assistant.reasoning":
            self.notes["reasoned"] = first_text(data, ("content",)).strip()[:200]
            yield from self.prose("thought", f"{own}#thought", first_text(data, ("content",)))
        elif kind == "tool.execution_start":
            call_id = id_in(data.get("toolCallId"))
            if call_id not in self._calls:
                yield self._call(own, 1, call_id, key, first_text(data, ("toolName",)), data.get("arguments"))
        elif kind == "tool.execution_complete":
            yield self._completed(own, data)
        elif kind not in _SILENT and kind.partition(".")[0] not in _SILENT_KINDS:
            self.count_unknown("record", kind)

    def _session(self, kind: str, own: str, data: Mapping[str, Any]) -> Iterator[Event]:
        if kind in ("session.start", "session.resume", "session.context_changed"):
            name = id_in(data.get("sessionId"))
            if kind == "session.start" and name:  # its folder may be called otherwise
                self.know(session_id=name, thread_id=name)
            context = data.get("context", data)
            if isinstance(context, Mapping):
                self._stand_in(context, first_text(context, ("repository",)))
        elif kind in ("session.compaction_complete", "session.handoff"):
            yield from self.prose("summary", own, first_text(data, ("summaryContent", "summary")))
        elif kind == "session.title_changed":
            self.know(title=first_text(data, ("title",)).strip())
        elif kind not in _SILENT:
            self.count_unknown("record", kind)

    def _stand_in(self, context: Mapping[str, Any], repository: str) -> None:
        self.stand_at(first_text(context, ("cwd",)), first_text(context, ("branch",)))
        host = first_text(context, ("repositoryHost", "host")) or "github.com"
        if re.fullmatch(r"[\w.-]+/[\w.-]+", repository) and context.get("hostType", "github") == "github":
            self.know(remote=f"https://{host}/{repository}")

    def _message(self, own: str, key: str, data: Mapping[str, Any]) -> Iterator[Event]:
        self.group = id_in(data.get("messageId")) or own
        thought = first_text(data, ("reasoningText",))
        if thought.strip()[:200] != self.notes.pop("reasoned", None):
            yield from self.prose("thought", f"{own}#thought", thought)
        yield from self.prose("reply", own, first_text(data, ("content",)))
        requests = data.get("toolRequests")
        for number, request in enumerate(requests if isinstance(requests, list) else (), start=1):
            call_id, tool = id_in(request.get("toolCallId")), first_text(request, ("name",))
            yield self._call(own, number, call_id, key, tool, request.get("arguments"))

    def _call(self, own: str, number: int, call_id: str, key: str, tool: str, arguments: object) -> Event:
        if key:
            callers = self.notes.setdefault("callers", {})
            callers[call_id] = key
            while len(callers) > _NUM_CALLERS_KEPT:
                del callers[next(iter(callers))]
        event_id = call_id if len(call_id) >= _UNIQUE_chars else f"{own}#{number}"
        return self.call(event_id, call_id, tool, arguments)

    def _completed(self, own: str, data: Mapping[str, Any]) -> Event:
        result, error = data.get("result"), data.get("error")
        text = result if isinstance(result, str) else ""
        if isinstance(result, Mapping):
            text = first_text(result, ("content", "detailedContent"))
        if not text and error:
            text = first_text(error, ("message",)) if isinstance(error, Mapping) else str(error)
        success, call_id = data.get("success"), id_in(data.get("toolCallId"))
        code = None
        if frame := _EXIT_CODE.search(text):
            code, text = exit_code_in(frame[1]), text[: frame.start()].rstrip("\n")
        failed = True if code else not success if isinstance(success, bool) else None
        return self.result(own, call_id, text, failed=failed, exit_code=code)

    def _start_agent(self, record: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        call_id = id_in(data.get("toolCallId"))
        agents = self.notes.setdefault("agents", {})
        title = first_text(data, ("agentDisplayName", "agentName"))
        # Told under the call's id by older versions and under the agent's by newer ones; a nested one under its starter's.
        caller = self.notes.get("callers", {}).get(call_id, "")
        for key in (id_in(record.get("agentId")), call_id):
            if key and key != caller:
                agents[key] = [title, caller]

    def _agents_thread(self, key: str) -> Thread:
        main = self.thread
        title, caller = self.notes.get("agents", {}).get(key, ("", ""))
        parent = f"{main.thread_id}/{caller}" if caller and caller != key else main.thread_id
        return replace(main, thread_id=f"{main.thread_id}/{key}", title=title, forked_from="", parent=parent)


def _current(path: Path) -> Path:
    """The file that a session is in now: one that was moved into a folder of its own may lie on beside it."""
    moved = path.with_suffix("") / _EVENTS
    return moved if path.name != _EVENTS and moved.exists() else path


def _is_session(inside: Inside) -> bool:
    if len(inside) == 1:
        return inside[0].endswith(".jsonl") and is_like_an_id(inside[0].removesuffix(".jsonl"))
    return len(inside) == 2 and inside[1] == _EVENTS


def _is_entered(inside: Inside) -> bool:
    return len(inside) == 1


def _workspace(path: Path) -> dict[str, str]:
    """The plain `key: value` lines of a small YAML file; {} where there is none."""
    try:
        with open_file(path) as stream:
            lines = stream.read(_MAX_WORKSPACE_bytes).decode("utf-8", "replace").splitlines()
    except OSError:
        return {}
    said: dict[str, str] = {}
    key = ""
    for line in lines:
        if line[:1].isspace():
            if key and said[key] in _BLOCK_SCALAR:
                said[key] = line.strip()  # of several lines the first names it
            continue
        key, colon, value = line.partition(":")
        key, value = key.strip(), value.strip()
        if colon:
            said[key] = value[1:-1] if value[:1] in "'\"" and len(value) > 1 and value[-1] == value[0] else value
        else:
            key = ""
    return {name: value for name, value in said.items() if value not in _BLOCK_SCALAR and value != "null"}
