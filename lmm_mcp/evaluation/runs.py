"""One run of a suite: its settings, what each question gave, and the table; and how two runs differ, question by question.

Intervals are percentile bootstraps (Efron 1979) with a fixed seed: the same rows give the same interval. What is drawn is a
question, or all that were asked in one session, since those hang together. They say what other questions of the same kind might
give, not what other users' would.
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lmm_mcp.errors import BadInput
from lmm_mcp.store.exporting import written_beside

MARK = "lmm_run"
FORMAT = 1
NUM_RESAMPLES = 4000
CONFIDENCE = 0.95
EVERYTHING = "all"


@dataclass(frozen=True, slots=True)
class Row:
    """What one question gave."""

    id: str
    groups: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    """Shares, 0 to 1; a figure that does not apply to this question is absent."""
    ms: float | None = None
    unit: str = ""
    """What it was asked together with, such as its session, of which this tells nothing: intervals draw all of it or nothing."""


@dataclass(frozen=True, slots=True)
class Run:
    """All rows of one arm, with everything that they depend on."""

    suite: str
    arm: str
    about: Mapping[str, Any]
    """Settings, versions, what is in the store: whatever another run must share to be comparable."""
    rows: tuple[Row, ...]
    made_at: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over questions with its interval."""

    value: float
    low: float
    high: float
    num: int


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of two runs over the questions that both asked: B minus A."""

    figure: str
    a: float
    b: float
    difference: Mean
    num_better: int
    num_worse: int


def mean(values: Sequence[float], units: Sequence[str] = ()) -> Mean:
    """The mean with its interval. `units`: as `Row.unit`, of each value; '' stands alone. Raises ValueError for no value.

    >>> mean([1.0, 1.0]), mean([0.0, 1.0]).value
    (Mean(value=1.0, low=1.0, high=1.0, num=2), 0.5)
    >>> mean([0.0, 1.0], ["a", "a"])
    Mean(value=0.5, low=0.5, high=0.5, num=2)
    """
    if not values:
        raise ValueError("no values")
    array = np.asarray(values, np.float64)
    numbers: dict[str, int] = {}
    of_unit = [numbers.setdefault(unit or f"\0{n}", len(numbers)) for n, unit in enumerate(units or [""] * len(array))]
    sums, sizes = np.bincount(of_unit, array), np.bincount(of_unit)
    picked = np.random.default_rng(17).integers(0, len(sums), (NUM_RESAMPLES, len(sums)))
    means = sums[picked].sum(axis=1) / sizes[picked].sum(axis=1)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Mean(float(array.mean()), float(low), float(high), len(array))


def table(rows: Iterable[Row]) -> dict[str, dict[str, Mean]]:
    """Means of every figure, for all questions and for each group."""
    gathered: dict[str, dict[str, list[tuple[float, str]]]] = {EVERYTHING: {}}
    for row in rows:
        for group in (EVERYTHING, *row.groups):
            for figure, value in row.figures.items():
                gathered.setdefault(group, {}).setdefault(figure, []).append((value, row.unit))
    return {
        group: {figure: mean(*zip(*values, strict=True)) for figure, values in figures.items()}
        for group, figures in gathered.items()
    }


def label(run: Run) -> str:
    """What answered, with what was left out of it.

    >>> label(Run("questions", "recall", {"without": ["words", "roles"]}, ()))
    'recall without words, roles'
    """
    left_out = run.about.get("without", ()) if run.arm.startswith("recall") else ()
    return f"{run.arm} without {', '.join(left_out)}" if left_out else run.arm


def differences(a: Run, b: Run) -> dict[str, list[Difference]]:
    """How B differs from A, for all questions and for each group of those that both asked. Raises as `difference` does."""
    there = {row.id for row in a.rows}
    groups = sorted({group for row in b.rows if row.id in there and row.figures for group in row.groups})
    return {group: difference(a, b, group) for group in (EVERYTHING, *groups)}


def unpaired(a: Run, b: Run) -> tuple[int, int]:
    """How many questions only A asked, and how many only B."""
    first, second = ({row.id for row in run.rows} for run in (a, b))
    return len(first - second), len(second - first)


def difference(a: Run, b: Run, group: str = EVERYTHING) -> list[Difference]:
    """How B differs from A, paired by question, in one group of B's. Raises BadInput where they have none in common."""
    if a.suite != b.suite:
        raise BadInput(f"one run is of the suite {a.suite}, the other of {b.suite}; compare runs of the same suite.")
    before = {row.id: row.figures for row in a.rows}
    pairs: dict[str, list[tuple[float, float]]] = {}
    units: dict[str, list[str]] = {}
    for row in b.rows:
        for figure, value in row.figures.items() if group in (EVERYTHING, *row.groups) else ():
            if figure in before.get(row.id, {}):
                pairs.setdefault(figure, []).append((before[row.id][figure], value))
                units.setdefault(figure, []).append(row.unit)
    if not pairs:
        raise BadInput("the two runs have no judged question in common.")
    found = []
    for figure, both in pairs.items():
        gains = [after - earlier for earlier, after in both]
        found.append(
            Difference(
                figure,
                a=sum(earlier for earlier, _ in both) / len(both),
                b=sum(after for _, after in both) / len(both),
                difference=mean(gains, units[figure]),
                num_better=sum(gain > 0 for gain in gains),
                num_worse=sum(gain < 0 for gain in gains),
            )
        )
    return found


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which `percent` of `values` lie, nearest rank.

    >>> percentile([1, 2, 3, 4], 95)
    4
    """
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(percent / 100 * (len(ordered) - 1)))]


def save(run: Run, path: Path) -> None:
    """Write a run with its table, whole or not at all, readable by the user alone."""
    told = {
        MARK: FORMAT,
        "suite": run.suite,
        "arm": run.arm,
        "made_at": run.made_at,
        "about": dict(run.about),
        "table": {
            group: {figure: [m.value, m.low, m.high, m.num] for figure, m in figures.items()}
            for group, figures in table(run.rows).items()
        },
        "rows": [
            {"id": row.id, "groups": list(row.groups), "figures": dict(row.figures), "ms": row.ms}
            | ({"unit": row.unit} if row.unit else {})
            for row in run.rows
        ],
    }
    with written_beside(path) as beside:
        beside.write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> Run:
    """Read a run. Raises BadInput for what is none."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if told[MARK] != FORMAT:
            raise ValueError(f"it is of format {told[MARK]}")
        rows = tuple(
            Row(
                str(row["id"]),
                tuple(row["groups"]),
                {name: float(value) for name, value in row["figures"].items()},
                row["ms"],
                str(row.get("unit", "")),
            )
            for row in told["rows"]
        )
        return Run(str(told["suite"]), str(told["arm"]), told["about"], rows, str(told["made_at"]))
    except OSError as problem:
        raise BadInput(f"{path} cannot be read: {problem}") from problem
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise BadInput(
            f"{path} holds no run ({type(problem).__name__}: {problem}); name a `.run.json` file that `lmm bench` wrote."
        ) from problem
