import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from ingest.readers.base import Decoded, SLICE_bytes, json_lines, parse_time_ms, prefix_hash, without_base64
from ingest.session import Cursor, ReadTo, Unreadable


def written(folder: Path, content: bytes) -> Path:
    path = folder / "session.jsonl"
    path.write_bytes(content)
    return path


def objects(items: Iterable[Decoded]) -> list[tuple[int, object]]:
    return [item for item in items if isinstance(item, tuple)]


def problems(items: Iterable[Decoded]) -> list[int]:
    return [item.line for item in items if isinstance(item, Unreadable)]


def end(items: Iterable[Decoded]) -> Cursor:
    *_, last = items
    assert isinstance(last, ReadTo)
    return last.cursor


def test_each_complete_line_comes_out_with_its_number(tmp_path: Path) -> None:
    items = list(json_lines(written(tmp_path, b'{"a": 1}\n{"a": 2}\n'), Cursor()))
    assert items == [(1, {"a": 1}), (2, {"a": 2}), ReadTo(Cursor(offset=18, line=2))]


def test_reading_goes_on_where_it_stopped_and_keeps_the_context(tmp_path: Path) -> None:
    path = written(tmp_path, b'{"a": 1}\n')
    cursor = end(json_lines(path, Cursor(context={"session": "s"})))
    with path.open("ab") as stream:
        stream.write(b'{"a": 2}\n')
    assert list(json_lines(path, cursor)) == [(2, {"a": 2}), ReadTo(Cursor(18, 2, {"session": "s"}))]


def test_a_torn_last_line_waits_until_it_is_whole(tmp_path: Path) -> None:
    path = written(tmp_path, b'{"a": 1}\n{"a": 2')
    items = list(json_lines(path, Cursor()))
    assert items == [(1, {"a": 1}), ReadTo(Cursor(offset=9, line=1))]
    with path.open("ab") as stream:
        stream.write(b"}\n")
    assert objects(json_lines(path, end(items))) == [(2, {"a": 2})]


def test_a_whole_object_needs_no_newline_and_is_read_once(tmp_path: Path) -> None:
    path = written(tmp_path, b'{"a": 1}\n{"a": 2}')
    items = list(json_lines(path, Cursor()))
    assert objects(items) == [(1, {"a": 1}), (2, {"a": 2})]
    with path.open("ab") as stream:
        stream.write(b'\n{"a": 3}\n')
    assert objects(json_lines(path, end(items))) == [(3, {"a": 3})]


def test_a_file_that_will_never_grow_is_read_to_its_last_byte(tmp_path: Path) -> None:
    items = list(json_lines(written(tmp_path, b'{"a": 1}\n{"a": 2}'), Cursor(), final=True))
    assert objects(items) == [(1, {"a": 1}), (2, {"a": 2})]
    assert end(items) == Cursor(offset=17, line=2)


def test_two_objects_on_one_line_both_come_out(tmp_path: Path) -> None:
    items = list(json_lines(written(tmp_path, b'{"a": 1}{"a": 2} {"a": 3}\n'), Cursor()))
    assert objects(items) == [(1, {"a": 1}), (1, {"a": 2}), (1, {"a": 3})]
    assert problems(items) == []


def test_what_stands_before_the_damage_on_a_line_is_kept(tmp_path: Path) -> None:
    items = list(json_lines(written(tmp_path, b'{"a": 1}{"a": \n{"a": 2}\n'), Cursor()))
    assert objects(items) == [(1, {"a": 1}), (2, {"a": 2})]
    assert problems(items) == [1]


def test_invalid_utf8_is_replaced_where_the_line_is_readable_then(tmp_path: Path) -> None:
    items = list(json_lines(written(tmp_path, b'{"a": "\xff!"}\n\xff\xfe\n'), Cursor()))
    assert objects(items) == [(1, {"a": "\ufffd!"})]
    assert problems(items) == [2]


def test_half_an_emoji_becomes_text_that_can_be_written_again(tmp_path: Path) -> None:
    items = list(json_lines(written(tmp_path, b'{"a": ["\\ud83d cut"], "\\ud83d": 1}\n'), Cursor()))
    assert objects(items) == [(1, {"a": ["\ufffd cut"], "\ufffd": 1})]


def test_blank_lines_and_nul_bytes_are_passed_over(tmp_path: Path) -> None:
    items = list(json_lines(written(tmp_path, b'\n  \r\n\0\0\0\n\0\0{"a": 1}\r\n'), Cursor()))
    assert items == [(4, {"a": 1}), ReadTo(Cursor(offset=21, line=4))]


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    assert objects(json_lines(written(tmp_path, b'\xef\xbb\xbf{"a": 1}\n'), Cursor())) == [(1, {"a": 1})]


def test_what_is_json_but_no_object_is_said(tmp_path: Path) -> None:
    items = list(json_lines(written(tmp_path, b'[1]\n7\n"x"\n{"a": 1}[2]\n'), Cursor()))
    assert problems(items) == [1, 2, 3, 4]
    assert objects(items) == [(4, {"a": 1})]


