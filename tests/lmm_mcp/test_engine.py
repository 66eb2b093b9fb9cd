"""The engine: one for a memory home, there while somebody needs it, gone afterwards, and never in the way of the next."""

import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from contextlib import ExitStack
from pathlib import Path

import pytest

from lmm_mcp.errors import EngineError
from lmm_mcp.paths import Home
from lmm_mcp.server import endpoint, reach
from lmm_mcp.server.holdings import Holdings
from lmm_mcp.server.version import version

ENGINE = "from lmm_mcp.server import endpoint, engine, version\n"
OLD_VERSION = "version.version = engine.version = reach.version = lambda: '0.0.1'\n"


def engine_of(home: Home, env: dict[str, str], preparation: str = "", arguments: str = "") -> subprocess.Popen:
    """An engine in the foreground, of another kind than the pipe would start; answers when this returns."""
    program = (
        f"{ENGINE}from lmm_mcp.server import reach\nimport os\nfrom lmm_mcp.paths import Home\nfrom pathlib import Path\n"
        f"{preparation}\nhome = Home(Path({str(home.root)!r}))\n"
        f"os._exit(engine.run(home, os.environ, ready=lambda: print('ready', flush=True), {arguments}))"
    )
    # Its command line names the home, so that whatever a test leaves of it is found.
    process = subprocess.Popen(
        [sys.executable, "-X", f"lmm_home={home.root}", "-c", program], env=env, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"ready\n"
    return process


@pytest.fixture
def home(plain_env) -> Home:
    return Home(Path(plain_env["LMM_HOME"])).ensure()


def ended(process: subprocess.Popen) -> int:
    process.stdout.close()
    return process.wait(60)


# One, and for all


def test_agents_that_come_at_once_get_one_engine(plain_env, agent_of, processes, era):
    most = 0
    agents = [agent_of(plain_env, era, "--no-ingest") for _ in range(8)]
    threads = [threading.Thread(target=agent.greet) for agent in agents]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        most = max(most, len(processes.running()))
    for thread in threads:
        thread.join()
    assert all(agent.list_tools() for agent in agents)
    assert list(processes.running()) == [processes.engine()]
    assert most <= 2  # the one that forks itself free of its parent is seen twice for a moment
    assert reach.ask(processes.home, {"want": "status"}, 10)["clients"] == 8


def test_agents_in_two_folders_ask_two_projects_of_one_engine(plain_env, agent_of, tmp_path, era):
    for name in ("shop", "boat"):
        (tmp_path / name / ".git").mkdir(parents=True)
        (tmp_path / name / ".git" / "config").write_text("[core]\n", encoding="utf-8")
    shop, boat = (agent_of(plain_env, era, "--no-ingest", cwd=tmp_path / name) for name in ("shop", "boat"))
    shop.greet()
    boat.greet()
    assert shop.call("status")["project"] == str(tmp_path / "shop")
    assert boat.call("status")["project"] == str(tmp_path / "boat")
    assert boat.call("remember", text="The boat is blue.")["project"] == str(tmp_path / "boat")


def test_each_agent_has_the_settings_of_its_own_environment(plain_env, agent_of, era):
    strict = {**plain_env, "LMM_SESSIONS_EXCLUDE_PATHS": "*"}
    excluded = agent_of(strict, era, "--no-ingest")
    excluded.greet()  # its environment is the engine's, too
    free = agent_of(plain_env, era, "--no-ingest")
    free.greet()
    assert free.call("remember", text="The boat is blue.")
    refused = excluded.answer(excluded.send_call("remember", text="The boat is red."))
    assert "your settings exclude" in refused["result"]["content"][0]["text"]


def test_the_ingest_process_is_there_once_and_only_where_an_agent_wants_it(plain_env, agent_of, processes, era):
    quiet = agent_of(plain_env, era, "--no-ingest")
    quiet.greet()
    quiet.call("status")
    assert set(processes.running().values()) == {"engine"}
    readers = [agent_of(plain_env, era) for _ in range(2)]
    for reader in readers:
        reader.greet()
        reader.list_tools()
    processes.until(lambda: "ingest" in processes.running().values())
    assert sorted(processes.running().values()) == ["engine", "ingest"]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_an_engine_that_has_answered_everything_has_not_loaded_torch(harbour_env, own_env, agent_of):
    agent = agent_of(own_env, "legacy", "--no-ingest")
    agent.greet()
    found = agent.call("recall", query="which port does the development database use?", project="*")
    agent.call("expand", ids=[found["citations"][0]["id"]])
    agent.call("status")
    pid = endpoint.about(Home(Path(own_env["LMM_HOME"])))["pid"]
    loaded = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
    assert "lance" in loaded
    assert "libtorch" not in loaded


# Nothing is left behind


def test_nothing_of_ours_runs_soon_after_all_agents_were_killed(plain_env, agent_of, processes, era):
    agents = [agent_of(plain_env, era) for _ in range(3)]
    for agent in agents:
        agent.greet()
        agent.list_tools()
    processes.until(lambda: "ingest" in processes.running().values())
    for agent in agents:
        processes.kill(agent.process.pid)
    processes.until(lambda: not processes.running(), 30)


def test_the_ingest_process_goes_when_its_engine_is_killed(plain_env, agent_of, processes):
    agent = agent_of(plain_env)
    agent.greet()
    agent.list_tools()
    processes.until(lambda: "ingest" in processes.running().values())
    processes.kill(agent.process.pid)
    processes.kill(processes.engine())
    processes.until(lambda: not processes.running(), 30)


def test_an_engine_stays_while_its_agent_is_there_and_says_nothing(plain_env, agent_of, processes):
    agent = agent_of(plain_env, "legacy", "--no-ingest")
    agent.greet()
    first = processes.engine()
    with pytest.raises(AssertionError):
        processes.until(lambda: not processes.running(), 2.5)  # it leaves a second after its last agent
    assert agent.list_tools()
    assert processes.engine() == first


def test_locks_and_sockets_of_a_killed_engine_are_not_in_the_way(plain_env, agent_of, processes, era):
    agent = agent_of(plain_env, era, "--no-ingest")
    agent.greet()
    processes.kill(agent.process.pid)
    first = processes.engine()
    processes.kill(first)
    processes.until(lambda: not processes.running())
    assert processes.home.door.exists()
    another = agent_of(plain_env, era, "--no-ingest")
    assert another.greet()
    assert processes.engine() != first


def test_an_engine_whose_home_was_taken_away_makes_room(plain_env, agent_of, processes):
    agent = agent_of(plain_env, "legacy", "--no-ingest")
    agent.greet()
    first = processes.engine()
    shutil.rmtree(processes.home.root)
    processes.until(lambda: endpoint.about(processes.home).get("pid", first) != first)
    assert agent.list_tools()


def test_agents_that_come_in_the_moment_in_which_an_engine_leaves_are_answered(plain_env, agent_of, processes):
    env = {**plain_env, "LMM_ENGINE_LINGER_S": "0.2"}
    agent_of(env).end()  # from now on what is left is ended after the test
    hello = {"want": "mcp", "reads": False}
    pids = set()
    for wait_s in (0.0, 0.1, 0.18, 0.2, 0.22, 0.25, 0.3, 0.35, 0.4, 0.5):
        found = reach.reach(processes.home, env, hello)
        pids.add(found.answer["pid"])
        found.socket.close()
        time.sleep(wait_s)  # aims at a moment
    assert len(pids) > 1, "no engine left, so nothing was tried"


def test_what_was_restored_from_a_backup_is_answered_out_of_without_a_new_engine(own_env, agent_of):
    home = Home(Path(own_env["LMM_HOME"]))
    agent = agent_of(own_env, "legacy", "--no-ingest")
    agent.greet()
    question = {"query": "which port does the development database use?", "project": "*"}
    pid = endpoint.about(home)["pid"]
    found = agent.call("recall", **question)
    assert found["status"] == "found"
    for path in (home.store, home.ledger):
        path.rename(path.with_name(f"away-{path.name}"))
    assert agent.call("recall", **question)["status"] == "nothing_found"
    home.ledger.unlink(missing_ok=True)
    for path in (home.store, home.ledger):
        path.with_name(f"away-{path.name}").rename(path)
    assert agent.call("recall", **question) == found
    assert endpoint.about(home)["pid"] == pid


def test_no_log_holds_what_agents_say_even_where_it_cannot_be_understood(plain_env, agent_of, processes, era):
    agent = agent_of(plain_env, era, "--no-ingest")
    agent.greet()
    for line in (
        b"XYLOPHONE",
        b'{"XYLOPHONE": 1}',
        b'{"jsonrpc":"2.0","id":"XYLOPHONE","method":"XYLOPHONE","params":{}}',
    ):
        agent.say(line)
    agent.answer(agent.send("XYLOPHONE", {"XYLOPHONE": "XYLOPHONE"}))
    agent.answer(agent.send_call("XYLOPHONE", XYLOPHONE="XYLOPHONE"))
    agent.answer(agent.send_call("recall", XYLOPHONE="XYLOPHONE"))
    agent.list_tools()
    logs = {path.name: path.read_text(encoding="utf-8") for path in processes.home.logs.iterdir()}
    assert "serves from process" in logs["server.log"]
    assert not [name for name, text in logs.items() if "XYLOPHONE" in text]


# Others than the usual


def test_agents_are_served_over_a_port_where_there_are_no_sockets(plain_env, agent_of, home, era):
    process = engine_of(home, plain_env, arguments="tcp=True, linger_s=1")
    agent = agent_of(plain_env, era, "--no-ingest")
    assert "result" in agent.greet()
    assert len(agent.list_tools()) == 4
    assert endpoint.about(home)["port"]
    agent.end()
    assert ended(process) == 0


def test_a_home_with_a_long_path_is_served(plain_env, agent_of, tmp_path, era):
    env = {**plain_env, "LMM_HOME": str(tmp_path / ("a-long-name-" * 12) / "lmm"), "XDG_RUNTIME_DIR": str(tmp_path)}
    agent = agent_of(env, era, "--no-ingest")
    assert "result" in agent.greet()
    assert agent.list_tools()


def test_an_agent_of_a_newer_version_gets_a_new_engine_and_the_older_ones_go_over_to_it(
    plain_env, agent_of, home, processes, era
):
    process = engine_of(home, plain_env, OLD_VERSION, "linger_s=60")
    old_pipe = "from lmm_mcp.server import reach, pipe\nreach.version = lambda: '0.0.1'\nimport os\nos._exit(pipe.main(os.environ, reads=False))"
    old = agent_of(plain_env, era, program=[sys.executable, "-c", old_pipe])
    old.greet()
    assert processes.engine() == process.pid
    new = agent_of(plain_env, era, "--no-ingest")
    assert "result" in new.greet()
    assert ended(process) == 75
    assert endpoint.about(home)["version"] == version()
    second = processes.engine()
    assert old.list_tools()
    assert new.list_tools()
    assert processes.engine() == second, "versions must not take turns"
    assert reach.ask(home, {"want": "status"}, 10)["clients"] == 2


def test_what_an_engine_was_asked_before_it_makes_room_is_answered(plain_env, agent_of, home, processes, era):
    slow = "import time\nfrom lmm_mcp.server.desk import Desk\nDesk.recall = lambda *a, **k: (time.sleep(1.5), 1 / 0)"
    process = engine_of(home, plain_env, f"{OLD_VERSION}{slow}", "linger_s=60")
    old_pipe = "from lmm_mcp.server import reach, pipe\nreach.version = lambda: '0.0.1'\nimport os\nos._exit(pipe.main(os.environ, reads=False))"
    old = agent_of(plain_env, era, program=[sys.executable, "-c", old_pipe])
    old.greet()
    number = old.send_call("recall", query="which port?")
    processes.until(lambda: "recall" in str(old.heard) or reach.ask(home, {"want": "status"}, 10)["open"] == 1)
    agent_of(plain_env, era, "--no-ingest").greet()
    # Only the old engine answers with this error: it was not asked again.
    assert old.answer(number)["result"]["isError"]
    assert ended(process) == 75


# Strangers at the door


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\n",
        b"garbage\n",
        b"[]\n",
        b"\xff\xff\n",
        b'{"want": "mcp"}\n',
        b'{"wire": "x", "version": 1, "want": "mcp"}\n',
        b'{"wire": 1, "version": "0.1.0", "want": ["mcp"]}\n',
        b'{"wire": 1, "version": "0.1.0", "want": "nonsense"}\n',
        b'{"wire": 99, "version": "0.0.1", "want": "mcp"}\n',
        b'{"wire": 1, "version": "0.1.0", "want": "mcp", "cwd": 3, "env": [1], "client": {}}\n{"jsonrpc": 3}\nx\n',
        b"x" * 3_000_000,
        b"[" * 200_000 + b"\n",
        b'{"wire": 1, "version": "0.0.1", "want": "mcp"}\n' + b"[" * 200_000 + b"\n",
    ],
    ids=lambda said: repr(said[:40]),
)
def test_whatever_is_said_at_the_door_the_engine_goes_on(served_home, said):
    found = endpoint.connect(served_home)
    assert found is not None
    with found[0] as made:
        made.settimeout(10)
        try:
            made.sendall(said)
            made.shutdown(socket.SHUT_WR)
            while made.recv(65536):
                pass
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert reach.ask(served_home, {"want": "status"}, 10)["clients"] == 0


