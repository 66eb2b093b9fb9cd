"""The suites over invented sessions: they ask what the sessions answer, and run in their short form by words alone."""

import re
from datetime import datetime

import pytest

from lmm_mcp.domain.chunk import Chunk, Line, Span
from lmm_mcp.evaluation import questions, runs
from lmm_mcp.evaluation.judging import Key, folded
from lmm_mcp.recall import brief
from lmm_mcp.recall.found import Evidence
from lmm_mcp.store.terms import terms

SHORT = ("kestrel", "tidewater")
"""Projects of the short form: between them they hold sessions of both agents, edits, and facts that changed twice."""
ARMS = ("recall", "bm25", "recent", "oracle")


@pytest.fixture(scope="module")
def suites(benchmarks):
    return benchmarks("invented", "updates", "updates_questions", "multilingual", "multilingual_questions")


def project_of(session) -> str:
    return session.name.rpartition("-")[0]


@pytest.fixture(scope="module")
def asked_with_sessions(suites):
    """Each question of `updates`, with what its project had heard when it was asked, in order of time."""
    sessions = sorted(suites.updates.sessions(), key=lambda session: session.at)
    return [
        (
            question,
            [
                session
                for session in sessions
                if project_of(session) == question.project and session.at < datetime.fromisoformat(question.asked_at)
            ],
        )
        for question in suites.updates_questions.QUESTIONS
    ]


def telling(values, sessions) -> set[str]:
    return {session.name for session in sessions if any(folded(value) in folded(session.text) for value in values)}


# What is asked ------------------------------------------------------------------------------------------------------


def test_every_answer_stands_in_just_the_sessions_that_are_said_to_tell_it(asked_with_sessions):
    wrong = {
        question.text: found
        for question, sessions in asked_with_sessions
        if (found := telling(question.answers, sessions)) != set(question.sessions)
        or not all(telling([answer], sessions) for answer in question.answers)
    }
    assert wrong == {}


def test_every_old_value_was_told_before_the_one_that_holds_and_is_not_mistaken_for_it(asked_with_sessions):
    for question, sessions in asked_with_sessions:
        assert bool(question.stale) == (question.category in ("update", "then")), question.text
        if question.stale:
            first = min(n for n, session in enumerate(sessions) if session.name in question.sessions)
            assert telling(question.stale, sessions[:first]), question.text
        for old in question.stale:
            lines = [folded(line) for session in sessions for line in session.text.splitlines()]
            told = [line for line in lines if folded(old) in line]
            assert told, (question.text, old)
            assert not any(folded(answer) in line for line in told for answer in question.answers), (question.text, old)


def test_updates_is_as_large_and_as_varied_as_it_says(suites, asked_with_sessions):
    asked = [question for question, _ in asked_with_sessions]
    updates = [question for question in asked if question.category == "update"]
    assert len({(question.sessions, question.answers[0]) for question in updates}) >= 40
    assert 0.25 <= sum(question.paraphrase for question in updates) / len(updates) <= 0.4
    kinds = {kind: sum(question.category == kind for question in asked) for kind in ("unchanged", "before", "then")}
    assert kinds["unchanged"] >= 8
    assert kinds["before"] >= 10
    assert kinds["then"] >= 3
    assert sum(len(telling(question.stale, sessions)) > 1 for question, sessions in asked_with_sessions) >= 20
    by_project: dict[str, list] = {}
    for session in suites.updates.sessions():
        by_project.setdefault(project_of(session), []).append(session)
    for name, sessions in by_project.items():
        times = [session.at for session in sessions]
        assert len(sessions) >= 3, name
        assert (max(times) - min(times)).days > 120, name
        assert {session.agent for session in sessions} == {"claude-code", "codex"}, name


def test_paraphrases_share_fewer_words_with_what_answers_them(asked_with_sessions):
    shared: dict[bool, list[float]] = {True: [], False: []}
    for question, sessions in asked_with_sessions:
        if question.category == "update":
            words = set(terms(question.text))
            told = [set(terms(session.text)) for session in sessions if session.name in question.sessions]
            shared[question.paraphrase].append(max(len(words & each) / len(words) for each in told))
    means = {kind: sum(shares) / len(shares) for kind, shares in shared.items()}
    assert means[True] < 0.7 * means[False]


def test_chinese_questions_are_forty_and_mixed_only_where_they_say_so(suites):
    asked = suites.multilingual_questions.QUESTIONS
    assert (len(asked), len(suites.multilingual_questions.UNANSWERABLE)) == (40, 10)
    for question in asked:
        assert bool(re.search(r"[A-Za-z]", question.text.zh)) == question.is_mixed, question.text.zh
        assert not re.search(r"[\u4e00-\u9fff]", question.text.en)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_every_item_of_the_tea_shop_stands_in_its_session_in_both_languages(suites, language):
    sessions = {session.name: session for session in suites.multilingual.sessions(language)}
    for question in suites.multilingual_questions.QUESTIONS:
        told = folded(sessions[suites.multilingual.name_of(question.session, language)].text)
        for item in question.needed:
            assert any(folded(alternative) in told for alternative in item), (question.text.en, item)


