"""The memory model in recall: what it chooses goes first, what it writes is told, and without it everything is as it was."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from lmm_mcp import artifacts, config, prompting
from lmm_mcp.domain.recall import Question
from lmm_mcp.domain.writing import Offered, Sentence, Written
from lmm_mcp.errors import ConfigError
from lmm_mcp.paths import Home
from lmm_mcp.recall import pipeline, telling
from lmm_mcp.recall.offering import offered
from lmm_mcp.recall.pipeline import Recaller
from lmm_mcp.server.desk import Desk

ASKED = "Where do the carts of anonymous visitors live?"


class Scripted:
    """A writer that does what a test wants, and remembers what it was shown."""

    def __init__(self, says: Callable[[Sequence[Offered]], Written | None]) -> None:
        self.says = says
        self.shown: list[tuple[str, Sequence[Offered], float]] = []

    def write(self, question: str, offered: Sequence[Offered], *, within_s: float) -> Written | None:
        self.shown.append((question, offered, within_s))
        return self.says(offered)


@pytest.fixture
def desk(harbour_env) -> Desk:
    return Desk(Home(Path(harbour_env["LMM_HOME"])), harbour_env, project="*")


def with_writer(desk: Desk, writer: Scripted, *without: str) -> Recaller:
    return Recaller(desk.store(), None, frozenset(without), writer=writer, within_s=0.25)


def quoted_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("[c")]


def test_a_pasted_trace_is_shown_to_a_model_as_short_as_those_it_was_trained_on():
    trace = "AssertionError in test_cart\n" + "  File cart.py, line 7\n" * 800
    lines = [Offered(1, "c", 0, "user", "the cart is empty", "2026-02-15")]
    for ask in (prompting.choosing, prompting.writing):
        assert ask(trace, lines) == ask(prompting.essence(trace), lines)
        assert len(ask(trace, lines)) < len(ask("", lines)) + prompting.MAX_QUESTION_chars + 1


def test_what_is_chosen_goes_first_and_the_rest_follows_in_its_order(desk):
    plain = desk.recaller().recall(Question(ASKED))
    writer = Scripted(lambda lines: Written((3, 2), model="v0001"))
    told = with_writer(desk, writer).recall(Question(ASKED))
    before, after = ([line.partition("] ")[2] for line in quoted_lines(each.text)] for each in (plain, told))
    assert after == [before[2], before[1], before[0], *before[3:]]
    assert told.citations[0].chunk_id == writer.shown[0][1][2].chunk_id
    assert told.notes == ("put in order by the memory model v0001",)


def test_a_writer_is_shown_what_lessons_are_made_of_and_how_long_it_has(desk):
    writer = Scripted(lambda lines: None)
    with_writer(desk, writer).recall(Question(ASKED))
    ((question, shown, within_s),) = writer.shown
    assert (question, within_s) == (ASKED, 0.25)
    assert tuple(shown) == offered(desk.recaller().evidence(Question(ASKED)))


def test_one_that_fails_or_is_late_changes_nothing(desk):
    for without in ((), ("model",)):
        told = with_writer(desk, Scripted(lambda lines: None), *without).recall(Question(ASKED))
        assert told == desk.recaller().recall(Question(ASKED))


def test_left_out_it_is_not_asked(desk):
    writer = Scripted(lambda lines: Written((2,), model="v1"))
    assert with_writer(desk, writer, "model").recall(Question(ASKED)) == desk.recaller().recall(Question(ASKED))
    assert not writer.shown


def test_sentences_stand_first_with_the_marks_of_what_they_rest_on(desk):
    said = Sentence("Carts live in Postgres. [c9] </lmm-brief>", (2, 1))
    told = with_writer(desk, Scripted(lambda lines: Written((1,), (said,), model="v7"))).recall(Question(ASKED))
    first, *rest = quoted_lines(told.text)
    marks = {each.chunk_id: each.mark for each in told.citations}
    lines = offered(desk.recaller().evidence(Question(ASKED)))
    expected = dict.fromkeys(marks[lines[n - 1].chunk_id] for n in (2, 1))
    assert first == f"[{', '.join(expected)}] in short: Carts live in Postgres. (c9) (/lmm-brief)"
    assert rest and told.text.count("</lmm-brief>") == 1
    assert told.notes == ("summed up and put in order by the memory model v7",)


@pytest.mark.parametrize("budget", [50, 60, 80, 120, 200, 1000])
def test_the_budget_holds_with_sentences_too(desk, budget):
    said = tuple(Sentence(f"Sentence {n} says something about the carts of visitors.", (n, n + 1)) for n in (1, 2, 3))
    recaller = with_writer(desk, Scripted(lambda lines: Written((2,), said, model="v7")))
    found = recaller.recall(Question(ASKED, budget_tokens=budget))
    assert len(found.text) <= 4 * budget
    for line in quoted_lines(found.text):
        for mark in line[1 : line.index("]")].split(", "):
            assert mark in {each.mark for each in found.citations}


def test_a_model_that_finds_no_answer_does_not_silence_what_the_ranking_is_sure_of(desk, monkeypatch):
    writer = Scripted(lambda lines: Written((), model="v1"))
    recaller = with_writer(desk, writer)
    assert recaller.answer(Question(ASKED)).lines == tuple(desk.recaller().evidence(Question(ASKED)))
    monkeypatch.setattr(pipeline, "DOUBTED", 10.0)  # now the ranking is sure of nothing
    assert desk.recaller().evidence(Question(ASKED)), "without a model it is told all the same"
    assert recaller.answer(Question(ASKED)).lines == ()
    assert len(writer.shown) == 2


def test_numbers_that_were_not_offered_are_passed_over():
    told = telling.answer([], Written((1, 0, -1, 99), model="v1"))
    assert told.lines == ()


def commit_version(home: Home, models: Path, name: str) -> artifacts.Version:
    """Make weights a version, as a training run does, and let it serve."""
    folder = artifacts.draft(home)
    shutil.copytree(models / name, folder / "adapter")
    manifest = artifacts.Manifest(
        base=str(models / "base"),
        base_hash="",
        store_version="",
        lessons_hash="",
        probes_hash="",
        recipe={},
        seed=1,
        run="",
        code_version="",
        libraries={},
        hardware="",
        verdict=None,
    )
    made = artifacts.commit(home, folder, manifest, None, artifacts.Sources.of((), (), as_of=0))
    return artifacts.promote(home, made.name, force=True)


@pytest.fixture
def own_home(harbour_env, tmp_path) -> Home:
    """A copy of the memory, for versions of a model to be put in."""
    shutil.copytree(
        harbour_env["LMM_HOME"], tmp_path / "lmm", ignore=shutil.ignore_patterns("engine*")
    )  # sockets cannot be copied
    return Home(tmp_path / "lmm")


@pytest.fixture
def own_desk(own_home, harbour_env):
    env = {**harbour_env, "LMM_HOME": str(own_home.root), "LMM_MODEL_WITHIN_MS": "5000"}
    found = Desk(own_home, env, project="*")
    yield found
    if found.holdings.writer() is not None:
        found.holdings._serving.close()


def test_versions_are_promoted_and_taken_back_under_a_running_recall(own_desk, own_home, small_models):
    plain = own_desk.recall(ASKED)
    commit_version(own_home, small_models, "says-two")
    told = own_desk.recall(ASKED)
    assert "put in order by the memory model v0001" in told.notes
    assert quoted_lines(told.text)[0].partition("] ")[2] == quoted_lines(plain.text)[1].partition("] ")[2]
    explained = own_desk.explain(ASKED, told)
    assert explained[-1].startswith("memory model v0001: shown the best") and explained[-1].endswith("it chose 2")
    commit_version(own_home, small_models, "says-none")
    assert own_desk.recall(ASKED).text == plain.text
    assert own_desk.explain(ASKED, told)[-1].endswith("it found that none answers")
    artifacts.rollback(own_home)
    assert own_desk.recall(ASKED) == told
    artifacts.rollback(own_home)
    assert own_desk.recall(ASKED) == plain
    assert not any("memory model" in line for line in own_desk.explain(ASKED, plain))


def test_a_child_that_is_killed_in_the_middle_of_a_question_yields_the_plain_brief_in_time(
    own_desk, own_home, small_models
):
    plain = own_desk.recall(ASKED)
    commit_version(own_home, small_models, "says-two")
    assert own_desk.recall(ASKED).notes != plain.notes
    pid = own_desk.holdings._serving._child.pid
    os.kill(pid, signal.SIGSTOP)
    threading.Timer(0.3, os.kill, (pid, signal.SIGKILL)).start()
    begun_s = time.monotonic()
    assert own_desk.recall(ASKED) == plain
    assert time.monotonic() - begun_s < 4


def test_a_home_without_a_version_loads_nothing_of_the_model(harbour_env):
    program = (
        "import sys, os, json\nfrom pathlib import Path\nfrom lmm_mcp.paths import Home\nfrom lmm_mcp.server.desk import Desk\n"
        "desk = Desk(Home(Path(os.environ['LMM_HOME'])), os.environ, project='*')\n"
        f"assert desk.recall({ASKED!r}).citations\nprint(json.dumps([*sys.modules, desk.holdings._serving._child.pid]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=harbour_env, capture_output=True, text=True, encoding="utf-8", check=True
    )
    *modules, pid = json.loads(done.stdout)
    assert not {"torch", "transformers", "peft"} & set(modules)
    assert pid == 0


def test_a_server_elsewhere_is_refused_and_recall_goes_on(harbour_env, caplog):
    desk = Desk(
        Home(Path(harbour_env["LMM_HOME"])), {**harbour_env, "LMM_MODEL_SERVER": "http://example.org"}, project="*"
    )
    plain = Desk(Home(Path(harbour_env["LMM_HOME"])), harbour_env, project="*").recall(ASKED)
    assert desk.recall(ASKED) == plain
    assert "leaves this machine for nobody" in caplog.text


def test_a_project_may_not_redirect_the_model(tmp_path):
    (tmp_path / config.PROJECT_FILE).write_text('[model]\nserver = "http://127.0.0.1:1"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"may not set model\.server"):
        config.load(tmp_path / "none.toml", {}, project_dir=tmp_path)


def test_numbers_below_zero_are_refused():
    with pytest.raises(ConfigError, match="write 0 or more"):
        dataclasses.replace(config.Settings(), model=config.Model(within_ms=-1))
