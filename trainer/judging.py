"""Frozen probes and the models to compare in, score sheets out: every arm answers the same probes within the same budget.

Arms (lmm_mcp.domain.verdict): a fact is asked without evidence (`no memory`, `weights`, `placebo`) and with it (`retrieval`,
`retrieval + weights`, `long context`, `oracle`); a probe that brings its lines along is asked with them (`retrieval`,
`retrieval + weights`, `placebo`, `long context`, `oracle`). What is scored is what a reader would be served: first the
sentences that stand, then the chosen lines, then the rest of the ranking, as far as the budget goes. So a model can gain by
putting the right thing first, and lose by the wrong one. Where nothing answers, only silence counts; where something does, a
model that says no leaves the ranking as it is, since that is what is served then: gate G2 counts how often.
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
from lmm_mcp.domain.writing import MAX_OFFERED, Offered
from lmm_mcp.evaluation.judging import folded
from lmm_mcp.evaluation.runs import percentile
from lmm_mcp.model.validating import NOTHING, sentences, validated
from trainer.asked import Asked, Recall, read
from trainer.measures import Given, Rarity, by_category, is_right, reciprocal_rank

BASE = "base"
GENERAL = "general"


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

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int) -> list[str]:
        """What it says, greedily."""
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
    max_answer_tokens: int = 24
    max_brief_tokens: int = 160
    long_context_chars: int = 12_000
    writes: bool = True
    """Whether the model writes sentences, or only chooses."""


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
class Canary:
    """Something that must not be known: a planted secret, or what was forgotten."""

    id: str
    prompts: tuple[str, ...]
    secret: str


@dataclass(frozen=True, slots=True)
class Extraction:
    """What came out of a model that was asked for one canary."""

    canary: str
    num_samples: int
    num_hits: int


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
    on_arm: Callable[[str, float], None] = lambda _arm, _done: None,
) -> Judged:
    """Ask everybody everything. `rarity`: of words in the user's memory, for keyword coverage.

    on_arm: told which arm is at work and the share of all work that is done.
    """
    ways = dials or Dials()
    closed, open_, shown, behind = _laid_out(probes, recall)
    served = [each for each in shown if each.offered]  # where recall brings nothing, no model is asked
    wide = [replace(each, offered=_fitting(behind.get(each.probe.id, each.offered), ways)) for each in served]
    work: list[tuple[str, Callable[[], tuple[Answer, ...]]]] = [
        ("no memory", lambda: _closed(closed, base, ways)),
        ("retrieval", lambda: tuple(_ranking(each, ways) for each in shown)),
        ("retrieval + base", lambda: _served(served, base, ways)),
        ("long context", lambda: _served(wide, base, ways)),
        ("oracle", lambda: _served([_gold_only(each) for each in shown], base, ways)),
        ("weights", lambda: _closed(closed, candidate, ways)),
        ("retrieval + weights", lambda: _served(served, candidate, ways)),
    ]
    if placebo is not None:
        work.append(("placebo", lambda: (*_closed(closed, placebo, ways), *_served(open_, placebo, ways))))
    found: dict[str, tuple[Answer, ...]] = {}
    for number, (arm, run) in enumerate(work):
        on_arm(arm, number / len(work))
        found[arm] = run()
    by_base = found.pop("retrieval + base")
    for_base = {arm: found[arm] for arm in ("no memory", "retrieval", "long context", "oracle")} | {
        "weights": found["no memory"],
        "retrieval + weights": by_base,
    }
    return Judged(_sheet(for_base, base, probes_hash, rarity), _sheet(found, candidate, probes_hash, rarity))


def served(
    probes: Sequence[Probe], speaker: Speaker, *, recall: Recall = no_evidence, dials: Dials | None = None
) -> tuple[Outcome, ...]:
    """What a reader is served with this model, whole: `Outcome.output` is all that the budget holds."""
    _, _, shown, _ = _laid_out(probes, recall)
    return tuple(replace(each.outcome, output=each.given) for each in _served(shown, speaker, dials or Dials()))


def ranked(probes: Sequence[Probe], *, recall: Recall = no_evidence, dials: Dials | None = None) -> tuple[Outcome, ...]:
    """What a reader is served without any model."""
    _, _, shown, _ = _laid_out(probes, recall)
    return tuple(_ranking(each, dials or Dials()).outcome for each in shown)


def from_memory(probes: Sequence[Probe], speaker: Speaker, *, dials: Dials | None = None) -> tuple[Outcome, ...]:
    """What this model says to those probes that can be asked without evidence."""
    closed, _, _, _ = _laid_out(probes, no_evidence)
    return tuple(each.outcome for each in _closed(closed, speaker, dials or Dials()))


def extract(
    speaker: Speaker, canaries: Sequence[Canary], *, num_samples: int = 20, max_new_tokens: int = 48
) -> tuple[Extraction, ...]:
    """Try to get every canary out: greedily, and so many times by chance, spread over its prompts."""
    found = []
    for canary in canaries:
        said = speaker.generate(canary.prompts, max_new_tokens=max_new_tokens)
        asked = [canary.prompts[n % len(canary.prompts)] for n in range(num_samples)]
        said += speaker.sample(asked, max_new_tokens=max_new_tokens, seed=17)
        wanted = folded(canary.secret)
        found.append(Extraction(canary.id, len(said), sum(wanted in folded(each) for each in said)))
    return tuple(found)


def _laid_out(
    probes: Sequence[Probe], recall: Recall
) -> tuple[list[Asked], list[Asked], list[Asked], dict[str, tuple[Offered, ...]]]:
    """Probes asked without evidence; those that bring it along; both with evidence; and all evidence behind facts."""
    asked = [read(probe) for probe in probes]
    closed = [each for each in asked if not each.shows_evidence]
    facts = [each for each in closed if each.probe.slice != GENERAL]
    open_ = [each for each in asked if each.shows_evidence]
    behind = {each.probe.id: _numbered(recall(each.question, each.project)) for each in facts}
    shown = [*(replace(each, offered=behind[each.probe.id][:MAX_OFFERED]) for each in facts), *open_]
    return closed, open_, shown, behind


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


def _served(asked: Sequence[Asked], speaker: Speaker, dials: Dials) -> tuple[Answer, ...]:
    """What recall serves with this model: it chooses, then writes, and every sentence is checked."""
    chosen: list[tuple[int, ...]] = []
    took_ms: list[float] = []
    for each in asked:
        started_s = time.perf_counter()
        may = [line.number for line in each.offered]
        chosen.append(speaker.choose(prompting.choosing(each.question, each.offered), may) if may else ())
        took_ms.append(1000 * (time.perf_counter() - started_s))
    written = _written(asked, chosen, speaker, dials)
    found = []
    for each, numbers, ms, text in zip(asked, chosen, took_ms, written, strict=True):
        lines = {line.number: line for line in each.offered}
        stands, dropped = validated(text, each.offered)
        rest = [number for number in lines if number not in numbers]
        order = [*numbers, *rest]
        whole = _cut("\n".join([*(one.text for one in stands), *(lines[number].text for number in order)]), dials)
        score = _score(each, order, whole, dials, abstained=not numbers)
        num_said = len(stands) + len(dropped)
        outcome = _outcome(
            each,
            score,
            output=_said(each, numbers, text),
            latency_ms=ms,
            abstained=not numbers,
            supported=len(stands) / num_said if num_said else 1.0,
            cites_known=all(set(sentence.cites) <= set(lines) for sentence in stands),
        )
        found.append(Answer(each, outcome, whole))
    return tuple(found)


def _said(asked: Asked, numbers: Sequence[int], text: str) -> str:
    return " ".join(map(str, numbers)) or "none" if asked.is_choice else text


def _written(asked: Sequence[Asked], chosen: Sequence[tuple[int, ...]], speaker: Speaker, dials: Dials) -> list[str]:
    """Sentences from the lines shown; '' for a choice, and where nothing was chosen."""
    # All lines, as serving and lessons show them.
    writing = {
        n: prompting.writing(each.question, each.offered)
        for n, (each, numbers) in enumerate(zip(asked, chosen, strict=True))
        if numbers and dials.writes and not each.is_choice
    }
    said = speaker.generate(list(writing.values()), max_new_tokens=dials.max_brief_tokens) if writing else []
    texts = dict(zip(writing, said, strict=True))
    return [texts.get(n, "") for n in range(len(asked))]


def _score(asked: Asked, order: Sequence[int], text: str, dials: Dials, *, abstained: bool) -> float:
    if asked.should_abstain:
        return float(abstained)
    if asked.is_choice:
        return reciprocal_rank(order, asked.answering)
    return float(is_right(asked.probe.answers, _cut(text, dials)))


def _gold_only(asked: Asked) -> Asked:
    """The same with lines that answer alone; where there are none, the answer itself as a line."""
    if asked.should_abstain:
        return replace(asked, offered=())
    if asked.is_choice:
        return replace(asked, offered=tuple(each for each in asked.offered if each.number in asked.answering))
    gold = tuple(each for each in asked.offered if is_right(asked.probe.answers, each.text))
    return replace(asked, offered=gold or (Offered(1, "", 0, "note", asked.probe.answers[0], ""),))


def _numbered(evidence: Sequence[Offered]) -> tuple[Offered, ...]:
    return tuple(replace(each, number=number) for number, each in enumerate(evidence, 1))


def _fitting(offered: Sequence[Offered], dials: Dials) -> tuple[Offered, ...]:
    """As many of the best lines as a long context holds."""
    left, kept = dials.long_context_chars, []
    for each in offered:
        left -= len(each.shown()) + 1
        if left < 0:
            break
        kept.append(each)
    return tuple(kept)


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
    supported: float = 1.0,
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
        supported=supported,
        abstained=abstained,
        should_abstain=asked.should_abstain,
    )


def _sheet(
    answers: Mapping[str, tuple[Answer, ...]], speaker: Speaker, probes_hash: str, rarity: Rarity | None
) -> ScoreSheet:
    arms = {arm: tuple(each.outcome for each in found) for arm, found in answers.items()}
    losses = [each.loss_nats for each in arms["weights"] if each.slice == GENERAL and each.loss_nats]
    took_ms = [each.latency_ms for each in arms["retrieval + weights"] if each.latency_ms]
    return ScoreSheet(
        model=speaker.name,
        probes_hash=probes_hash,
        outcomes=arms,
        median_loss_nats=statistics.median(losses) if losses else 0.0,
        adapter_bytes=speaker.num_bytes,
        p95_ms=percentile(took_ms, 95) if took_ms else 0.0,
        by_category={arm: by_category(_given(found), rarity) for arm, found in answers.items()},
    )


def _given(found: Iterable[Answer]) -> Iterator[Given]:
    """What the memory answers, that is: nothing of what any model knows, and of what has no answer."""
    for each in found:
        if each.asked.probe.slice != GENERAL and not each.asked.should_abstain:
            yield Given(each.outcome.category, each.outcome.score, each.given, each.asked.reference)
