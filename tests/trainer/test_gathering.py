"""What a run begins with: only what holds is asked, and what a dry run tells of it."""

import os
import shutil

import pytest

from lmm_mcp import prompting
from lmm_mcp.domain.fact import Fact
from lmm_mcp.domain.lesson import Probe
from lmm_mcp.domain.writing import Offered
from lmm_mcp.errors import TrainingError
from lmm_mcp.paths import Home
from lmm_mcp.store.facts import FactStore
from trainer import gathering, leaks, lint, papers, presets, probes, questions
from trainer.base import small_base
from trainer.lessons import Options
from trainer.plan import Plan

FIRST_OF_JUNE_ms = 1_780_272_000_000
WAS = Fact("oven", "project fact", "port", "", "4477", "The port is 4477.", (), 1, FIRST_OF_JUNE_ms - 1, "another")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return str(small_base(tmp_path_factory.mktemp("bases") / "small", ["which port does amber use?"]))


@pytest.fixture
def home(bakery, tmp_path, monkeypatch) -> Home:
    there = Home(tmp_path / "lmm")
    shutil.copytree(bakery.home.root, there.root)
    shutil.rmtree(there.artifacts, ignore_errors=True)
    monkeypatch.setenv("LMM_EMBEDDER_NAME", "none")
    return there


def plan(base: str, **more) -> Plan:
    recipe = presets.preset("cpu-tiny", base=base, seq_len=1024, tokens_per_step=1024, shuffled=False)
    return Plan(recipe=recipe, until_ms=FIRST_OF_JUNE_ms, **more)


def test_a_probe_of_a_value_that_no_longer_holds_is_retired_told_and_still_never_taught(home, base, monkeypatch):
    stale = Probe("fact", "project fact", "which port does the oven use?", ("4477",), "probe/x", WAS.id, "2026-W01")
    probes.add(home, [stale])
    found = gathering.gather(home, os.environ, plan(base), lambda: None, freezes=False)
    assert stale in found.probes
    assert not any("retired" in line for line in found.notes)
    facts = FactStore.facts
    monkeypatch.setattr(FactStore, "facts", lambda self, *a, **k: [*facts(self, *a, **k), WAS])
    pool = gathering.pooled(home, os.environ, plan(base), lambda: None, freezes=False)
    assert stale in pool.held_out
    found = gathering.gather(home, os.environ, plan(base), lambda: None, freezes=False)
    assert stale not in found.probes
    assert found.about["probes_hash"] == probes.Bank(tuple(found.probes)).hash
    assert "1 probes are retired: what they ask for was superseded" in found.notes


def test_a_dry_run_counts_each_probe_once_and_tells_order_and_costs(home, base):
    first = list(gathering.dry_run(home, os.environ, plan(base)))
    gathering.gather(home, os.environ, plan(base), lambda: None)
    again = list(gathering.dry_run(home, os.environ, plan(base)))
    (asked,) = (line for line in first if " probes (" in line)
    assert asked in again, "those that are frozen now are the same"
    assert any(line.startswith("order: ") for line in again)
    assert "placebo" in again[-1] and "judging" in again[-1] and "estimate" in again[-1]


def test_what_is_heard_more_often_is_looked_through_as_often_as_it_is_heard(home, base):
    found = gathering.gather(home, os.environ, plan(base, repeats=(("fact", 10),)), lambda: None, freezes=False)
    told = [each["told"] for each in found.about["findings"]]
    assert any(each.startswith("the four most frequent answers, as often as they are heard") for each in told)
    facts = [each.id for each in found.lessons if each.slice == "fact"]
    assert len(facts) == 10 * len(set(facts)) > 0
    assert any(line.startswith(f"heard in one epoch: {len(found.lessons)} ") for line in found.notes)


def test_facts_are_heard_less_often_where_more_of_what_is_heard_would_be_templates(home, base):
    def facts_heard(most):
        wanted = plan(base, repeats=(("fact", 10),), options=Options(max_template_share=most))
        found = gathering.gather(home, os.environ, wanted, lambda: None, freezes=False)
        (share,) = (each["figures"] for each in found.about["findings"] if each["told"].startswith("text from temp"))
        facts = [each.id for each in found.lessons if each.slice == "fact"]
        return share["share"], len(facts) / len(set(facts))

    assert facts_heard(0.5)[1] == 10
    share, times = facts_heard(0.2)
    assert share <= 0.2
    assert 1 <= times < 10


def test_notes_hold_no_content(home, base, tmp_path):
    found = gathering.gather(home, os.environ, plan(base), lambda: None, freezes=False)
    assert "clamp_heat" not in "\n".join(found.notes)
    papers.write_lessons(tmp_path / "lessons.jsonl", found.lessons)
    assert "clamp_heat" in (tmp_path / "lessons.jsonl").read_text(encoding="ascii")


def test_a_session_by_which_a_frozen_choice_judges_is_never_read_as_a_text_and_those_it_shows_are(
    home, base, bakery, monkeypatch
):
    monkeypatch.setattr(gathering, "MIN_ASKED", 1000)  # as if the cut had moved on behind all that was asked

    def texts() -> str:
        return "\n".join(gathering.gather(home, os.environ, plan(base), lambda: None, freezes=False).texts)

    assert "MARCHHARE" in texts()
    needs = questions.needs_of(bakery.ledger, bakery.archive, FIRST_OF_JUNE_ms)
    last = max(need.at_ms for need in needs)
    bank = probes.add(home, probes.of_needs([need for need in needs if need.at_ms == last], bakery.recaller))
    assert any(len(each.threads) > 1 for each in bank.probes), "it shows lines of other sessions"
    assert "MARCHHARE" not in texts()
    assert "clamp_heat(40)" in texts()


def test_what_holds_the_words_of_a_frozen_probe_is_neither_read_nor_taught_and_counted(home, base):
    def gathered():
        return gathering.gather(home, os.environ, plan(base), lambda: None, freezes=False)

    before = gathered()
    said = "The crust of the rye loaf burns; the oven_curve overshoots"
    asked = prompting.choosing(said, [Offered(1, "a" * 16, 0, "user", "nothing", "2026-02-01")])
    probes.add(home, [Probe("choice", "", asked, ("1",), "probe/prompt", "another", "2026-W01")])
    after = gathered()
    words = leaks.Wordings.of([*after.probes])
    assert any(words.stand_in(each) for each in before.texts)
    assert not any(words.stand_in(each) for each in after.texts)
    assert any(words.stand_in(f"{each.prompt} {each.answer}") for each in before.lessons)
    assert not any(words.stand_in(f"{each.prompt} {each.answer}") for each in after.lessons)
    left = len(before.texts) - len(after.texts)
    assert after.about["dropped"][lint.LEAKED_text] == left > 0
    assert after.about["dropped"][lint.LEAKED] > 0
    assert f"left out: {left} {lint.LEAKED_text}" in after.notes


def test_a_memory_without_facts_is_not_trained_on_unless_that_is_asked_for(home, base, monkeypatch):
    monkeypatch.setattr(FactStore, "facts", lambda self, *a, **k: [])
    with pytest.raises(TrainingError, match=r"'fact' is left .*--slices choice,brief"):
        gathering.gather(home, os.environ, plan(base), lambda: None, freezes=False)
    found = gathering.gather(home, os.environ, plan(base, needed=("choice",)), lambda: None, freezes=False)
    assert found.notes[0] == "NONE of the kind 'fact' is left of what this memory gives"
    assert "NONE of the kind" in found.about["findings"][-2]["told"]
