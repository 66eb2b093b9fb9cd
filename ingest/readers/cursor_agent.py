"""cursor-agent, Cursor's agent in the terminal: transcripts below `projects`, and a database for each chat below `chats`.

A chat lies in both. Its transcript (`projects/<folder>/agent-transcripts/<id>.jsonl`, or `.txt`, or in a folder of its own
with those of its sub-agents) is the session file, and what it lacks comes out of the store; a store without a transcript
stands for itself. So each chat is told once, and a change of either speaks of the same file. The editor writes transcripts
into the same place, of conversations that are read, whole, from its own database: those are left to it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ingest.readers.base import Decoded, FileReader, json_lines
from ingest.readers.cursor import CursorEditor, conversations_near
from ingest.readers.cursor_agent_store import NAME, Chat, chat_in, is_store
from ingest.readers.cursor_agent_talk import AGENT, Results, Talk
from ingest.readers.cursor_agent_text import records_in
from ingest.readers.documents import json_document
from ingest.readers.opening import first_bytes, oddity
from ingest.readers.places import named_folder
from ingest.readers.sqlite import LOGS, database_of
from ingest.readers.transcript import read_records
from ingest.readers.values import id_in
from ingest.readers.walking import Inside, files_below, inside_of
from ingest.session import Cursor, Item, ReadTo, SourceFile, Unreadable
from lmm_mcp.domain.event import Thread
from lmm_mcp.paths import user_home

_HOME = ".cursor"
_PROJECTS, _TRANSCRIPTS, _CHATS, _CHILDREN = "projects", "agent-transcripts", "chats", "subagents"
_ENDINGS = (".jsonl", ".txt")
"""The better one first: of a chat that has both, it holds more."""
_FIRST_bytes = 4096
_FIRST_LINE = re.compile(rb'\s*\{\s*"role"\s*:\s*"(?:user|assistant)"\s*,\s*"message"\s*:\s*\{\s*"content"\s*:')
_FIRST_TEXT = re.compile(rb"\s*user:\s*\n")
_PLAIN = re.compile(r"[\w.-]+")
"""Ids that are no pattern for file names."""
_STORE_FILES = frozenset({NAME, "meta.json"})
_TRUSTED = ".workspace-trusted"


class CursorAgent(FileReader):
    """Reader of cursor-agent's chats."""

    agent = AGENT
    version = 1

    def __init__(self, editor: CursorEditor | None = None) -> None:
        """`editor`: who reads the editor's own conversations, wherever they were moved to."""
        self._editor = editor or CursorEditor()

    def roots(self, env: Mapping[str, str], extra: Sequence[Path]) -> tuple[Path, ...]:
        """`CURSOR_CONFIG_DIR`, else `~/.cursor` and `cursor` where XDG keeps settings; then `extra`."""
        own = named_folder(env, "CURSOR_CONFIG_DIR")
        xdg = named_folder(env, "XDG_CONFIG_HOME")
        usual = (user_home(env) / _HOME, *((xdg / "cursor",) if xdg else ()))
        return tuple(dict.fromkeys((*((own,) if own else usual), *extra)))

    def discover(self, root: Path) -> Iterator[Path]:
        """Every transcript, and the stores of chats that have none."""
        found = list(files_below(root, _is_session, _is_on_the_way))
        told = {path.stem for path in found if path.name != NAME}
        for path in found:
            if path.parent.name not in told if path.name == NAME else _best(path) == path:
                yield path

    def session_of(self, root: Path, path: Path) -> Path | None:
        """A transcript for itself; a store for the transcript of its chat, else for itself."""
        inside = inside_of(root, path)
        match inside:
            case (project, *_) if project == _PROJECTS:
                return _best(path) if _is_session(inside) else None
            case (chats, _, chat, name) if chats == _CHATS and database_of(Path(name)).name in _STORE_FILES:
                found = next((path for path in _of_chat(root, chat) if path.is_file()), None)
                store = path.with_name(NAME)
                return found or (store if store.is_file() or name != "meta.json" else None)
        return None

    def claims(self, path: Path) -> bool:
        """Whether it begins like a transcript, or is a database with the tables of a store."""
        if path.name == NAME:
            return is_store(path)
        if path.suffix not in _ENDINGS or (path.suffix == ".txt" and _TRANSCRIPTS not in path.parts):
            return False
        first = first_bytes(path, _FIRST_bytes)
        return bool((_FIRST_LINE if path.suffix == ".jsonl" else _FIRST_TEXT).match(first))

    def sources(self, path: Path) -> Iterator[SourceFile | Unreadable]:
        """The transcript, with the size and time of its store beside its own; none for one of the editor's. Raises OSError."""
        stat = path.stat()
        if odd := oddity(stat.st_mode):
            yield Unreadable(str(path), 0, f"is {odd} and no session file")
            return
        store = path if path.name == NAME else _store_of(path)
        if store is None and self._is_the_editors(path):
            return
        size, mtime_ns = stat.st_size, stat.st_mtime_ns
        for beside in [store.with_name(store.name + ending) for ending in ("", *LOGS)] if store else []:
            with suppress(OSError):
                if beside != path:
                    about = beside.stat()
                    size, mtime_ns = size + about.st_size, max(mtime_ns, about.st_mtime_ns)
        yield SourceFile(self.agent, path, size, mtime_ns)

    def read(self, path: Path, cursor: Cursor) -> Iterator[Item]:  # noqa: ARG002 - the protocol; always read whole
        """Yield the whole chat: a result may come to a call that stands far above. Raises OSError."""
        if path.name == NAME:
            chat = chat_in(path)
            records: Iterator[Decoded] = ((0, message) for message in chat.messages)
        else:
            chat, problem = _chat_of(path)
            if problem:
                yield problem
            records = _decoded(path)
        talk = Talk(_thread(path, chat), chat.started_ms, Results.of(chat.all_messages))
        yield from read_records(path, records, talk)
        yield ReadTo(Cursor())

    def _is_the_editors(self, transcript: Path) -> bool:
        """Whether a transcript, or the one whose sub-agent this is, is of a conversation in the editor."""
        known = self._editor.conversations()
        project = _project_of(transcript)
        if project is not None and project.parent.parent.name == _HOME:
            known |= conversations_near(project.parent.parent.parent)
        names = {transcript.stem, transcript.parent.parent.name if transcript.parent.name == _CHILDREN else ""}
        return bool(names & known)


