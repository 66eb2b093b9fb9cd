"""`lmm bench` as it is typed: questions by several arms, what a run writes down, and how two runs compare."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lmm_mcp.cli import conditions
from lmm_mcp.cli.program import app
from lmm_mcp.domain.recall import PARTS
from lmm_mcp.errors import BadInput
from lmm_mcp.evaluation import receipt, runs
from lmm_mcp.server.desk import Desk

HARBOUR = "/home/mira/harbour"
PORT = {
    "id": "q1", "question": "which port does the development database use?", "project": HARBOUR,
    "asked_at": "2026-12-01T00:00:00Z", "answers": [["5433"]], "category": "fact", "paraphrase": False,
}  # fmt: skip
UNKNOWN = {
    "id": "q2", "question": "which zebra did the dentist prefer?", "project": HARBOUR,
    "asked_at": "2026-12-01T00:00:00Z", "answers": [], "category": "unanswerable",
}  # fmt: skip


@pytest.fixture
def suite(tmp_path) -> Path:
    path = tmp_path / "suite.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in (PORT, UNKNOWN)), encoding="utf-8")
    return path


def lmm(env: dict[str, str], *arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments), env=env)
    assert done.exit_code == 0, done.output
    return done.output


def asked(env: dict[str, str], suite: Path, *arguments: str) -> tuple[str, runs.Run]:
    """What `lmm bench questions` said, and the run that it wrote."""
    results = suite.with_name("answers.jsonl")
    said = lmm(env, "bench", "questions", str(suite), "--results", str(results), *arguments)
    answers = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    assert [each["id"] for each in answers] == ["q1", "q2"]
    return said, runs.load(results.with_suffix(".run.json"))


def test_questions_are_asked_of_recall_and_each_kind_is_shown_where_it_is_wanted(harbour_env, suite):
    said, run = asked(harbour_env, suite, "--by")
    assert (run.suite, run.arm, run.about["without"]) == ("questions", "recall", [])
    assert next(row.figures["cover@1000"] for row in run.rows if row.id == "q1") == 1.0
    for heading in ("recall · all · 2 questions", "recall · fact · 1 question", "recall · same words · 1 question"):
        assert any(line.startswith(heading) for line in said.splitlines())
    assert "recall · fact" not in asked(harbour_env, suite)[0]


def test_another_arm_answers_and_its_table_is_named_after_it(harbour_env, suite):
    said, run = asked(harbour_env, suite, "--arm", "bm25")
    assert run.arm == "bm25"
    assert "bm25 · all · 2 questions" in said
    done = CliRunner().invoke(
        app, ["bench", "questions", str(suite), "--results", str(suite) + ".out", "--arm", "luck"], env=harbour_env
    )
    assert isinstance(done.exception, BadInput) and "recent, grep, bm25" in str(done.exception)


def test_what_is_left_out_is_told_whether_a_flag_says_so_or_the_settings(harbour_env, suite):
    said, by_flag = asked(harbour_env, suite, "--without", "roles", "--without", "neighbours")
    assert by_flag.about["without"] == ["neighbours", "roles"]
    assert "recall without neighbours, roles · all" in said
    env = {**harbour_env, "LMM_RECALL_WITHOUT": os.pathsep.join(("roles", "neighbours"))}
    said, by_settings = asked(env, suite)
    assert by_settings.about["without"] == ["neighbours", "roles"]
    assert "recall without neighbours, roles · all" in said


def test_a_run_tells_all_that_it_depends_on(harbour, harbour_env, suite):
    about = asked(harbour_env, suite)[1].about
    desk = Desk(harbour, harbour_env)
    assert about["store"]["hash"] == receipt.store_hash(desk.ledger)
    assert about["store"]["chunkers"] == [row.chunker_version for row in desk.ledger.threads()][:1]
    assert (about["model"], about["ranking"], about["embedder"]) == ("none", "none", "none")
    assert about["versions"]["lancedb"]
    assert about["files"].keys() == {"suite.jsonl"}


def test_the_commit_of_a_checkout_is_told_and_whether_it_was_changed(tmp_path):
    assert conditions.source_commit(tmp_path) == ""
    who = ("-c", "user.name=mira", "-c", "user.email=mira@example.org")
    (tmp_path / "till.py").write_text("x = 1\n", encoding="utf-8")
    for words in (("init", "-q"), ("add", "till.py"), (*who, "commit", "-q", "-m", "begin")):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True, capture_output=True)
    clean = conditions.source_commit(tmp_path)
    assert len(clean) == 12
    (tmp_path / "till.py").write_text("x = 2\n", encoding="utf-8")
    assert conditions.source_commit(tmp_path) == clean + "+"
    below = tmp_path / "lib"  # installed somewhere within somebody's repository: its commits are not ours
    below.mkdir()
    assert conditions.source_commit(below) == ""


def test_every_part_of_recall_is_named_with_its_meaning(harbour_env):
    said = lmm(harbour_env, "bench", "parts").splitlines()
    assert [line.split()[0] for line in said] == list(PARTS)
    assert all(meaning in line for meaning, line in zip(PARTS.values(), said, strict=True))


@pytest.fixture
def two_runs(tmp_path) -> tuple[str, str]:
    before = [
        runs.Row(f"q{n}", ("fact", "paraphrased") if n % 2 else ("fact",), {"cover@250": 0.0}, 1.0) for n in range(20)
    ]
    after = [
        runs.Row(row.id, row.groups, {"cover@250": float("paraphrased" in row.groups)}, 1.0) for row in before[:16]
    ]
    after += [runs.Row("another", ("fact",), {"cover@250": 1.0}, 1.0)]
    paths = []
    for name, arm, rows, about in (("a", "bm25", before, {}), ("b", "recall", after, {"without": ["roles"]})):
        runs.save(runs.Run("questions", arm, about, tuple(rows)), tmp_path / f"{name}.run.json")
        paths.append(str(tmp_path / f"{name}.run.json"))
    return paths[0], paths[1]


def test_a_comparison_names_both_what_was_not_paired_and_each_kind(harbour_env, two_runs):
    said = lmm(harbour_env, "bench", "compare", *two_runs)
    assert "A: bm25 · questions · 20 questions" in said
    assert "B: recall without roles · questions · 17 questions" in said
    assert "only one of them asked: 4 questions of A, 1 of B" in said
    assert "they differ in: without" in said
    assert [line.split() for line in said.splitlines() if "cover@250" in line] == [
        ["cover@250", "0.0", "50.0", "+50.0", "+25.0", "to", "+75.0", "8", "0", "16"]
    ]
    assert "--by shows each kind of question: fact, paraphrased" in said
    by_kind = lmm(harbour_env, "bench", "compare", *two_runs, "--by").splitlines()
    paraphrased = by_kind[by_kind.index("paraphrased") + 1].split()
    assert paraphrased[:4] == ["cover@250", "0.0", "100.0", "+100.0"]
    assert paraphrased[-1] == "8"


def test_a_comparison_as_json_holds_the_same(harbour_env, two_runs):
    told = json.loads(lmm(harbour_env, "bench", "compare", *two_runs, "--json"))
    assert (told["a"], told["b"], told["only_in_a"], told["only_in_b"]) == ("bm25", "recall without roles", 4, 1)
    assert told["figures"][0]["difference"]["num"] == 16
    assert told["groups"]["paraphrased"][0]["difference"]["value"] == 1.0


def test_runs_over_sessions_come_back_with_them(tmp_path):
    run = runs.Run("prove", "recall", {}, tuple(runs.Row(f"q{n}", (), {"x": 1.0}, 1.0, f"s{n}") for n in range(3)))
    runs.save(run, tmp_path / "x.run.json")
    assert runs.load(tmp_path / "x.run.json") == run
