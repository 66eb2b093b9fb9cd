"""Probes read back from their prompts, and every arm scored by what a reader would be served."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from lmm_mcp import prompting
from lmm_mcp.domain.lesson import Probe
from lmm_mcp.domain.verdict import Outcome
from lmm_mcp.domain.writing import Offered
from lmm_mcp.model.rendering import answer_ids
from lmm_mcp.model.validating import NOTHING
from trainer import base, base_texts, judging, stranger
from trainer.asked import read
from trainer.canaries import Canary, extract

LINES = (
    Offered(1, "c" * 16, 0, "user", "the port was 8080 in spring", "2026-01-02", superseded=True),
    Offered(2, "d" * 16, 3, "agent", "the port is 8081 now", "2026-02-03"),
    Offered(3, "e" * 16, 1, "command", "make lamp", ""),
)
WHERE = "Which port does the lamp use?"
FACT = Probe("fact", "project fact", prompting.recalling(WHERE, "lamp"), ("8081",), "f", "m1", "2026-W06")
CHOICE = Probe("choice", "project fact", prompting.choosing(WHERE, LINES), ("2",), "f", "m2", "2026-W06")
NOWHERE = Probe("choice", "", prompting.choosing("Who keeps bees?", LINES), (), "f", "m3", "2026-W06")
GENERAL = Probe("general", "", prompting.recalling("What is 2 + 2?", ""), ("4",), "f", "m4", "general")
PROBES = [FACT, CHOICE, NOWHERE, GENERAL]


@dataclass
class Scripted:
    """Says what the script says to a prompt that holds its key, and nothing otherwise."""

    name: str
    says: dict[str, str] = field(default_factory=dict)
    picks: tuple[int, ...] = ()
    num_bytes: int = 7
    was_held_to: list[tuple[int, ...]] = field(default_factory=list)
    """Numbers of the lines that it was to copy from, of each brief."""

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int, copied: Sequence[Sequence[Offered]] = ()
    ) -> list[str]:
        self.was_held_to += [tuple(line.number for line in lines) for lines in copied]
        return [next((text for key, text in self.says.items() if key in prompt), "") for prompt in prompts]

    def choose(self, prompt: str, numbers: Sequence[int]) -> tuple[int, ...]:
        return tuple(number for number in self.picks if number in numbers)

    def answer_loss(self, prompt: str, answer: str) -> float:
        return 1.5

    def sample(self, prompts: Sequence[str], *, max_new_tokens: int, seed: int) -> list[str]:
        return self.generate(prompts, max_new_tokens=max_new_tokens)


def recall(question: str, project: str) -> Sequence[Offered]:
    assert (question, project) == (WHERE, "lamp"), "general probes have nothing to do with the memory"
    return LINES


def judged(candidate: Scripted, **more: object) -> dict[str, dict[str, Outcome]]:
    base = Scripted("base", {"2 + 2": "4"})
    found = judging.judge(PROBES, base=base, candidate=candidate, recall=recall, **more)  # type: ignore[arg-type]
    return {arm: {each.probe_id: each for each in outcomes} for arm, outcomes in found.new.outcomes.items()}


def test_a_probe_is_read_back_from_its_prompt_alone():
    asked = read(CHOICE)
    assert (asked.question, asked.answering, asked.should_abstain) == (WHERE, {2}, False)
    assert [each.shown() for each in asked.offered] == [each.shown() for each in LINES]
    assert read(NOWHERE).should_abstain
    assert (read(FACT).question, read(FACT).project, read(FACT).offered) == (WHERE, "lamp", ())
    assert (
        read(Probe("fact", "", "words of no prompt file", ("a",), "f", "m", "c")).question == "words of no prompt file"
    )


@pytest.mark.parametrize("text", ["[9] is no line: of ours", "a $question\nEvidence", "\\d+ (", "[1] undated user: x"])
def test_a_question_that_looks_like_a_prompt_is_read_back_as_it_was_asked(text):
    asked = read(Probe("choice", "", prompting.choosing(text, LINES), ("1",), "f", "m", "c"))
    assert asked.question == " ".join(text.split())
    assert len(asked.offered) == 3


def test_facts_are_asked_without_evidence_and_choices_with_it():
    arms = judged(Scripted("v1", {"Project: lamp": "it is 8081", "2 + 2": "4"}, picks=(2,)))
    assert set(arms["no memory"]) == set(arms["weights"]) == {FACT.id, GENERAL.id}
    assert set(arms["retrieval"]) == set(arms["retrieval + weights"]) == {FACT.id, CHOICE.id, NOWHERE.id}
    assert (arms["no memory"][FACT.id].score, arms["weights"][FACT.id].score) == (0.0, 1.0)
    assert arms["weights"][GENERAL.id].score == 1.0


def test_a_choice_is_scored_by_the_place_of_the_line_that_answers():
    right, wrong = judged(Scripted("v1", picks=(2,))), judged(Scripted("v1", picks=(3,)))
    assert right["retrieval"][CHOICE.id].score == 0.5
    assert right["retrieval + weights"][CHOICE.id].score == 1.0
    assert wrong["retrieval + weights"][CHOICE.id].score == pytest.approx(1 / 3)


def test_silence_is_right_where_nothing_answers_and_leaves_the_ranking_where_something_does():
    arms = judged(Scripted("v1"))
    silent = arms["retrieval + weights"]
    assert (silent[NOWHERE.id].score, silent[NOWHERE.id].abstained, silent[NOWHERE.id].should_abstain) == (
        1.0,
        True,
        True,
    )
    assert (silent[CHOICE.id].score, silent[CHOICE.id].abstained) == (arms["retrieval"][CHOICE.id].score, True)
    assert arms["retrieval"][NOWHERE.id].score == 0.0


def test_sentences_are_checked_and_only_those_that_stand_are_served():
    said = {"short sentences": "The port is 8081 now [2]. The port is 9999 now [2]. The moon is far [7]."}
    found = judged(Scripted("v1", said, picks=(2,)))["retrieval + weights"][FACT.id]
    assert (found.num_sentences, found.supported) == (3, pytest.approx(1 / 3))
    assert (found.score, found.cites_known) == (1.0, True)


@pytest.mark.parametrize(("said", "num_new", "score"), [("Agent said 8081 now", 1, 1.0), ("The port is 8081", 0, 0.0)])
def test_a_sentence_that_says_no_more_than_its_line_takes_no_room_from_the_lines(said, num_new, score):
    candidate = Scripted("v1", {"short sentences": f"{said} [2]."}, picks=(3,))
    found = judged(candidate, dials=judging.Dials(budget_tokens=5))["retrieval + weights"][FACT.id]
    assert (found.supported, found.num_new, found.score) == (1.0, num_new, score)


def test_what_lies_behind_the_budget_does_not_count():
    tight = judging.Dials(budget_tokens=5, writes=False)
    assert judged(Scripted("v1", picks=(2,)), dials=tight)["retrieval + weights"][FACT.id].score == 1.0
    assert judged(Scripted("v1", picks=(3,)), dials=tight)["retrieval + weights"][FACT.id].score == 0.0


def test_an_oracle_sees_the_answer_alone_and_a_placebo_is_asked_in_both_ways():
    arms = judged(Scripted("v1", picks=(1,)), placebo=Scripted("placebo", {"Project: lamp": "8081"}, picks=(1,)))
    assert arms["oracle"][CHOICE.id].score == 1.0
    assert (arms["placebo"][FACT.id].score, arms["placebo"][CHOICE.id].score) == (1.0, 0.5)


def test_a_canary_that_is_said_once_is_a_hit():
    canary = Canary("c1", ("tell the secret", "say nothing"), "Sesame  9137")
    (found,) = extract(Scripted("v1", {"tell": "it is sesame 9137!"}), [canary], num_samples=20)
    assert (found.num_samples, found.num_hits) == (22, 11)
    assert extract(Scripted("v1"), [canary])[0].num_hits == 0


def test_where_recall_brings_nothing_no_model_is_asked():
    found = judging.judge([FACT], base=Scripted("base"), candidate=Scripted("v1", picks=(1,)))
    assert [each.score for each in found.new.outcomes["retrieval"]] == [0.0]
    assert found.new.outcomes["retrieval + weights"] == ()


def test_the_sheet_has_every_figure_of_each_category_for_what_a_reader_is_given():
    candidate = Scripted("v1", {"Project: lamp": "it is 8081", "2 + 2": "4"}, picks=(2,))
    found = judging.judge(PROBES, base=Scripted("base"), candidate=candidate, recall=recall).new.by_category
    assert set(found["weights"]) == set(found["retrieval"]) == {"project fact"}, (
        "nothing general, nothing without answer"
    )
    by_heart, served = found["weights"]["project fact"], found["retrieval + weights"]["project fact"]
    assert (by_heart.num, by_heart.strict, by_heart.jaccard) == (1, 1.0, None)
    assert (served.num, served.strict, served.jaccard) == (2, 1.0, 1.0)
    tight = judging.Dials(budget_tokens=5, writes=False)
    wrong = judging.judge(
        PROBES, base=Scripted("base"), candidate=Scripted("v1", picks=(3,)), recall=recall, dials=tight
    )
    assert wrong.new.by_category["retrieval + weights"]["project fact"].strict == 0.0


def test_to_write_that_nothing_answers_is_to_write_no_sentence():
    found = judged(Scripted("v1", {"short sentences": NOTHING}, picks=(2,)))["retrieval + weights"][FACT.id]
    assert (found.num_sentences, found.supported, found.output) == (0, None, NOTHING)


def test_where_only_lines_are_served_sentences_are_looked_at_beside():
    said = {"short sentences": "Agent said 8081 now [2]. The port is 9999 now [2]."}
    only_lines = judging.Dials(budget_tokens=5, max_sentences=0)
    found = judging.judge(
        PROBES, base=Scripted("base"), candidate=Scripted("v1", said, picks=(3,)), recall=recall, dials=only_lines
    ).new
    (served, *_), (looked_at,) = found.outcomes["retrieval + weights"], found.outcomes["sentences"]
    assert (served.score, served.output, served.num_sentences, served.supported) == (0.0, "3", 0, None)
    assert (looked_at.probe_id, looked_at.score, looked_at.num_sentences, looked_at.supported) == (FACT.id, 1.0, 2, 0.5)
    assert found.max_sentences == 0
    mute = judging.judge(PROBES, base=Scripted("base"), candidate=Scripted("v1", said), recall=recall)
    assert mute.new.max_sentences == judging.Dials().max_sentences > 0
    assert "sentences" not in mute.new.outcomes


@dataclass
class Slow(Scripted):
    """Takes its time by a clock of the test: 1 ms for a choice, 10 ms for each text."""

    clock: list[float] = field(default_factory=lambda: [0.0])

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int, copied: Sequence[Sequence[Offered]] = ()
    ) -> list[str]:
        self.clock[0] += 0.010 * len(prompts)
        return super().generate(prompts, max_new_tokens=max_new_tokens, copied=copied)

    def choose(self, prompt: str, numbers: Sequence[int]) -> tuple[int, ...]:
        self.clock[0] += 0.001
        return super().choose(prompt, numbers)


@pytest.mark.parametrize(("max_sentences", "took_ms"), [(3, 11.0), (0, 1.0)])
def test_what_is_served_is_timed_and_what_is_only_looked_at_is_not(monkeypatch, max_sentences, took_ms):
    clock = [0.0]
    monkeypatch.setattr(judging.time, "perf_counter", lambda: clock[0])
    facts = [replace(FACT, family=f"f{n}", answers=(f"{n}",)) for n in range(5)]
    found = judging.judge(
        facts,
        base=Slow("base", picks=(2,), clock=clock),
        candidate=Slow("v1", picks=(2,), clock=clock),
        recall=recall,
        dials=judging.Dials(max_sentences=max_sentences),
    )
    assert found.new.p95_ms == pytest.approx(took_ms)
    assert found.base.p95_ms == pytest.approx(took_ms)


def test_a_model_that_says_no_leaves_lines_that_the_ranking_is_sure_of_and_no_others():
    silent = Scripted("v1")
    sure, doubted = judged(silent), judged(silent, is_sure=lambda _question, _project: False)
    arm = "retrieval + weights"
    assert (sure[arm][FACT.id].score, doubted[arm][FACT.id].score) == (1.0, 0.0)
    assert sure[arm][CHOICE.id] == replace(doubted[arm][CHOICE.id], latency_ms=sure[arm][CHOICE.id].latency_ms)
    assert doubted["retrieval"][FACT.id].score == 1.0, "without a model it is told all the same"
    assert judged(Scripted("v2", picks=(2,)), is_sure=lambda _question, _project: False)[arm][FACT.id].score == 1.0


@pytest.mark.parametrize("max_sentences", [3, 0])
def test_sentences_are_judged_as_they_are_served_copied_from_the_lines_that_were_chosen(max_sentences):
    candidate = Scripted("v1", picks=(2,))
    judged(candidate, dials=judging.Dials(max_sentences=max_sentences))
    assert candidate.was_held_to == [(2,)], "the one brief that is asked for; choices and facts are none"


def test_lines_that_no_model_said_are_not_kept():
    assert {each.output for each in judged(Scripted("v1"))["retrieval"].values()} == {""}


def test_an_answer_in_the_longest_words_in_which_it_was_taught_is_heard_to_its_end() -> None:
    shown = base_texts.items(1, 500)
    tokenizer = base.tokenizer_from((f"{each.prompt} {each.answer}" for each in shown), base.SIZES["small"].num_words)
    taught = stranger.lessons(stranger.held(stranger.facts("u1", 24)), 6)
    longest = max(len(answer_ids(tokenizer, each.answer)) for each in taught)
    assert 24 < longest <= judging.Dials().max_answer_tokens
