"""Commands that look after the memory: status, doctor, projects, forget."""

import dataclasses
import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from lmm_mcp import children
from lmm_mcp.cli import following, running, terminal
from lmm_mcp.cli.asking import AS_JSON
from lmm_mcp.domain.quoting import plain_name
from lmm_mcp.domain.wording import counted
from lmm_mcp.errors import BadInput, StoreError
from lmm_mcp.server import status
from lmm_mcp.server.asking import NoSuchProject, checked_times, named_project
from lmm_mcp.server.desk import NEVER_IMPORTED, Desk, now_ms
from lmm_mcp.server.expand import moment

if TYPE_CHECKING:
    from lmm_mcp.store.chunks import ChunkStore
    from lmm_mcp.store.forgetting import ForgetPlan

PANEL = "Keep"
_NUM_SESSIONS_shown = 12
_projects = typer.Typer(no_args_is_help=False, rich_markup_mode="rich")


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("status", rich_help_panel=PANEL)(status_)
    app.command("doctor", rich_help_panel=PANEL)(doctor_)
    app.command("forget", rich_help_panel=PANEL)(forget)
    app.add_typer(_projects, name="projects", rich_help_panel=PANEL)


def status_(as_json: Annotated[bool, AS_JSON] = False) -> None:
    """Show what is remembered and how far reading is."""
    desk = terminal.desk()
    now, engine = status.take(desk), running.engine_now(desk.home)
    if as_json:
        is_reading = now.reading is not None and now.reading.is_running
        terminal.say_json({**dataclasses.asdict(now), "is_reading": is_reading, "engine": engine})
        return
    for line in status.lines(now):
        terminal.say(line)
    terminal.say(f"engine: {running.engine_line(engine)}")


def doctor_(as_json: Annotated[bool, AS_JSON] = False) -> None:
    """Look for what is wrong and say what to do about it.

    Exit code 1 where something is broken.
    """
    from lmm_mcp import doctor  # loads all there is to look at

    findings = doctor.examine(os.environ)
    engine = running.engine_now(terminal.home()) if not any(finding.level == "bad" for finding in findings) else {}
    if engine:
        is_well = "problem" not in engine
        told = f"engine: {running.engine_line(engine)}" if is_well else engine["problem"]
        findings.append(doctor.Finding("ok" if is_well else "bad", told, "" if is_well else "`lmm stop` ends it."))
    is_bad = any(finding.level == "bad" for finding in findings)
    if as_json:
        terminal.say_json([dataclasses.asdict(finding) for finding in findings])
    else:
        for finding in findings:
            sign, style = {"ok": ("ok  ", "green"), "warn": ("warn", "yellow"), "bad": ("BAD ", "bold red")}[
                finding.level
            ]
            terminal.say_marked(f"{sign} ", finding.what, mark_style=style)
            for example in finding.examples[: doctor.NUM_UNREADABLE_shown]:
                terminal.say(f"       {example}")
            if (rest := len(finding.examples) - doctor.NUM_UNREADABLE_shown) > 0:
                terminal.say(f"       and {rest:,} more (`lmm doctor --json` lists all)")
            if finding.next_step:
                terminal.say(f"     -> {finding.next_step}")
    if is_bad:
        raise typer.Exit(1)


@_projects.callback(invoke_without_command=True)
def projects(context: typer.Context, as_json: Annotated[bool, AS_JSON] = False) -> None:
    """List the projects that something is remembered of, by number of passages.

    [dim]lmm projects merge old-shop github.com/ann/shop[/]
    """
    if context.invoked_subcommand is not None:
        return
    desk = terminal.desk()
    known, aliases = desk.known_projects(), desk.ledger.aliases()
    if as_json:
        terminal.say_json({"projects": known, "aliases": aliases})
        return
    if not known:
        terminal.say(NEVER_IMPORTED)
    for key, count in sorted(known.items(), key=lambda one: (-one[1], one[0])):
        terminal.say(f"{count:>8,}  {plain_name(key) or '(no project)'}")
    for alias, key in aliases.items():
        terminal.say(f"          {plain_name(alias)} means {plain_name(key)}")


@_projects.command("merge")
def merge(
    name: Annotated[str, typer.Argument(help="The project that is to be part of another.")],
    into: Annotated[str, typer.Argument(help="The one it becomes part of.")],
) -> None:
    """Make two names one project: what is remembered of the first belongs to the second from now on.

    [dim]lmm projects merge /home/ann/shop github.com/ann/shop[/]
    """
    from lmm_mcp.store import projects as store_projects

    desk = terminal.desk()
    key, target = (_key(desk, one) for one in (name, into))
    aliases = store_projects.merge(key, target, desk.ledger.aliases())
    with desk.ledger.transaction():
        for alias, meaning in aliases.items():
            desk.ledger.add_alias(alias, meaning)
    # What is stored already is filed anew by the ingest process, the one writer.
    reading = children.progress(desk.home)
    if reading is not None and reading.is_running:
        children.hand_over(desk.home, [])
    else:
        child = children.start_ingest(desk.home, os.environ, stay=False, idle_priority=False)
        following.follow(desk.home, child, is_enough=following.is_embedded)
        child.stop()
    terminal.say(f"{plain_name(key)} means {plain_name(target)} from now on")


