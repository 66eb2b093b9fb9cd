"""`lmm mcp`: light, and loses nothing when the engine behind it goes away."""

import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from lmm_mcp import notes
from lmm_mcp.paths import Home
from lmm_mcp.server import endpoint, reach

MAX_RESIDENT_MB = 25


def ids_heard(agent) -> list:
    return [message.get("id") for message in agent.heard if "method" not in message]


def modules_of(statement: str) -> set[str]:
    program = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, encoding="utf-8", timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_pipe_loads_nothing_but_the_standard_library_and_little_of_that():
    loaded = modules_of("import lmm_mcp.cli, lmm_mcp.server.pipe")
    assert not loaded & {"typer", "rich", "pydantic", "mcp", "filelock", "asyncio", "importlib.metadata"}
    ours = {name for name in loaded if name.startswith("lmm_mcp.server.")}
    assert ours == {f"lmm_mcp.server.{name}" for name in ("pipe", "reach", "endpoint", "version")}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_the_pipe_needs_little_memory(plain_env, agent_of, era):
    agent = agent_of(plain_env, era)
    agent.greet()
    agent.list_tools()
    told = Path(f"/proc/{agent.process.pid}/status").read_text(encoding="utf-8")
    (line,) = [line for line in told.splitlines() if line.startswith("VmRSS")]
    assert int(line.split()[1]) / 1000 <= MAX_RESIDENT_MB


def test_a_client_of_either_era_is_answered_and_the_pipe_ends_with_its_input(plain_env, agent_of, era):
    agent = agent_of(plain_env, era, "--no-ingest")
    assert "result" in agent.greet()
    assert agent.call("status")["reading"] == "never"
    assert agent.end() == 0


def test_what_was_asked_before_the_input_ended_is_answered(plain_env, agent_of, era):
    agent = agent_of(plain_env, era, "--no-ingest")
    agent.greet()
    number = agent.send_call("status")
    agent.process.stdin.close()
    assert "result" in agent.answer(number)
    assert agent.end() == 0


def test_the_call_after_the_engine_was_killed_is_answered_and_the_handshake_is_not_answered_twice(
    plain_env, agent_of, processes, era
):
    agent = agent_of(plain_env, era, "--no-ingest")
    agent.greet()
    agent.list_tools()
    first = processes.engine()
    processes.kill(first)
    assert agent.list_tools()
    assert processes.engine() != first
    assert ids_heard(agent) == [1, 2, 3]


def test_a_call_in_the_middle_of_which_the_engine_is_killed_is_answered_by_the_next(
    plain_env, agent_of, processes, era
):
    agent = agent_of(plain_env, era, "--no-ingest")
    agent.greet()
    agent.list_tools()
    processes.kill(processes.engine(), signal.SIGSTOP)
    numbers = [agent.send("tools/list"), agent.send_call("recall", query="which port?")]
    processes.kill(processes.engine())
    assert all("result" in agent.answer(number) for number in numbers)
    assert sorted(ids_heard(agent)) == [1, 2, 3, 4]


def test_a_note_in_the_middle_of_which_the_engine_is_killed_is_kept_once(plain_env, agent_of, processes, era):
    agent = agent_of(plain_env, era, "--no-ingest")
    agent.greet()
    agent.list_tools()
    processes.kill(processes.engine(), signal.SIGSTOP)
    number = agent.send_call("remember", text="The ferry leaves at nine.")
    processes.kill(processes.engine())
    said = agent.answer(number)["result"]["structuredContent"]
    (file,) = processes.home.notes.glob("*.jsonl")
    (note,) = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert (note["id"], note["text"]) == (said["id"], "The ferry leaves at nine.")


