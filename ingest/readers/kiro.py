"""Kiro, in the terminal and as an editor. Its stores changed with every generation, and older ones stay where they are.

In the terminal: the table `conversations_v2` of `kiro-cli/data.sqlite3`; `~/.kiro/sessions/cli/<id>.jsonl` beside `<id>.json`;
`~/.kiro/sessions/<workspace>/sess_<id>/messages.jsonl` beside `session.json`. The editor, in `globalStorage/kiro.kiroagent`:
`workspace-sessions/<folder>/<id>.json`, before that `<hash>/<id>.chat`; now it writes the last of those above, too.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ingest.readers.base import FileReader, SLICE_bytes, json_lines, parse_time_ms
from ingest.readers.documents import json_document, json_value
from ingest.readers.kiro_cli import AGENT, Conversation, Log, Pieces, joined
from ingest.readers.kiro_ide import (
    HASH,
    INDEX,
    SESSIONS,
    IdeSession,
    execution_files,
    executions,
    started_ms,
    workspace_by_hash,
    workspace_of,
)
from ingest.readers.opening import first_bytes
from ingest.readers.places import data_folders, editor_folders
from ingest.readers.sqlite import ENDINGS, database_of, holds, opened, tables
from ingest.readers.transcript import read_records
from ingest.readers.values import id_in
from ingest.readers.walking import Inside, files_below, inside_of
from ingest.session import Cursor, Item, ReadTo, SourceFile, Unreadable
from lmm_mcp.domain.event import Thread
from lmm_mcp.paths import user_home

_DATABASE, _TABLE = "data.sqlite3", "conversations_v2"
_NEEDED = frozenset({"key", "conversation_id", "value", "updated_at"})
_LIST = "SELECT conversation_id, count(*), max(updated_at) FROM conversations_v2 GROUP BY conversation_id"
_ROW = "SELECT key, value, created_at FROM conversations_v2 WHERE conversation_id = ? ORDER BY updated_at DESC LIMIT 1"
_LOG, _ABOUT = "messages.jsonl", "session.json"
_FIRST_bytes = 4096
_RECORD = re.compile(rb'"kind"\s*:\s*"(?:Prompt|AssistantMessage|ToolResults)"')
_SESSION = re.compile(rb'"(?:sessionId|history|workspaceDirectory)"\s*:')
_CHAT = re.compile(rb'"(?:executionId|workflowId)"\s*:')
_RECENT_ns = 24 * 3600 * 1_000_000_000
"""A session whose own file is older than the newest log by more than this is over: its logs change no more."""


class Kiro(FileReader):
    """Reader of Kiro's sessions."""

    agent = AGENT
    version = 1

    def roots(self, env: Mapping[str, str], extra: Sequence[Path]) -> tuple[Path, ...]:
        """Where the terminal's and the editor's sessions lie, on three systems, then `extra`."""
        editor = editor_folders(env, "globalStorage", "kiro.kiroagent", hosts=("Kiro",))
        return tuple(dict.fromkeys((*data_folders(env, "kiro-cli"), user_home(env) / ".kiro", *editor, *extra)))

    def discover(self, root: Path) -> Iterator[Path]:
        """Every session file of any generation."""
        yield from files_below(root, _is_session, _is_on_the_way)

    def session_of(self, root: Path, path: Path) -> Path | None:
        """A session file for itself, for its log and for what lies beside it; an execution for the session it belongs to."""
        whole = database_of(path)
        inside = inside_of(root, whole)
        if _is_session(inside) or whole == root:
            return whole
        match inside:
            case ("sessions", "cli", name) if name.endswith(".json"):
                session = path.with_suffix(".jsonl")
            case ("sessions", _, session_name, name) if session_name.startswith("sess_") and name == _ABOUT:
                session = path.with_name(_LOG)
            case (workspace, folder, name) if all(HASH.fullmatch(each) for each in (workspace, folder, name)):
                return _newest(workspace_by_hash(root, workspace))
            case _:
                return None
        return session if session.is_file() else None

    def claims(self, path: Path) -> bool:
        """Whether it is a session of any generation, by its name, its place and its beginning."""
        if path.suffix in ENDINGS:
            return holds(path, {_TABLE: _NEEDED})
        first = first_bytes(path, _FIRST_bytes) if path.suffix in (".jsonl", ".json", ".chat") else b""
        if not first.lstrip().startswith(b"{"):
            return False
        if path.suffix == ".jsonl":
            own = path.name == _LOG and path.parent.name.startswith("sess_")
            return own or bool(_RECORD.search(first) and b'"data"' in first)
        if path.suffix == ".json":
            return path.parent.parent.name == SESSIONS and path.name != INDEX and bool(_SESSION.search(first))
        return bool(_CHAT.search(first))

    def sources(self, path: Path) -> Iterator[SourceFile | Unreadable]:
        """The file, or each conversation of the database. Raises OSError."""
        if path.suffix not in ENDINGS:
            for source in super().sources(path):
                yield _with_executions(source) if isinstance(source, SourceFile) else source
            return
        with opened(path) as connection:
            if not tables(connection).get(_TABLE, frozenset()) >= _NEEDED:
                return
            listed = connection.execute(_LIST).fetchall()
        for name, num_rows, updated in listed:
            if name is not None:
                yield SourceFile(AGENT, path, num_rows, parse_time_ms(updated) * 1_000_000, part=str(name))

    def read(self, path: Path, cursor: Cursor) -> Iterator[Item]:
        """Yield what a session holds: behind `cursor` where lines are only added, else all of it. Raises OSError."""
        if path.suffix in ENDINGS:
            part = cursor.context.get("part")
            yield from _read_row(path, part) if isinstance(part, str) and part else ()
            yield ReadTo(cursor)
        elif path.name == _LOG:
            yield from _read_log(path, cursor)
        else:
            yield from _read_pieces(path) if path.suffix == ".jsonl" else _read_document(path)
            yield ReadTo(Cursor())


