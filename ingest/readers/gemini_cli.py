"""Gemini CLI: `tmp/<project>/chats/session-*.json`, rewritten whole, and since then `.jsonl`, appended to; sub-agents' in folders.

Files in, threads and events out; what a record means stands in `gemini_messages`. Where the work was done stands in no session:
the project's folder is found by its name in `projects.json` or `.project_root`, or by its hash. A `.json` that was resumed
lies on beside the `.jsonl` it was written into, and only the latter is read.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from ingest.readers.base import FileReader
from ingest.readers.documents import json_document
from ingest.readers.gemini_messages import GeminiTranscript
from ingest.readers.opening import first_bytes, open_file
from ingest.readers.places import named_folder
from ingest.readers.transcript import read_document, read_lines
from ingest.readers.values import id_in
from ingest.readers.walking import Inside, files_below, inside_of
from ingest.session import Cursor, Item, ReadTo, Unreadable
from lmm_mcp.paths import user_home

_FIRST_bytes = 4096
_MAX_PROJECTS_bytes = 1024 * 1024
_NAME = re.compile(r"session-.+\.jsonl?")
_HEADER = re.compile(rb'"sessionId"\s*:')
_HEADER_TOO = re.compile(rb'"projectHash"\s*:|"startTime"\s*:[^{}\[\]]*"lastUpdated"\s*:')
_MAX_DEPTH = 8


class GeminiCli(FileReader):
    """Reader of Gemini CLI sessions."""

    agent = "gemini-cli"
    version = 1

    def roots(self, env: Mapping[str, str], extra: Sequence[Path]) -> tuple[Path, ...]:
        """`tmp` of `.gemini` under `GEMINI_CLI_HOME`, else under the home folder; then `extra`."""
        home = named_folder(env, "GEMINI_CLI_HOME") or user_home(env)
        more = (folder / "tmp" if folder.name == ".gemini" else folder for folder in extra)
        return tuple(dict.fromkeys((home / ".gemini" / "tmp", *more)))

    def discover(self, root: Path) -> Iterator[Path]:
        """Sessions under the projects' `chats` folders; prompt logs, checkpoints and credentials are never named."""
        for path in files_below(root, is_session, is_entered):
            if not _is_migrated(path):
                yield path

    def session_of(self, root: Path, path: Path) -> Path | None:
        """A session speaks for itself, or for the one that it was migrated into."""
        if path != root and not is_session(inside_of(root, path)):
            return None
        return path.with_suffix(".jsonl") if _is_migrated(path) else path

    def claims(self, path: Path) -> bool:
        """Whether `path` begins with the header of a session; a near relative writes the same under its own name."""
        return ".qwen" not in path.parts and has_header(path)

    def read(self, path: Path, cursor: Cursor) -> Iterator[Item]:
        """Yield what stands behind `cursor`, all of it where the file is one document. Raises OSError."""
        transcript = GeminiTranscript(id_in(path.stem), cursor.context)
        if not cursor.context:
            _place(transcript, path)
        yield from read_session(path, cursor, transcript)


def read_session(path: Path, cursor: Cursor, transcript: GeminiTranscript) -> Iterator[Item]:
    """Read a session of either kind. Raises OSError."""
    if not _is_document(path):
        yield from read_lines(path, cursor, transcript)
        return
    found = json_document(path)
    if isinstance(found, Unreadable):
        yield found
    elif not isinstance(found, dict) or not isinstance(found.get("messages"), list):
        yield Unreadable(str(path), 0, "no session: it holds no messages")
    else:
        header = {key: value for key, value in found.items() if key != "messages"}
        messages = [message for message in found["messages"] if isinstance(message, dict)]
        transcript.notes["project_hash"] = (
            header.get("projectHash") if isinstance(header.get("projectHash"), str) else ""
        )
        for message in messages:  # the whole session was there, also before its first path was named
            if not transcript.cwd:
                transcript.seek_place(message)
        yield from read_document(path, [header, *messages], transcript)
        return
    yield ReadTo(Cursor())


def is_session(inside: Inside) -> bool:
    """Whether the names that lead to a file are those of a session."""
    if "chats" not in inside[:-1]:
        return False
    below = inside[len(inside) - inside[::-1].index("chats") :]
    # `.unreadable-<ms>` at the end is what the agent itself gave up.
    return bool(len(below) == 1 and _NAME.fullmatch(below[0])) or (len(below) == 2 and below[1].endswith(".jsonl"))


def is_entered(inside: Inside) -> bool:
    """Whether a folder may hold sessions: a project, its `chats`, and what sessions have in there."""
    if "chats" in inside:
        return len(inside) - inside.index("chats") <= 2
    return len(inside) == 1 or inside[-1] == "chats"


def has_header(path: Path) -> bool:
    """Whether a file begins as sessions do."""
    if path.suffix not in (".json", ".jsonl") or not path.is_file():
        return False
    first = first_bytes(path, _FIRST_bytes)
    if path.suffix == ".jsonl" and not _is_opening(first):
        first = first.partition(b"\n")[0]
    return bool(_HEADER.search(first) and _HEADER_TOO.search(first))


def _is_document(path: Path) -> bool:
    if path.suffix == ".json":
        return True
    with open_file(path) as stream:
        return _is_opening(stream.read(_FIRST_bytes))


def _is_opening(first: bytes) -> bool:
    """Whether the first line is no record but only the beginning of a document."""
    line, newline, _ = first.lstrip(b"\xef\xbb\xbf \t\r\n").partition(b"\n")
    return bool(newline) and line.rstrip() == b"{"


def _is_migrated(path: Path) -> bool:
    return path.suffix == ".json" and path.with_suffix(".jsonl").exists()


def _place(transcript: GeminiTranscript, path: Path) -> None:
    """Learn from where a file lies whose it is and where the work was done."""
    chats = next((above for above in path.parents if above.name == "chats"), None)
    if chats is None:
        return
    if path.parent != chats:
        parent = id_in(path.parent.name)
        transcript.know(session_id=_root_of(chats, path.parent.name), parent=parent)
    transcript.stand_at(_project_root(chats.parent))


def _root_of(chats: Path, session: str) -> str:
    """The session at the root of a tree of sub-agents: each lies in a folder with the name of the one that started it."""
    for _ in range(_MAX_DEPTH):
        above = next((found.parent.name for found in sorted(chats.glob(f"*/{_literal(session)}.jsonl"))), "")
        if not above or above == session:
            break
        session = above
    return id_in(session)


def _literal(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)


def _project_root(project: Path) -> str:
    """The folder that a project's sessions are about; '' where nobody says."""
    if root := _small(project / ".project_root").decode("utf-8", "replace").strip():
        return root
    known = _json(project.parent.parent / "projects.json").get("projects")
    for root, name in known.items() if isinstance(known, dict) else ():
        if project.name in (name, hashlib.sha256(root.encode("utf-8", "replace")).hexdigest()):
            return str(root)
    return ""


def _json(path: Path) -> dict[str, Any]:
    try:
        found = orjson.loads(_small(path))
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _small(path: Path) -> bytes:
    try:
        with open_file(path) as stream:
            return stream.read(_MAX_PROJECTS_bytes)
    except OSError:  # it is not always there
        return b""
