"""What somebody said, and whether it is worth telling at the start of a session: decisions, corrections, what is left open.

By plain patterns, no model: what they miss, `recall` still finds. Pure.
"""

import re
from collections.abc import Iterator

MIN_chars = 16
MAX_chars = 1_200
"""A longer paragraph without a sentence's end is no remark."""
_MAX_LOOKED_AT_chars = 20_000
_MAX_TYPED_chars = 1_500
"""A longer prompt was pasted, nearly always: its imperatives are a document's."""

_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s+|(?<=[。！？])|\n+")
_NOT_PROSE = re.compile(
    r"^(?:```|\||<|\{|\[|\$ |//|/\*|#!|@|diff |import |from \S+ import|\d{4}-\d\d-\d\d[T ]\d\d:)|[{};]$"
)
_BULLET = re.compile(r"^(?:[-*•>]+|\d{1,2}[.)]|#{1,6})\s+")
_DECIDED = re.compile(
    r"\b(?:decided|decision(?: is|:)|settled on|agreed (?:on|to|that)|we(?:'ll|’ll| will| should) (?:use|go with|keep|stick with|stay with|call|name)|"
    r"going with|(?:chose|picked|opted for|switched (?:from|to)|moved (?:from \S+ )?to|replaced \S+ (?:with|by))\b.{3,80}\b(?:because|since|so that|instead)|"
    r"from now on|must (?:always|never)|(?:always|never) (?:use|run|commit|push|add|write|call|put|edit|touch|change)|prefer(?:s|red)?\b.{2,60}\b(?:over|to|instead)|"
    r"instead of .{3,80}\bbecause)\b",
    re.IGNORECASE,
)
_ASKED_FOR = re.compile(
    r"^(?:(?:ok|okay|yes|right|good|great|fine|please)[,.!:]?\s+)*(?:let(?:'|’)?s (?:use|go with|keep|stick|call|stay|switch|drop|do)|use \S+ (?:instead|for|not|over|everywhere)|"
    r"keep (?:it|the|using)|go with|always|never|make sure (?:to|that|you)|remember(?: to| that|:)|i (?:prefer|decided)\b|we (?:use|decided|prefer|always|never)\b|prefer)\b",
    re.IGNORECASE,
)
"""What a user begins with who settles something; an agent that says the same only plans it."""
_CORRECTED = re.compile(
    r"^(?:(?:hm+|well|sorry|wait|but|and|please|ok(?:ay)?)[,.! ]+)*(?:no[,.! ]|nope|not (?:that|like|the|what|this)\b|don(?:'|’)?t\b|do not\b|stop\b|wrong\b|that(?:'|’)?s (?:not|wrong)|this is (?:not|wrong)|"
    r"you (?:should(?:n(?:'|’)t| not)|forgot|missed|broke|misunderstood|must not|did(?:n(?:'|’)t| not))|i (?:said|meant|told you|asked (?:for|you)|did(?:n(?:'|’)t| not) (?:ask|want|say|mean))|"
    r"actually[, ]|instead[, ]|rather[, ]|undo\b|revert\b|never\b|why (?:did|are|do|would) you\b|it should(?:n(?:'|’)t| not)?\b)",
    re.IGNORECASE,
)
_OPEN = re.compile(
    r"(?:\b(?:next steps?|remaining|still (?:to do|open|missing|fails?|failing|broken)|not yet|todo|left to do|unresolved|blocked)\b|\?$)",
    re.IGNORECASE,
)


def sentences(text: str) -> Iterator[str]:
    """The sentences of prose, without bullets; code, tables and the like are passed over."""
    is_code = False
    for piece in _SENTENCE_END.split(text[:_MAX_LOOKED_AT_chars]):
        line = piece.strip()
        if line.startswith("```"):
            is_code = not is_code
            continue
        line = _BULLET.sub("", line).strip("*_ ")
        if is_code or len(line) < MIN_chars or len(line) > MAX_chars or _NOT_PROSE.search(line) or " " not in line:
            continue
        yield line


def decisions(text: str, *, by_user: bool) -> list[str]:
    """The sentences that settle something.

    >>> decisions("Done. We will use port 5433, because 5432 is taken.", by_user=False)
    ['We will use port 5433, because 5432 is taken.']
    >>> decisions("Let's keep carts in Redis. What about tests?", by_user=True)
    ["Let's keep carts in Redis."]
    """
    if by_user and len(text) > _MAX_TYPED_chars:
        return []
    return [
        line
        for line in sentences(text)
        if not line.endswith(("?", ":", "？")) and (_DECIDED.search(line) or (by_user and _ASKED_FOR.search(line)))
    ]


def correction(text: str) -> str:
    """What a prompt corrects, '' if it does not begin by correcting.

    >>> correction("no, don't mock the database here"), correction("Now add a test.")
    ("no, don't mock the database here", '')
    """
    first = next(sentences(text), "")
    return first if _CORRECTED.search(first) else ""


def headline(text: str) -> str:
    r"""The first sentence that says something, with the next one where it only leads to that; '' where none does.

    >>> headline("```\nx = 1\n```\nwhy is the total wrong?"), headline("Implement the following plan:\n# Move carts to Redis")
    ('why is the total wrong?', 'Implement the following plan: Move carts to Redis')
    """
    told = ""
    for line in sentences(text):
        told = f"{told} {line}" if told else line
        if not told.endswith(":"):
            break
    return told


def left_open(text: str) -> str:
    """The last sentence of a reply that leaves something open, '' where it does not.

    >>> left_open("All tests pass. Still open: the migration of old carts.")
    'Still open: the migration of old carts.'
    """
    return next((line for line in reversed(list(sentences(text))[-6:]) if _OPEN.search(line)), "")
