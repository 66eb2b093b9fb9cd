"""Frozen probes and the models to compare in, score sheets out: every arm answers the same probes within the same budget.

Arms (lmm_mcp.domain.verdict): a fact is asked without evidence (`no memory`, `weights`, `placebo`) and with it (`retrieval`,
`retrieval + weights`, `long context`, `oracle`); a probe that brings its lines along is asked with them (`retrieval`,
`retrieval + weights`, `placebo`, `long context`, `oracle`). What is scored is what a reader would be served: first the
sentences that stand, then the chosen lines, then the rest of the ranking, as far as the budget goes. So a model can gain by
putting the right thing first, and lose by the wrong one. Where nothing answers, only silence counts; where something does, a
model that says no leaves the ranking as it is where that is sure of itself, and nothing else, since that is what is served
then (`lmm_mcp.recall.telling`): gate G2 counts how often.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from lmm_mcp import prompting
from lmm_mcp.domain.lesson import Probe
from lmm_mcp.domain.recall import CHARS_PER_TOKEN
from lmm_mcp.domain.verdict import Outcome, ScoreSheet
from lmm_mcp.domain.writing import Offered
from lmm_mcp.evaluation.judging import folded
from lmm_mcp.evaluation.runs import percentile
from lmm_mcp.model.cards import MAX_SENTENCES
from lmm_mcp.model.copying import TOKENS_PER_SENTENCE
from lmm_mcp.model.validating import NOTHING, adds, sentences, validated
from lmm_mcp.recall.telling import is_told
from trainer.asked import Asked, Recall, Sure, always, fitting, gold_only, laid_out
from trainer.measures import Given, Rarity, by_category, is_right, reciprocal_rank

BASE = "base"
GENERAL = "general"
SERVED, SENTENCES = "retrieval + weights", "sentences"


class Speaker(Protocol):
    """A model that can be asked. `trainer.speaking` has the real one."""

    @property
    def name(self) -> str:
        """Version, or `base`."""
        ...

    @property
    def num_bytes(self) -> int:
        """What was learned, on the disk; 0 for a base."""
        ...

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int, copied: Sequence[Sequence[Offered]] = ()
    ) -> list[str]:
        """What it says, greedily. `copied`: for each prompt the lines of which all that it tells is to be copied."""
        ...

    def choose(self, prompt: str, numbers: Sequence[int]) -> tuple[int, ...]:
        """Which of these lines answer, best first; none where it says that none does."""
        ...

    def answer_loss(self, prompt: str, answer: str) -> float:
        """How surprised it is by an answer: the median over its tokens, in nats."""
        ...

    def sample(self, prompts: Sequence[str], *, max_new_tokens: int, seed: int) -> list[str]:
        """What it says by chance."""
        ...


@dataclass(frozen=True, slots=True)
class Dials:
    """How much is asked for."""

    budget_tokens: int = 250
    """Of what a reader is served; every arm has the same."""
    max_answer_tokens: int = 48
    """As it was taught, an answer takes up to forty of the tiny base's, which has a token for each digit."""
    long_context_chars: int = 12_000
    writes: bool = True
    """Whether the model is asked for sentences at all."""
    max_sentences: int = MAX_SENTENCES
    """Of its own that a reader is served. 0: none, and those of the candidate are looked at all the same, as arm `sentences`."""

    @property
    def num_served(self) -> int:
        """How many sentences a reader may get."""
        return self.max_sentences if self.writes else 0


@dataclass(frozen=True, slots=True)
class Judged:
    """What one judging gave."""

    base: ScoreSheet
    """The base in every arm: what training must beat where there is no older model."""
    new: ScoreSheet


@dataclass(frozen=True, slots=True)
class Answer:
    """What one arm did with one probe, and what a reader is given by that."""

    asked: Asked
    outcome: Outcome
    given: str
    """As far as the budget goes."""


@dataclass(frozen=True, slots=True)
class _Spoken:
    """What a model said to one probe with evidence, before anything of it is served."""

    asked: Asked
    chosen: tuple[int, ...]
    text: str
    took_ms: float


def no_evidence(_question: str, _project: str) -> Sequence[Offered]:
    """A memory in which nothing is found."""
    return ()


