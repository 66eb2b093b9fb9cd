"""What a verdict rests on, and how two arms of it are compared: probe by probe, over those that both answered. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from lmm_mcp.domain.lesson import Probe
from lmm_mcp.domain.verdict import Finding, Outcome, ScoreSheet
from lmm_mcp.evaluation.runs import Mean, mean
from trainer.canaries import Extraction
from trainer.thresholds import Thresholds

GENERAL, CHOICE = "general", "choice"


@dataclass(frozen=True, slots=True)
class Hearing:
    """All that a verdict rests on."""

    new: ScoreSheet
    base: ScoreSheet
    old: ScoreSheet | None
    """What serves now; None for a first promotion, which is compared with the base."""
    lint: tuple[Finding, ...]
    """What was found in the lessons before training, as findings of G0."""
    probes: Mapping[str, Probe]
    """By id."""
    canaries: tuple[Extraction, ...] = ()
    old_probes: frozenset[str] = frozenset()
    """Ids of those that what serves now was judged by when it was made: what they ask for it could learn. Empty: not known."""
    limits: Thresholds = field(default_factory=Thresholds)

    @property
    def before(self) -> ScoreSheet:
        """What the candidate must not fall behind."""
        return self.old or self.base


def paired(
    before: ScoreSheet, arm_before: str, after: ScoreSheet, arm_after: str, wanted: Callable[[Outcome], bool]
) -> Mean | None:
    """How the scores of two arms differ, over the probes that both answered; None where there is none."""
    known = {each.probe_id: each.score for each in before.outcomes.get(arm_before, ())}
    gains = [
        each.score - known[each.probe_id]
        for each in after.outcomes.get(arm_after, ())
        if each.probe_id in known and wanted(each)
    ]
    return mean(gains) if gains else None


def is_fact(outcome: Outcome) -> bool:
    """Asked without evidence, about what was learned."""
    return outcome.slice not in (GENERAL, CHOICE, "brief") and not outcome.should_abstain


def has_answer(outcome: Outcome) -> bool:
    """Asked about the memory, which answers."""
    return outcome.slice != GENERAL and not outcome.should_abstain


def in_words(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """What was said in words to questions that have an answer."""
    return [
        each
        for each in outcomes
        if each.slice not in (CHOICE, GENERAL) and not each.should_abstain and each.output.strip()
    ]