def _read_row(path: Path, name: str) -> Iterator[Item]:
    with opened(path) as connection:
        known = tables(connection).get(_TABLE, frozenset()) >= _NEEDED | {"created_at"}
        row = connection.execute(_ROW, (name,)).fetchone() if known else None
    if row is None:
        return
    key, content, created = row
    value = json_value(content, path) if isinstance(content, str | bytes) else None
    if not isinstance(value, dict):
        yield value if isinstance(value, Unreadable) else Unreadable(str(path), 0, "a conversation without content")
        return
    session_id = id_in(name)
    history, summary = value.get("history"), value.get("latest_summary")
    told = summary[0] if isinstance(summary, list) and summary else summary
    records: list[Any] = [{"summary": told}] if isinstance(told, str) and told else []
    records += [turn for turn in (history if isinstance(history, list) else []) if isinstance(turn, dict)]
    thread = Thread(AGENT, session_id, session_id, cwd=key if isinstance(key, str) else "")
    yield from read_records(path, ((0, record) for record in records), Conversation(thread, parse_time_ms(created)))


def _read_pieces(path: Path) -> Iterator[Item]:
    about = _about(path.with_suffix(".json"))
    thread = _thread(id_in(about.get("session_id")) or id_in(path.stem), about, about.get("cwd"))
    lines = (item for item in json_lines(path, Cursor()) if not isinstance(item, ReadTo))
    yield from read_records(path, joined(lines), Pieces(thread, parse_time_ms(about.get("created_at"))))


def _read_log(path: Path, cursor: Cursor) -> Iterator[Item]:
    about = _about(path.with_name(_ABOUT))
    folders = about.get("workspacePaths")
    thread = _thread(id_in(path.parent.name), about, folders[0] if isinstance(folders, list) and folders else "")
    log = Log(thread, parse_time_ms(about.get("createdAt")), cursor.context)
    yield from read_records(path, json_lines(path, cursor, slice_bytes=SLICE_bytes), log)


def _read_document(path: Path) -> Iterator[Item]:
    document = json_document(path)
    if not isinstance(document, dict):
        found = f"not a JSON object but a {type(document).__name__}"
        yield document if isinstance(document, Unreadable) else Unreadable(str(path), 0, found)
        return
    if path.suffix == ".chat":
        about = document.get("metadata")
        about = about if isinstance(about, Mapping) else {}
        name = id_in(about.get("workflowId")) or id_in(document.get("executionId")) or id_in(path.stem)
        folder = workspace_by_hash(path.parent.parent, path.parent.name)
        thread = _thread(name, {}, workspace_of(folder) if folder else "")
        session = IdeSession(thread, parse_time_ms(about.get("startTime")))
        records = document.get("chat")
    else:
        workspace = workspace_of(path.parent)
        thread = _thread(
            id_in(document.get("sessionId")) or id_in(path.stem), document, document.get("workspaceDirectory")
        )
        started = started_ms(path, document.get("sessionId"))
        session = IdeSession(thread, started, executions(path.parent.parent.parent, workspace))
        records = document.get("history")
    listed = records if isinstance(records, list) else []
    yield from read_records(path, ((0, record) for record in listed if isinstance(record, dict)), session)


def _thread(name: str, about: Mapping[str, Any], cwd: object) -> Thread:
    parent = id_in(about.get("parent_session_id") or about.get("parentSessionId"))
    title = about.get("title")
    return Thread(
        AGENT,
        session_id=parent or name,
        thread_id=name,
        title=title if isinstance(title, str) else "",
        cwd=cwd if isinstance(cwd, str) else "",
        parent=parent if parent != name else "",
    )


def _with_executions(source: SourceFile) -> SourceFile:
    """A session of the editor changes with the logs of its executions, in which the answers stand."""
    path = source.path
    if path.suffix != ".json":
        return source
    marks = []
    for log in execution_files(path.parent.parent.parent, workspace_of(path.parent)):
        with suppress(OSError):
            marks.append(log.stat().st_mtime_ns)
    newest = max(marks, default=0)
    is_open = source.mtime_ns < newest < source.mtime_ns + _RECENT_ns
    return SourceFile(source.agent, path, source.size, newest) if is_open else source


def _about(path: Path) -> Mapping[str, Any]:
    """The side file of a session; {} where there is none."""
    with suppress(OSError):
        found = json_document(path)
        if isinstance(found, dict):
            return found
    return {}


def _is_session(inside: Inside) -> bool:
    """Whether a file is a session of any generation, by the names that lead to it."""
    match inside:
        case (name,):
            return name == _DATABASE
        case ("sessions", "cli", name):
            return name.endswith(".jsonl")
        case ("sessions", _, session, name):
            return session.startswith("sess_") and name == _LOG
        case (sessions, _, name) if sessions == SESSIONS:
            return name.endswith(".json") and _is_name(name.removesuffix(".json"))
        case (workspace, name):
            return name.endswith(".chat") and HASH.fullmatch(workspace) is not None
    return False


def _is_on_the_way(inside: Inside) -> bool:
    match inside:
        case (name,):
            return name in ("sessions", SESSIONS) or HASH.fullmatch(name) is not None
        case (folder, _):
            return folder in ("sessions", SESSIONS)
        case ("sessions", _, name):
            return name.startswith("sess_")
    return False


def _newest(folder: Path | None) -> Path | None:
    found = [path for path in folder.glob("*.json") if _is_name(path.stem)] if folder else []
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)


def _is_name(stem: str) -> bool:
    return bool(re.fullmatch(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", stem))
