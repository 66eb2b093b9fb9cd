"""Why the machine refused to write: the disk is full, or this user may not. Told from any error, and by exit code.

A process whose disk is full can leave no word on it, so a child says the reason with its exit code. Libraries that are
written in other languages raise errors of their own, of which the text alone tells what the system said.
"""

import errno
import re
import shutil
from pathlib import Path
from typing import Literal

Refusal = Literal["full", "forbidden", ""]
"""'' where something else, or nothing, is wrong."""
_NUMBERS: dict[int, Refusal] = {
    errno.ENOSPC: "full",
    errno.EDQUOT: "full",
    errno.EFBIG: "full",  # a limit on the size of files (`ulimit -f`)
    errno.EACCES: "forbidden",
    errno.EPERM: "forbidden",
    errno.EROFS: "forbidden",
}
_TEXTS: tuple[tuple[Refusal, re.Pattern[str]], ...] = (
    (
        "full",
        re.compile(
            r"no space left|disk is full|disk full|disk quota|file too large|\(os error (?:27|28|112|122)\)", re.I
        ),
    ),
    (
        "forbidden",
        re.compile(
            r"permission denied|read-?only (?:file system|database)|access is denied|\(os error (?:1|13|30)\)", re.I
        ),
    ),
)
"""As Rust and SQLite word it; the numbers are those of Linux, and 112 that of Windows."""
_EXIT_CODES: dict[Refusal, int] = {"full": 74, "forbidden": 77}
"""Those of sysexits.h for an error in writing and for missing rights. 1 stands for everything else."""
_NOTHING_bytes = 200_000
"""What failed may have left a little room by taking back what it began."""


def refusal_behind(problem: BaseException) -> Refusal:
    """Find the refusal behind an error, or behind the errors that it was raised from.

    >>> refusal_behind(OSError(errno.ENOSPC, "No space left on device"))
    'full'
    >>> refusal_behind(RuntimeError("lance error: Permission denied (os error 13), src/local.rs:1:2"))
    'forbidden'
    >>> refusal_behind(ValueError("no such column"))
    ''
    """
    seen: BaseException | None = problem
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _NUMBERS:
            return _NUMBERS[seen.errno]
        if not isinstance(seen, OSError) or seen.errno is None:
            for found, words in _TEXTS:
                if words.search(str(seen)):
                    return found
        seen = seen.__cause__
    return ""


def explained(refusal: Refusal, where: Path) -> str:
    """Say in one sentence what was refused and what to do; '' for no refusal. `where`: the memory home or a part of it."""
    match refusal:
        case "full":
            return f"the disk that holds {where} is full; free some space and run `lmm import`: nothing was lost"
        case "forbidden":
            return f"{where} cannot be written; give this user the right to, then run `lmm import`: nothing was lost"
        case "":
            return ""


def is_full(where: Path) -> bool:
    """Whether next to nothing can be written there. For errors that do not tell: SQLite calls a full disk an I/O error."""
    try:
        return shutil.disk_usage(where).free < _NOTHING_bytes
    except OSError:
        return False


def exit_code_of(refusal: Refusal) -> int:
    """Name the exit code by which a child tells its parent."""
    return _EXIT_CODES.get(refusal, 1)


def refusal_of(exit_code: int) -> Refusal:
    """Read what a child's exit code tells.

    >>> refusal_of(exit_code_of("forbidden"))
    'forbidden'
    """
    return next((refusal for refusal, code in _EXIT_CODES.items() if code == exit_code), "")
