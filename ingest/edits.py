"""An edit of a file in, values that took the place of others out: `TIMEOUT = 5` became `TIMEOUT = 12`.

Only literals count, numbers, quoted words, paths and names with joints in them, and only where the rest of the line stays as it
was: what code does is not looked at. Where a session changes what holds, this is the surest place to see it.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lmm_mcp.domain.event import Event

MAX_LINE_chars = 200
MAX_VALUE_chars = 80
MAX_LINES = 40
"""Removed one after another: more than that is a rewrite."""
_TOKEN = re.compile(r"\"[^\"\n]*\"|'[^'\n]*'|`[^`\n]*`|[/~@#.]?\w+(?:[./:\\@+-]+\w+)*|\S")
_QUOTED = re.compile(r"([\"'`])[\w./:@~+#-]{2,}\1")
_NUMBER = re.compile(r"\d[\w.:%-]*")
_BARE = re.compile(r"@\w[\w-]+|[/~.]?\w+(?:[./:\\@+-]+\w+)+")
_DIGITS = re.compile(r"\d+")
_CONFIG = re.compile(
    r"(?:^|/)(?:[\w.-]*(?:Dockerfile|Containerfile|CODEOWNERS|Makefile|justfile|Procfile)[\w.-]*|\.env[\w.]*|\.[\w.-]*rc"
    r"|[\w.-]+\.(?:ya?ml|toml|json[5c]?|ini|cfg|conf|env|properties|tf|tfvars|service|timer|plist|xml|gradle|mod|nix|rules))$",
    re.IGNORECASE,
)
"""Files in which nothing is computed: what stands there is a value."""
_OF_NO_USE = re.compile(
    r"(?:^|/)(?:tests?|specs?|__tests__|fixtures?|snapshots?|node_modules|vendor|testdata)/|(?:^|/)(?:test_|conftest)"
    r"|[._-](?:tests?|spec|snap|lock|min)\.\w+$|(?:^|/)(?:package-lock\.json|pnpm-lock\.yaml|go\.sum)$"
    r"|\.(?:lock|sum|csv|svg|ipynb|mdx?|rst|txt)$",
    re.IGNORECASE,
)
"""Files whose values are examples, or made by programs, or prose."""
_IMPORT = re.compile(r"\s*(?:import|from|use|require|include|#include|using|export \*|export \{|package)\b")
_CONSTANTS = frozenset("true false True False null None nil on off yes no".split())
"""Values, too, but none that could be known again."""
_NAME = re.compile(r"[A-Za-z_][\w.-]*|[\"'][A-Za-z_@][\w./@ -]*[\"']")
_SIGN = frozenset({"=", ":", "=>", ":="})
_ENDS = frozenset({",", ";", "{"})
"""What stands between one named value and the next."""
_FILE = re.compile(r"(?:\*\*\* (?:Update|Add|Delete) File: |\+\+\+ (?:b/)?)(?P<path>\S.*?)\s*$")
_NO_LINE = ("--- ", "+++ ")
_MOST_CHANGED = 2
"""Tokens of a line without a name: where more are others, it is another line."""


@dataclass(frozen=True, slots=True)
class Changed:
    """One value that took the place of another, each with its place in the text of the call."""

    subject: str
    """The file and the name or line that it is the value of."""
    old: str
    old_start: int
    new: str
    new_start: int


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    at: int


def changed(call: Event) -> Iterator[Changed]:
    """The values that an edit replaced, in order; none for what is no edit."""
    if call.command or not call.paths or len(call.text) > 60_000:
        return
    file, above = call.paths[0], ""
    gone: list[_Line] = []
    come: list[_Line] = []
    at = 0
    for line in (*call.text.split("\n"), " "):
        if line.startswith("-") and not line.startswith(_NO_LINE):
            if come:
                yield from _between(gone, come, file, above)
                gone, come = [], []
            gone.append(_Line(line[1:], at + 1))
        elif line.startswith("+") and not line.startswith(_NO_LINE):
            come.append(_Line(line[1:], at + 1))
        else:
            yield from _between(gone, come, file, above)
            gone, come = [], []
            named = _FILE.match(line)
            if named is not None:
                file, above = named["path"], ""
            elif (text := line.strip()) and text != file:
                above = text
        at += len(line) + 1


def _between(gone: Sequence[_Line], come: Sequence[_Line], file: str, above: str) -> Iterator[Changed]:
    """Of each removed line with the one in its place, else with the first that gives the same name another value."""
    if not come or len(gone) > MAX_LINES or _OF_NO_USE.search(file):
        return
    free = list(come)
    for number, old in enumerate(gone):
        in_place = come[number] if len(gone) == len(come) else None
        for new in (in_place, *free) if in_place in free else free:
            if new is not None and (found := _in_line(old, new, file, above, is_named=new is not in_place)):
                free.remove(new)
                yield from found
                break


def _in_line(old: _Line, new: _Line, file: str, above: str, *, is_named: bool) -> list[Changed]:
    """What one line changed of another. `is_named`: only values of a name."""
    if max(len(old.text), len(new.text)) > MAX_LINE_chars or (_IMPORT.match(old.text) and not _CONFIG.search(file)):
        return []
    before, after = list(_TOKEN.finditer(old.text)), list(_TOKEN.finditer(new.text))
    if len(before) != len(after):
        return []
    others = [n for n, (a, b) in enumerate(zip(before, after, strict=True)) if a[0] != b[0]]
    frame = ["…" if n in others else each[0] for n, each in enumerate(before)]
    is_config = _CONFIG.search(file) is not None
    found = []
    for n in others:
        was, now = before[n][0], after[n][0]
        if {was, now} <= _CONSTANTS:
            continue
        if not (_is_value(was, is_config=is_config) and _is_value(now, is_config=is_config)):
            return []
        name = _name(frame, n)
        if not name and not is_named:
            name = _around(frame, above, is_config=is_config, was=was, now=now)
        if not name:
            return []
        place = "/".join(file.replace("\\", "/").split("/")[-2:])
        value, bare = _bare(was), _bare(now)
        at, then = old.at + before[n].start() + was.index(value), new.at + after[n].start() + now.index(bare)
        found.append(Changed(f"{place}: {name}", value, at, bare, then))
    return found if len(found) == 1 or len({each.subject for each in found}) == len(found) else []


def _is_value(token: str, *, is_config: bool) -> bool:
    """Whether a token is a number, quoted without a blank or an expression in it, or, where nothing is computed, any name with joints."""
    if len(token) > MAX_VALUE_chars:
        return False
    if token[:1] in "\"'`":
        return _QUOTED.fullmatch(token) is not None
    return _NUMBER.fullmatch(token) is not None or (is_config and _BARE.fullmatch(token) is not None)


def _name(frame: Sequence[str], at: int) -> str:
    """The name before the sign that a value stands behind; '' where there is none."""
    begin = max((n + 1 for n in range(at) if frame[n] in _ENDS), default=0)
    sign = next((n for n in range(begin + 1, at) if frame[n] in _SIGN), None)
    if sign is None or not _NAME.fullmatch(frame[sign - 1]) or frame[sign + 1] == "=":  # which compares
        return ""
    return _bare(frame[sign - 1])


def _around(frame: Sequence[str], above: str, *, is_config: bool, was: str, now: str) -> str:
    """What stands around a value without a name, where nothing is computed; '' where that tells nothing."""
    around = " ".join(frame)
    if not is_config or frame.count("…") > _MOST_CHANGED:
        return ""
    if re.search(r"[A-Za-z]{2}", around):
        return around
    # One of a list is followed by any other: only another number in the same place takes its place.
    is_same_kind = _DIGITS.sub("0", was) == _DIGITS.sub("0", now)
    return f"{above[:60]} {around}" if is_same_kind and re.search(r"[A-Za-z]{2}", above) else ""


def _bare(token: str) -> str:
    return token[1:-1].strip() if token[:1] in "\"'`" and token[-1:] == token[:1] else token