def _decoded(path: Path) -> Iterator[Decoded]:
    if path.suffix == ".txt":
        yield from ((0, record) for record in records_in(path))
    else:
        yield from (item for item in json_lines(path, Cursor()) if not isinstance(item, ReadTo))


def _chat_of(path: Path) -> tuple[Chat, Unreadable | None]:
    """What the store knows of a transcript; without it, or where it cannot be read, the transcript stands alone."""
    store = _store_of(path)
    if store is None:
        return Chat(), None
    try:
        return chat_in(store), None
    except OSError as problem:
        return Chat(), Unreadable(
            str(path), 0, f"results are missing, for {store.name} cannot be read: {problem.strerror}"
        )


def _thread(path: Path, chat: Chat) -> Thread:
    name = path.parent.name if path.name == NAME else path.stem
    parent = path.parent.parent.name if path.parent.name == _CHILDREN else chat.parent
    thread_id = id_in(name)
    return Thread(
        AGENT,
        session_id=id_in(parent) or thread_id,
        thread_id=thread_id,
        title=chat.title,
        cwd=chat.cwd or _folder_of_project(path),
        parent=id_in(parent),
    )


# Places --------------------------------------------------------------------------------------------------------------


def _is_session(inside: Inside) -> bool:
    """Whether a file is a transcript or a store, by the names that lead to it."""
    match inside:
        case (project, _, transcripts, *rest) if (project, transcripts) == (_PROJECTS, _TRANSCRIPTS):
            name = rest[-1] if rest else ""
            own = len(rest) == 1 or (len(rest) == 2 and rest[0] == Path(name).stem)
            return name.endswith(_ENDINGS) and (own or (len(rest) == 3 and rest[1] == _CHILDREN))
        case (chats, _, _, name):
            return (chats, name) == (_CHATS, NAME)
    return False


def _is_on_the_way(inside: Inside) -> bool:
    if inside[0] == _CHATS:
        return len(inside) <= 3
    return inside[0] == _PROJECTS and inside[2:3] in ((), (_TRANSCRIPTS,)) and inside[4:] in ((), (_CHILDREN,))


def _best(path: Path) -> Path:
    better = path.with_suffix(_ENDINGS[0])
    return better if path.suffix == _ENDINGS[1] and better.is_file() else path


def _of_chat(root: Path, chat: str) -> Iterator[Path]:
    """Where the transcript of a chat may lie."""
    folders = sorted(root.glob(f"{_PROJECTS}/*/{_TRANSCRIPTS}"))
    for folder in folders:
        for ending in _ENDINGS:
            yield folder / f"{chat}{ending}"
            yield folder / chat / f"{chat}{ending}"
    for folder in folders if _PLAIN.fullmatch(chat) else []:
        yield from folder.glob(f"*/{_CHILDREN}/{chat}{_ENDINGS[0]}")


def _project_of(transcript: Path) -> Path | None:
    """The folder of the project a transcript belongs to, below `projects`."""
    for above in transcript.parents:
        if above.name == _TRANSCRIPTS:
            return above.parent
    return None


def _store_of(transcript: Path) -> Path | None:
    project = _project_of(transcript)
    if project is None or not _PLAIN.fullmatch(transcript.stem):
        return None
    chats = project.parent.parent / _CHATS
    return next((path for path in sorted(chats.glob(f"*/{transcript.stem}/{NAME}"))), None)


def _folder_of_project(path: Path) -> str:
    """The folder that was worked in: as noted beside the transcripts, else one on this machine that has such a name."""
    project = _project_of(path)
    if project is None:
        return ""
    with suppress(OSError):
        noted: Any = json_document(project / _TRUSTED)
        if isinstance(noted, dict) and isinstance(found := noted.get("workspacePath"), str) and found:
            return found
    return str(found_folder) if (found_folder := folder_named(project.name, Path("/"))) else ""


def folder_named(name: str, top: Path) -> Path | None:
    """The folder below `top` whose path, with `-` for all that is no letter or digit, is `name`; None where there is none.

    What the name means cannot be told from it alone: `my-shop` and `my/shop` are written alike.
    """
    try:
        folders = sorted(path for path in top.iterdir() if path.is_dir())
    except OSError:
        return None
    for folder in folders:
        written = re.sub(r"[^A-Za-z0-9]", "-", folder.name)
        if name in (written, written.lstrip("-")):
            return folder
        for start in {written, written.lstrip("-")}:
            if start and name.startswith(start + "-") and (found := folder_named(name[len(start) + 1 :], folder)):
                return found
    return None
