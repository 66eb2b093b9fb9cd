"""`lmm bench refind`: prompts and the earlier work on the files that were then changed, without anybody's labels."""

import os
from pathlib import Path
from typing import Annotated

import typer

from lmm_mcp import config
from lmm_mcp.cli import answering, conditions, measuring, terminal
from lmm_mcp.domain.recall import DEFAULT_BUDGET_tokens
from lmm_mcp.domain.wording import counted
from lmm_mcp.errors import BadInput
from lmm_mcp.server.desk import Desk

LIMIT = 200


def register(bench: typer.Typer) -> None:
    """Add the command of this file to `lmm bench`."""
    bench.command("refind")(refind)


def refind(
    limit: Annotated[int, typer.Option(min=1, help="Questions at most, taken evenly from all sessions.")] = LIMIT,
    arm: Annotated[
        str, typer.Option(help="What answers: `recall`, or to hold against it recent, bm25, vectors, fusion, ....")
    ] = "recall",
    budget: Annotated[int, typer.Option(help="Tokens of each brief.")] = DEFAULT_BUDGET_tokens,
    without: Annotated[
        list[str] | None, typer.Option(help="A part of recall to leave out; may be given several times.")
    ] = None,
    results: Annotated[Path | None, typer.Option(help="Where to write the run, for `lmm bench compare`.")] = None,
) -> None:
    """Measure your own memory: do your prompts find the earlier work on the files that were then changed?

    [dim]lmm bench refind[/]
    [dim]lmm bench refind --arm bm25 --results bm25.run.json[/]
    """
    from lmm_mcp.evaluation import refind as suite  # measuring is rare
    from lmm_mcp.evaluation import runs

    measuring.check_before(results, without or ())
    env = dict(os.environ)
    if without:
        env[config.variable("recall.without")] = os.pathsep.join(without)
    desk = Desk(terminal.home(), env)
    store = answering.opened(desk)
    whole = suite.suite(desk.ledger, desk.archive)
    if not whole.sought:
        raise BadInput(
            f"none of your prompts can be asked: {answering.told(whole.left_out)}. Let more sessions come together."
        )
    asked = suite.chosen(whole, limit)
    learned_later = answering.put_to_the_past(desk, min(each.until_ms for each in asked.sought))
    with answering.answering(desk, arm, budget) as ask:
        rows = suite.run(asked, store, ask)
    run = runs.Run("refind", arm, conditions.of(desk, [], budget_tokens=budget, limit=limit), tuple(rows))
    for line in measuring.table_of({arm: run}, by_group=True):
        terminal.say_whole(line)
    terminal.say(
        f"asked {len(rows)} of {counted(len(whole.sought), 'question')}; left out: {answering.told(whole.left_out)}"
    )
    for name in learned_later:
        terminal.say(f"{name} took no part: it has learned from what came after these questions")
    if results is not None:
        runs.save(run, results)
        terminal.aside(f"run: {results}")
