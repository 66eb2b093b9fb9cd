"""Who asks what went wrong at a time: which questions do, and what is told of the failures of that time."""

from datetime import UTC, datetime

import pytest

from lmm_mcp.domain.chunk import Chunk, Line, Span
from lmm_mcp.domain.recall import NothingFound, Question, Recall
from lmm_mcp.recall.pipeline import Recaller
from lmm_mcp.recall.query import understand
from lmm_mcp.store.chunks import ChunkStore
from lmm_mcp.store.frequencies import Frequencies

WEDNESDAY = int(datetime(2026, 2, 25, 10, tzinfo=UTC).timestamp() * 1000)
HOUR_ms = 3_600_000
PROJECT = "github.com/mira/harbour"


def passage(thread: str, number: int, at_ms: int, *lines: tuple[str, str]) -> Chunk:
    name = f"{thread}-{number}"
    return Chunk(
        id=name,
        agent="codex",
        session_id=thread,
        thread_id=thread,
        project=PROJECT,
        branch="main",
        first_ms=at_ms,
        last_ms=at_ms,
        part=0,
        ordinal=number,
        header="harbour",
        lines=tuple(Line(role, text, Span(f"{name}-{n}", 0, 9)) for n, (role, text) in enumerate(lines)),
        files=(),
        commands=(),
        content_hash=name,
    )


LAST_WEEK = WEDNESDAY - 7 * 24 * HOUR_ms
THREADS = (
    (
        passage(
            "mended-0000",
            0,
            LAST_WEEK,
            ("user", "make the tide test pass"),
            ("command", "$ make check-tides  [exit 2]"),
            ("output", "collecting tides of the harbour"),
            ("error", "ConnectionRefusedError: tide service refused the connection"),
            ("agent", "The tide service listens on the wrong interface."),
            ("command", "$ make check-tides  [exit 2]"),
            ("error", "ConnectionRefusedError: tide service refused the connection"),
            ("command", "$ ls berths  [exit 2]"),
            ("error", "ls: cannot access 'berths': No such file or directory"),
        ),
        passage("mended-0000", 1, WEDNESDAY - HOUR_ms, ("command", "$ make check-tides  [exit 0]")),
    ),
    (
        passage(
            "open-000000",
            0,
            LAST_WEEK + HOUR_ms,
            ("command", "$ make deploy-cranes  [exit 1]"),
            ("error", "error: crane registry denied the push"),
            ("command", "$ make berth-list  [exit 0]"),
        ),
        passage(
            "open-000000",
            1,
            LAST_WEEK + 2 * HOUR_ms,
            ("user", "TypeError: berth plan is undefined in planner.js"),
            ("user", "- what does an unexpected error of the planner mean, and is `log.Error(berth)` missing?"),
        ),
    ),
    (
        passage(
            "calm-000000",
            0,
            WEDNESDAY - 24 * HOUR_ms,
            ("agent", "Every crane is painted and nothing is left."),
        ),
    ),
)


@pytest.fixture
def store(tmp_path) -> ChunkStore:
    made = ChunkStore.open(tmp_path / "store", create=True)
    made.replace_threads([("codex", each[0].thread_id, list(each)) for each in THREADS])
    return made


def ask(store: ChunkStore, text: str, *without: str, until_ms: int | None = None) -> Recall:
    question = Question(text, PROJECT, until_ms=until_ms, budget_tokens=1000, now_ms=WEDNESDAY)
    return Recaller(store, None, frozenset(without)).recall(question)


def quotes(found: Recall) -> list[str]:
    return [line.partition("] ")[2] for line in found.text.splitlines() if line.startswith("[c")]


@pytest.mark.parametrize(
    "text",
    [
        "what went wrong last week?",
        "which errors did I meet yesterday",
        "which commands failed in the last 3 days?",
        "what broke since Monday",
        "show me the errors of last week",
        "上周出了什么错",
        "昨天有哪些报错",
        "上周有什么命令失败了",
    ],
)
def test_a_question_of_nothing_but_failures_and_a_time_asks_for_a_list(text):
    assert understand(text, Frequencies.none(), WEDNESDAY).asks_of_failures


@pytest.mark.parametrize(
    "text",
    [
        "what went wrong with the migration last week?",
        "which errors did I meet",
        "what did we do last week?",
        "which commands did I run yesterday",
        "上周数据库出了什么错",
        "上周做了什么",
    ],
)
def test_one_that_names_anything_else_or_no_time_does_not(text):
    assert not understand(text, Frequencies.none(), WEDNESDAY).asks_of_failures


@pytest.mark.parametrize("text", ["what went wrong last week?", "上周出了什么错"])
def test_failures_of_that_time_are_told_newest_first_and_whether_they_were_mended_since(store, text):
    assert quotes(ask(store, text)) == [
        "user: TypeError: berth plan is undefined in planner.js",
        "ran (not seen mended): $ make deploy-cranes [exit 1]",
        "error (make deploy-cranes): error: crane registry denied the push",
        "ran (mended since): $ make check-tides [exit 2]",
        "error (make check-tides): ConnectionRefusedError: tide service refused the connection",
    ]


def test_what_was_mended_later_than_it_is_asked_is_not_mended_then(store):
    found = quotes(ask(store, "what failed last week?", until_ms=WEDNESDAY - 2 * HOUR_ms))
    assert "ran (not seen mended): $ make check-tides [exit 2]" in found


def test_where_nothing_failed_then_recall_is_silent(store):
    assert isinstance(ask(store, "what went wrong yesterday?"), NothingFound)


def test_without_the_part_times_nothing_is_listed(store):
    assert "mended since" not in ask(store, "what went wrong last week?", "times").text
