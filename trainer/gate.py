"""The gate: score sheets, lint and extractions in, `Promote` or `Keep` with its reasons out. Pure; the same in, the same out.

Each of G0 to G8 is one function that looks at a `Hearing` and says what it saw. Rules that hold for all of them:

- What was not measured has not passed. Only a gate that has nothing to look at yet (nothing older, no canary) passes by that.
- Two models are compared on the probes that both answered, probe by probe, with a 95 % interval (paired bootstrap). Every
  finding tells how many probes it rests on, so that nobody takes ten for proof.
- Losses are medians over tokens, never means: a mean goes down while a model gets worse at everything but the frequent.
- `Keep` is a normal day. The old model goes on serving, and the next run begins with the same lessons.
"""

from collections.abc import Callable, Collection, Iterable, Sequence

from lmm_mcp.domain.verdict import Finding, Keep, Outcome, Promote, Verdict
from lmm_mcp.evaluation.runs import Mean
from trainer import wording
from trainer.hearing import CHOICE, GENERAL, has_answer, in_words, is_fact, paired
from trainer.hearing import Hearing as Hearing  # whoever asks for a verdict says what it rests on
from trainer.judging import SERVED

NOT_SERVED = " (by the settings nobody reads them, so that they do not count)"


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
    gain = paired(new, "no memory", new, "weights", is_fact)
    placebo = paired(new, "no memory", new, "placebo", is_fact)
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
    """Briefs cite what was offered, say what it says, and keep silent where nothing answers, and only there.

    What its sentences are like counts where they are served. Where they are not, it is told.
    """
    limits, new = hearing.limits, hearing.new
    served = [each for each in new.outcomes.get(SERVED, ()) if each.slice != GENERAL]
    silent_rightly = [float(each.abstained) for each in served if each.should_abstain]
    silent_wrongly = [float(each.abstained) for each in served if not each.should_abstain]
    if not silent_wrongly:
        return Finding("G2", False, "no brief was asked for")
    cites = _share(float(each.cites_known) for each in served)
    falsely, rightly = _share(silent_wrongly), _share(silent_rightly)
    by_writing, of_writing, figures = wording.support(hearing)
    wrong = []
    if cites < 1:
        wrong.append("it cites lines that were not offered")
    if new.max_sentences:
        wrong += by_writing
    if limits.min_abstention and not silent_rightly:
        wrong.append("nobody asked it anything that has no answer")
    elif rightly < limits.min_abstention:
        wrong.append("it speaks where nothing answers")
    if falsely > limits.max_false_abstention:
        wrong.append("it is silent where something answers")
    told = (
        f"{of_writing[0]}{'' if new.max_sentences else NOT_SERVED}, "
        f"silent on {rightly:.0%} of {len(silent_rightly)} without an answer ({limits.min_abstention:.0%}), "
        f"on {falsely:.0%} of {len(silent_wrongly)} with one (at most {limits.max_false_abstention:.0%})"
    )
    told = f"{'; '.join(wrong)}: {told}" if wrong else told
    figures |= {"abstention": rightly, "false_abstention": falsely, "cites_known": cites}
    return Finding("G2", not wrong, told, figures | {"num": len(served)})


def g3_old_knowledge(hearing: Hearing) -> Finding:
    """What earlier versions knew is known: in all, and for every week in which it was learned.

    Only what the old version could learn counts: to know more of what came later is no merit here but G1's, and would hide what
    was lost. Where nothing of that is asked any more, or nobody knows what it was, all counts that both were asked.
    Over all weeks the loss itself decides: with `min_probes` of them an interval that still reaches zero is no excuse, since a
    small loss that is allowed every night is a large one after ten, while a model that is kept out by chance costs one night.
    With fewer probes, and in a single week (at most ten, of which one turns by chance), a loss counts where its interval lies
    below zero too; one that is large and not sure is named, so that nobody reads a pass as proof.
    """
    limits = hearing.limits
    if hearing.old is None:
        return Finding("G3", True, "nothing older to lose")
    facts = [each for each in hearing.old.outcomes.get("weights", ()) if is_fact(each)]
    facts = [each for each in facts if each.probe_id in hearing.old_probes] or facts
    changes = {
        cohort: change
        for cohort in sorted({each.cohort for each in facts})
        if (change := _lost(hearing, {each.probe_id for each in facts if each.cohort == cohort})) is not None
    }
    if not changes:
        return Finding("G3", False, "no probe was answered by the old model and by the new one")
    every = _lost(hearing, {each.probe_id for each in facts})
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
    change = paired(new, "no memory", new, "weights", lambda each: each.slice == GENERAL)
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
    """Different questions get different answers, as different as the right ones are.

    Briefs count where what it writes is served. Where it is not, they are told.
    """
    new = hearing.new
    alone = in_words(new.outcomes.get("weights", ()))
    if not alone and not wording.briefs(new):
        return Finding("G5", False, "nothing was said, so nobody knows whether it is always the same")
    wrong, told, figures = wording.sameness(hearing, "answers", alone)
    by_writing, of_writing, more = wording.variety(hearing)
    if new.max_sentences:
        wrong += by_writing
    elif of_writing:
        of_writing[-1] += NOT_SERVED
    told = [*told, *of_writing]
    return Finding("G5", not wrong, f"{'; '.join([*wrong, ''])}{', '.join(told)}", figures | more)


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
    gain = paired(new, "retrieval", new, SERVED, has_answer)
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
    if hearing.old is not None and (change := paired(hearing.old, SERVED, new, SERVED, has_answer)) is not None:
        figures |= _figures("old", change)
        told += f"; against the old model: {_told(change)}"
        if change.high < 0:
            wrong.append("recall is worse than with the old model")
    placebo = paired(new, "retrieval", new, "placebo", _brings_evidence)
    over = paired(new, "placebo", new, SERVED, _brings_evidence)
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


def _lost(hearing: Hearing, wanted: Collection[str]) -> Mean | None:
    """How the new model does without evidence against the old one, over the probes of these ids."""
    assert hearing.old is not None
    return paired(hearing.old, "weights", hearing.new, "weights", lambda each: each.probe_id in wanted)


def _brings_evidence(outcome: Outcome) -> bool:
    """As `has_answer`, of those that a placebo is asked with evidence."""
    return has_answer(outcome) and outcome.slice in (CHOICE, "brief")


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
