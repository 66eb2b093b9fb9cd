"""Fit the model that says which newer line replaces an older one, and tell what it is worth on projects it has not seen.

    python benchmarks/fit_updates.py [--home DIR] [--also MEMORY_HOME QUESTIONS...]

Takes the invented sessions and questions of `updates.py`. Of the best sixty lines for each question every pair of an older and
a newer, lower one is an example; it counts as a replacement where the older line holds an old value and the newer one the value
that holds. A logistic regression with both classes weighed alike is fitted on three quarters of the projects and judged on
the rest, in turn; then on all, and these weights are printed as `lmm_mcp/recall/supersession.py` has them. `--home`: a folder
that `updates.py --keep` left. `--also`: a memory home and question files about it, whose pairs are examples, too: without
them nearly every newer line on the same matter would count as one that replaces.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import invented
import updates

from lmm_mcp.domain.recall import DEFAULT_BUDGET_tokens
from lmm_mcp.evaluation import questions, runs
from lmm_mcp.evaluation.judging import folded, judge
from lmm_mcp.paths import Home
from lmm_mcp.recall import brief, supersession
from lmm_mcp.recall.found import Evidence
from lmm_mcp.recall.pipeline import Search
from lmm_mcp.server.desk import Desk

NUM_FOLDS = 4
PENALTY = 10.0
NUM_STEPS = 800
STEP = 0.1
UNFITTED = supersession.Model(-99.0, (0.0,) * len(supersession.FEATURES))


@dataclass(frozen=True, slots=True)
class Case:
    """One question with its lines as they rank before their ages are looked at."""

    asked: questions.Asked
    search: Search
    ranked: Sequence[Evidence]

    @property
    def project(self) -> str:
        return self.asked.project or ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, help="a folder that updates.py --keep left")
    parser.add_argument("--also", nargs="+", type=Path, default=(), help="a memory home, and question files about it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.home
        if folder is None:
            folder = Path(temporary)
            invented.remembered(folder, updates.sessions(), updates.lines(), with_model=True)
        cases = list(found(folder / "lmm", [folder / "questions.jsonl"]))
    others = list(found(arguments.also[0], arguments.also[1:])) if arguments.also else []
    judge_all(cases, others)
    return 0


def judge_all(cases: Sequence[Case], others: Sequence[Case]) -> None:
    """Fit and judge in turn, then fit on all."""
    projects = sorted({case.project for case in cases}) + sorted({case.project for case in others})
    folds = [projects[n::NUM_FOLDS] for n in range(NUM_FOLDS)]
    print(f"{len(cases)} and {len(others)} questions, {len(projects)} projects")
    held_out: list[tuple[Case, runs.Row]] = []
    for fold in folds:
        model = fitted([case for case in (*cases, *others) if case.project not in fold])
        mine = [case for case in (*cases, *others) if case.project in fold and case.asked.key is not None]
        held_out += zip(mine, judged(mine, model), strict=True)
    model = fitted([*cases, *others])
    for name, part in (("invented", cases), ("others", others)):
        ids = {id(case) for case in part}
        if part:
            show(f"{name}: by nearness alone", judged(part, UNFITTED))
            show(f"{name}: fitted on other projects", [row for case, row in held_out if id(case) in ids])
            show(f"{name}: as it is in the code", judged(part, supersession.FITTED))
            show(f"{name}: fitted on all", judged(part, model))
    print(f"FITTED = Model({model.bias:.3f}, ({', '.join(f'{weight:.3f}' for weight in model.weights)}))")
    for name, weight in zip(supersession.FEATURES, model.weights, strict=True):
        print(f"    {name:20} {weight:+.2f}")


def found(home: Path, files: Sequence[Path]) -> Iterator[Case]:
    """Every question of the files with what recall ranks for it."""
    desk = Desk(Home(home), dict(os.environ))
    for asked in questions.read(files):
        desk.cwd = asked.project or ""
        recaller = desk.recaller()
        if recaller is None:
            sys.exit(f"{home} holds no memory; make one with updates.py --keep, or with `lmm import`.")
        search = recaller.search(desk.question(asked.question, until=asked.asked_at))
        yield Case(asked, search, search.lines(budget_tokens=DEFAULT_BUDGET_tokens, without=("supersession",)))


def fitted(cases: Sequence[Case]) -> supersession.Model:
    """Fit by gradient descent with momentum (Adam, Kingma and Ba 2015) on standardised features; the same data, the same model."""
    examples = [example for case in cases for example in pairs(case)]
    features_NF = np.array([features for features, _ in examples])
    is_new_N = np.array([is_new for _, is_new in examples], float)
    mean_F, spread_F = features_NF.mean(axis=0), features_NF.std(axis=0) + 1e-6
    inputs_NF = np.hstack([np.ones((len(examples), 1)), (features_NF - mean_F) / spread_F])
    share_N = np.where(is_new_N > 0, 0.5 / max(1.0, is_new_N.sum()), 0.5 / max(1.0, (1 - is_new_N).sum()))
    weights_F, first, second = (np.zeros(inputs_NF.shape[1]) for _ in range(3))
    for step in range(1, NUM_STEPS + 1):
        guess_N = 1 / (1 + np.exp(-inputs_NF @ weights_F))
        slope = inputs_NF.T @ (share_N * (guess_N - is_new_N)) + PENALTY * weights_F / len(examples)
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        weights_F -= STEP * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    plain_F = weights_F[1:] / spread_F
    return supersession.Model(float(weights_F[0] - plain_F @ mean_F), tuple(float(weight) for weight in plain_F))


def pairs(case: Case) -> Iterator[tuple[tuple[float, ...], bool]]:
    """Each older line with each newer one that ranks lower, and whether it holds what replaced the other's value."""
    key = case.asked.key
    if key is None:
        return
    ranked = case.ranked[: supersession.NUM_WEIGHED]
    texts = [folded(each.text) for each in ranked]
    has_new = [any(folded(value) in text for item in key.answers for value in item) for text in texts]
    has_old = [any(folded(value) in text for value in key.stale) for text in texts]
    seen = [supersession.Seen.of(each, case.search.query, case.search.candidates) for each in ranked]
    for older in range(min(supersession.NUM_OVERTAKEN, len(ranked))):
        for newer in range(older + 1, len(ranked)):
            if ranked[newer].chunk.last_ms > ranked[older].chunk.last_ms:
                told = supersession.features(seen, older, newer, case.search.query)
                yield told, has_old[older] and not has_new[older] and has_new[newer]


