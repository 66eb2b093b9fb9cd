"""Errors that were met before: when two are the same, and what is told of how the earlier one was mended."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmm_mcp.domain.chunk import Chunk, Line, Span
from lmm_mcp.domain.fence import FENCE_CLOSE
from lmm_mcp.domain.recall import Brief, Question
from lmm_mcp.paths import Home
from lmm_mcp.recall import fixes
from lmm_mcp.recall.pipeline import Recaller
from lmm_mcp.recall.signatures import is_failure, same, signature, signatures
from lmm_mcp.server.desk import Desk
from lmm_mcp.store.chunks import ChunkStore

PROJECT = "github.com/mira/harbour"
REFUSED = "ConnectionRefusedError: tide service refused the connection on port {port} after {seconds}s"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("TypeError: berth 7 is undefined", "TypeError: berth 12 is undefined"),
        ("/home/a/x/crane.py:12: ValueError: bad berth name", "/srv/b/crane.py:90: ValueError: bad berth name"),
        ("KeyError at 0x7f11aa in harbour worker", "KeyError at 0x55dd20 in harbour worker"),
        ("2026-01-02 10:11:12 ERROR tide table is missing", "2026-03-04 01:02:03 ERROR tide table is missing"),
        ("\x1b[31merror\x1b[0m: no such berth in harbour", "error: no such berth in harbour"),
    ],
)
def test_an_error_reads_the_same_in_another_run(one, other):
    assert signature(one) != ""
    assert signature(one) == signature(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ModuleNotFoundError: no module named tides", "ModuleNotFoundError: no module named cranes"),
        ("TypeError: berth is undefined", "TypeError: crane is undefined"),
    ],
)
def test_errors_about_other_things_are_others(one, other):
    assert not same(signature(one), signature(other))


@pytest.mark.parametrize(
    "line", ["", "all 12 passed", "error", "exit code 1", "Command failed with exit code 127", "$ make check  # fails"]
)
def test_what_says_nothing_of_its_own_has_no_signature(line):
    assert signature(line) == ""


def test_what_is_a_default_is_no_fault():
    assert not is_failure("which port is the default of the tide service?")
    assert is_failure("System.NullFault at the tide service")


def test_a_pasted_error_is_told_from_a_question_about_one():
    pasted = "Traceback (most recent call last):\n  File 'x.py', line 3\nTypeError: berth is undefined"
    assert is_failure(pasted)
    assert signatures(pasted) == (signature("TypeError: berth is undefined"),)
    assert not any(
        map(is_failure, ("why does the login fail?", "which error did we mend last week", "what is missing"))
    )


@given(st.text(max_size=300))
def test_no_text_breaks_it(text):
    assert isinstance(is_failure(text), bool)
    assert all(signatures(text))


def passage(number: int, thread: str, day: int, *lines: tuple[str, str]) -> Chunk:
    return Chunk(
        id=f"{thread}-{number}",
        agent="codex",
        session_id=thread,
        thread_id=thread,
        project=PROJECT,
        branch="main",
        first_ms=day * 86_400_000 + number,
        last_ms=day * 86_400_000 + number,
        part=0,
        ordinal=number,
        header="harbour",
        lines=tuple(Line(role, text, Span(f"{thread}-{number}-{n}", 0, 9)) for n, (role, text) in enumerate(lines)),
        files=(),
        commands=(),
        content_hash=f"{thread}-{number}",
    )


MENDED = (
    passage(
        0,
        "mended-00",
        20_000,
        ("user", "make the tide test pass"),
        ("command", "$ make check-tides  [exit 2]"),
        ("error", REFUSED.format(port=7311, seconds=5)),
        ("agent", "The tide service listens on the wrong interface."),
    ),
    passage(
        1,
        "mended-00",
        20_000,
        ("path", "Edit tides.toml"),
        ("edit", '+ listen = "127.0.0.1"'),
        ("command", "$ make check-tides  [exit 2]"),
        ("error", "TimeoutError: no tide within the limit"),
        ("agent", "Now it answers too late; the warm-up needs a longer limit."),
        ("edit", "+ warm_up_limit_s = 30"),
        ("command", "$ make check-tides  [exit 0]"),
        ("output", "12 passed"),
        ("agent", "What follows has nothing to do with it any more."),
    ),
)
GIVEN_UP = (
    passage(
        0,
        "given-up-0",
        20_010,
        ("command", "$ make check-tides  [exit 2]"),
        ("error", REFUSED.format(port=9300, seconds=60)),
        ("agent", "I cannot find the reason and leave it."),
    ),
)


@pytest.fixture
def store(tmp_path) -> ChunkStore:
    made = ChunkStore.open(tmp_path / "store", create=True)
    made.replace_threads([("codex", each[0].thread_id, each) for each in (MENDED, GIVEN_UP)])
    return made


def told(store: ChunkStore, *without: str, until_ms: int | None = None) -> Brief:
    text = REFUSED.format(port=1234, seconds=17)
    question = Question(text, PROJECT, until_ms=until_ms, budget_tokens=400)
    found = Recaller(store, None, frozenset(without)).recall(question)
    assert isinstance(found, Brief)
    return found


def quotes(found: Brief) -> list[str]:
    return [line.partition(": ")[2] for line in found.text.splitlines() if line.startswith("[c")]


def test_an_error_that_was_mended_is_told_with_what_mended_it_in_order(store):
    lines = quotes(told(store))
    assert lines[:6] == [
        REFUSED.format(port=7311, seconds=5),
        "The tide service listens on the wrong interface.",
        '+ listen = "127.0.0.1"',
        "Now it answers too late; the warm-up needs a longer limit.",
        "+ warm_up_limit_s = 30",
        "$ make check-tides [exit 0]",
    ]
    assert "I cannot find the reason and leave it." in lines[6:]
    assert len(lines) == len(set(lines))


def test_without_the_part_only_the_words_decide(store):
    assert "+ warm_up_limit_s = 30" not in quotes(told(store, "errors"))[:5]


def test_what_was_mended_later_is_not_told(store):
    found = quotes(told(store, until_ms=20_000 * 86_400_000))
    assert "The tide service listens on the wrong interface." in found
    assert "+ warm_up_limit_s = 30" not in found


def test_a_loop_of_the_shell_is_not_mended_by_another_one():
    failed = Line("command", "$ for f in a b; do check $f; done  [exit 1]", Span("e", 0, 9))
    assert fixes.head_of_failed(failed) == "for f in a b; do check $f; done"


def test_a_command_that_only_shows_such_a_line_has_met_no_error():
    shown = passage(0, "shown-000", 20_000, ("command", "$ cat old.log"), ("error", REFUSED.format(port=1, seconds=1)))
    assert fixes.mended(fixes.Met(shown, 1, 0), MENDED[1:]) == []


def test_the_error_of_a_real_session_is_mended_by_its_edit(orchard_env):
    desk = Desk(Home(Path(orchard_env["LMM_HOME"])), orchard_env)
    found = desk.recall(
        "TypeError: round_half_even got an unexpected keyword argument refunds", project="*", budget_tokens=300
    )
    assert isinstance(found, Brief)
    assert "def round_half_even(amount, refunds=False)" in "\n".join(quotes(found)[:4])
    assert found.text.count(FENCE_CLOSE) == 1