@pytest.fixture(scope="module")
def served_home(tmp_path_factory):
    """A memory home with an engine whose patience is short."""
    home = Home(tmp_path_factory.mktemp("strangers") / "lmm").ensure()
    env = {**os.environ, "LMM_HOME": str(home.root), "PYTHONPATH": str(Path(__file__).parents[2])}
    process = engine_of(
        home, env, "endpoint.HELLO_TIMEOUT_s = 0.3\nengine.MAX_CONNECTIONS = 20", "linger_s=600, stays=False"
    )
    yield home
    reach.ask(home, {"want": "stop"}, 10)
    assert ended(process) == 0


def test_who_says_nothing_is_not_waited_for(served_home):
    found = endpoint.connect(served_home)
    with found[0] as made:
        made.settimeout(10)
        started_s = time.monotonic()
        assert made.recv(1) == b""
    assert time.monotonic() - started_s < 5


def test_a_crowd_at_the_door_is_turned_away_and_the_engine_goes_on(served_home):
    hello = {"want": "mcp", "reads": False}
    with ExitStack() as crowd:
        # The first sit down one after the other, so that who comes later finds no room whatever the machine has to do.
        seated = [endpoint.greet(served_home, hello, version=version(), timeout_s=10) for _ in range(20)]
        turned_away = [endpoint.greet(served_home, hello, version=version(), timeout_s=10) for _ in range(5)]
        for found in (*seated, *turned_away):
            crowd.enter_context(found[0])
        assert [bool(found[1].get("welcome")) for found in seated] == [True] * 20
        assert [found[1].get("no") for found in turned_away] == ["full"] * 5
        with pytest.raises(EngineError, match="too many agents"):
            reach.reach(served_home, {}, hello)

    def is_quiet() -> bool:
        try:
            return reach.ask(served_home, {"want": "status"}, 10)["clients"] == 0
        except EngineError:
            return False

    ends_s = time.monotonic() + 20
    while not is_quiet():
        assert time.monotonic() < ends_s


