"""The command that shows what was derived from sessions: facts, with who said them and when."""

import dataclasses
import os
from collections.abc import Iterable
from typing import Annotated

import typer

from lmm_mcp import children
from lmm_mcp.cli import terminal
from lmm_mcp.cli.asking import AS_JSON, PANEL, Project
from lmm_mcp.domain.fact import CATEGORIES, Fact
from lmm_mcp.domain.fence import fenced
from lmm_mcp.domain.quoting import plain_name
from lmm_mcp.domain.wording import counted
from lmm_mcp.errors import BadInput
from lmm_mcp.server.expand import moment

_MAX_TEXT_chars = 300
_BY = {
    "command": "seen to work",
    "output": "printed",
    "error": "seen to work",
    "edit": "seen to work",
    "file": "a file",
}
"""Who said it, for roles that are no speakers."""


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("facts", rich_help_panel=PANEL)(facts)


def facts(
    project: Project = None,
    category: Annotated[
        str | None, typer.Option("--category", "-c", help=f"Only these: {', '.join(CATEGORIES)}.", show_default=False)
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="Derive what is new in the archive before.")] = False,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Show what sessions say about a project: each fact with who said it and when; what was replaced is marked.

    Facts are derived by plain rules, without a model, while an agent is connected and nothing else is waiting.

    [dim]lmm facts --category decision[/]
    """
    wanted = _category(category)
    desk = terminal.desk()
    if now:
        children.derive(desk.home, os.environ)
    from lmm_mcp.store.facts import FactStore  # loads SQLite

    store = FactStore.open(desk.home.facts)
    try:
        found = [each for each in store.facts(desk.asker(project).project) if wanted in (None, each.category)]
        is_empty = not store.num_derived()
    finally:
        store.close()
    if as_json:
        terminal.say_json([_shape(each) for each in found])
    elif not found:
        more = "; nothing was derived yet, `lmm facts --now` does it" if is_empty else ""
        terminal.say(f"no facts of that kind are known{more}")
    else:
        text = "\n".join(_lines(found))
        terminal.say(text if terminal.is_watched() else fenced(text))


def _category(named: str | None) -> str | None:
    """The category that is meant, by its beginning. Raises BadInput."""
    if named is None:
        return None
    meant = [each for each in CATEGORIES if named.strip() and each.startswith(named.strip().lower())]
    if len(meant) != 1:
        raise BadInput(f"{plain_name(named)!r} is no category; write one of: {', '.join(CATEGORIES)}.")
    return meant[0]


def _lines(found: Iterable[Fact]) -> list[str]:
    by_project: dict[str, list[Fact]] = {}
    for each in found:
        by_project.setdefault(each.project, []).append(each)
    told: list[str] = []
    for project, facts in by_project.items():
        told.append(f"{plain_name(project) or '(no project)'}: {counted(len(facts), 'fact')}")
        for category in CATEGORIES:
            some = [each for each in facts if each.category == category]
            told += [f"  {category}", *map(_line, some)] if some else []
    return told


def _line(fact: Fact) -> str:
    newest = fact.evidence[-1]
    whose = ", ".join(dict.fromkeys(_BY.get(each.role, each.role) for each in reversed(fact.evidence)))
    about = [whose, moment(newest.at_ms)[:10] if newest.at_ms else "undated"]
    if fact.num_sessions > 1:
        about.append(counted(fact.num_sessions, "session"))
    if not fact.holds:
        about.append(f"replaced {moment(fact.until_ms)[:10]}" if fact.until_ms > 1 else "replaced")
    sign = "-" if fact.holds else "x"
    return f"    {sign} {plain_name(fact.text, _MAX_TEXT_chars)}  [{'; '.join(about)}]"


def _shape(fact: Fact) -> dict[str, object]:
    return {
        "id": fact.id,
        **dataclasses.asdict(fact),
        "key": list(fact.key),
        "holds": fact.holds,
        "num_sessions": fact.num_sessions,
    }
