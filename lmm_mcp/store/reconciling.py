"""Observations in, facts out: what several sessions say alike is one fact, and of what cannot hold together the newer holds.

An observation is a `Fact` that one session supports. Reconciling is pure and done whenever facts are asked for, so whatever
is forgotten is as if it had never been said: another session's evidence stands, and what it had replaced holds again.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from lmm_mcp.domain.fact import Evidence, Fact
from lmm_mcp.domain.relations import EXCLUDED_BY_AVOIDING, RELATIONS, trust_in

_DOUBT = {4: 0.2, 3: 0.3, 2: 0.35, 1: 0.5}
"""By trust: the probability that what one session says is wrong. Sessions count, not mentions: a session repeats itself."""
MAX_CONFIDENCE = 0.99


@dataclass(slots=True)
class _Told:
    """One mention of one fact."""

    at_ms: int
    trust: int
    fact_id: str
    place: tuple[str, int] = ("", 0)
    """Within what was said at once: an edit tells what goes before what comes."""


def reconcile(observations: Iterable[Fact]) -> list[Fact]:
    """All facts of these observations, those that were replaced too, by project, relation, subject and time."""
    facts = _merged(observations)
    rivals: dict[tuple[str, ...], list[Fact]] = defaultdict(list)
    for fact in facts.values():
        relation = RELATIONS.get(fact.relation)
        if relation is not None and relation.is_functional:
            rivals["=", *fact.key].append(fact)
        if fact.relation == "avoids" or fact.relation in EXCLUDED_BY_AVOIDING:
            rivals["!", fact.project, fact.value.casefold()].append(fact)
    for name, group in rivals.items():
        if name[0] == "=" and len(group) > 1:
            _settle(group, facts)
    for name, group in rivals.items():
        if name[0] == "!" and len({fact.relation == "avoids" for fact in group}) > 1:
            _settle_avoidance(group, facts)
    return sorted(facts.values(), key=lambda each: (*each.key, each.from_ms, each.value))


def _merged(observations: Iterable[Fact]) -> dict[str, Fact]:
    same: dict[str, list[Fact]] = defaultdict(list)
    for each in observations:
        same[each.id].append(each)
    return {name: _one(group) for name, group in same.items()}


def _one(group: Sequence[Fact]) -> Fact:
    evidence = tuple(sorted({each for fact in group for each in fact.evidence}, key=_order))
    doubt: dict[tuple[str, str], float] = {}
    for each in evidence:
        session = (each.agent, each.session_id)
        doubt[session] = min(doubt.get(session, 1.0), _DOUBT[trust_in(each.role)])
    times = [each.at_ms for each in evidence if each.at_ms]
    return replace(
        group[0],
        evidence=evidence,
        from_ms=min(times, default=0),
        until_ms=0,
        superseded_by="",
        confidence=min(MAX_CONFIDENCE, 1.0 - math.prod(doubt.values())),
    )


def _settle(group: Sequence[Fact], facts: dict[str, Fact]) -> None:
    """Of facts that cannot hold together let the one hold that was said last by somebody at least as trusted."""
    held: _Told | None = None
    for told in _mentions(group):
        if held is None or told.fact_id == held.fact_id:
            trust = told.trust if held is None else max(held.trust, told.trust)
            held = _Told(told.at_ms, trust, told.fact_id)
        elif told.trust >= held.trust:
            _end(held.fact_id, told, facts)
            _revive(told.fact_id, facts)
            held = told
        elif facts[told.fact_id].holds:  # said by somebody less trusted: it never held
            _end(told.fact_id, _Told(told.at_ms, 0, held.fact_id), facts)


def _settle_avoidance(group: Sequence[Fact], facts: dict[str, Fact]) -> None:
    """Let `avoids X` end whatever uses X, or a later use end the avoidance; the uses among each other may all hold."""
    avoided = next(fact for fact in group if fact.relation == "avoids")
    for use in group:
        if use is not avoided and facts[use.id].holds:
            _settle([avoided, use], facts)


def _mentions(group: Iterable[Fact]) -> list[_Told]:
    told = [
        _Told(each.at_ms, trust_in(each.role), fact.id, (each.span.event_id, each.span.start))
        for fact in group
        for each in fact.evidence
    ]
    return sorted(told, key=lambda each: (each.at_ms, each.trust, each.place, each.fact_id))


def _end(fact_id: str, by: _Told, facts: dict[str, Fact]) -> None:
    # Undated evidence replaces, too; 1 is the first moment there is.
    facts[fact_id] = replace(facts[fact_id], until_ms=max(by.at_ms, 1), superseded_by=by.fact_id)


def _revive(fact_id: str, facts: dict[str, Fact]) -> None:
    facts[fact_id] = replace(facts[fact_id], until_ms=0, superseded_by="")


def _order(each: Evidence) -> tuple[int, str, str, str, int]:
    return each.at_ms, each.agent, each.thread_id, each.span.event_id, each.span.start
