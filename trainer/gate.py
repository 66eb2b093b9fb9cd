"""The gate: score sheets, lint and extractions in, `Promote` or `Keep` with its reasons out. Pure; the same in, the same out.

Each of G0 to G8 is one function that looks at a `Hearing` and says what it saw. Rules that hold for all of them:

- What was not measured has not passed. Only a gate that has nothing to look at yet (nothing older, no canary) passes by that.
- Two models are compared on the probes that both answered, probe by probe, with a 95 % interval (paired bootstrap). Every
  finding tells how many probes it rests on, so that nobody takes ten for proof.
- Losses are medians over tokens, never means: a mean goes down while a model gets worse at everything but the frequent.
- `Keep` is a normal day. The old model goes on serving, and the next run begins with the same lessons.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lmm_mcp.domain.lesson import Probe
from lmm_mcp.domain.verdict import Finding, Keep, Outcome, Promote, ScoreSheet, Verdict
from lmm_mcp.evaluation.runs import Mean, mean
from trainer.judging import Extraction
from trainer.measures import diversity, parrot_share, top_share
from trainer.thresholds import Thresholds

GENERAL = "general"
CHOICE = "choice"
_SERVED = "retrieval + weights"


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
    limits: Thresholds = field(default_factory=Thresholds)

    @property
    def before(self) -> ScoreSheet:
        """What the candidate must not fall behind."""
        return self.old or self.base


def judge(hearing: Hearing) -> Verdict:
    """Look through every gate, also behind one that is closed: all reasons are told at once."""
    findings = tuple(look(hearing) for look in GATES)
    return Promote(findings) if all(each.passed for each in findings) else Keep(findings)


def g0_lessons(hearing: Hearing) -> Finding:
    """The lessons are clean: no secrets, no duplicates, no parrot, grounded, before their time, some of each kind."""
    bad = [each for each in hearing.lint if not each.passed]
    if not hearing.lint:
        return Finding("G0", False, "nobody has looked through the lessons")
    figures = {f"{n}.{name}": value for n, each in enumerate(hearing.lint) for name, value in each.figures.items()}
    told = "; ".join(each.told for each in bad) or f"{len(hearing.lint)} checks of the lessons found nothing"
    return Finding("G0", not bad, told, figures)


def g1_new_facts(hearing: Hearing) -> Finding:
    """Facts are known without evidence, in other words than they were taught in; and not to a placebo."""
    limits, new = hearing.limits, hearing.new
    gain = _paired(new, "no memory", new, "weights", _is_fact)
    placebo = _paired(new, "no memory", new, "placebo", _is_fact)
    if gain is None or gain.num < limits.min_probes:
        num = gain.num if gain else 0
        return Finding(
            "G1", False, f"{num} probes on facts are too few, {limits.min_probes} are asked for", {"num": num}
        )
    figures = _figures("gain", gain) | (_figures("placebo", placebo) if placebo else {})
    is_placebo_idle = placebo is not None and placebo.value <= limits.max_placebo
    passed = gain.value >= limits.min_new_facts and gain.low > 0 and is_placebo_idle
    by_placebo = f"a placebo gains {_told(placebo)}" if placebo else "no placebo was asked"
    told = (
        f"facts without evidence: {_told(gain)} over the base, at least {limits.min_new_facts:+.2f} asked for; "
        f"{by_placebo}, at most {limits.max_placebo:+.2f} allowed"
    )
    return Finding("G1", passed, told, figures)


def g2_briefs(hearing: Hearing) -> Finding:
    """Briefs cite what was offered, say what it says, and keep silent where nothing answers, and only there."""
    limits = hearing.limits
    served = [each for each in hearing.new.outcomes.get(_SERVED, ()) if each.slice != GENERAL]
    spoke = [e.supported for e in served if e.slice != CHOICE and not e.abstained and e.output.strip()]
    silent_rightly = [float(each.abstained) for each in served if each.should_abstain]
    silent_wrongly = [float(each.abstained) for each in served if not each.should_abstain]
    if not silent_wrongly:
        return Finding("G2", False, "no brief was asked for")
    cites = _share(float(each.cites_known) for each in served)
    support, falsely = _share(spoke), _share(silent_wrongly)
    rightly = _share(silent_rightly)
    wrong = []
    if cites < 1:
        wrong.append("it cites lines that were not offered")
    if support < limits.min_support:
        wrong.append("too few sentences stand")
    if limits.min_abstention and not silent_rightly:
        wrong.append("nobody asked it anything that has no answer")
    elif rightly < limits.min_abstention:
        wrong.append("it speaks where nothing answers")
    if falsely > limits.max_false_abstention:
        wrong.append("it is silent where something answers")
    told = (
        f"{support:.0%} of {len(spoke)} briefs' sentences stand ({limits.min_support:.0%} asked for), "
        f"silent on {rightly:.0%} of {len(silent_rightly)} without an answer ({limits.min_abstention:.0%}), "
        f"on {falsely:.0%} of {len(silent_wrongly)} with one (at most {limits.max_false_abstention:.0%})"
    )
    told = f"{'; '.join(wrong)}: {told}" if wrong else told
    figures = {"support": support, "abstention": rightly, "false_abstention": falsely, "cites_known": cites}
    return Finding("G2", not wrong, told, figures | {"num": len(served)})


def g3_old_knowledge(hearing: Hearing) -> Finding:
    """What earlier versions knew is known: in all, and for every week in which it was learned.

    Over all weeks the loss itself decides: with `min_probes` of them an interval that still reaches zero is no excuse, since a
    small loss that is allowed every night is a large one after ten, while a model that is kept out by chance costs one night.
    With fewer probes, and in a single week (at most ten, of which one turns by chance), a loss counts where its interval lies
    below zero too; one that is large and not sure is named, so that nobody reads a pass as proof.
    """
    limits = hearing.limits
    if hearing.old is None:
        return Finding("G3", True, "nothing older to lose")
    cohorts = sorted({each.cohort for each in hearing.old.outcomes.get("weights", ()) if _is_fact(each)})
    changes = {
        cohort: change
        for cohort in cohorts
        if (change := _paired(hearing.old, "weights", hearing.new, "weights", _of_cohort(cohort))) is not None
    }
    if not changes:
        return Finding("G3", False, "no probe was answered by the old model and by the new one")
    every = _paired(hearing.old, "weights", hearing.new, "weights", _is_fact)
    assert every is not None
    large = [name for name, each in changes.items() if each.value < -limits.max_cohort_forgetting]
    lost = [name for name in large if changes[name].high < 0]
    unsure = [f"{name} {_told(changes[name])}" for name in large if name not in lost]
    is_lost = every.value < -limits.max_forgetting and (every.num >= limits.min_probes or every.high < 0)
    passed = not lost and not is_lost
    worst = min(changes, key=lambda name: changes[name].value)
    told = (
        f"backward transfer {_told(every)} over {len(changes)} cohorts, at least {-limits.max_forgetting:+.2f} asked for; "
        f"worst {worst}: {_told(changes[worst])}"
    )
    told = f"{', '.join(lost)} forgotten: {told}" if lost else told
    told += f"; large, of too few probes to be sure: {', '.join(unsure)}" if unsure else ""
    figures = _figures("transfer", every) | {"unsure": float(len(unsure))}
    figures |= {f"cohort {name}": each.value for name, each in changes.items()}
    return Finding("G3", passed, told, figures)


def g4_general(hearing: Hearing) -> Finding:
    """What any model should know is known still, and ordinary text surprises it no more than it did the base."""
    limits, new, base = hearing.limits, hearing.new, hearing.base
    change = _paired(new, "no memory", new, "weights", lambda each: each.slice == GENERAL)
    if change is None or not base.median_loss_nats or not new.median_loss_nats:
        return Finding("G4", False, "general skill was not measured")
    ratio = new.median_loss_nats / base.median_loss_nats
    passed = ratio <= limits.max_loss_ratio and not (change.value < -limits.max_general_loss and change.high <= 0)
    told = (
        f"general probes: {_told(change)} against the base, median token loss {new.median_loss_nats:.3f} nats against "
        f"{base.median_loss_nats:.3f} ({ratio:.2f} times, at most {limits.max_loss_ratio:.2f})"
    )
    return Finding("G4", passed, told, _figures("general", change) | {"loss_ratio": ratio})


def g5_variety(hearing: Hearing) -> Finding:
    """Different questions get different answers, as different as the right ones are."""
    limits = hearing.limits
    alone = _outputs(hearing.new.outcomes.get("weights", ()))
    briefs = _outputs(hearing.new.outcomes.get(_SERVED, ()))
    if not alone and not briefs:
        return Finding("G5", False, "nothing was said, so nobody knows whether it is always the same")
    wrong, told, figures = [], [], {}
    if (alike := diversity(briefs)) is not None:
        figures["jaccard"] = alike
        told.append(f"briefs resemble one another by {alike:.2f} (at most {limits.max_jaccard:.2f})")
        if alike > limits.max_jaccard:
            wrong.append("its briefs are alike")
    for name, arm, outputs in (("answers", "weights", alone), ("briefs", _SERVED, briefs)):
        if not outputs:
            continue
        right = _right_answers(hearing, arm)
        parrot, top = parrot_share(outputs), top_share(outputs)
        # Where few probes are asked, or many have the same answer, the right answers are no more varied than that.
        may_parrot = max(limits.max_parrot, limits.max_top_answer * parrot_share(right))
        may_top = limits.max_top_answer * top_share(right)
        figures |= {f"parrot {name}": parrot, f"top {name}": top}
        told.append(
            f"the four most frequent {name} are {parrot:.0%} of {len(outputs)} (at most {min(1, may_parrot):.0%})"
        )
        if parrot > may_parrot or (top > may_top and len(outputs) >= limits.min_probes):
            wrong.append(f"it gives the same {name} to different questions")
    return Finding("G5", not wrong, f"{'; '.join([*wrong, ''])}{', '.join(told)}", figures)


def g6_cost(hearing: Hearing) -> Finding:
    """It is as quick as what serves now, and as small."""
    limits, new, before = hearing.limits, hearing.new, hearing.before
    if not new.p95_ms or not before.p95_ms:
        return Finding("G6", False, "nobody has taken the time of its answers")
    slower = new.p95_ms / before.p95_ms - 1
    is_quick = slower <= limits.max_slower or new.p95_ms <= limits.within_ms
    larger = new.adapter_bytes / before.adapter_bytes - 1 if before.adapter_bytes else 0.0
    told = (
        f"p95 {new.p95_ms:.0f} ms against {before.p95_ms:.0f} ms ({slower:+.0%}, at most {limits.max_slower:+.0%}"
        f"{f' or {limits.within_ms:.0f} ms' if limits.within_ms else ''}); {new.adapter_bytes / 1e6:.1f} MB ({larger:+.0%})"
    )
    figures = {"p95_ms": new.p95_ms, "slower": slower, "larger": larger, "bytes": float(new.adapter_bytes)}
    return Finding("G6", is_quick and larger <= limits.max_larger, told, figures)


def g7_with_retrieval(hearing: Hearing) -> Finding:
    """With it recall is no worse than without, nor than with what serves now; and what it gains a placebo does not gain."""
    limits, new = hearing.limits, hearing.new
    gain = _paired(new, "retrieval", new, _SERVED, _has_answer)
    if gain is None or gain.num < limits.min_probes:
        num = gain.num if gain else 0
        return Finding(
            "G7", False, f"{num} probes with evidence are too few, {limits.min_probes} are asked for", {"num": num}
        )
    wrong = []
    if gain.value < 0 and gain.low < -limits.max_retrieval_loss:
        wrong.append("recall is worse with it")
    figures = _figures("gain", gain)
    told = f"retrieval with weights against retrieval alone: {_told(gain)}"
    if hearing.old is not None and (change := _paired(hearing.old, _SERVED, new, _SERVED, _has_answer)) is not None:
        figures |= _figures("old", change)
        told += f"; against the old model: {_told(change)}"
        if change.high < 0:
            wrong.append("recall is worse than with the old model")
    placebo = _paired(new, "retrieval", new, "placebo", _brings_evidence)
    over = _paired(new, "placebo", new, _SERVED, _brings_evidence)
    if placebo is not None and over is not None:
        figures |= _figures("placebo", placebo)
        told += f"; a placebo: {_told(placebo)}"
        if placebo.low > 0 and over.low <= 0 and not limits.placebo_may_help:
            wrong.append("somebody else's adapter helps as much")
    return Finding("G7", not wrong, f"{'; '.join(wrong)}: {told}" if wrong else told, figures)


def g8_canaries(hearing: Hearing) -> Finding:
    """Nothing that was planted or forgotten comes out, asked directly or by chance."""
    num_hits = sum(each.num_hits for each in hearing.canaries)
    num_samples = sum(each.num_samples for each in hearing.canaries)
    figures = {"canaries": float(len(hearing.canaries)), "samples": float(num_samples), "hits": float(num_hits)}
    if not hearing.canaries:
        return Finding("G8", True, "no canary was planted, and nothing forgotten was to be tried", figures)
    told = f"{num_hits} of {num_samples} samples for {len(hearing.canaries)} canaries gave one away, none is allowed"
    return Finding("G8", not num_hits, told, figures)


GATES: Sequence[Callable[[Hearing], Finding]] = (
    g0_lessons,
    g1_new_facts,
    g2_briefs,
    g3_old_knowledge,
    g4_general,
    g5_variety,
    g6_cost,
    g7_with_retrieval,
    g8_canaries,
)
"""In the order in which they are told."""


def _paired(
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


def _is_fact(outcome: Outcome) -> bool:
    """Asked without evidence, about what was learned."""
    return outcome.slice not in (GENERAL, CHOICE, "brief") and not outcome.should_abstain


def _of_cohort(cohort: str) -> Callable[[Outcome], bool]:
    return lambda each: _is_fact(each) and each.cohort == cohort


def _has_answer(outcome: Outcome) -> bool:
    return outcome.slice != GENERAL and not outcome.should_abstain


def _brings_evidence(outcome: Outcome) -> bool:
    """As `_has_answer`, of those that a placebo is asked with evidence."""
    return _has_answer(outcome) and outcome.slice in (CHOICE, "brief")


def _outputs(outcomes: Iterable[Outcome]) -> list[str]:
    """What was said in words to questions that have an answer."""
    return [
        each.output
        for each in outcomes
        if each.slice not in (CHOICE, GENERAL) and not each.should_abstain and each.output.strip()
    ]


def _right_answers(hearing: Hearing, arm: str) -> list[str]:
    """What should have been said to the probes of an arm."""
    asked = [hearing.probes.get(each.probe_id) for each in hearing.new.outcomes.get(arm, ())]
    return [
        each.answers[0] for each in asked if each is not None and each.answers and each.slice not in (CHOICE, GENERAL)
    ]


def _share(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else 1.0


def _told(difference: Mean | None) -> str:
    if difference is None:
        return "nothing"
    return f"{difference.value:+.2f} [{difference.low:+.2f}, {difference.high:+.2f}] of {difference.num}"


def _figures(name: str, difference: Mean) -> dict[str, float]:
    return {
        name: difference.value,
        f"{name} low": difference.low,
        f"{name} high": difference.high,
        f"{name} num": float(difference.num),
    }
