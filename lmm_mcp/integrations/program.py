"""How this installation of `lmm` is started by others, and what of theirs starts one of us."""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from lmm_mcp.integrations.contract import Program
from lmm_mcp.paths import home_of

_NAMES = frozenset({"lmm", "lmm-mcp"})
_MODULE = ("-m", "lmm_mcp")
HOOK = ("hook", "session-start")
_HARMLESS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=+,@%")


def installed(env: Mapping[str, str]) -> Program:
    """The program that runs now by its full path, and the memory home that the environment names."""
    beside = Path(sys.executable).with_name("lmm.exe" if os.name == "nt" else "lmm")
    words = (str(beside),) if beside.exists() else (sys.executable, *_MODULE)
    return Program(words, str(home_of(env).root) if env.get("LMM_HOME", "").strip() else "")


def starts_us(words: Sequence[str]) -> bool:
    r"""Whether a command line starts an installation of this program, wherever it lies.

    >>> starts_us(["/opt/lmm/bin/lmm", "mcp"]), starts_us([r"C:\lmm\Scripts\lmm.exe", "mcp"])
    (True, True)
    >>> starts_us(["python3", "-m", "lmm_mcp", "mcp"]), starts_us(["npx", "lmm"]), starts_us([])
    (True, False, False)
    """
    if not words:
        return False
    return _name_of(words[0]) in _NAMES or tuple(words[1:3]) == _MODULE


def hook_words(program: Program) -> list[str]:
    """The command line of the hook at the start of a session."""
    return [*program.words, *HOOK, *(("--home", program.home) if program.home else ())]


def is_our_hook(words: Sequence[str]) -> bool:
    """Whether a command line is that hook, of whatever installation.

    >>> is_our_hook(["/opt/lmm/bin/lmm", "hook", "session-start"]), is_our_hook(["/opt/lmm/bin/lmm", "status"])
    (True, False)
    """
    rest = list(words[3:] if tuple(words[1:3]) == _MODULE else words[1:])
    return starts_us(words) and tuple(rest[:2]) == HOOK


def missing(words: Sequence[str]) -> bool:
    """Whether the program that a command line names by its full path is not there."""
    return bool(words) and Path(words[0]).is_absolute() and not Path(words[0]).exists()


def for_a_shell(words: Sequence[str], *, windows: bool) -> str | None:
    r"""The words as one line for whatever shell runs it; None where no line suits all of them.

    On Windows that may be Git's bash or PowerShell, which agree on nothing but words that need no quotes.

    >>> for_a_shell(["/a b/lmm", "hook"], windows=False)
    "'/a b/lmm' hook"
    >>> for_a_shell([r"C:\lmm\lmm.exe", "hook"], windows=True), for_a_shell([r"C:\a b\lmm.exe"], windows=True)
    ('C:/lmm/lmm.exe hook', None)
    """
    if not windows:
        return shlex.join(words)
    line = [word.replace("\\", "/") for word in words]
    return " ".join(line) if all(word and set(word) <= _HARMLESS for word in line) else None


def words_of(line: str) -> list[str]:
    """The words of a command line of a shell; [] where it is no simple one."""
    try:
        return shlex.split(line.replace("\\", "/") if "'" not in line and '"' not in line else line)
    except ValueError:
        return []


def _name_of(program: str) -> str:
    pure = PureWindowsPath(program) if "\\" in program or program[1:2] == ":" else PurePosixPath(program)
    return pure.name.lower().removesuffix(".exe")
