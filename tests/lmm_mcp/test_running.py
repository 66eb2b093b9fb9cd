"""Commands about processes that need none: service files; and `lmm watch`, which needs one."""

import os
import plistlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from lmm_mcp import children
from lmm_mcp.cli import program, running
from lmm_mcp.paths import Home
from lmm_mcp.refusal import exit_code_of
from lmm_mcp.server import stopping, units


@pytest.fixture
def run(capsys, monkeypatch):
    """Run a command in this process: exit code, answer, and what was said beside it."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = program.run(arguments)
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


def test_a_systemd_unit_is_printed_that_names_program_and_places_and_is_not_restarted_after_a_stop(run, monkeypatch):
    monkeypatch.setenv("LMM_HOME", os.environ["HOME"] + '/a "home" of 100%')
    code, text, aside = run("serve", "--unit", "systemd", "--http", "--port", "7001")
    assert code == 0
    (start,) = [line for line in text.splitlines() if line.startswith("ExecStart=")]
    assert start.endswith('"serve" "--http" "--port" "7001"')
    assert f'Environment="LMM_HOME={os.environ["HOME"]}/a \\"home\\" of 100%%"' in text
    assert "Restart=on-failure" in text  # to be stopped on purpose is none
    assert "systemctl --user" in aside


def test_a_launchd_agent_is_a_property_list_that_names_the_same(run, monkeypatch):
    monkeypatch.setenv("LMM_HOME", os.environ["HOME"] + "/a & b")
    code, text, _ = run("serve", "--unit", "launchd")
    assert code == 0
    agent = plistlib.loads(text.encode())
    assert agent["ProgramArguments"][-1] == "serve"
    assert agent["EnvironmentVariables"]["LMM_HOME"].endswith("/a & b")
    assert agent["KeepAlive"] == {"SuccessfulExit": False}


@pytest.mark.parametrize("kind", units.KINDS)
def test_a_service_knows_where_sessions_lie_and_what_must_not_be_read(kind):
    env = {"GEMINI_CLI_HOME": "/srv/gemini", "LMM_SESSIONS_EXCLUDE_PATHS": "/work/secret", "API_KEY": "none of ours"}
    text = units.text(kind, ["/opt/lmm", "serve"], env)
    assert "/srv/gemini" in text
    assert "/work/secret" in text
    assert "API_KEY" not in text


@pytest.mark.parametrize("kind", units.KINDS)
def test_a_service_file_is_written_where_the_system_looks_and_again_after_an_upgrade(run, kind):
    file = units.place(kind, os.environ)
    code, text, _ = run("serve", "--unit", kind, "--write-unit")
    assert code == 0
    assert str(file) in text
    written = file.read_text(encoding="utf-8")
    assert units.MARK in written
    file.write_text(written + "# of last year\n", encoding="utf-8")
    assert run("serve", "--unit", kind, "--write-unit")[0] == 0
    assert file.read_text(encoding="utf-8") == written


@pytest.mark.parametrize("kind", units.KINDS)
def test_a_service_file_of_somebody_else_is_left_alone(run, kind):
    file = units.place(kind, os.environ)
    file.parent.mkdir(parents=True)
    file.write_text("mine", encoding="utf-8")
    code, _, told = run("serve", "--unit", kind, "--write-unit")
    assert code == 1
    assert "Move it away" in told
    assert file.read_text(encoding="utf-8") == "mine"


def test_an_unknown_kind_of_service_is_refused_with_the_known_ones(run):
    code, _, told = run("serve", "--unit", "cron")
    assert code == 1
    assert "--unit systemd" in told and "--unit launchd" in told


@contextmanager
def ended(process: "subprocess.Popen[str]") -> Iterator[None]:
    """See that a process is gone, however the test ends."""
    try:
        yield
    finally:
        process.kill()


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C cannot be sent there")
def test_lmm_watch_reads_until_it_is_interrupted_and_a_second_one_says_who_does(plain_env):
    command = [sys.executable, "-m", "lmm_mcp", "watch"]
    env = {**plain_env, "PYTHONUNBUFFERED": "1"}
    watching = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    with watching, ended(watching):
        assert any(line.startswith("up to date, watching") for line in watching.stdout)
        second = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert "reads the sessions of" in second.stdout
        watching.send_signal(signal.SIGINT)
        assert watching.wait(60) == 130


@pytest.mark.parametrize(
    ("refusal", "told"), [("full", "is full; nothing was lost"), ("forbidden", "cannot be written")]
)
def test_lmm_watch_says_once_that_the_disk_refuses_and_goes_on_by_itself_once_it_does_not(
    run, monkeypatch, refusal, told
):
    class Child:
        pid = 4711
        codes: ClassVar = [exit_code_of(refusal), exit_code_of(refusal), None, 0]
        num_starts = 1

        def poll(self) -> int | None:
            return self.codes.pop(0)

        def start_again(self) -> None:
            Child.num_starts += 1

    monkeypatch.setattr(children, "start_ingest", lambda *_, **__: Child())
    monkeypatch.setattr(running, "_REFUSED_RETRY_s", 0.0)
    code, out, aside = run("watch")
    assert code == 0
    assert aside.count(told) == 1
    assert Child.num_starts == 3
    assert "was told to leave" in out


@pytest.mark.skipif(os.name != "posix", reason="processes are looked for as POSIX tells of them")
def test_an_ingest_process_that_has_only_just_started_is_stopped_too(plain_env):
    home = Home(Path(plain_env["LMM_HOME"])).ensure()
    child = children.start_ingest(home, plain_env, stay=True)
    try:
        # It says that it comes before it loads what takes long, and before it has the lock.
        while child.pid not in children.those_who_came(home):
            assert child.poll() is None
            time.sleep(0.005)
        told = stopping.stop(home)
        assert told == [f"the ingest process has ended (process {child.pid})"]
        assert child.wait(10) == 0
    finally:
        child.stop()
    assert stopping.stop(home) == []
