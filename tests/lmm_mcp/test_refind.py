"""`lmm bench refind`: prompts find earlier work on the files that were then changed, and nothing later is used."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lmm_mcp.cli import answering
from lmm_mcp.cli.program import app
from lmm_mcp.domain.event import Event
from lmm_mcp.errors import BadInput
from lmm_mcp.evaluation import history, refind, runs
from lmm_mcp.evaluation.questions import Answered
from lmm_mcp.paths import Home
from lmm_mcp.server.desk import Desk

JANUARY, MARCH = "5c0ffee0-6c55-4b07-9a1e-7d1c5a5f0a11", "5c0ffee2-6c55-4b07-9a1e-7d1c5a5f0a11"


@pytest.fixture(scope="module")
def desk(orchard_env) -> Desk:
    return Desk(Home(Path(orchard_env["LMM_HOME"])), orchard_env)


@pytest.fixture(scope="module")
def whole(desk) -> refind.Suite:
    return refind.suite(desk.ledger, desk.archive)


def test_a_prompt_should_find_the_earlier_session_that_changed_the_same_files_in_another_checkout(whole):
    (sought,) = whole.sought
    assert sought.asked.question.startswith("the till rounds totals wrongly again")
    assert sought.files == {"src/till_rounding.py", "src/refund_ledger.py"}
    assert sought.sessions == {JANUARY}
    assert len(sought.edits) == 2


def test_prompts_that_cannot_be_asked_are_counted_by_their_reason(whole):
    assert whole.left_out == {refind.NOTHING_EARLIER: 2, refind.TOO_SHORT: 1}


def test_a_prompt_is_asked_before_its_session_began_and_its_own_words_do_not_come_back(desk, whole):
    (sought,) = whole.sought
    assert sought.asked.asked_at == "2026-03-10T09:59:59.999+00:00"
    for arm in ("recall", "bm25", "recent"):
        with answering.answering(desk, arm, 1000) as ask:
            answered = ask(sought.asked)
            assert "MARCHHARE" not in answered.text
            assert MARCH not in answered.sessions
            later = ask(replace(sought.asked, asked_at="2026-12-01T00:00:00Z"))
            assert MARCH in later.sessions, "otherwise the test could not fail"


def test_recall_finds_session_passage_and_files(desk, whole):
    with answering.answering(desk, "recall", 1000) as ask:
        (row,) = refind.run(whole, desk.store(), ask)
    assert row.figures["files@250"] > 0
    assert {name: value for name, value in row.figures.items() if name != "files@250"} == {
        "mute": 0.0,
        "hit@1": 1.0,
        "hit@5": 1.0,
        "mrr": 1.0,
        "recall@10": 1.0,
        "files@1000": 1.0,
    }


def test_an_answer_out_of_other_sessions_is_worth_nothing_and_a_late_one_less(whole):
    (sought,) = whole.sought
    names = whole.names[sought.asked.project]
    other = refind.judge(sought, Answered("labels", ("other",), False, ("x",)), {"p1"}, names)
    assert {name for name, value in other.items() if value} == set()
    second = refind.judge(sought, Answered("till_rounding.py", ("other", JANUARY), False, ("x", "p1")), {"p1"}, names)
    assert (second["hit@1"], second["hit@5"], second["mrr"], second["recall@10"]) == (0, 1, 0.5, 1)
    assert second["files@250"] == 0.5
    silent = refind.judge(sought, Answered("nothing is known of till_rounding.py", (), True), {"p1"}, names)
    assert (silent["mute"], silent["files@250"], silent["recall@10"]) == (1, 0, 0)


def test_a_file_that_most_turns_change_tells_nothing(desk, monkeypatch):
    monkeypatch.setattr(refind, "MIN_COMMON_turns", 1)
    found = refind.suite(desk.ledger, desk.archive)
    assert found.left_out == {refind.NOTHING_CHANGED: 2, refind.NOTHING_EARLIER: 1, refind.TOO_SHORT: 1}
    assert not found.sought


def test_reading_a_file_is_no_work_on_it():
    call = Event("e", "call", "src/till.py", 1, call_id="c", tool="Read", paths=("src/till.py",))
    assert not history.is_change(call)
    assert history.is_change(replace(call, tool="Edit"))
    assert history.is_change(replace(call, tool="mcp__files__write_file"))
    assert not history.is_change(
        replace(call, tool="str_replace_based_edit_tool", text="command: view\npath: src/till.py")
    )


def test_a_sample_is_the_same_whatever_the_order_and_takes_from_every_session():
    items = [f"{session}{n}" for session in "abc" for n in range(20)]
    first = history.spread(items, 6, ids=str, groups=lambda item: item[0])
    assert first == history.spread(reversed(items), 6, ids=str, groups=lambda item: item[0])
    assert sorted(item[0] for item in first) == ["a", "a", "b", "b", "c", "c"]


def test_the_command_prints_the_figures_and_keeps_a_run_to_compare(orchard_env, tmp_path):
    kept = tmp_path / "recall.run.json"
    told = subprocess.run(
        [sys.executable, "-m", "lmm_mcp", "bench", "refind", "--results", str(kept)],
        env=orchard_env, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", timeout=120, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert "files@1000" in told.stdout
    assert "asked 1 of 1 question" in told.stdout
    assert runs.load(kept).suite == "refind"


@pytest.mark.parametrize("arguments", [("--results", "nowhere/x.run.json"), ("--results", "."), ("--without", "luck")])
def test_what_cannot_be_written_or_left_out_is_said_before_anything_is_asked(
    orchard_env, tmp_path, arguments, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(refind, "suite", lambda *_: pytest.fail("the questions were made"))
    done = CliRunner().invoke(app, ["bench", "refind", *arguments], env=orchard_env)
    assert isinstance(done.exception, BadInput)


def test_what_was_learned_later_takes_no_part_in_answers_about_the_past(desk, whole, orchard_env):
    own = Desk(desk.home, orchard_env)
    own.holdings.memory_model = lambda: ("v0001", whole.sought[0].until_ms + 1)
    own.holdings._served = lambda: pytest.fail("the memory model was asked")
    assert answering.put_to_the_past(own, whole.sought[0].until_ms) == [answering.MEMORY_MODEL]
    with answering.answering(own, "recall", 1000) as ask:
        assert ask(whole.sought[0].asked).text
