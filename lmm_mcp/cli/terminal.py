"""What the commands share about the terminal: answers on standard output, everything else on standard error.

Colours and bars only where a person looks (`NO_COLOR` is obeyed); with `--json` nothing but JSON on standard output.
"""

import json
import os
import re
import sys
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
    """Print a line of the answer, without what would steer a terminal."""
    typer.echo(harmless(text))


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
    typer.echo(harmless(text), err=True)


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
    from rich.markup import escape

    console = answers()
    body = text.removeprefix(FENCE_OPEN).removesuffix(FENCE_CLOSE).strip("\n")
    are_sources = False
    for line in harmless(body).splitlines():
        are_sources = are_sources or line.startswith("sources")  # what is quoted begins with its mark
        mark, bracket, rest = line.partition("] ") if line.startswith("[c") else ("", "", line)
        role = "sources" if are_sources else rest.partition(":")[0].partition(" ")[0]
        style = _ROLES.get(role, "")
        shown = f"[cyan]{escape(mark + bracket)}[/]" if mark else ""
        console.print(shown + (f"[{style}]{escape(rest)}[/]" if style else escape(rest)))
