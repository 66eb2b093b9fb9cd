"""Commands that ask the memory and tell it something: recall, show, remember."""

import dataclasses
import os
import sys
from typing import Annotated, Any

import typer

from lmm_mcp import children
from lmm_mcp.cli import terminal
from lmm_mcp.domain.fence import fenced
from lmm_mcp.domain.quoting import plain_name
from lmm_mcp.server import asking, expand

PANEL = "Ask"
AS_JSON = typer.Option("--json", help="Print JSON and nothing else.")
_READ_WITHIN_s = 20.0

Project = Annotated[
    str | None,
    typer.Option(
        "--project", "-p", help='Name, path or remote; "*" for all. Default: the one you stand in.', show_default=False
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("recall", rich_help_panel=PANEL)(recall)
    app.command("timeline", rich_help_panel=PANEL)(timeline)
    app.command("show", rich_help_panel=PANEL)(show)
    app.command("remember", rich_help_panel=PANEL)(remember)


def recall(
    question: Annotated[
        str | None,
        typer.Argument(help="In words, or an error message; - reads it from standard input.", show_default=False),
    ] = None,
    project: Project = None,
    file: Annotated[
        str | None, typer.Option(help="A file of the project: what to know before it is touched.", show_default=False)
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Not before: 2026-03-01, or an age such as 7d, 2w.", show_default=False)
    ] = None,
    until: Annotated[str | None, typer.Option(help="Not after.", show_default=False)] = None,
    agent: Annotated[
        str | None, typer.Option(help="Only this agent, as `lmm agents` names it; or notes.", show_default=False)
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Size of the brief in tokens, 50 to 20000.", show_default="1000")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Tell how the answer came to be: terms, scores, what was left out.")
    ] = False,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Ask what past sessions know; the answer is a short brief with citations.

    [dim]lmm recall "which port does the database use, and why?"[/]

    [dim]lmm recall "AssertionError in test_cart" --project harbour --since 30d --budget 400[/]

    [dim]lmm recall --file src/cart.py[/]

    [dim]pytest 2>&1 | lmm recall -[/]
    """
    if question is None and file is None:
        named = [f" --{name} {value}" for name, value in (("since", since), ("until", until)) if value]
        hint = f" What was done then, session by session, tells `lmm timeline{''.join(named)}`." if named else ""
        raise typer.BadParameter(f"Ask a question, or name a file.{hint}")
    desk = terminal.desk()
    about = asking.question_about(file, desk.cwd) if file is not None else ""
    if question == "-":
        room = asking.MAX_QUERY_chars - len(f" ({about})")
        question = sys.stdin.read()[-room:]  # what went wrong stands at the end
    if about:
        question = f"{question} ({about})" if question else about
    limits = {"project": project, "since": since, "until": until, "agent": agent, "budget_tokens": budget}
    found = desk.recall(question, **limits)
    told = desk.explain(question, found, **limits) if explain else []
    if as_json:
        from lmm_mcp.server.shapes import recall_shape  # loads pydantic

        terminal.say_json({**recall_shape(found).model_dump(mode="json"), **({"explanation": told} if explain else {})})
        return
    terminal.say_answer(found)
    if told:
        text = "\n".join(told)  # it quotes sessions, too
        terminal.say(f"\n{text}" if terminal.is_watched() else fenced(text))


def timeline(
    project: Project = None,
    since: Annotated[
        str | None, typer.Option(help="Not before: 2026-03-01, or an age such as 7d, 2w.", show_default=False)
    ] = None,
    until: Annotated[str | None, typer.Option(help="Not after.", show_default=False)] = None,
    budget: Annotated[str | None, typer.Option(help="Size in tokens, 50 to 20000.", show_default="1000")] = None,
) -> None:
    """Tell what was done, session by session, newest first: titles, decisions, corrections, files.

    [dim]lmm timeline --since 2w[/]

    [dim]lmm timeline --project "*" --since yesterday[/]
    """
    told = terminal.desk().timeline(project, since=since, until=until, budget_tokens=budget)
    if told:
        terminal.say_brief(told)
    else:
        terminal.say("Nothing is remembered of that time here.")


def show(
    ids: Annotated[
        list[str],
        typer.Argument(metavar="ID...", help="Ids of citations or of sessions, as in the sources of a brief."),
    ],
    before: Annotated[int, typer.Option(min=0, max=expand.MAX_AROUND_events, help="Events to show before.")] = 0,
    after: Annotated[int, typer.Option(min=0, max=expand.MAX_AROUND_events, help="Events to show after.")] = 0,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Show the whole passage behind a citation, or a whole session: who said and did what, nothing cut.

    [dim]lmm show 3f9c51d2a07b84e6 --before 4 --after 4[/]

    [dim]lmm show 904f5c77-3b98[/]
    """
    desk = terminal.desk()
    of_sessions = {name: desk.session(name) for name in ids}
    cited = [name for name, found in of_sessions.items() if not found]
    passages = [passage for found in of_sessions.values() for passage in found]
    if cited:
        passages += desk.passages(cited, before=before, after=after)
    if as_json:
        terminal.say_json([_plain(passage) for passage in passages])
        return
    text = expand.rendered(passages, whole=True)
    terminal.say_whole(text if terminal.is_watched() else fenced(text))


def remember(
    text: Annotated[str, typer.Argument(help="One fact, decision or preference; - reads it from standard input.")],
    project: Project = None,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Keep a note for all agents, for the project you stand in.

    [dim]lmm remember "Staging is deployed with: HARBOUR_REGION=kie make ship ENV=staging"[/]
    """
    desk = terminal.desk()
    note_id, key = desk.remember(sys.stdin.read() if text == "-" else text, project=project)
    is_read = True
    reading = children.progress(desk.home)
    if reading is None or not reading.is_running:  # a running one looks for notes by itself
        child = children.start_ingest(desk.home, os.environ, stay=False, paths=[desk.home.notes], idle_priority=False)
        is_read = child.wait(_READ_WITHIN_s) == 0
        child.stop()
    if as_json:
        terminal.say_json({"id": note_id, "project": key})
    else:
        later = "" if is_read else "; it is kept, but could not be made findable yet: `lmm doctor` looks for the reason"
        terminal.say(f"remembered for {plain_name(key) or 'no project in particular'}{later}")


def _plain(passage: expand.Passage) -> dict[str, Any]:
    return {
        "ids": list(passage.chunk_ids),
        "thread": dataclasses.asdict(passage.thread),
        "events": [dataclasses.asdict(event) for event in passage.events],
        "num_earlier": passage.num_earlier,
        "num_later": passage.num_later,
    }
