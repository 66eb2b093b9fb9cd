"""The rulers: question suites through the tool, and embedding models on the user's own passages."""

import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lmm_mcp.domain.chunk import Chunk, Line, Span
from lmm_mcp.errors import BadInput, LmmError
from lmm_mcp.evaluation import arms, embedders, judging, questions, runs
from lmm_mcp.server.desk import Desk
from lmm_mcp.server.inprocess import tool_caller
from lmm_mcp.store.terms import terms

HARBOUR = "/home/mira/harbour"


class WordCounts:
    """An embedder that knows words only: enough to tell passages apart, and the same on every machine."""

    name, version, dim = "word-counts", "1", 512

    def embed(self, texts):
        rows = np.zeros((len(texts), self.dim), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for term in terms(text):
                row[zlib.crc32(term.encode()) % self.dim] += 1
            row /= np.linalg.norm(row) or 1
        return rows


def exchange(n: int, topic: str) -> Chunk:
    said = (
        ("user", f"What did we decide about the {topic} of quay {n}, and who asked?"),
        ("agent", f"The {topic} stays. " * 20),
    )
    lines = tuple(Line(role, text, Span(f"e{n}", 0, len(text))) for role, text in said)
    return Chunk(f"c{n}", "codex", "s", "s", "p", "", 1, 1, 0, n, "", lines, (), (), "")


def test_a_model_is_measured_by_finding_each_questions_own_passage():
    topics = ["crane", "gate", "rope", "buoy", "anchor", "winch"]
    pairs = embedders.pairs_of([exchange(n, topic) for n, topic in enumerate(topics)])
    score = embedders.measure(WordCounts(), pairs)
    assert (score.num_pairs, score.hit_at_1, score.hit_at_10) == (6, 1.0, 1.0)


def test_a_passage_without_a_question_or_an_answer_is_no_pair():
    bare = Chunk(
        "c", "codex", "s", "s", "p", "", 1, 1, 0, 0, "", (Line("agent", "x" * 300, Span("e", 0, 300)),), (), (), ""
    )
    assert embedders.pairs_of([bare]) == []


def test_questions_go_through_the_tool_and_the_results_can_be_scored(harbour, harbour_env, tmp_path: Path):
    suite = tmp_path / "suite.jsonl"
    suite.write_text(
        json.dumps(
            {
                "id": "q1",
                "question": "which port does the development database use?",
                "project": HARBOUR,
                "asked_at": "2026-12-01T00:00:00Z",
            }
        )
        + "\n\n"
        + json.dumps(
            {
                "id": "q2",
                "question": "which port does the development database use?",
                "project": None,
                "asked_at": "2020-01-01T00:00:00Z",
            }
        )
        + "\n",
        encoding="utf-8",
    )
    desk = Desk(harbour, harbour_env)
    out = tmp_path / "results.jsonl"
    with tool_caller(desk) as call:

        def ask(asked: questions.Asked) -> questions.Answered:
            desk.cwd = asked.project or ""
            found = call("recall", query=asked.question, until=asked.asked_at)
            return questions.Answered(found["text"], tuple(found["sessions"]), found["status"] == "nothing_found")

        rows = questions.run(questions.read([suite]), ask, out)
    first, second = map(json.loads, out.read_text(encoding="utf-8").splitlines())
    assert "5433" in first["text"]
    assert first["sessions"]
    assert (second["abstained"], second["text"], second["sessions"]) == (True, "", [])
    assert [row.id for row in rows] == ["q1", "q2"]


def test_a_refusal_of_the_tool_is_an_error_with_its_words(harbour, harbour_env):
    with tool_caller(Desk(harbour, harbour_env)) as call, pytest.raises(LmmError, match="budget"):
        call("recall", query="x", budget_tokens=0)


def test_a_broken_question_file_is_named_with_its_line(tmp_path: Path):
    path = tmp_path / "suite.jsonl"
    path.write_text('{"id": "a", "question": "b"}\n{"id": 1}\n', encoding="utf-8")
    with pytest.raises(BadInput, match=r"suite\.jsonl:2"):
        questions.read([path])


def key(*answers: str, stale: tuple[str, ...] = ()) -> judging.Key:
    return judging.Key(tuple((answer,) for answer in answers), frozenset({"s1"}), stale)


@pytest.mark.parametrize(
    ("text", "is_misled"),
    [
        ("the port is 8080", 1.0),
        ("the port was 8080", 0.0),
        ("the port is 8081\nthe port is 8080", 0.0),
        ("the port is 8080\nthe port is 8081", 1.0),
        ("port 8080 -> 8081", 0.0),
        (" " * 4000 + "\nthe port is 8080", 0.0),
    ],
)
def test_an_old_value_misleads_where_it_stands_unmarked_before_the_latest(text, is_misled):
    assert judging.judge(key("8081", stale=("8080",)), text, [], abstained=False)["stale"] == is_misled


def test_what_an_answer_holds_counts_by_how_early_it_stands():
    text = "Port 8081" + " " * 1000 + "PNPM\n  test"
    figures = judging.judge(key("port 8081", "pnpm test"), text, ["s2", "s1"], abstained=False)
    assert (figures["cover@250"], figures["cover@500"], figures["full@250"], figures["full@500"]) == (
        0.5,
        1.0,
        0.0,
        1.0,
    )
    assert (figures["hit@1"], figures["hit@5"], figures["mute"]) == (0.0, 1.0, 0.0)


def test_silence_is_right_where_nothing_is_known_and_wrong_elsewhere():
    assert judging.judge(judging.Key(()), "", [], abstained=True) == {"quiet": 1.0}
    assert judging.judge(judging.Key(()), "noise", ["s"], abstained=False) == {"quiet": 0.0}
    assert judging.judge(key("x"), "", [], abstained=True)["mute"] == 1.0


def test_a_run_comes_back_as_it_was_saved_and_two_are_compared_by_question(tmp_path: Path):
    rows = [runs.Row(f"q{n}", ("fact",), {"cover@250": float(n % 2)}, 1.5) for n in range(20)]
    better = [runs.Row(f"q{n}", ("fact",), {"cover@250": 1.0}, 1.5) for n in range(10, 30)]
    first, second = (
        runs.Run("questions", "bm25", {"budget": 1}, tuple(rows)),
        runs.Run("questions", "recall", {}, tuple(better)),
    )
    runs.save(first, tmp_path / "a.run.json")
    assert runs.load(tmp_path / "a.run.json") == first
    assert (tmp_path / "a.run.json").stat().st_mode & 0o077 == 0
    (found,) = runs.difference(first, second)
    assert (found.a, found.b, found.num_better, found.num_worse, found.difference.num) == (0.5, 1.0, 5, 0, 10)
    assert 0 < found.difference.low <= found.difference.value <= found.difference.high < 1
    with pytest.raises(BadInput, match="in common"):
        runs.difference(first, runs.Run("questions", "recall", {}, (runs.Row("other", (), {"cover@250": 1.0}),)))
    with pytest.raises(BadInput, match="same suite"):
        runs.difference(first, runs.Run("locomo", "recall", {}, tuple(rows)))


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"lmm_run": 9}', '{"lmm_run": 1, "suite": "x"}'])
def test_what_is_no_run_is_refused_with_its_name(text, tmp_path: Path):
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=r"x\.json"):
        runs.load(tmp_path / "x.json")


