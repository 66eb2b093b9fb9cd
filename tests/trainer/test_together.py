"""`lmm train --processes`: one training by several processes of this machine, however it ends."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lmm_mcp import artifacts, training, training_runs
from lmm_mcp.errors import BadInput, TrainingError
from trainer import cli, papers, plan, run, run_log, stepping, taught, together
from trainer.checkpoints import Place
from trainer.plan import Plan
from trainer.recipe import Recipe

DIALS = (
    *("--base", "small", "--preset", "cpu-tiny", "--slices", "choice,brief,fact", "--epochs", "1"),
    *("--max-steps", "6", "--max-lessons", "24", "--tokens-per-step", "2048", "--seq-len", "512", "--no-placebo"),
    *("--until", "2026-06-01", "--cpt-epochs", "0.2"),
)
ENDLESS = ("--min-steps", "4000", "--max-steps", "4000", "--stage", "sft")
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="processes and sockets as Linux lists them")
SEVERAL = pytest.mark.skipif((os.cpu_count() or 1) < 2 or sys.platform == "win32", reason="needs two cores")


def learn(home, *options, stop=lambda: ""):
    arguments = cli.parser().parse_args(["run", *DIALS, *options])
    return run.main(home, arguments, cli.dials_of(arguments), stop, lambda _line: None)


def start_trainer(*options):
    return subprocess.Popen(
        [sys.executable, "-m", "trainer", "run", *DIALS, *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def newest(home):
    return next(training_runs.runs(home))


def is_at(home, station, done=0.0):
    said = training.progress(home)
    return said is not None and said.station == station and said.done > done


def after_training(home):
    return lambda: "user" if is_at(home, "placebo", -1) else ""


def wait_for(condition, timeout_s=120):
    over = threading.Event()
    until_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until_s
        over.wait(0.05)


def learners(home):
    """The ids of the processes that train together for this home, first one first."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"learn" in words and f"lmm_home={home.root}".encode() in words:
            found[words[-3]] = int(folder.name)
    return [found[rank] for rank in sorted(found)]


def losses(folder):
    return [line["loss_mean"] for line in run_log.read(folder / taught.ADAPTER)]


@SEVERAL
@pytest.mark.slow
@pytest.mark.parametrize("going_on", [(), ("--processes", "1")], ids=["by two again", "by one"])
def test_what_two_processes_began_has_the_losses_of_one_however_it_is_gone_on_with(home, tmp_path, going_on):
    learn(home, "--processes", "2", stop=lambda: "schedule" if is_at(home, "training", 0.3) else "")
    folder, state = newest(home)
    assert state.stopped_by == "schedule"
    begun = losses(folder)
    assert state.next_station == "training"
    assert begun

    learn(home, "--resume", *going_on, stop=after_training(home))
    assert newest(home)[0] == folder
    assert newest(home)[1].next_station == "judging"
    assert not {together.MEETING, together.REPORT} & {each.name for each in (folder / taught.ADAPTER).iterdir()}

    alone = tmp_path / "alone"
    alone.mkdir()
    for name in (papers.LESSONS, papers.TEXTS):
        shutil.copy(folder / name, alone)
    done = taught.follow(home, alone, plan.load(folder), taught.ADAPTER)
    assert len(done.losses) > len(begun)
    assert losses(folder) == pytest.approx(done.losses, abs=1e-4)
    assert newest(home)[1].figures["tokens"] == done.num_tokens


@SEVERAL
@ON_LINUX
@pytest.mark.slow
def test_where_one_of_them_dies_the_others_end_and_the_next_step_is_told(home):
    trainer = start_trainer(*ENDLESS, "--processes", "2")
    try:
        wait_for(lambda: is_at(home, "training"))
        first, second = learners(home)
        assert {address for pid in (first, second) for address in listening(pid)} <= {"127.0.0.1", "::1"}
        os.kill(second, signal.SIGKILL)
        said = trainer.communicate(timeout=60)[1]
    finally:
        trainer.kill()
        trainer.wait()
    assert trainer.returncode == 1
    assert "process 2 of the 2 that trained together was ended by signal 9" in said
    assert "lmm train resume" in said
    assert learners(home) == []
    assert newest(home)[1].is_unfinished


def listening(pid):
    """The addresses at which a process listens for others."""
    sockets = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        try:
            sockets.add(str(each.readlink()))
        except OSError:
            continue
    for table, length in (("tcp", 8), ("tcp6", 32)):
        for line in Path(f"/proc/{pid}/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in sockets:
                told = words[1].partition(":")[0]
                assert len(told) == length
                yield {"0100007F": "127.0.0.1", "0" * 24 + "01000000": "::1"}.get(told, told)


@SEVERAL
@ON_LINUX
@pytest.mark.slow
def test_nothing_is_left_of_a_trainer_that_is_killed(home):
    trainer = start_trainer(*ENDLESS, "--processes", "2")
    try:
        wait_for(lambda: is_at(home, "training"))
        assert len(learners(home)) == 2
    finally:
        trainer.kill()
        trainer.communicate()
    wait_for(lambda: not learners(home), timeout_s=20)
    assert not training.is_busy(home)


@SEVERAL
@pytest.mark.slow
def test_what_is_forgotten_meanwhile_ends_all_of_them(home, bakery):
    threads = [(row.thread.agent, row.thread.thread_id) for row in bakery.ledger.threads()]

    def forget_in_the_middle():
        if is_at(home, "training"):
            artifacts.mark_unclean(home, threads)
        return ""

    with pytest.raises(TrainingError, match="forgotten meanwhile"):
        learn(home, *ENDLESS, "--processes", "2", stop=forget_in_the_middle)
    folder, state = newest(home)
    assert state.verdict == "failed"
    assert b"clamp_heat" not in b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    if sys.platform == "linux":
        assert learners(home) == []


def test_more_processes_than_the_machine_has_places_for_are_refused(home):
    for number, told in (("0", "too few"), ("-1", "too few"), ("9999", "too many")):
        with pytest.raises(BadInput, match=told):
            learn(home, "--processes", number)
    assert next(training_runs.runs(home), None) is None


def test_how_many_processes_train_is_no_part_of_what_is_learned(tmp_path):
    two = Plan(processes=2)
    assert two.hash == Plan().hash
    assert Plan(max_lessons=1).hash != Plan().hash
    plan.save(two, tmp_path)
    assert plan.load(tmp_path) == two
    tree = json.loads((tmp_path / plan.FILE).read_text(encoding="utf-8"))
    del tree["processes"]  # as it was written before there were any
    (tmp_path / plan.FILE).write_text(json.dumps(tree), encoding="utf-8")
    assert plan.load(tmp_path) == replace(two, processes=1)


@pytest.mark.parametrize(("rows", "option"), [(4, "--micro-rows 2"), (1, "--seq-len 512")])
def test_with_split_weights_a_lack_of_memory_is_told_with_the_dial_to_turn(rows, option):
    hall = SimpleNamespace(is_split=True, device=torch.device("cpu"), num_processes=2)

    def learn(*_arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    place = Place("sft", 0, 10, "", 1024, rows)
    with pytest.raises(TrainingError, match=f"split among processes.*{option}"):
        stepping.with_less(learn, None, None, (), None, Recipe(), hall, place)
