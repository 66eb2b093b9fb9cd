"""Cline: the extension's task folders, and the sessions of its command line and newer versions.

A session is a folder `<id>/` with a manifest `<id>.json` and `<id>.messages.json`; each sub-agent has a `*.messages.json`
of its own beside it, and what a compaction left is in `<id>.compaction.json`.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ingest.readers.base import parse_time_ms
from ingest.readers.cline_talk import Talk, title_of
from ingest.readers.cline_tasks import CONVERSATION, TaskReader, folders_in, side_document, sources_of
from ingest.readers.documents import json_document
from ingest.readers.places import named_folder
from ingest.readers.transcript import read_document
from ingest.readers.values import id_in
from ingest.session import Cursor, Item, SourceFile, Unreadable
from lmm_mcp.domain.event import Thread
from lmm_mcp.paths import user_home

_MESSAGES = ".messages.json"
_COMPACTION = ".compaction.json"
_ABOVE = ((), ("sessions",), ("data", "sessions"))
"""Where session folders lie below a root."""


class Cline(TaskReader):
    """Reader of Cline: task folders and sessions."""

    agent = "cline"
    version = 1
    extensions = ("saoudrizwan.claude-dev", "saoudrizwan.cline-nightly")

    def roots(self, env: Mapping[str, str], extra: Sequence[Path]) -> tuple[Path, ...]:
        """`CLINE_SESSION_DATA_DIR`, `CLINE_DATA_DIR` or `CLINE_DIR`, else `~/.cline/data`; the extension's storage; `extra`."""
        home = named_folder(env, "CLINE_DIR") or user_home(env) / ".cline"
        data = named_folder(env, "CLINE_DATA_DIR") or home / "data"
        sessions = named_folder(env, "CLINE_SESSION_DATA_DIR")
        own = (data,) if sessions is None else (sessions, data)
        return tuple(dict.fromkeys((*own, *super().roots(env, extra))))

    def discover(self, root: Path) -> Iterator[Path]:
        """Conversations of tasks, and messages of sessions with those of their sub-agents."""
        yield from super().discover(root)
        if root.name.endswith(_MESSAGES):
            yield root
        for above in _ABOVE:
            for folder in folders_in(root.joinpath(*above)):
                yield from sorted(path for path in folder.glob(f"*{_MESSAGES}") if path.is_file())

    def session_of(self, root: Path, path: Path) -> Path | None:
        """The messages that the file belongs to: itself, or those of the session whose manifest or compaction it is."""
        *above, folder, name = ("", "", *path.relative_to(root).parts)[-5:] if path != root else ("", path.name)
        if (tuple(part for part in above if part) in _ABOVE and folder) or path == root:
            if name.endswith(_MESSAGES):
                return path
            if name in (f"{folder}.json", f"{folder}{_COMPACTION}"):
                return path.with_name(f"{folder}{_MESSAGES}")
        return super().session_of(root, path)

    def claims(self, path: Path) -> bool:
        """A conversation in a task folder, wherever that lies, or messages of a session."""
        if not path.is_file():
            return False
        if path.name.endswith(_MESSAGES):
            return path.with_name(f"{path.parent.name}.json").is_file() or path.name == f"{path.parent.name}{_MESSAGES}"
        return path.name == CONVERSATION

    def sources(self, path: Path) -> Iterator[SourceFile | Unreadable]:
        """The task or session: its size and time are those of all its files together. Raises OSError."""
        if not path.name.endswith(_MESSAGES):
            yield from super().sources(path)
            return
        folder = path.parent.name
        beside = [f"{folder}.json"] + ([f"{folder}{_COMPACTION}"] if path.name == f"{folder}{_MESSAGES}" else [])
        yield from sources_of(self.agent, path, map(path.with_name, beside))

    def read(self, path: Path, cursor: Cursor) -> Iterator[Item]:
        """Yield the whole task or session."""
        if path.name.endswith(_MESSAGES):
            yield from _read_session(path)
        else:
            yield from super().read(path, cursor)


def _read_session(path: Path) -> Iterator[Item]:
    found = json_document(path)
    if isinstance(found, Unreadable):
        yield found
        found = {}
    document: Mapping[str, Any] = found if isinstance(found, dict) else {"messages": found}
    messages = document.get("messages")
    if not isinstance(messages, list):
        if not isinstance(messages, Mapping) or messages:
            yield Unreadable(str(path), 0, f"holds no list of messages but a {type(messages).__name__}")
        messages = []
    talk = Talk(_thread(path, document))
    yield from read_document(
        path,
        _timed([*messages, *(_compactions(path) if any(isinstance(each, dict) for each in messages) else ())], talk),
        talk,
    )


def _thread(path: Path, document: Mapping[str, Any]) -> Thread:
    folder = path.parent.name
    manifest = side_document(path.with_name(f"{folder}.json"))
    manifest = manifest if isinstance(manifest, Mapping) else {}
    told = manifest.get("metadata")
    metadata: Mapping[str, Any] = told if isinstance(told, Mapping) else {}
    written = metadata.get("git")
    git: Mapping[str, Any] = written if isinstance(written, Mapping) else {}
    session_id, stem = id_in(folder), path.name.removesuffix(_MESSAGES)
    is_child = stem != folder
    fork = metadata.get("fork")
    origin_id = id_in(fork.get("forkedFromSessionId")) if isinstance(fork, Mapping) else ""
    own = id_in(document.get("sessionId")) or (f"{session_id}__{id_in(stem)}" if is_child else session_id)
    origin = document.get("origin")
    parent = id_in(origin.get("parentThreadId")) if isinstance(origin, Mapping) else ""
    return Thread(
        Cline.agent,
        session_id=session_id,
        thread_id=(own if own != session_id else f"{session_id}__{id_in(stem)}") if is_child else session_id,
        title="" if is_child else _text(metadata.get("title")) or title_of(manifest.get("prompt")),
        cwd=_text(manifest.get("cwd")) or _text(manifest.get("workspace_root")),
        branch=_text(git.get("branch")),
        remote=_text(git.get("url")),
        forked_from="" if is_child else origin_id,
        parent=(parent or session_id) if is_child else "",
    )


def _timed(messages: Sequence[Any], talk: Talk) -> Iterator[Mapping[str, Any]]:
    for message in messages:
        if not isinstance(message, Mapping):
            talk.count_unknown("message", type(message).__name__)
            continue
        talk.moment_ms = parse_time_ms(message.get("ts")) or talk.moment_ms
        yield message


def _compactions(path: Path) -> Iterator[Mapping[str, Any]]:
    """Summaries that stand in the place of older messages when the model is asked; the messages themselves stay."""
    folder = path.parent.name
    if path.name != f"{folder}{_MESSAGES}":
        return
    found = side_document(path.with_name(f"{folder}{_COMPACTION}"))
    messages = found.get("messages") if isinstance(found, Mapping) else found
    for message in messages if isinstance(messages, list) else ():
        metadata = message.get("metadata") if isinstance(message, Mapping) else None
        if isinstance(metadata, Mapping) and metadata.get("kind") in ("compaction", "compaction_summary"):
            yield message  # the others are those that stand in the session itself


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