def test_a_question_that_the_engine_does_not_know_is_answered_with_a_sentence(served_home):
    with pytest.raises(EngineError, match="cannot answer 'the moon'"):
        reach.ask(served_home, {"want": "the moon"}, 10)


def test_asking_where_no_engine_runs_says_so_or_starts_one(plain_env, agent_of, processes):
    with pytest.raises(EngineError, match="no engine runs"):
        reach.ask(processes.home.ensure(), {"want": "status"}, 5)
    agent_of(plain_env).end()  # from now on what is left is ended after the test
    assert reach.ask(processes.home, {"want": "status"}, 30, start=True, env=plain_env)["pid"] == processes.engine()


# To stay, and to stop


def lmm(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lmm_mcp", *arguments],
        env=env,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=90,
        check=False,
    )


def serving(env: dict[str, str], *options: str) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-m", "lmm_mcp", "serve", *options], env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    for line in process.stdout:
        if line.startswith(b"serving "):
            return process
    raise AssertionError("it does not serve")


def test_lmm_serve_takes_over_and_agents_do_not_notice(plain_env, agent_of, processes, era):
    agent = agent_of(plain_env, era, "--no-ingest")
    agent.greet()
    first = processes.engine()
    process = serving(plain_env)
    assert processes.engine() == process.pid != first
    assert agent.list_tools()
    assert agent.end() == 0
    again = lmm(plain_env, "serve")
    assert again.returncode == 1
    assert f"process {process.pid}" in again.stderr
    with pytest.raises(AssertionError):
        processes.until(lambda: not processes.running(), 2)  # it stays without agents
    process.send_signal(signal.SIGTERM)
    assert ended(process) == 0
    processes.until(lambda: not processes.running(), 30)