def judge(
    probes: Sequence[Probe],
    *,
    base: Speaker,
    candidate: Speaker,
    placebo: Speaker | None = None,
    recall: Recall = no_evidence,
    probes_hash: str = "",
    dials: Dials | None = None,
    rarity: Rarity | None = None,
    is_sure: Sure = always,
    on_arm: Callable[[str, float], None] = lambda _arm, _done: None,
) -> Judged:
    """Ask everybody everything. `rarity`: of words in the user's memory, for keyword coverage.

    on_arm: told which arm is at work and the share of all work that is done.
    """
    ways = dials or Dials()
    # Of a model that is here to be compared with, only what is served is asked for.
    plain = replace(ways, writes=ways.num_served > 0)
    found = laid_out(probes, recall, is_sure)
    served = [each for each in found.shown if each.offered]  # where recall brings nothing, no model is asked
    wide = [
        replace(each, offered=fitting(found.behind.get(each.probe.id, each.offered), ways.long_context_chars))
        for each in served
    ]
    gold = [gold_only(each) for each in found.shown]
    answers: dict[str, tuple[Answer, ...]] = {}

    def by_candidate() -> tuple[Answer, ...]:
        spoken = _spoken(served, candidate, ways, is_timed=True)
        if ways.writes and not ways.num_served:
            told = [each for each in spoken if not each.asked.is_choice]
            answers[SENTENCES] = _served(told, replace(ways, max_sentences=MAX_SENTENCES))
        return _served(spoken, ways)

    work: list[tuple[str, Callable[[], tuple[Answer, ...]]]] = [
        ("no memory", lambda: _closed(found.closed, base, ways)),
        ("retrieval", lambda: tuple(_unsaid(_ranking(each, ways)) for each in found.shown)),
        ("retrieval + base", lambda: _served(_spoken(served, base, plain, is_timed=True), plain)),
        ("long context", lambda: _served(_spoken(wide, base, plain), plain)),
        ("oracle", lambda: _served(_spoken(gold, base, plain), plain)),
        ("weights", lambda: _closed(found.closed, candidate, ways)),
        (SERVED, by_candidate),
    ]
    if placebo is not None:
        other = placebo
        work.append(
            (
                "placebo",
                lambda: (*_closed(found.closed, other, ways), *_served(_spoken(found.open, other, plain), plain)),
            )
        )
    for number, (arm, run) in enumerate(work):
        on_arm(arm, number / len(work))
        answers[arm] = run()
    by_base = answers.pop("retrieval + base")
    for_base = {arm: answers[arm] for arm in ("no memory", "retrieval", "long context", "oracle")} | {
        "weights": answers["no memory"],
        SERVED: by_base,
    }
    about = (probes_hash, ways.num_served, rarity)
    return Judged(_sheet(for_base, base, *about), _sheet(answers, candidate, *about))


def served(
    probes: Sequence[Probe],
    speaker: Speaker,
    *,
    recall: Recall = no_evidence,
    is_sure: Sure = always,
    dials: Dials | None = None,
) -> tuple[Outcome, ...]:
    """What a reader is served with this model, whole: `Outcome.output` is all that the budget holds."""
    ways = dials or Dials()
    answers = _served(_spoken(laid_out(probes, recall, is_sure).shown, speaker, ways), ways)
    return tuple(replace(each.outcome, output=each.given) for each in answers)


def ranked(probes: Sequence[Probe], *, recall: Recall = no_evidence, dials: Dials | None = None) -> tuple[Outcome, ...]:
    """What a reader is served without any model."""
    return tuple(_ranking(each, dials or Dials()).outcome for each in laid_out(probes, recall).shown)


def from_memory(probes: Sequence[Probe], speaker: Speaker, *, dials: Dials | None = None) -> tuple[Outcome, ...]:
    """What this model says to those probes that can be asked without evidence."""
    closed = laid_out(probes, no_evidence).closed
    return tuple(each.outcome for each in _closed(closed, speaker, dials or Dials()))


def _closed(asked: Sequence[Asked], speaker: Speaker, dials: Dials) -> tuple[Answer, ...]:
    """Ask without evidence."""
    said = speaker.generate([each.probe.prompt for each in asked], max_new_tokens=dials.max_answer_tokens)
    found = []
    for each, text in zip(asked, said, strict=True):
        abstained = _is_silent(text)
        score = float(abstained) if each.should_abstain else float(is_right(each.probe.answers, text))
        loss = speaker.answer_loss(each.probe.prompt, each.probe.answers[0]) if each.probe.answers else 0.0
        outcome = _outcome(each, score, output=text, loss_nats=loss, abstained=abstained)
        found.append(Answer(each, outcome, text))
    return tuple(found)


def _ranking(asked: Asked, dials: Dials) -> Answer:
    """What recall serves without any model: its lines, in its order. It never says of itself that nothing answers."""
    order = [each.number for each in asked.offered]
    text = _cut("\n".join(each.text for each in asked.offered), dials)
    score = _score(asked, order, text, dials, abstained=not order)
    return Answer(asked, _outcome(asked, score, output=text, abstained=not order), text)


def _unsaid(answer: Answer) -> Answer:
    """Without the lines, which no model said: they are of the whole memory, and nobody reads them again."""
    return replace(answer, outcome=replace(answer.outcome, output=""))


def _spoken(asked: Sequence[Asked], speaker: Speaker, dials: Dials, *, is_timed: bool = False) -> tuple[_Spoken, ...]:
    """What a model has to say: it chooses, and writes where it chose something.

    is_timed: each is asked by itself, as somebody who waits asks; else sentences are written side by side, which is quicker.
    What is written and not served takes nobody's time, so it is not timed.
    """
    is_awaited = is_timed and dials.num_served > 0
    found: list[_Spoken] = []
    for each in asked:
        started_s = time.perf_counter()
        may = [line.number for line in each.offered]
        chosen = speaker.choose(prompting.choosing(each.question, each.offered), may) if may else ()
        text = _written([(each, chosen)], speaker, dials)[0] if is_awaited else ""
        found.append(_Spoken(each, chosen, text, 1000 * (time.perf_counter() - started_s)))
    if is_awaited:
        return tuple(found)
    texts = _written([(each.asked, each.chosen) for each in found], speaker, dials)
    return tuple(replace(each, text=text) for each, text in zip(found, texts, strict=True))


