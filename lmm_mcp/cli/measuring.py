"""`lmm bench`: questions with known answers, through the same code that serves agents."""

import dataclasses
import os
from pathlib import Path
from typing import Annotated

import typer

from lmm_mcp.cli import terminal
from lmm_mcp.cli.asking import AS_JSON
from lmm_mcp.domain.recall import DEFAULT_BUDGET_tokens
from lmm_mcp.errors import BadInput, StoreError

PANEL = "Keep"
MIN_PAIRS = 20
"""Fewer questions could not tell two models apart."""
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
    from lmm_mcp.server.inprocess import tool_caller

    desk = terminal.desk()
    with tool_caller(desk) as call:

        def ask(asked: suite.Asked) -> suite.Answered:
            desk.cwd = asked.project or ""
            arguments = {"until": asked.asked_at} if asked.asked_at else {}
            found = call("recall", query=asked.question, budget_tokens=budget, **arguments)
            return suite.Answered(found["text"], tuple(found["sessions"]), abstained=found["status"] == "nothing_found")

        times = suite.write(suite.read(files), ask, results)
    terminal.aside(
        f"{times.num_questions} questions, {times.num_abstained} of them answered with nothing found; "
        f"p50 {times.p50_ms:.0f} ms, p95 {times.p95_ms:.0f} ms; written: {results}"
    )


@_group.command("embedders")
def embedders(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Models that were fetched (`lmm embedder fetch NAME`).")
    ],
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Compare embedding models on your own memory: which finds the passage that followed a question?

    [dim]lmm bench embedders all-MiniLM-L6-v2 intfloat/multilingual-e5-small[/]
    """
    from lmm_mcp import config, embedding
    from lmm_mcp.evaluation import embedders as suite

    desk = terminal.desk()
    models = []
    for name in names:
        model = embedding.load(desk.home, config.Embedder(name=name), num_threads=os.cpu_count() or 1)
        if isinstance(model, embedding.NoEmbedder):
            raise BadInput(f"{model.reason}. First: {model.next_step}.")
        models.append(model)
    if (store := desk.store()) is None:
        raise StoreError("nothing has been imported yet, so there is nothing to compare with. Run `lmm import`.")
    threads = desk.ledger.threads()
    pairs = suite.pairs_of([chunk for row in threads for chunk in store.thread(row.thread.agent, row.thread.thread_id)])
    if len(pairs) < MIN_PAIRS:
        raise BadInput(f"only {len(pairs)} passages hold a question and an answer; {MIN_PAIRS} are needed to compare.")
    scores = [suite.measure(model, suite.sample(pairs)) for model in models]
    if as_json:
        terminal.say_json([dataclasses.asdict(score) for score in scores])
        return
    terminal.say(f"{scores[0].num_pairs} questions, each to find its own passage among all {scores[0].num_pairs}:")
    for score in scores:
        terminal.say(
            f"  {score.name}  hit@1 {score.hit_at_1:.0%}  hit@10 {score.hit_at_10:.0%}"
            f"  {score.per_second:.0f} passages/s  question {score.query_ms:.0f} ms  {score.dim} dimensions"
        )
