"""Grok Build: `sessions/<folder, URL-encoded>/<session>/updates.jsonl`, what was shown, line by line; `summary.json` beside it.

A line is an update of the Agent Client Protocol: pieces of prompts, replies and thoughts, calls, and what became of them. A
sub-agent is a session of its own whose summary names the session that started it.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ingest.readers.base import FileReader, SLICE_bytes, json_lines, parse_time_ms
from ingest.readers.calls import first_text
from ingest.readers.documents import json_document
from ingest.readers.factory_droid import first_record
from ingest.readers.family import root_of
from ingest.readers.growing import Growing, read_pieces
from ingest.readers.ours import is_our_tool
from ingest.readers.outputs import output_text
from ingest.readers.places import named_folder
from ingest.readers.values import exit_code_in, id_in
from ingest.readers.walking import Inside, files_below, inside_of
from ingest.session import Cursor, Item
from lmm_mcp.domain.event import Event, EventKind
from lmm_mcp.paths import user_home

_UPDATES = "updates.jsonl"
_SUMMARY = "summary.json"
_MAX_SUMMARY_bytes = 1024 * 1024
_NUM_BARE_KEPT = 64
_PROSE: Mapping[str, EventKind] = {
    "user_message_chunk": "prompt",
    "agent_message_chunk": "reply",
    "agent_thought_chunk": "thought",
}
_SILENT = frozenset(
    """plan available_commands_update current_mode_update current_model_update config_option_update session_info_update
    usage_update turn_started turn_completed retry_state""".split()
)
_SUB_AGENTS = frozenset({"subagent", "subagent_fork"})
_QUERY = ("<user_query>", "</user_query>")


class Grok(FileReader):
    """Reader of Grok Build sessions."""

    agent = "grok"
    version = 1

    def roots(self, env: Mapping[str, str], extra: Sequence[Path]) -> tuple[Path, ...]:
        """`sessions` in `GROK_HOME`, else in `~/.grok`, then `extra`."""
        own = named_folder(env, "GROK_HOME") or user_home(env) / ".grok"
        return tuple(dict.fromkeys((own / "sessions", *extra)))

    def discover(self, root: Path) -> Iterator[Path]:
        """The updates of each session; what else lies there (prompts, telemetry, output of terminals) is never named."""
        yield from files_below(root, _is_session, _is_entered)

    def session_of(self, root: Path, path: Path) -> Path | None:
        """Updates speak for themselves, the summary beside them for them."""
        inside = inside_of(root, path)
        if len(inside) == 3 and inside[2] == _SUMMARY:
            updates = path.with_name(_UPDATES)
            return updates if updates.exists() else None
        return path if path == root or _is_session(inside) else None

    def claims(self, path: Path) -> bool:
        """By its name, and an update in its first line: other agents speak the protocol, too."""
        return path.name == _UPDATES and path.is_file() and bool(_update_in(first_record(path)))

    def read(self, path: Path, cursor: Cursor) -> Iterator[Item]:
        """Yield what stands behind `cursor`. Raises OSError."""
        updates = _Updates(id_in(path.parent.name), cursor.context)
        updates.learn_summary(path.parent)
        yield from read_pieces(path, json_lines(path, cursor, slice_bytes=SLICE_bytes), updates)


class _Updates(Growing):
    agent = "grok"

    def learn_summary(self, folder: Path) -> None:
        """Learn what the summary says of the session, where it was left and who started it."""
        summary = _summary(folder)
        info = summary.get("info")
        info = info if isinstance(info, Mapping) else {}
        own = id_in(info.get("id")) or self.thread.thread_id
        parent = id_in(summary.get("parent_session_id"))
        parent = parent if parent != own else ""
        self.know(
            session_id=own, thread_id=own, title=first_text(summary, ("generated_title", "session_summary")).strip()
        )
        if parent and summary.get("session_kind") in _SUB_AGENTS:
            self.know(session_id=root_of(own, parent, lambda above: _parent_of(folder, above)), parent=parent)
        else:
            self.know(forked_from=parent)
        cwd = first_text(info, ("cwd",)) or self.cwd or _folder_named(folder.parent.name)
        self.stand_at(cwd, first_text(summary, ("head_branch",)))

    def take_record(self, record: Mapping[str, Any]) -> Iterator[Event]:
        """Events of one update."""
        update, params = _update_in(record), record.get("params")
        meta = params.get("_meta") if isinstance(params, Mapping) else None
        meta = meta if isinstance(meta, Mapping) else {}
        self.at_ms = parse_time_ms(meta.get("agentTimestampMs")) or parse_time_ms(record.get("timestamp"))
        kind = update.get("sessionUpdate")
        if isinstance(kind, str) and kind in _PROSE:
            yield from self._prose(_PROSE[kind], update, meta)
        elif kind in ("tool_call", "tool_call_update"):
            yield from self.close()
            yield from self._tool(update, is_new=kind == "tool_call")
        elif kind not in _SILENT:
            yield from self.close()
            self.count_unknown("update", kind)

    def _prose(self, kind: EventKind, update: Mapping[str, Any], meta: Mapping[str, Any]) -> Iterator[Event]:
        text = _text_in(update.get("content"))
        if not text:
            return
        of_update = update.get("_meta")
        of_update = of_update if isinstance(of_update, Mapping) else {}
        number = id_in(of_update.get("promptIndex")) or id_in(meta.get("promptIndex"))
        prompt = id_in(meta.get("promptId")) or id_in(of_update.get("promptId"))
        if kind == "prompt":
            text = text.strip().removeprefix(_QUERY[0]).removesuffix(_QUERY[1]) if _QUERY[0] in text[:200] else text
        else:
            self.group = prompt
        # After a rewind numbers are given anew: only with its time is one unique.
        own = id_in(meta.get("eventId"))
        yield from self.piece(
            f"{kind}:{number if kind == 'prompt' else prompt}", kind, text, own=f"{own}@{self.at_ms:x}" if own else ""
        )

    def _tool(self, update: Mapping[str, Any], *, is_new: bool) -> Iterator[Event]:
        call_id = id_in(update.get("toolCallId"))
        bare = dict(self.notes.get("bare", {}))
        given, status = update.get("rawInput"), update.get("status")
        if is_new:
            tool, title = _tool_named(update), first_text(update, ("title",))
            if not given:  # what it is called with comes with a later update
                bare[call_id] = [tool, title, self.at_ms]
            yield self._call(call_id, tool, title, given)
        elif call_id in bare and given:
            now = self.at_ms
            tool, title, self.at_ms = bare.pop(call_id)
            title = first_text(update, ("title",)) or title
            yield self._call(call_id, _tool_named(update, tool), title, given)
            self.at_ms = now
        self.notes["bare"] = dict(list(bare.items())[-_NUM_BARE_KEPT:])
        if status in ("completed", "failed"):
            yield self._result(call_id, update, failed=status == "failed")

    def _call(self, call_id: str, tool: str, title: str, given: object) -> Event:
        joint = (
            self._calls[call_id][0] if call_id in self._calls else self.unique_id(call_id) or self.named("call", title)
        )
        names = (word.strip("`:()") for word in title.split())
        return self.call(joint, call_id, tool, given or title, ours=any(map(is_our_tool, names)))

    def _result(self, call_id: str, update: Mapping[str, Any], *, failed: bool) -> Event:
        raw = update.get("rawOutput")
        code = (
            next((raw.get(key) for key in ("exit_code", "exitCode") if raw.get(key) is not None), None)
            if isinstance(raw, Mapping)
            else None
        )
        text = _text_in(update.get("content")) or output_text(raw)
        joint = self._calls[call_id][0] if call_id in self._calls else call_id
        own = f"{joint}#result" if joint else self.named("result", text)
        exit_code = exit_code_in(code)
        return self.result(own, call_id, text, failed=failed or bool(exit_code), exit_code=exit_code)


def _update_in(record: Mapping[str, Any]) -> Mapping[str, Any]:
    params = record.get("params")
    update = params.get("update") if isinstance(params, Mapping) else None
    return update if isinstance(update, Mapping) and isinstance(update.get("sessionUpdate"), str) else {}


def _tool_named(update: Mapping[str, Any], otherwise: str = "") -> str:
    """The tool's own name where it is told; the protocol itself has kinds only."""
    meta, given = update.get("_meta"), update.get("rawInput")
    own = first_text(meta, ("toolName", "tool_name", "name")) if isinstance(meta, Mapping) else ""
    own = own or (first_text(given, ("variant", "tool_name", "toolName")) if isinstance(given, Mapping) else "")
    return own or otherwise or first_text(update, ("kind", "title"))


