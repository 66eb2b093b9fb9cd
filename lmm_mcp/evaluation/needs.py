"""What somebody's next steps needed and the memory could have told: files, commands and names that were used later, and
stood in the memory before. Found by form alone, no model; none of it stands in the question itself.
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from lmm_mcp.domain.event import Event
from lmm_mcp.domain.fence import without_fenced
from lmm_mcp.evaluation import history
from lmm_mcp.evaluation.history import Act
from lmm_mcp.recall.habits import plain_command

MAX_NAMES = 4
"""Of one question, those used most and told least often; files and commands come beside them."""
MAX_FILES = 8
MAX_COMMANDS = 4
MAX_SHARE_of_events = 0.05
"""A name that stands in more of the project's events is no news to anybody."""
MIN_COMMON_events = 5
MAX_TEXT_chars = 200_000
"""Of one event: what is longer was generated."""
_WORD = re.compile(
    r"(?<![\w$-])[A-Za-z_]\w{4,60}|(?:(?<=[:=])|(?<=[:=] )|(?<=port ))\d{4,5}(?![\w.])|\bv?\d+\.\d+\.\d+\b"
)
_TELLING = re.compile(r"[a-z][A-Z]|[A-Za-z0-9]_[A-Za-z0-9]|\d")
_NO_NAME = re.compile(r"^(?:[0-9a-f]{6,}|(?:19|20)\d\d|[A-Za-z]?\d{6,})$", re.IGNORECASE)
"""Hashes, years, large numbers."""


@dataclass(frozen=True, slots=True)
class Used:
    """What some acts used: candidates for what was needed."""

    files: tuple[str, ...]
    """As they lie in the project."""
    commands: tuple[str, ...]
    names: Mapping[str, int]
    """How often each was used."""


@dataclass(slots=True)
class Known:
    """What the memory of one project held at a time."""

    files: set[str] = field(default_factory=set)
    commands: set[str] = field(default_factory=set)
    names: Counter[str] = field(default_factory=Counter)
    """In how many events each stands."""
    num_events: int = 0

    def learn(self, event: Event, cwd: str, folders: Collection[str], wanted: Collection[str]) -> None:
        """Take in an event. Of names only the `wanted` ones are counted."""
        self.num_events += 1
        if event.kind == "call":
            found = (history.in_project(path, event.cwd or cwd, tuple(folders)) for path in event.paths)
            self.files.update(file for file in found if file)
            if command := plain_command(event.command):
                self.commands.add(command)
        text = without_fenced(event.text[:MAX_TEXT_chars])
        self.names.update(set(_WORD.findall(text)).intersection(wanted))


def used(acts: Iterable[Act]) -> Used:
    """What the acts that did not fail used."""
    files: dict[str, None] = {}
    commands: dict[str, None] = {}
    names: Counter[str] = Counter()
    for act in acts:
        if act.worked is False:
            continue
        files.update(dict.fromkeys(act.files))
        if command := plain_command(act.command):
            commands[command] = None
            names.update(names_in(command))
        elif act.files:
            names.update(names_in(added(act.text[:MAX_TEXT_chars])))
    return Used(tuple(files), tuple(commands), names)


def names_in(text: str) -> list[str]:
    """Names that say something by themselves: identifiers of several parts, ports, versions.

    >>> names_in("set till_port = 5433 in the config, with --dry-run and TillConfig from deadbeef99")
    ['till_port', '5433', 'TillConfig']
    """
    return [word for word in _WORD.findall(text) if _TELLING.search(word) and not _NO_NAME.search(word)]


def added(text: str) -> str:
    """Of a change what came; of a file written all of it.

    >>> added("till.py@-port = 80@+port = 8080".replace("@", chr(10)))
    'port = 8080'
    """
    lines = text.splitlines()
    came = [line[1:] for line in lines if line.startswith("+") and not line.startswith("+++")]
    if came or any(line.startswith("-") for line in lines):
        return "\n".join(came)
    return text


def needed(question: str, use: Used, known: Known, names: Mapping[str, str]) -> tuple[str, ...]:
    """What was used, known before and not said by the question itself. `names`: how each file must be named."""
    files = [names.get(file, file) for file in use.files if file in known.files][:MAX_FILES]
    commands = [command for command in use.commands if command in known.commands][:MAX_COMMANDS]
    taken = " ".join((*files, *commands))
    most = max(MIN_COMMON_events, MAX_SHARE_of_events * known.num_events)
    weight = {
        name: num * math.log(1 + known.num_events / known.names[name])
        for name, num in use.names.items()
        if 0 < known.names[name] <= most and not history.stands_in(name, taken)
    }
    told_least = sorted(weight, key=lambda name: (-weight[name], name))
    unsaid = [name for name in told_least if not history.stands_in(name, question)][:MAX_NAMES]
    done = [item for item in (*files, *commands) if not history.stands_in(item, question)]
    return tuple(dict.fromkeys((*done, *unsaid)))


def share(items: Collection[str], text: str) -> float:
    """Share of the items that stand in `text`, 0 to 1."""
    return sum(history.stands_in(item, text) for item in items) / len(items)
