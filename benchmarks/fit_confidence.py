"""Choose below which score recall keeps silent, and tell what that is worth on projects it was not chosen on.

    python benchmarks/fit_confidence.py MEMORY_HOME QUESTIONS... --unknown MEMORY_HOME QUESTIONS...

The first memory holds the answers to its questions, or to most; the second to none of its own. A threshold is the highest one by which
at most 3 % (`--mute`) of the answerable questions are left unanswered. Each project in turn is judged by the threshold of the others:
`mute` is the share of answerable questions left unanswered, `quiet` that of the others rightly left so. One table for each
kind of memory: with the vectors of windows, with those of whole passages alone, and by words alone.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmm_mcp.domain.recall import DEFAULT_BUDGET_tokens
from lmm_mcp.evaluation import questions, runs
from lmm_mcp.paths import Home
from lmm_mcp.recall import confidence
from lmm_mcp.server.desk import Desk

MAX_MUTE = 0.03
"""So that projects on which nothing was chosen stay below 5 %."""
KINDS = {"windows": frozenset[str](), "whole passages": frozenset({"windows"}), "words": frozenset({"vectors"})}
NOW = {
    "windows": confidence.MIN_SCORE,
    "whole passages": confidence.MIN_SCORE,
    "words": confidence.MIN_SCORE_WORDS,
}


@dataclass(frozen=True, slots=True)
class Case:
    """One question with what silence is decided by."""

    project: str
    is_answerable: bool
    score: float
    """Of its best line; -1 where the other rules leave it unanswered anyway."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("known", nargs="+", type=Path, help="a memory home, and question files about it")
    parser.add_argument("--unknown", nargs="+", type=Path, default=(), help="one that holds no answer to its questions")
    parser.add_argument(
        "--mute", type=float, default=MAX_MUTE, help="share of answerable questions that may stay unanswered"
    )
    parser.add_argument(
        "--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="kinds of memory, all if none is named"
    )
    given = parser.parse_args()
    for kind in given.kinds:
        without = KINDS[kind]
        cases = [each for place in (given.known, given.unknown) if place for each in looked_up(place, without)]
        show(kind, cases, given.mute)
    return 0


def looked_up(place: Sequence[Path], without: frozenset[str]) -> Iterator[Case]:
    """Every judged question with the score of its best line."""
    desk = Desk(Home(place[0]), dict(os.environ))
    for asked in questions.read(place[1:]):
        if asked.key is None:
            continue
        desk.cwd = asked.project or ""
        recaller = desk.holdings.recaller(tuple(without))
        if recaller is None:
            sys.exit(f"{place[0]} holds no memory; make one with `lmm import`.")
        question = desk.question(asked.question, until=asked.asked_at)
        search = recaller.search(question)
        lines = search.lines(budget_tokens=DEFAULT_BUDGET_tokens)
        is_told = confidence.says_anything(search.query, search.candidates, search.chunks)
        best = max((each.score for each in lines), default=-1.0)
        if search.first or search.listed:
            best = float("inf")  # told whatever its score
        name = (question.project or asked.project or "").rsplit("/", 1)[-1]
        yield Case(name, bool(asked.key.answers), best if is_told or best == float("inf") else -1.0)


def chosen(cases: Sequence[Case], max_mute: float) -> float:
    """The highest threshold that leaves at most this share of the answerable questions unanswered."""
    scores = sorted(case.score for case in cases if case.is_answerable)
    return max(0.0, scores[int(max_mute * len(scores))]) if scores else 0.0


def show(kind: str, cases: Sequence[Case], max_mute: float) -> None:
    """What the threshold of the code gives, one chosen on all, and those chosen on the other projects."""
    projects = sorted({case.project for case in cases})
    of_others = {name: chosen([case for case in cases if case.project != name], max_mute) for name in projects}
    now, best = NOW[kind], chosen(cases, max_mute)
    print(f"{kind}: {len(cases)} questions, {len(projects)} projects")
    _row(f"as it is in the code, {now:.2f}", cases, dict.fromkeys(projects, now))
    _row(f"chosen on all, {best:.2f}", cases, dict.fromkeys(projects, best))
    low, high = min(of_others.values()), max(of_others.values())
    _row(f"chosen on other projects, {low:.2f} to {high:.2f}", cases, of_others)


def _row(label: str, cases: Sequence[Case], floors: dict[str, float]) -> None:
    told = []
    for name, is_answerable in (("mute", True), ("quiet", False)):
        silent = [float(case.score < floors[case.project]) for case in cases if case.is_answerable is is_answerable]
        if silent:
            mean = runs.mean(silent)
            told.append(f"{name} {100 * mean.value:.1f} ({100 * mean.low:.0f} to {100 * mean.high:.0f}) of {mean.num}")
    print(f"    {label:45} {', '.join(told)}")


if __name__ == "__main__":
    sys.exit(main())
