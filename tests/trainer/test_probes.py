"""Probes are frozen, are asked in words no lesson has, and go with what is forgotten."""

import pytest

from lmm_mcp.artifacts import unlearning
from lmm_mcp.domain.fact import Fact
from lmm_mcp.domain.lesson import Probe
from lmm_mcp.domain.verdict import Outcome, ScoreSheet
from lmm_mcp.errors import TrainingError
from lmm_mcp.paths import Home
from trainer import anchors, asked, lessons, lint, probes, questions
from trainer.replay import Standing

FIRST_OF_MARCH_ms = 1_772_323_200_000
LONG_AFTER_ms = 1_790_000_000_000


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path / "lmm").ensure()


@pytest.fixture(scope="module")
def built(bakery) -> lessons.Lessons:
    needs = questions.needs_of(bakery.ledger, bakery.archive, FIRST_OF_MARCH_ms)
    return lessons.build(bakery.store, bakery.facts, {}, bakery.recaller, needs=needs, until_ms=FIRST_OF_MARCH_ms)


def probe(n: int, cohort: str = "2026-W07", **more) -> Probe:
    given = {
        "slice": "fact",
        "category": "",
        "prompt": f"which {n}?",
        "answers": (str(n),),
        "family": "probe/noun/forward/0",
    }
    return Probe(**(given | {"memory": f"m{n}", "cohort": cohort, "threads": (("codex", f"t{n}"),)} | more))


def of_later(bakery) -> list[Probe]:
    needs = questions.needs_of(bakery.ledger, bakery.archive, LONG_AFTER_ms)
    return probes.of_needs([need for need in needs if need.at_ms > FIRST_OF_MARCH_ms], bakery.recaller)


def test_what_is_frozen_stays_and_what_is_new_is_added_up_to_ten_a_week(home):
    first = probes.add(home, [probe(n) for n in range(6)])
    second = probes.add(home, [probe(n, prompt="asked otherwise") for n in range(6)] + [probe(n) for n in range(6, 20)])
    assert first.probes == second.probes[:6]
    assert len(second.probes) == probes.MAX_OF_COHORT
    assert first.hash != second.hash == probes.load(home).hash


def test_weeks_have_room_of_their_own(home):
    bank = probes.add(home, [probe(n, cohort=f"2026-W0{1 + n % 2}") for n in range(40)])
    assert bank.cohorts == ("2026-W01", "2026-W02")
    assert len(bank.probes) == 2 * probes.MAX_OF_COHORT


def test_what_is_forgotten_leaves_the_bank_and_its_hash_tells(home):
    before = probes.add(home, [probe(n) for n in range(5)])
    unlearning.mark_unclean(home, [("codex", "t2")])
    after = probes.load(home)
    assert [each.memory for each in after.probes] == ["m0", "m1", "m3", "m4"]
    assert after.hash != before.hash


def test_forgetting_reaches_the_bank_through_what_the_house_does(home):
    probes.add(home, [probe(n) for n in range(5)])
    unlearning.mark_unclean(home, [("codex", "t4")])
    assert [each.memory for each in probes.load(home).probes] == ["m0", "m1", "m2", "m3"]


def test_a_damaged_bank_is_an_error_with_its_file(home):
    probes.add(home, [probe(1)])
    (file,) = (home.artifacts / "probes" / "v1").glob("*.jsonl")
    file.write_text("{torn", encoding="ascii")
    with pytest.raises(TrainingError, match=r"2026-W07\.1\.jsonl"):
        probes.load(home)


def test_facts_are_probed_in_words_that_no_lesson_has_and_in_the_week_they_were_said(built):
    found = probes.of_facts(built.held, seed=0)
    assert found
    families = {each.family for each in built.lessons}
    for each in found:
        fact = next(held.fact for held in built.held if held.fact.id == each.memory)
        assert each.family.startswith("probe/") and each.family not in families
        assert each.cohort == probes.week_of(fact.from_ms)
        assert each.answers[0] not in each.prompt


def test_choices_are_probed_on_sessions_that_began_later_with_all_lines_that_answer(bakery):
    found = of_later(bakery)
    assert any("MARCHHARE" in each.prompt for each in found)
    for each in found:
        shown = asked.read(each).offered
        assert each.slice == "choice" and each.answers
        assert {int(number) for number in each.answers} <= {line.number for line in shown}
        assert each.cohort == "2026-W14"


