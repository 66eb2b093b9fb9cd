"""Training by schedule: when it is due, when the machine has something better to do, and that it gives way."""

import os
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest

from lmm_mcp import artifacts, training, training_runs
from lmm_mcp.config import Train
from lmm_mcp.domain.schedule import Schedule
from lmm_mcp.domain.verdict import Promote
from lmm_mcp.errors import ConfigError
from lmm_mcp.paths import Home
from lmm_mcp.server import idleness, lessons_due
from lmm_mcp.server.idleness import Machine, objection
from lmm_mcp.server.lessons_due import Standing, Teacher, not_yet
from lmm_mcp.training_runs import RunState

NIGHT = datetime(2026, 3, 2, 2, 30, tzinfo=UTC)
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
IDLE = Machine(load_per_core=0.1, is_on_mains=True, gpu_busy="", quiet_s=9999.0)
A_DAY_AGO_ms = int(NIGHT.timestamp() * 1000) - 25 * 3600 * 1000


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "memory").ensure()


def test_a_nightly_run_is_due_at_night_only_once_a_day_and_with_something_new():
    nightly, much = Schedule("nightly"), Standing(num_new=500, last_end_ms=A_DAY_AGO_ms)
    assert not_yet(nightly, much, NIGHT) == ""
    assert "not night" in not_yet(nightly, much, NOON)
    assert "only 3 passages" in not_yet(nightly, Standing(3, A_DAY_AGO_ms), NIGHT)
    just_now = Standing(500, int(NIGHT.timestamp() * 1000) - 3600_000)
    assert "not a day old" in not_yet(nightly, just_now, NIGHT)


def test_after_n_counts_passages_and_asks_for_no_hour():
    assert not_yet(Schedule("after", 200), Standing(200, 0), NOON) == ""
    assert not_yet(Schedule("after", 200), Standing(150, 0), NOON) == "50 passages are missing to 200"


def test_a_run_that_gave_way_is_gone_on_with_whatever_is_new():
    stopped = Standing(num_new=0, last_end_ms=int(NIGHT.timestamp() * 1000), is_unfinished=True)
    assert not_yet(Schedule("idle"), stopped, NOON) == ""
    assert "not night" in not_yet(Schedule("nightly"), stopped, NOON)


@pytest.mark.parametrize(
    ("machine", "why"),
    [
        (Machine(0.1, False, "", 9999), "battery"),
        (Machine(0.1, True, "", 20), "asked something 20 s ago"),
        (Machine(1.7, True, "", 9999), "busy (load 1.7 a core)"),
        (Machine(0.1, True, "the GPU is busy (97 %, 80 % of its memory)", 9999), "GPU"),
    ],
)
def test_a_machine_with_something_better_to_do_says_what(machine, why):
    assert why in objection(machine, needs_quiet_s=600)
    assert objection(IDLE, needs_quiet_s=600) == ""


def test_power_is_read_from_the_supplies_of_the_machine(tmp_path):
    def supplies(**each):
        for name, values in each.items():
            (tmp_path / name).mkdir(parents=True, exist_ok=True)
            for key, value in values.items():
                (tmp_path / name / key).write_text(f"{value}\n", encoding="utf-8")
        return idleness.look(0.0, {}, power=tmp_path).is_on_mains

    assert idleness.look(0.0, {}, power=tmp_path / "none").is_on_mains
    assert supplies(AC={"type": "Mains", "online": "1"}, BAT0={"type": "Battery", "status": "Charging"})
    assert not supplies(AC={"type": "Mains", "online": "0"}, BAT0={"type": "Battery", "status": "Discharging"})
    assert supplies(BAT0={"type": "Battery", "status": "Discharging", "scope": "Device"})  # a mouse


def test_a_schedule_nobody_understands_is_refused_with_what_to_write():
    with pytest.raises(ConfigError, match="after N"):
        Train(schedule="weekly")


def test_what_is_new_is_counted_since_the_last_run_that_came_to_its_end(home):
    def run(name, **values):
        folder = artifacts.runs_folder(home) / name
        folder.mkdir(parents=True)
        training_runs.save(folder, RunState(run_id=name, started_ms=1, options_hash="x", **values))

    assert lessons_due.standing(home, 70) == Standing(70, 0)
    run("2026-03-01-a", num_passages=40, ended_ms=5, verdict="keep")
    run("2026-03-02-b", num_passages=60, stopped_by="schedule")
    assert lessons_due.standing(home, 70) == Standing(30, 5, is_unfinished=True)
    training_runs.save(
        artifacts.runs_folder(home) / "2026-03-02-b", RunState("2026-03-02-b", 1, "x", stopped_by="user")
    )
    assert not lessons_due.standing(home, 70).is_unfinished
    (artifacts.runs_folder(home) / "2026-03-02-b" / training_runs.STATE).write_text("{torn", encoding="utf-8")
    assert lessons_due.standing(home, 70) == Standing(30, 5)


