"""`lmm bench`: questions with known answers, through the same code that serves agents."""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmm_mcp import config
from lmm_mcp.cli import conditions, terminal
from lmm_mcp.cli.asking import AS_JSON
from lmm_mcp.domain.recall import PARTS, DEFAULT_BUDGET_tokens
from lmm_mcp.domain.wording import counted
from lmm_mcp.errors import BadInput, StoreError
from lmm_mcp.server.desk import Desk

if TYPE_CHECKING:
    from lmm_mcp.evaluation import questions as questions_suite
    from lmm_mcp.evaluation import runs as runs_suite
    from lmm_mcp.store.chunks import ChunkStore
    from lmm_mcp.store.search import Scope

PANEL = "Keep"
MIN_PAIRS = 20
"""Fewer questions could not tell two models apart."""
_group = typer.Typer(
    no_args_is_help=True, rich_markup_mode="rich", help="Measure recall with questions whose answers are known."
)


def register(app: typer.Typer) -> None:
    """Add the commands of this file, and of those beside it that measure otherwise."""
    from lmm_mcp.cli import measuring_conversations, refinding  # which themselves need this file

    measuring_conversations.register(_group)
    refinding.register(_group)
    app.add_typer(_group, name="bench", rich_help_panel=PANEL)


@_group.command("questions")
def questions(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", exists=True, dir_okay=False, help="JSON-lines files of questions."),
    ],
    results: Annotated[
        Path, typer.Option(help="Where to write what was answered; the run, with its figures, goes beside it.")
    ],
    budget: Annotated[int, typer.Option(help="Tokens of each brief.")] = DEFAULT_BUDGET_tokens,
    arm: Annotated[
        str,
        typer.Option(
            help="What answers: `recall`, or to hold against it recent, grep, bm25, vectors, fusion, passages, oracle."
        ),
    ] = "recall",
    without: Annotated[
        list[str] | None, typer.Option(help="A part of recall to leave out; may be given several times.")
    ] = None,
    by: Annotated[bool, typer.Option("--by", help="Show the figures of each kind of question, too.")] = False,
) -> None:
    """Ask every question of the files, write the answers down, and show how many were right.

    [dim]lmm bench questions suite.jsonl --results answers.jsonl[/]
    [dim]lmm bench compare before.run.json answers.run.json[/]
    """
    from lmm_mcp.evaluation import questions as suite  # measuring is rare
    from lmm_mcp.evaluation import runs

    check_before(results, without or ())
    asked = suite.read(files)
    env = dict(os.environ)
    if without:
        env[config.variable("recall.without")] = os.pathsep.join(without)
    desk = Desk(terminal.home(), env)
    with _answering(desk, arm, budget) as ask:
        rows = suite.run(asked, ask, results)
    about = conditions.of(desk, files, budget_tokens=budget)
    run = runs.Run("questions", arm, about, tuple(rows))
    kept = results.with_suffix(".run.json")
    runs.save(run, kept)
    for line in table_of({arm: run}, by_group=by):
        terminal.say_whole(line)
    terminal.aside(f"answers: {results}; run: {kept}")


def check_before(results: Path | None, without: Sequence[str]) -> None:
    """See before minutes of asking that the results can be written and the parts are known. Raises BadInput."""
    if unknown := sorted(set(without) - set(PARTS)):
        raise BadInput(f"{unknown[0]!r} is no part of recall; `lmm bench parts` names them.")
    if results is not None and not results.absolute().parent.is_dir():
        raise BadInput(f"there is no folder {results.absolute().parent} for the results; make it, or name another.")
    if results is not None and results.is_dir():
        raise BadInput(f"{results} is a folder; name a file for the results.")


@_group.command("parts")
def parts() -> None:
    """Name the parts of recall that can be left out, to see what each is worth.

    [dim]lmm bench questions suite.jsonl --results a.jsonl --without neighbours[/]
    """
    for name, meaning in PARTS.items():
        terminal.say(f"{name:14} {meaning}")


