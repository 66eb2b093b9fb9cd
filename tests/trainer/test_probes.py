"""Probes are frozen, are asked in words no lesson has, and go with what is forgotten."""

import pytest

from lmm_mcp.artifacts import unlearning
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
    assert probes.forget(home, [("codex", "t2")]) == 1
    after = probes.load(home)
    assert [each.memory for each in after.probes] == ["m0", "m1", "m3", "m4"]
    assert after.hash != before.hash
    assert probes.forget(home, [("codex", "t2")]) == 0


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
