"""Claude Code's sessions: `projects/<folder>/<session>.jsonl`, and its sub-agents' in a folder beside.

A file is one session, nearly: a resumed one may begin with lines of the session it goes on from, older versions write
sub-agents between the lines of their parent, and a sub-agent's own file names its parent as session. So the thread of an
event is told from its record. The folder's name is not invertible; where the work happened stands in the records.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from ingest.readers.base import FileReader, SLICE_bytes, json_lines
from ingest.readers.claude_records import Earlier, Problem, branch_in, events_of, text_in
from ingest.readers.claude_tree import started_by
from ingest.readers.opening import open_file
from ingest.readers.places import config_folders
from ingest.readers.values import ODDITIES, id_in
from ingest.session import Cursor, Item, ReadTo, Unreadable
from lmm_mcp.domain.event import Event, Thread
from lmm_mcp.paths import user_home

_OBSERVERS = "-claude-mem-observer-sessions"
"""Folders in which another memory tool lets an agent watch: retellings of sessions, never a session of their own."""
_DESKTOP = ("*/*/local_*/.claude/projects", "*/*/agent/local_*/.claude/projects")
"""Each session of the desktop application that works by itself (Cowork) has a configuration folder of its own."""

_SPEAKING = frozenset({"user", "assistant", "attachment", "system"})
_TITLES = {"custom-title": ("customTitle", 3), "ai-title": ("aiTitle", 2), "summary": ("summary", 1)}
"""Record type -> its field, and how it ranks: a title that the user gave stays."""

_SILENT = frozenset(
    """progress file-history-snapshot file-history-delta queue-operation last-prompt mode permission-mode pr-link tag
    agent-name agent-color agent-setting tools-used cost-state session-owner session-kind observer-ref task-summary
    api-request api-request-shape api-request-blob api-request-resumed attribution-snapshot speculation-accept
    content-replacement worktree-state bridge-session fork-context-ref frame-link continued-in resume-head-vouch
    data-flow-records data-flow-incomplete derived-from ended-by-model relocated artifact-comment-monitor
    artifact-autoreact-ledger history-suppression isolation-latch atis-latch dev-mods memory-mode started result
    marble-origami-commit marble-origami-snapshot marble-origami-reset""".split()
)
"""Record types that never hold what was said or done: state, telemetry, second copies. Others unknown are counted."""

_ENVELOPE = {
    "user": "message",
    "assistant": "message",
    "system": "uuid",
    "attachment": "attachment",
    "progress": "data",
}
_METADATA = {"summary": "leafUuid", "file-history-snapshot": "messageId", "queue-operation": "operation"}
_NUM_LINES_LOOKED_AT = 20
_MAX_LOOK_bytes = 16 * 1024 * 1024
_MAX_META_bytes = 65_536


class ClaudeCode(FileReader):
    """The reader of Claude Code's sessions. See `ingest.session.Reader`."""

    agent = "claude-code"
    version = 2

    def roots(self, env: Mapping[str, str], extra: Sequence[Path]) -> tuple[Path, ...]:
        """`projects` under each folder of CLAUDE_CONFIG_DIR (several may be named), else `~/.claude`; the desktop's; `extra`."""
        named = env.get("CLAUDE_CONFIG_DIR", "").strip()
        folders = [_expanded(part, env) for part in _several(named)] or [user_home(env) / ".claude"]
        desktop = [
            found
            for place in config_folders(env, "Claude", "local-agent-mode-sessions")
            for pattern in _DESKTOP
            for found in sorted(place.glob(pattern))
        ]
        own = (*folders, *desktop, *extra)
        projects = (folder if folder.name == "projects" else folder / "projects" for folder in own)
        return tuple(dict.fromkeys(projects))

    def discover(self, root: Path) -> Iterator[Path]:
        """Main transcripts and sub-agents' under a `projects` folder. Prompt history, memory and settings are never named."""
        for folder in sorted(root.glob("*/")):
            if not os.access(folder, os.R_OK | os.X_OK):
                yield folder  # named itself, so that whoever opens what is found says why
            elif not folder.name.endswith(_OBSERVERS):
                yield from sorted(folder.glob("*.jsonl"))
                yield from sorted(folder.glob("*/subagents/**/agent-*.jsonl"))

    def session_of(self, root: Path, path: Path) -> Path | None:
        """A transcript or a sub-agent's speaks for itself; outputs that were spilled are read with what refers to them."""
        folder, *inside = path.relative_to(root).parts
        if path.suffix != ".jsonl" or not inside or folder.endswith(_OBSERVERS):
            return None
        is_subagent = len(inside) > 2 and inside[1] == "subagents" and path.name.startswith("agent-")
        return path if len(inside) == 1 or is_subagent else None

    def claims(self, path: Path) -> bool:
        """Whether one of the first lines has the shape of this agent's records. Raises OSError like any reading."""
        if path.suffix != ".jsonl" or not path.is_file():
            return False
        lines = (
            item[1]
            for item in islice(
                json_lines(path, Cursor(), final=True, max_line_bytes=_MAX_LOOK_bytes), _NUM_LINES_LOOKED_AT
            )
            if isinstance(item, tuple)
        )
        return any(_has_our_shape(record) for record in lines)

    def read(self, path: Path, cursor: Cursor) -> Iterator[Item]:
        """Yield events, threads before theirs, and at the end how often something unknown was met. Raises OSError."""
        reading = _Reading(path, cursor.context)
        for item in json_lines(path, cursor, slice_bytes=SLICE_bytes):
            if isinstance(item, tuple):
                try:
                    said = list(reading.take(*item))
                except ODDITIES as problem:
                    name = type(problem).__name__
                    said = [Unreadable(str(path), item[0], f"a record that is not built as expected ({name})")]
                yield from said
            elif isinstance(item, ReadTo):
                yield from reading.unknown()
                yield replace(item, cursor=replace(item.cursor, context=reading.context()))
            else:
                yield item


