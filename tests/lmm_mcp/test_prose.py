"""What a newer line says holds no more is told with what does; what is doubted, or said again, is left alone."""

import time

import pytest

from lmm_mcp.domain.chunk import Chunk, Line, Span
from lmm_mcp.domain.recall import Question
from lmm_mcp.recall import prose
from lmm_mcp.recall.found import Evidence
from lmm_mcp.recall.pipeline import Recaller
from lmm_mcp.recall.query import understand
from lmm_mcp.recall.supersession import asks_for_the_past
from lmm_mcp.store.chunks import ChunkStore
from lmm_mcp.store.frequencies import Frequencies
from lmm_mcp.store.terms import terms

DAY_ms = 86_400_000
FERRY = "/home/ines/ferry"


def chunk(day: int, *lines: tuple[str, str], session: str = "", project: str = FERRY, ordinal: int = 0) -> Chunk:
    name = f"{session or day}-{ordinal}"
    return Chunk(
        id=name,
        agent="codex",
        session_id=session or f"s{day}",
        thread_id=session or f"s{day}",
        project=project,
        branch="",
        first_ms=(20_000 + day) * DAY_ms,
        last_ms=(20_000 + day) * DAY_ms,
        part=0,
        ordinal=ordinal,
        header="",
        lines=tuple(Line(role, text, Span(f"{name}-{n}", 0, len(text))) for n, (role, text) in enumerate(lines)),
        files=(),
        commands=(),
        content_hash="",
    )


def said(
    day: int, text: str, role: str = "agent", *, session: str = "", project: str = FERRY, ordinal: int = 0
) -> Evidence:
    whole = chunk(day, (role, text), session=session, project=project, ordinal=ordinal)
    return Evidence(whole, whole.lines[0], 1.0, text, terms=frozenset(terms(text)))


def marks(question: str, *lines: Evidence) -> list[tuple[str, str] | bool]:
    """Of each line the values that it is told with, else whether it is marked."""
    told = prose.noted(lines, understand(question, Frequencies.none()))
    assert [each.text for each in told] == [each.text for each in lines]
    return [each.replaced or each.superseded for each in told]


@pytest.mark.parametrize(
    ("question", "old", "new", "expected"),
    [
        (
            "how often is a failed booking sent?",
            "A booking that fails is sent 4 times.",
            "A failed booking is sent 9 times now.",
            ("4 times", "9 times"),
        ),
        (
            "how long is a timetable cached?",
            "The timetable is cached for 20 minutes.",
            "We raised it: the timetable stays cached for two hours.",
            ("20 minutes", "two hours"),
        ),
        (
            "when does the nightly backup of berths start?",
            "The backup of berths starts at 02:30.",
            "From now on the backup of berths starts at 04:10.",
            ("02:30", "04:10"),
        ),
        (
            "on which day is the fare table published?",
            "The fare table is published on Mondays.",
            "The fare table is no longer published on Mondays but on Fridays.",
            ("Monday", "Friday"),
        ),
        (
            "how are modules named?",
            "One module per camelCase file.",
            "from now on every new file is snake_case, please",
            ("camelCase", "snake_case"),
        ),
        (
            "in which language are the signs?",
            "The texts of the signs are German.",
            "The texts of the signs are English now.",
            ("German", "English"),
        ),
        (
            "with which flags is eslint run?",
            "The hook runs `eslint src --quiet`.",
            "I replaced that: `eslint src --max-warnings=0` looks at everything.",
            ("eslint src --quiet", "eslint src --max-warnings=0"),
        ),
        (
            "which package manager installs this?",
            "Everything is installed with yarn-berry.",
            "We switched from yarn-berry to pnpm.",
            ("yarn-berry", "pnpm"),
        ),
        ("用什么装依赖?", "依赖用 yarn-berry 装。", "把 yarn-berry 换成 pnpm 了。", ("yarn-berry", "pnpm")),
    ],
)
def test_an_old_value_is_told_with_the_one_that_a_newer_line_says_holds(
    question: str, old: str, new: str, expected: tuple[str, str]
):
    assert marks(question, said(1, old), said(9, new, "user")) == [expected, False]
    assert marks(question, said(9, new, "user"), said(1, old)) == [False, expected]


@pytest.mark.parametrize(
    "new",
    [
        "A failed booking is sent 9 times.",
        "Should a failed booking be sent 9 times from now on?",
        "A failed booking could be sent 9 times now.",
        "If that goes on, a failed booking is sent 9 times now.",
        "A failed booking is sent 4 times now, as before.",
        "A failed booking is sent 4 times to the bank and 9 times to us now.",
        "The lamp at the pier blinks 9 times now.",
        "A failed booking is sent after 9 seconds now.",
    ],
)
def test_without_a_sure_word_of_change_nothing_is_old(new: str):
    old = said(1, "A booking that fails is sent 4 times.")
    assert marks("how often is a failed booking sent?", old, said(9, new)) == [False, False]


