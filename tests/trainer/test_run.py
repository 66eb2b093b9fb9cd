"""A whole training run on a small real memory: from sessions to a version that serves or not, and wherever it dies."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from lmm_mcp import artifacts, training, training_runs
from lmm_mcp.domain.writing import Offered
from lmm_mcp.errors import BadInput, ModelError, TrainingBusy, TrainingError
from trainer import (
    cli,
    examining,
    forgetting_curve,
    gate,
    gathering,
    papers,
    planning,
    recalling,
    reporting,
    run,
    taught,
)
from trainer import plan as plans

SLICES = "choice,brief,fact,clue,chunk,general"
"""What six sessions give lessons of."""
DIALS = (
    *("--base", "small", "--slices", SLICES, "--max-steps", "6", "--epochs", "1", "--cpt-epochs", "0.2"),
    *("--max-lessons", "24", "--tokens-per-step", "1024", "--seq-len", "1024", "--until", "2026-06-01"),
    *("--num-threads", "1"),  # numbers are added in one order, whatever other tests have set
)


def learn(home, *options, stop=lambda: "", told=None):
    """`lmm train run` with these options, in this process; its exit code."""
    arguments = cli.parser().parse_args(["run", *DIALS, *options])
    return run.main(home, arguments, cli.dials_of(arguments), stop, (told if told is not None else []).append)


def newest(home):
    return next(training_runs.runs(home))


def test_a_run_ends_with_a_verdict_a_version_and_a_page_and_serves_nothing_that_was_refused(home, bakery):
    told = []
    assert learn(home, told=told) == 0
    folder, state = newest(home)
    assert state.done == training_runs.STATIONS
    assert state.verdict == "keep"  # random weights and six steps
    assert any(reason.startswith("G1") for reason in state.reasons)
    assert state.num_passages == bakery.store.count()
    lessons = papers.read_lessons(folder / papers.LESSONS)
    assert len({each.id for each in lessons}) <= 24
    assert len(lessons) == state.figures["lessons"] > len({each.id for each in lessons})  # facts are heard often
    assert artifacts.find(home, state.version).manifest.run == state.run_id
    assert artifacts.served(home) is None
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Not promoted" in page
    assert page.count("<svg") == 8  # both stages
    rows = forgetting_curve.load(artifacts.curve_file(home))
    assert [(each.version, each.promoted) for each in rows] == [("base", True), (state.version, False)]
    assert rows[0].scores.keys() == rows[1].scores.keys()
    assert f"{state.version} " in page.split("What each version knows")[1]
    assert taught.placebo_folder(home, folder, plans.load(folder)).is_dir()
    assert "the old model stays" in told[-1]
    assert not list(folder.rglob("checkpoints/*"))
    assert {path.stat().st_mode & 0o077 for path in folder.rglob("*")} == {0}


def test_what_is_told_on_the_way_names_counts_and_never_a_passage(home):
    learn(home, "--no-placebo")
    said = training.progress(home)
    assert said.station == "done"
    assert "rye" not in json.dumps(said.told)


def test_a_dry_run_shows_what_would_be_learned_and_writes_nothing(home):
    before = sorted(home.artifacts.rglob("*"))
    told = []
    assert learn(home, "--dry-run", told=told) == 0
    assert any("probes" in line for line in told)
    assert any("min and" in line for line in told)
    assert sorted(home.artifacts.rglob("*")) == before
    assert next(training_runs.runs(home), None) is None


def test_what_is_missing_is_said_before_anything_is_begun(home):
    with pytest.raises(ModelError, match="make-base"):
        learn(home, "--base", "tiny")
    with pytest.raises(TrainingError, match="cpu-tiny"):
        learn(home, "--preset", "24gb", "--base", "small")
    with pytest.raises(TrainingError, match="huge"):
        learn(home, "--preset", "huge")
    assert next(training_runs.runs(home), None) is None


def test_an_empty_memory_is_told_to_import_first(home):
    shutil.rmtree(home.store)
    shutil.rmtree(home.archive)
    with pytest.raises(TrainingError, match="lmm import"):
        learn(home)
    assert newest(home)[1].verdict == "failed"
    assert "lmm import" in training.progress(home).error


def test_two_trainings_at_once_are_one_and_a_refusal(home):
    with training.lock(home).acquire(timeout=0), pytest.raises(TrainingBusy, match="lmm train log"):
        learn(home)


def test_a_stopped_run_says_by_whom_and_is_gone_on_with_to_the_same_weights(home):
    learn(home, "--no-placebo")
    undisturbed = weights_of(newest(home)[0])
    lessons = (newest(home)[0] / "lessons.jsonl").read_bytes()
    shutil.rmtree(home.artifacts / "runs")
    shutil.rmtree(home.artifacts / "probes")
    asked = []

    def after_some_steps():
        asked.append(1)
        said = training.progress(home)
        return "schedule" if said and said.station == "training" and said.done > 0.3 else ""

    learn(home, "--no-placebo", stop=after_some_steps)
    folder, state = newest(home)
    assert state.is_unfinished
    assert state.stopped_by == "schedule"
    assert state.next_station == "training"
    learn(home, "--no-placebo")
    assert newest(home)[0] == folder
    assert (folder / "lessons.jsonl").read_bytes() == lessons
    assert weights_of(folder) == undisturbed


def test_another_recipe_starts_another_run_and_resume_goes_on_with_the_old_one(home):
    learn(home, "--no-placebo", stop=lambda: "user" if is_at(home, "training") else "")
    first = newest(home)[0]
    learn(home, "--no-placebo", "--resume", "--seed", "5")
    assert newest(home)[0] == first
    assert newest(home)[1].verdict == "keep"
    learn(home, "--no-placebo", "--seed", "5", stop=lambda: "user")
    assert newest(home)[0] != first


def test_a_schedule_leaves_alone_what_the_user_stopped_and_goes_on_with_what_gave_way(home):
    at_training = {"stop": lambda: "user" if is_at(home, "training") else ""}
    learn(home, "--no-placebo", **at_training)
    stopped = newest(home)[0]
    learn(home, "--no-placebo", "--by-schedule", stop=lambda: "schedule" if is_at(home, "facts") else "")
    gave_way = newest(home)[0]
    assert gave_way != stopped
    learn(home, "--no-placebo", "--by-schedule", stop=lambda: "schedule")
    assert newest(home)[0] == gave_way


def test_what_goes_on_from_an_earlier_run_is_reached_by_forgetting_what_only_that_one_read(home):
    learn(home, "--no-placebo")
    first, state = newest(home)
    parent = artifacts.read_sources(first)
    narrow = artifacts.Sources(frozenset({"of-the-parent-alone"}) | parent.threads, parent.chunks, parent.as_of)
    made = artifacts.find(home, state.version).folder
    artifacts.write_sources(made, narrow)
    assert not (first / "training" / "adapter").exists(), "its version holds what it learned"
    learn(home, "--no-placebo", "--from-checkpoint", state.run_id, "--seed", "2")
    child = artifacts.find(home, newest(home)[1].version)
    assert "of-the-parent-alone" in artifacts.read_sources(child.folder).threads
    (made / "sources.json").unlink()
    with pytest.raises(ModelError, match="does not say what it was trained on"):
        learn(home, "--no-placebo", "--from-checkpoint", state.run_id, "--seed", "3")


def test_a_run_goes_on_from_what_serves_unless_it_is_told_otherwise_or_that_is_no_longer_clean(
    home, bakery, monkeypatch
):
    def begins_at(*options):
        told = []
        learn(home, "--dry-run", "--no-placebo", *options, told=told)
        return told[-1].removeprefix("begins at ")

    assert begins_at() == "the base"
    learn(home, "--no-placebo")
    assert begins_at() == "the base", "what was kept out does not serve"
    first = newest(home)[1].version
    artifacts.promote(home, first, force=True)
    assert begins_at() == begins_at("--seed", "2") == first
    assert begins_at("--from-checkpoint", "base") == "the base"
    assert begins_at("--no-replay") == begins_at("--rank", "4") == "the base"
    heard, judge = [], gate.judge
    monkeypatch.setattr(gate, "judge", lambda hearing: heard.append(hearing) or judge(hearing))
    learn(home, "--no-placebo", "--seed", "2")
    assert artifacts.find(home, newest(home)[1].version).manifest.start == first
    assert heard[0].old_probes == artifacts.find(home, first).judged_by() != frozenset(), "of what it could learn"
    artifacts.mark_unclean(home, [(row.thread.agent, row.thread.thread_id) for row in bakery.ledger.threads()])
    assert planning.going_on(home, plans.Plan()).from_checkpoint == ""


def test_a_run_of_which_the_start_gave_way_is_judged_where_it_has_learned_and_told_where_not(home):
    learn(home, "--no-placebo")
    first = newest(home)[1].version
    artifacts.promote(home, first, force=True)
    learn(home, "--no-placebo", "--seed", "2", stop=lambda: "user" if is_at(home, "training") else "")
    learn(home, "--no-placebo", "--resume", stop=lambda: "user" if is_at(home, "judging") else "")
    assert "training" in newest(home)[1].done
    shutil.rmtree(artifacts.find(home, first).folder)
    learn(home, "--no-placebo", "--resume")
    second = newest(home)[1]
    assert (second.verdict, artifacts.find(home, second.version).manifest.start) == ("keep", first)
    artifacts.promote(home, second.version, force=True)
    learn(home, "--no-placebo", "--seed", "3", stop=lambda: "user" if is_at(home, "training") else "")
    shutil.rmtree(artifacts.find(home, second.version).folder)
    with pytest.raises(BadInput, match=rf"{second.version}, from which run .*--fresh"):
        learn(home, "--no-placebo", "--resume")


def test_a_run_that_read_what_is_forgotten_meanwhile_ends_and_keeps_nothing_of_it(home, bakery):
    threads = [(row.thread.agent, row.thread.thread_id) for row in bakery.ledger.threads()]

    def forget_in_the_middle():
        if is_at(home, "training"):
            artifacts.mark_unclean(home, threads)
        return ""

    with pytest.raises(TrainingError, match="forgotten meanwhile"):
        learn(home, "--no-placebo", stop=forget_in_the_middle)
    folder, state = newest(home)
    assert state.verdict == "failed"
    assert artifacts.versions(home) == []
    left = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert b"clamp_heat" not in left
    assert b"loafLimit" not in left


def test_a_full_disk_in_the_middle_is_told_and_what_was_done_is_gone_on_with(home, monkeypatch):
    def full(*_, **_more):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(papers, "write_probes", full)
        with pytest.raises(TrainingError, match=r"No space left.*lmm train resume"):
            learn(home, "--no-placebo")
    assert newest(home)[1].is_unfinished
    learn(home, "--no-placebo", "--resume")
    assert newest(home)[1].verdict == "keep"


def test_a_run_that_dies_at_its_very_end_has_its_page_when_it_is_gone_on_with(home, monkeypatch):
    def full(*_, **_more):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(reporting, "write", full)
        with pytest.raises(TrainingError, match="No space left"):
            learn(home, "--no-placebo")
    assert newest(home)[1].is_unfinished
    learn(home, "--no-placebo", "--resume")
    folder, state = newest(home)
    assert (state.verdict, len(artifacts.versions(home))) == ("keep", 1)
    assert (folder / "report.html").is_file()
    assert [path.name for path in folder.rglob("checkpoints")] == []


def test_a_run_writes_nothing_of_what_was_forgotten_while_it_read(home, bakery, monkeypatch):
    threads = [(row.thread.agent, row.thread.thread_id) for row in bakery.ledger.threads()]
    gather = gathering.gather

    def forgetting_meanwhile(*given, **named):
        found = gather(*given, **named)
        artifacts.mark_unclean(home, threads)
        return found

    monkeypatch.setattr(gathering, "gather", forgetting_meanwhile)
    with pytest.raises(TrainingError, match="forgotten meanwhile"):
        learn(home, "--no-placebo")
    assert list(newest(home)[0].glob("*.jsonl")) == []


def test_forgetting_reaches_what_models_said_about_lines_that_no_lesson_knows(home, monkeypatch):
    told = Offered(1, "c" * 16, 0, "user", "the kiln of the neighbour is blue", "")

    def shown(self, *_):
        self.threads.add(("codex", "the neighbour"))
        return (told,), True

    monkeypatch.setattr(recalling.Recalls, "_found", shown)
    learn(home, "--no-placebo")
    folder, state = newest(home)
    assert (folder / "said.json").exists()
    sources = [artifacts.read_sources(each) for each in (folder, artifacts.find(home, state.version).folder)]
    assert [len(each.shown) for each in sources] == [1, 0]
    assert b"the kiln of the neighbour" not in (folder / "sheet-base.json").read_bytes()
    artifacts.mark_unclean(home, [("codex", "the neighbour")])
    assert not any((folder / name).exists() for name in ("said.json", "sheet-new.json", "report.html"))
    assert artifacts.find(home, state.version).unclean is None, "it was never taught that"


def test_what_is_forgotten_while_models_are_asked_has_them_asked_anew(home, monkeypatch):
    examine = examining.examine

    def forgetting_meanwhile(*given, **named):
        found = examine(*given, **named)
        artifacts.mark_unclean(home, [("codex", "somebody else")])
        return found

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(examining, "examine", forgetting_meanwhile)
        with pytest.raises(TrainingError, match=r"forgotten while models were asked.*lmm train resume"):
            learn(home, "--no-placebo")
    assert not (newest(home)[0] / "said.json").exists()
    learn(home, "--no-placebo", "--resume")
    assert newest(home)[1].verdict == "keep"


KILLED_IN = ("lessons", "training", "judging")
"""Each start of the trainer takes seconds, and some stations are over in less than a look: not every one has its turn."""


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_with_the_same_weights_as_one_that_was_left_alone(home):
    learn(home, "--no-placebo")
    alone = newest(home)[0]
    expected = weights_of(alone), (alone / "lessons.jsonl").read_bytes()
    for name in ("runs", "versions", "probes"):
        shutil.rmtree(home.artifacts / name)
    (home.artifacts / "forgetting.json").unlink()
    num_killed = 0
    for station in KILLED_IN:
        process = start_trainer("--no-placebo")
        wait_for(lambda at=station, process=process: is_reached(home, at) or process.poll() is not None)
        process.kill()
        num_killed += process.wait() == -signal.SIGKILL
    assert num_killed >= 2
    assert start_trainer("--no-placebo").wait(120) == 0
    folder, state = newest(home)
    assert state.verdict == "keep"
    assert (weights_of(folder), (folder / "lessons.jsonl").read_bytes()) == expected
    assert [each.name for each in artifacts.versions(home)] == [state.version]


def is_reached(home, station):
    found = next(training_runs.runs(home), None)
    return found is not None and len(found[1].done) >= training_runs.STATIONS.index(station)


def start_trainer(*options):
    command = [sys.executable, "-m", "trainer", "run", *DIALS, *options]
    stdin = subprocess.PIPE if training.LEAVE_WITH_US in options else subprocess.DEVNULL
    return subprocess.Popen(command, env={**os.environ}, stdin=stdin, stdout=subprocess.DEVNULL)


def test_a_trainer_whose_parent_dies_keeps_what_it_has_and_leaves(home):
    process = start_trainer("--max-steps", "4000", "--epochs", "500", training.LEAVE_WITH_US)
    try:
        wait_for(lambda: (said := training.progress(home)) is not None and said.station == "training")
        process.stdin.close()
        assert process.wait(120) == 0
    finally:
        process.kill()
        process.wait()
    assert newest(home)[1].stopped_by == "schedule"
    assert not training.is_busy(home)


def is_at(home, station):
    said = training.progress(home)
    return said is not None and said.station == station


def weights_of(folder):
    version = training_runs.load(folder).version
    found = next((folder.parents[1] / "versions" / version / "adapter").glob("*.safetensors"))
    return hashlib.sha256(found.read_bytes()).hexdigest()


def wait_for(condition, timeout_s=120):
    over = threading.Event()
    until_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until_s
        over.wait(0.05)
