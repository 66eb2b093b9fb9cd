"""Chats of GitHub Copilot in VS Code and editors made of it: one file each, a document or, in newer versions, a log of changes.

`User/workspaceStorage/<hash>/chatSessions/<id>.json` or `.jsonl`, beside a `workspace.json` that names the folder; chats of
windows without a folder lie in `User/globalStorage/emptyWindowChatSessions`. Both are read whole: a log changes what stands
anywhere in the document. After an upgrade the old document stays beside the log, which then is the one that goes on.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ingest.readers.base import FileReader, json_lines, parse_time_ms
from ingest.readers.documents import json_document
from ingest.readers.opening import first_bytes
from ingest.readers.places import editor_folders
from ingest.readers.transcript import read_records
from ingest.readers.values import id_in
from ingest.readers.vscode_chat import AGENT, Chat
from ingest.readers.vscode_log import replayed
from ingest.readers.walking import Inside, files_below, inside_of
from ingest.readers.workspaces import folder_in, path_of
from ingest.session import Cursor, Item, ReadTo, Unreadable
from lmm_mcp.domain.event import Thread

_STORAGE, _SESSIONS = "workspaceStorage", "chatSessions"
_GLOBAL, _WINDOWLESS = "globalStorage", ("emptyWindowChatSessions", "transferredChatSessions")
_ENDINGS = (".json", ".jsonl")
_NAME = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\.jsonl?")
_FIRST_bytes = 4096
_DOCUMENT = re.compile(rb'"(?:responderUsername|requesterUsername)"\s*:')
_LOG = re.compile(rb'\s*\{\s*"kind"\s*:\s*0\s*,\s*"v"\s*:\s*\{')


class VsCodeCopilot(FileReader):
    """Reader of chats in VS Code."""

    agent = AGENT
    version = 1

    def roots(self, env: Mapping[str, str], extra: Sequence[Path]) -> tuple[Path, ...]:
        """The `User` folder of each such editor, on three systems, then `extra`."""
        return tuple(dict.fromkeys((*editor_folders(env), *extra)))

    def discover(self, root: Path) -> Iterator[Path]:
        """Every chat below a `User` folder, once."""
        yield from (path for path in files_below(root, _is_chat, _is_on_the_way) if _newer(path) == path)

    def session_of(self, root: Path, path: Path) -> Path | None:
        """The chat itself, or the log that took its place."""
        return _newer(path) if path == root or _is_chat(inside_of(root, path)) else None

    def claims(self, path: Path) -> bool:
        """Whether it begins as such a document or log does."""
        if path.suffix not in _ENDINGS:
            return False
        first = first_bytes(path, _FIRST_bytes)
        if path.suffix == ".jsonl":
            return bool(_LOG.match(first)) and bool(_DOCUMENT.search(first) or _is_place(path.parent))
        return first.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and bool(_DOCUMENT.search(first))

    def read(self, path: Path, cursor: Cursor) -> Iterator[Item]:  # noqa: ARG002 - the protocol; always read whole
        """Yield the whole chat. Raises OSError."""
        document, problems = _document(path)
        yield from problems
        if isinstance(document, dict) and isinstance(requests := document.get("requests"), list):
            chat = Chat(_thread(path, document), parse_time_ms(document.get("creationDate")))
            records = ((0, request) for request in requests if isinstance(request, dict))
            yield from read_records(path, records, chat)
        yield ReadTo(Cursor())


def _document(path: Path) -> tuple[Any, list[Unreadable]]:
    if path.suffix == ".jsonl":
        return replayed(json_lines(path, Cursor()), path)
    found = json_document(path)
    return (None, [found]) if isinstance(found, Unreadable) else (found, [])


def _thread(path: Path, document: Mapping[str, Any]) -> Thread:
    name = id_in(document.get("sessionId")) or id_in(path.stem)
    repository = document.get("repoData")
    repository = repository if isinstance(repository, Mapping) else {}
    return Thread(
        AGENT,
        session_id=name,
        thread_id=name,
        title=_text(document.get("customTitle")),
        cwd=path_of(document.get("workingDirectory")) or folder_in(path.parent.parent),
        branch=_text(repository.get("localBranch")),
        remote=_text(repository.get("remoteUrl")),
    )


def _is_chat(inside: Inside) -> bool:
    return bool(inside) and _NAME.fullmatch(inside[-1]) is not None and _is_place_of_chats(inside[:-1])


def _is_place_of_chats(inside: Inside) -> bool:
    match inside:
        case (folder, name):
            return folder == _GLOBAL and name in _WINDOWLESS
        case (folder, _, name):
            return (folder, name) == (_STORAGE, _SESSIONS)
    return False


def _is_on_the_way(inside: Inside) -> bool:
    return (
        _is_place_of_chats(inside)
        or inside in ((_GLOBAL,), (_STORAGE,))
        or (len(inside) == 2 and inside[0] == _STORAGE)
    )


def _newer(path: Path) -> Path:
    log = path.with_suffix(".jsonl")
    return log if path.suffix == ".json" and log.is_file() else path


def _is_place(folder: Path) -> bool:
    return folder.name in (_SESSIONS, *_WINDOWLESS)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