# How it is written and judged -----------------------------------------------------------------------------------------

HEAD = "/home/mira/harbour\n\n== harbour-1 2026-03-01 09:00 codex main\n"


def test_a_transcript_becomes_the_steps_that_it_shows(suites):
    text = "> which port?\n> tell me\n\n$ ss -ltn\n! refused\n\n@ a.py\n- x = 1\n+ x = 2\n  y\n\nPort 5433."
    (session,) = suites.invented.transcript(HEAD + text)
    prompt, command, edit, reply = session.steps
    assert (session.cwd, session.agent, f"{session.at:%m-%d %H:%M}") == ("/home/mira/harbour", "codex", "03-01 09:00")
    assert (prompt.text, reply.text) == ("which port?\ntell me", "Port 5433.")
    assert (command.line, command.output, command.failed) == ("ss -ltn", "refused", True)
    assert (edit.path, edit.side("- "), edit.side("+ ")) == ("a.py", "x = 1\ny", "x = 2\ny")


@pytest.mark.parametrize("block", ["$ ls", "$ ls\nno sign", "| nothing ran", "@ a.py", "@ a.py\nx = 1"])
def test_a_step_that_cannot_be_understood_is_refused(suites, block):
    with pytest.raises(ValueError, match=r"begin|without its command"):
        suites.invented.transcript(HEAD + block)


def test_marking_what_holds_as_superseded_is_counted(suites):
    asked = questions.Asked("q", "which port?", None, None, Key((("8081",),), stale=("8080",)))
    marked = suites.invented._marked
    assert marked(asked, "[c1] agent (superseded): port 8081\n[c2] agent: port 8081") == {"marked": 1.0}
    assert marked(asked, "[c1] agent (superseded): port 8080\n[c2] agent: 8081 superseded it") == {"marked": 0.0}
    assert marked(asked, "") == {"marked": 0.0}
    assert marked(questions.Asked("q", "?", None, None, Key(())), "[c1] agent (superseded): 8081") == {}
    line = Line("agent", "The port is 8081.", Span("e", 0, 17))
    chunk = Chunk("c", "codex", "s", "s", "p", "", 1, 1, 0, 0, "", (line,), (), (), "")
    for is_marked in (True, False):
        told = brief.write([Evidence(chunk, line, 1.0, line.text, superseded=is_marked)], budget_tokens=200)
        assert told is not None
        assert marked(asked, told.text) == {"marked": float(is_marked)}


# How it runs ----------------------------------------------------------------------------------------------------------


def table(suites, memory, suite):
    found = suites.invented.measured(memory, suite, suites.invented.BY_WORDS, ARMS)
    return {name: runs.table(run.rows) for name, run in zip(ARMS, found, strict=True)}


def test_updates_runs_in_its_short_form_and_tells_the_arms_apart(suites, tmp_path):
    sessions = [session for session in suites.updates.sessions() if project_of(session) in SHORT]
    lines = [line for line in suites.updates.lines() if line["project"].rpartition("/")[2] in SHORT]
    memory = suites.invented.remembered(tmp_path, sessions, lines, with_model=False)
    assert len(memory.asked) == len(lines) > 25
    figures = table(suites, memory, "updates")
    # The lines that answer are in the store, each in its session, and tell no old value.
    assert figures["oracle"]["all"]["cover@1000"].value == 1
    assert figures["oracle"]["all"]["hit@1"].value == 1
    assert figures["oracle"]["all"]["stale"].value == 0
    # To quote whatever was said last does not answer; to quote what shares words tells old values, too.
    assert figures["recent"]["all"]["cover@1000"].value < 0.9 * figures["bm25"]["all"]["cover@1000"].value
    assert figures["bm25"]["update"]["stale"].value > 0.3
    for kind in ("update", "then", "unchanged", "before"):
        assert figures["recall"][kind]["cover@1000"].value > 0.6
    assert figures["recall"]["unchanged"]["marked"].value < 0.3


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_tea_shop_runs_by_words_alone_and_can_be_answered(suites, language, tmp_path):
    memory = suites.invented.remembered(
        tmp_path, suites.multilingual.sessions(language), suites.multilingual.lines(language), with_model=False
    )
    figures = table(suites, memory, "multilingual")
    assert figures["oracle"]["all"]["cover@1000"].value == 1
    assert figures["recent"]["all"]["cover@1000"].value < 0.5
    assert figures["recall"]["same words"]["cover@1000"].value > 0.8
    assert figures["recall"]["unanswerable"]["quiet"].value > 0
