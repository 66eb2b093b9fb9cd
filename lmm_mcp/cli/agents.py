"""`lmm agents`: whose sessions lie on this machine, how much of them is remembered, and what could not be understood."""

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from lmm_mcp import children
from lmm_mcp.children import Surveyed
from lmm_mcp.cli import terminal
from lmm_mcp.cli.asking import AS_JSON
from lmm_mcp.domain.agents import EXPORTS
from lmm_mcp.domain.quoting import plain_name
from lmm_mcp.domain.wording import counted
from lmm_mcp.server.desk import Desk
from lmm_mcp.server.expand import moment

PANEL = "Keep"
_NUM_PROBLEMS_shown = 3
NOBODY = ""
"""In place of the agent, where a file lies in the folder of none."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is remembered of one agent."""

    num_sessions: int = 0
    """Main lines."""
    num_subagents: int = 0
    last_read_ms: int = 0
    """When something of it was archived last, UTC milliseconds since 1970; 0 = never."""
    num_unreadable: int = 0
    """Records and files that could not be understood."""
    problems: tuple[str, ...] = ()
    """Their kinds with the number of each, most frequent first: a format that changed shows here."""


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    from typing import Annotated

    def agents(
        everyone: Annotated[bool, typer.Option("--all", help="Also agents that were never at work here.")] = False,
        as_json: Annotated[bool, AS_JSON] = False,
    ) -> None:
        """Show whose sessions lie where, how many are remembered, when they were last read, what was not understood.

        [dim]lmm agents --all[/]
        """
        desk = terminal.desk()
        found = children.survey(desk.home, os.environ)
        known = remembered(desk, found)
        hidden = [name for name in ("notes", EXPORTS) if not known.get(name, Known()).num_unreadable]
        rows = [(each, known.get(each.agent, Known())) for each in found if each.agent not in hidden]
        if NOBODY in known:
            rows.append((Surveyed(NOBODY, False, False, (), 0, 0, ()), known[NOBODY]))
        if as_json:
            terminal.say_json([{**dataclasses.asdict(each), **dataclasses.asdict(about)} for each, about in rows])
            return
        shown = [
            row
            for row in rows
            if everyone or row[0].num_sources or row[0].problems or row[1].num_sessions or row[1].num_unreadable
        ]
        for each, about in shown:
            for line in lines(each, about):
                terminal.say(line)
        if not shown:
            terminal.say("no agent has left a session here yet")
        if num_hidden := len(rows) - len(shown):
            terminal.say(f"{counted(num_hidden, 'more agent')} would be read, of whom nothing is here (--all)")

    app.command("agents", rich_help_panel=PANEL)(agents)


def remembered(desk: Desk, found: Sequence[Surveyed]) -> dict[str, Known]:
    """What the memory holds of each agent, and what of its files could not be understood.

    What was never read to its end has no source: it belongs to the agent in whose folder it lies, else to NOBODY.
    """
    main: Counter[str] = Counter()
    below: Counter[str] = Counter()
    for row in desk.ledger.threads():
        (below if row.thread.is_subagent else main)[row.thread.agent] += 1
    complaints: dict[str, Counter[str]] = {}
    for complaint in desk.ledger.unreadable():
        source = desk.ledger.source(complaint.path)
        agent = source.agent if source is not None else _whose(complaint.path, found)
        complaints.setdefault(agent, Counter())[complaint.problem] += 1
    return {
        agent: Known(
            main[agent],
            below[agent],
            _last_archived_ms(desk.home.archive / agent),
            sum(complaints.get(agent, {}).values()),
            tuple(
                f"{problem} ({number:,})" if number > 1 else problem
                for problem, number in complaints.get(agent, Counter()).most_common()
            ),
        )
        for agent in {*main, *below, *complaints}
    }


def _whose(path: str, found: Sequence[Surveyed]) -> str:
    """The agent in whose folder a file lies, the innermost one."""
    folders = [(folder, each.agent) for each in found for folder in each.folders if Path(path).is_relative_to(folder)]
    return max(folders, key=lambda pair: len(pair[0]))[1] if folders else NOBODY


def lines(found: Surveyed, known: Known) -> Iterable[str]:
    """One agent, for a person."""
    if found.agent == NOBODY:
        yield f"elsewhere       {_not_understood(known)}"
        return
    if not found.folders and known == Known() and not (found.num_sources or found.problems or found.is_excluded):
        yield f"{found.agent:<15} nothing here"
        return
    told = [counted(known.num_sessions, "session") + " remembered"]
    if known.num_subagents:
        told.append(counted(known.num_subagents, "sub-agent"))
    told.append(f"last read {moment(known.last_read_ms)}" if known.last_read_ms else "never read")
    if found.is_excluded:
        told.append("EXCLUDED by your settings")
    yield f"{found.agent:<15} {', '.join(told)}"
    where = ", ".join(plain_name(folder) for folder in found.folders)
    yield f"{'':<15} {counted(found.num_sources, 'session')} on disk{f': {where}' if where else ''}"
    for problem in found.problems[:_NUM_PROBLEMS_shown]:
        yield f"{'':<15} cannot be listed: {plain_name(problem)}"
    if known.num_unreadable:
        yield f"{'':<15} {_not_understood(known)}"
        if len(known.problems) > _NUM_PROBLEMS_shown:
            yield f"{'':<15} and {len(known.problems) - _NUM_PROBLEMS_shown:,} more kinds (`lmm doctor --json` lists all)"


def _not_understood(known: Known) -> str:
    return (
        f"{counted(known.num_unreadable, 'record')} not understood: {'; '.join(known.problems[:_NUM_PROBLEMS_shown])}"
    )


def _last_archived_ms(folder: Path) -> int:
    try:
        with os.scandir(folder) as entries:
            return max((entry.stat().st_mtime_ns // 1_000_000 for entry in entries), default=0)
    except OSError:
        return 0
