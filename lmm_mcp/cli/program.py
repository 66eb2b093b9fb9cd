"""All commands in one place, and what happens when one of them cannot go on: one line that says why and what to do."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from lmm_mcp.cli import (
    agents,
    asking,
    carrying,
    experimenting,
    installing,
    keeping,
    knowing,
    measuring,
    modelling,
    models,
    proving,
    reading,
    running,
    setting,
    terminal,
    training,
)
from lmm_mcp.errors import LmmError
from lmm_mcp.server.version import version

INTERRUPTED = 130
app = typer.Typer(
    name="lmm",
    help="The memory of the coding agents on this machine: it reads their sessions and answers with short cited briefs.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="First time here? [bold]lmm start[/] reads your sessions, answers a question about them and shows how to connect an agent.",
)
for group in (
    reading,
    asking,
    knowing,
    running,
    keeping,
    agents,
    carrying,
    installing,
    setting,
    models,
    measuring,
    proving,
    training,
    experimenting,
    modelling,
):
    group.register(app)

# typer brings a copy of click or uses the one installed, depending on its version; both have these two.
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]
_CommandError: type[Exception] = _UsageError.__bases__[0]


def _tell_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(version() or "unknown")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Options that stand before the command."""


@app.command("mcp", rich_help_panel=reading.PANEL)
def _mcp(
    no_ingest: Annotated[bool, typer.Option("--no-ingest", help="Answer only; read no sessions.")] = False,
) -> None:
    """Serve the memory to an agent over MCP (standard input and output).

    Agents start this; you seldom do.

    `lmm install` tells Claude Code and Codex to do so; any other MCP client takes this command in its own configuration.
    """
    from lmm_mcp.cli import _serve

    _serve(reads=not no_ingest)


def run(arguments: Sequence[str]) -> int:
    """Run one command; the exit code: 0 well, 1 it could not be done, 2 it was not said right, 130 interrupted."""
    try:
        code = app(args=list(arguments), prog_name="lmm", standalone_mode=False)
        sys.stdout.flush()
    except LmmError as problem:
        return _complain(terminal.in_our_words(str(problem)), 1)
    except _UsageError as problem:
        message = problem.format_message().strip().removeprefix("Invalid value: ")  # type: ignore[attr-defined]  # it is a click exception
        if not message:  # nothing was asked for, and the help has been shown
            return 0
        context = getattr(problem, "ctx", None)
        sentence = message if message.endswith((".", "?", "!")) else f"{message}."
        return _complain(f"{sentence} Try `{context.command_path if context else 'lmm'} --help`.", 2)
    except _CommandError as problem:
        return _complain(problem.format_message(), 1)  # type: ignore[attr-defined]
    except (typer.Abort, KeyboardInterrupt):
        return _complain("interrupted; what was done is kept.", INTERRUPTED)
    except SystemExit:  # click's way out where whoever read our output has seen enough and left
        return 0
    except BrokenPipeError:  # the same, found out by our own flush; Python would complain once more at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as problem:
        return _complain(
            f"{problem.strerror or problem}{f': {problem.filename}' if problem.filename else ''}. `lmm doctor` looks for the reason.",
            1,
        )
    return code if isinstance(code, int) else 0


def _complain(message: str, code: int) -> int:
    first, *rest = message.splitlines() or [""]
    terminal.aside("\n".join([f"lmm: {first}", *rest]))
    return code
