"""Hermes' sessions as files: `hermes sessions export`, its archive, and what its relay writes (ATIF trajectories, ATOF events).

A file in; of every session in it the thread and rows as the database has them out.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ingest.readers.base import json_lines
from ingest.readers.calls import first_text
from ingest.readers.documents import json_document
from ingest.readers.opening import first_bytes
from ingest.readers.unknown import Unknown
from ingest.readers.values import ODDITIES, id_in
from ingest.session import Cursor, Unreadable
from lmm_mcp.domain.event import Thread

AGENT = "hermes"
Session = tuple[Thread, Iterator[Mapping[str, Any]], Unknown]
_FIRST_bytes = 8192
_MARKS = (
    re.compile(rb'"producer"\s*:\s*"hermes'),
    re.compile(rb'\A\s*\{"atof_version"[^\n]*"platform"\s*:\s*"hermes"'),
    re.compile(rb'"source"\s*:\s*"[^"]*"\s*,\s*"user_id"\s*:'),
)
_TRAJECTORY = b'"ATIF-'
_OF_HERMES = (b"hermes", b'"plugin"')
"""Other agents write trajectories, too; what Hermes' relay wrote names its plugin."""
_STATES = {"rewound": (0, 0), "compacted": (0, 1)}
_SILENT_MARKS = re.compile(r"hermes\.")


def is_export(path: Path) -> bool:
    """Whether a file begins as one of the exports does."""
    if path.suffix not in (".json", ".jsonl") or not path.is_file():
        return False
    first = first_bytes(path, _FIRST_bytes)
    if first.lstrip()[:1] not in (b"{", b"["):
        return False
    is_trajectory = _TRAJECTORY in first and any(sign in first for sign in _OF_HERMES)
    return is_trajectory or any(mark.search(first) for mark in _MARKS)


def sessions_in(path: Path) -> Iterator[Session | Unreadable]:
    """Every session of an export. Raises OSError."""
    events: list[Mapping[str, Any]] = []
    for found in _objects(path):
        if isinstance(found, Unreadable):
            yield found
        elif "atof_version" in found:
            events.append(found)
        elif isinstance(found.get("steps"), list):
            yield _of_trajectory(found)
        elif isinstance(found.get("messages"), list):
            yield _of_archive(found) if "session_id" in found else _of_session(found)
        else:
            yield Unreadable(str(path), 0, "holds no session of Hermes")
    if events:
        yield from _of_events(events)


def _objects(path: Path) -> Iterator[Mapping[str, Any] | Unreadable]:
    if path.suffix == ".jsonl":
        for item in json_lines(path, Cursor(), final=True):
            if isinstance(item, Unreadable):
                yield item
            elif isinstance(item, tuple):
                yield item[1]
        return
    found = json_document(path)
    for one in found if isinstance(found, list) else [found]:
        yield one if isinstance(one, Mapping | Unreadable) else Unreadable(str(path), 0, "holds no session of Hermes")


def _of_session(found: Mapping[str, Any]) -> Session:
    """A row of sessions with its rows of messages."""
    own = id_in(found.get("id"))
    title, cwd, branch = (_text(found, name) for name in ("title", "cwd", "git_branch"))
    thread = Thread(AGENT, own, own, title, cwd, branch, forked_from=id_in(found.get("parent_session_id")))
    return thread, (row for row in found["messages"] if isinstance(row, Mapping)), Unknown()


def _of_archive(found: Mapping[str, Any]) -> Session:
    own = id_in(found.get("session_id"))
    cwd, branch = _text(found, "repository_cwd"), _text(found, "git_branch")
    thread = Thread(AGENT, own, own, "", cwd, branch, forked_from=id_in(found.get("parent_session_id")))
    unknown = Unknown()
    return thread, _archived(found["messages"], unknown), unknown


