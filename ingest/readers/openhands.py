"""OpenHands: `conversations/<id>/` with one file for each event, and the same of its server before, in `sessions/<id>/`.

The folder is the session: an event is a new file, and no file is changed. Exported trajectories, one JSON list, are read
where the user names them.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ingest.readers.base import FileReader
from ingest.readers.calls import first_text
from ingest.readers.documents import json_document
from ingest.readers.openhands_events import OpenHandsTranscript
from ingest.readers.opening import first_bytes
from ingest.readers.places import named_folder
from ingest.readers.transcript import read_document
from ingest.readers.values import Naming, id_in
from ingest.readers.walking import inside_of, is_like_an_id
from ingest.session import Cursor, Item, ReadTo, SourceFile, Unreadable
from lmm_mcp.paths import user_home

_STATE, _METADATA = "base_state.json", "metadata.json"
_EVENTS, _CHILDREN = "events", "subagents"
_EVENT = re.compile(r"(?:event-)?(?P<number>\d+)(?:-[0-9a-fA-F-]+)?\.json")
_EXPORTED = re.compile(r"(?:.*[-_.])?trajectory(?:[-_.].*)?\.json")
_HEX = re.compile(r"([0-9a-f]{8})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{12})")
_FIRST_bytes = 4096
_TRAJECTORY = re.compile(
    rb'\A\s*\[\s*\{(?=[^\x00]*"source"\s*:)(?=[^\x00]*"(?:action|observation)"\s*:\s*")(?=[^\x00]*"timestamp"\s*:)'
)
_NUM_LOOKED_AT = 8
"""Newest events whose files are looked at to see whether one was still being written: older ones never change."""
_MAX_DEPTH = 4


class OpenHands(FileReader):
    """Reader of OpenHands conversations."""

    agent = "openhands"
    version = 1

    def roots(self, env: Mapping[str, str], extra: Sequence[Path]) -> tuple[Path, ...]:
        """`OPENHANDS_CONVERSATIONS_DIR`, else by `OPENHANDS_PERSISTENCE_DIR` or `~/.openhands`; the server's; then `extra`."""
        home = user_home(env)
        base = named_folder(env, "OPENHANDS_PERSISTENCE_DIR") or home / ".openhands"
        own = (
            named_folder(env, "OPENHANDS_CONVERSATIONS_DIR") or base / "conversations",
            base / "sessions",
            home / ".openhands-state" / "sessions",
        )
        return tuple(dict.fromkeys((*own, *extra)))

    def discover(self, root: Path) -> Iterator[Path]:
        """Folders of conversations that have events, with their sub-agents', and exports; settings and keys are never named."""
        if root.is_file():
            yield root
        elif _is_conversation(root):
            yield root
            yield from _started_by(root)
        elif root.is_dir():
            if not os.access(root, os.R_OK | os.X_OK):
                yield root  # named itself, so that whoever opens what is found says why
                return
            for found in sorted(root.iterdir()):
                if _EXPORTED.fullmatch(found.name) and found.is_file():
                    yield found
                elif is_like_an_id(found.name) and _is_conversation(found):
                    yield found
                    yield from _started_by(found)

    def session_of(self, root: Path, path: Path) -> Path | None:
        """An event, or the state beside the events, speaks for the folder of its conversation."""
        if path == root:
            return path
        names = list(inside_of(root, path))
        if len(names) == 1 and _EXPORTED.fullmatch(names[0]):
            return path
        if names and names[-1] in (_STATE, _METADATA):
            names.pop()
        elif len(names) > 1 and names[-2] == _EVENTS and _EVENT.fullmatch(names[-1]):
            del names[-2:]
        conversations, between = names[::2], names[1::2]
        if not all(map(is_like_an_id, conversations)) or set(between) - {_CHILDREN} or len(names) % 2 == 0:
            return root if names == [] and path != root and _is_conversation(root) else None
        return root.joinpath(*names)

    def claims(self, path: Path) -> bool:
        """Whether `path` is the state of a conversation (or, without one, its first event), or begins as a trajectory does."""
        if path.suffix != ".json" or not path.is_file():
            return False
        if path.name == _STATE:
            return (path.parent / _EVENTS).is_dir()
        if path.parent.name == _EVENTS and (event := _EVENT.fullmatch(path.name)):
            return int(event["number"]) == 0 and not (path.parent.parent / _STATE).exists()
        return bool(_TRAJECTORY.match(first_bytes(path, _FIRST_bytes)))

    def sources(self, path: Path) -> Iterator[SourceFile | Unreadable]:
        """The conversation: it has changed when an event was added, or one of the newest was still being written."""
        folder = _folder_of(path)
        if folder is None:
            yield from super().sources(path)
            return
        events = _event_files(folder)
        looked_at = [folder / _EVENTS, *events[-_NUM_LOOKED_AT:]]
        stats = [found.stat() for found in looked_at] + [_stat(folder / name) for name in (_STATE, _METADATA)]
        times = [stat.st_mtime_ns for stat in stats if stat is not None]
        size = len(events) + sum(stat.st_size for stat in stats[1:] if stat is not None)
        yield SourceFile(self.agent, folder, size, max(times))

    def read(self, path: Path, cursor: Cursor) -> Iterator[Item]:  # noqa: ARG002 - read whole each time
        """Yield the whole conversation. Raises OSError."""
        folder = _folder_of(path)
        if folder is None:
            yield from _read_trajectory(path)
            return
        transcript = OpenHandsTranscript(_dashed(folder.name), {})
        _learn_state(transcript, folder)
        bad: list[Unreadable] = []
        yield from _but_last(read_document(path, _records(folder, bad), transcript))
        yield from bad
        yield ReadTo(Cursor())


