"""`lmm experiment`: recipes compared on the user's own memory. The work is a child's (`trainer`)."""

from typing import Annotated

import typer

from lmm_mcp.cli import terminal, training

_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("experiment", rich_help_panel=training.PANEL, context_settings=_PASSED_ON)(experiment)


def experiment(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="`lmm-runs`.")],
    background: Annotated[
        bool,
        typer.Option("--background", help="Go on after this command has ended; its table goes to `logs/train.log`."),
    ] = False,
) -> None:
    """Compare recipes of training on what is remembered here; nothing of it ever serves.

    `lmm-runs` trains four models (as sessions come, salient ones first, with the codebase, with reading first and no
    duplicates) and prints what each knows, beside retrieval alone and retrieval with generation. What is done is not done
    again. All dials of `lmm train` go; `--max-lessons`, `--max-steps` and `--max-probes` make it shorter.

    [dim]lmm experiment lmm-runs[/]

    [dim]lmm experiment lmm-runs --preset 8gb --max-steps 300[/]
    """
    training.run_child(terminal.home(), ["experiment", name, *context.args], in_background=background)
