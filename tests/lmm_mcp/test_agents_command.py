"""`lmm agents`: whose sessions lie where, and what of them is remembered."""

import json
from pathlib import Path

import pytest

from lmm_mcp.cli import program
from lmm_mcp.domain.agents import KNOWN_AGENTS
from lmm_mcp.paths import Home
from lmm_mcp.store.ledger import Ledger


@pytest.fixture
def told(harbour_env, monkeypatch, capsys):
    """What the command prints for a user of the shared memory."""
    for name, value in harbour_env.items():
        if name.startswith(("LMM_", "CLAUDE_", "CODEX_")) or name in ("HOME", "USERPROFILE"):
            monkeypatch.setenv(name, value)

    def run(*arguments: str) -> str:
        capsys.readouterr()
        assert program.run(("agents", *arguments)) == 0
        return capsys.readouterr().out

    return run


def test_agents_are_listed_with_where_their_sessions_lie_and_how_many_are_remembered(told, harbour_env):
    found = {each["agent"]: each for each in json.loads(told("--json"))}
    assert {*found} == {*KNOWN_AGENTS} - {"notes"}
    claude = found["claude-code"]
    assert claude["folders"] == [harbour_env["CLAUDE_CONFIG_DIR"] + "/projects"]
    assert claude["num_sources"] > 0
    assert claude["num_sessions"] > 0
    assert claude["last_read_ms"] > 0


def test_a_format_that_changed_shows_as_what_was_not_understood(told, harbour_env):
    ledger = Ledger.open(Home(Path(harbour_env["LMM_HOME"])).ledger)
    source = next(each for each in ledger.sources() if each.agent == "codex")
    ledger.record_unreadable(source.path, 7, "unknown record shiny_new_record")
    try:
        text = told()
    finally:
        ledger.clear_unreadable(source.path, line=7)
        ledger.close()
    assert "1 record not understood: unknown record shiny_new_record" in text


def test_agents_that_were_never_here_are_only_counted(told):
    text = told()
    assert "claude-code" in text
    assert "goose" not in text
    assert "more agents would be read" in text
    assert "goose           nothing here\n" in told("--all")


def test_a_folder_of_an_agent_that_nobody_knows_is_said(told, monkeypatch):
    monkeypatch.setenv("LMM_SESSIONS_FOLDERS", "gosse=/somewhere")
    assert "/somewhere: no agent is called gosse" in told()


def test_an_exclusion_that_excludes_nobody_is_said(told, monkeypatch):
    monkeypatch.setenv("LMM_SESSIONS_EXCLUDE_AGENTS", "cursr")
    assert "no agent is called cursr, see the setting sessions.exclude_agents" in told()


@pytest.fixture
def complain(harbour_env):
    """Note what could not be understood in a file that was never read to its end, and take it back."""
    ledger = Ledger.open(Home(Path(harbour_env["LMM_HOME"])).ledger)
    noted = []

    def note(path: Path, problem: str) -> None:
        noted.append(path)
        ledger.record_unreadable(path, 0, problem)

    yield note
    for path in noted:
        ledger.clear_unreadable(path)
    ledger.close()


def test_a_file_that_could_never_be_read_is_told_with_the_agent_in_whose_folder_it_lies(told, complain, harbour_env):
    complain(
        Path(harbour_env["CLAUDE_CONFIG_DIR"]) / "projects" / "x" / "y.jsonl", "is a named pipe and no session file"
    )
    assert "1 record not understood: is a named pipe" in told()
    found = {each["agent"]: each for each in json.loads(told("--json"))}
    assert found["claude-code"]["num_unreadable"] == 1
    assert "" not in found


def test_a_file_in_no_agents_folder_that_could_not_be_read_is_told_too(told, complain, tmp_path):
    complain(tmp_path / "elsewhere.jsonl", "this is no session file of a known agent")
    assert "elsewhere       1 record not understood: this is no session file of a known agent" in told()
    assert {each["agent"]: each for each in json.loads(told("--json"))}[""]["num_unreadable"] == 1
