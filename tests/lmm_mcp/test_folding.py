"""What is told once: repeats and near repeats, and never a value that differs."""

import pytest

from lmm_mcp.domain.chunk import Chunk, Line, Span
from lmm_mcp.recall.folding import MAX_LINES_PER_CHUNK, Folded, told_once
from lmm_mcp.recall.found import Evidence

LONG = "the tide service now listens on port 7311 of the harbour host in production and in staging"


def evidence(text: str, session: str = "s1", *, number: int = 0, at_ms: int = 1) -> Evidence:
    line = Line("agent", text, Span("e", 0, len(text)))
    chunk = Chunk(session * 8, "codex", session, session, "", "", at_ms, at_ms, 0, 0, "", (line,), (), (), "")
    return Evidence(chunk, line, 1.0, text, number=number)


def folded(*texts: str) -> Folded:
    return told_once([evidence(text, f"s{n}") for n, text in enumerate(texts)])


@pytest.mark.parametrize(
    "again",
    [
        LONG.replace(" now", ""),
        LONG.upper(),
        LONG.replace("service now", "service, now,"),
        LONG.replace(" the harbour", " harbour"),
    ],
)
def test_what_says_no_more_in_hardly_fewer_words_is_told_once_and_named(again):
    found = folded(LONG, again)
    assert [each.text for each in found.kept] == [LONG]
    assert [(each.text, by.text) for each, by in found.folds] == [(again, LONG)]


@pytest.mark.parametrize(
    "other",
    [
        LONG.replace("7311", "7312"),  # another value
        LONG.replace("harbour", "crane"),
        LONG.replace("production and in staging", "staging and in production"),  # other places
        f"{LONG} only",  # it says more
        LONG.replace(" now", " no longer"),
        " ".join(LONG.split()[:12]),  # much is missing
    ],
)
def test_what_says_something_else_is_told(other):
    assert len(folded(LONG, other).kept) == 2


@pytest.mark.parametrize("word", ["not", "never", "8080", "don't", "nothing", "不", "无"])
def test_a_negation_or_a_number_between_them_is_a_difference(word):
    assert len(folded(LONG.replace(" now", f" {word}"), LONG.replace(" now", "")).kept) == 2


def test_lines_that_differ_only_at_their_end_are_told():
    start = "the same long beginning of words " * 7
    assert len(folded(f"{start} 7311", f"{start} 7312").kept) == 2


def test_the_newest_saying_of_a_session_is_cited():
    found = told_once([evidence(LONG, at_ms=1), evidence(LONG, at_ms=5)])
    assert [each.chunk.last_ms for each in found.kept] == [5]
    assert [(each.chunk.last_ms, by.chunk.last_ms) for each, by in found.folds] == [(1, 5)]


def test_what_goes_over_the_share_of_a_passage_is_named():
    found = told_once([evidence(f"line number {n} of many") for n in range(MAX_LINES_PER_CHUNK + 2)])
    assert (len(found.kept), len(found.too_many), found.folds) == (MAX_LINES_PER_CHUNK, 2, [])
