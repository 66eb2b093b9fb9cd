"""Values that edits replace: literals only, with the name that they are the value of, and where they stand."""

import pytest

from ingest.edits import Changed, changed
from ingest.facts import observe
from ingest.turns import pair_turns
from lmm_mcp.domain.event import Event, Thread
from lmm_mcp.store.reconciling import reconcile

DAY_ms = 86_400_000


def edit(*lines: str, path: str = "bakery/ovens/clock.py", day: int = 1) -> Event:
    text = "\n".join((path, *lines))
    return Event(f"e{day}", "call", text, day * DAY_ms, call_id=f"c{day}", tool="Edit", paths=(path,))


def told(*lines: str, **more: str) -> list[tuple[str, str, str]]:
    return [(each.subject, each.old, each.new) for each in changed(edit(*lines, **more))]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("PAUSE_s = 5", "PAUSE_s = 12", ("PAUSE_s", "5", "12")),
        ('HOST = "https://old.flour.example/v2"', 'HOST = "https://flour.example/v3"', ("HOST", "https://old.flour.example/v2", "https://flour.example/v3")),
        ("pub const PAUSE: Duration = Duration::from_secs(600);", "pub const PAUSE: Duration = Duration::from_secs(150);", ("PAUSE", "600", "150")),
        ("FROM rust:1.74-slim", "FROM rust:1.86-slim", ("FROM …", "rust:1.74-slim", "rust:1.86-slim")),
        ("/loaves/ @ines", "/loaves/ @tarik", ("/loaves / …", "@ines", "@tarik")),
        ('  "sell.rye-trial": { "on": false }', '  "sell.rye": { "on": false }', ('… : { "on" : false }', "sell.rye-trial", "sell.rye")),
    ],
)  # fmt: skip
def test_a_literal_that_takes_the_place_of_another_is_found_with_its_name(old, new, expected):
    name, was, now = expected
    file = "ovens/clock.py" if "=" in old else "ovens/bake.rules"
    assert told(f"-{old}", f"+{new}", path=f"bakery/{file}") == [(f"{file}: {name}", was, now)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return bake(loaf)", "return bake(roll)"),
        ("rounds = 3", "rounds = count(loaves)"),
        ("rounds = 3", "pauses = 4"),
        ("for loaf in loaves:", "for loaf in reversed(loaves):"),
        ("rounds = 3", "rounds  =  3"),
        ("1, 2, 3, 4", "5, 6, 7, 4"),
        ('says = "bake it now"', 'says = "bake it soon"'),
        ("if pause == 3:", "if pause == 4:"),
        ('  "rye-flour",', '  "oat-flour",'),
    ],
)
def test_what_code_does_is_no_value(old, new):
    assert told(f"-{old}", f"+{new}") == []


def test_a_line_without_a_name_is_called_by_the_one_above():
    lines = (" ports:", '-  - "8043:8000"', '+  - "8061:8000"')
    assert told(*lines, path="compose.yaml") == [("compose.yaml: ports: - …", "8043:8000", "8061:8000")]
    assert told(*lines[1:], path="compose.yaml") == []


def test_lines_find_their_successors_among_others():
    found = told("-import clock", "-PAUSE_s = 5", "+PAUSE_s = 12", "+import bell", "+LOUD = 3")
    assert found == [("ovens/clock.py: PAUSE_s", "5", "12")]


def test_a_patch_names_its_files_and_every_value_stands_where_it_says():
    patch = "*** Begin Patch\n*** Update File: a.toml\n@@\n-loaves = 4\n+loaves = 6\n*** Update File: b.toml\n@@\n-rolls = 40\n+rolls = 60\n*** End Patch"
    event = Event("e1", "call", patch, 1, tool="apply_patch", paths=("a.toml", "b.toml"))
    found = list(changed(event))
    assert [(each.subject, each.old, each.new) for each in found] == [
        ("a.toml: loaves", "4", "6"),
        ("b.toml: rolls", "40", "60"),
    ]
    for each in found:
        assert patch[each.old_start :].startswith(each.old)
        assert patch[each.new_start :].startswith(each.new)


def test_commands_and_rewrites_are_passed_over():
    shell = Event("e1", "call", "-a = 1\n+a = 2", 1, tool="Bash", command="-a = 1\n+a = 2", paths=("a",))
    assert list(changed(shell)) == []
    many = [f"{sign}{n}_loaf = {n}{sign == '+' or ''}" for sign in "-+" for n in range(60)]
    assert told(*many) == []


def test_the_value_that_an_edit_brings_holds_whatever_its_name():
    for old, new in (("5", "12"), ("12", "5")):
        thread = Thread("codex", "s1", "s1")
        events = [
            edit(f"-PAUSE_s = {old}", f"+PAUSE_s = {new}"),
            Event("r1", "result", "done", DAY_ms + 1, call_id="c1", failed=False),
        ]
        facts = reconcile(observe(thread, list(pair_turns(thread, events)), project="bakery"))
        assert [(each.value, each.relation) for each in facts if each.holds] == [(new, "setting")]
        (before,) = (each for each in facts if not each.holds)
        assert (before.value, before.until_ms) == (old, DAY_ms)


def test_an_edit_that_failed_changed_nothing():
    thread = Thread("codex", "s1", "s1")
    events = [
        edit("-PAUSE_s = 5", "+PAUSE_s = 12"),
        Event("r1", "result", "no such line", DAY_ms + 1, call_id="c1", failed=True),
    ]
    assert observe(thread, list(pair_turns(thread, events)), project="bakery") == []


def test_places_are_counted_in_the_whole_text():
    (found,) = changed(edit("-PAUSE_s = 5", "+PAUSE_s = 12"))
    text = edit("-PAUSE_s = 5", "+PAUSE_s = 12").text
    assert isinstance(found, Changed)
    assert (text[found.old_start], text[found.new_start : found.new_start + 2]) == ("5", "12")
