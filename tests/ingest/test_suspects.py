"""Files that were being read when the process ended."""

import time
from pathlib import Path

import pytest

from ingest import suspects
from ingest.session import SourceFile
from ingest.suspects import Suspects

_never_left = []
"""Contexts that nobody leaves, as those of a process that was killed."""


def source(name: str = "a", size: int = 10) -> SourceFile:
    return SourceFile("codex", Path(f"/sessions/{name}.jsonl"), size, 5)


def started(folder: Path, version: str = "1.0") -> tuple[Suspects, str]:
    found = Suspects(folder, version)
    return found, found.begin()


def die_reading(folder: Path, *names: str) -> None:
    """What a process leaves that ends while it reads the last of these files."""
    found, _ = started(folder)
    for name in names[:-1]:
        with found.reading(source(name)):
            pass
    _never_left.append(found.reading(source(names[-1])))
    _never_left[-1].__enter__()
    found.end()


def test_the_file_that_was_being_read_is_suspected_and_no_other(tmp_path):
    die_reading(tmp_path, "a", "b")
    now, left = started(tmp_path)
    assert left
    assert now.is_suspect(source("b"))
    assert not now.is_suspect(source("a"))
    assert now.why_aside(source("b"), "r", is_patient=True) == ""


def test_who_ends_between_two_files_or_by_an_error_suspects_none(tmp_path):
    found, left = started(tmp_path)
    assert not left
    with pytest.raises(SystemExit), found.reading(source()):
        raise SystemExit
    with pytest.raises(OSError), found.reading(source()):
        raise OSError("no such file")
    found.end()
    now, left = started(tmp_path)
    assert not left and not now.is_suspect(source())


def test_want_of_memory_counts_as_an_end(tmp_path):
    found, _ = started(tmp_path)
    with pytest.raises(MemoryError), found.reading(source()):
        raise MemoryError
    assert started(tmp_path)[0].is_suspect(source())


def test_one_that_is_read_at_last_is_suspected_no_more(tmp_path):
    die_reading(tmp_path, "a")
    die_reading(tmp_path, "a")
    now, _ = started(tmp_path)
    with now.reading(source("a")):
        pass
    now.end()
    assert not started(tmp_path)[0].is_suspect(source("a"))


def test_one_that_fails_its_trial_is_left_aside_until_it_changes_or_another_version_comes(tmp_path):
    die_reading(tmp_path, "a")
    now, _ = started(tmp_path)
    now.tried(source(), "r1", passed=False)
    for is_patient in (True, False):
        assert now.why_aside(source(), "r1", is_patient=is_patient)
        assert not now.why_aside(source(size=11), "r1", is_patient=is_patient)
        assert not now.why_aside(source(), "r2", is_patient=is_patient)
        assert started(tmp_path)[0].why_aside(source(), "r1", is_patient=is_patient)
        assert not started(tmp_path, "1.1")[0].why_aside(source(), "r1", is_patient=is_patient)


def test_one_that_passes_its_trials_waits_after_three_ends_where_there_is_another_time(tmp_path):
    for _ in range(3):
        now, _ = started(tmp_path)
        assert not now.why_aside(source(), "r", is_patient=True)
        now.tried(source(), "r", passed=True)
        now.end()
        die_reading(tmp_path, "a")
    now, _ = started(tmp_path)
    assert "3 times" in now.why_aside(source(), "r", is_patient=True)
    assert now.why_aside(source(), "r", is_patient=False) == ""


def test_waiting_grows_and_has_an_end_whatever_the_clock_does(tmp_path, monkeypatch):
    die_reading(tmp_path, "a")
    now, _ = started(tmp_path)
    waits = []
    for _ in range(8):
        before_s = time.time()
        now.tried(source(), "r", passed=False)
        (known,) = now._known.values()
        waits.append(round(known.retry_ms / 1000 - before_s))
    assert waits == sorted(waits) and waits[0] == 240 and waits[-1] == suspects.LAST_RETRY_s
    later_ms = known.retry_ms + 1
    monkeypatch.setattr(suspects, "_now_ms", lambda: later_ms)
    assert not now.why_aside(source(), "r", is_patient=True)
    monkeypatch.setattr(suspects, "_now_ms", lambda: 0)  # set back by half a century
    assert not now.why_aside(source(), "r", is_patient=True)


def test_damaged_records_of_its_own_stop_nothing(tmp_path):
    (tmp_path / suspects.SUSPECTS).write_text("[1, 2]", encoding="utf-8")
    (tmp_path / suspects.READING).write_bytes(b"\xff\xfe")
    now, _ = started(tmp_path)
    assert not now.is_suspect(source())


def test_what_it_keeps_names_no_file(tmp_path):
    die_reading(tmp_path, "secret-project")
    started(tmp_path)[0].tried(source("secret-project"), "r", passed=False)
    kept = b"".join(each.read_bytes() for each in tmp_path.iterdir())
    assert b"secret" not in kept and b"sessions" not in kept