def test_what_was_forgotten_of_the_model_makes_one_run_due_that_builds_a_clean_one(home):
    def ran(name, started_ms):
        folder = artifacts.runs_folder(home) / name
        folder.mkdir(parents=True)
        training_runs.save(folder, RunState(name, started_ms, "x", num_passages=70, ended_ms=started_ms + 1))

    draft = artifacts.draft(home)
    (draft / "adapter").mkdir()
    (draft / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
    told = {"recipe": {}, "libraries": {}, "seed": 0, "verdict": Promote(())}
    marks = ("base", "base_hash", "store_version", "lessons_hash", "probes_hash", "run", "code_version", "hardware")
    about = artifacts.Manifest(**told, **dict.fromkeys(marks, ""))
    sources = artifacts.Sources.of([("codex", "a")], (), as_of=0)
    artifacts.promote(home, artifacts.commit(home, draft, about, None, sources).name)
    ran("2026-03-01-a", 5)
    assert lessons_due.standing(home, 71).num_new == 1
    artifacts.mark_unclean(home, [("codex", "a")])
    assert lessons_due.standing(home, 69).num_new == 69
    ran("2026-03-02-b", time.time_ns() // 1_000_000 + 1)
    assert lessons_due.standing(home, 71).num_new == 1, "also where the gate kept out what was built"


def a_trainer_that_obeys(home):
    """A process that works until it is asked to stop, as the trainer does."""
    script = (
        "import sys, time; from pathlib import Path; from lmm_mcp import training; from lmm_mcp.paths import Home\n"
        "home = Home(Path(sys.argv[1]))\n"
        "while not training.stop_wanted(home): time.sleep(0.02)\n"
    )
    return training.Trainer(subprocess.Popen([sys.executable, "-c", script, str(home.root)]), home)


def test_the_trainer_is_started_when_idle_and_asked_to_stop_when_the_machine_is_wanted(home, monkeypatch):
    machine, started = [IDLE], []

    def start(where, env, arguments, *, to_log):
        assert to_log
        assert arguments == ["run", "--by-schedule"]
        started.append(a_trainer_that_obeys(where))
        return started[-1]

    monkeypatch.setattr(training, "start", start)
    monkeypatch.setattr(idleness, "look", lambda *_, **__: machine[0])
    teacher = Teacher(
        home, {}, schedule=lambda: "after 10", standing=lambda: Standing(20, 0), quiet_s=lambda: machine[0].quiet_s
    )
    machine[0] = Machine(2.0, True, "", 9999)
    assert "busy" in teacher.look()
    assert not started
    machine[0] = IDLE
    assert teacher.look() == "training"
    assert teacher.look() == "training"
    assert len(started) == 1
    machine[0] = Machine(0.1, True, "", 2.0)
    assert teacher.look() == "gives way: an agent asked something 2 s ago"
    assert training.stop_wanted(home) == "schedule"
    assert started[0].wait(30) == 0


def test_a_trainer_hears_within_seconds_that_the_machine_is_wanted(home, monkeypatch):
    """However seldom is looked whether a run is due: it stops a short watch and a step later."""
    machine, started = [IDLE], []

    def start(where, *_, **__):
        started.append(a_trainer_that_obeys(where))
        return started[-1]

    monkeypatch.setattr(training, "start", start)
    monkeypatch.setattr(idleness, "look", lambda *_, **__: machine[0])
    monkeypatch.setattr(lessons_due, "WATCH_EVERY_s", 0.2)
    teacher = Teacher(
        home,
        {},
        schedule=lambda: "after 10",
        standing=lambda: Standing(20, 0),
        quiet_s=lambda: machine[0].quiet_s,
        look_every_s=3600.0,
    )
    assert teacher.look() == "training"
    teacher.start()
    try:
        machine[0] = Machine(0.1, True, "", 2.0)
        wanted_s = time.monotonic()
        assert started[0].wait(30) == 0
        assert time.monotonic() - wanted_s < 10.0
        assert training.stop_wanted(home) == "schedule"
    finally:
        teacher.stop()


def test_a_trainer_by_schedule_does_not_outlive_its_engine(home, monkeypatch):
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    monkeypatch.setattr(training, "start", lambda *_, **__: training.Trainer(process, home))
    monkeypatch.setattr(idleness, "look", lambda *_, **__: IDLE)
    teacher = Teacher(home, {}, schedule=lambda: "idle", standing=lambda: Standing(99, 0), quiet_s=lambda: 9999.0)
    assert teacher.look() == "training"
    teacher.stop()
    assert process.wait(30) == 0


def test_progress_is_written_whole_and_garbage_is_no_progress(home):
    assert training.progress(home) is None
    said = training.Progress(pid=7, run_id="r", station="sft", done=0.5, updated_ms=int(time.time()))
    training.write_progress(home, said)
    assert training.progress(home) == said
    home.write_lock.with_name("train.json").write_text('{"pid": "seven", "done": 1, "else": 3}', encoding="utf-8")
    assert training.progress(home) == training.Progress(done=1.0)


def test_two_trainings_at_once_are_told_apart_by_the_lock(home):
    assert not training.is_busy(home)
    with training.lock(home).acquire(timeout=0):
        code = "import sys; from pathlib import Path; from lmm_mcp import training; from lmm_mcp.paths import Home; sys.exit(training.is_busy(Home(Path(sys.argv[1]))))"
        assert subprocess.run([sys.executable, "-c", code, str(home.root)], check=False).returncode == 1


def test_a_trainer_that_had_to_be_ended_gave_way_and_did_not_fail(home, monkeypatch):
    folder = artifacts.runs_folder(home) / "2026-03-02-b"
    folder.mkdir(parents=True)
    training_runs.save(folder, RunState("2026-03-02-b", 1, "x"))
    deaf = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    machine = [IDLE]
    monkeypatch.setattr(training, "start", lambda *_, **__: training.Trainer(deaf, home))
    monkeypatch.setattr(idleness, "look", lambda *_, **__: machine[0])
    monkeypatch.setattr(lessons_due, "_GRACE_s", 0.0)
    teacher = Teacher(home, {}, schedule=lambda: "idle", standing=lambda: Standing(99, 0), quiet_s=lambda: 9999.0)
    assert teacher.look() == "training"
    machine[0] = Machine(2.0, True, "", 9999)
    assert teacher.look().startswith("gives way")
    assert teacher.look() == "stopping"
    assert deaf.wait(30) < 0
    assert "busy" in teacher.look()
    assert training_runs.load(folder).stopped_by == "schedule"


def smi_that_tells(folder, **answers):
    """A folder for PATH with an `nvidia-smi` that answers each query by its first word."""
    folder.mkdir(exist_ok=True)
    cases = "".join(f'  *{query.replace("_", "-")}=*) echo "{told}";;\n' for query, told in answers.items())
    program = folder / "nvidia-smi"
    program.write_text(f'#!/bin/sh\ncase "$1" in\n{cases}esac\n', encoding="utf-8")
    program.chmod(0o700)
    return {"PATH": str(folder)}


@pytest.mark.skipif(sys.platform == "win32", reason="its stand-in is a shell script")
def test_training_on_a_gpu_gives_way_to_a_busy_processor_and_to_others_on_the_gpu(tmp_path, monkeypatch):
    trainer = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    try:
        pid = trainer.pid
        alone = smi_that_tells(tmp_path / "a", query_gpu="GPU-a, 9000, 24000", query_compute_apps=f"GPU-a, {pid}, 8000")
        shared = smi_that_tells(
            tmp_path / "b", query_gpu="GPU-a, 23000, 24000", query_compute_apps=f"GPU-a, {pid}, 8000"
        )
        none = smi_that_tells(tmp_path / "c", query_gpu="GPU-a, 23000, 24000", query_compute_apps="GPU-a, 1, 23000")
        monkeypatch.setattr(os, "cpu_count", lambda: 8)
        monkeypatch.setattr(os, "getloadavg", lambda: (8.0, 8.0, 8.0))

        def why(env):
            machine = idleness.look(999.0, env, power=tmp_path / "none", trainer=pid)
            return objection(machine, needs_quiet_s=30, our_load_per_core=machine.our_load_per_core)

        assert why(none) == "", "eight cores of eight may be ours where we train without a GPU"
        assert "load 0.9 a core" in why(alone)
        monkeypatch.setattr(os, "getloadavg", lambda: (2.0, 2.0, 2.0))
        assert why(alone) == ""
        assert why(shared) == "somebody else uses 62 % of the memory of the GPU"
    finally:
        trainer.kill()
        trainer.wait()