def _archived(messages: list[Any], unknown: Unknown) -> Iterator[Mapping[str, Any]]:
    for message in messages:
        try:
            active, compacted = _STATES.get(str(message.get("state")), (1, 0))
            row = {"timestamp": message.get("timestamp"), "active": active, "compacted": compacted}
            calls = [
                {"id": call.get("action_id"), "name": call.get("tool_name"), "arguments": call.get("arguments_json")}
                for call in message.get("tool_calls") or ()
            ]
            if message.get("role") != "tool":
                more = {"role": message.get("role"), "content": message.get("text"), "tool_calls": calls}
                yield row | more | {"reasoning": message.get("reasoning")}
            for result in message.get("tool_results") or ():
                yield (
                    row
                    | _result(result.get("action_id"), result.get("output_preview"), failed=result.get("is_error"))
                    | {"exit_code": result.get("exit_code")}
                )
        except ODDITIES as problem:
            unknown.odd("message", problem)


def _of_trajectory(found: Mapping[str, Any]) -> Session:
    own = id_in(found.get("session_id")) or id_in(found.get("trajectory_id"))
    unknown = Unknown()
    return Thread(AGENT, own, own), _steps(found["steps"], unknown), unknown


def _steps(steps: list[Any], unknown: Unknown) -> Iterator[Mapping[str, Any]]:
    for step in steps:
        try:
            source, at = step.get("source"), step.get("timestamp")
            if source == "user":
                yield {"role": "user", "content": step.get("message"), "timestamp": at}
            elif source == "agent":
                yield {
                    "role": "assistant",
                    "content": step.get("message"),
                    "reasoning": step.get("reasoning_content"),
                    "timestamp": at,
                    "tool_calls": [
                        {
                            "id": call.get("tool_call_id"),
                            "name": call.get("function_name"),
                            "arguments": call.get("arguments"),
                        }
                        for call in step.get("tool_calls") or ()
                    ],
                }
                for result in (step.get("observation") or {}).get("results") or ():
                    yield {"timestamp": at} | _result(result.get("source_call_id"), result.get("content"))
            elif source != "system":
                unknown.kind("source", source)
        except ODDITIES as problem:
            unknown.odd("step", problem)


def _of_events(events: list[Mapping[str, Any]]) -> Iterator[Session]:
    """Sessions out of a stream of events, in which those of sub-agents lie between those of the one that started them."""
    by_session: dict[str, list[Mapping[str, Any]]] = {}
    parents: dict[str, str] = {}
    for event in events:
        metadata = event.get("metadata")
        own = id_in(metadata.get("session_id")) if isinstance(metadata, Mapping) else ""
        by_session.setdefault(own, []).append(event)
        data = event.get("data")
        if event.get("name") == "hermes.subagent.start" and isinstance(data, Mapping):
            parents[id_in(data.get("child_session_id"))] = own
    for own, mine in by_session.items():
        parent = parents.get(own, "")
        unknown = Unknown()
        if own:
            yield Thread(AGENT, parent or own, own, parent=parent), _happened(mine, unknown), unknown


def _happened(events: list[Mapping[str, Any]], unknown: Unknown) -> Iterator[Mapping[str, Any]]:
    for event in events:
        try:
            kind, category, phase = event.get("kind"), event.get("category"), event.get("scope_category")
            data, metadata, at = event.get("data"), event["metadata"], event.get("timestamp")
            data = data if isinstance(data, Mapping) else {}
            if kind == "scope" and category == "tool":
                call_id = metadata.get("tool_call_id") or event.get("uuid")
                if phase == "start":
                    call = {"id": call_id, "name": event.get("name"), "arguments": dict(data)}
                    yield {"role": "assistant", "timestamp": at, "tool_calls": [call]}
                else:
                    told = first_text(data, ("stdout", "output", "content", "result", "error"))
                    failed = metadata.get("status") not in (None, "completed", "ok")
                    yield {"timestamp": at} | _result(call_id, told, failed=failed)
            elif kind == "scope" and category == "llm":
                said = data.get("assistant_message")
                if phase == "end" and said:
                    content = said.get("content") if isinstance(said, Mapping) else said
                    yield {"role": "assistant", "content": content, "timestamp": at}
            elif not (category == "agent" and (kind == "scope" or _SILENT_MARKS.match(str(event.get("name"))))):
                unknown.kind("event", category)
        except ODDITIES as problem:
            unknown.odd("event", problem)


def _result(call_id: object, content: object, *, failed: object = None) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content, "failed": failed is True}


def _text(found: Mapping[str, Any], name: str) -> str:
    return first_text(found, (name,)).strip()
