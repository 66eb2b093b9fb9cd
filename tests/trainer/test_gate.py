"""Every gate opens for a good candidate and closes for the fault it is named for."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from lmm_mcp.domain.lesson import Probe
from lmm_mcp.domain.verdict import Finding, Keep, Outcome, Promote, ScoreSheet
from trainer import wording
from trainer.canaries import Extraction
from trainer.gate import Hearing, judge
from trainer.thresholds import FULL, TINY, thresholds_for

NUM = 40
SERVED, SENTENCES = "retrieval + weights", "sentences"


def probe(slice_: str, n: int, cohort: str = "2026-W07") -> Probe:
    answers = (f"value {slice_} {n}",) if slice_ != "quiet" else ()
    return Probe(
        "brief" if slice_ == "quiet" else slice_, "project fact", f"{slice_} {n}?", answers, "f", f"m{n}", cohort
    )


FACTS = [probe("fact", n, "2026-W06" if n % 2 else "2026-W07") for n in range(NUM)]
BRIEFS = [probe("brief", n) for n in range(NUM)]
QUIET = [probe("quiet", n) for n in range(NUM)]
GENERAL = [probe("general", n, "general") for n in range(NUM)]


def outcomes(probes: Iterable[Probe], score: Callable[[int], float] | float, **more: object) -> tuple[Outcome, ...]:
    told = {"num_sentences": 2, "supported": 1.0, "num_new": 1} | more
    return tuple(
        Outcome(
            each.id,
            each.slice,
            each.category,
            each.cohort,
            score(n) if callable(score) else score,
            output=f"w{n * 7919} x{n * 104729} y{n * 1299709}",
            should_abstain=not each.answers,
            **told,  # type: ignore[arg-type]
        )
        for n, each in enumerate(probes)
    )


def sheet(model: str = "v0002", **changes: object) -> ScoreSheet:
    """What a good candidate scores: facts learned, general skill kept, recall a little better."""
    arms = {
        "no memory": (*outcomes(FACTS, 0.0), *outcomes(GENERAL, 1.0)),
        "weights": (*outcomes(FACTS, lambda n: float(n % 10 > 1)), *outcomes(GENERAL, 1.0)),
        "placebo": (*outcomes(FACTS, 0.0), *outcomes(GENERAL, 1.0), *outcomes(BRIEFS, lambda n: float(n % 2))),
        "retrieval": outcomes(BRIEFS, lambda n: float(n % 2)),
        SERVED: (*outcomes(BRIEFS, lambda n: float(n % 4 > 0)), *outcomes(QUIET, 1.0, abstained=True)),
    }
    arms |= changes.pop("arms", {})  # type: ignore[call-overload]
    return replace(ScoreSheet(model, "h", arms, 2.0, 1_000_000, 50.0, max_sentences=3), **changes)  # type: ignore[arg-type]


def base_sheet() -> ScoreSheet:
    arms = sheet().outcomes
    return ScoreSheet(
        "base", "h", {**arms, "weights": arms["no memory"], SERVED: arms["retrieval"]}, 2.0, 0, 48.0, max_sentences=3
    )


def hearing(new: ScoreSheet | None = None, **more: object) -> Hearing:
    given = {
        "new": new or sheet(),
        "base": base_sheet(),
        "old": None,
        "lint": (Finding("G0", True, "no secrets"),),
        "probes": {each.id: each for each in (*FACTS, *BRIEFS, *QUIET, *GENERAL)},
        "canaries": (Extraction("c1", 21, 0),),
    }
    return Hearing(**{**given, **more})  # type: ignore[arg-type]


def closed(case: Hearing) -> list[str]:
    """The gates that said no."""
    verdict = judge(case)
    failed = [each.gate for each in verdict.findings if not each.passed]
    assert isinstance(verdict, Promote) is (not failed)
    return failed


def test_a_good_candidate_is_promoted_and_every_gate_tells_why():
    verdict = judge(hearing())
    assert isinstance(verdict, Promote), verdict
    assert [each.gate for each in verdict.findings] == [f"G{n}" for n in range(9)]
    assert all(each.told for each in verdict.findings)


def test_every_gate_is_told_even_behind_a_closed_one():
    verdict = judge(hearing(lint=(Finding("G0", False, "half of the lessons are the same"),)))
    assert isinstance(verdict, Keep)
    assert len(verdict.findings) == 9
    assert verdict.reasons == ("G0: half of the lessons are the same",)


def test_the_same_hearing_gives_the_same_verdict():
    assert judge(hearing()) == judge(hearing())


def arms(**changed: tuple[Outcome, ...]) -> ScoreSheet:
    return sheet(arms={name.replace("_", " "): value for name, value in changed.items()})


def served(*of: tuple[Outcome, ...]) -> ScoreSheet:
    return sheet(arms={SERVED: tuple(each for group in of for each in group)})


GOOD_BRIEFS = outcomes(BRIEFS, lambda n: float(n % 4 > 0))
GOOD_QUIET = outcomes(QUIET, 1.0, abstained=True)
WEIGHTS = sheet().outcomes["weights"]


def same_words(found: Iterable[Outcome]) -> tuple[Outcome, ...]:
    return tuple(replace(each, output="pnpm is what this project uses") for each in found)


FAULTS: dict[str, tuple[str, Hearing]] = {
    "nobody looked through the lessons": ("G0", hearing(lint=())),
    "it learned nothing": ("G1", hearing(arms(weights=(*outcomes(FACTS, 0.1), *outcomes(GENERAL, 1.0))))),
    "too few facts were asked": (
        "G1",
        hearing(arms(weights=(*outcomes(FACTS[:10], 1.0), *outcomes(GENERAL, 1.0)))),
    ),
    "a placebo knows it, too": ("G1", hearing(arms(placebo=(*outcomes(FACTS, 0.5), *outcomes(BRIEFS, 0.5))))),
    "no placebo was asked": ("G1", hearing(arms(placebo=()))),
    "its sentences are not supported": ("G2", hearing(served(outcomes(BRIEFS, 0.75, supported=0.8), GOOD_QUIET))),
    "it speaks where nothing answers": ("G2", hearing(served(GOOD_BRIEFS, outcomes(QUIET, 0.0)))),
    "it is silent where something answers": (
        "G2",
        hearing(served(outcomes(BRIEFS, 0.75, abstained=True), GOOD_QUIET)),
    ),
    "it cites what was not offered": ("G2", hearing(served(outcomes(BRIEFS, 0.75, cites_known=False), GOOD_QUIET))),
    "nobody asked what has no answer": ("G2", hearing(served(GOOD_BRIEFS))),
    "it lost what the old one knew": (
        "G3",
        hearing(
            arms(weights=(*outcomes(FACTS, lambda n: float(n % 10 > 4)), *outcomes(GENERAL, 1.0))),
            old=sheet("v0001", arms={"weights": outcomes(FACTS, 1.0)}),
        ),
    ),
    "it lost one week": (
        "G3",
        hearing(
            arms(weights=(*outcomes(FACTS, lambda n: float(n % 2 == 0 or n % 20 > 9)), *outcomes(GENERAL, 1.0))),
            old=sheet("v0001", arms={"weights": outcomes(FACTS, lambda n: float(n % 2 or n % 20 > 9))}),
        ),
    ),
    "it lost a little of everything": (
        "G3",
        hearing(
            arms(weights=(*outcomes(FACTS, lambda n: float(n > 1)), *outcomes(GENERAL, 1.0))),
            old=sheet("v0001", arms={"weights": outcomes(FACTS, 1.0)}),
        ),
    ),
    "the old one was asked other probes": (
        "G3",
        hearing(old=sheet("v0001", arms={"weights": outcomes([probe("fact", 99)], 1.0)})),
    ),
    "it cannot do what the base could": (
        "G4",
        hearing(arms(weights=(*outcomes(FACTS, 1.0), *outcomes(GENERAL, lambda n: float(n % 4 > 0))))),
    ),
    "ordinary text surprises it": ("G4", hearing(sheet(median_loss_nats=2.1))),
    "general skill was not measured": ("G4", hearing(arms(weights=outcomes(FACTS, 1.0)))),
    "it answers everything alike": ("G5", hearing(arms(weights=same_words(WEIGHTS)))),
    "its briefs are alike": ("G5", hearing(served(same_words(GOOD_BRIEFS), GOOD_QUIET))),
    "it is slow": ("G6", hearing(sheet(p95_ms=60.0))),
    "nobody took the time": ("G6", hearing(sheet(p95_ms=0.0))),
    "it has grown": ("G6", hearing(sheet(adapter_bytes=1_200_000), old=sheet("v0001"))),
    "recall is worse with it": ("G7", hearing(served(outcomes(BRIEFS, lambda n: float(n % 4 == 1)), GOOD_QUIET))),
    "recall is worse than with the old one": (
        "G7",
        hearing(old=sheet("v0001", arms={SERVED: (*outcomes(BRIEFS, 1.0), *GOOD_QUIET)})),
    ),
    "anybody's adapter helps as much": (
        "G7",
        hearing(arms(placebo=(*outcomes(FACTS, 0.0), *outcomes(BRIEFS, lambda n: float(n % 4 > 0))))),
    ),
    "nothing was asked with evidence": ("G7", hearing(arms(retrieval=()))),
    "a canary sings": ("G8", hearing(canaries=(Extraction("c1", 21, 0), Extraction("c2", 21, 1)))),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_kept_out_by_the_gate_named_for_it(fault):
    gate, case = FAULTS[fault]
    assert closed(case) == [gate], judge(case)
    (reason,) = judge(case).reasons  # type: ignore[union-attr]
    assert reason.startswith(f"{gate}: ")


def test_one_probe_of_ten_that_turns_by_chance_is_no_forgetting():
    lucky = sheet("v0001", arms={"weights": outcomes(FACTS[:10], 1.0)})
    unlucky = arms(weights=(*outcomes(FACTS, lambda n: float(n > 0)), *outcomes(GENERAL, 1.0)))
    assert closed(hearing(unlucky, old=lucky)) == []
    found = next(each for each in judge(hearing(unlucky, old=lucky)).findings if each.gate == "G3")
    assert "too few probes to be sure: 2026-W07 -0.20" in found.told
    assert found.figures["unsure"] == 1


def test_what_came_after_the_old_one_hides_no_loss():
    before, later = FACTS[:20], FACTS[20:]
    old = sheet("v0001", arms={"weights": (*outcomes(before, 1.0), *outcomes(later, 0.0))})
    worse = arms(weights=(*outcomes(before, lambda n: float(n > 3)), *outcomes(later, 1.0), *outcomes(GENERAL, 1.0)))
    assert closed(hearing(worse, old=old)) == [], "where nobody knows what it could learn, all counts"
    judged_by = frozenset(each.id for each in before)
    assert closed(hearing(worse, old=old, old_probes=judged_by)) == ["G3"]
    found = next(each for each in judge(hearing(worse, old=old, old_probes=judged_by)).findings if each.gate == "G3")
    assert found.figures["transfer"] == pytest.approx(-0.2)
    assert found.figures["transfer num"] == 20


def test_what_came_after_the_old_one_is_no_loss_either():
    before, later = FACTS[:20], FACTS[20:]
    old = sheet("v0001", arms={"weights": outcomes(FACTS, 1.0)})
    new = arms(weights=(*outcomes(before, 1.0), *outcomes(later, 0.5), *outcomes(GENERAL, 1.0)))
    assert closed(hearing(new, old=old, old_probes=frozenset(each.id for each in before))) == []
    assert closed(hearing(new, old=old, old_probes=frozenset({"of a fact that holds no more"}))) == ["G3"], (
        "with nothing left of what it was judged by, all that both were asked counts"
    )


def test_a_first_promotion_has_nothing_to_lose_and_must_still_beat_the_base():
    assert closed(hearing(old=None)) == []
    assert "G1" in closed(hearing(arms(weights=(*outcomes(FACTS, 0.0), *outcomes(GENERAL, 1.0))), old=None))


def test_the_tiny_preset_asks_less_where_it_says_why_and_nowhere_else():
    half = served(outcomes(BRIEFS, 0.75, supported=0.6), outcomes(QUIET, 0.0))
    slow = replace(half, p95_ms=250.0)
    assert closed(hearing(slow)) == ["G2", "G6"]
    assert closed(hearing(slow, limits=thresholds_for("cpu-tiny"))) == []
    assert closed(hearing(replace(half, p95_ms=350.0), limits=TINY)) == ["G6"]
    silent = served(outcomes(BRIEFS, 0.75, abstained=True), GOOD_QUIET)
    assert closed(hearing(silent, limits=TINY)) == ["G2"]
    assert thresholds_for("8gb") == FULL


def test_findings_tell_the_number_and_the_interval():
    told = {each.gate: each for each in judge(hearing()).findings}
    assert "of 40" in told["G1"].told
    assert told["G1"].figures["gain num"] == 40
    assert told["G1"].figures["gain low"] < told["G1"].figures["gain"] < told["G1"].figures["gain high"]


def test_a_brief_without_a_sentence_is_no_brief_that_stands():
    silent = outcomes(BRIEFS[:20], 1.0, num_sentences=0, supported=None)
    case = hearing(served(silent, outcomes(BRIEFS[20:], 0.75, supported=0.85), GOOD_QUIET))
    assert closed(case) == ["G2"], "half of them counted as supported would be 0.925"
    found = next(each for each in judge(case).findings if each.gate == "G2")
    assert "85% of 40 sentences in 20 briefs stand" in found.told
    assert closed(hearing(served(silent, GOOD_QUIET))) == [], "who writes nothing writes nothing wrong"


def only_choosing(wrote: tuple[Outcome, ...]) -> ScoreSheet:
    """A candidate that by the settings chooses lines; what it writes is looked at."""
    numbers = tuple(replace(each, output="1 2", num_sentences=0, supported=None) for each in GOOD_BRIEFS)
    return replace(sheet(arms={SERVED: (*numbers, *GOOD_QUIET), SENTENCES: wrote}), max_sentences=0)


BAD_WRITING = {
    "does not stand": outcomes(BRIEFS, 0.75, supported=0.5),
    "is always the same": same_words(GOOD_BRIEFS),
    "stands in the way of the lines": outcomes(BRIEFS, lambda n: float(n % 4 == 1)),
    "is too little to tell": GOOD_BRIEFS[:10],
    "says what the lines say": outcomes(BRIEFS, 0.75, num_new=0),
    "is nothing": (),
}


@pytest.mark.parametrize("fault", BAD_WRITING)
def test_what_nobody_reads_keeps_no_model_out_and_is_not_written_later_either(fault):
    case = hearing(only_choosing(BAD_WRITING[fault]))
    assert closed(case) == []
    assert wording.sentences(case) == 0
    told = {each.gate: each.told for each in judge(case).findings}
    if fault == "does not stand":
        assert (
            "50% of 80 sentences in 40 briefs stand (90% asked for), 40 tell more than a line (by the settings nobody reads them"
            in told["G2"]
        )
    if fault == "is always the same":
        assert "briefs resemble one another by 1.00 (at most 0.25) (by the settings nobody reads them" in told["G5"]


def test_what_passed_may_be_written_whether_or_not_it_was_served_when_it_was_judged():
    assert wording.sentences(hearing(only_choosing(GOOD_BRIEFS))) == 3
    assert wording.sentences(hearing()) == 3
    assert wording.sentences(hearing(sheet(max_sentences=2))) == 2
    assert wording.sentences(hearing(served(same_words(GOOD_BRIEFS), GOOD_QUIET))) == 0
