"""What the gate asks of a candidate, in one place: the numbers, and why a preset has others."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What is asked of a candidate. Shares from 0 to 1."""

    min_probes: int = 20
    """Fewer tell nothing, and what tells nothing lets nobody pass (G1, G7)."""
    min_new_facts: float = 0.20
    """G1: gain over the base without evidence."""
    max_placebo: float = 0.05
    """G1: gain of an adapter that was trained on somebody else's lessons."""
    min_support: float = 0.90
    """G2: share of written sentences that stand."""
    min_abstention: float = 0.90
    """G2: silence where nothing answers."""
    max_false_abstention: float = 0.10
    """G2: silence where something does."""
    max_forgetting: float = 0.02
    """G3: loss over all older cohorts."""
    max_cohort_forgetting: float = 0.05
    """G3: loss of any one of them."""
    max_general_loss: float = 0.01
    """G4: loss on what any model should know."""
    max_loss_ratio: float = 1.03
    """G4: median token loss there, over that of the base."""
    max_jaccard: float = 0.25
    """G5: resemblance of outputs to different questions."""
    max_parrot: float = 0.10
    """G5: share of the four most frequent outputs."""
    max_top_answer: float = 2.0
    """G5: share of the most frequent output, over that of the most frequent right answer."""
    max_slower: float = 0.10
    """G6: p95 over that of what serves now."""
    max_larger: float = 0.10
    """G6: size over that of what serves now."""
    within_ms: float = 0.0
    """G6: a p95 below this passes however slow the other is; 0 = none does."""
    max_retrieval_loss: float = 0.02
    """G7: what the interval may reach below the ranking alone, where the difference itself is below."""
    placebo_may_help: bool = False
    """G7: whether it may pass when somebody else's adapter helps the ranking as much."""


FULL = Thresholds()
TINY = replace(
    FULL,
    # G2: a model of a few million parameters copies words and seldom forms sentences of its own. Half of its sentences are
    # dropped by the validator, and the lines themselves are told in their place: that costs a reader nothing.
    min_support=0.50,
    # G2: where it does not see that nothing answers, recall goes by its own confidence, as without it. Where it says so
    # although something does, that hurts, so `max_false_abstention` stays.
    min_abstention=0.0,
    # G6: the base answers in a few milliseconds, and an adapter on all its layers doubles them: against recall's own time
    # that is nothing. What counts is that it answers within what a question may take.
    within_ms=300.0,
)
"""For the preset `cpu-tiny`; every difference with its reason."""


def thresholds_for(preset: str) -> Thresholds:
    """Those of a preset."""
    return TINY if preset == "cpu-tiny" else FULL
