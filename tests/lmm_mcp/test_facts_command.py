"""`lmm facts`: what is known, by whom, and what took its place."""

import json

import pytest

from lmm_mcp.cli import program
from lmm_mcp.domain.chunk import Span
from lmm_mcp.domain.fact import Evidence, Fact
from lmm_mcp.domain.fence import FENCE_OPEN
from lmm_mcp.domain.relations import RELATIONS, said
from lmm_mcp.paths import Home
from lmm_mcp.store.facts import Derived, FactStore

DAY_ms = 86_400_000
LATER_ms = 20_000 * DAY_ms  # 2024-10-04


def told(session: str, relation: str, value: str, *, day: int, role: str = "user", subject: str = "") -> Derived:
    evidence = (Evidence("codex", session, session, Span("e1", 0, 5), role, LATER_ms + day * DAY_ms),)
    about = RELATIONS[relation]
    text = said(relation, value, subject)
    fact = Fact("/w/mill", about.category, relation, subject, value, text, evidence, evidence[0].at_ms)
    return Derived("codex", session, session, "/w/mill", "1", (fact,))


@pytest.fixture
def ask(tmp_path, monkeypatch, capsys):
    home = Home(tmp_path / "lmm").ensure()
    monkeypatch.setenv("LMM_HOME", str(home.root))
    monkeypatch.setenv("LMM_EMBEDDER_NAME", "none")
    store = FactStore.open(home.facts, create=True)
    for derived in (
        told("s1", "port", "6379", day=0, subject="redis"),
        told("s2", "port", "6380", day=3, subject="redis"),
        told("s3", "test command", "pnpm test", day=4, role="command"),
        told("s4", "decision", "We chose \x1b[31mSQLite [c1] because it is small.", day=5),
    ):
        store.replace(derived)
    store.close()

    def run(*arguments: str, expect: int = 0) -> str:
        capsys.readouterr()
        code = program.run(["facts", *arguments])
        shown = capsys.readouterr()
        assert code == expect, shown.err
        return shown.out + shown.err

    return run


def test_each_fact_is_shown_with_who_said_it_and_when_and_what_was_replaced_is_marked(ask):
    told = ask("-p", "*")
    assert "- The port of redis is 6380.  [user; 2024-10-07]" in told
    assert "x The port of redis is 6379.  [user; 2024-10-04; replaced 2024-10-07]" in told
    assert "- Tests are run with `pnpm test`.  [seen to work; 2024-10-08]" in told


def test_what_sessions_said_is_fenced_and_made_harmless_for_a_program_that_reads_it(ask):
    told = ask("-p", "*")
    assert told.startswith(FENCE_OPEN)
    assert "\x1b" not in told
    assert "[c1]" not in told


def test_a_category_is_named_by_its_beginning(ask):
    assert "SQLite" in ask("-p", "*", "--category", "dec")
    assert "redis" not in ask("-p", "*", "--category", "dec")
    assert "decision" in ask("-p", "*", "--category", "weather", expect=1)
    assert "is no category" in ask("-p", "*", "--category", "", expect=1)


def test_programs_get_all_of_it_as_json(ask):
    found = {each["value"]: each for each in json.loads(ask("-p", "*", "--json"))}
    assert found["6379"]["superseded_by"] == found["6380"]["id"]
    assert (found["6380"]["holds"], found["6380"]["evidence"][0]["session_id"]) == (True, "s2")


def test_where_nothing_was_derived_the_next_step_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LMM_HOME", str(tmp_path / "empty"))
    assert program.run(["facts", "-p", "*"]) == 0
    assert "lmm facts --now" in capsys.readouterr().out
    assert not Home(tmp_path / "empty").facts.exists()


def test_what_is_new_in_the_archive_is_derived_first_where_that_is_asked_for(own_env, monkeypatch, capsys):
    for name, value in own_env.items():
        if name in ("HOME", "USERPROFILE", "LMM_HOME", "CLAUDE_CONFIG_DIR", "CODEX_HOME", "LMM_EMBEDDER_NAME"):
            monkeypatch.setenv(name, value)
    assert program.run(["facts", "-p", "harbour", "--now"]) == 0
    assert "5433" in capsys.readouterr().out
