"""Privacy, as a test: reading sessions, embedding them and answering questions opens no connection at all.

Python's sockets are watched in every process, children included. Where the system allows it the walk also runs in a
network namespace without any network, which catches what is not written in Python.
"""

import importlib.resources
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SPY = """
import os, socket
connect = socket.socket.connect
def watched(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6):
        with open(os.environ["SPY_FILE"], "a", encoding="utf-8") as file:
            file.write(f"{address}\\n")
    return connect(self, address)
socket.socket.connect = watched
"""


def no_network() -> list[str]:
    """What to put before a command so that it runs without a network; nothing where that is not allowed."""
    unshare = shutil.which("unshare")
    for command in ([unshare, "-n"], [unshare, "-rn"]):
        if unshare and subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
            return command
    return []


@pytest.fixture
def lmm(homes_of_its_own, minilm_home, tmp_path):
    """Run the program on the invented sessions, with the model, watched."""
    sessions = importlib.resources.files("lmm_mcp") / "samples"
    shutil.copytree(str(sessions / "claude"), os.environ["CLAUDE_CONFIG_DIR"])
    shutil.copytree(str(sessions / "codex"), os.environ["CODEX_HOME"])
    shutil.copytree(minilm_home.models, Path(os.environ["LMM_HOME"]) / "models")
    spies = tmp_path / "spies"
    spies.mkdir()
    (spies / "sitecustomize.py").write_text(SPY, encoding="utf-8")
    path = os.pathsep.join([str(spies), os.environ["PYTHONPATH"]])
    environment = {**os.environ, "PYTHONPATH": path, "SPY_FILE": str(tmp_path / "connections")}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [*no_network(), sys.executable, "-m", "lmm_mcp", *arguments],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            encoding="utf-8",
            stdin=subprocess.DEVNULL,
            timeout=180,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_the_spy_sees_a_connection(lmm, tmp_path, monkeypatch):
    program = "import socket\ntry: socket.create_connection(('127.0.0.1', 9), 1)\nexcept OSError: pass"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "spies"), "SPY_FILE": str(tmp_path / "connections")}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=30)
    assert "127.0.0.1" in (tmp_path / "connections").read_text(encoding="utf-8")


def test_importing_embedding_and_recalling_open_no_connection(lmm, tmp_path):
    lmm("import")
    answer = lmm("recall", "Where do the carts of anonymous visitors live?")
    assert "Postgres" in answer and "[c1]" in answer
    lmm("status")
    assert not (tmp_path / "connections").exists()


def test_libraries_that_would_report_to_their_makers_are_told_not_to(lmm, tmp_path, monkeypatch):
    # ONNX Runtime writes a device id and queues events for its makers as soon as a session is made, unless it is told not
    # to (or believes that it is being tested: the variables of continuous integration are taken away).
    for name in ("CI", "GITHUB_ACTIONS", "ORT_RUNNING_UNIT_TESTS", "ORT_DISABLE_TELEMETRY"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "fresh"
    home.mkdir()
    program = "from lmm_mcp import config, embedding, paths; import os, sys, pathlib\n"
    program += "embedding.load(paths.Home(pathlib.Path(sys.argv[1])), config.Embedder(), num_threads=1).embed(['a'])"
    environment = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}
    subprocess.run([sys.executable, "-c", program, os.environ["LMM_HOME"]], env=environment, check=True, timeout=60)
    assert not list(home.rglob("*"))