class _Reading:
    """One pass over a file, or over its new tail: which thread each record belongs to, and what is known of the threads."""

    def __init__(self, path: Path, context: Mapping[str, Any]) -> None:
        self._path = path
        context = deepcopy(dict(context))  # the caller's cursor stays as it is, to be used again if this reading fails
        self._earlier = Earlier(**context.get("earlier", {}))
        self._num_unknown_before = sum(self._earlier.unknown.values())
        self._threads = {name: Thread(**fields) for name, fields in context.get("threads", {}).items()}
        self._ranks: dict[str, int] = dict(context.get("ranks", {}))
        self._spoken: set[str] = set(context.get("spoken", ()))
        """Threads that have had events: the others are titles of sessions without a word."""
        self._session: str = context.get("session", "")
        self._last_ms: int = context.get("last_ms", 0)
        self._told: Thread | None = None
        self._named = id_in(path.stem)
        """What the file is called: a session without another name."""
        self._agent_id = id_in(path.stem.removeprefix("agent-")) if path.name.startswith("agent-") else ""
        self._has_asked_for_parent = False

    def context(self) -> dict[str, Any]:
        """What the next reading of this file must know; JSON types only."""
        return {
            "session": self._session,
            "last_ms": self._last_ms,
            "ranks": self._ranks,
            "spoken": sorted(self._spoken),
            "threads": {name: _fields(thread) for name, thread in self._threads.items()},
            "earlier": _fields(self._earlier),
        }

    def take(self, line: int, record: dict[str, Any]) -> Iterator[Item]:
        """Yield what one record says."""
        kind = record.get("type")
        if not isinstance(kind, str):
            self._earlier.count_unknown("record", kind)
        elif kind in _SPEAKING:
            thread_id = self._thread_of(record)
            for item in events_of(record, self._earlier, self._path):
                if isinstance(item, Problem):
                    yield Unreadable(str(self._path), line, item.text)
                else:
                    yield from self._say(thread_id, item)
            yield from self._started(thread_id, record)
        elif kind in _TITLES:
            yield from self._entitle(record, kind)
        elif kind not in _SILENT:
            self._earlier.count_unknown("record", kind)

    def unknown(self) -> Iterator[Unreadable]:
        """What was met in this file, from its beginning, that this reader does not know; nothing if there is no news."""
        if sum(self._earlier.unknown.values()) > self._num_unknown_before:
            for what, num_times in self._earlier.unknown.items():
                yield Unreadable(str(self._path), 0, f"{what} ({num_times:,} times)")

    def _say(self, thread_id: str, event: Event) -> Iterator[Item]:
        self._spoken.add(thread_id)
        self._last_ms = event.at_ms or self._last_ms
        thread = self._threads[thread_id]
        if thread is not self._told:
            self._told = thread
            yield thread
        yield event

    def _started(self, thread_id: str, record: dict[str, Any]) -> Iterator[Thread]:
        """Say of the sub-agent whose work ends with this record who started it: its own file may have been read by then."""
        result = record.get("toolUseResult")
        started = id_in(result.get("agentId")) if isinstance(result, dict) else ""
        if not self._agent_id or thread_id != self._agent_id or started in ("", thread_id):
            return  # the main line starts whom nobody else does
        parent = started_by(self._path.with_name(f"agent-{started}.jsonl"), started) or thread_id
        self._told = Thread("claude-code", self._threads[thread_id].session_id, started, parent=parent)
        yield self._told

    def _thread_of(self, record: dict[str, Any]) -> str:
        """Find the thread that a record belongs to, and learn from it what was not known about the thread."""
        session_id = id_in(record.get("sessionId")) or self._session or self._named
        thread_id = session_id
        if record.get("isSidechain") is True or self._agent_id:
            thread_id = id_in(record.get("agentId")) or self._agent_id or f"{session_id}/sidechain"
        else:
            self._session = session_id
        thread = self._threads.get(thread_id)
        if thread is None:
            parent = session_id if thread_id != session_id else ""  # the main line, where nobody else says so
            thread = Thread("claude-code", session_id, thread_id, title=self._description(thread_id), parent=parent)
            self._threads[thread_id] = thread
        if thread_id == self._agent_id and not self._has_asked_for_parent:
            self._has_asked_for_parent = True  # at each reading: the caller says so only when the called one is done
            self._learn(thread, parent=started_by(self._path, thread_id) or thread.parent)
            thread = self._threads[thread_id]
        if not (thread.cwd and thread.branch and thread.forked_from):
            source = record.get("forkedFrom")
            self._learn(
                thread,
                cwd=thread.cwd or text_in(record, "cwd"),
                branch=thread.branch or branch_in(record),
                forked_from=thread.forked_from or (id_in(source.get("sessionId")) if isinstance(source, dict) else ""),
            )
        return thread_id

    def _learn(self, thread: Thread, **fields: str) -> None:
        if any(getattr(thread, name) != value for name, value in fields.items()):
            self._threads[thread.thread_id] = replace(thread, **fields)

    def _entitle(self, record: dict[str, Any], kind: str) -> Iterator[Item]:
        field, rank = _TITLES[kind]
        title = text_in(record, field).strip()
        # Summaries above the first message are titles of other sessions, written here because this file was at hand.
        if not title or (kind == "summary" and not self._session):
            return
        thread_id = id_in(record.get("sessionId")) or self._agent_id or self._session or self._named
        thread = self._threads.setdefault(thread_id, Thread("claude-code", thread_id, thread_id))
        if kind == "summary":
            yield from self._say(
                thread_id,
                Event(
                    f"summary:{id_in(record.get('leafUuid'))}",
                    "summary",
                    title,
                    self._last_ms,
                    cwd=thread.cwd,
                    branch=thread.branch,
                ),
            )
        if rank >= self._ranks.get(thread_id, 0):
            self._ranks[thread_id] = rank
            self._learn(thread, title=title)
            if thread_id in self._spoken and self._threads[thread_id] is not thread:
                self._told = self._threads[thread_id]
                yield self._told

    def _description(self, thread_id: str) -> str:
        """Return what a sub-agent was started for, from the small file beside its own."""
        if not self._agent_id or thread_id != self._agent_id:
            return ""
        try:
            with open_file(self._path.with_suffix(".meta.json")) as stream:
                meta = orjson.loads(stream.read(_MAX_META_bytes))
        except (OSError, orjson.JSONDecodeError):
            return ""  # optional, and older versions write none
        return text_in(meta, "description") if isinstance(meta, dict) else ""


def _has_our_shape(record: dict[str, Any]) -> bool:
    kind = record.get("type")
    if not isinstance(kind, str):
        return False
    if kind in _METADATA:
        return _METADATA[kind] in record
    ours = kind in _ENVELOPE and _ENVELOPE[kind] in record and "sessionId" in record
    if "uuid" not in record and "timestamp" not in record:  # what cleans transcripts may take the ids out
        return False
    if ours and kind in ("user", "assistant"):  # a near relative of this format has `parts` in its messages
        message = record["message"]
        return isinstance(message, dict) and "content" in message
    return ours and "systemPayload" not in record


def _several(named: str) -> list[str]:
    """Split a variable that may name several folders; a single folder may itself hold a comma."""
    if not named or Path(named).is_dir():
        return [named] if named else []
    return [part.strip() for piece in named.split(",") for part in piece.split(os.pathsep) if part.strip()]


def _expanded(folder: str, env: Mapping[str, str]) -> Path:
    return user_home(env) / folder[1:].lstrip("/\\") if folder.startswith("~") else Path(folder).absolute()


def _fields(value: Thread | Earlier) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}
