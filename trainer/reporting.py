"""The page of a run, out of its folder: whatever is there is shown, and what is missing is not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lmm_mcp import artifacts
from lmm_mcp.artifacts import durable
from lmm_mcp.domain.fact import CATEGORIES
from lmm_mcp.domain.verdict import Said, ScoreSheet, Verdict
from lmm_mcp.evaluation.runs import mean
from lmm_mcp.training_runs import RunState
from trainer import papers, plan, run_log
from trainer.measures import OTHER
from trainer.report import RunView, Sample, page

FILE = "report.html"
_BY_CATEGORY = ("no memory", "weights", "retrieval", "retrieval + weights")
"""Arms that are told category by category: by heart before and after, served without a model and with it."""


def write(folder: Path, state: RunState, verdict: Verdict | None, *, trained: str = "training", kept: str = "") -> Path:
    """Write the page, whole or not at all; where it lies. `kept`: see `RunView`. Raises OSError."""
    about: dict[str, Any] = durable.read_json(folder / papers.ABOUT) or {}
    said: dict[str, Any] = durable.read_json(folder / "said.json") or {}
    planned = durable.read_json(folder / plan.FILE) or {}
    followed = durable.read_json(folder / trained / "recipe.json")
    sheet = artifacts.sheet_of(durable.read_json(folder / "sheet-new.json"))
    view = RunView(
        state=state,
        recipe=followed or planned.get("recipe", {}),
        metrics=run_log.read(folder / trained),
        mix=[(slice_, part, num) for slice_, part, num in about.get("mix", ())],
        notes=about.get("notes", ()),
        verdict=verdict,
        arms=list(_arms(sheet)),
        categories=list(_categories(sheet)),
        samples=[Sample(**each) for each in said.get("samples", ())],
        learned=said.get("learned", ()),
        forgotten=said.get("forgotten", ()),
        kept=kept,
    )
    durable.write(folder / FILE, page(view).encode("utf-8", "replace"))
    return folder / FILE


def _arms(sheet: ScoreSheet | None) -> Iterator[tuple[str, str, float, int, str]]:
    for arm, outcomes in sheet.outcomes.items() if sheet else ():
        for slice_ in sorted({each.slice for each in outcomes}):
            for kind, absent in ((slice_, False), (f"{slice_}, nothing answers", True)):
                scores = [each.score for each in outcomes if each.slice == slice_ and each.should_abstain == absent]
                if scores:
                    found = mean(scores)
                    yield arm, kind, found.value, found.num, f"{100 * found.low:.0f} to {100 * found.high:.0f}"


def _categories(sheet: ScoreSheet | None) -> Iterator[tuple[str, str, Said | None]]:
    """Every category in each of these arms; None where nobody asked about it: that is told, too."""
    found = sheet.by_category if sheet else {}
    for category in (*CATEGORIES, OTHER) if found else ():
        asked = [arm for arm in _BY_CATEGORY if category in found.get(arm, {})]
        if not asked and category != OTHER:
            yield category, "", None
        for arm in asked:
            yield category, arm, found[arm][category]
