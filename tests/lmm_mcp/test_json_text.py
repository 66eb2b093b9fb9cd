"""One member of somebody else's JSON is changed, and not one character beside it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmm_mcp.integrations import json_text
from lmm_mcp.integrations.json_text import NoJson, drop, put

VALUE = {"command": "/opt/lmm/bin/lmm", "args": ["mcp"]}
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
objects = st.dictionaries(st.text(max_size=6).filter(lambda key: key != "servers"), values, min_size=1, max_size=4)


@given(objects, st.sampled_from([None, 1, 2, 4, "\t"]), st.booleans(), st.booleans())
def test_what_was_put_in_is_taken_out_to_the_character(value, indent, windows, ascii_only):
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    if windows:
        text = text.replace("\n", "\r\n")
    longer = put(text, ("servers", "lmm"), VALUE)
    assert json.loads(longer) == {**value, "servers": {"lmm": VALUE}}
    assert drop(longer, ("servers",)) == text


@given(objects)
def test_a_second_value_takes_the_place_of_the_first_and_nothing_else_moves(value):
    text = put(json.dumps(value, indent=2), ("servers", "lmm"), VALUE)
    changed = put(text, ("servers", "lmm"), {"command": "other"})
    assert json.loads(changed) == {**value, "servers": {"lmm": {"command": "other"}}}
    assert put(changed, ("servers", "lmm"), VALUE) == text


def test_indentation_and_line_ends_are_those_of_the_file():
    text = '{\r\n\t"a": 1\r\n}\r\n'
    assert put(text, ("b", "c"), [1]) == '{\r\n\t"a": 1,\r\n\t"b": {\r\n\t\t"c": [\r\n\t\t\t1\r\n\t\t]\r\n\t}\r\n}\r\n'


@pytest.mark.parametrize(
    ("text", "longer"),
    [
        ('{"a":1}', '{"a":1, "b": 2}'),
        ('{"a":1,"c":3}', '{"a":1,"c":3,"b": 2}'),
        ('{"a":1 , "c":3}', '{"a":1 , "c":3, "b": 2}'),
    ],
)
def test_a_file_on_one_line_stays_on_one_line(text, longer):
    assert put(text, ("b",), 2) == longer
    assert drop(longer, ("b",)) == text


def test_a_member_between_others_leaves_them_as_they_are():
    text = '{\n  "a": 1,\n  "b": 2,\n  "c": 3\n}'
    assert drop(text, ("b",)) == '{\n  "a": 1,\n  "c": 3\n}'
    assert drop(text, ("a",)) == '{\n  "b": 2,\n  "c": 3\n}'
    assert drop(text, ("none",)) == text


def test_of_a_key_that_stands_twice_the_last_one_holds_as_it_does_for_every_reader():
    text = '{"a": {"x": 1}, "a": {"y": 2}}'
    assert json.loads(put(text, ("a", "z"), 3)) == {"a": {"y": 2, "z": 3}}


def test_items_are_added_behind_the_last_one_and_taken_from_anywhere():
    text = '{\n  "list": [\n    {"n": 0}\n  ]\n}\n'
    longer = put(text, ("list", 1), {"n": 1})
    assert json.loads(longer) == {"list": [{"n": 0}, {"n": 1}]}
    assert drop(longer, ("list", 1)) == text
    assert json.loads(drop(longer, ("list", 0))) == {"list": [{"n": 1}]}


@pytest.mark.parametrize("text", ['{"servers": 1}', '{"servers": []}', '{"servers": "x"}', '{"servers": null}'])
def test_what_is_no_object_is_not_written_into(text):
    with pytest.raises(NoJson):
        put(text, ("servers", "lmm"), VALUE)


@pytest.mark.parametrize("text", ["{", '{"a": 1,}', "// c\n{}", "[" * 100_000, '{"a": }'])
def test_damage_is_named_with_its_line(text):
    with pytest.raises(NoJson):
        json_text.parsed(text)


def test_a_large_file_takes_no_time():
    text = json.dumps({f"key{n}": {"history": ["x" * 50] * 20} for n in range(5_000)}, indent=2)
    assert len(text) > 5_000_000
    assert drop(put(text, ("servers", "lmm"), VALUE), ("servers",)) == text
