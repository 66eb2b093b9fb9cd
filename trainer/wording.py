"""What a candidate's words are like: whether its sentences stand, and whether it says the same to everybody. Pure.

Each of these gives objections, what was seen in words, and figures. Which of them close a gate is the gate's to say.
"""

from collections.abc import Iterable, Sequence

from lmm_mcp.domain.verdict import Outcome, ScoreSheet
from lmm_mcp.model.cards import MAX_SENTENCES
from trainer.hearing import CHOICE, GENERAL, Hearing, has_answer, in_words, paired
from trainer.judging import SENTENCES, SERVED
from trainer.measures import diversity, parrot_share, top_share

Seen = tuple[list[str], list[str], dict[str, float]]
"""Objections, what was seen, figures."""


def sentences(hearing: Hearing) -> int:
    """How many sentences of its own the candidate may write once it serves; 0 where those it wrote do not pass.

    They are judged alike whether or not they were to be served: enough of them, most of them standing, not always the same, some
    that tell more than a line, and recall no worse with them in front. So whoever lets it write later serves nothing that was not judged.
    """
    limits, written = hearing.limits, briefs(hearing.new)
    wrong = [*support(hearing)[0], *variety(hearing)[0]]
    gain = paired(hearing.new, "retrieval", hearing.new, _writing(hearing.new), has_answer)
    is_worse = gain is None or (gain.value < 0 and gain.low < -limits.max_retrieval_loss)
    adds_nothing = not any(each.num_new for each in written)  # it would take its time, and nobody would read it
    if wrong or is_worse or adds_nothing or len(written) < limits.min_probes:
        return 0
    return hearing.new.max_sentences or MAX_SENTENCES


def _writing(sheet: ScoreSheet) -> str:
    """The arm in which it wrote."""
    return SERVED if sheet.max_sentences else SENTENCES


def briefs(sheet: ScoreSheet) -> list[Outcome]:
    """What it wrote that holds a sentence, to questions that have an answer."""
    return [each for each in in_words(sheet.outcomes.get(_writing(sheet), ())) if each.num_sentences]


def support(hearing: Hearing) -> Seen:
    """Whether what its sentences say stands in the lines that they cite.

    A brief in which it says that nothing answers has no sentence, and is neither for it nor against it.
    """
    wrote = [
        each
        for each in hearing.new.outcomes.get(_writing(hearing.new), ())
        if each.supported is not None and each.slice not in (GENERAL, CHOICE) and not each.abstained
    ]
    num = sum(each.num_sentences for each in wrote)
    if not num:
        return [], ["it wrote no sentence"], {}
    least = hearing.limits.min_support
    share = sum(each.num_sentences * (each.supported or 0.0) for each in wrote) / num
    wrong = ["too few sentences stand"] if share < least else []
    new = sum(each.num_new for each in wrote)
    told = f"{share:.0%} of {num} sentences in {len(wrote)} briefs stand ({least:.0%} asked for), {new} tell more than a line"
    return wrong, [told], {"support": share, "sentences": float(num), "new": float(new)}


def variety(hearing: Hearing) -> Seen:
    """Whether briefs about different matters differ."""
    limits, written = hearing.limits, briefs(hearing.new)
    wrong, told, figures = sameness(hearing, "briefs", written)
    if (alike := diversity([each.output for each in written])) is not None:
        figures["jaccard"] = alike
        told.append(f"briefs resemble one another by {alike:.2f} (at most {limits.max_jaccard:.2f})")
        if alike > limits.max_jaccard:
            wrong.append("its briefs are alike")
    return wrong, told, figures


def sameness(hearing: Hearing, name: str, said: Sequence[Outcome]) -> Seen:
    """Whether outputs are given again and again, more often than the right ones would be. `name`: what they are called."""
    if not said:
        return [], [], {}
    limits, outputs = hearing.limits, [each.output for each in said]
    right = _right_answers(hearing, said)
    parrot, top = parrot_share(outputs), top_share(outputs)
    # Where few probes are asked, or many have the same answer, the right answers are no more varied than that.
    may_parrot = max(limits.max_parrot, limits.max_top_answer * parrot_share(right))
    may_top = limits.max_top_answer * top_share(right)
    is_same = parrot > may_parrot or (top > may_top and len(outputs) >= limits.min_probes)
    return (
        [f"it gives the same {name} to different questions"] if is_same else [],
        [f"the four most frequent {name} are {parrot:.0%} of {len(outputs)} (at most {min(1, may_parrot):.0%})"],
        {f"parrot {name}": parrot, f"top {name}": top},
    )


def _right_answers(hearing: Hearing, said: Iterable[Outcome]) -> list[str]:
    """What should have been said to these probes."""
    asked = [hearing.probes.get(each.probe_id) for each in said]
    return [
        each.answers[0] for each in asked if each is not None and each.answers and each.slice not in (CHOICE, GENERAL)
    ]
