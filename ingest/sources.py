"""Which session files lie on this machine, newest first."""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from ingest.readers.opening import oddity
from ingest.readers.registry import BUILT_IN, READERS, reader_for
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
NEVER_OPENED = (
    *("auth.json", "*-auth.json", "oauth*.json", "*credentials*.json", "secrets.json", "logins.json", ".claude.json"),
    *("token", "token.json", "tokens.json", "cookies*", "keychain*", "login data*", "key4.db", "id_rsa", ".env"),
    *("settings*.json", "config.toml"),
)
"""What lies beside sessions and is none: credentials, and what may hold some. A folder that is named holds it too, maybe."""
_NEVER_ENTERED = frozenset({".git", "node_modules", ".venv", "__pycache__"})
_NOBODY = Path("/home-of-nobody")
_SHARED = frozenset({".config", ".local", ".var", "AppData", "Library"})
"""Folders of a home that belong to no agent."""
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
            yield from ((reader, root) for root in _once(found))


def _once(folders: Iterable[Path]) -> Iterator[Path]:
    """Each folder under the first of its names: `zed` and `Zed` are one where disks do not tell them apart."""
    met: set[tuple[int, int]] = set()
    for folder in folders:
        try:
            found = folder.stat()
        except OSError:
            yield folder  # it may come
            continue
        if (found.st_dev, found.st_ino) not in met:
            met.add((found.st_dev, found.st_ino))
            yield folder


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
        for candidate, keeper in _below(path.absolute()) if is_folder else ((path, None),):
            try:
                if keeper is None and (odd := oddity(candidate.stat().st_mode)):
                    found.append(_unlisted(candidate) or _refused(candidate, odd))
                    continue
                reader = keeper or reader_for(candidate)
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


def _below(folder: Path) -> Iterator[tuple[Path, Reader | None]]:
    """What may be a session below `folder`, with its reader where an agent keeps it in a place of its own.

    There it is asked what it would find: whatever else lies in an agent's folder is not opened to see what it is.
    """
    refused: list[OSError] = []
    agents_own: Path | None = None
    for parent, folders, files in os.walk(folder, onerror=refused.append):
        folders[:] = sorted(name for name in folders if name not in _NEVER_ENTERED)
        here = Path(parent)
        readers = [reader for num in _LENGTHS for reader in _PLACES.get(here.parts[-num:], ())]
        if agents_own is None or not here.is_relative_to(agents_own):
            agents_own = here if readers or here.name in _AGENTS_OWN else None
        for reader in readers:
            try:
                yield from [(path, reader) for path in reader.discover(here)]
            except OSError:
                yield here, None
        if agents_own is None:
            yield from ((here / name, None) for name in sorted(files) if name.endswith(_ENDINGS) and _may_open(name))
    yield from ((Path(problem.filename), None) for problem in refused)


def _may_open(name: str) -> bool:
    return not any(fnmatchcase(name.lower(), pattern) for pattern in NEVER_OPENED)


def _places() -> dict[tuple[str, ...], list[Reader]]:
    """Which readers find their sessions in a folder by the names that lead to it from a home, whoever's home it is."""
    env = {"HOME": str(_NOBODY), "USERPROFILE": str(_NOBODY)}
    env |= {f"{which}APPDATA": f"{_NOBODY}/AppData/{name}" for which, name in (("", "Roaming"), ("LOCAL", "Local"))}
    found: dict[tuple[str, ...], list[Reader]] = {}
    for reader in BUILT_IN:
        for root in () if reader.lies_in_projects else reader.roots(env, ()):
            found.setdefault(root.parts[len(_NOBODY.parts) :], []).append(reader)
    return found


_PLACES = _places()
"""Asked before anybody looks for sessions: readers may remember where they were told to look last."""
_LENGTHS = sorted({len(inside) for inside in _PLACES})
_AGENTS_OWN = frozenset(inside[0] for inside in _PLACES) - _SHARED


def _unlisted(path: Path) -> Unreadable | None:
    if not path.is_dir() or os.access(path, os.R_OK | os.X_OK):
        return None
    return Unreadable(str(path), 0, "folder cannot be listed: it may not be read")


def _refused(path: Path, odd: str) -> Unreadable:
    return Unreadable(str(path), 0, f"is {odd} and no session file")
