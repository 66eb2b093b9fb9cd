"""Cut secrets out of a text: find every span, merge what overlaps, put a mark in its place.

Cutting is repeated until nothing more is found, so that redacting twice is redacting once: a cut can lay bare the start or
the end of another secret. Marks are never looked into.
"""

import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

from lmm_mcp.redaction import assignments, headers, tokens
from lmm_mcp.redaction.tokens import Span

REDACTION_VERSION = 2
"""Raise it when what is cut changes: archives written before may hold what would be cut today."""

RULE_IDS = tokens.RULE_IDS | headers.RULE_IDS | assignments.RULE_IDS | {"private"}
"""Every name a mark can bear."""

_SHORTEST_chars = 9
"""Nothing shorter can be a name with its secret, a token, or an opened private block."""
_MAX_ROUNDS = 12
"""Two or three are common. A text made to need one for each of its secrets must not cost the square of its length."""
_MARK = "[REDACTED:"
_SHORT_chars = 200
"""Names, folders, branches and ids come again with every message of a session."""
_MARKS = re.compile(r"\[REDACTED:[a-z0-9-]{1,40}\]")
_NAMING = re.compile(r"[ =:>：]")
"""Without one of these no name is given to anything, so what is known by its name need not be sought."""
_PRIVATE = re.compile(r"<(/?)private\s*>")


def redact(text: str) -> str:
    """Replace each secret in `text` by `[REDACTED:<rule-id>]` and leave everything else as it is. Never raises.

    >>> redact("export DB_PASSWORD=hunter2 && run")
    'export DB_PASSWORD=[REDACTED:assigned-password] && run'
    >>> redact("the rest <private>is nobody's</private> business")
    'the rest [REDACTED:private] business'
    """
    return _redact_short(text) if len(text) <= _SHORT_chars else _redact(text)


def _redact(text: str) -> str:
    for *_, after in _rounds(text):
        text = after
    return text


_redact_short = lru_cache(maxsize=8192)(_redact)


def count(text: str) -> Counter[str]:
    """How many secrets of each rule `redact` cuts out of `text`."""
    return Counter(rule_id for rule_id, _ in hits(text))


def hits(text: str) -> Iterator[tuple[str, str]]:
    """Every cut that `redact` makes, as rule id and the secret itself: for measuring, never for keeping."""
    for spans, before, _ in _rounds(text):
        yield from ((rule_id, before[start:end]) for start, end, rule_id in spans)


def _rounds(text: str) -> Iterator[tuple[list[Span], str, str]]:
    """What is cut in each round, and the text before and after it."""
    for _ in range(_MAX_ROUNDS):
        spans = _find(text) if len(text) >= _SHORTEST_chars else []
        if not spans:
            return
        after = _cut(text, spans)
        yield spans, text, after
        text = after


def _find(text: str) -> list[Span]:
    """Spans to be cut in one round, in order, none touching another or an earlier mark."""
    return _between_marks(text) if _MARK in text else _find_unmarked(text)


def _find_unmarked(text: str) -> list[Span]:
    spans = tokens.find(text)
    if _NAMING.search(text):
        folded = _folded(text)
        if "<private" in folded and (blocks := list(_private(folded))):
            return blocks
        spans += headers.find(text, folded) + assignments.find(text, folded)
    return _merged(spans) if spans else spans


def _between_marks(text: str) -> list[Span]:
    """The same for a text with marks: private blocks may hold marks, everything else is sought between them."""
    if blocks := list(_private(_folded(text))):
        return blocks
    spans: list[Span] = []
    start = 0
    for end, resume in [*(mark.span() for mark in _MARKS.finditer(text)), (len(text), len(text))]:
        spans += ((first + start, last + start, rule_id) for first, last, rule_id in _find_unmarked(text[start:end]))
        start = resume
    return spans


def _folded(text: str) -> str:
    folded = text.lower()
    # One letter's small form is two characters long; positions must stay what they are.
    return folded if len(folded) == len(text) else text.replace("\u0130", "I").lower()


def _private(folded: str) -> Iterator[Span]:
    """Blocks marked `<private>`, nested ones within their outermost, an unclosed one to the end of the text."""
    depth = start = 0
    for tag in _PRIVATE.finditer(folded):
        if not tag[1]:
            start = tag.start() if depth == 0 else start
            depth += 1
        elif depth:
            depth -= 1
            if depth == 0:
                yield start, tag.end(), "private"
    if depth:
        yield start, len(folded), "private"


def _merged(spans: list[Span]) -> list[Span]:
    """Sort, and join what overlaps under the name of the longest. A token inside an assignment keeps its own name."""
    merged: list[Span] = []
    for start, end, rule_id in sorted(spans):
        if not merged or start >= merged[-1][1]:
            merged.append((start, end, rule_id))
            continue
        first, last, earlier = merged[-1]
        if earlier.startswith("assigned-") or (end - start > last - first and not rule_id.startswith("assigned-")):
            earlier = rule_id
        merged[-1] = (first, max(last, end), earlier)
    return merged


def _cut(text: str, spans: list[Span]) -> str:
    pieces: list[str] = []
    done = 0
    for start, end, rule_id in spans:
        pieces += (text[done:start], f"{_MARK}{rule_id}]")
        done = end
    return "".join((*pieces, text[done:]))
