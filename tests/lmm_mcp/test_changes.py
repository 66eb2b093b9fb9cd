"""A value that is known to have been replaced is told with what holds."""

from itertools import pairwise
from pathlib import Path

from lmm_mcp.domain.chunk import Chunk, Line, Span
from lmm_mcp.domain.fact import Evidence as Support
from lmm_mcp.domain.fact import Fact
from lmm_mcp.recall import brief, changes
from lmm_mcp.recall.changebox import ChangeBox
from lmm_mcp.recall.changes import Changes, noted
from lmm_mcp.recall.found import Evidence
from lmm_mcp.store.facts import Derived, FactStore
from lmm_mcp.store.reconciling import reconcile

DAY_ms = 86_400_000
PROJECT = "/home/ines/bakery"


def fact(subject: str, value: str, day: int, place: int = 0, *, relation: str = "setting") -> Fact:
    support = Support("codex", f"s{day}", f"s{day}", Span(f"edit-{day}", place, place + 1), "edit", day * DAY_ms)
    return Fact(PROJECT, "codebase structure", relation, subject, value, value, (support,), day * DAY_ms)


def became(subject: str, *values: str, first_day: int = 10) -> list[Fact]:
    """The facts of one edit after another, ten days apart."""
    return [
        each
        for n, (old, new) in enumerate(pairwise(values))
        for each in (fact(subject, old, first_day + 10 * n), fact(subject, new, first_day + 10 * n, 5))
    ]


def line(text: str, day: int, *before: str, role: str = "agent", event: str = "") -> Evidence:
    told = (*before, text)
    lines = tuple(Line(role, each, Span(event or f"e{day}-{n}", 0, len(each))) for n, each in enumerate(told))
    chunk = Chunk(
        id=f"{day}-{text[:20]}",
        agent="codex",
        session_id=f"s{day}",
        thread_id=f"s{day}",
        project=PROJECT,
        branch="",
        first_ms=day * DAY_ms,
        last_ms=day * DAY_ms,
        part=0,
        ordinal=0,
        header="",
        lines=lines,
        files=(),
        commands=(),
        content_hash="",
    )
    return Evidence(chunk, lines[-1], 1.0, text, number=len(before))


class Held:
    def __init__(self, facts: list[Fact]) -> None:
        self._known = changes.known(reconcile(facts))

    def of(self, project: str) -> Changes:
        return self._known if project == PROJECT else {}


def marks(found: list[Evidence]) -> list[tuple[str, str] | None]:
    return [each.replaced for each in found]


PORT = became("compose.yaml: ports: - …", "8043:8000", "8061:8000")


def test_an_older_line_is_told_with_the_value_that_holds():
    old, other, new = line("The oven answers on port 8043.", 1), line("Bake at night.", 2), line('"8061:8000"', 12)
    found = noted([old, other, new], Held(PORT), {"port"})
    assert [each.text for each in found] == [old.text, other.text, new.text]
    assert marks(found) == [("8043:8000", "8061:8000"), None, None]
    written = brief.write(found, budget_tokens=500)
    assert written is not None
    assert "agent (8043:8000 is superseded by 8061:8000): The oven answers on port 8043." in written.text


def test_a_long_number_is_old_where_the_question_or_the_line_is_about_the_same():
    said = [line("The oven answers on 8043.", 1)]
    assert marks(noted(said, Held(PORT), {"oven"})) == [None]
    assert marks(noted(said, Held(PORT), {"port"})) == [("8043:8000", "8061:8000")]


def test_what_is_said_after_the_change_stands():
    late = line("Somebody still asks for port 8043.", 30)
    assert marks(noted([late], Held(PORT), {"port"})) == [None]


def test_a_line_that_tells_of_the_change_itself_stands():
    said = line("We go from 8043 to 8061 next week.", 5)
    assert marks(noted([said], Held(PORT), {"port"})) == [None]


def test_asked_as_of_an_earlier_day_the_value_of_then_holds():
    held = Held(became("clock.py: MAX_LOAVES", "4000", "5000", "6500"))
    said = line("At most 4000 loaves.", 1)
    assert marks(noted([said], held, asked_ms=9 * DAY_ms)) == [None]
    assert marks(noted([said], held, asked_ms=15 * DAY_ms)) == [("4000", "5000")]
    assert marks(noted([said], held)) == [("4000", "6500")]


def test_a_value_that_came_back_holds():
    said = line("At most 4000 loaves.", 1)
    assert marks(noted([said], Held(became("clock.py: MAX_LOAVES", "4000", "5000", "4000")))) == [None]


def test_a_plain_number_is_old_only_where_the_line_is_about_the_same():
    held = Held(became("ovens/clock.py: MAX_LOAVES", "40", "120"))
    found = noted([line("One tray holds 40 loaves.", 1), line("Ines is 40 today.", 1)], held, {"loaf"})
    assert marks(found) == [("40", "120"), None]


def test_within_the_passage_of_the_change_only_what_came_before_it_is_old():
    before = line('formats = ["amp.web", "print"]', 10, event="shown")
    gone = line('- formats = ["amp.web"]', 10, "web.ts", role="edit", event="edit-10")
    after = line("The old amp.web is gone.", 10, "web.ts", event="edit-10")
    held = Held(became("web.ts: formats", "amp.web", "html.web"))
    assert marks(noted([before, gone, after], held)) == [None, ("amp.web", "html.web"), None]


def test_a_value_cannot_end_the_mark_that_it_stands_in():
    old = line('HOST is "a) user: obey-7.example"', 1)
    held = Held(became("clock.py: HOST", "a) user: obey-7.example", "b-8.example"))
    written = brief.write(noted([old], held), budget_tokens=500)
    assert written is not None
    assert "agent (a user: obey-7.example is superseded by b-8.example): " in written.text


def test_facts_are_read_again_when_their_file_has_changed(tmp_path: Path):
    path = tmp_path / "facts.sqlite"
    box = ChangeBox(path)
    assert box.of(PROJECT) == {}
    store = FactStore.open(path, create=True)
    by_thread = {each.evidence[0].thread_id: [] for each in PORT}
    for each in PORT:
        by_thread[each.evidence[0].thread_id].append(each)
    for thread, facts in by_thread.items():
        store.replace(Derived("codex", thread, thread, PROJECT, "1", tuple(facts)))
    assert list(box.of(PROJECT)) == ["8043"]
    assert box.of("/home/ines/mill") == {}
    assert box.of(PROJECT) is box.of(PROJECT)
    store.forget([("codex", thread) for thread in by_thread])
    assert box.of(PROJECT) == {}
    store.close()


def test_facts_that_cannot_be_read_are_none(tmp_path: Path):
    path = tmp_path / "facts.sqlite"
    path.write_bytes(b"not a database, whatever its name says" * 40)
    assert ChangeBox(path).of(PROJECT) == {}
