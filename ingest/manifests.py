"""The text of a manifest in, what it lays down out: package manager, runtime versions, scripts, commands, description.

By lines and not by a parser: what an agent was shown of a file is often a part of it, with line numbers before the lines. Every
value is found where it stands, so that it can be cited.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

MAX_chars = 60_000
_NUMBER = r"^(?:\s*\d+(?:→|\t|: ?|\| ?))?\s*"
"""Before a line as agents are shown it."""
_Form = tuple[str, str, re.Pattern[str]]


@dataclass(frozen=True, slots=True)
class LaidDown:
    """One thing that a manifest says, with the place of its line."""

    relation: str
    subject: str
    value: str
    start: int
    end: int


def _form(relation: str, subject: str, pattern: str) -> _Form:
    return relation, subject, re.compile(_NUMBER + pattern)


_BY_NAME: dict[str, tuple[_Form, ...]] = {
    "package.json": (
        _form("package manager", "javascript", r'"packageManager": "(?P<value>npm|pnpm|yarn|bun)@'),
        _form("runtime version", "", r'"(?P<subject>node|bun)": "(?P<value>[<>=^~v]*\d[\w.<>=^~| -]*)"'),
        _form("description", "", r'"description": "(?P<value>[^"\\]{12,200})"'),
    ),
    "pyproject.toml": (
        _form("runtime version", "", r'requires-(?P<subject>python) = "(?P<value>[^"]{2,40})"'),
        _form("description", "", r'description = "(?P<value>[^"\\]{12,200})"'),
    ),
    "cargo.toml": (
        _form("runtime version", "", r'(?P<subject>rust)-version = "(?P<value>[\d.]+)"'),
        _form("description", "", r'description = "(?P<value>[^"\\]{12,200})"'),
    ),
    "go.mod": (_form("runtime version", "", r"(?P<subject>go) (?P<value>\d+\.\d+(?:\.\d+)?)\s*$"),),
    ".python-version": (_form("runtime version", "python", r"(?P<value>\d+\.\d+(?:\.\d+)?)\s*$"),),
    ".nvmrc": (_form("runtime version", "node", r"(?P<value>v?\d+(?:\.\d+)*)\s*$"),),
    ".node-version": (_form("runtime version", "node", r"(?P<value>v?\d+(?:\.\d+)*)\s*$"),),
    "mise.toml": (
        _form("runtime version", "", r'(?P<subject>node|python|go|rust|ruby|java|bun|deno|pnpm) = "(?P<value>[\d.]+)"'),
    ),
}
_BY_NAME[".mise.toml"] = _BY_NAME["mise.toml"]
_SECTION = {
    "package.json": re.compile(_NUMBER + r'"(?P<name>\w+)": \{'),
    "pyproject.toml": re.compile(_NUMBER + r"\[(?P<name>[\w.-]+)\]"),
}
_IN_SECTION: dict[tuple[str, str], _Form] = {
    ("package.json", "scripts"): _form("script", "", r'"(?P<subject>[\w:.-]{2,40})": "(?P<value>[^"\\]{2,160})"'),
    ("pyproject.toml", "project.scripts"): _form(
        "entry point", "", r'"?(?P<subject>[\w.-]{2,40})"? = "(?P<value>[\w.]+:[\w.]+)"'
    ),
}
NAMES = frozenset(_BY_NAME)
"""Base names, lower-cased."""


def laid_down(name: str, text: str) -> Iterator[LaidDown]:
    r"""What the manifest of this base name says.

    >>> [(each.relation, each.subject, each.value) for each in laid_down("go.mod", "module x\n\ngo 1.22\n")]
    [('runtime version', 'go', '1.22')]
    """
    name = name.lower()
    forms, section_of = _BY_NAME.get(name, ()), _SECTION.get(name)
    section, at = "", 0
    for line in text[:MAX_chars].split("\n"):
        if section_of is not None and (opened := section_of.match(line)) is not None:
            section = opened["name"]
        inner = _IN_SECTION.get((name, section))
        for relation, subject, pattern in (*forms, *((inner,) if inner is not None else ())):
            if (found := pattern.match(line)) is not None:
                said = subject or found.groupdict().get("subject") or ""
                yield LaidDown(relation, said, found["value"], at, at + len(line))
                break
        at += len(line) + 1
