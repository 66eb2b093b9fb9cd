"""`lmm bench`: questions with known answers, through the same code that serves agents."""

from pathlib import Path
from typing import Annotated

import typer

from lmm_mcp.cli import terminal
from lmm_mcp.domain.recall import Brief, DEFAULT_BUDGET_tokens, NothingFound

PANEL = "Keep"
_group = typer.Typer(
    no_args_is_help=True, rich_markup_mode="rich", help="Measure recall with questions whose answers are known."
)


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(_group, name="bench", rich_help_panel=PANEL)


@_group.command("questions")
def questions(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", exists=True, dir_okay=False, help="JSON-lines files of questions."),
    ],
    results: Annotated[Path, typer.Option(help="Where to write what was answered.")],
    budget: Annotated[int, typer.Option(help="Tokens of each brief.")] = DEFAULT_BUDGET_tokens,
) -> None:
    """Ask every question of the files and write the answers down, ready to be scored.

    [dim]lmm bench questions suite.jsonl --results answers.jsonl[/]
    """
    from lmm_mcp.evaluation import questions as suite  # measuring is rare

    desk = terminal.desk()

    def ask(asked: suite.Asked) -> suite.Answered:
        desk.cwd = asked.project or ""
        found = desk.recall(asked.question, until=asked.asked_at, budget_tokens=budget)
        sessions = found.sessions if isinstance(found, Brief) else ()
        return suite.Answered(found.text, sessions, abstained=isinstance(found, NothingFound))

    times = suite.write(suite.read(files), ask, results)
    terminal.aside(
        f"{times.num_questions} questions, {times.num_abstained} of them answered with nothing found; "
        f"p50 {times.p50_ms:.0f} ms, p95 {times.p95_ms:.0f} ms; written: {results}"
    )
