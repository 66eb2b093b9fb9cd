"""Times in questions: what counts as one, which time is meant, and what recall makes of it."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmm_mcp.domain.chunk import Chunk, Line, Span
from lmm_mcp.domain.recall import Brief, NothingFound, Question
from lmm_mcp.recall import listing, when
from lmm_mcp.recall.pipeline import Recaller
from lmm_mcp.store.chunks import ChunkStore

WEDNESDAY = int(datetime(2026, 2, 25, 10, tzinfo=UTC).timestamp() * 1000)
PROJECT = "github.com/mira/harbour"


def span(text: str, asked_ms: int | None = WEDNESDAY) -> str:
    """First and last day of the only time that is named, '' for none."""
    found = when.periods(text, asked_ms)
    assert len(found) < 2, found
    return f"{when.day(found[0].since_ms)} {when.day(found[0].until_ms)}" if found else ""


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("what broke today?", "2026-02-25 2026-02-25"),
        ("what did we try yesterday", "2026-02-24 2026-02-24"),
        ("the day before yesterday", "2026-02-23 2026-02-23"),
        ("what did codex change last week?", "2026-02-16 2026-02-22"),
        ("last week's deploys", "2026-02-16 2026-02-22"),
        ("this week", "2026-02-23 2026-02-25"),
        ("last month", "2026-01-01 2026-01-31"),
        ("last year", "2025-01-01 2025-12-31"),
        ("two days ago", "2026-02-23 2026-02-23"),
        ("2 weeks ago", "2026-02-07 2026-02-14"),
        ("over the past 3 days", "2026-02-22 2026-02-25"),
        ("since Monday", "2026-02-23 2026-02-25"),
        ("on friday we moved it", "2026-02-20 2026-02-20"),
        ("last Wednesday", "2026-02-18 2026-02-18"),
        ("after Monday", "2026-02-24 2026-02-25"),
        ("what was it before February?", "1970-01-02 2026-01-31"),
        ("between Monday and Tuesday", "2026-02-23 2026-02-24"),
        ("from December to January", "2025-12-01 2026-01-31"),
        ("in March", "2025-03-01 2025-03-31"),
        ("in May", "2025-05-01 2025-05-31"),
        ("in March 2024", "2024-03-01 2024-03-31"),
        ("on 3 February", "2026-02-03 2026-02-03"),
        ("on December 24th", "2025-12-24 2025-12-24"),
        ("on 7 May 2023", "2023-05-07 2023-05-07"),
        ("the release of 2026-02-11", "2026-02-11 2026-02-11"),
        ("2026-01", "2026-01-01 2026-01-31"),
        ("上周做了什么", "2026-02-16 2026-02-22"),
        ("昨天为什么失败", "2026-02-24 2026-02-24"),
        ("前天", "2026-02-23 2026-02-23"),
        ("周一以来", "2026-02-23 2026-02-25"),
        ("上周三", "2026-02-18 2026-02-18"),
        ("三天前", "2026-02-22 2026-02-22"),
        ("最近两周", "2026-02-11 2026-02-25"),
        ("上个月", "2026-01-01 2026-01-31"),
        ("三月份", "2025-03-01 2025-03-31"),
        ("2026年2月11日", "2026-02-11 2026-02-11"),
        ("先週のデプロイ", "2026-02-16 2026-02-22"),
    ],
)
def test_a_time_is_understood_as_seen_from_when_it_is_asked(text, days):
    assert span(text) == days


@pytest.mark.parametrize(
    "text",
    [
        "this may be slow",
        "the second test fails",
        "why does the build march on",
        "the sun icon sat there",
        "in may cases",
        "see notes/2026-02-11-port.md",
        "v2026-02",
        "2026-02-31",
        "the last line of the first day job",
        "三个月亮",
        "weekly report",
        "port 2026",
        "error: " * 80 + "yesterday",
    ],
)
def test_what_only_looks_like_a_time_is_none(text):
    assert span(text) == ""


def test_whole_dates_need_no_present_and_others_are_not_guessed_without_one():
    assert span("on 7 May 2023", None) == "2023-05-07 2023-05-07"
    assert [span(text, None) for text in ("yesterday", "in March", "since Monday", "上周")] == [""] * 4


@given(st.text(alphabet="0123456789-/年月日 lastweekMy, agofromtsince上周一二前天", max_size=60))
def test_no_text_breaks_it_and_no_period_ends_before_it_begins_or_after_now(text):
    for each in when.periods(text, WEDNESDAY):
        assert each.since_ms <= each.until_ms <= WEDNESDAY
        assert 0 <= each.start < each.end <= len(text)


def session(number: int, day: str, *lines: tuple[str, str]) -> Chunk:
    at_ms = int(datetime.fromisoformat(f"{day}T12:00:00+00:00").timestamp() * 1000)
    name = f"5e55{number:04d}-0000"
    return Chunk(
        id=f"{number:016x}",
        agent="codex",
        session_id=name,
        thread_id=name,
        project=PROJECT,
        branch="main",
        first_ms=at_ms,
        last_ms=at_ms,
        part=0,
        ordinal=0,
        header=f"harbour · main · {day}",
        lines=tuple(Line(role, text, Span(f"e{number}-{n}", 0, len(text))) for n, (role, text) in enumerate(lines)),
        files=(),
        commands=(),
        content_hash=f"h{number}",
    )


SESSIONS = (
    session(
        1,
        "2026-01-12",
        ("user", "the crane scheduler double-books berths, please look"),
        ("agent", "We will lock each berth with SELECT FOR UPDATE, because the scheduler runs twice."),
    ),
    session(
        2,
        "2026-02-17",
        ("user", "the crane scheduler is slow again today"),
        ("agent", "The scheduler rebuilt its index on every call."),
        ("agent", "We decided to cache the index of berths for ten minutes."),
    ),
    session(
        3, "2026-02-19", ("user", "write the release notes for the tide service"), ("agent", "Done: notes are in.")
    ),
)


@pytest.fixture
def store(tmp_path) -> ChunkStore:
    made = ChunkStore.open(tmp_path / "store", create=True)
    made.replace_threads([(each.agent, each.thread_id, [each]) for each in SESSIONS])
    return made


def ask(store: ChunkStore, text: str, *without: str, **limits: int):
    question = Question(text, PROJECT, budget_tokens=1000, now_ms=WEDNESDAY)
    return Recaller(store, None, frozenset(without)).recall(replace(question, **limits))


def test_what_was_said_at_the_time_that_is_named_comes_first(store):
    for text, first in (("crane scheduler last week", 2), ("crane scheduler in January", 1)):
        found = ask(store, text)
        assert isinstance(found, Brief)
        assert found.sessions[0] == SESSIONS[first - 1].session_id, text
    assert {*ask(store, "crane scheduler last week").sessions} >= {SESSIONS[0].session_id}  # a preference, no filter


def test_without_the_part_a_time_is_a_word_like_others(store):
    firsts = [
        ask(store, text, "times").sessions[0] for text in ("crane scheduler last week", "crane scheduler in January")
    ]
    assert firsts[0] == firsts[1]


def test_who_asks_about_nothing_but_a_time_gets_its_sessions(store):
    for text in ("what did we do last week?", "上周做了什么", "what happened between 2026-02-16 and 2026-02-22?"):
        found = ask(store, text)
        assert isinstance(found, Brief), text
        assert set(found.sessions) == {SESSIONS[1].session_id, SESSIONS[2].session_id}
        assert "We decided to cache the index" in found.text
        assert "SELECT FOR UPDATE" not in found.text


def test_a_question_about_the_past_is_asked_in_that_past(store):
    then = int(datetime(2026, 1, 20, tzinfo=UTC).timestamp() * 1000)
    assert ask(store, "what did we do last week?", until_ms=then).sessions == (SESSIONS[0].session_id,)


def test_where_nothing_was_done_then_recall_is_silent(store):
    assert isinstance(ask(store, "what did we do yesterday?"), NothingFound)


def test_every_session_of_a_time_is_told_of_before_any_is_told_in_full():
    found = listing.listed(SESSIONS)
    assert [each.chunk.session_id for each in found[:3]] == [each.session_id for each in reversed(SESSIONS)]
    assert found[0].text == "write the release notes for the tide service"