def test_notes_are_kept_once_each_however_often_the_engine_is_killed(plain_env, agent_of, processes, era):
    agent = agent_of(plain_env, era, "--no-ingest")
    agent.greet()
    chance = random.Random(5)
    kept = []
    for _ in range(6):
        numbers = [agent.send_call("remember", text=f"Note {agent.process.pid} {n}.") for n in range(4)]
        threading.Event().wait(chance.uniform(0, 0.25))  # some moment of their work
        processes.kill(processes.engine())
        kept += [agent.answer(number)["result"]["structuredContent"]["id"] for number in numbers]
    (file,) = processes.home.notes.glob("*.jsonl")
    written = [json.loads(line)["id"] for line in file.read_text(encoding="utf-8").splitlines() if line]
    assert sorted(written) == sorted(kept)
    assert len(set(kept)) == 24


def test_a_note_whose_answer_was_lost_is_not_kept_again_and_another_of_the_same_words_is(tmp_path):
    home = Home(tmp_path / "lmm").ensure()

    def remember(text: str, once: str) -> str:
        return notes.remember(home, text, project="", cwd="", now_ms=1_790_000_000_000, once=once)

    first = remember("The ferry leaves at nine.", "agent 7")
    assert remember("The ferry leaves at nine.", "agent 7") == first
    assert remember("The ferry leaves at nine.", "agent 8") != first
    assert remember("The ferry leaves at ten.", "agent 7") != first
    assert remember("The ferry leaves at nine.", "") != remember("The ferry leaves at nine.", "")
    (file,) = home.notes.glob("*.jsonl")
    assert len(file.read_text(encoding="utf-8").splitlines()) == 5


def test_where_no_engine_can_be_started_every_request_is_told_so_and_the_next_one_tries_again(
    plain_env, agent_of, processes, era
):
    home = processes.home.ensure()
    home.engine_lock.mkdir()  # something in the way that no engine can remove
    agent = agent_of(plain_env, era, "--no-ingest")
    refused = agent.greet()["error"]["message"]
    assert "no engine could be started" in refused
    assert "`lmm doctor`" in refused
    assert agent.answer(agent.send("tools/list"))["error"]["message"] == refused
    home.engine_lock.rmdir()
    assert "result" in agent.greet()
    assert agent.list_tools()


def test_an_engine_that_cannot_be_imported_is_told_with_its_last_words(plain_env, agent_of, tmp_path):
    package = tmp_path / "broken" / "lmm_mcp"
    shutil.copytree(Path(reach.__file__).parents[1], package, ignore=shutil.ignore_patterns("__pycache__", "samples"))
    (package / "server" / "engine.py").write_text("raise ImportError('half of an upgrade')", encoding="utf-8")
    env = {**plain_env, "PYTHONPATH": str(tmp_path / "broken")}
    agent = agent_of(env, "legacy", program=[sys.executable, "-m", "lmm_mcp", "mcp"], cwd=tmp_path)
    assert "half of an upgrade" in agent.greet()["error"]["message"]


def test_an_engine_that_ends_as_soon_as_it_is_ready_is_not_started_for_ever(plain_env, agent_of, tmp_path):
    package = tmp_path / "broken" / "lmm_mcp"
    shutil.copytree(Path(reach.__file__).parents[1], package, ignore=shutil.ignore_patterns("__pycache__", "samples"))
    starts = tmp_path / "starts"
    program = f"import os\nopen({str(starts)!r}, 'a').write('x')\nos.write(1, b'{{\"error\": \"\"}}\\n')\n"
    (package / "server" / "engine.py").write_text(program, encoding="utf-8")
    env = {**plain_env, "PYTHONPATH": str(tmp_path / "broken")}
    agent = agent_of(env, "legacy", program=[sys.executable, "-m", "lmm_mcp", "mcp"], cwd=tmp_path)
    assert "started and ended at once" in agent.greet()["error"]["message"]
    assert len(starts.read_text(encoding="utf-8")) in (reach.MAX_STARTS, 2 * reach.MAX_STARTS)