def judged(cases: Sequence[Case], model: supersession.Model) -> list[runs.Row]:
    """The figures of every question with this model."""
    rows = []
    for case in cases:
        lines = supersession.newest_first(case.ranked, case.search.query, case.search.candidates, model)
        written = brief.write(lines, budget_tokens=DEFAULT_BUDGET_tokens)
        text, sessions = (written.text, written.sessions) if written else ("", ())
        if case.asked.key is not None:
            figures = judge(case.asked.key, text, sessions, abstained=written is None)
            rows.append(runs.Row(case.asked.id, case.asked.groups, figures))
    return rows


def show(label: str, rows: Sequence[runs.Row]) -> None:
    table: Mapping[str, Mapping[str, Any]] = runs.table(rows)
    print(label)
    for group in ("update", "then", "unchanged", "before", runs.EVERYTHING):
        if group not in table:
            continue
        shown = {figure: table[group].get(figure) for figure in ("cover@250", "cover@1000", "hit@1", "stale")}
        told = ", ".join(
            f"{figure} {100 * mean.value:.1f} ({100 * mean.low:.0f} to {100 * mean.high:.0f})"
            for figure, mean in shown.items()
            if mean is not None
        )
        print(f"    {group:10} {told}")


if __name__ == "__main__":
    sys.exit(main())
