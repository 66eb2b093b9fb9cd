"""What `lmm doctor` finds in healthy and in broken memories."""

import os
import shutil
import time
from pathlib import Path

import pytest

from lmm_mcp import artifacts, children, doctor, samples, training, training_runs
from lmm_mcp.config import Embedder
from lmm_mcp.doctor import Finding
from lmm_mcp.domain.verdict import Promote
from lmm_mcp.paths import Home
from lmm_mcp.server import status
from lmm_mcp.server.desk import Desk
from lmm_mcp.store.chunks import ChunkStore
from lmm_mcp.store.ledger import Ledger


def levels(findings: list[Finding]) -> set[str]:
    return {finding.level for finding in findings}


def about(findings: list[Finding], word: str) -> Finding:
    (found,) = [finding for finding in findings if word in finding.what]
    return found


@pytest.fixture
def home(own_env) -> Home:
    return Home(Path(own_env["LMM_HOME"]))


def test_a_healthy_memory_has_nothing_bad(harbour_env):
    findings = doctor.examine(harbour_env)
    assert "bad" not in levels(findings), findings
    assert about(findings, "ledger:").what == "ledger: 5 session files read so far"
    assert "sample could be read" in about(findings, "archive:").what
    assert "claude-code (4), codex (1)" in about(findings, "sessions found").what


def test_every_finding_that_is_not_ok_in_a_new_installation_has_a_next_step(tmp_path):
    findings = doctor.examine({"HOME": str(tmp_path), "LMM_HOME": str(tmp_path / "lmm")})
    assert "bad" not in levels(findings), findings
    assert [finding for finding in findings if finding.level == "warn"]
    assert all(finding.next_step for finding in findings if finding.level == "warn")
    assert not (tmp_path / "lmm").exists()


@pytest.mark.skipif(os.name != "posix", reason="rights as POSIX knows them")
def test_a_memory_that_others_could_read_is_made_private_again(own_env, home):
    home.root.chmod(0o755)
    assert "(mode 700)" in about(doctor.examine(own_env), "memory home").what


def test_broken_settings_are_bad(own_env, home):
    home.config.write_text("recall = [", encoding="utf-8")
    finding = next(finding for finding in doctor.examine(own_env) if finding.level == "bad")
    assert "config.toml" in finding.what


def test_a_damaged_archive_is_bad_and_named(own_env, home):
    damaged = next(home.archive.glob("*/*.zst"))
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 0xFF
    damaged.write_bytes(content)
    assert any(damaged.name in finding.what for finding in doctor.examine(own_env) if finding.level == "bad")


def test_a_store_of_a_newer_version_is_bad_and_says_to_upgrade(own_env, home):
    record = home.store / "store.json"
    written = record.read_text(encoding="utf-8")
    record.write_text(written.replace('"schema_version": ', '"schema_version": 9'), encoding="utf-8")
    assert any("Upgrade" in finding.what for finding in doctor.examine(own_env) if finding.level == "bad")


def test_what_could_not_be_read_is_counted_by_agent_and_shown_with_its_line(own_env, home):
    ledger = Ledger.open(home.ledger)
    path = ledger.sources()[0].path
    for line in range(1, 13):
        ledger.record_unreadable(path, line, "not JSON")
    ledger.record_unreadable(path, 0, "unknown record type hologram (3 times)")
    ledger.close()
    findings = doctor.examine(own_env)
    assert "13 records could not be understood" in about(findings, "could not be understood").what
    damaged, unknown = about(findings, "12 of them: damaged"), about(findings, "1 of them: of a kind")
    assert damaged.examples[0] == f"{path}:1: not JSON"
    assert len(damaged.examples) == 12
    assert unknown.examples == (f"{path}: unknown record type hologram (3 times)",)
    assert damaged.next_step and unknown.next_step and damaged.next_step != unknown.next_step


def test_passages_without_vectors_are_told_once_there_is_a_model(own_env, home, minilm_home):
    shutil.copytree(minilm_home.models, home.models)
    findings = doctor.examine({**own_env, "LMM_EMBEDDER_NAME": Embedder().name})
    assert Embedder().name in about(findings, "dimensions").what
    finding = about(findings, "no vector yet")
    assert (finding.level, "lmm import" in finding.next_step) == ("warn", True)


def test_a_request_that_nobody_answers_is_told(own_env, home):
    request = home.handover / "1-1.json"
    request.write_text('{"paths": []}', encoding="utf-8")
    long_ago = time.time() - 2 * doctor.STALE_REQUEST_s
    os.utime(request, (long_ago, long_ago))
    assert about(doctor.examine(own_env), "requests to read").next_step == "`lmm import`"


def test_a_check_that_fails_itself_is_a_finding_too(harbour_env, monkeypatch):
    def broken_check(_):
        raise ZeroDivisionError("by zero")
        yield

    monkeypatch.setattr(doctor, "CHECKS", (broken_check, doctor.python_version))
    first, second = doctor.examine(harbour_env)
    assert (first.level, second.level) == ("bad", "ok")
    assert "broken check failed: ZeroDivisionError: by zero" in first.what


def test_a_package_of_the_same_name_from_elsewhere_is_bad(harbour_env, tmp_path, monkeypatch):
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer" / "__init__.py").write_text("", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "trainer", raising=False)
    findings = list(doctor.neighbours(doctor.Patient(Home(tmp_path), harbour_env)))
    assert "`trainer` comes from" in about(findings, "trainer").what
    assert levels(findings) == {"bad"}