@_group.command("compare")
def compare(
    a: Annotated[Path, typer.Argument(metavar="A.run.json", exists=True, dir_okay=False)],
    b: Annotated[Path, typer.Argument(metavar="B.run.json", exists=True, dir_okay=False)],
    by: Annotated[bool, typer.Option("--by", help="Show each kind of question, too.")] = False,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Show what B gives that A does not, question by question, with 95 % intervals.

    [dim]lmm bench compare before.run.json after.run.json --by[/]
    """
    from lmm_mcp.evaluation import runs

    first, second = runs.load(a), runs.load(b)
    found = runs.differences(first, second)
    only_a, only_b = runs.unpaired(first, second)
    differing = sorted(
        name for name in {*first.about, *second.about} if first.about.get(name) != second.about.get(name)
    )
    if as_json:
        told = {group: [dataclasses.asdict(each) for each in figures] for group, figures in found.items()}
        terminal.say_json(
            {
                "suite": first.suite,
                "a": runs.label(first),
                "b": runs.label(second),
                "only_in_a": only_a,
                "only_in_b": only_b,
                "figures": told.pop(runs.EVERYTHING),
                "groups": told,
                "differ_in": differing,
            }
        )
        return
    for name, run in (("A", first), ("B", second)):
        terminal.say(f"{name}: {runs.label(run)} · {run.suite} · {counted(len(run.rows), 'question')} · {run.made_at}")
    if only_a or only_b:
        terminal.say(f"left out, as only one of them asked: {counted(only_a, 'question')} of A, {only_b:,} of B")
    for line in _compared(found if by else {runs.EVERYTHING: found[runs.EVERYTHING]}):
        terminal.say_whole(line)
    if not by and len(found) > 1:
        terminal.say(f"--by shows each kind of question: {', '.join(list(found)[1:])}")
    if differing:
        terminal.say(f"they differ in: {', '.join(differing)}")


def _compared(found: "Mapping[str, Sequence[runs_suite.Difference]]") -> Iterator[str]:
    yield f"\n{'':12}{'A':>8}{'B':>8}{'B - A':>9}  {'95 %':16}{'better':>8}{'worse':>7}{'of':>5}"
    for group, figures in found.items():
        yield group
        for each in figures:
            gain = each.difference
            interval = f"{100 * gain.low:+.1f} to {100 * gain.high:+.1f}"
            yield (
                f"  {each.figure:10}{100 * each.a:8.1f}{100 * each.b:8.1f}{100 * gain.value:+9.1f}"
                f"  {interval:16}{each.num_better:8}{each.num_worse:7}{gain.num:5}"
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
    from lmm_mcp import embedding
    from lmm_mcp.evaluation import embedders as suite

    desk = terminal.desk()
    models = []
    for name in names:
        model = embedding.load_named(desk.home, name, num_threads=os.cpu_count() or 1)
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


@contextmanager
def _answering(desk: Desk, arm: str, budget: int) -> "Iterator[questions_suite.Ask]":
    """What answers: the tool itself, or another arm over the same store. Raises BadInput and StoreError."""
    from lmm_mcp.evaluation import questions as suite

    if arm == "recall":
        from lmm_mcp.server.inprocess import tool_caller

        with tool_caller(desk) as call:

            def ask(asked: suite.Asked) -> suite.Answered:
                desk.cwd = asked.project or ""
                arguments = {"until": asked.asked_at} if asked.asked_at else {}
                found = call("recall", query=asked.question, budget_tokens=budget, **arguments)
                abstained = found["status"] == "nothing_found"
                return suite.Answered(found["text"], tuple(found["sessions"]), abstained=abstained)

            yield ask
        return
    from lmm_mcp.evaluation.arms import ARMS, Bench

    if arm not in ARMS:
        raise BadInput(f"there is no arm {arm!r}; write recall, {', '.join(ARMS)}.")
    bench = Bench(_opened(desk), desk.ledger, desk.archive, desk.ready_embedder(), lambda asked: _scope(desk, asked))
    yield lambda asked: ARMS[arm](bench, asked, budget)


def _scope(desk: Desk, asked: "questions_suite.Asked") -> "Scope":
    desk.cwd = asked.project or ""
    return desk.scope(until=asked.asked_at)


def _opened(desk: Desk) -> "ChunkStore":
    if (store := desk.store()) is None:
        raise StoreError("nothing has been imported yet, so there is nothing to ask. Run `lmm import`.")
    return store


def table_of(runs_by_name: "Mapping[str, runs_suite.Run]", *, by_group: bool = False) -> list[str]:
    """A table of runs as lines of text: shares in percent with their interval, and times."""
    from lmm_mcp.evaluation import runs

    tables = {name: runs.table(run.rows) for name, run in runs_by_name.items()}
    figures = list(dict.fromkeys(figure for found in tables.values() for figure in found[runs.EVERYTHING]))
    width = max([12, *(len(figure) + 1 for figure in figures)])
    lines = []
    for name, run in runs_by_name.items():
        for group, found in sorted(tables[name].items(), key=lambda item: (item[0] != runs.EVERYTHING, item[0])):
            if group != runs.EVERYTHING and not by_group:
                continue
            judged = [row for row in run.rows if group in (runs.EVERYTHING, *row.groups) and row.figures]
            num = len(judged or run.rows)
            lines.append(f"{runs.label(run)} · {group} · {counted(num, 'question')}")
            for figure in figures:
                if figure in found:
                    each = found[figure]
                    lines.append(
                        f"  {figure:{width}}{100 * each.value:6.1f} %   {100 * each.low:.1f} to {100 * each.high:.1f} (n {each.num})"
                    )
        times = [row.ms for row in run.rows if row.ms is not None]
        if times:
            p50, p95 = runs.percentile(times, 50), runs.percentile(times, 95)
            lines.append(f"  time        p50 {p50:.0f} ms, p95 {p95:.0f} ms")
    return lines
