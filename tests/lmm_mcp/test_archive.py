import os
import stat
from pathlib import Path

import pytest

from lmm_mcp.domain.event import Event, Thread
from lmm_mcp.errors import ArchiveError
from lmm_mcp.store.archive import Archive

THREAD = Thread("codex", "s1", "s1", title="first try", cwd="/work/app")


def prompt(name: str, text: str) -> Event:
    return Event(name, "prompt", text, at_ms=1_000)


def ids(archive: Archive, thread: Thread = THREAD) -> list[str]:
    found = archive.read(thread.agent, thread.thread_id)
    return [event.id for event in found[1]] if found else []


def test_what_was_appended_is_read_back_equal(tmp_path: Path) -> None:
    call = Event(
        "e2", "call", "ls", 2_000, "c1", "shell", "ls", ("a.py", "b.py"), None, None, "g", "/work/app", "main", True
    )
    result = Event("e3", "result", "boom\r\n\u2028end", 0, call_id="c1", exit_code=1, failed=True)
    Archive(tmp_path).append(THREAD, [prompt("e1", "数据库 🙂"), call, result])
    assert Archive(tmp_path).read("codex", "s1") == (THREAD, [prompt("e1", "数据库 🙂"), call, result])


def test_an_unknown_thread_is_none(tmp_path: Path) -> None:
    assert Archive(tmp_path).read("codex", "nobody") is None
    assert Archive(tmp_path).rewrite("codex", "nobody", lambda _: True) == 0


