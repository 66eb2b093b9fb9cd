"""The rulers: question suites through the tool, and embedding models on the user's own passages."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from lmm_mcp.domain.chunk import Chunk, Line, Span
from lmm_mcp.errors import BadInput, LmmError
from lmm_mcp.evaluation import embedders, questions
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

        times = questions.write(questions.read([suite]), ask, out)
    first, second = map(json.loads, out.read_text(encoding="utf-8").splitlines())
    assert "5433" in first["text"]
    assert first["sessions"]
    assert (second["abstained"], second["text"], second["sessions"]) == (True, "", [])
    assert times.num_questions == 2


def test_a_refusal_of_the_tool_is_an_error_with_its_words(harbour, harbour_env):
    with tool_caller(Desk(harbour, harbour_env)) as call, pytest.raises(LmmError, match="budget"):
        call("recall", query="x", budget_tokens=0)


def test_a_broken_question_file_is_named_with_its_line(tmp_path: Path):
    path = tmp_path / "suite.jsonl"
    path.write_text('{"id": "a", "question": "b"}\n{"id": 1}\n', encoding="utf-8")
    with pytest.raises(BadInput, match=r"suite\.jsonl:2"):
        questions.read([path])
