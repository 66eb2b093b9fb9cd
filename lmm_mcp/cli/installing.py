"""`lmm install`, `lmm uninstall`: connects agents by their own configuration files, and takes that back to the byte."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from lmm_mcp.cli import terminal
from lmm_mcp.errors import BadInput
from lmm_mcp.integrations import program as programs
from lmm_mcp.integrations import registry
from lmm_mcp.integrations.contract import Integration
from lmm_mcp.integrations.registry import Plan
from lmm_mcp.paths import Home, home_of

PANEL = "Set up"
_NAMES = typer.Argument(metavar="[AGENT...]", help="Such as claude-code, codex.", show_default=False)
_YES = typer.Option("--yes", "-y", help="Do not ask.")
_DRY_RUN = typer.Option("--dry-run", help="Show what would be changed, and change nothing.")
Names = Annotated[list[str] | None, _NAMES]
Yes = Annotated[bool, _YES]
DryRun = Annotated[bool, _DRY_RUN]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("install", rich_help_panel=PANEL)(install)
    app.command("uninstall", rich_help_panel=PANEL)(uninstall)
    app.command("hook", hidden=True)(hook)


def install(
    names: Names = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace, for good, an MCP server named lmm that is not this program.")
    ] = False,
) -> None:
    """Connect agents: all that are found on this machine, or those named.

    Claude Code gets the MCP server and a hook that opens each session with what is remembered of the project; Codex gets the MCP server.

    [dim]lmm install[/]

    [dim]lmm install claude-code codex --dry-run[/]
    """
    where = _home(dry_run)
    program = programs.installed(os.environ)
    agents = registry.named(names) if names else registry.found(os.environ)
    if not agents:
        known = ", ".join(agent.name for agent in registry.ALL)
        raise BadInput(f"no agent was found on this machine. Name one that is to be connected anyway: {known}.")
    plans = registry.connecting(agents, os.environ, program, where.root, force=force)
    if not names and not dry_run and not all(plan.is_done for plan in plans):
        _ask_for(f"Connect {_titles(agents)}?", "lmm install", agents, yes)
    for plan in plans:
        if plan.is_done:
            terminal.say(f"{plan.agent.title} is connected already.")
        elif dry_run:
            _show(plan)
            terminal.say(f"In it, {plan.agent.meaning}.\n")
        else:
            registry.connect(plan, where.root)
            terminal.say(
                f"{plan.agent.title} is connected: {_files(plan)}. Sessions that run now see it when they are started again."
            )
    if dry_run:
        terminal.say("Nothing was changed, since this was a dry run: `lmm install` without --dry-run writes it.")


def uninstall(names: Names = None, yes: Yes = False, dry_run: DryRun = False) -> None:
    """Disconnect agents: all that are connected, or those named. Their files become what they were before.

    What is remembered stays.

    [dim]lmm uninstall codex[/]
    """
    where = _home(dry_run)
    agents = registry.named(names) if names else list(registry.ALL)
    plans = registry.disconnecting(agents, os.environ, where.root)
    left = [plan for plan in plans if not plan.is_done]
    if not left and not names:
        terminal.say("No agent is connected.")
        return
    if not names and not dry_run:
        _ask_for(f"Disconnect {_titles([plan.agent for plan in left])}?", "lmm uninstall", agents, yes)
    for plan in plans if names else left:
        if plan.is_done:
            terminal.say(f"{plan.agent.title} is not connected.")
        elif dry_run:
            _show(plan)
        else:
            registry.disconnect(plan, where.root)
            terminal.say(f"{plan.agent.title} is disconnected: {_files(plan)}.")
    if dry_run:
        terminal.say("Nothing was changed, since this was a dry run: `lmm uninstall` without --dry-run takes it back.")


def hook(
    event: Annotated[str, typer.Argument(help="session-start")],
    home: Annotated[str, typer.Option("--home", help="The memory home. Default: LMM_HOME, else ~/.lmm.")] = "",
) -> None:
    """Answer a hook of an agent: its JSON on standard input, what is remembered of the project on standard output.

    Agents start this; you never do. Whatever is wrong, it prints nothing and its exit code is 0.
    """
    from lmm_mcp.server.hook import main  # `lmm hook` itself goes past all commands

    main(os.environ, [event, *(("--home", home) if home else ())])


def _home(dry_run: bool) -> Home:
    return home_of(os.environ) if dry_run else terminal.home()


def _ask_for(question: str, command: str, agents: Sequence[Integration], yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise BadInput(
            f"nobody is here to be asked. Add --yes, or name them: {command} {' '.join(a.name for a in agents)}"
        )
    typer.confirm(question, abort=True, err=True)


def _titles(agents: Sequence[Integration]) -> str:
    return " and ".join(agent.title for agent in agents)


def _files(plan: Plan) -> str:
    done = [(change, "removed " if change.after is None else "") for change in plan.changes if not change.is_none]
    return ", ".join(f"{word}{change.path}" for change, word in done)


def _show(plan: Plan) -> None:
    for change in plan.changes:
        if not change.is_none:
            terminal.say(registry.diff_of(change).rstrip("\n"))
