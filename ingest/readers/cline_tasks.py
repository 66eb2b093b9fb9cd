"""Task folders of Cline and its forks: `tasks/<id>/api_conversation_history.json`, rewritten whole, with its side files.

The conversation is what the model saw; `ui_messages.json` beside it says when, and which tools failed; the folder and the
title stand in the task's own `history_item.json` or in the index `state/taskHistory.json`.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingest.readers.base import FileReader, parse_time_ms
from ingest.readers.cline_talk import Talk, stated_cwd, title_of
from ingest.readers.documents import json_document
from ingest.readers.opening import oddity
from ingest.readers.places import editor_folders
from ingest.readers.transcript import read_document
from ingest.readers.values import id_in
from ingest.session import Cursor, Item, SourceFile, Unreadable
from lmm_mcp.domain.event import Thread

CONVERSATION = "api_conversation_history.json"
_SCREENS = ("ui_messages.json", "claude_messages.json")
ITEM = "history_item.json"
_INDEX = ("state", "taskHistory.json")
_SIDE_FILES = frozenset({CONVERSATION, *_SCREENS, ITEM})
_ABOVE = ((), ("tasks",), ("data", "tasks"))
"""Where task folders lie below a root: it is the folder of tasks itself, an extension's storage, or a home of the agent."""
_MAX_DEPTH = 100
"""Of parents of parents: a chain of tasks that bites its own tail ends there."""


class TaskReader(FileReader):
    """Reads the task folders of one member of the family."""

    extensions: tuple[str, ...]
    """Names of the extension's storage folders."""

    def roots(self, env: Mapping[str, str], extra: Sequence[Path]) -> tuple[Path, ...]:
        """The extension's storage in every VS Code-like editor, then `extra`."""
        own = [folder for name in self.extensions for folder in editor_folders(env, "globalStorage", name)]
        return tuple(dict.fromkeys((*own, *extra)))

    def discover(self, root: Path) -> Iterator[Path]:
        """Conversations of tasks."""
        if root.name == CONVERSATION:
            yield root
        for above in _ABOVE:
            yield from (folder / CONVERSATION for folder in folders_in(root.joinpath(*above)) if _has(folder))

    def session_of(self, root: Path, path: Path) -> Path | None:
        """The conversation of the task that the file belongs to."""
        if path.name not in _SIDE_FILES:
            return None
        *above, folder, _ = ("", *path.relative_to(root).parts) if path != root else ("", "")
        is_task = tuple(above[1:]) in _ABOVE and bool(folder)
        return path.with_name(CONVERSATION) if is_task or path == root else None

    def claims(self, path: Path) -> bool:
        """A conversation within the extension's own storage."""
        return path.name == CONVERSATION and not set(self.extensions).isdisjoint(path.parts) and path.is_file()

    def sources(self, path: Path) -> Iterator[SourceFile | Unreadable]:
        """The task: its size and time are those of all its files together. Raises OSError."""
        yield from sources_of(self.agent, path, (path.with_name(name) for name in (*_SCREENS, ITEM)))

    def read(self, path: Path, cursor: Cursor) -> Iterator[Item]:  # noqa: ARG002 - the protocol; always read whole
        """Yield the whole task."""
        yield from read_task(self.agent, path)


def _has(folder: Path) -> bool:
    return (folder / CONVERSATION).is_file()


def folders_in(folder: Path) -> list[Path]:
    """Folders in a folder, by name; none where there is no such folder. Raises OSError where it may not be listed."""
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def sources_of(agent: str, path: Path, side_files: Iterator[Path]) -> Iterator[SourceFile | Unreadable]:
    """A session file with the sizes of its side files added and the latest of their times. Raises OSError."""
    stat = path.stat()
    if odd := oddity(stat.st_mode):
        yield Unreadable(str(path), 0, f"is {odd} and no session file")
        return
    size, mtime_ns = stat.st_size, stat.st_mtime_ns
    for side_file in side_files:
        try:
            beside = side_file.stat()
        except OSError:
            continue
        size, mtime_ns = size + beside.st_size, max(mtime_ns, beside.st_mtime_ns)
    yield SourceFile(agent, path, size, mtime_ns)


