"""`lmm model` as people use it, and `lmm forget` where something was trained on what goes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lmm_mcp import artifacts
from lmm_mcp.artifacts import Manifest, Sources
from lmm_mcp.cli import program
from lmm_mcp.domain.verdict import Finding, Keep, Promote, Verdict
from lmm_mcp.paths import Home
from lmm_mcp.store.archive import Archive

NEEDLE = "zebrafish"
KEPT_OUT = Keep((Finding("G1", True, "it learned"), Finding("G4", False, "it cannot count any more")))


@pytest.fixture
def home(own_env, monkeypatch) -> Home:
    for name in ("HOME", "USERPROFILE", "LMM_HOME", "CLAUDE_CONFIG_DIR", "CODEX_HOME"):
        monkeypatch.setenv(name, own_env[name])
    return Home(Path(own_env["LMM_HOME"]))


@pytest.fixture
def lmm(home, capsys):
    def run(*arguments: str, expect: int = 0) -> str:
        capsys.readouterr()
        code = program.run(arguments)
        told = capsys.readouterr()
        assert code == expect, told.out + told.err
        return told.out + told.err

    return run


def trained(home: Home, *threads: tuple[str, str], verdict: Verdict | None = None) -> str:
    folder = artifacts.draft(home)
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(os.urandom(2_000_000))
    about = Manifest(
        base="tiny",
        base_hash="b1",
        store_version="s7",
        lessons_hash="l1",
        probes_hash="p1",
        recipe={"rank": 32},
        seed=17,
        run="r1",
        code_version="0.1",
        libraries={"torch": "2.13"},
        hardware="two cores",
        verdict=verdict or Promote((Finding("G1", True, "it learned"),)),
        num_lessons=1234,
        made_ms=1_770_000_000_000,
    )
    sources = Sources.of(threads, [], as_of=artifacts.forgettings(home))
    return artifacts.commit(home, folder, about, None, sources).name


def threads_of(home: Home) -> tuple[tuple[str, str], tuple[str, str]]:
    """The one that speaks of the needle, and another one."""
    archive = Archive(home.archive)
    keys = [(thread.agent, thread.thread_id) for _, thread in archive.threads()]
    (spoken,) = [key for key in keys if any(NEEDLE in str(record).lower() for record in archive.records(*key))]
    return spoken, next(key for key in keys if key != spoken)


def test_an_untrained_memory_says_what_to_do(lmm):
    assert "`lmm train` makes one" in lmm("model", "list")
    assert "nothing to take back" in lmm("model", "rollback", expect=1)


def test_the_list_tells_which_one_serves_and_why_others_do_not(lmm, home):
    for verdict in (None, KEPT_OUT, None, None):
        trained(home, ("codex", "a"), verdict=verdict)
    lmm("model", "promote", "v0001")
    lmm("model", "promote", "v0003")
    (home.artifacts / "versions" / "v0004" / "manifest.json").write_text("{", encoding="utf-8")
    rows = lmm("model", "list").splitlines()
    assert rows[0].split()[:6] == ["v0001", "2026-02-02", "02:40", "tiny", "promote", "2.0"]
    assert "keep" in rows[1]
    assert rows[2].endswith("serves")
    assert "damaged" in rows[3]
    told = json.loads(lmm("model", "list", "--json"))
    assert told["serves"] == "v0003"
    assert [each["version"] for each in told["versions"]] == ["v0001", "v0002", "v0003", "v0004"]


def test_a_version_is_shown_with_what_the_gate_said(lmm, home):
    trained(home, ("codex", "a"), verdict=KEPT_OUT)
    told = lmm("model", "show", "v0001")
    assert "1,234 (l1), store s7" in told
    assert "G4  NO  it cannot count any more" in told
    assert "it only chooses lines" in told
    assert json.loads(lmm("model", "show", "v0001", "--json"))["manifest"]["seed"] == 17
    (home.artifacts / "versions" / "v0001" / "manifest.json").unlink()
    assert "damaged" in lmm("model", "show", "v0001", expect=1)


def test_promoting_and_taking_back_say_what_serves_then(lmm, home):
    trained(home, ("codex", "a"))
    trained(home, ("codex", "a"), verdict=KEPT_OUT)
    assert "v0001 serves from now on" in lmm("model", "promote", "v0001")
    refused = lmm("model", "promote", "v0002", expect=1)
    assert "G4: it cannot count any more" in refused
    assert "lmm model promote v0002 --force" in refused
    assert "v0002 serves instead of v0001" in lmm("model", "promote", "v0002", "--force")
    assert "v0001 serves again" in lmm("model", "rollback")
    assert "without one" in lmm("model", "rollback")
    assert "there is no version v0009" in lmm("model", "promote", "v0009", expect=1)


def test_what_is_unclean_or_in_the_way_is_not_exported(lmm, home, tmp_path):
    trained(home, ("codex", "a"))
    (tmp_path / "there").mkdir()
    assert "is there already" in lmm("model", "export", "v0001", "--to", str(tmp_path / "there"), expect=1)
    artifacts.mark_unclean(home, [("codex", "a")])
    assert "not given away" in lmm("model", "export", "v0001", "--to", str(tmp_path / "new"), expect=1)
    assert not (tmp_path / "new").exists()


def test_forgetting_says_which_models_it_takes_out_of_service(lmm, home):
    spoken, other = threads_of(home)
    lmm("model", "promote", trained(home, other))
    for _ in range(2):
        lmm("model", "promote", trained(home, spoken, other))
    assert "2 memory models were trained on this and no longer served" in lmm("forget", "--match", NEEDLE, "--yes")
    served = artifacts.served(home)
    assert served is not None
    assert served.name == "v0001"
    assert lmm("model", "list").count("1 source forgotten, never served again") == 2
    assert "forgotten" in lmm("model", "promote", "v0003", "--force", expect=1)


KILLED = """
import os, signal, sys
from lmm_mcp.artifacts import unlearning
from lmm_mcp.cli import program

real, left = unlearning.count_forgetting, int(sys.argv[1])

def dies(*given):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*given)

unlearning.count_forgetting = dies
program.run(sys.argv[2:])
"""


@pytest.mark.parametrize("num_marked", [0, 1])
def test_a_forgetting_killed_before_or_between_its_marks_is_completed_by_the_next_import(own_env, home, num_marked):
    spoken, other = threads_of(home)
    artifacts.promote(home, trained(home, spoken))
    as_of = artifacts.forgettings(home)
    command = [sys.executable, "-P", "-c", KILLED, str(num_marked), "forget", "--match", NEEDLE, "--yes"]
    dead = subprocess.run(command, env=own_env, capture_output=True, timeout=60, check=False)
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    command = [sys.executable, "-P", "-m", "lmm_mcp", "import", "--words-only"]
    done = subprocess.run(command, env=own_env, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert artifacts.served(home) is None
    late = artifacts.draft(home)
    (late / "adapter").mkdir()
    (late / "adapter" / "w.safetensors").write_bytes(b"w")
    about = Manifest("tiny", "", "", "", "", {}, 1, "r", "", {}, "", Promote(()))
    version = artifacts.commit(home, late, about, None, Sources.of([spoken, other], [], as_of=as_of))
    assert version.unclean is not None, "it was read before the forgetting was over"