def _written(those: Sequence[tuple[Asked, tuple[int, ...]]], speaker: Speaker, dials: Dials) -> list[str]:
    """Sentences copied from the lines chosen; '' for a choice, and where nothing was chosen."""
    # All lines, as serving and lessons show them.
    writing = {
        n: prompting.writing(each.question, each.offered)
        for n, (each, chosen) in enumerate(those)
        if chosen and dials.writes and not each.is_choice
    }
    most = TOKENS_PER_SENTENCE * (dials.max_sentences or MAX_SENTENCES)
    copied = [[line for line in those[n][0].offered if line.number in those[n][1]] for n in writing]
    said = speaker.generate(list(writing.values()), max_new_tokens=most, copied=copied) if writing else []
    texts = dict(zip(writing, said, strict=True))
    return [texts.get(n, "") for n in range(len(those))]


def _served(spoken: Iterable[_Spoken], dials: Dials) -> tuple[Answer, ...]:
    """What recall serves of that: sentences that were checked and stand, as many as may be; chosen lines; the rest."""
    found = []
    for each in spoken:
        offered, served = each.asked.offered, dials.num_served
        lines = {line.number: line for line in offered}
        stands, dropped = validated(each.text, offered) if served else ((), ())
        order = [*each.chosen, *(number for number in lines if number not in each.chosen)]
        order = order if is_told(each.chosen, is_sure=each.asked.is_sure) else []
        new = [one.text for one in stands if adds(one, offered)][:served]
        told = [*new, *(lines[number].text for number in order)]
        given, num = _cut("\n".join(told), dials), len(stands) + len(dropped)
        is_written = served and not each.asked.is_choice
        outcome = _outcome(
            each.asked,
            _score(each.asked, order, given, dials, abstained=not each.chosen),
            output=each.text if is_written else " ".join(map(str, each.chosen)) or "none",
            latency_ms=each.took_ms,
            abstained=not each.chosen,
            num_sentences=num,
            supported=len(stands) / num if num else None,
            num_new=len(new),
            cites_known=all(set(sentence.cites) <= set(lines) for sentence in stands),
        )
        found.append(Answer(each.asked, outcome, given))
    return tuple(found)


def _score(asked: Asked, order: Sequence[int], text: str, dials: Dials, *, abstained: bool) -> float:
    if asked.should_abstain:
        return float(abstained)
    if asked.is_choice:
        return reciprocal_rank(order, asked.answering)
    return float(is_right(asked.probe.answers, _cut(text, dials)))


def _cut(text: str, dials: Dials) -> str:
    return text[: dials.budget_tokens * CHARS_PER_TOKEN]


def _is_silent(text: str) -> bool:
    said = folded(text)
    return not said or said == "none" or said.startswith(folded(NOTHING).rstrip(".")) or not sentences(text)


def _outcome(
    asked: Asked,
    score: float,
    *,
    output: str,
    loss_nats: float = 0.0,
    latency_ms: float = 0.0,
    abstained: bool,
    num_sentences: int = 0,
    supported: float | None = None,
    num_new: int = 0,
    cites_known: bool = True,
) -> Outcome:
    probe = asked.probe
    return Outcome(
        probe_id=probe.id,
        slice=probe.slice,
        category=probe.category,
        cohort=probe.cohort,
        score=score,
        output=output,
        loss_nats=loss_nats,
        latency_ms=latency_ms,
        cites_known=cites_known,
        num_sentences=num_sentences,
        supported=supported,
        num_new=num_new,
        abstained=abstained,
        should_abstain=asked.should_abstain,
    )


def _sheet(
    answers: Mapping[str, tuple[Answer, ...]],
    speaker: Speaker,
    probes_hash: str,
    max_sentences: int,
    rarity: Rarity | None,
) -> ScoreSheet:
    arms = {arm: tuple(each.outcome for each in found) for arm, found in answers.items()}
    losses = [each.loss_nats for each in arms["weights"] if each.slice == GENERAL and each.loss_nats]
    took_ms = [each.latency_ms for each in arms[SERVED] if each.latency_ms]
    return ScoreSheet(
        model=speaker.name,
        probes_hash=probes_hash,
        outcomes=arms,
        median_loss_nats=statistics.median(losses) if losses else 0.0,
        adapter_bytes=speaker.num_bytes,
        p95_ms=percentile(took_ms, 95) if took_ms else 0.0,
        max_sentences=max_sentences,
        by_category={arm: by_category(_given(found), rarity) for arm, found in answers.items()},
    )


def _given(found: Iterable[Answer]) -> Iterator[Given]:
    """What the memory answers, that is: nothing of what any model knows, and of what has no answer."""
    for each in found:
        if each.asked.probe.slice != GENERAL and not each.asked.should_abstain:
            yield Given(each.outcome.category, each.outcome.score, each.given, each.asked.reference)
