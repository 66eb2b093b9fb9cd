"""Looking at the files that changed last, and at new ones where nobody tells."""

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from ingest.polling import NUM_FILES, Poll, POLL_s, is_settled, stamp_of


def test_a_file_that_grew_is_seen_once(tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_text("one")
    poll = Poll()
    poll.renew([path], [])
    assert poll.look(10) == []
    path.write_text("one two")
    assert poll.look(10 + POLL_s / 2) == []  # not yet
    assert poll.look(20) == [path]
    assert poll.look(30) == []


def test_what_changed_between_the_list_and_its_renewal_is_not_missed(tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_text("one")
    poll = Poll()
    poll.renew([path], [])
    path.write_text("one two")
    poll.renew([path], [])
    assert poll.look(10) == [path]


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_text("one")
    poll = Poll()
    before = path.stat()
    poll.renew([path], [])
    path.write_text("two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert poll.look(10) == [path]


def test_new_files_are_seen_in_folders_that_are_not_watched_and_in_new_folders_below(tmp_path):
    known = tmp_path / "p" / "s1.jsonl"
    known.parent.mkdir()
    known.write_text("one")
    poll = Poll()
    poll.renew([known], [tmp_path])
    beside, deep = tmp_path / "p" / "s2.jsonl", tmp_path / "q" / "r" / "s3.jsonl"
    beside.write_text("two")
    deep.parent.mkdir(parents=True)
    deep.write_text("three")
    assert sorted(poll.look(10)) == [beside, deep]
    (deep.parent / "s4.jsonl").write_text("four")
    assert poll.look(20) == [deep.parent / "s4.jsonl"]


def test_a_new_file_is_looked_at_from_then_on_and_of_very_many_new_ones_only_some(tmp_path):
    poll = Poll(num_files=2, num_folders=1)
    poll.renew([], [tmp_path])
    paths = [tmp_path / f"{n}.jsonl" for n in range(9)]
    for path in paths:
        path.write_text("one")
    assert poll.look(10) == paths
    for path in paths:
        path.write_text("one two")
    assert poll.look(20) == paths[:4]
    assert poll.look(30) == []


def test_a_file_that_vanishes_is_no_news_until_it_is_back(tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_text("one")
    poll = Poll()
    poll.renew([path], [])
    path.unlink()
    assert poll.look(10) == []
    path.write_text("one")
    assert poll.look(20) == [path]


def test_only_the_newest_are_looked_at(tmp_path):
    paths = [tmp_path / f"{n}.jsonl" for n in range(NUM_FILES + 5)]
    for path in paths:
        path.write_text("one")
    poll = Poll()
    poll.renew(paths, [])
    for path in paths:
        path.write_text("one two")
    assert poll.look(10) == paths[:NUM_FILES]


def test_on_a_slow_disk_looking_becomes_rare(tmp_path, monkeypatch):
    path = tmp_path / "s.jsonl"
    path.write_text("one")
    poll = Poll()
    poll.renew([path], [])
    hours = iter(range(0, 360_000, 3_600))
    monkeypatch.setattr(time, "monotonic", lambda: next(hours))
    poll.look(10)
    assert poll.next_s() > 10 + 3_600 * 10


def test_a_commit_changes_the_stamp_of_a_database_though_it_lies_in_the_log(tmp_path):
    path = tmp_path / "agent.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE said (text)")
        before = stamp_of(path)
        main = path.stat()
        connection.execute("INSERT INTO said VALUES ('hello')")
        assert (path.stat().st_size, path.stat().st_mtime_ns) == (main.st_size, main.st_mtime_ns)
        assert stamp_of(path) != before


def test_looking_at_a_database_leaves_the_locks_of_this_process_alone(tmp_path):
    path = tmp_path / "agent.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE said (text)")
        connection.execute("BEGIN IMMEDIATE")
        locks = Path("/proc/locks")
        if not locks.exists():
            pytest.skip("only Linux tells who holds a lock")
        inode = f":{path.stat().st_ino} "
        assert inode in locks.read_text()
        stamp_of(path)
        assert inode in locks.read_text()


def test_a_file_is_settled_once_the_clock_must_have_moved_on(tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_text("one")
    now_ns = path.stat().st_mtime_ns
    stamp = stamp_of(path)
    assert not is_settled(stamp, now_ns)
    assert is_settled(stamp, now_ns + 5_000_000_000)
    assert is_settled(stamp, now_ns - 3_600_000_000_000)  # the clock was set back
