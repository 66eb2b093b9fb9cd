"""The four runs of the seed that this project grew out of, as ablations: all lessons of a memory in, those of each run out. Pure.

Its first run learned pairs as they came, its second weighed them by salience, its third knew the codebase, too, and its fourth
read the passages first and took out what was said again. Each has one thing more than the one before, and as many lessons.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lmm_mcp.domain.lesson import Lesson
from lmm_mcp.evaluation import history
from trainer import recitals
from trainer.gathering import Pool, as_learned
from trainer.lint import lint
from trainer.plan import Plan
from trainer.recipe import Stage

CODEBASE = "codebase structure"
"""The category of what is left out where a run knows nothing of the codebase."""
UNCAPPED = 16
"""Lessons of one kind on one memory where nothing is taken out."""


@dataclass(frozen=True, slots=True)
class Ablation:
    """What one run learns, and how."""

    name: str
    stage: Stage | None = "sft"
    """None: nothing is learned."""
    is_weighted: bool = False
    """Whether a lesson counts by the salience of its passages."""
    knows_codebase: bool = False
    is_deduplicated: bool = False


BASE = Ablation("base", stage=None)
RUNS = (
    BASE,
    Ablation("1 baseline"),
    Ablation("2 salience", is_weighted=True),
    Ablation("3 codebase", is_weighted=True, knows_codebase=True),
    Ablation("4 cpt, dedup", stage="both", is_weighted=True, knows_codebase=True, is_deduplicated=True),
)


def lessons_of(ablation: Ablation, pool: Pool, plan: Plan, *, max_per_memory: int) -> list[Lesson]:
    """What this run learns of the pool, kinds as evenly as may be, in order; what holds secrets or is probed never.

    How many there are at most, and how often a small network hears each, stands in the plan, the same for all runs.
    `max_per_memory`: where duplicates are taken out, of one kind on one memory.
    """
    if ablation.stage is None:
        return []
    fit = lint(
        pool.built.lessons,
        until_ms=pool.until_ms,
        slices=(),
        probes=pool.held_out,
        evidence=pool.built.grounds,
        deduplicates=ablation.is_deduplicated,
    ).lessons
    if not ablation.knows_codebase:
        fit = tuple(each for each in fit if each.category != CODEBASE)
    if ablation.is_deduplicated:
        fit = tuple(_capped(fit, max_per_memory))
    drawn = history.spread(fit, plan.max_lessons or len(fit), ids=lambda each: each.id, groups=lambda each: each.slice)
    weights = pool.salience if ablation.is_weighted else None
    return as_learned([replace(each, weight=_weight(each, weights)) for each in drawn], plan)


def _capped(found: Sequence[Lesson], most: int) -> list[Lesson]:
    told: Counter[tuple[str, str]] = Counter()
    kept = []
    for each in found:
        key = each.memory or each.id, each.slice
        told[key] += 1
        if told[key] <= most:
            kept.append(each)
    return kept


def _weight(lesson: Lesson, salience: Mapping[str, float] | None) -> float:
    if salience is None:
        return 1.0
    return recitals.weight_of(salience, *lesson.sources)
