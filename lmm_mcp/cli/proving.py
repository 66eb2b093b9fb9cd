"""`lmm bench refind` and `lmm prove`: rulers made of the user's own sessions, without anybody's labels."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmm_mcp import config
from lmm_mcp.cli import measuring, terminal
from lmm_mcp.domain.recall import DEFAULT_BUDGET_tokens
from lmm_mcp.domain.wording import counted
from lmm_mcp.errors import BadInput, StoreError
from lmm_mcp.server import asking
from lmm_mcp.server.desk import Desk, now_ms

if TYPE_CHECKING:
    from lmm_mcp.evaluation.questions import Answered, Ask, Asked
    from lmm_mcp.server.inprocess import Call
    from lmm_mcp.store.chunks import ChunkStore
    from lmm_mcp.store.search import Scope

LIMIT = 200


def register_bench(bench: typer.Typer) -> None:
    """Add what belongs to `lmm bench`."""
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

    env = dict(os.environ)
    if without:
        env[config.variable("recall.without")] = os.pathsep.join(without)
    desk = Desk(terminal.home(), env)
    store = _opened(desk)
    whole = suite.suite(desk.ledger, desk.archive)
    if not whole.sought:
        raise BadInput(f"none of your prompts can be asked: {_told(whole.left_out)}. Let more sessions come together.")
    with answering(desk, arm, budget) as ask:
        rows = suite.run(suite.chosen(whole, limit), store, ask)
    about = measuring.conditions(desk, [], budget_tokens=budget, without=sorted(desk.settings.recall.without))
    run = runs.Run("refind", arm, {**about, "limit": limit}, tuple(rows))
    for line in measuring.table_of({arm: run}, by_group=True):
        terminal.say(line)
    terminal.say(f"asked {len(rows)} of {counted(len(whole.sought), 'question')}; left out: {_told(whole.left_out)}")
    if results is not None:
        runs.save(run, results)
        terminal.aside(f"run: {results}")


@contextmanager
def answering(desk: Desk, arm: str, budget_tokens: int) -> Iterator["Ask"]:
    """What answers questions that name their project by its key. Raises BadInput and StoreError."""
    from lmm_mcp.evaluation.arms import ARMS, Bench

    if arm == "recall":
        from lmm_mcp.server.inprocess import tool_caller

        with tool_caller(desk) as call:
            yield lambda asked: _recalled(call, asked, budget_tokens)
        return
    if arm not in ARMS or arm == "oracle":  # here nobody wrote down which lines are gold
        raise BadInput(
            f"there is no arm {arm!r}; write recall, {', '.join(name for name in ARMS if name != 'oracle')}."
        )
    bench = Bench(_opened(desk), desk.ledger, desk.archive, desk.ready_embedder(), _scope)
    yield lambda asked: ARMS[arm](bench, asked, budget_tokens)


def _recalled(call: "Call", asked: "Asked", budget_tokens: int) -> "Answered":
    from lmm_mcp.evaluation.questions import Answered

    found = call(
        "recall", query=asked.question, project=asked.project, until=asked.asked_at, budget_tokens=budget_tokens
    )
    cited = tuple(citation["id"] for citation in found["citations"])
    return Answered(found["text"], tuple(found["sessions"]), found["status"] == "nothing_found", cited)


def _scope(asked: "Asked") -> "Scope":
    from lmm_mcp.store.search import Scope

    return Scope(project=asked.project, until_ms=asking.checked_times(None, asked.asked_at, now_ms())[1])


def _opened(desk: Desk) -> "ChunkStore":
    if (store := desk.store()) is None:
        raise StoreError("nothing has been imported yet, so there is nothing to measure. Run `lmm import`.")
    return store


def _told(left_out: Mapping[str, int]) -> str:
    return "; ".join(f"{num:,} {why}" for why, num in sorted(left_out.items(), key=lambda each: -each[1])) or "none"
