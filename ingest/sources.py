"""Which session files lie on this machine, newest first."""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ingest.readers.opening import oddity
from ingest.readers.registry import READERS, reader_for
from ingest.reading import traced
from ingest.session import Reader, SourceFile, Unreadable
from lmm_mcp.config import Sessions

_ENDINGS = (
    ".jsonl",
    ".jsonl.zst",
    ".json",
    ".db",
    ".sqlite",
    ".sqlite3",
    ".vscdb",
    ".traj",
    ".md",
    ".txt",
    ".zip",
    ".parquet",
    ".tar",
)
"""Of files in a folder that the user names; whether one is a session is asked of the readers."""
_NEVER_ENTERED = frozenset({".git", "node_modules", ".venv", "__pycache__"})
_log = logging.getLogger("lmm.ingest")


def find(
    env: Mapping[str, str], settings: Sessions, notes: Path, projects: Sequence[Path] = ()
) -> list[SourceFile | Unreadable]:
    """List every agent's sessions, newest first; what cannot be listed is said. `projects`: folders known to be worked in."""
    found: list[SourceFile | Unreadable] = []
    for reader, root in roots(env, settings, notes, projects):
        try:
            paths = list(reader.discover(root))
        except OSError as problem:
            found.append(Unreadable(str(root), 0, f"folder cannot be listed: {problem.strerror or problem}"))
            continue
        for path in paths:
            found.extend(listed(reader, path))
    return newest_first(found)


def roots(
    env: Mapping[str, str], settings: Sessions, notes: Path, projects: Sequence[Path] = ()
) -> Iterator[tuple[Reader, Path]]:
    """Where sessions may lie, whether or not it exists, and by which reader they are read there."""
    extra: dict[str, list[Path]] = {"notes": [notes]}
    for agent, folder in settings.named_folders():
        extra.setdefault(agent, []).append(folder)
    for reader in READERS:
        folders = [*extra.get(reader.agent, ()), *(projects if reader.lies_in_projects else ())]
        found = reader.roots(env, folders)  # also of those left out: what is theirs is not read as another's
        if reader.agent not in settings.exclude_agents:
            yield from ((reader, root) for root in found)


def listed(reader: Reader, path: Path, *, is_named: bool = False) -> list[SourceFile | Unreadable]:
    """The session file as something to read, or every session in it. `is_named`: the user names it, wherever it leads."""
    try:
        if reader.lies_in_projects and not is_named and _leads_away(path):
            return [
                Unreadable(str(path), 0, "is a link out of its project, which is not followed; `lmm import` reads it")
            ]
        if path.is_dir() and (refused := _unlisted(path)):
            return [refused]
        return list(reader.sources(path))
    except OSError as problem:
        return [Unreadable(str(path), 0, f"cannot be read: {problem.strerror or problem}")]
    except Exception as problem:  # a reader breaks its word: the other files are read nevertheless
        _log.error("a session file cannot be looked at: %s\n%s", path.name, traced(problem))
        return [Unreadable(str(path), 0, f"cannot be looked at ({type(problem).__name__}); please report this")]


def _leads_away(path: Path) -> bool:
    """Whether a session in a folder that is worked in is a link to somewhere else.

    Such a folder may be a stranger's repository, and what a link in it leads to would be told to whoever asks there.
    """
    hidden = next((each for each in (path, *path.parents) if each.name.startswith(".")), path)
    return not path.resolve().is_relative_to(hidden.parent.resolve())


def named(paths: Iterable[Path]) -> list[SourceFile | Unreadable]:
    """List the session files that the user named, or that lie below the folders named; newest first."""
    found: list[SourceFile | Unreadable] = []
    for path in paths:
        if not path.exists():
            found.append(Unreadable(str(path), 0, "there is no such file or folder"))
            continue
        is_folder = path.is_dir()
        for candidate in _below(path) if is_folder else (path,):
            try:
                if odd := oddity(candidate.stat().st_mode):
                    found.append(_unlisted(candidate) or _refused(candidate, odd))
                    continue
                reader = reader_for(candidate)
            except OSError as problem:
                found.append(Unreadable(str(candidate), 0, f"cannot be read: {problem.strerror or problem}"))
                continue
            if reader is not None:
                found.extend(listed(reader, candidate, is_named=True))
            elif not is_folder:
                found.append(Unreadable(str(candidate), 0, "this is no session file of a known agent"))
    return newest_first(found)


def newest_first(found: Sequence[SourceFile | Unreadable]) -> list[SourceFile | Unreadable]:
    """Sort by time of last change, newest first; each path once; what is unreadable comes first."""
    once = {item.name if isinstance(item, SourceFile) else item.path: item for item in found}
    return sorted(
        once.values(),
        key=lambda item: (
            (0, 0, str(item.path)) if isinstance(item, Unreadable) else (1, -item.mtime_ns, str(item.path))
        ),
    )


def _below(folder: Path) -> Iterator[Path]:
    refused: list[OSError] = []
    for parent, folders, files in os.walk(folder, onerror=refused.append):
        folders[:] = sorted(name for name in folders if name not in _NEVER_ENTERED)
        yield from (Path(parent, name) for name in sorted(files) if name.endswith(_ENDINGS))
    yield from (Path(problem.filename) for problem in refused)


def _unlisted(path: Path) -> Unreadable | None:
    if not path.is_dir() or os.access(path, os.R_OK | os.X_OK):
        return None
    return Unreadable(str(path), 0, "folder cannot be listed: it may not be read")


def _refused(path: Path, odd: str) -> Unreadable:
    return Unreadable(str(path), 0, f"is {odd} and no session file")
