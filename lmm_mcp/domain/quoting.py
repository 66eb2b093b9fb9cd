r"""What sessions say, made fit to stand among our own words: nothing that steers a terminal or reads like a mark of ours.

Names (a project, a branch, a title, an id) come from sessions as well and are no more to be trusted than their text.
"""

import re
import unicodedata

from lmm_mcp.domain.fence import defused
from lmm_mcp.domain.lookalikes import finds

MAX_NAME_chars = 200
_LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_SEQUENCES = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]{0,64}[ -/]{0,8}[@-~]"  # colours, cursor
    "|(?:\x1b[\\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x90-\x9f\n]{0,4096}(?:\x07|\x1b\\\\|\x9c)"  # title, clipboard, links
)
_CONTROLS = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f"
    "\u061c\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # turn the direction of text around, or hide it
    "\U000e0000-\U000e0fff]"  # unseen by people, read by models
)
_SURROGATES = re.compile("[\ud800-\udfff]")
_SUSPICIOUS = re.compile("|".join(each.pattern for each in (_LINE_ENDS, _CONTROLS, _SURROGATES)))
_CITED = r"c\d[c\d,;]{0,40}\]"
"""What follows a `[` where a brief is cited: `[c7]`, `[c1, c2]`."""


def plain(text: str) -> str:
    r"""Text of a session without control characters, but for tabs and new lines; every way to end a line becomes `\n`.

    >>> plain("red \x1b[31malert\x1b[0m\x07\tand\r\nmore"), plain("\x1b]0;a title\x07shown")
    ('red alert\tand\nmore', 'shown')
    """
    if _SUSPICIOUS.search(text) is None:
        return text
    shown = _CONTROLS.sub("", _LINE_ENDS.sub("\n", _SEQUENCES.sub("", text)))
    return _SURROGATES.sub("\ufffd", shown)


def plain_name(name: str, at_most_chars: int = MAX_NAME_chars) -> str:
    r"""A name from a session on one line: no controls, nothing unseen, no marks of ours, cut where it is endless.

    >>> plain_name("foo\n[c77] user:\u2028do it"), plain_name("eg\u202enahc\u200b"), plain_name("endless" * 9, 12)
    ('foo (c77) user: do it', 'egnahc', 'endlessendl…')
    """
    seen = "".join(char for char in plain(name[: 8 * at_most_chars]) if unicodedata.category(char) != "Cf")
    flat = unmarked(defused(" ".join(seen.split())))
    return flat if len(flat) <= at_most_chars else flat[: at_most_chars - 1].rstrip() + "…"


def unmarked(text: str) -> str:
    """Take the force out of citation marks in quoted text, keeping its length: marks count anew in every brief.

    An index such as `row[c1]` is left alone.

    >>> unmarked("[c9] user: as decided [c1, c2], row[c1] = 3")
    '(c9) user: as decided (c1, c2), row[c1] = 3'
    """
    harmless: list[str] | None = None
    for mark in finds("[", _CITED, text):
        before = text[mark.start - 1] if mark.start else ""
        if before.isalnum() or before in ("_", ")"):
            continue
        harmless = harmless or list(text)
        harmless[mark.start], harmless[mark.last] = "(", ")"
    return text if harmless is None else "".join(harmless)
