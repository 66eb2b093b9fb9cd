"""What each part of recall is worth on somebody's own questions, and which had better be left out. Decided twice.

One sample that chooses among many parts and then reports them flatters whatever it has chosen. So the sessions are dealt into
two halves; a part is proposed to go only where it pays in both, each by itself and for the same figure, and what it gains is
told on the half that had no say in choosing it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from lmm_mcp.evaluation import history
from lmm_mcp.evaluation.runs import Difference, Row, Run, difference

MIN_TO_FIT = 50
"""Fewer questions decide nothing about a part of recall; half of them must lie in each half."""
MIN_SESSIONS = 8
"""Of each half: intervals drawn over fewer are too narrow."""
UNJUDGED: Mapping[str, str] = {
    "confidence": "its worth is silence where nothing is known, which these questions do not ask for",
    "weak": "its worth is that nothing else is told, which these questions do not see",
    "changes": "its worth is that no old value is taken for the one that holds, which these questions do not see",
    "supersession": "its worth is that no old value is taken for the one that holds, which these questions do not see",
}
"""Parts of recall that are never proposed to be left out, since this ruler does not see what they are for."""
ONE_HALF = "it would pay in one half of your sessions, but not in the other"
NOT_TOGETHER = "it pays alone, but not together with the other one"


@dataclass(frozen=True, slots=True)
class Worth:
    """What a part of recall is worth here: recall without it minus recall with it, one figure for each budget."""

    part: str
    gain: tuple[Difference, ...]
    """On the half that decides first; on all questions where they are too few for halves."""
    held_out: tuple[Difference, ...]
    """On the other half; none where there are no halves."""
    proposed: bool
    """Left out, recall tells more of what was needed: in both halves the interval of one figure lies above 0, none below."""
    why_not: str
    """Why it is not proposed although it might be, '' where the figures decide."""


def fit(parts: Iterable[str], run_without: Callable[[Sequence[str]], Run]) -> list[Worth]:
    """Judge every part by asking the same questions without it. `run_without`: asks all of them with these parts left out."""
    whole = run_without(())
    found = [worth(part, whole, run_without((part,))) for part in parts]
    proposed = [each for each in found if each.proposed]
    names = tuple(each.part for each in proposed)
    if len(proposed) > 1 and not worth(" ".join(names), whole, run_without(names)).proposed:
        # Together they do not pay: two parts may do each other's work. The best one alone does.
        best = max(proposed, key=lambda each: each.gain[0].difference.value).part
        found = [
            each if not each.proposed or each.part == best else replace(each, proposed=False, why_not=NOT_TOGETHER)
            for each in found
        ]
    return found


def worth(part: str, whole: Run, without: Run) -> Worth:
    """Judge a part by two runs over the same questions."""
    dealt = halves(whole.rows)
    too_few = _too_few(dealt, whole.rows)
    if too_few:
        gain = tuple(difference(whole, without))
        return Worth(part, gain, (), False, UNJUDGED.get(part, too_few) if _paying(gain) else "")
    gain, held_out = (tuple(difference(_only(whole, ids), _only(without, ids))) for ids in dealt)
    first, second = _paying(gain), _paying(held_out)
    if not first & second:
        return Worth(part, gain, held_out, False, ONE_HALF if first or second else "")
    why_not = UNJUDGED.get(part, "")
    return Worth(part, gain, held_out, not why_not, why_not)


def halves(rows: Iterable[Row]) -> tuple[frozenset[str], frozenset[str]]:
    """Deal questions into two halves, whole sessions at a time, as even as they come; the same ones every time.

    >>> sorted(map(len, halves([Row("q1", unit="a"), Row("q2", unit="a"), Row("q3", unit="b"), Row("q4", unit="c")])))
    [2, 2]
    """
    asked_in: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        asked_in[row.unit or row.id].append(row.id)
    first: set[str] = set()
    second: set[str] = set()
    for unit in sorted(asked_in, key=lambda unit: (-len(asked_in[unit]), history.lot(unit))):
        min(first, second, key=len).update(asked_in[unit])
    return frozenset(first), frozenset(second)


def _too_few(dealt: Sequence[frozenset[str]], rows: Sequence[Row]) -> str:
    if min(map(len, dealt)) < MIN_TO_FIT // 2:
        return f"{len(rows)} questions are too few to decide, {MIN_TO_FIT} are needed, half of them in each half of your sessions"
    sessions = min(len({row.unit or row.id for row in rows if row.id in ids}) for ids in dealt)
    if sessions < MIN_SESSIONS:
        return f"they come from too few sessions to decide, {2 * MIN_SESSIONS} are needed"
    return ""


def _paying(gain: Iterable[Difference]) -> set[str]:
    """The figures that are surely better, unless one is surely worse."""
    gain = list(gain)
    is_worse = any(each.difference.high < 0 for each in gain)
    return set() if is_worse else {each.figure for each in gain if each.difference.low > 0}


def _only(run: Run, ids: frozenset[str]) -> Run:
    return replace(run, rows=tuple(row for row in run.rows if row.id in ids))