def test_no_problem_ever_quotes_the_line(tmp_path: Path) -> None:
    items = json_lines(written(tmp_path, b'{"password": "hunter2\n["hunter2"]\n"hunter2"\n'), Cursor())
    said = [item.problem for item in items if isinstance(item, Unreadable)]
    assert len(said) == 3
    assert not any("hunter2" in problem for problem in said)


def test_a_line_over_the_cap_is_skipped_and_counted(tmp_path: Path) -> None:
    long = json.dumps({"a": "x" * 5_000_000}).encode()  # several blocks
    path = written(tmp_path, b'{"a": 1}\n' + long + b'\n{"a": 2}\n')
    items = list(json_lines(path, Cursor(), max_line_bytes=1000))
    assert objects(items) == [(1, {"a": 1}), (3, {"a": 2})]
    assert problems(items) == [2]
    assert end(items).offset == path.stat().st_size


def test_a_large_file_is_read_in_slices_that_join_without_a_seam(tmp_path: Path) -> None:
    path = written(tmp_path, b"".join(json.dumps({"n": n, "a": "x" * 1000}).encode() + b"\n" for n in range(9000)))
    cursor, found, num_slices = Cursor(context={"session": "s"}), [], 0
    while cursor.offset < path.stat().st_size:
        items = list(json_lines(path, cursor, slice_bytes=SLICE_bytes))
        found += objects(items)
        assert SLICE_bytes <= end(items).offset - cursor.offset < SLICE_bytes + 2000 or end(items).line == 9000
        cursor, num_slices = end(items), num_slices + 1
    assert [(line, item["n"]) for line, item in found] == [(n + 1, n) for n in range(9000)]
    assert (cursor.context, num_slices) == ({"session": "s"}, 3)


def test_a_line_of_several_blocks_comes_out_whole(tmp_path: Path) -> None:
    long = {"a": "x" * 5_000_000}
    items = json_lines(written(tmp_path, json.dumps(long).encode() + b'\n{"a": 2}\n'), Cursor())
    assert objects(items) == [(1, long), (2, {"a": 2})]


def test_an_empty_file_says_only_where_it_ends(tmp_path: Path) -> None:
    assert list(json_lines(written(tmp_path, b""), Cursor())) == [ReadTo(Cursor())]


def test_a_file_shorter_than_the_cursor_yields_nothing(tmp_path: Path) -> None:
    cursor = Cursor(offset=900, line=9)
    assert list(json_lines(written(tmp_path, b'{"a": 1}\n'), cursor)) == [ReadTo(cursor)]


def test_a_file_that_shrinks_while_read_ends_early(tmp_path: Path) -> None:
    path = written(tmp_path, b'{"a": 1}\n' * 300_000)
    items = json_lines(path, Cursor())
    assert next(items) == (1, {"a": 1})
    os.truncate(path, 0)
    rest = list(items)
    assert problems(rest) == []
    assert end(rest).offset <= 2_700_000


def test_json_nested_without_end_is_unreadable_and_nothing_worse(tmp_path: Path) -> None:
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    almost = b'{"a":' * 900 + b'"\\ud83d"' + b"}" * 900
    items = list(json_lines(written(tmp_path, deep + b"\n" + almost + b'\n{"a": 1}\n'), Cursor()))
    assert problems(items)[0] == 1
    assert objects(items)[-1] == (3, {"a": 1})


@pytest.mark.skipif(sys.platform == "win32", reason="another error there")
def test_a_folder_in_place_of_a_file_is_an_error_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        list(json_lines(tmp_path, Cursor()))


def test_the_prefix_hash_sees_the_beginning_only(tmp_path: Path) -> None:
    path = written(tmp_path, b"a" * 5000)
    before = prefix_hash(path)
    path.write_bytes(b"a" * 5000 + b"more")
    assert prefix_hash(path) == before
    path.write_bytes(b"b" + b"a" * 5000)
    assert prefix_hash(path) != before
    assert prefix_hash(path, 10) == prefix_hash(written(tmp_path, b"b" + b"a" * 9), 10)


@pytest.mark.parametrize(
    ("value", "expected_ms"),
    [
        ("2026-03-02T09:00:00.123Z", 1772442000123),
        ("2026-03-02T09:00:00.123456789Z", 1772442000123),
        ("2026-03-02T11:00:00+02:00", 1772442000000),
        ("2026-03-02T09:00:00", 1772442000000),
        (1772442000, 1772442000000),
        (1772442000.5, 1772442000500),
        (1772442000123, 1772442000123),
        ("0001-01-01T00:00:00Z", 0),
        ("yesterday", 0),
        ("", 0),
        (None, 0),
        (True, 0),
        (float("nan"), 0),
        (-5, 0),
        ([], 0),
    ],
)
def test_times_are_understood_in_every_shape_agents_write(value: object, expected_ms: int) -> None:
    assert parse_time_ms(value) == expected_ms


def test_base64_is_cut_wherever_it_stands_and_short_runs_are_kept() -> None:
    for before in ("", "x ", "a\n" * 700):
        cut = without_base64(f"{before}{'QUJD' * 500}== end")
        assert cut == f"{before}[base64, 2,002 characters] end"
    kept = f"sha {'ab' * 500} path {'/usr/lib' * 100}"
    assert without_base64(kept) == kept
