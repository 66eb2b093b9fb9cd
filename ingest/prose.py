"""Prose in, its sentences out, each with its place: what somebody says in their own words, without what they paste or quote.

Code blocks, tables, quoted lines, markup and log lines are passed over: an instruction in them is not the writer's.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

MAX_chars = 300
"""A longer sentence is a list or a paste without an end."""
_MIN_WORDS = 4
_MIN_CJK_chars = 6
_MAX_LOOKED_AT_chars = 20_000
_SENTENCE = re.compile(
    r"[^.!?。！？\n]*(?:[.!?](?!\*{0,2}(?:\s|$))[^.!?。！？\n]*)*(?:[.!?]+\*{0,2}(?=\s|$)|[。！？]|(?=\n)|$)"
)
_BULLET = re.compile(r"^[\s*_]*(?:(?:[-*•+]|\d{1,2}[.)]|#{1,6})\s+)?[\s*_]*(?:\[[ xX]\]\s+)?")
_NOT_PROSE = re.compile(
    r"^\s*(?:>|\||<|\{|\[[^ xX]|\$ |//|/\*|#!|@|diff |import |from \S+ import|const |let \w+ =|def |class |return |\d{4}-\d\d-\d\d|[\w.-]+:\s*$)|[{};,(]\s*$"
)
_CJK = re.compile(r"[぀-ヿ㐀-䶿一-鿿가-힯]")


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence, and where it begins in the text it was taken from."""

    text: str
    start: int

    @property
    def is_question(self) -> bool:
        """Whether it asks rather than says."""
        return self.text.endswith(("?", "？", "吗", "呢"))


def sentences(text: str) -> Iterator[Sentence]:
    r"""The sentences of prose, in order, without bullets and emphasis around them.

    >>> [each.text for each in sentences("Done.\n```\nalways = 1\n```\n> never use npm here\n- **We use pnpm** for all of it.")]
    ['We use pnpm** for all of it.']
    >>> [each.text for each in sentences("以后一律用 pnpm。好的")]
    ['以后一律用 pnpm。']
    """
    is_code = False
    at = 0
    for line in text[:_MAX_LOOKED_AT_chars].split("\n"):
        if line.lstrip().startswith(("```", "~~~")):
            is_code = not is_code
        elif not is_code and line.strip() and not _NOT_PROSE.search(line) and not line.startswith(("    ", "\t")):
            yield from _in_line(line, at)
        at += len(line) + 1


def _in_line(line: str, offset: int) -> Iterator[Sentence]:
    begin = _BULLET.match(line)
    at = begin.end() if begin is not None else 0
    for found in _SENTENCE.finditer(line, at):
        said = found[0].strip().rstrip("*_ ")
        if said and len(said) <= MAX_chars and not said.endswith((":", "：")) and _says_something(said):
            yield Sentence(said, offset + line.index(said, found.start()))


def _says_something(said: str) -> bool:
    return len(said.split()) >= _MIN_WORDS or len(_CJK.findall(said)) >= _MIN_CJK_chars or _is_short_cjk(said)


def _is_short_cjk(said: str) -> bool:
    """Chinese that names a tool, such as `以后用 pnpm`."""
    return len(_CJK.findall(said)) >= 2 and re.search(r"[A-Za-z]{2,}", said) is not None