def _text_in(content: object) -> str:
    """Text of a content block, or of a list of them; pictures and embedded resources are left out."""
    if isinstance(content, list):
        return "\n".join(text for block in content if (text := _text_in(block)))
    if not isinstance(content, Mapping):
        return ""
    if content.get("type") == "content":
        return _text_in(content.get("content"))
    return first_text(content, ("text",)) if content.get("type", "text") == "text" else ""


def _summary(folder: Path) -> Mapping[str, Any]:
    try:
        found = json_document(folder / _SUMMARY, max_bytes=_MAX_SUMMARY_bytes)
    except (OSError, ValueError):  # ValueError: a NUL in the name of a parent
        return {}
    return found if isinstance(found, Mapping) else {}


def _parent_of(folder: Path, session: str) -> str:
    """The session that started another, by the summary of that one; it may lie under another folder."""
    for place in (folder.parent, *sorted(folder.parent.parent.glob("*/"))):
        if summary := _summary(place / session):
            return id_in(summary.get("parent_session_id")) if summary.get("session_kind") in _SUB_AGENTS else ""
    return ""


def _folder_named(name: str) -> str:
    path = unquote(name)
    return path if path.startswith(("/", "\\")) or path[1:2] == ":" else ""


def _is_session(inside: Inside) -> bool:
    return len(inside) == 3 and inside[2] == _UPDATES


def _is_entered(inside: Inside) -> bool:
    return len(inside) < 3