@pytest.fixture
def bench(harbour, harbour_env):
    desk = Desk(harbour, harbour_env)

    def scope_of(asked: questions.Asked):
        desk.cwd = asked.project or ""
        return desk.scope(until=asked.asked_at)

    return arms.Bench(desk.store(), desk.ledger, desk.archive, None, scope_of)


PORT = questions.Asked(
    "q1", "which port does the development database use?", HARBOUR, "2026-12-01T00:00:00Z", judging.Key((("5433",),))
)


@pytest.mark.parametrize("name", ["recent", "grep", "bm25", "fusion", "passages"])
def test_every_arm_answers_within_its_budget_and_from_no_later_time(bench, name):
    needed = "database" if name == "grep" else "5433"  # grep quotes the beginnings of long records
    assert needed in arms.ARMS[name](bench, PORT, 5000).text
    answered = arms.ARMS[name](bench, PORT, 500)
    assert answered.text
    assert answered.sessions
    assert not answered.abstained
    assert len(arms.ARMS[name](bench, PORT, 60).text) <= 240
    early = replace(PORT, asked_at="2020-01-01T00:00:00Z")
    assert arms.ARMS[name](bench, early, 500) == questions.Answered("", (), abstained=True)


def test_without_a_model_nothing_is_found_by_meaning(bench):
    assert arms.vectors(bench, PORT, 500).abstained


def test_the_ceiling_is_the_shortest_line_that_holds_the_answer(bench):
    sessions = arms.bm25(bench, PORT, 500).sessions
    asked = replace(PORT, key=judging.Key((("5433",),), frozenset(sessions)))
    answered = arms.oracle(bench, asked, 250)
    assert "5433" in answered.text
    assert "\n" not in answered.text
    assert arms.oracle(bench, replace(asked, key=judging.Key(())), 250).abstained