def _but_last(items: Iterator[Item]) -> Iterator[Item]:
    return (item for item in items if not isinstance(item, ReadTo))


def _records(folder: Path, bad: list[Unreadable]) -> Iterator[Mapping[str, Any]]:
    for path in _event_files(folder):
        try:
            found = json_document(path)
        except FileNotFoundError:  # deleted meanwhile: then it is none of it any more
            continue
        if isinstance(found, dict):
            yield found
        else:
            problem = found.problem if isinstance(found, Unreadable) else "no event but a list or a single value"
            bad.append(Unreadable(str(path), 0, problem))


def _read_trajectory(path: Path) -> Iterator[Item]:
    found = json_document(path)
    records = [record for record in found if isinstance(record, dict)] if isinstance(found, list) else []
    if isinstance(found, Unreadable):
        yield found
    elif not records:
        yield Unreadable(str(path), 0, "no trajectory: it holds no events")
    if not records:
        yield ReadTo(Cursor())
        return
    # It names no session: what was said first, and when, does.
    first = next((record for record in records if record.get("source") == "user"), records[0])
    name = Naming("trajectory").name(str(first.get("timestamp")), str(first.get("message"))[:2000])
    transcript = OpenHandsTranscript(name, {})
    transcript.stand_at(next(filter(None, map(_working_dir, records)), ""))
    yield from read_document(path, records, transcript)


def _working_dir(record: Mapping[str, Any]) -> str:
    extras = record.get("extras")
    metadata = extras.get("metadata") if isinstance(extras, dict) else None
    return first_text(metadata, ("working_dir",)) if isinstance(metadata, dict) else ""


def _learn_state(transcript: OpenHandsTranscript, folder: Path) -> None:
    """Learn from the files beside the events, and from where the folder lies, whose conversation it is."""
    state, metadata = _json(folder / _STATE), _json(folder / _METADATA)
    own = _own_id(folder, state)
    transcript.know(session_id=own, thread_id=own)
    above = [(parent, _json(parent / _STATE)) for parent in islice(_parents(folder), _MAX_DEPTH)]
    if above:
        transcript.know(session_id=_own_id(*above[-1]), parent=_own_id(*above[0]))
    for found in (state, *(known for _, known in above)):
        workspace = found.get("workspace")
        if not transcript.cwd and isinstance(workspace, dict):
            transcript.stand_at(first_text(workspace, ("working_dir", "cwd", "path")))
    tags = state.get("tags")
    title = first_text(metadata, ("title",)) or (first_text(tags, ("title",)) if isinstance(tags, dict) else "")
    repository = first_text(metadata, ("selected_repository",))
    is_plain = re.fullmatch(r"[\w.-]+/[\w.-]+", repository)
    transcript.know(
        title=title.strip(),
        branch=first_text(metadata, ("selected_branch",)),
        remote=f"https://github.com/{repository}"
        if is_plain and metadata.get("git_provider", "github") == "github"
        else "",
    )


def _own_id(folder: Path, state: Mapping[str, Any]) -> str:
    return _dashed(id_in(state.get("id")) or folder.name)


def _parents(folder: Path) -> Iterator[Path]:
    while folder.parent.name == _CHILDREN:
        folder = folder.parent.parent
        yield folder


def _dashed(name: str) -> str:
    """A session's id as its state writes it: the folder is called the same without dashes."""
    found = _HEX.fullmatch(name)
    return "-".join(found.groups()) if found else id_in(name)


def _started_by(folder: Path, depth: int = 0) -> Iterator[Path]:
    children = folder / _CHILDREN
    if depth >= _MAX_DEPTH or not children.is_dir():
        return
    for child in sorted(children.iterdir()):
        if is_like_an_id(child.name) and _is_conversation(child):
            yield child
            yield from _started_by(child, depth + 1)


def _folder_of(path: Path) -> Path | None:
    """The conversation's folder, if `path` is one or stands for one; None for an exported file."""
    if path.is_dir():
        return path
    if path.name == _STATE:
        return path.parent
    return path.parent.parent if path.parent.name == _EVENTS and _EVENT.fullmatch(path.name) else None


def _is_conversation(folder: Path) -> bool:
    return (folder / _EVENTS).is_dir()


def _event_files(folder: Path) -> list[Path]:
    found = ((_EVENT.fullmatch(path.name), path) for path in (folder / _EVENTS).iterdir())
    return [path for _, path in sorted((int(event["number"]), path) for event, path in found if event)]


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json_document(path, max_bytes=16 * 1024 * 1024)
    except OSError:
        return {}
    return found if isinstance(found, dict) else {}