def test_lmm_stop_ends_everything_and_says_what(plain_env, agent_of, processes):
    agent = agent_of(plain_env)
    agent.greet()
    agent.list_tools()
    processes.until(lambda: "ingest" in processes.running().values())
    done = lmm(plain_env, "stop")
    assert done.returncode == 0, done.stderr
    assert "the engine has ended" in done.stdout
    assert "the ingest process has ended" in done.stdout
    assert processes.running() == {}
    assert lmm(plain_env, "stop").stdout == "nothing was running\n"


def test_who_asks_it_to_stop_is_answered_before_it_is_gone(home, plain_env):
    slow = (
        "import time\nfrom lmm_mcp.server import answers\nstop = answers.answers['stop']\n"
        "answers.answers['stop'] = lambda *asked: (stop(*asked), time.sleep(0.7))[0]"
    )
    process = engine_of(home, plain_env, slow, "linger_s=600, stays=False")
    assert reach.ask(home, {"want": "stop"}, 10)["pid"] == process.pid
    assert ended(process) == 0


def test_lmm_stop_waits_for_an_engine_that_is_leaving_already(home, plain_env, processes):
    from lmm_mcp.server import stopping

    slow = "import asyncio\nengine.Engine._say_goodbye = lambda self: asyncio.sleep(1.5)"
    process = engine_of(home, plain_env, slow, "linger_s=600, stays=False")
    reach.ask(home, {"want": "stop"}, 10)
    processes.until(lambda: not endpoint.about(home), 10)
    assert stopping.stop(home) == ["the engine has ended"]
    assert ended(process) == 0


