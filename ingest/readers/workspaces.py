"""Which folder an editor's window was opened on, as VS Code and its forks write it down."""

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from ingest.readers.documents import json_document
from lmm_mcp.domain.project import looks_like_home, normalise_path

_MAX_bytes = 1024 * 1024


def folder_in(storage: Path) -> str:
    """The folder that `workspace.json` in a window's storage names; '' where it names none or is not there."""
    try:
        found = json_document(storage / "workspace.json", max_bytes=_MAX_bytes)
    except OSError:
        return ""
    if not isinstance(found, Mapping):
        return ""
    several = found.get("workspace") or found.get("configuration")
    return path_of(found.get("folder")) or path_of(several, of_workspace_file=True)


def folder_holding(paths: Iterable[str], windows: Path) -> str:
    """The folder of one of the windows stored in `windows` in which most of these files lie, the innermost; '' = none."""
    try:
        folders = _folders(windows, windows.stat().st_mtime_ns)
    except OSError:
        return ""
    held = Counter(folder for path in paths for folder in folders if path.startswith(f"{folder}/"))
    return max(held, key=lambda folder: (held[folder], len(folder)), default="")


@lru_cache(maxsize=8)
def _folders(windows: Path, changed_ns: int) -> frozenset[str]:  # noqa: ARG001 - what is kept holds until the folder changes
    folders = {folder_in(storage) for storage in windows.iterdir()}
    return frozenset(folder for folder in folders if folder and not looks_like_home(folder))


def path_of(value: object, *, of_workspace_file: bool = False) -> str:
    """A folder, given as a URI or as the parts of one; of a `.code-workspace` file the folder it lies in. '' = none.

    >>> path_of("vscode-remote://ssh-remote%2Bbox/home/mira/harbour"), path_of({"fsPath": "/home/mira/harbour", "scheme": "file"})
    ('/home/mira/harbour', '/home/mira/harbour')
    >>> path_of("file:///home/mira/all.code-workspace", of_workspace_file=True)
    '/home/mira'
    """
    if isinstance(value, Mapping):
        value = next((part for key in ("fsPath", "path", "external") if isinstance(part := value.get(key), str)), "")
    if not isinstance(value, str) or not value:
        return ""
    path = normalise_path(value)
    if not (path.startswith("/") or path[1:2] == ":"):
        return ""  # an address, such as `untitled:`
    return path.rpartition("/")[0] if of_workspace_file else path
