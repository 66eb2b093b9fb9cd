"""`lmm train` as people use it: tried, run, looked at, stopped by key and from elsewhere, gone on with, left to a schedule."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from lmm_mcp import training, training_runs
from lmm_mcp.cli import program
from lmm_mcp.paths import Home
from trainer import cli, run
from trainer.base import small_base
from trainer.base_texts import items

DIALS = (
    *("--base", "small", "--preset", "cpu-tiny", "--slices", "choice,fact,chunk", "--renderings", "2", "--epochs", "1"),
    *("--cpt-epochs", "0.2", "--max-lessons", "24", "--tokens-per-step", "1024", "--seq-len", "1024"),
    *("--until", "2026-06-01", "--no-placebo"),
)
LONG = ("--min-steps", "3000", "--max-steps", "3000", "--stage", "sft")
NEEDS_POSIX = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX knows them")


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory):
    return small_base(tmp_path_factory.mktemp("base") / "small", [each.prompt for each in items(3, 200)])


@pytest.fixture
def home(bakery, base_folder, tmp_path, monkeypatch):
    there = Home(tmp_path / "lmm")
    shutil.copytree(bakery.home.root, there.root)
    shutil.rmtree(there.artifacts, ignore_errors=True)
    shutil.copytree(base_folder, there.artifacts / "bases" / "small")
    monkeypatch.setenv("LMM_HOME", str(there.root))
    monkeypatch.setenv("LMM_EMBEDDER_NAME", "none")
    for name in ("HOME", "USERPROFILE", "XDG_CONFIG_HOME", "CLAUDE_CONFIG_DIR", "CODEX_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "nobody"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("COLUMNS", "80")
    yield there
    if training.is_busy(there):
        training.ask_to_stop(there, by="user")
        wait_for(lambda: not training.is_busy(there))


@pytest.fixture
def lmm(home, capfd):
    def run(*arguments, expect=0):
        capfd.readouterr()
        code = program.run(arguments)
        told = capfd.readouterr()
        assert code == expect, told.out + told.err
        return told.out + told.err

    return run


def wait_for(condition, timeout_s=120):
    over = threading.Event()
    until_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until_s
        over.wait(0.05)


def is_learning(home):
    said = training.progress(home)
    return said is not None and said.station == "training" and said.done > 0 and training.is_busy(home)


def newest(home):
    return next(training_runs.runs(home))[1]


def test_a_training_is_tried_run_and_looked_at(lmm, home):
    told = lmm("train", "--dry-run", *DIALS)
    assert "probes" in told
    assert "min and" in told
    assert "Nothing was trained yet" in lmm("train", "log")
    told = lmm("train", *DIALS, "--max-steps", "3", "--stage", "sft")
    assert "the old model stays" in told
    told = lmm("train", "log")
    assert re.search(r"v0001 was kept out \(\d+ lessons, \d min\):", told)
    assert "    G1: " in told
    assert str(home.artifacts) in told
    assert all(len(line) <= 80 for line in told.splitlines() if str(home.root) not in line)
    assert "memory model: none serves" in lmm("status")
    assert lmm("model", "list").startswith("v0001")


@NEEDS_POSIX
def test_a_training_is_stopped_by_key_and_from_elsewhere_refuses_a_second_and_is_gone_on_with(lmm, home):
    command = [sys.executable, "-P", "-m", "lmm_mcp", "train", *DIALS, *LONG]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        wait_for(lambda: is_learning(home) or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert "what was learned is kept" in told
    assert newest(home).stopped_by == "user", "no schedule may go on with what somebody stopped"
    assert "stopped before training; `lmm train resume` goes on" in lmm("train", "log")
    assert "a training stands before training" in lmm("status")

    first = newest(home).run_id
    # In a process of its own: it ends before its child does, which is what is asked for.
    left = subprocess.run([*command[:4], "train", "resume", "--background"], capture_output=True, text=True, check=True)
    assert "Training in process" in left.stdout
    wait_for(lambda: is_learning(home))
    assert newest(home).run_id == first
    assert "sft step" in lmm("train", "log")
    assert "at work" in lmm("train", "log")
    assert "another training is at work" in lmm("train", *DIALS, expect=1)
    assert "another training is at work" in lmm("train", "--background", *DIALS, expect=1)
    assert "another training is at work" in lmm("train", "make-base", "--name", "second", "--size", "small", expect=1)
    assert "one is trained now" in lmm("status")
    assert "lmm train resume" in lmm("train", "stop")
    assert not training.is_busy(home)
    assert newest(home).run_id == first
    assert newest(home).stopped_by == "user"
    assert "going on with run" in (home.logs / training.LOG).read_text(encoding="utf-8")
    assert "Nothing is trained now" in lmm("train", "stop")


def test_what_cannot_be_is_said_in_one_line_with_the_next_step(lmm, home, monkeypatch):
    assert "there is no run to go on with" in lmm("train", "resume", expect=1)
    assert "make-base" in lmm("train", "--preset", "cpu-tiny", "--base", "tiny", expect=1)
    assert "weekly" in lmm("train", "--schedule", "weekly", expect=1)
    assert "goes with --schedule" in lmm("train", "--install-unit", expect=1)
    refused = lmm("train", "--schedule", "nightly", expect=1)
    assert "`lmm serve` does not run" in refused
    assert "--install-unit" in refused
    assert not home.config.exists()
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "peft" else found(name, *rest))
    for command in (
        ("train", *DIALS),
        ("train", "--schedule", "nightly"),
        ("train", "make-base"),
        ("train", "--background"),
    ):
        told = lmm(*command, expect=1)
        assert "training needs peft" in told
        assert "`python3 bootstrap.py test`" in told
        assert "lmm-mcp[train]" in told
    assert "off" in lmm("train", "--schedule", "off")
    assert next(training_runs.runs(home), None) is None


def test_a_schedule_installs_the_service_that_keeps_it(lmm, home, tmp_path):
    assert "Schedule: after 40" in lmm("train", "--schedule", "after 40", "--install-unit")
    files = [path.name for path in (tmp_path / "nobody").rglob("*") if path.is_file()]
    assert len(files) == 1, "the service file, in this user's own folder"
    assert 'schedule = "after 40"' in home.config.read_text(encoding="utf-8")
    lmm("train", "--schedule", "after", "50")
    assert 'schedule = "after 50"' in home.config.read_text(encoding="utf-8"), "quoted or not"
    assert "leave out --rank 8" in lmm("train", "--schedule", "after", "60", "--rank", "8", expect=1)


def test_a_scheduled_run_takes_what_the_schedule_was_made_with_and_nothing_else_is_promised(lmm, home, monkeypatch):
    schedule = ("train", "--schedule", "after 40", "--install-unit")
    assert "keeps --preset, --base and --processes only" in (told := lmm(*schedule, "--rank", "64", expect=1))
    assert "leave out --rank 64" in told
    assert "make-base" in lmm(*schedule, "--preset", "cpu-tiny", "--base", "tiny", expect=1)
    assert "too many" in lmm(*schedule, "--preset", "cpu-tiny", "--base", "small", "--processes", "9999", expect=1)
    assert not home.config.exists()
    lmm(*schedule, "--preset", "cpu-tiny", "--base", "small", "--processes", "2")
    seen = []
    monkeypatch.setattr(run, "main", lambda _home, told, *_: seen.append((told.preset, told.base, told.processes)) or 0)
    told = cli.parser().parse_args(["run", "--by-schedule"])
    assert told.does(home, told, lambda: "") == 0
    assert seen == [("cpu-tiny", "small", 2)]


SERVES = """
import os, sys
from pathlib import Path
from lmm_mcp.paths import Home
from lmm_mcp.server import idleness, lessons_due, staying

lessons_due.Teacher.__init__.__kwdefaults__["look_every_s"] = 0.2
idleness.look = lambda *_, **__: idleness.Machine(0.1, True, "", 9999.0)
sys.exit(staying.serve(Home(Path(os.environ["LMM_HOME"])), os.environ, None))
"""


@NEEDS_POSIX
def test_an_engine_that_stays_starts_a_scheduled_training_and_takes_it_along_when_it_goes(lmm, home):
    home.config.write_text('[train]\npreset = "cpu-tiny"\nbase = "small"\n', encoding="utf-8")
    with subprocess.Popen([sys.executable, "-P", "-c", SERVES], stdout=subprocess.PIPE) as engine:
        assert b"serving" in engine.stdout.readline()
        assert "Schedule: after 1" in lmm("train", "--schedule", "after 1")
        wait_for(lambda: is_learning(home))
        assert "schedule: training" in lmm("train", "log")
        assert "at work" in lmm("train", "log")
        lmm("stop")
        assert engine.wait(60) == 0
    wait_for(lambda: not training.is_busy(home))
    assert newest(home).stopped_by == "schedule", "the next engine goes on with it"
    assert newest(home).options_hash
    assert "stopped by the schedule before training" in lmm("train", "log")
