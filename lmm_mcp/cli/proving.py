"""`lmm bench refind` and `lmm prove`: rulers made of the user's own sessions, without anybody's labels."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from lmm_mcp import config
from lmm_mcp.cli import measuring, setting, terminal
from lmm_mcp.domain.recall import PARTS, DEFAULT_BUDGET_tokens
from lmm_mcp.domain.wording import counted
from lmm_mcp.errors import BadInput, StoreError
from lmm_mcp.server import asking
from lmm_mcp.server.desk import Desk, now_ms

if TYPE_CHECKING:
    from lmm_mcp.evaluation.proving import Posed, Proof, Worth
    from lmm_mcp.evaluation.questions import Answered, Ask, Asked
    from lmm_mcp.evaluation.runs import Run
    from lmm_mcp.recall.pipeline import Recaller
    from lmm_mcp.server.inprocess import Call
    from lmm_mcp.store.chunks import ChunkStore
    from lmm_mcp.store.search import Scope

LIMIT = 200
ARMS = ("nothing", "grep", "recent", "bm25", "recall")
"""Of `lmm prove`, in the order of the table."""
WEIGHTS = "recall + weights"
"""One arm more, where a memory model serves that knows nothing of what came after the cut."""
OF_THE_MODEL = ("cards", "model")
"""Parts of recall that come from a memory model."""
NOT_TOGETHER = "it pays alone, but not together with the other one"


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("prove", rich_help_panel=measuring.PANEL)(prove)


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


def prove(
    at: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="Cut your history here; default: a fifth of the prompts lie after."),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Questions at most, taken evenly from all kinds and sessions.")
    ] = LIMIT,
    budget: Annotated[int, typer.Option(help="Tokens of each brief.")] = DEFAULT_BUDGET_tokens,
    receipt: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write figures to share: no text, no names, no paths, no ids.")
    ] = None,
    results: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write the run of each arm there, for `lmm bench compare`.")
    ] = None,
    fit: Annotated[bool, typer.Option("--fit", help="Show what each part of recall is worth on your history.")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="With --fit: leave out the parts that do not pay.")] = False,
) -> None:
    """Measure what your memory of the past would have told you about what you did next.

    Your history is cut; later prompts, errors and edits are asked of what was remembered before. A figure is the share of
    the files, commands and names you then needed, and that were known, in the first tokens of the answer.

    [dim]lmm prove[/]
    [dim]lmm prove --fit --receipt receipt.json[/]
    """
    from lmm_mcp.evaluation import proving as suite
    from lmm_mcp.evaluation import receipt as receipts
    from lmm_mcp.evaluation import runs

    if apply and not fit:
        raise BadInput("--apply needs --fit, which finds out what does not pay. Add --fit.")
    desk = Desk(terminal.home(), os.environ)
    _opened(desk)
    whole = suite.proof(desk.ledger, desk.archive, None if at is None else _cut(at))
    posed = suite.chosen(whole.posed, limit)
    if not posed:
        raise BadInput(f"nothing can be asked: {_told(whole.left_out)}. Choose another time with --at.")
    about = measuring.conditions(desk, [], budget_tokens=budget, limit=limit)
    found: dict[str, runs.Run] = {}
    no_weights = _no_weights(desk, whole.cut_ms)
    for arm in (*ARMS, *(() if no_weights else (WEIGHTS,))):
        asker = _without_model(desk) if arm == "recall" else desk
        left_out = sorted(asker.settings.recall.without) if arm in ("recall", WEIGHTS) else []
        with _arm(asker, arm, budget, whole.cut_ms) as ask:
            found[arm] = runs.Run("prove", arm, {**about, "without": left_out}, suite.run(posed, ask))
    left_out_arms = {WEIGHTS: no_weights} if no_weights else {}
    terminal.say(f"{_asked_about(whole, posed)}. Left out: {_told(whole.left_out)}.")
    terminal.say("Share of what was then needed, and known before, in the first tokens of the answer:\n")
    for line in _table(found):
        terminal.say(line)
    for arm, why in left_out_arms.items():
        terminal.say(f"  {arm:17} left out: {why}")
    parts = _fitted(desk, posed, about, budget) if fit else []
    for line in _fit_table(parts):
        terminal.say(line)
    if receipt is not None:
        receipts.write(
            receipts.of(
                whole,
                posed,
                found,
                left_out_arms=left_out_arms,
                parts=parts,
                about=about,
                ledger=desk.ledger,
                budget_tokens=budget,
                embedder=desk.settings.embedder.name if desk.ready_embedder() else "none",
            ),
            receipt,
        )
        terminal.aside(f"receipt: {receipt}")
    if results is not None:
        results.mkdir(parents=True, exist_ok=True, mode=0o700)
        for arm, run in found.items():
            runs.save(run, results / f"{arm}.run.json")
        terminal.aside(f"runs: {results}")
    if apply:
        _apply(desk, parts)


def _no_weights(desk: Desk, cut_ms: int) -> str:
    """Why the arm with weights cannot be asked; '' where it can."""
    from lmm_mcp import artifacts

    version = artifacts.served(desk.home)
    if version is None:
        return "no memory model serves"
    if not 0 < version.manifest.until_ms <= cut_ms:
        day = datetime.fromtimestamp(cut_ms / 1000, UTC)
        return f"{version.name} has learned from what came after the cut; `lmm train --until {day:%Y-%m-%d}` makes one that has not"
    return ""


def _without_model(desk: Desk) -> Desk:
    """One that asks recall without what a memory model adds."""
    left_out = sorted({*desk.settings.recall.without, *OF_THE_MODEL})
    env = {**os.environ, config.variable("recall.without"): os.pathsep.join(left_out)}
    return Desk(desk.home, env, cwd=desk.cwd, holdings=desk.holdings)


@contextmanager
def _arm(desk: Desk, arm: str, budget_tokens: int, cut_ms: int) -> Iterator["Ask"]:
    if arm == "nothing":
        from lmm_mcp.evaluation.proving import silence

        yield silence
    else:
        with answering(desk, arm, budget_tokens, asked_until_ms=cut_ms) as ask:
            yield ask


def _cut(at: str) -> int:
    """The last moment before a date or time that was typed. Raises BadInput."""
    try:
        since_ms, _ = asking.checked_times(at, None, now_ms())
    except BadInput as problem:
        raise BadInput(str(problem).replace("since is", "--at is", 1)) from problem
    if since_ms is None:
        raise BadInput("--at names no time; write a date (2026-03-01), or leave it out.")
    return since_ms - 1


def _fitted(desk: Desk, posed: "Sequence[Posed]", about: Mapping[str, Any], budget: int) -> "list[Worth]":
    """What each part of recall is worth: the same questions with all parts, then without each."""
    from lmm_mcp.evaluation import proving as suite
    from lmm_mcp.evaluation.asked_again import KnowingEmbedder, KnowingStore
    from lmm_mcp.evaluation.runs import Run

    model = desk.ready_embedder()
    store, embedder = cast("ChunkStore", KnowingStore(_opened(desk))), None if model is None else KnowingEmbedder(model)

    def run_without(*parts: str) -> Run:
        recaller = desk.holdings.recaller(parts)
        assert recaller is not None  # there is a store
        again = recaller.over(store, embedder)
        rows = suite.run(posed, lambda asked: _answered(again, asked, budget))
        return Run("prove", "recall", {**about, "without": list(parts)}, rows)

    whole = run_without()
    parts = [suite.worth(part, whole, run_without(part)) for part in PARTS]
    proposed = [each.part for each in parts if each.proposed]
    if len(proposed) > 1 and not suite.worth(" ".join(proposed), whole, run_without(*proposed)).proposed:
        # Together they do not pay: two parts may do each other's work. The best one alone does.
        best = max((each for each in parts if each.proposed), key=lambda each: each.gain[0].difference.value).part
        parts = [
            each if not each.proposed or each.part == best else replace(each, proposed=False, why_not=NOT_TOGETHER)
            for each in parts
        ]
    return parts


def _apply(desk: Desk, parts: "Sequence[Worth]") -> None:
    proposed = [each.part for each in parts if each.proposed]
    if proposed == list(config.load(desk.home.config, {}).recall.without):
        terminal.say("Your settings are that already; nothing was written.")
        return
    setting.write(desk.home.config, "recall.without", proposed)
    terminal.say(f"recall.without = {proposed!r}   [{desk.home.config}]")


def _asked_about(whole: "Proof", posed: "Sequence[Posed]") -> str:
    from lmm_mcp.evaluation.proving import KINDS

    kinds = ", ".join(counted(num, kind) for kind in KINDS if (num := sum(each.kind == kind for each in posed)))
    cut = datetime.fromtimestamp(whole.cut_ms / 1000, UTC)
    return f"Your history is cut at {cut:%Y-%m-%d %H:%M} UTC; asked: {kinds} (of {len(whole.posed):,} possible)"


def _table(found: "Mapping[str, Run]") -> Iterator[str]:
    from lmm_mcp.evaluation import runs

    tables = {arm: runs.table(run.rows) for arm, run in found.items()}
    groups = list(tables["recall"])
    figures = list(tables["recall"][runs.EVERYTHING])
    for group in groups:
        num = tables["recall"][group][figures[0]].num
        heads = "".join(f"{figure:>12}  {'recall minus this, 95 %':26}" for figure in figures)
        yield f"{group} · {counted(num, 'question')}"
        yield f"  {'':17}{heads}".rstrip()
        for arm, table in tables.items():
            cells = ""
            for figure in figures:
                cells += f"{100 * table[group][figure].value:10.1f} %  {_minus(found, arm, group, figure):26}"
            yield f"  {arm:17}{cells}".rstrip()
        yield ""


def _minus(found: "Mapping[str, Run]", arm: str, group: str, figure: str) -> str:
    from lmm_mcp.evaluation import runs

    if arm == "recall":
        return ""
    first, second = (
        replace(run, rows=tuple(row for row in run.rows if group == runs.EVERYTHING or group in row.groups))
        for run in (found[arm], found["recall"])
    )
    gain = next(each for each in runs.difference(first, second) if each.figure == figure).difference
    return f"{100 * gain.value:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"


def _fit_table(parts: "Sequence[Worth]") -> Iterator[str]:
    if not parts:
        return
    yield "Recall without a part, minus recall with all (95 %):"
    for each in parts:
        gains = "   ".join(
            f"{gain.figure} {100 * gain.difference.value:+.1f}"
            f" ({100 * gain.difference.low:+.1f} to {100 * gain.difference.high:+.1f})"
            for gain in each.gain
        )
        verdict = "does not pay: leave it out" if each.proposed else each.why_not and f"kept: {each.why_not}"
        yield f"  {each.part:14} {gains}   {verdict}".rstrip()
    proposed = [each.part for each in parts if each.proposed]
    if proposed:
        yield f"To leave them out: `lmm prove --fit --apply`, or `lmm config set recall.without {' '.join(proposed)}`."
    else:
        yield "No part is proposed to be left out."


@contextmanager
def answering(desk: Desk, arm: str, budget_tokens: int, *, asked_until_ms: int | None = None) -> Iterator["Ask"]:
    """What answers questions that name their project by its key. Raises BadInput and StoreError.

    `asked_until_ms`: none is asked as of a later time, which spares some arms work.
    """
    from lmm_mcp.evaluation.arms import ARMS, Bench

    if arm in ("recall", WEIGHTS):
        from lmm_mcp.server.inprocess import tool_caller

        with tool_caller(desk) as call:
            yield lambda asked: _recalled(call, asked, budget_tokens)
        return
    if arm not in ARMS or arm == "oracle":  # here nobody wrote down which lines are gold
        raise BadInput(
            f"there is no arm {arm!r}; write recall, {', '.join(name for name in ARMS if name != 'oracle')}."
        )
    bench = Bench(_opened(desk), desk.ledger, desk.archive, desk.ready_embedder(), _scope, asked_until_ms)
    yield lambda asked: ARMS[arm](bench, asked, budget_tokens)


def _recalled(call: "Call", asked: "Asked", budget_tokens: int) -> "Answered":
    from lmm_mcp.evaluation.questions import Answered

    found = call(
        "recall", query=asked.question, project=asked.project, until=asked.asked_at, budget_tokens=budget_tokens
    )
    cited = tuple(citation["id"] for citation in found["citations"])
    return Answered(found["text"], tuple(found["sessions"]), found["status"] == "nothing_found", cited)


def _answered(recaller: "Recaller", asked: "Asked", budget_tokens: int) -> "Answered":
    """What recall itself says, without a word of whoever hands it on."""
    from lmm_mcp.domain.recall import NothingFound, Question
    from lmm_mcp.evaluation.questions import Answered

    until_ms = _scope(asked).until_ms
    found = recaller.recall(Question(asked.question, asked.project, until_ms=until_ms, budget_tokens=budget_tokens))
    if isinstance(found, NothingFound):
        return Answered(found.text, (), abstained=True)
    return Answered(found.text, found.sessions, False, tuple(each.chunk_id for each in found.citations))


def _scope(asked: "Asked") -> "Scope":
    from lmm_mcp.store.search import Scope

    return Scope(project=asked.project, until_ms=asking.checked_times(None, asked.asked_at, now_ms())[1])


def _opened(desk: Desk) -> "ChunkStore":
    if (store := desk.store()) is None:
        raise StoreError("nothing has been imported yet, so there is nothing to measure. Run `lmm import`.")
    return store


def _told(left_out: Mapping[str, int]) -> str:
    return "; ".join(f"{num:,} {why}" for why, num in sorted(left_out.items(), key=lambda each: -each[1])) or "none"
