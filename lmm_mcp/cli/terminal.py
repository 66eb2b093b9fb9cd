"""What the commands share about the terminal: answers on standard output, everything else on standard error.

Colours and bars only where a person looks (`NO_COLOR` is obeyed); with `--json` nothing but JSON on standard output.
"""

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import typer

from lmm_mcp.domain.fence import FENCE_CLOSE, FENCE_OPEN
from lmm_mcp.paths import Home, home_of
from lmm_mcp.server.desk import Desk, reachable_cwd

if TYPE_CHECKING:  # who gets plain text or JSON need not wait for colours
    from rich.console import Console

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
    """Print a line of the answer, as it is."""
    typer.echo(text)


def say_json(value: Any) -> None:
    """Print the answer as JSON."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))


def aside(text: str) -> None:
    """Tell a person something that is not the answer."""
    typer.echo(text, err=True)


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


def say_brief(text: str) -> None:
    """Print a brief: coloured and without its fence for a person, as it is for a program (which may be an agent)."""
    if not is_watched():
        say(text)
        return
    from rich.markup import escape

    console = answers()
    body = text.removeprefix(FENCE_OPEN).removesuffix(FENCE_CLOSE).strip("\n")
    are_sources = False
    for line in body.splitlines():
        are_sources = are_sources or line == "sources:"
        mark, bracket, rest = line.partition("] ") if line.startswith("[c") else ("", "", line)
        role = "sources" if are_sources else rest.partition(":")[0].partition(" ")[0]
        style = _ROLES.get(role, "")
        shown = f"[cyan]{escape(mark + bracket)}[/]" if mark else ""
        console.print(shown + (f"[{style}]{escape(rest)}[/]" if style else escape(rest)))
