"""Aider's chat history taken apart: bytes of Markdown in, blocks out. One file holds many sessions and is only appended to.

`# aider chat started at` begins a session, `#### ` is what the user typed, `> ` is what Aider itself says, and the rest is the
model's Markdown, in which all of these may stand, too. Aider ends its own lines with two blanks and models hardly ever do: so
in a session whose first prompt ends so, only lines that do are Aider's.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

BlockKind = Literal["header", "user", "tool", "reply"]

_HEADER = re.compile(r"# aider chat started at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\s*")
_FENCE = re.compile(r"(`{3,}|~{3,})(.*)")
_BREAK = "  "


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of one kind, with where it stands in what was read."""

    kind: BlockKind
    text: str
    """Without the marks of its lines; of a header the time."""
    start: int
    """Bytes before it."""
    line: int
    """Complete lines before it."""
    is_strict: bool | None
    """Whether Aider's lines are known by two blanks at their end; None before a session's first prompt."""


def blocks_in(content: bytes, *, is_strict: bool | None) -> Iterator[Block]:
    """Yield the blocks of `content`, which begins with one. `is_strict`: as found so far; None before a session's first prompt."""
    kind: BlockKind | None = None
    texts: list[str] = []
    begun = (0, 0, is_strict)
    fence = ""
    is_blank = True
    offset = 0
    for number, raw in enumerate(content.splitlines(keepends=True) if content else ()):
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        header = _HEADER.fullmatch(line)
        mark = _mark(line, is_strict)
        if fence and mark and not (is_blank and line.endswith(_BREAK)):
            mark = None  # quoted within code; but a reply that was broken off never closes its code
        now: BlockKind | None
        if header:
            now = "header"
        elif mark:
            now = mark
        elif not line.strip() or (kind == "tool" and not is_blank) or kind == "reply":
            now = kind
        else:
            now = "reply"
        is_new = now is not None and (now != kind or header is not None or (mark is not None and is_blank))
        if is_new:
            if kind is not None:
                yield _block(kind, texts, begun)
            kind, texts, fence = now, [], ""
            if now == "header":
                is_strict = None
            elif now == "user" and is_strict is None:
                is_strict = line.endswith(_BREAK)
            begun = (offset, number, is_strict)
        if kind is not None:
            texts.append(header[1] if header else _bare(line, mark))
        if now == "reply":
            fence = _fence_behind(line, fence)
        is_blank = not line.strip()
        offset += len(raw)
    if kind is not None:
        yield _block(kind, texts, begun)


def _block(kind: BlockKind, texts: list[str], begun: tuple[int, int, bool | None]) -> Block:
    start, line, is_strict = begun
    return Block(kind, "\n".join(texts).strip(), start, line, is_strict)


def _mark(line: str, is_strict: bool | None) -> BlockKind | None:
    if is_strict and not line.endswith(_BREAK):
        return None
    if line.startswith("#### ") or line == "####":
        return "user"
    return "tool" if line.startswith("> ") or line == ">" else None


def _bare(line: str, mark: BlockKind | None) -> str:
    if mark == "user":
        return line.removeprefix("####").removeprefix(" ").removesuffix(_BREAK)
    return line.removeprefix(">").removeprefix(" ").removesuffix(_BREAK) if mark == "tool" else line


def _fence_behind(line: str, fence: str) -> str:
    """The fence that is open behind a line, '' where none is."""
    found = _FENCE.match(line)
    if found is None:
        return fence
    if not fence:
        return found[1]
    is_end = found[1][0] == fence[0] and len(found[1]) >= len(fence) and not found[2].strip()
    return "" if is_end else fence


# Edits within a reply ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Edit:
    """One replacement that the model proposes."""

    path: str
    before: str
    after: str


_SEARCH = re.compile(r"<{5,9} SEARCH\s*")
_DIVIDER = re.compile(r"={5,9}\s*")
_REPLACE = re.compile(r">{5,9} REPLACE\s*")


def edits_in(reply: str) -> tuple[str, list[Edit]]:
    r"""Take whole SEARCH/REPLACE blocks out of a reply: what is left, and the edits.

    >>> edits_in("Fix:\n\ntill.py\n```\n<<<<<<< SEARCH\n80\n=======\n8080\n>>>>>>> REPLACE\n```")
    ('Fix:', [Edit(path='till.py', before='80', after='8080')])
    """
    left: list[str] = []
    edits: list[Edit] = []
    path = ""
    lines = reply.split("\n")
    at = 0
    while at < len(lines):
        ends = _ends(lines, at) if _SEARCH.fullmatch(lines[at]) else None
        if ends is None:
            left.append(lines[at])
            at += 1
            continue
        divider, end = ends
        path = _named_before(left) or path
        edits.append(Edit(path, "\n".join(lines[at + 1 : divider]), "\n".join(lines[divider + 1 : end])))
        at = end + 1
        if at < len(lines) and _FENCE.match(lines[at]) and not lines[at].strip("`~ "):
            at += 1
    return "\n".join(left).strip(), edits


def _ends(lines: list[str], start: int) -> tuple[int, int] | None:
    divider = 0
    for at in range(start + 1, len(lines)):
        if _SEARCH.fullmatch(lines[at]):
            return None
        if not divider and _DIVIDER.fullmatch(lines[at]):
            divider = at
        elif divider and _REPLACE.fullmatch(lines[at]):
            return divider, at
    return None


def _named_before(left: list[str]) -> str:
    """The file that an edit is of, named right before it, within its fence or above; its lines are taken away."""
    kept = len(left)
    name = ""
    for line in reversed(left[-3:]):
        if _FENCE.match(line):
            kept -= 1
        elif not name and line.strip() and " " not in line.strip().strip("`*:"):
            name = line.strip().strip("`*:")
            kept -= 1
        else:
            break
    if name:
        del left[kept:]
    return name
