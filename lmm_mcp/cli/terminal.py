"""What the commands share about the terminal: answers on standard output, everything else on standard error.

Colours and bars only where a person looks (`NO_COLOR` is obeyed); with `--json` nothing but JSON on standard output.
"""

import json
import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import typer

from lmm_mcp.domain.fence import FENCE_CLOSE, FENCE_OPEN
from lmm_mcp.domain.quoting import plain
from lmm_mcp.domain.recall import NothingFound, Recall
from lmm_mcp.paths import Home, home_of
from lmm_mcp.server.desk import Desk
from lmm_mcp.server.pipe import reachable_cwd

if TYPE_CHECKING:  # who gets plain text or JSON need not wait for colours
    from rich.console import Console

_SAID_TO_AGENTS = (
    (r'\bpass project="\*"', 'add --project "*"'),
    (r'\bproject="\*"', '--project "*"'),
    (r"(?<![.\w])budget_tokens", "--budget"),
    (r"\bthe query\b", "the question"),
)
"""What the rooms that serve agents call an option of ours."""
_LEFT_BY_JSON = re.compile(
    "[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)
"""What JSON need not escape and yet steers a terminal, hides or is no text."""
_WIDE = "\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\uffe0-\uffe6\U0001f300-\U0001faff\U00020000-\U0003fffd"
"""Characters of two cells, between which a line may end."""
_PIECES = re.compile(
    r"[ \t]+|`[^`]{1,60}`[^\s`]*|\[c\d+\] [0-9a-f]{16}"  # what is to be copied or belongs together stays whole
    rf"|[{_WIDE}][\u3001\u3002\u300b\u300d\u300f\uff01\uff09\uff0c\uff1a\uff1b\uff1f]*|[^ \t{_WIDE}]+"
)
_MARK = re.compile(r" *(?:\[c\d[^\]]*\] |-> |[-x>] |\d+\. |warn |[^\s`]{1,20} {2,})?")
"""What a line begins with, behind which the next line goes on."""
_HANGING = 2
"""Blanks before what goes on, where nothing of the kind stands at the beginning."""
_MIN_ROOM_columns = 20
_ROLES = {"user": "bold", "error": "red", "ran": "green", "sources": "dim"}


def home() -> Home:
    """The memory home that the environment names, its folders made. Raises HomeError."""
    return home_of(os.environ).ensure()


def desk(where: Home | None = None) -> Desk:
    """A desk for whoever typed the command."""
    try:
        cwd = reachable_cwd(os.environ, os.getcwd())  # noqa: PTH109 - as the shell names it
    except FileNotFoundError:
        cwd = ""
    return Desk(where or home(), os.environ, cwd=cwd)


def say(text: str = "") -> None:
    """Print a line of the answer, without what would steer a terminal; for a person, it is broken at blanks."""
    shown = harmless(text)
    typer.echo(folded(shown, columns()) if is_watched() else shown)


def say_whole(text: str) -> None:
    """Print what is to be copied or lined up: as it is, however long its lines are."""
    typer.echo(harmless(text))


def folded(text: str, num_columns: int) -> str:
    """Break lines at blanks, between wide characters too, and go on below where their text began; a longer word stays whole.

    >>> print(folded("[c1] user: the port of the database is 5433", 30))
    [c1] user: the port of the
         database is 5433
    """
    return "\n".join(piece for line in text.split("\n") for piece in _folded_line(line, num_columns))


def _folded_line(line: str, num_columns: int) -> Iterator[str]:
    mark = _MARK.match(line)
    assert mark is not None  # it may be empty
    begins = mark.end() if mark[0].strip() else mark.end() + _HANGING
    indent = begins if num_columns - begins >= _MIN_ROOM_columns else 0
    shown, at = mark[0], mark.end()
    for piece in _PIECES.findall(line[mark.end() :]):
        size = _num_cells(piece)
        if at + size > num_columns and shown.strip() and not piece.isspace() and size <= num_columns - indent:
            yield shown.rstrip()
            shown, at = " " * indent, indent
        shown, at = shown + piece, at + size
        if at > num_columns and not piece.isspace():  # the terminal breaks a word that is too long
            at %= num_columns
    yield shown


def _num_cells(text: str) -> int:
    """How many columns a terminal gives it."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF") for char in text)


def columns() -> int:
    """How wide the terminal is."""
    return shutil.get_terminal_size().columns


def harmless(text: str) -> str:
    r"""Take out control characters, but for new lines and tabs.

    >>> harmless("red \x1b[31malert\x07\tand\r\nmore")
    'red alert\tand\nmore'
    """
    return plain(text)


def in_our_words(told: str) -> str:
    """Put what was worded for a caller of the tools into the words of the command line.

    >>> in_our_words('pass project="*" to ask all; budget_tokens is 3')
    'add --project "*" to ask all; --budget is 3'
    """
    for theirs, ours in _SAID_TO_AGENTS:
        told = re.sub(theirs, ours, told)
    return told


def say_json(value: Any) -> None:
    """Print the answer as JSON."""
    written = json.dumps(value, ensure_ascii=False, indent=2)
    typer.echo(_LEFT_BY_JSON.sub(_escaped, written))


def _escaped(found: re.Match[str]) -> str:
    digits = found[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{digits[at : at + 4]}" for at in range(0, len(digits), 4))


def aside(text: str) -> None:
    """Tell a person something that is not the answer."""
    shown = harmless(text)
    typer.echo(folded(shown, columns()) if sys.stderr.isatty() else shown, err=True)


def complaints() -> "Console":
    """A console on standard error, for bars and hints."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def answers() -> "Console":
    """A console on standard output, for answers with colours."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def is_watched() -> bool:
    """Whether a person sees standard output."""
    return sys.stdout.isatty()


def say_answer(found: Recall) -> None:
    """Print an answer, and beside it what one should know of how it came to be."""
    if isinstance(found, NothingFound):
        say(in_our_words(found.text))
        if not found.num_searched and not found.notes:
            aside("note: there was nothing to search; `lmm status` says what is remembered")
    else:
        say_brief(found.text)
    for note in found.notes:
        if note not in found.text:  # where nothing was found, the answer itself has told most
            aside(f"note: {in_our_words(note)}")


def say_brief(text: str) -> None:
    """Print a brief: coloured and without its fence for a person, as it is for a program (which may be an agent)."""
    if not is_watched():
        say(text)
        return
    body = text.removeprefix(FENCE_OPEN).removesuffix(FENCE_CLOSE).strip("\n")
    are_sources = False
    for line in harmless(body).splitlines():
        are_sources = are_sources or line.startswith("sources")  # what is quoted begins with its mark
        mark, bracket, rest = line.partition("] ") if line.startswith("[c") else ("", "", line)
        role = "sources" if are_sources else rest.partition(":")[0].partition(" ")[0]
        style = _ROLES.get(role, "")
        say_marked(mark + bracket if mark else "", rest, mark_style="cyan", style=style)


def say_marked(mark: str, text: str, *, mark_style: str, style: str = "") -> None:
    """Print a line of the answer that begins with a mark; for a person, in colours as rich names them."""
    if not is_watched():
        say(mark + text)
        return
    from rich.text import Text

    console = answers()
    first, *more = folded(harmless(mark + text), columns()).split("\n")
    for shown, piece in ((mark, first[len(mark) :]), *(("", each) for each in more)):
        console.print(Text.assemble((shown, mark_style), (piece, style)))