def test_lmm_stop_ends_an_engine_that_only_just_comes(home, plain_env, processes):
    from lmm_mcp.server import stopping

    slow = (
        "import time\nlisten = endpoint.listen\n"
        "endpoint.listen = lambda *asked, **more: (time.sleep(1.5), listen(*asked, **more))[1]"
    )
    made = []
    starting = threading.Thread(
        target=lambda: made.append(engine_of(home, plain_env, slow, "linger_s=600, stays=False"))
    )
    starting.start()
    processes.until(lambda: not stopping._is_free(home), 20)
    (told,) = stopping.stop(home)
    starting.join()
    assert told == f"the engine has ended (process {made[0].pid}, 0 agents connected)"
    assert ended(made[0]) == 0


def test_lmm_stop_ends_an_engine_that_hangs(plain_env, agent_of, processes, monkeypatch):
    from lmm_mcp.server import stopping

    agent = agent_of(plain_env, "legacy", "--no-ingest")
    agent.greet()
    processes.kill(agent.process.pid)  # or it would start another one
    pid = processes.engine()
    processes.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(stopping, "ASK_s", 0.2)
    monkeypatch.setattr(stopping, "_TERMINATE_s", 0.5)
    assert stopping.stop(processes.home) == [f"the engine did not answer and was ended (process {pid})"]
    assert processes.running() == {}
    assert stopping.stop(processes.home) == []


def test_lmm_stop_ends_no_process_that_is_not_provably_ours(plain_env, home, monkeypatch):
    from lmm_mcp.server import stopping

    monkeypatch.setattr(stopping, "ASK_s", 0.2)
    lock = endpoint.hold(home.engine_lock)
    door = endpoint.listen(home)  # by this process, which is no engine and does not answer
    with pytest.raises(EngineError, match=f"process {os.getpid()} is not provably it"):
        stopping.stop(home)
    door.close()
    lock.release()


def test_status_and_doctor_tell_of_the_engine(own_env, agent_of):
    assert "engine: none runs" in lmm(own_env, "status").stdout
    agent = agent_of(own_env, "legacy", "--no-ingest")
    agent.greet()
    pid = endpoint.about(Home(Path(own_env["LMM_HOME"])))["pid"]
    told = lmm(own_env, "status").stdout
    assert f"engine: process {pid}, version {version()}, 1 agent connected" in told
    assert json.loads(lmm(own_env, "status", "--json").stdout)["engine"]["pid"] == pid
    assert f"engine: process {pid}" in lmm(own_env, "doctor").stdout


def test_what_agents_leave_behind_is_swept_up_also_where_none_of_them_asks(home, plain_env, monkeypatch):
    class Left:
        def __init__(self) -> None:
            self.itself = self

    monkeypatch.setattr("lmm_mcp.server.holdings._QUIET_s", 0.0)
    opened = Holdings(home, plain_env)
    gc.disable()
    try:
        opened.tidy(model_after_s=60)
        left = weakref.ref(Left())
        opened.tidy(model_after_s=60)
        assert left() is not None, "not at every tick"
        monkeypatch.setattr("lmm_mcp.server.holdings.SWEEP_EVERY_s", 0.0)
        opened.tidy(model_after_s=60)
        assert left() is None
    finally:
        gc.enable()


# The model


def test_a_model_that_nobody_asks_is_put_away_and_opened_again(minilm_home):
    holdings = Holdings(minilm_home, {})
    holdings.embedder()
    assert holdings.has_model
    holdings.tidy(model_after_s=60)
    assert holdings.has_model
    holdings.tidy(model_after_s=0)
    assert not holdings.has_model
    assert holdings.by_words_only() == ""
    assert not holdings.has_model, "to name a model, it need not be opened"
    holdings.embedder()
    assert holdings.has_model
