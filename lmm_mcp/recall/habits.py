"""Commands that work in a project: run more than once, with success, and not merely to look around."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from lmm_mcp.domain.event import Event

MAX_COMMAND_chars = 160
MIN_TIMES = 2
_LOOKING = frozenset(
    """ls ll cat bat head tail less more wc pwd cd echo printf grep egrep rg ag find fd which type file stat du df tree
    sed awk cut sort uniq tr jq diff cmp sleep true false test [ mkdir rm rmdir cp mv touch chmod chown ln kill pkill ps
    top date whoami env export set unset history clear man help open code vim nano exit wait lsof""".split()
)
_LOOKING_VERBS = frozenset("status diff log show list ls view get describe capture logs --version --help -h -v".split())
_GIT_STEPS = frozenset(
    "add commit branch checkout switch stash reset restore rev-parse remote fetch pull push blame ls-files worktree".split()
)
"""Git's everyday steps: what they did is another matter, that they work is known."""
_AROUND = re.compile(
    r"^(?:cd\s+\S+\s*(?:&&|;)\s*)+|\s*(?:2>&1|>\s*/dev/null|\|\s*(?:tail|head|grep|tee|less|cat|wc)\b[^|;&]*)+\s*$"
)
_VARIABLES = re.compile(r"^(?:[A-Z_][A-Z0-9_]*=\S*\s+)+")


@dataclass(frozen=True, slots=True)
class Failure:
    """A command whose last run failed."""

    line: str
    event: Event
    outcome: str
    """`exit 1`, or `failed` where the agent does not say more."""


def plain_command(command: str) -> str:
    """The command by itself: without changing folders first and cutting its output; '' for one that only looks around.

    >>> plain_command("cd shop && uv run pytest -q 2>&1 | tail -5"), plain_command("git status"), plain_command("ls -la")
    ('uv run pytest -q', '', '')
    """
    command = command.strip()
    if "\n" in command or len(command) > 3 * MAX_COMMAND_chars:
        return ""
    line = _AROUND.sub("", _AROUND.sub("", command))
    if not line or len(line) > MAX_COMMAND_chars:
        return ""
    words = _VARIABLES.sub("", line).split()
    if not words:
        return ""
    name = words[0].rsplit("/", 1)[-1]
    if name in _LOOKING or _LOOKING_VERBS & set(words[1:4]):
        return ""
    if name == "git" and _GIT_STEPS & set(words[1:4]):
        return ""
    return "" if name.startswith("python") and words[1:2] in (["-c"], ["-"]) else " ".join(line.split())


def outcome_of(result: Event | None) -> bool | None:
    """Whether a command succeeded; None where that cannot be told."""
    if result is None:
        return None
    if result.exit_code is not None:
        return result.exit_code == 0
    return None if result.failed is None else not result.failed


def runs(events: Iterable[Event]) -> list[tuple[str, Event, Event | None]]:
    """Every command that is more than looking around, with its call and its result, in order."""
    events = list(events)
    results = {event.call_id: event for event in events if event.kind == "result" and event.call_id}
    return [
        (line, event, results.get(event.call_id))
        for event in events
        if event.kind == "call" and event.command and (line := plain_command(event.command))
    ]


def last_failure(events: Iterable[Event]) -> Failure | None:
    """The last command of a session, if it failed and did not succeed after that."""
    for line, call, result in reversed(runs(events)):
        match outcome_of(result):
            case False:
                code = result.exit_code if result is not None else None
                return Failure(line, call, "failed" if code is None else f"exit {code}")
            case True:
                return None
    return None
