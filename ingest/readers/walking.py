"""Looks for session files below a folder by rules about names, so that finding and recognising follow the same rule."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

Inside = tuple[str, ...]
"""The names that lead from a root to a file or folder below it."""

_ID = re.compile(r"(?=.*\d)[\w.:-]{8,200}")


def files_below(root: Path, is_session: Callable[[Inside], bool], enters: Callable[[Inside], bool]) -> Iterator[Path]:
    """Every file below `root` that is a session by its name, of the folders that are entered by theirs, sorted.

    A root that is itself a file was named by the user, and is yielded. A folder that cannot be listed is yielded itself, so
    that whoever opens what is found says why.
    """
    if root.is_file():
        yield root
        return
    refused: list[OSError] = []
    for here, folders, names in os.walk(root, onerror=refused.append):
        inside = Path(here).relative_to(root).parts
        folders[:] = sorted(name for name in folders if enters((*inside, name)))
        yield from (Path(here, name) for name in sorted(names) if is_session((*inside, name)))
    yield from (Path(problem.filename) for problem in refused if not isinstance(problem, FileNotFoundError))


def files_in(root: Path, is_session: Callable[[str], object]) -> Iterator[Path]:
    """The same of the folder alone, by the names in it."""
    yield from files_below(root, lambda inside: bool(is_session(inside[0])), lambda _: False)


def inside_of(root: Path, path: Path) -> Inside:
    """The names that lead from `root` to `path`; () where it is the root itself or lies elsewhere."""
    return path.relative_to(root).parts if path.is_relative_to(root) else ()


def is_like_an_id(name: str) -> bool:
    """Whether a name could be a session's id, and no word: where sessions lie beside other files of the same kind.

    >>> [is_like_an_id(name) for name in ("7a8b9c0d-0000-4000", "2026-03-06T09-00-00-000Z_1c2d3e4f", "history", "token")]
    [True, True, False, False]
    """
    return _ID.fullmatch(name) is not None