def test_what_a_program_printed_changes_nothing():
    old = said(1, "A booking that fails is sent 4 times.")
    new = said(9, "A failed booking is sent 9 times now.", "output")
    assert marks("how often is a failed booking sent?", old, new) == [False, False]


def test_what_is_said_again_after_the_change_holds():
    old, new = said(1, "A booking that fails is sent 4 times."), said(5, "A failed booking is sent 9 times now.")
    again = said(9, "No: a failed booking is sent 4 times.")
    assert marks("how often is a failed booking sent?", old, new, again) == [False, False, False]


def test_a_newer_line_that_knows_less_of_what_is_asked_changes_nothing():
    old, new = said(1, "The upload of photos waits 5 seconds."), said(9, "The upload waits 12 seconds now.")
    assert marks("how long does the upload of photos wait?", old, new) == [("5 seconds", "12 seconds"), False]
    assert marks("how long do photos of the harbour take?", old, new) == [False, False]


def test_another_project_changes_nothing():
    old = said(1, "A booking that fails is sent 4 times.")
    new = said(9, "A failed booking is sent 9 times now.", project="/home/ines/pier")
    assert marks("how often is a failed booking sent?", old, new) == [False, False]


def test_a_number_said_just_before_in_the_same_talk_is_of_the_same():
    old = said(1, "4 times, a second apart.", session="talk", ordinal=2)
    new = said(1, "It tries 9 times now, so a printer may be away.", session="talk", ordinal=3)
    late = said(1, "It tries 9 times now, so a printer may be away.", session="talk", ordinal=7)
    assert marks("how often is a print tried?", old, new) == [("4 times", "9 times"), False]
    assert marks("how often is a print tried?", old, late) == [False, False]


def test_what_is_given_up_marks_older_lines_that_rest_on_it():
    question = "do I write a changelog entry?"
    old = said(1, "write a changelog entry for it", "user")
    whole = chunk(9, *_TALK, session="b")
    done, talk, new = (Evidence(whole, each, 1.0, each.text, number=n) for n, each in enumerate(whole.lines))
    assert marks(question, old, done, talk, new) == [True, True, False, False]
    assert marks("which port has the pier?", old, new) == [False, False]
    back = said(20, "the changelog is written by hand again", "user")
    assert marks(question, old, new, back) == [False, False, False]


_TALK = (
    ("command", "$ towncrier changelog"),
    ("user", "why is there a changelog at all?"),
    ("user", "no more changelog, please"),
)


def test_a_word_that_is_given_up_is_known_as_a_name_where_code_uses_it():
    old, new = (
        said(1, "print how long it took, with winston, as always", "user"),
        said(9, "The pier has no winston left."),
    )
    assert marks("how do I log?", old, new) == [False, False]
    code = said(2, '+winston.info("took")', "edit")
    assert marks("how do I log?", old, code, new) == [True, True, False]


def test_files_go_on_beside_what_was_moved_out_of_them():
    old, new = said(1, "Fares are computed in fares.py."), said(9, "I moved everything from fares.py to tariffs.py.")
    assert marks("where are fares computed?", old, new) == [False, False]


@pytest.mark.parametrize("question", ["which linter runs before pushing?", "what must I do before I deploy?"])
def test_before_an_act_to_come_is_not_the_past(question: str):
    assert not asks_for_the_past(understand(question, Frequencies.none()))


@pytest.mark.parametrize(
    "question",
    ["what did we use before pnpm?", "which tool was it before we moved?", "which one before switching to uv?"],
)
def test_before_a_change_is_the_past(question: str):
    assert asks_for_the_past(understand(question, Frequencies.none()))


def test_recall_tells_it_and_leaves_it_to_who_asks_for_the_past(tmp_path):
    store = ChunkStore.open(tmp_path / "store", create=True)
    store.replace_thread("codex", "s1", [chunk(1, ("agent", "A booking that fails is sent 4 times."))])
    store.replace_thread("codex", "s9", [chunk(9, ("agent", "A failed booking is sent 9 times now."))])

    def told(text: str, *without: str) -> str:
        found = Recaller(store, None, frozenset(without)).recall(Question(text=text, project=FERRY))
        return found.text

    mark = "(4 times is superseded by 9 times)"
    assert mark in told("how often is a failed booking sent?")
    assert mark not in told("how often was a failed booking sent before?")
    assert mark not in told("how often is a failed booking sent?", "changes")


def test_sixty_lines_are_looked_through_at_once():
    lines = [
        said(
            day, f"Berth {day} of the {day}th ferry is dredged every {day + 2} weeks, and Ines asks for it on Mondays."
        )
        for day in range(60)
    ]
    lines[40] = said(40, "The berth of the ferry is dredged every 70 weeks from now on.")
    query = understand("how often is the berth of the ferry dredged?", Frequencies.none())
    start_s = time.perf_counter()
    prose.noted(lines, query)
    assert time.perf_counter() - start_s < 1.0
