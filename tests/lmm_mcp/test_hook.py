"""`lmm hook session-start`: quick, silent where nothing is known, and never in an agent's way."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lmm_mcp.domain.fence import FENCE_OPEN
from lmm_mcp.domain.recall import num_tokens
from lmm_mcp.paths import Home
from lmm_mcp.server import hook, reach

ROOT = Path(__file__).resolve().parents[2]


def run(env: dict[str, str], given: object, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    data = given if isinstance(given, bytes) else json.dumps(given).encode()
    return subprocess.run(
        [sys.executable, "-m", "lmm_mcp", "hook", *(arguments or ("session-start",))],
        input=data,
        env=env,
        cwd=ROOT,
        capture_output=True,
        timeout=30,
    )


def context_in(done: subprocess.CompletedProcess[bytes]) -> str:
    assert (done.returncode, done.stderr) == (0, b"")
    said = json.loads(done.stdout)["hookSpecificOutput"]
    assert said["hookEventName"] == "SessionStart"
    return said["additionalContext"]


@pytest.fixture(scope="module")
def harbour_project(harbour):
    """The working directory of the bundled sessions."""
    from lmm_mcp.store.ledger import Ledger

    ledger = Ledger.open(harbour.ledger)
    rows = [row for row in ledger.threads() if "harbour" in row.project and not row.thread.is_subagent]
    ledger.close()
    return rows[0].thread.cwd


def test_the_hook_tells_what_was_worked_on_in_the_words_of_the_agent(harbour_env, harbour_project):
    context = context_in(run(harbour_env, {"session_id": "x", "cwd": harbour_project, "source": "startup"}))
    assert context.startswith(FENCE_OPEN)
    assert "last worked on:" in context and num_tokens(context) <= 600


@pytest.mark.parametrize(
    "given", [b"", b"garbage", b"\xff\xfe", b"[]", b"null", {"cwd": 7, "source": []}, {"cwd": "/nowhere"}, {}]
)
def test_whatever_comes_in_nothing_goes_wrong(harbour_env, given):
    done = run(harbour_env, given)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_without_a_memory_it_is_silent_and_makes_none(tmp_path, harbour_project):
    env = {**os.environ, "LMM_HOME": str(tmp_path / "none")}
    done = run(env, {"cwd": harbour_project})
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert not (tmp_path / "none").exists()


def test_a_broken_memory_is_logged_without_a_word_of_a_session(tmp_path):
    home = Home(tmp_path / "lmm").ensure()
    home.ledger.write_bytes(b"this is no database, but long enough to be taken for one" * 10)
    done = run({**os.environ, "LMM_HOME": str(home.root)}, {"cwd": "/work/secret-shop"})
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    (line,) = (home.logs / hook.LOG_FILE).read_text(encoding="utf-8").splitlines()
    assert "StoreError" in line and "secret" not in line


def test_an_input_that_never_ends_is_not_waited_for(harbour_env, harbour):
    started_s = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "lmm_mcp", "hook", "session-start"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**harbour_env, "LMM_HOME": str(harbour.root)},
        cwd=ROOT,
    )
    assert process.wait(30) == 0
    # Starting Python is not ours to limit, and the machine may be busy.
    assert hook.PATIENCE_s <= time.monotonic() - started_s < hook.PATIENCE_s + 10
    assert process.stdout.read() == b""
    process.stdin.close()
    process.stdout.close()
    (harbour.logs / hook.LOG_FILE).unlink()


def test_an_event_that_is_not_known_is_silent(harbour_env, harbour_project):
    done = run(harbour_env, {"cwd": harbour_project}, "session-end")
    assert (done.returncode, done.stdout) == (0, b"")


def test_a_memory_may_be_named_instead_of_the_environment(harbour_env, harbour, harbour_project, tmp_path):
    env = {**harbour_env, "LMM_HOME": str(tmp_path / "other")}
    assert context_in(run(env, {"cwd": harbour_project}, "session-start", "--home", str(harbour.root)))


def test_the_engine_gives_the_same_answer(own_env, harbour_project):
    home = Home(Path(own_env["LMM_HOME"]))
    given = {"cwd": harbour_project, "session_id": "x", "source": "startup"}
    alone = hook.answer(home, json.dumps(given).encode())
    engine = {**own_env, "LMM_ENGINE_LINGER_S": "30"}
    assert reach.ask(home, {"want": "brief", **given}, 60, start=True, env=engine)["text"]
    try:
        asked = hook._from_engine(home, given)
        assert json.loads(alone)["hookSpecificOutput"]["additionalContext"] == asked
    finally:
        reach.ask(home, {"want": "stop"}, 10)


def test_nothing_heavy_is_loaded_for_it(harbour_env, harbour_project):
    program = (
        "import json, sys\nfrom pathlib import Path\nfrom lmm_mcp.paths import Home\nfrom lmm_mcp.server import hook\n"
        f"print(bool(hook.answer(Home(Path({harbour_env['LMM_HOME']!r})), json.dumps({{'cwd': {harbour_project!r}}}).encode())))\n"
        "print(sorted({'lancedb', 'pyarrow', 'numpy', 'mcp', 'pydantic', 'typer', 'onnxruntime', 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], env=harbour_env, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["True", "[]"], done.stderr


@pytest.mark.parametrize(
    ("home", "before"),
    [("~nobody-of-that-name/lmm", ""), ("relative", 'rmdir "$PWD"; '), ("", "exec 1>&-; "), ("", "exec 0<&-; ")],
    ids=["home of nobody", "folder that is gone", "no standard output", "no standard input"],
)
@pytest.mark.skipif(os.name != "posix", reason="a shell as POSIX knows it")
def test_wherever_it_is_started_it_is_silent_and_succeeds(harbour_env, tmp_path, home, before):
    (tmp_path / "here").mkdir()
    env = {**harbour_env, "PYTHONPATH": str(ROOT), **({"LMM_HOME": home} if home else {})}
    command = ["sh", "-c", f'{before}exec "$@"', "sh", sys.executable, "-m", "lmm_mcp", "hook", "session-start"]
    done = subprocess.run(
        command, cwd=tmp_path / "here", env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
