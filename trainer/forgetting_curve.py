"""How well every version knows what was learned in every week: the matrix R[version, cohort], and what it tells.

Cohorts are weeks (`2026-W07`); a row holds the mean score of a version on the frozen probes of each, asked without evidence.
Backward transfer says how much of a cohort is left since the version that learned it, forward transfer how much was known
before. The matrix lies in the artifacts as JSON without any text, and survives the versions that it speaks of.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lmm_mcp.artifacts import durable
from lmm_mcp.domain.verdict import ScoreSheet

GENERAL, BASE = "general", "base"
BY_HEART, BY_BASE = "weights", "no memory"
"""Arms of a score sheet: what a version says without evidence, and what its base says to the same."""
ALARM_per_version = -0.01
"""Slope of what is left from which a slow loss, too small for the gate each night, is told."""
MIN_ROWS_for_slope = 4


@dataclass(frozen=True, slots=True)
class Row:
    """One version's line of the matrix."""

    version: str
    made_ms: int
    learned: tuple[str, ...]
    """Cohorts that were in its lessons."""
    scores: Mapping[str, tuple[float, int]]
    """Mean score and number of probes, by cohort; `base` scores stand in the row of version `base`."""
    promoted: bool = True
    """Whether it came to serve when it was made. Others are shown, and count for no transfer: nothing went on from them."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """What the matrix tells."""

    backward: float | None
    """Mean over cohorts of the last score minus that of the first version that learned it; None without any older cohort."""
    forward: float | None
    """Mean over cohorts of the score just before they were learned, minus the base's."""
    half_life_versions: float | None
    """After how many versions half of a cohort is lost, by an exponential; infinite where nothing is; None without data."""
    slope: float | None
    """Change of what is left, for each version since."""

    @property
    def is_alarming(self) -> bool:
        """Whether it is lost slowly, night after night."""
        return self.slope is not None and self.slope <= ALARM_per_version


def row_of(
    sheet: ScoreSheet, *, made_ms: int, learned: Sequence[str], promoted: bool = True, arm: str = BY_HEART
) -> Row:
    """A version's line, from what it answered without evidence; with the arm `BY_BASE` that of its base."""
    found: dict[str, list[float]] = {}
    for each in sheet.outcomes.get(arm, ()):
        if each.cohort != GENERAL and not each.should_abstain:
            found.setdefault(each.cohort, []).append(each.score)
    scores = {cohort: (sum(values) / len(values), len(values)) for cohort, values in found.items()}
    return Row(BASE if arm == BY_BASE else sheet.model, made_ms, tuple(learned), scores, promoted)


def added(rows: Sequence[Row], row: Row) -> tuple[Row, ...]:
    """The matrix with one more line; one of the same version is replaced."""
    return (*(each for each in rows if each.version != row.version), row)


def after_run(rows: Sequence[Row], row: Row, sheet: ScoreSheet, before: ScoreSheet | None) -> tuple[Row, ...]:
    """The matrix after one more run: its version's line, its base's, and what served until then on what it was not asked before.

    `sheet` is the version's, `before` that of what served, asked the same: it tells what was known of a cohort before it was learned.
    """
    base = row_of(sheet, made_ms=0, learned=(), arm=BY_BASE)
    known = next((each for each in rows if each.version == BASE), base)
    whole = [replace(base, scores={**known.scores, **base.scores}), *(each for each in rows if each.version != BASE)]
    if before is not None:
        said = row_of(before, made_ms=0, learned=()).scores
        whole = [
            replace(each, scores={**said, **each.scores}) if each.version == before.model else each for each in whole
        ]
    return added(whole, row)


