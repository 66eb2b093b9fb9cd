"""A quote says what it belongs to: the file of an edit, the command of an output, the heads of a table's row."""

import pytest

from lmm_mcp.domain.chunk import Chunk, Line, Span
from lmm_mcp.recall import brief
from lmm_mcp.recall.evidence import MAX_LINE_chars, pick
from lmm_mcp.recall.labels import MAX_COMMAND_chars, label
from lmm_mcp.recall.query import understand
from lmm_mcp.store.frequencies import Frequencies


def chunk(*lines: tuple[str, str, str], files: tuple[str, ...] = ()) -> Chunk:
    """Each line: event, role, text."""
    return Chunk(
        id="a" * 16,
        agent="codex",
        session_id="s1",
        thread_id="s1",
        project="/home/ann/shop",
        branch="",
        first_ms=1,
        last_ms=1,
        part=0,
        ordinal=0,
        header="",
        lines=tuple(Line(role, text, Span(event, 0, len(text))) for event, role, text in lines),
        files=files,
        commands=(),
        content_hash="",
    )


def labels(made: Chunk) -> list[str]:
    return [label(made, n) for n in range(len(made.lines))]


def test_an_edit_names_its_file_and_whether_it_failed():
    made = chunk(
        ("e1", "path", "Edit /home/ann/shop/src/till.py"),
        ("e1", "edit", "+ROUND = 2"),
        ("e1", "edit", "# till.py rounds"),
        ("e2", "path", "Edit C:\\shop\\label printer.py  [failed]"),
        ("e2", "edit", "-WIDTH = 40"),
        ("e3", "edit", "+of an edit whose file stands in another passage"),
    )
    assert labels(made) == ["", "till.py", "", "", "label printer.py, failed", ""]


def test_an_edit_whose_path_stands_in_another_passage_is_of_the_only_file_of_its_own():
    assert labels(chunk(("e1", "edit", "+ROUND = 2"), files=("src/till.py",))) == ["till.py"]
    assert labels(chunk(("e1", "edit", "+ROUND = 2"), files=("src/till.py", "a.py"))) == [""]


def test_of_a_patch_of_several_files_each_line_names_its_own():
    made = chunk(
        ("e1", "path", "apply_patch a.py"),
        ("e1", "edit", "*** Update File: src/a.py"),
        ("e1", "edit", "+one = 1"),
        ("e1", "edit", "*** Add File: src/b.py"),
        ("e1", "edit", "+two = 2"),
    )
    assert labels(made)[2::2] == ["a.py", "b.py"]


def test_what_was_printed_names_its_command_without_the_way_there():
    made = chunk(
        ("c1", "command", "$ cd /home/ann/shop && pytest -q tests/till  [exit 1]"),
        ("r1", "error", "E assert 2 == 3"),
        ("r1", "output", "1 failed"),
        ("a1", "agent", "One fails."),
        ("r2", "output", "printed by nobody knows what"),
        ("c3", "command", "$ make " + "target " * 40),
        ("r3", "output", "done in 3 s"),
    )
    found = labels(made)
    assert found[:5] == ["", "pytest -q tests/till", "pytest -q tests/till", "", ""]
    assert found[6].startswith("make target target") and len(found[6]) <= MAX_COMMAND_chars


def test_a_row_of_a_table_brings_its_heads():
    made = chunk(
        ("a1", "agent", "These are the services:"),
        ("a1", "agent", "| service | port |"),
        ("a1", "agent", "| tides | 7311 |"),
        ("a1", "agent", "| cranes | 7312 |"),
        ("a2", "agent", "| berths | 7313 |"),
    )
    assert labels(made) == ["", "", "service | port", "service | port", ""]


@pytest.mark.parametrize("without", [(), ("labels",)])
def test_a_quote_with_its_label_keeps_to_its_length_and_stands_in_the_brief(without):
    made = chunk(("e1", "path", "Edit src/till.py"), ("e1", "edit", "+ROUND = 2  # " + "rounds the till " * 40))
    found = pick(understand("rounds the till", Frequencies.none()), [made], {made.id: 1.0}, without=without)
    first = found[0]
    assert (first.of, first.line.role) == ("" if without else "till.py", "edit")
    assert len(first.text) + len(first.of) <= MAX_LINE_chars
    written = brief.write(found, budget_tokens=300)
    assert ("edit (till.py): +ROUND" in written.text) == (not without)