def forget(
    session: Annotated[
        str | None, typer.Option(help="The agent's session id, or its beginning.", show_default=False)
    ] = None,
    project: Annotated[
        str | None, typer.Option("--project", "-p", help="Everything of this project.", show_default=False)
    ] = None,
    since: Annotated[str | None, typer.Option(help="Not what happened before.", show_default=False)] = None,
    until: Annotated[str | None, typer.Option(help="Not what happened after.", show_default=False)] = None,
    match: Annotated[
        str | None,
        typer.Option(
            help="Every message that shows this text, in words, files, folder or branch; upper and lower case alike.",
            show_default=False,
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Without this, only shown.")] = False,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Forget for good: out of archive, store, notes, logs and what was trained on it.

    Shows what would go; --yes does it, and completes whatever an interrupted forgetting left.

    It stays forgotten when the agent's file is seen again. The agent's own file is not touched.

    Exit code 1 where a damaged archive file could not be searched; all others are forgotten from nevertheless.

    [dim]lmm forget --match "the customer's name"[/]

    [dim]lmm forget --project shop --until 2025-12-31 --yes[/]
    """
    from lmm_mcp import artifacts
    from lmm_mcp.store import forgetting  # forgetting is rare

    if not any((session, project, since, until, match)):
        raise BadInput(
            "say what to forget: --session, --project, --since, --until or --match; together they narrow it down."
        )
    desk = terminal.desk()
    since_ms, until_ms = checked_times(since, until, now_ms())
    key = _key(desk, project) if project else None
    if (store := desk.store()) is None:
        raise StoreError(f"{NEVER_IMPORTED}, so there is nothing to forget.")

    def plan(where: "ChunkStore") -> "ForgetPlan":
        return forgetting.plan(
            where,
            desk.archive,
            desk.ledger,
            session=session,
            project=key,
            since_ms=since_ms,
            until_ms=until_ms,
            match=match,
        )

    was_interrupted = forgetting.is_unfinished(desk.ledger)
    if not yes:
        what = plan(store)
        _show_plan(what, as_json)
        if was_interrupted and not as_json:
            terminal.aside("An earlier forgetting was interrupted. With --yes it is completed, too.")
        _complain_of(what.damaged)
        return
    from lmm_mcp.store.chunks import ChunkStore

    with children.borrowed_write_lock(desk.home):
        writer = ChunkStore.open(desk.home.store, create=True)
        what = plan(writer)  # made anew: something may have been read since the question
        gone = forgetting.carry_out(
            what,
            writer,
            desk.archive,
            desk.ledger,
            notes=desk.home.notes,
            logs=desk.home.logs,
            facts=desk.home.facts,
            locks=desk.home.write_lock.parent,
            unlearn=partial(artifacts.mark_unclean, desk.home),
        )
    if gone.to_cut:
        _read_again(desk, gone.to_cut)
    if as_json:
        terminal.say_json(dataclasses.asdict(gone))
    else:
        more = "; an interrupted forgetting was completed" if was_interrupted and not gone.damaged else ""
        are = "is" if gone.num_threads == 1 else "are"
        whole = f"{counted(gone.num_threads, 'session')} {are} gone for good"
        terminal.say(f"forgot {counted(gone.num_events, 'message')}; {whole}{more}")
        if gone.num_models:
            were = "model was" if gone.num_models == 1 else "models were"
            terminal.say(
                f"{gone.num_models} memory {were} trained on this and no longer served; `lmm train` builds a clean one"
            )
    _complain_of(gone.damaged)


def _complain_of(damaged: Sequence[str]) -> None:
    """Name what could not be searched. Raises Exit with code 1 where there is any."""
    for problem in damaged:
        terminal.aside(f"lmm: {problem}")
    if damaged:
        raise typer.Exit(1)


def _show_plan(what: "ForgetPlan", as_json: bool) -> None:
    if as_json:
        terminal.say_json({**dataclasses.asdict(what), "num_events": what.num_events, "num_chunks": what.num_chunks})
        return
    if not what.threads:
        terminal.say("nothing of that kind is remembered")
        return
    terminal.say(
        f"{counted(what.num_events, 'message')} in {counted(len(what.by_session), 'session')} would be forgotten ({counted(what.num_chunks, 'passage')}):"
    )
    for (agent, session_id), threads in list(what.by_session.items())[:_NUM_SESSIONS_shown]:
        num_gone = sum(len(each.event_ids) for each in threads)
        num_all = num_gone + sum(each.num_left for each in threads)
        first = threads[0]
        whose, project, title = (plain_name(each) for each in (agent, first.project, first.thread.title))
        terminal.say(
            f"  {moment(first.last_ms)}  {whose} {plain_name(session_id[:13])}  {num_gone:,} of {counted(num_all, 'message')}  {project}  {title}".rstrip()
        )
    if len(what.by_session) > _NUM_SESSIONS_shown:
        terminal.say(f"  and {len(what.by_session) - _NUM_SESSIONS_shown:,} more")
    terminal.say("Nothing was touched. Add --yes to forget them for good.")


def _read_again(desk: Desk, threads: Sequence[tuple[str, str]]) -> None:
    """Have what is left of these threads cut anew, and wait until it can be recalled again."""
    children.hand_over(desk.home, [], cut_anew=threads)
    reading = children.progress(desk.home)
    if reading is None or not reading.is_running:
        child = children.start_ingest(desk.home, os.environ, stay=False, idle_priority=False)
        following.follow(desk.home, child, is_enough=following.is_imported)
        child.stop()


def _key(desk: Desk, name: str) -> str:
    match named_project(name, [*desk.known_projects(), *desk.ledger.aliases()]):
        case str(key):
            return key
        case NoSuchProject() as none:
            raise BadInput(none.advice)