def test_what_nobody_spoke_of_has_no_answer(bakery):
    found = probes.absent(
        bakery.store,
        bakery.recaller,
        sorted(bakery.store.projects()),
        until_ms=FIRST_OF_MARCH_ms,
        cohort="2026-W09",
        seed=1,
    )
    assert found
    for each in found:
        assert each.answers == () and asked.read(each).should_abstain
        assert len(asked.read(each).offered) >= 2


def test_no_lesson_is_left_that_a_probe_asks(bakery, built):
    bank = [*probes.of_facts(built.held, seed=0), *of_later(bakery), *probes.general()]
    kept = lint.lint(built.lessons, until_ms=FIRST_OF_MARCH_ms, slices=("choice", "fact"), probes=bank).lessons
    assert not {each.prompt for each in kept} & {each.prompt for each in bank}
    assert not {each.family for each in kept} & {each.family for each in bank}


def test_general_probes_are_no_general_lessons():
    taught = {each.lesson.prompt for each in anchors.lessons()}
    assert not taught & {each.prompt for each in probes.general()}


def test_results_from_weights_alone_say_how_well_each_memory_is_held(home):
    bank = probes.add(home, [probe(1), probe(2)])
    outcomes = tuple(
        Outcome(each.id, "fact", "", each.cohort, score) for each, score in zip(bank.probes, (1.0, 0.0), strict=True)
    )
    sheet = ScoreSheet("v0001", bank.hash, {"weights": outcomes, "no memory": ()})
    probes.remember_results(home, sheet, taught=["m1", "m2", "m3"])
    assert probes.standings(home) == {"m1": Standing(1, 1.0, 1), "m2": Standing(0, 0.0, 1), "m3": Standing(0, 0.0, 1)}


def test_torn_standings_are_no_standings(home):
    folder = home.artifacts / "probes"
    folder.mkdir(parents=True)
    (folder / "standings.json").write_text('{"m1": [1', encoding="utf-8")
    assert probes.standings(home) == {}


def test_a_run_that_is_gone_on_with_counts_once(home):
    bank = probes.add(home, [probe(1)])
    sheet = ScoreSheet("v", bank.hash, {"weights": (Outcome(bank.probes[0].id, "fact", "", "2026-W07", 1.0),)})
    for run in ("r1", "r1", "r2", "r2"):
        probes.remember_results(home, sheet, taught=["m1"], run=run)
    assert probes.standings(home) == {"m1": Standing(2, 1.0, 2)}


def test_standings_of_an_older_program_are_read(home):
    folder = home.artifacts / "probes"
    folder.mkdir(parents=True)
    (folder / "standings.json").write_text('{"m1": [3, 1.0, 4]}', encoding="utf-8")
    assert probes.standings(home) == {"m1": Standing(3, 1.0, 4)}


def fact(value: str, *, until_ms: int = 0) -> Fact:
    return Fact("lamp", "project fact", "port", "web", value, f"The port is {value}.", (), 1, until_ms)


def test_a_value_that_another_took_the_place_of_is_asked_no_more_and_may_come_back(home):
    was, now = fact("8080", until_ms=FIRST_OF_MARCH_ms), fact("8081")
    bank = probes.add(home, [probe(1, memory=was.id), probe(2, memory=now.id), probe(3, slice="choice")])
    retired = probes.superseded([was, now], FIRST_OF_MARCH_ms)
    assert retired == {was.id}
    asked_now = bank.without(retired)
    assert [each.memory for each in asked_now.probes] == [now.id, "m3"]
    assert asked_now.hash != bank.hash
    assert probes.load(home) == bank, "what is frozen stays"
    assert not probes.superseded([was, now], FIRST_OF_MARCH_ms - 1), "at that time it held"
    assert not probes.superseded([fact("8080")], LONG_AFTER_ms)


def test_what_is_retired_takes_no_room_from_what_holds(home):
    probes.add(home, [probe(n) for n in range(probes.MAX_OF_COHORT)])
    after = probes.add(home, [probe(n) for n in range(10, 20)], retired=["m1", "m2"])
    assert len(after.probes) == probes.MAX_OF_COHORT + 2
    assert len(after.without(["m1", "m2"]).probes) == probes.MAX_OF_COHORT
