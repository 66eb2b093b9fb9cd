"""What was said in sessions, counted twice: once by scanners that know records and ids, once in what the archive holds.

The scanners share no code with the readers. They say who spoke, under which of the agent's own ids, and which words; a message
that several files repeat has one id and counts once. What has no id is told from others by its words and counts as often as it
is said.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from lmm_mcp.domain.event import Event
from lmm_mcp.redaction import redact

Role = Literal["prompt", "reply", "call", "result"]
ROLES: tuple[Role, ...] = ("prompt", "reply", "call", "result")


@dataclass(frozen=True)
class Said:
    """One thing that somebody said or did, as its record has it."""

    role: Role
    key: str = ""
    """The agent's own id, which an event must carry; '' where there is none."""
    text: str = ""
    """prompt, reply: the words. call, result: nothing where there is a key, else the tool or the output."""
    unit: str = ""
    """What else tells it from others of the same key, or, without a key, from a copy of itself in another file."""
    noise: str = ""
    """Why it says nothing that is to be kept; '' where it does."""


@dataclass
class Tally:
    """One agent's messages by both counts."""

    num: Counter[str] = field(default_factory=Counter)
    """Messages by the independent count, by role."""
    noise: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    """Messages of which the archive has other words."""

    @property
    def is_exact(self) -> bool:
        return not (self.lost or self.doubled or self.invented or self.changed)


def tally(said: Iterable[Said], archived: Iterable[tuple[str, Event]]) -> Tally:
    """Compare what the scanners found with the archive, given as (thread id, event). Names in the answer are hashes or ids."""
    found = Tally()
    keyed: dict[tuple[Role, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    loose: Counter[tuple[Role, str]] = Counter()
    silent: dict[tuple[Role, str, str], str] = {}
    units: set[tuple[Role, str]] = set()
    for number, each in enumerate(said):
        if each.noise:
            silent[each.role, each.key, each.unit or ("" if each.key else str(number))] = each.noise
        elif each.key:
            keyed[each.role, each.key][each.unit].add(mark(each.text))
        elif not each.unit or (each.role, each.unit) not in units:
            units.add((each.role, each.unit))
            loose[each.role, mark(each.text)] += 1
    # A message that says something anywhere is none of the noise.
    found.noise.update(why for (role, key, unit), why in silent.items() if unit not in keyed.get((role, key), {}))
    for role, _ in loose:
        found.num[role] += loose[role, _]
    for (role, _), parts in keyed.items():
        found.num[role] += len(parts)
    known = {role: {key for its_role, key in keyed if its_role == role} for role in ROLES}
    told: dict[tuple[Role, str], list[Event]] = defaultdict(list)
    ids: Counter[str] = Counter()
    for _, event in archived:
        if event.kind not in ROLES:
            continue
        ids[event.id] += 1
        name = event.call_id if event.kind in ("call", "result") else event.id
        key = next((form for form in forms(name) if form in known[event.kind]), None)
        if key is not None:
            told[event.kind, key].append(event)
            continue
        words = mark(words_of(event))
        if loose[event.kind, words] > 0:
            loose[event.kind, words] -= 1
        else:
            found.invented.append(f"{event.kind} {event.id}")
    found.doubled += [name for name, num in ids.items() if num > 1]
    found.lost += [f"{role} without id {words}" for (role, words), num in loose.items() for _ in range(num)]
    for (role, key), parts in keyed.items():
        events = told[role, key]
        found.lost += [f"{role} {key}"] * max(0, len(parts) - len(events))
        found.doubled += [f"{role} {key}"] * max(0, len(events) - len(parts))
        if role in ("prompt", "reply") and len(events) == len(parts):
            wanted = list(parts.values())
            if not _fits([mark(event.text) for event in events], wanted):
                found.changed.append(f"{role} {key}")
    return found


def _fits(marks: list[str], wanted: list[set[str]]) -> bool:
    """Whether each mark is one of those of its own unit, in whatever order; units are few."""
    left = list(wanted)
    for each in marks:
        match = next((texts for texts in left if each in texts), None)
        if match is None:
            return False
        left.remove(match)
    return True


def words_of(event: Event) -> str:
    """By what an event without an id is told: its words; a call by its tool."""
    return event.tool if event.kind == "call" else event.text


def mark(text: str) -> str:
    """A hash of the words, whatever blanks stand between them, as they are when secrets are cut out."""
    return hashlib.blake2b("".join(redact(text).split()).encode("utf-8", "replace"), digest_size=8).hexdigest()


def forms(name: str) -> Iterator[str]:
    """What an event's id may be made of: the agent's id, with a session before it or a number behind it.

    >>> list(forms("s1:call_0.2"))[:3]
    ['s1:call_0.2', 'call_0.2', 's1:call_0']
    """
    heads = [name, *(name.partition(sign)[0] for sign in "#@" if sign in name)]
    for head in heads:
        yield head
        yield from (head.rpartition(sign)[2] for sign in ":/" if sign in head)
        stem, dot, number = head.rpartition(".")
        if dot and number.isdecimal():
            yield stem
            yield from (stem.rpartition(sign)[2] for sign in ":/" if sign in stem)
        if ":" in head:
            yield head.partition(":")[0]