def test_agents_are_found_where_their_own_variables_say(tmp_path):
    env = samples.environment({"HOME": str(tmp_path)}, tmp_path / "lmm")
    (finding,) = doctor.agents(doctor.Patient(Home(tmp_path / "lmm"), env))
    assert "claude-code (3), codex (1)" in finding.what


def test_a_memory_that_may_not_be_written_is_no_reason_to_install_anew(own_env, home):
    home.ledger.unlink()
    home.ledger.mkdir()  # cannot be used, as one on a disk that may only be read
    (finding,) = doctor.agents(doctor.Patient(home, own_env))
    assert "this user may write there" in finding.what
    assert "anew" not in finding.what + finding.next_step


def test_readers_that_cannot_be_started_are_to_be_installed_anew(harbour_env, home, monkeypatch):
    monkeypatch.setattr("sys.executable", shutil.which("false"))
    (finding,) = doctor.agents(doctor.Patient(home, harbour_env))
    assert (finding.level, "Install lmm-mcp anew" in finding.what) == ("bad", True)


def test_a_store_with_damaged_files_is_bad_and_the_way_out_is_told(own_env, home):
    for path in (home.store / "chunks.lance" / "data").glob("*.lance"):
        path.write_bytes(path.read_bytes()[:-20])
    (finding,) = [finding for finding in doctor.examine(own_env) if finding.level == "bad"]
    assert f"move the folder {home.store} away and run `lmm import`" in finding.what


def test_a_store_without_its_tables_is_bad_and_said_once(own_env, home):
    shutil.rmtree(home.store / "chunks.lance" / "_versions")
    (finding,) = [finding for finding in doctor.examine(own_env) if finding.level == "bad"]
    assert "Its files are damaged or missing" in finding.what


def test_a_store_that_lacks_what_was_read_is_bad(own_env, home):
    store = ChunkStore.open(home.store, create=True)
    agent, thread_id = sorted(store.threads())[0]
    store.replace_thread(agent, thread_id, [])
    (finding,) = [finding for finding in doctor.examine(own_env) if finding.level == "bad"]
    assert "lacks 1 thread " in finding.what
    assert "run `lmm import`" in finding.next_step


def test_a_store_that_is_gone_is_bad_and_comes_back_from_the_archive(own_env, home):
    before = ChunkStore.open(home.store).stats().by_project
    shutil.rmtree(home.store)
    for name in ("CLAUDE_CONFIG_DIR", "CODEX_HOME"):  # the agents have deleted their files
        shutil.rmtree(own_env[name])
    (finding,) = [finding for finding in doctor.examine(own_env) if finding.level == "bad"]
    assert "is gone" in finding.what
    assert "`lmm import`" in finding.next_step
    assert children.start_ingest(home, own_env, stay=False).wait(90) == 0
    assert ChunkStore.open(home.store).stats().by_project == before
    assert "bad" not in levels(doctor.examine(own_env))


def test_the_memory_model_is_told_with_what_was_left_undone(own_env, home):
    assert not [finding for finding in doctor.examine(own_env) if "memory model" in finding.what]
    for _ in range(2):
        draft = artifacts.draft(home)
        (draft / "adapter").mkdir()
        (draft / "adapter" / "adapter_model.safetensors").write_bytes(b"w")
        about_it = artifacts.Manifest("tiny", "", "", "", "", {}, 1, "r", "", {}, "", Promote(()))
        artifacts.commit(home, draft, about_it, None, artifacts.Sources.of([("codex", "a")], [], as_of=0))
    artifacts.promote(home, "v0001")
    run = artifacts.runs_folder(home) / "2026-03-01-1"
    run.mkdir(parents=True)
    training_runs.save(run, training_runs.RunState("2026-03-01-1", 1, "x", done=("facts", "lessons")))
    findings = doctor.examine(own_env)
    told = about(findings, "memory model: ")
    assert told.what == (
        "memory model: v0001 serves (on tiny), 2 versions (`lmm model list`), "
        "a training stands before training (`lmm train resume`)"
    )
    assert told.level == "ok"
    assert "lmm train resume" in about(findings, "a training stands before training.").next_step
    assert told.what in status.lines(status.take(Desk(home, own_env)))

    artifacts.mark_unclean(home, [("codex", "a")])
    (home.artifacts / "versions" / "v0002" / "manifest.json").write_text("{", encoding="utf-8")
    findings = doctor.examine(own_env)
    assert "none serves; recall goes on without one" in about(findings, "memory model: ").what
    assert about(findings, "v0001: trained on something that was forgotten").level == "warn"
    assert "lmm model show v0002" in about(findings, "v0002 is damaged").next_step


def test_a_schedule_that_nothing_can_keep_is_told(own_env, home, monkeypatch):
    home.config.write_text('[train]\nschedule = "nightly"\n', encoding="utf-8")
    monkeypatch.setattr(training, "missing", lambda: ["torch", "peft"])
    found = about(doctor.examine(own_env), "training is scheduled (nightly), and torch, peft are not installed")
    assert "`python3 bootstrap.py test`" in found.next_step and "lmm-mcp[train]" in found.next_step
