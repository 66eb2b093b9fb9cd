"""Lines in, the same lines out: beside a value that is known to have been replaced stands the one that holds.

Sessions themselves show what was replaced by what: a value that an edit puts in the place of another, a port or a version that
is told anew (`ingest/facts.py`). An older line that states the old value keeps its place, and goes on saying what else it says.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeVar

from lmm_mcp.domain.fact import Fact
from lmm_mcp.recall.found import Evidence
from lmm_mcp.store.terms import terms

_T = TypeVar("_T")
NUM_LOOKED_AT = 60
"""Lines at the head that are looked at."""
MAX_VALUE_chars = 60
_ATOM = re.compile(r"\w[\w.-]*")
_THOUSANDS = re.compile(r"(?<=\d)[_,](?=\d{3}(?!\d))")
_YEAR = re.compile(r"(?:19|20)\d\d")
_NUMBER = re.compile(r"\d[\d.]*")
_FEWEST_digits = 4
_FEWEST_chars = 6
_DULL = frozenset(
    terms(
        "const let var val def export import static public private final pub fn function class type string int float bool number true"
        " false none null default value values name names key id max min num config configuration settings setting options option"
        " src lib app main index test tests env from run set get new old use used for data file path text self this return command"
        " cmd args list item items object json yaml toml"
    )
)
"""Words of code that say nothing of what a value is about."""


@dataclass(frozen=True, slots=True)
class Change:
    """A value that another one replaced."""

    old: str
    new: str
    ended_ms: int
    """When the old value held no more."""
    from_ms: int
    until_ms: int
    """From when, and until when (0: still), the new value held: a third may have come between."""
    event_id: str
    """The message that replaced the old value."""
    about: frozenset[str]
    """Search terms of what it is the value of."""
    marks: frozenset[str]
    """By which the new value is known in a text, as `atoms` finds them; none where it holds nothing that the old one lacks."""

    def held_at(self, asked_ms: int | None) -> bool:
        """Whether the new value is the one that held then; None: now."""
        if asked_ms is None:
            return not self.until_ms
        return self.from_ms <= asked_ms and (not self.until_ms or asked_ms < self.until_ms)


Changes = Mapping[str, Sequence[Change]]
"""By what the old value is known by in a text, as `atoms` finds it."""


class KnowsChanges(Protocol):
    """What was replaced by what, by project."""

    def of(self, project: str) -> Changes:
        """The changes of one project. Fast: it is asked at every question."""
        ...


def known(facts: Iterable[Fact]) -> dict[str, list[Change]]:
    """What reconciled facts tell of values that were replaced."""
    by_id = {fact.id: fact for fact in facts}
    found: dict[str, list[Change]] = {}
    for fact in by_id.values():
        dull = _DULL | set(terms(fact.project.rsplit("/", 1)[-1]))
        about = frozenset(terms(f"{_without_endings(fact.subject)} {fact.relation}")) - dull
        for before, new in _successors(fact, by_id):
            gone, come = atoms(fact.value) - atoms(new.value), atoms(new.value) - atoms(fact.value)
            if not gone:
                continue
            was, now = set(terms(fact.value)), set(terms(new.value))
            by = _first(each for each in by_id[fact.superseded_by].evidence if each.at_ms == fact.until_ms)
            change = Change(
                old=fact.value,
                new=new.value,
                ended_ms=fact.until_ms,
                from_ms=before.until_ms,
                until_ms=new.until_ms,
                event_id=by.span.event_id if by is not None else "",
                about=frozenset(
                    each
                    for each in (about - (was ^ now)) | ((was & now) - dull)
                    if len(each) > 1 and not each.isdigit()
                ),
                marks=come,
            )
            for atom in gone:
                found.setdefault(atom, []).append(change)
    return found


def noted(
    ranked: Sequence[Evidence], held: KnowsChanges, asked: Collection[str] = (), *, asked_ms: int | None = None
) -> list[Evidence]:
    """Note beside each old value what replaced it.

    `asked`: the search terms of the question. `asked_ms`: as of when it is asked; None: now.
    """
    told = list(ranked)
    for at, line in enumerate(told[:NUM_LOOKED_AT]):
        changes = held.of(line.chunk.project)
        change = _of(line, changes, asked, asked_ms) if changes else None
        if change is not None:
            told[at] = replace(line, superseded=True, replaced=(_short(change.old), _short(change.new)))
    return told


def atoms(text: str) -> frozenset[str]:
    """What may be a value in a text, or a part of one, lower-cased.

    >>> sorted(atoms("http://localhost:8043, python:3.11-slim"))
    ['3.11', '3.11-slim', '8043', 'http', 'localhost', 'python', 'slim']
    """
    found = {each.rstrip(".-") for each in _ATOM.findall(_THOUSANDS.sub("", text.lower()))}
    return frozenset(found | {part for each in found if "-" in each for part in each.split("-") if part})


def known_by(atom: str) -> Literal["itself", "question", "line"]:
    """What must be about the same for a value to be taken for what it may be: nothing else where it is a name or a path, the
    question or the line where it is a long number, and the line where it is anything else.

    >>> [known_by(each) for each in ("api.tide.example", "ff.ticker-beta", "8043", "3.11", "wide-blue", "40", "2024", "amp")]
    ['itself', 'itself', 'question', 'question', 'question', 'line', 'line', 'line']
    """
    if _NUMBER.fullmatch(atom):
        return "question" if len(atom) >= _FEWEST_digits and not _YEAR.fullmatch(atom) else "line"
    if len(atom) < _FEWEST_chars or not re.search(r"\w[._-]\w|\d", atom):
        return "line"
    return "itself" if re.search(r"[._\d]", atom) else "question"


def _of(line: Evidence, changes: Changes, asked: Collection[str], asked_ms: int | None) -> Change | None:
    """The change that makes a line old, None where nothing does."""
    stated = atoms(line.text)
    for atom in sorted(stated & changes.keys()):
        for change in changes[atom]:
            if (
                change.held_at(asked_ms)
                and change.marks.isdisjoint(stated)
                and _is_before(line, change)
                and _is_about(change, atom, line, asked)
            ):
                return change
    return None


def _is_before(line: Evidence, change: Change) -> bool:
    """Whether a line was said before the change, or is what the change took away."""
    if line.chunk.last_ms < change.ended_ms:
        return True
    at = _first(n for n, each in enumerate(line.chunk.lines) if each.span.event_id == change.event_id)
    if at is None:
        return False
    is_taken_away = line.line.span.event_id == change.event_id and line.line.text.lstrip().startswith("-")
    return line.number < at or is_taken_away


def _is_about(change: Change, atom: str, line: Evidence, asked: Collection[str]) -> bool:
    known = known_by(atom)
    if known == "itself" or (known == "question" and not change.about.isdisjoint(asked)):
        return True
    return not change.about.isdisjoint(terms(line.text))


def _successors(fact: Fact, by_id: Mapping[str, Fact]) -> Iterator[tuple[Fact, Fact]]:
    """What held after a fact, one after another, each behind the one that it replaced; none once the same value holds again."""
    seen = {fact.id}
    old, new = fact, by_id.get(fact.superseded_by)
    while new is not None and new.id not in seen and _is_linked(old, new):
        yield old, new
        seen.add(new.id)
        old, new = new, by_id.get(new.superseded_by)


def _is_linked(old: Fact, new: Fact) -> bool:
    """Whether one is known to have replaced the other: of two edits of one name, nobody knows whether they mean the same."""
    at_once = {each.span.event_id for each in old.evidence} & {each.span.event_id for each in new.evidence}
    return old.relation != "setting" or bool(at_once)


def _without_endings(subject: str) -> str:
    """A subject without the endings of file names in it."""
    return re.sub(r"(?<=\w)\.[A-Za-z]{1,5}(?=[:\s]|$)", "", subject)


def _short(value: str) -> str:
    return value if len(value) <= MAX_VALUE_chars else value[: MAX_VALUE_chars - 2] + " …"


def _first(found: Iterable[_T]) -> _T | None:
    return next(iter(found), None)