@contextmanager
def fainting_engine(home: Home):
    """An engine that answers a handshake and falls down at any other request; how often it did."""
    lock = endpoint.hold(home.engine_lock)
    door = endpoint.listen(home)
    falls = []

    def serve() -> None:
        while True:
            try:
                made, _ = door.socket.accept()
            except OSError:  # closed
                return
            with made, made.makefile("rwb") as lines:
                for line in lines:
                    asked = json.loads(line)
                    if "want" in asked:
                        lines.write(b'{"welcome": true}\n')
                    elif asked["method"] in ("initialize", "server/discover"):
                        lines.write(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": {}}).encode() + b"\n")
                    elif "id" in asked:
                        falls.append(asked["method"])
                        break
                    lines.flush()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield falls
    finally:
        door.socket.shutdown(socket.SHUT_RDWR)
        door.close()
        lock.release()
        thread.join(10)


def test_a_request_at_which_every_engine_falls_down_is_given_up_with_a_word(plain_env, agent_of, era):
    with fainting_engine(Home(Path(plain_env["LMM_HOME"])).ensure()) as falls:
        agent = agent_of(plain_env, era)
        agent.greet()
        for _ in range(2):  # and the pipe has not given up on others
            falls.clear()
            said = agent.answer(agent.send("tools/list"))
            assert "ended 3 times" in said["error"]["message"]
            assert falls == ["tools/list"] * 3


def test_after_lmm_stop_nothing_runs_until_something_is_asked(plain_env, agent_of, processes, era):
    agent = agent_of(plain_env, era, "--no-ingest")
    agent.greet()
    agent.list_tools()
    done = subprocess.run(
        [sys.executable, "-m", "lmm_mcp", "stop"], env=plain_env, capture_output=True, text=True, timeout=60
    )
    assert "the engine has ended" in done.stdout, done.stderr
    assert processes.running() == {}
    with pytest.raises(AssertionError):
        processes.until(processes.running, 0.5)
    assert agent.list_tools()


def test_nonsense_of_the_agent_does_not_end_the_pipe(plain_env, agent_of, era):
    agent = agent_of(plain_env, era, "--no-ingest")
    agent.greet()
    for line in (b"", b"garbage", b"[]", b"3", b'{"id": 1}', b"\xff\xfe", b"[" * 100_000, b'{"method": 7, "id": [1]}'):
        agent.say(line)
    agent.say(b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":[]}')
    assert agent.list_tools()


def test_a_line_that_is_too_long_is_refused_and_the_next_one_is_taken(plain_env, agent_of, era):
    agent = agent_of(plain_env, era, "--no-ingest")
    agent.greet()
    agent.say(b'{"jsonrpc":"2.0","id":7,"method":"' + b"x" * (endpoint.MAX_LINE_bytes + 1) + b'"}')
    assert "was dropped" in agent.answer(None)["error"]["message"]
    longest = b'{"jsonrpc":"2.0","id":"long","method":"nothing","params":{"x":"'
    agent.say(longest + b"x" * (endpoint.MAX_LINE_bytes - len(longest) - 4) + b'"}}')
    assert agent.answer("long")
    assert agent.list_tools()


def test_more_requests_than_an_engine_takes_at_once_are_all_answered(plain_env, agent_of, era):
    agent = agent_of(plain_env, era, "--no-ingest")
    agent.greet()
    numbers = [agent.send("tools/list") for _ in range(200)]
    assert all("result" in agent.answer(number) for number in numbers)


def test_an_agent_that_does_not_listen_any_more_has_no_pipe(plain_env, agent_of, tmp_path):
    agent_of(plain_env).greet()  # so that the engine is ended after the test
    pipe = subprocess.Popen(
        [sys.executable, "-m", "lmm_mcp", "mcp"],
        env=plain_env,
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    pipe.stdout.close()
    with pipe, suppress(BrokenPipeError):
        pipe.stdin.write(b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}\n')
        pipe.stdin.flush()
        assert pipe.wait(30) == 0
