"""Which version of this program is installed. A file of its own: who only asks for that need not load a server."""

import os
import re
import sys

_FILES = re.compile(r"lmm_mcp-(?P<version>[^-]+)\.dist-info", re.IGNORECASE)


def version() -> str:
    """Name the version that is installed, '' where the program was never installed.

    Looks for the folder that an installer leaves: `importlib.metadata` finds the same and takes 30 ms to load, which
    is a quarter of what an agent's first answer may take.
    """
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")  # noqa: PTH208 - pathlib takes 10 ms to load
        except OSError:
            continue
        for name in names:
            if found := _FILES.fullmatch(name):
                return found["version"]
    return ""


def order(name: str) -> tuple[tuple[int, ...], int, str]:
    """Sort key of versions: later ones are greater, and what precedes a release comes before it.

    >>> order("0.9.1") < order("0.10.0rc1") < order("0.10.0") == order("0.10")
    True
    """
    numbers = re.match(r"\d+(?:\.\d+)*", name)
    parts = [int(part) for part in numbers[0].split(".")] if numbers else []
    while parts and not parts[-1]:
        parts.pop()
    suffix = name[numbers.end() :] if numbers else name
    return tuple(parts), int(not suffix or suffix.startswith("+")), suffix