def test_a_revised_event_takes_the_place_of_its_first_appearance(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.append(THREAD, [prompt("e1", "old"), prompt("e2", "second")])
    archive.append(THREAD, [prompt("e3", "third"), prompt("e1", "new")])
    found = archive.read("codex", "s1")
    assert found is not None
    assert [(event.id, event.text) for event in found[1]] == [("e1", "new"), ("e2", "second"), ("e3", "third")]
    assert [r.text for r in archive.records("codex", "s1") if isinstance(r, Event)] == ["old", "second", "third", "new"]


def test_what_is_known_of_a_thread_grows_and_is_not_forgotten(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.append(THREAD, [prompt("e1", "x")])
    archive.append(Thread("codex", "s1", "s1", branch="main", title="better title"), [prompt("e2", "y")])
    expected = Thread("codex", "s1", "s1", title="better title", cwd="/work/app", branch="main")
    found = archive.read("codex", "s1")
    assert found is not None and found[0] == expected
    assert [thread for _, thread in archive.threads()] == [expected]


def test_a_crash_at_any_byte_of_the_last_frame_loses_that_frame_only_and_the_next_append_repairs(
    tmp_path: Path,
) -> None:
    archive = Archive(tmp_path)
    archive.append(THREAD, [prompt("e1", "first")])
    path = archive.path("codex", "s1")
    first = path.stat().st_size
    archive.append(THREAD, [prompt("e2", "second")])
    whole = path.read_bytes()
    for size in range(first, len(whole)):
        path.write_bytes(whole[:size])
        assert ids(Archive(tmp_path)) == ["e1"], size
        assert len(list(Archive(tmp_path).threads())) == 1
        Archive(tmp_path).append(THREAD, [prompt("e3", "third")])
        assert ids(Archive(tmp_path)) == ["e1", "e3"], size


def test_a_crash_at_any_byte_of_the_very_first_frame_leaves_nothing_and_the_next_append_starts_anew(
    tmp_path: Path,
) -> None:
    archive = Archive(tmp_path)
    archive.append(THREAD, [prompt("e1", "first")])
    path = archive.path("codex", "s1")
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert Archive(tmp_path).read("codex", "s1") is None
        assert list(Archive(tmp_path).threads()) == []
        Archive(tmp_path).append(THREAD, [prompt("e2", "again")])
        assert ids(Archive(tmp_path)) == ["e2"]


def test_zeros_that_a_power_cut_left_at_the_end_count_as_torn(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.append(THREAD, [prompt("e1", "first")])
    with archive.path("codex", "s1").open("ab") as file:
        file.write(bytes(300))
    assert ids(Archive(tmp_path)) == ["e1"]
    Archive(tmp_path).append(THREAD, [prompt("e2", "second")])
    assert ids(Archive(tmp_path)) == ["e1", "e2"]


def test_a_writer_that_sees_its_own_torn_write_repairs_it(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.append(THREAD, [prompt("e1", "first")])
    with archive.path("codex", "s1").open("ab") as file:
        file.write(b"\x28\xb5\x2f")
    archive.append(THREAD, [prompt("e2", "second")])
    assert ids(archive) == ["e1", "e2"]


def test_damage_before_the_last_frame_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.append(THREAD, [prompt("e1", "first")])
    path = archive.path("codex", "s1")
    first = path.stat().st_size
    archive.append(THREAD, [prompt("e2", "second")])
    whole = path.read_bytes()
    for at in range(first):
        # Bit 1 of the header is the one that zstd lets be anything; it changes nothing that is read.
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        with pytest.raises(ArchiveError, match=path.name.replace(".", r"\.")):
            Archive(tmp_path).read("codex", "s1")
        try:
            Archive(tmp_path).append(THREAD, [prompt("e3", "third")])
        except ArchiveError:
            assert path.stat().st_size == len(whole)
        else:
            assert path.stat().st_size > len(whole), "nothing behind the damage may be cut off"


def test_rewriting_drops_events_in_all_their_versions(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.append(THREAD, [prompt("e1", "keep"), prompt("e2", "drop")])
    archive.append(THREAD, [prompt("e2", "drop, revised"), prompt("e1", "keep, revised")])
    renamed = Thread("codex", "s1", "s1")
    assert archive.rewrite("codex", "s1", lambda event: event.id != "e2", thread=renamed) == 1
    assert [(type(r).__name__, getattr(r, "text", "")) for r in archive.records("codex", "s1")] == [
        ("Thread", ""),
        ("Event", "keep, revised"),
    ]
    archive.append(THREAD, [prompt("e3", "more")])
    assert ids(archive) == ["e1", "e3"]


def test_a_thread_rewritten_to_nothing_is_gone(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.append(THREAD, [prompt("e1", "x"), prompt("e2", "y")])
    assert archive.rewrite("codex", "s1", lambda _: False) == 2
    assert archive.read("codex", "s1") is None
    assert not archive.path("codex", "s1").exists()


def test_leftovers_of_an_interrupted_rewrite_are_no_threads_and_are_swept(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.append(THREAD, [prompt("e1", "x")])
    path = archive.path("codex", "s1")
    path.with_name(path.name + ".new").write_bytes(path.read_bytes())
    assert len(list(archive.threads())) == 1
    assert archive.sweep() == 1
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name]


def test_appends_without_sync_are_readable_at_once_and_flushed_together(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    for number in range(3):
        archive.append(Thread("codex", f"s{number}", f"s{number}"), [prompt("e1", "x")], sync=False)
    assert len(list(archive.threads())) == 3
    archive.flush()
    assert archive.sizes()["codex"].num_threads == 3
    assert archive.sizes()["codex"].num_bytes == sum(p.stat().st_size for p in tmp_path.rglob("*.zst"))


@pytest.mark.skipif(os.name != "posix", reason="file modes are a matter of posix systems")
def test_files_can_be_read_by_their_user_alone(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    archive.append(THREAD, [prompt("e1", "x"), prompt("e2", "y")])
    archive.rewrite("codex", "s1", lambda event: event.id == "e1")
    path = archive.path("codex", "s1")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_half_a_surrogate_pair_becomes_one_replacement_sign(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.append(THREAD, [Event("e1", "call", "a\ud83db", 0, paths=("x\udc00",))])
    found = archive.read("codex", "s1")
    assert found is not None
    assert (found[1][0].text, found[1][0].paths) == ("a\ufffdb", ("x\ufffd",))


def test_an_agent_name_that_is_a_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="agent name"):
        Archive(tmp_path).append(Thread("../codex", "s", "s"), [])