def read_task(agent: str, path: Path) -> Iterator[Item]:
    """Thread and events of one task. Raises OSError where its conversation cannot be read."""
    found = json_document(path)
    if isinstance(found, dict) and isinstance(found.get("messages"), list):
        found = found["messages"]  # a fork's later version puts an envelope around it
    if isinstance(found, Unreadable):
        yield found
        found = []
    if not isinstance(found, list):
        yield Unreadable(str(path), 0, f"not a list of messages but a {type(found).__name__}")
        found = []
    cwd = next((said for record in found[:1] if (said := stated_cwd(record))), "")
    thread = _thread(agent, path, cwd)
    screen = _screen(path.parent)
    talk = Talk(thread)
    yield from read_document(path, _timed(found, screen, talk), talk)


# Whose it is ----------------------------------------------------------------------------------------------------------


def _thread(agent: str, path: Path, cwd: str) -> Thread:
    task_id = id_in(path.parent.name)
    item = _item(path.parent)
    parent = id_in(item.get("parentTaskId"))
    root = id_in(item.get("rootTaskId")) or _root(path.parent, parent)
    return Thread(
        agent,
        session_id=root if parent and root and root != task_id else task_id,
        thread_id=task_id,
        title=_text(item.get("title")) or title_of(item.get("task")),
        cwd=_text(item.get("cwdOnTaskInitialization")) or _text(item.get("workspace")) or cwd,
        parent=parent if parent != task_id else "",
    )


def _root(folder: Path, parent: str) -> str:
    """The task that has no parent, as far as the folders beside tell."""
    root, seen = parent, {folder.name}
    while root and root not in seen and len(seen) < _MAX_DEPTH:
        seen.add(root)
        above = id_in(_item(folder.with_name(root)).get("parentTaskId")) if "/" not in root else ""
        if not above:
            break
        root = above
    return root


def _item(folder: Path) -> Mapping[str, Any]:
    """What the task's own file or the index of tasks says of it; nothing where neither does."""
    own = side_document(folder / ITEM)
    if isinstance(own, Mapping):
        return own
    index = side_document(folder.parent.parent.joinpath(*_INDEX))
    for item in index if isinstance(index, list) else ():
        if isinstance(item, Mapping) and id_in(item.get("id")) == folder.name:
            return item
    return {}


def side_document(path: Path) -> Any:
    """The value that a side file holds; None where it cannot be read, Unreadable where it is half written."""
    try:
        return json_document(path)
    except OSError:
        return None


# When it was -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Screen:
    """What `ui_messages.json` tells of messages, by their 0-based number in the conversation."""

    times: Mapping[int, int]
    requests: Sequence[int]
    """When each request to the model went out, for versions that do not number messages."""
    failed: frozenset[int]


def _screen(folder: Path) -> _Screen:
    shown = next((found for name in _SCREENS if isinstance(found := side_document(folder / name), list)), [])
    times: dict[int, int] = {}
    requests: list[int] = []
    failed: set[int] = set()
    for entry in shown:
        if not isinstance(entry, Mapping):
            continue
        at_ms, number = parse_time_ms(entry.get("ts")), entry.get("conversationHistoryIndex")
        if not requests or entry.get("say") == "api_req_started":
            requests.append(at_ms)
        if isinstance(number, int) and -2 < number < 2**31:
            times[number + 1] = min(times.get(number + 1, at_ms), at_ms) or at_ms
            if entry.get("say") in ("error", "diff_error"):
                failed.add(number + 1)
    return _Screen(times, requests, frozenset(failed))


def _timed(records: Sequence[Any], screen: _Screen, talk: Talk) -> Iterator[Mapping[str, Any]]:
    """The messages; before each, its time and whether it failed is told to `talk`.

    The time is its own, else the screen's, else that of the one before; a task's id says when it began.
    """
    task_id = talk.thread.thread_id
    talk.moment_ms = parse_time_ms(int(task_id)) if task_id.isdecimal() and len(task_id) == 13 else 0
    num_asked = 0
    for number, record in enumerate(records):
        if not isinstance(record, Mapping):
            talk.count_unknown("message", type(record).__name__)
            continue
        at_ms = parse_time_ms(record.get("ts")) or screen.times.get(number, 0)
        if record.get("role") == "user":
            if not at_ms and not screen.times and num_asked < len(screen.requests):
                at_ms = screen.requests[num_asked]
            num_asked += 1
        talk.moment_ms = max(at_ms, talk.moment_ms)
        talk.has_failed = number in screen.failed
        yield record


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
