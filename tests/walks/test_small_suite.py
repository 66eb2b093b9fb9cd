"""The suite over a small memory asks what its sessions answer, and tells what it is told, in its short form by words alone."""

import pytest

from lmm_mcp.evaluation.judging import folded

SHORT = "burrow"


@pytest.fixture(scope="module")
def suite(benchmarks):
    return benchmarks("invented", "small_memory")


def test_each_answer_stands_in_the_one_session_that_is_said_to_give_it(suite):
    sessions = suite.small_memory.sessions()
    names = {session.name for session in sessions}
    for question in suite.small_memory.QUESTIONS:
        assert bool(question.session) == bool(question.needed), question.text
        for item in question.needed:
            within = (each for each in sessions if each.name.startswith(f"{question.project}-"))
            found = {each.name for each in within if folded(item) in folded(each.text)}
            assert found == {f"{question.project}-{question.session}"} <= names, (question.text, item)


def test_it_counts_forty_questions_and_half_of_them_are_answered_by_a_line_or_two(suite):
    kinds = [question.kind for question in suite.small_memory.QUESTIONS]
    assert (len(kinds), kinds.count("few lines"), kinds.count("several lines")) == (40, 20, 12)
    halves = [project for of in suite.small_memory.HALVES.values() for project in of]
    assert sorted(halves) == sorted({question.project for question in suite.small_memory.QUESTIONS})


def test_figures_of_what_is_told(suite, tmp_path):
    small = suite.small_memory
    sessions = [each for each in small.sessions() if each.name.startswith(SHORT)]
    memory = suite.invented.remembered(tmp_path, sessions, small.lines(), with_model=False)
    questions = [each for each in small.QUESTIONS if each.project == SHORT]
    told = list(small.asked(memory, suite.invented.BY_WORDS, questions))
    hash_names = told[1]
    assert hash_names.question.text.startswith("Which hash")
    assert any("BLAKE3" in text for _, text in hash_names.lines)
    assert hash_names.figures["gold"] == 1.0
    gold = suite.invented.named("burrow-2")
    assert hash_names.figures["fit"] == sum(session == gold for session, _ in hash_names.lines) / len(hash_names.lines)
    rows = small.table(told)
    assert (rows["all"]["n"], rows["few lines"]["n"], rows["several lines"]["n"]) == (10, 5, 3)
    assert rows["all"].keys() == {"n", *small.FIGURES}
    assert rows["all"]["gold"] >= 60
