"""`lmm prove`: the user's own future asks the memory of before, without anybody's labels."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from lmm_mcp import config
from lmm_mcp.cli import answering, conditions, measuring, setting, terminal
from lmm_mcp.cli.answering import WEIGHTS
from lmm_mcp.domain.recall import PARTS, DEFAULT_BUDGET_tokens
from lmm_mcp.domain.wording import counted
from lmm_mcp.errors import BadInput
from lmm_mcp.server import asking
from lmm_mcp.server.desk import Desk, now_ms
from lmm_mcp.server.expand import moment

if TYPE_CHECKING:
    from lmm_mcp.evaluation.fitting import Worth
    from lmm_mcp.evaluation.proving import Posed, Proof
    from lmm_mcp.evaluation.questions import Ask
    from lmm_mcp.evaluation.runs import Difference, Run
    from lmm_mcp.store.chunks import ChunkStore

LIMIT = 200
ARMS = ("nothing", "grep", "recent", "bm25", "recall")
"""Of `lmm prove`, in the order of the table; `WEIGHTS` comes last, where a memory model serves that may be asked."""
OF_THE_MODEL = ("cards", "model")
"""Parts of recall that come from a memory model: the arm `WEIGHTS` shows what they are worth."""
LEARNED_ORDER = "reranker"


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("prove", rich_help_panel=measuring.PANEL)(prove)


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
        Path | None,
        typer.Option(
            metavar="FILE", dir_okay=False, help="Write figures to share: no text, no names, no paths, no ids."
        ),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", file_okay=False, help="Write the run of each arm there, for `lmm bench compare`."
        ),
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
    measuring.check_before(receipt, ())
    if results is not None:
        results.mkdir(parents=True, exist_ok=True, mode=0o700)
    desk = Desk(terminal.home(), os.environ)
    answering.opened(desk)
    whole = suite.proof(desk.ledger, desk.archive, None if at is None else _cut(at))
    posed = suite.chosen(whole.posed, limit)
    if not posed:
        why = answering.told(whole.left_out) if whole.left_out else "no session of a dated prompt began then"
        raise BadInput(
            f"nothing can be asked of what came after {moment(whole.cut_ms)} UTC: {why}. A question is a prompt, a mended error "
            "or an edit, in a session that began later, of a project known before, which needed a file, a command or a name that "
            "the memory held by then; one is enough. Choose another time with --at, or let more come together."
        )
    learned_later = answering.put_to_the_past(desk, whole.cut_ms)
    found: dict[str, runs.Run] = {}
    no_weights = _no_weights(desk, whole.cut_ms)
    for arm in (*ARMS, *(() if no_weights else (WEIGHTS,))):
        asker = desk if arm == WEIGHTS else _without_model(desk)
        about = conditions.of(asker, [], budget_tokens=budget, limit=limit, cut_ms=whole.cut_ms)
        with _arm(asker, arm, budget, whole.cut_ms) as ask:
            found[arm] = runs.Run("prove", arm, about, suite.run(posed, ask))
    terminal.say(f"{_asked_about(whole, posed)}. Left out: {answering.told(whole.left_out)}.")
    terminal.say(
        "Share of what was then needed, and known before, in the first tokens of the answer, in %, "
        "and what recall tells more, with its 95 % interval:\n"
    )
    for line in _table(found):
        terminal.say_whole(line)
    if no_weights:
        terminal.say(f"  {WEIGHTS:17} left out: {no_weights}{_next_step(no_weights, whole.cut_ms)}")
    for name in learned_later:
        if name != answering.MEMORY_MODEL:
            terminal.say(f"  {name} took no part: it has learned from what came after the cut")
    parts = _fitted(desk, posed, budget) if fit else []
    for line in _fit_table(parts):
        terminal.say(line)
    if receipt is not None:
        receipts.write(
            receipts.of(
                whole,
                posed,
                found,
                left_out_arms={WEIGHTS: no_weights} if no_weights else {},
                parts=parts,
                ledger=desk.ledger,
                budget_tokens=budget,
                embedder=desk.settings.embedder.name if desk.ready_embedder() else "none",
            ),
            receipt,
        )
        terminal.aside(f"receipt: {receipt}")
    if results is not None:
        for arm, run in found.items():
            runs.save(run, results / f"{arm}.run.json")
        terminal.aside(f"runs: {results}")
    if apply:
        _apply(desk, parts)


def _no_weights(desk: Desk, cut_ms: int) -> str:
    """Why the arm with weights cannot be asked, one of `receipt.WHY_NOT`; '' where it can."""
    from lmm_mcp.evaluation import receipt as receipts

    match desk.holdings.memory_model():
        case None:
            return receipts.NO_MODEL
        case (_, 0):
            return receipts.LEARNED_UNKNOWN
        case (_, until_ms) if until_ms > cut_ms:
            return receipts.LEARNED_LATER
    return ""


def _next_step(why: str, cut_ms: int) -> str:
    """What makes a memory model that may be asked; it names a day, and so never goes into a receipt."""
    from lmm_mcp.evaluation import receipt as receipts

    if why == receipts.NO_MODEL:
        return ""
    return f"; `lmm train --until {_last_day_before(cut_ms):%Y-%m-%d}` makes one that has not"


def _last_day_before(cut_ms: int) -> datetime:
    """The last day that ends before the cut: `--until` names a day and means its end."""
    return datetime.fromtimestamp(cut_ms / 1000, UTC) - timedelta(days=1) + timedelta(milliseconds=1)


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
        with answering.answering(desk, arm, budget_tokens, asked_until_ms=cut_ms) as ask:
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


def _fitted(desk: Desk, posed: "Sequence[Posed]", budget: int) -> "list[Worth]":
    """What each part of recall is worth: the same questions with all parts, then without each, and never with a memory model."""
    from lmm_mcp.evaluation import fitting
    from lmm_mcp.evaluation import proving as suite
    from lmm_mcp.evaluation.asked_again import KnowingEmbedder, KnowingStore
    from lmm_mcp.evaluation.runs import Run

    model = desk.ready_embedder()
    store = cast("ChunkStore", KnowingStore(answering.opened(desk)))
    embedder = None if model is None else KnowingEmbedder(model)

    def run_without(parts: Sequence[str]) -> Run:
        recaller = desk.holdings.recaller((*parts, *OF_THE_MODEL))
        assert recaller is not None  # there is a store
        again = recaller.over(store, embedder)
        rows = suite.run(posed, lambda asked: answering.by_recaller(again, asked, budget))
        return Run("prove", "recall", {"without": list(parts)}, rows)

    absent = {*OF_THE_MODEL, *([] if desk.holdings.ranking() is not None else [LEARNED_ORDER])}
    return fitting.fit([part for part in PARTS if part not in absent], run_without)


def _apply(desk: Desk, parts: "Sequence[Worth]") -> None:
    """Write what is proposed. What was left out before stays so where nothing here could judge it."""
    from lmm_mcp.evaluation.fitting import UNJUDGED

    before = config.load(desk.home.config, {}).recall.without
    judged = {each.part for each in parts if each.held_out} - set(UNJUDGED)
    wanted = sorted({each.part for each in parts if each.proposed} | (set(before) - judged))
    if wanted == sorted(before):
        terminal.say("Your settings are that already; nothing was written.")
        return
    setting.write(desk.home.config, "recall.without", wanted)
    terminal.say(f"recall.without = {wanted!r}   [{desk.home.config}]")


def _asked_about(whole: "Proof", posed: "Sequence[Posed]") -> str:
    from lmm_mcp.evaluation.proving import KINDS

    kinds = ", ".join(counted(num, kind) for kind in KINDS if (num := sum(each.kind == kind for each in posed)))
    return f"Your history is cut at {moment(whole.cut_ms)} UTC; asked: {kinds} (of {len(whole.posed):,} possible)"


def _table(found: "Mapping[str, Run]") -> Iterator[str]:
    from lmm_mcp.evaluation import runs

    tables = {arm: runs.table(run.rows) for arm, run in found.items()}
    groups = list(tables["recall"])
    figures = list(tables["recall"][runs.EVERYTHING])
    for group in groups:
        num = tables["recall"][group][figures[0]].num
        heads = "".join(f"{figure:>10} {'recall minus it':20}" for figure in figures)
        yield f"{group} · {counted(num, 'question')}"
        yield f"  {'':16}{heads}".rstrip()
        for arm, table in tables.items():
            cells = ""
            for figure in figures:
                cells += f"{100 * table[group][figure].value:10.1f} {_minus(found, arm, group, figure):20}"
            yield f"  {arm:16}{cells}".rstrip()
        yield ""


def _minus(found: "Mapping[str, Run]", arm: str, group: str, figure: str) -> str:
    from lmm_mcp.evaluation import runs

    if arm == "recall":
        return ""
    gain = next(each for each in runs.difference(found[arm], found["recall"], group) if each.figure == figure)
    return _points(gain)


def _points(gain: "Difference") -> str:
    told = gain.difference
    points = [f"{100 * each:+.1f}".replace("100.0", "100") for each in (told.value, told.low, told.high)]
    return f"{points[0]} ({points[1]}…{points[2]})"


def _fit_table(parts: "Sequence[Worth]") -> Iterator[str]:
    if not parts:
        return
    yield "Recall without a part, minus recall with all (95 %, over sessions), on one half of your sessions and on the other:"
    for each in parts:
        verdict = "does not pay: leave it out" if each.proposed else each.why_not and f"kept: {each.why_not}"
        halves = [half for half in (each.gain, each.held_out) if half]
        for n, half in enumerate(halves):
            gains = "   ".join(f"{gain.figure} {_points(gain):20}" for gain in half)
            yield f"  {'' if n else each.part:14} {gains}   {verdict if n == len(halves) - 1 else ''}".rstrip()
    proposed = [each.part for each in parts if each.proposed]
    if proposed:
        yield f"To leave them out: `lmm prove --fit --apply`, or `lmm config set recall.without {' '.join(proposed)}`."
    else:
        yield "No part is proposed to be left out."
