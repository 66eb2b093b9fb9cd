"""Every agent that can be connected, and the two things that are done with it: connecting and taking back.

The trace is on the disk before the first file is changed, and goes after the last one was: whatever dies in between,
`lmm install` completes and `lmm uninstall` takes back.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path

from lmm_mcp.errors import BadInput, ConfigError
from lmm_mcp.integrations import files, traces
from lmm_mcp.integrations.claude_code import ClaudeCode
from lmm_mcp.integrations.codex import Codex
from lmm_mcp.integrations.contract import Change, Integration, Program

ALL: tuple[Integration, ...] = (ClaudeCode(), Codex())
TRACES = "connected.json"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done with one agent."""

    agent: Integration
    changes: tuple[Change, ...]

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to be done."""
        return all(change.is_none for change in self.changes)


def named(names: Sequence[str]) -> list[Integration]:
    """The agents of these names, each once. Raises BadInput that lists those there are."""
    known = {agent.name: agent for agent in ALL}
    wanted = [name.strip().lower().replace("_", "-").replace(" ", "-") for name in names]
    if unknown := [name for name, plain in zip(names, wanted, strict=True) if plain not in known]:
        raise BadInput(f"{', '.join(map(repr, unknown))} cannot be connected; those that can are {', '.join(known)}.")
    return [known[name] for name in dict.fromkeys(wanted)]


def found(env: Mapping[str, str]) -> list[Integration]:
    """The agents that have a configuration folder on this machine."""
    return [agent for agent in ALL if agent.folder(env).is_dir()]


def connecting(
    agents: Iterable[Integration], env: Mapping[str, str], program: Program, home: Path, *, force: bool = False
) -> list[Plan]:
    """What connecting writes. Raises ConfigError; nothing is written then."""
    known = traces.load(home / TRACES)
    return [Plan(agent, tuple(agent.connect(env, program, known, force=force))) for agent in agents]


def disconnecting(agents: Iterable[Integration], env: Mapping[str, str], home: Path) -> list[Plan]:
    """What taking back writes. Raises ConfigError; nothing is written then."""
    known = traces.load(home / TRACES)
    return [Plan(agent, tuple(agent.disconnect(env, known))) for agent in agents]


def connect(plan: Plan, home: Path) -> None:
    """Carry out what `connecting` planned. Raises ConfigError."""
    if plan.is_done:
        return
    new = {str(change.path): change.trace for change in plan.changes if not change.is_none}
    traces.save(home / TRACES, traces.load(home / TRACES) | new)
    _write(plan.changes)


def disconnect(plan: Plan, home: Path) -> None:
    """Carry out what `disconnecting` planned. Raises ConfigError."""
    _write(plan.changes)
    left = traces.load(home / TRACES)
    for change in plan.changes:
        left.pop(str(change.path), None)
    if (home / TRACES).exists():
        traces.save(home / TRACES, left)


def diff_of(change: Change) -> str:
    """The change as people read it: a few lines around what differs."""
    old, new = (files.decoded(change.path, data)[0].splitlines(keepends=True) for data in (change.before, change.after))
    was, will_be = (str(change.path) if data is not None else "/dev/null" for data in (change.before, change.after))
    lines = unified_diff(old, new, was, will_be, n=2)
    return "".join(
        line if line.endswith("\n") else line + "\n\\ no line end at the end of the file\n" for line in lines
    )


def _write(changes: Sequence[Change]) -> None:
    done: list[str] = []
    for change in changes:
        if change.is_none:
            continue
        try:
            files.write(change)
        except ConfigError as problem:
            if done:
                raise ConfigError(f"{problem} Written so far: {', '.join(done)}.") from problem
            raise
        done.append(str(change.path))