def transfer(rows: Sequence[Row]) -> Transfer:
    """Read the matrix. The row of `base`, if there is one, stands for what was known before anything was learned."""
    trained = [each for each in rows if each.version != BASE and each.promoted]
    base = next((each for each in rows if each.version == BASE), None)
    first = _first_learned(trained)
    backward, forward = [], []
    left: list[tuple[int, float]] = []
    """(versions since it was learned, share of the first score that is left)."""
    for cohort, at in first.items():
        start = trained[at].scores[cohort][0]
        later = [(n - at, each.scores[cohort][0]) for n, each in enumerate(trained) if n > at and cohort in each.scores]
        if later:
            backward.append(later[-1][1] - start)
        if start > 0:
            left += [(since, score / start) for since, score in later]
        before = trained[at - 1].scores.get(cohort) if at else None
        if base is not None and before is not None and cohort in base.scores:
            forward.append(before[0] - base.scores[cohort][0])
    return Transfer(_mean(backward), _mean(forward), _half_life(left), _slope(left, len(trained)))


def table(rows: Sequence[Row]) -> str:
    """The matrix as text: a line for each version, a column for each cohort; `*` where it was learned."""
    cohorts = sorted({cohort for row in rows for cohort in row.scores})
    if not cohorts:
        return "no version was asked about any cohort yet"
    width = max(len(cohort) for cohort in cohorts) + 1
    lines = [" ".join(["version ", *(cohort.rjust(width) for cohort in cohorts)])]
    for row in rows:
        cells = [_cell(row, cohort).rjust(width) for cohort in cohorts]
        lines.append(" ".join([row.version.ljust(8), *cells, *([] if row.promoted else [" not promoted"])]))
    return "\n".join([*lines, told(transfer(rows))])


def told(found: Transfer) -> str:
    """One line about it."""
    half = found.half_life_versions
    parts = [
        f"backward transfer {'-' if found.backward is None else f'{found.backward:+.3f}'}",
        f"forward transfer {'-' if found.forward is None else f'{found.forward:+.3f}'}",
        f"half-life {'-' if half is None else 'unlimited' if math.isinf(half) else f'{half:.1f} versions'}",
    ]
    if found.is_alarming:
        parts.append(f"what is left falls by {-(found.slope or 0):.3f} a version: look at the replay")
    return "; ".join(parts)


def load(path: Path) -> tuple[Row, ...]:
    """Read the matrix; an empty one where there is none or it cannot be understood."""
    found = durable.read_json(path)
    try:
        return tuple(
            Row(
                str(each["version"]),
                int(each["made_ms"]),
                tuple(map(str, each["learned"])),
                {str(cohort): (float(score), int(num)) for cohort, (score, num) in each["scores"].items()},
                each.get("promoted", True) is True,
            )
            for each in found["rows"]
        )
    except (TypeError, KeyError, ValueError, AttributeError):
        return ()


def save(path: Path, rows: Sequence[Row]) -> None:
    """Write the matrix, whole or not at all. Raises OSError."""
    tree = [
        {
            "version": row.version,
            "made_ms": row.made_ms,
            "learned": list(row.learned),
            "scores": {cohort: list(score) for cohort, score in row.scores.items()},
            "promoted": row.promoted,
        }
        for row in rows
    ]
    durable.make_folder(path.parent)
    durable.write_json(path, {"format": 1, "rows": tree})


def _first_learned(rows: Sequence[Row]) -> dict[str, int]:
    first: dict[str, int] = {}
    for n, row in enumerate(rows):
        for cohort in row.learned:
            if cohort in row.scores:
                first.setdefault(cohort, n)
    return first


def _half_life(left: Sequence[tuple[int, float]]) -> float | None:
    """Of `share = 2 ** (-versions / half_life)`, fitted to the logarithms through the point where all is left."""
    points = [(since, math.log2(max(share, 0.01))) for since, share in left]
    if not points:
        return None
    rate = -sum(since * value for since, value in points) / sum(since**2 for since, _ in points)
    return 1 / rate if rate > 0 else math.inf


def _slope(left: Sequence[tuple[int, float]], num_rows: int) -> float | None:
    if num_rows < MIN_ROWS_for_slope or not left:
        return None
    return sum(since * (share - 1) for since, share in left) / sum(since**2 for since, _ in left)


def _cell(row: Row, cohort: str) -> str:
    if cohort not in row.scores:
        return "-"
    return f"{'*' if cohort in row.learned else ''}{row.scores[cohort][0]:.2f}"


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
