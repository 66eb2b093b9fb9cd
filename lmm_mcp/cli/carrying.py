"""Commands that carry the memory over: rebuild the store, back up, restore, export. What was exported, `lmm import` reads."""

import os
from pathlib import Path
from typing import Annotated

import typer

from lmm_mcp import children
from lmm_mcp.cli import following, terminal
from lmm_mcp.cli.asking import AS_JSON
from lmm_mcp.domain.wording import counted, sized
from lmm_mcp.errors import ArchiveError, BadInput, StoreError
from lmm_mcp.paths import Home
from lmm_mcp.server.asking import NoSuchProject, named_project
from lmm_mcp.server.desk import Desk
from lmm_mcp.server.version import version

PANEL = "Carry"


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("backup", rich_help_panel=PANEL)(backup)
    app.command("restore", rich_help_panel=PANEL)(restore)
    app.command("export", rich_help_panel=PANEL)(export)
    app.command("rebuild", rich_help_panel=PANEL)(rebuild)


def backup(
    target: Annotated[str, typer.Argument(metavar="FILE.tar", help="The file to write; it must not exist.")],
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Write all that cannot be made again to one file: sessions, notes, settings, what is forgotten.

    Store and vectors are made anew when it is restored. The file is redacted as the memory is, and readable by you alone.

    [dim]lmm backup ~/lmm-2026-03-01.tar[/]
    """
    from lmm_mcp.store import backup as store_backup

    home, path = terminal.home(), _new_file(target, (".tar",))
    with children.borrowed_write_lock(home):
        done = store_backup.backup(home, path, made_by=version())
    if as_json:
        terminal.say_json({"file": str(path), "sessions": done.num_sessions, "bytes": done.num_bytes})
    else:
        terminal.say(f"{counted(done.num_sessions, 'session')} ({sized(done.num_bytes)}) backed up to {path}")


def restore(
    source: Annotated[str, typer.Argument(metavar="FILE.tar", help="A file that `lmm backup` wrote.")],
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Fill an empty memory from a backup, and make its store.

    Into a memory that holds sessions already, `lmm import` reads a backup without doubling anything.

    [dim]lmm restore ~/lmm-2026-03-01.tar[/]
    """
    from lmm_mcp.store import backup as store_backup

    home, path = terminal.home(), _existing_file(source)
    with children.borrowed_write_lock(home):
        done = store_backup.restore(home, path)
    num_passages = _rebuilt(home)
    if as_json:
        terminal.say_json({"sessions": done.num_sessions, "passages": num_passages})
    else:
        terminal.say(
            f"{counted(done.num_sessions, 'session')} restored, {counted(num_passages, 'passage')} can be recalled"
        )
        if why := terminal.desk(home).by_words_only():
            terminal.say(f"recall goes by words alone here: {why}")


def export(
    target: Annotated[
        str, typer.Argument(metavar="FILE", help="Ending in .jsonl, .jsonl.zst or .parquet; it must not exist.")
    ],
    project: Annotated[
        str | None, typer.Option("--project", "-p", help="Only this project.", show_default=False)
    ] = None,
    agent: Annotated[str | None, typer.Option(help="Only this agent.", show_default=False)] = None,
    session: Annotated[
        str | None, typer.Option(help="Only this session, by its id or its beginning.", show_default=False)
    ] = None,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Write remembered sessions to a file, message by message, for other programs or another machine.

    `lmm import FILE` reads it there; what is known already is not doubled.

    [dim]lmm export shop.parquet --project shop[/]
    """
    from lmm_mcp.store import exporting

    desk, path = terminal.desk(), _new_file(target, exporting.ENDINGS)
    threads = _chosen(desk, project, agent, session)
    if not threads:
        raise BadInput(
            "nothing of that kind is remembered, so nothing was written. `lmm agents` and `lmm projects` say what is."
        )
    damaged: list[ArchiveError] = []
    num_threads, num_events = exporting.export(desk.archive, threads, path, made_by=version(), on_damage=damaged.append)
    if as_json:
        terminal.say_json({"file": str(path), "sessions": num_threads, "messages": num_events, "damaged": len(damaged)})
    else:
        terminal.say(f"{counted(num_events, 'message')} of {counted(num_threads, 'session')} written to {path}")
    for problem in damaged:
        terminal.aside(f"lmm: {problem}")
    if damaged:
        raise typer.Exit(1)


def rebuild(as_json: Annotated[bool, AS_JSON] = False) -> None:
    """Make the store and its indexes anew from the archived sessions.

    For a store that is damaged, or that you do not trust. Nothing is lost by it; while it lasts, the old one answers.
    """
    num_passages = _rebuilt(terminal.home())
    if as_json:
        terminal.say_json({"passages": num_passages})
    else:
        terminal.say(f"the store was made anew: {counted(num_passages, 'passage')} can be recalled")


def _rebuilt(home: Home) -> int:
    child = children.start_ingest(home, os.environ, stay=False, rebuild=True, idle_priority=False)
    said = following.follow(home, child, is_enough=lambda now: now.phase == "done")
    if child.wait(children.STOP_GRACE_s):
        raise StoreError(
            f"the store was not made anew; {home.logs / 'ingest.log'} tells why. The old one is still there."
        )
    return said.chunks


def _chosen(desk: Desk, project: str | None, agent: str | None, session: str | None) -> list[tuple[str, str]]:
    """The threads meant, oldest first. Raises BadInput."""
    from lmm_mcp.store.forgetting import sessions_called

    rows = desk.ledger.threads()
    if project is not None:
        match named_project(project, [*desk.known_projects(), *desk.ledger.aliases()]):
            case str(key):
                rows = [row for row in rows if row.project == key]
            case NoSuchProject() as none:
                raise BadInput(none.advice)
    if agent is not None:
        rows = [row for row in rows if row.thread.agent == agent]
    if session is not None:
        ids = sessions_called(session, [row.thread for row in rows])
        rows = [row for row in rows if row.thread.session_id in ids]
    return [(row.thread.agent, row.thread.thread_id) for row in sorted(rows, key=lambda row: row.first_ms)]


def _new_file(name: str, endings: tuple[str, ...]) -> Path:
    """A path that may be written. Raises BadInput before anything is."""
    path = Path(name).expanduser().absolute()
    if not path.name.lower().endswith(endings):
        raise BadInput(f"{name!r} must end in {' or '.join(endings)}.")
    if path.exists():
        raise BadInput(f"{path} exists already. Name another file, or move it away.")
    if not path.parent.is_dir():
        raise BadInput(f"there is no folder {path.parent}. Make it, or name another file.")
    return path


def _existing_file(name: str) -> Path:
    path = Path(name).expanduser().absolute()
    if not path.is_file():
        raise BadInput(f"there is no file {path}.")
    return path
