"""What happens at the limits of disk and memory, with the real ingest process."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest import service
from ingest.limits import Watch
from lmm_mcp import alarms, children, config, doctor, limits, memory, notes, restarts, samples
from lmm_mcp.config import Limits
from lmm_mcp.limits import DiskUse, TOO_MUCH_MEMORY_code
from lmm_mcp.paths import Home
from lmm_mcp.server import status
from lmm_mcp.server.desk import Desk

ROOT = Path(__file__).resolve().parents[2]
MB = 1_000_000


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "lmm").ensure()


@pytest.fixture
def env(home: Home) -> dict[str, str]:
    return {**samples.environment({}, home.root), "LMM_EMBEDDER_NAME": "none", "PYTHONPATH": str(ROOT)}


def fill(home: Home, num_bytes: int) -> Path:
    """Something that takes room in the memory home."""
    filler = home.root / "filler"
    filler.write_bytes(bytes(num_bytes))
    return filler


def wait_for(is_so: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.05)


def limit(home: Home, disk_mb: int) -> None:
    home.config.write_text(f"[limits]\ndisk_mb = {disk_mb}\n", encoding="utf-8")


def test_an_import_at_the_limit_reads_nothing_and_says_what_to_do(home, env):
    limit(home, 3)
    filler = fill(home, 4 * MB)
    child = children.start_ingest(home, env, stay=False)
    assert child.wait(60) == 1
    said = children.progress(home)
    assert "limits.disk_mb" in said.error
    assert "lmm forget" in said.error
    assert Desk(home, env).known_projects() == {}
    filler.unlink()
    limit(home, 100)
    child = children.start_ingest(home, env, stay=False)
    assert child.wait(60) == 0
    assert not children.progress(home).error
    assert Desk(home, env).known_projects()


def test_at_the_limit_notes_are_kept_and_reading_goes_on_by_itself_when_there_is_room(home, env):
    limit(home, 3)
    fill(home, 4 * MB)
    child = children.start_ingest(home, env, stay=True)
    try:
        wait_for(lambda: (said := children.progress(home)) is not None and bool(said.blocked))
        desk = Desk(home, env)
        assert "alarm: the memory takes 4 of the 3 MB" in "\n".join(status.lines(status.take(desk)))
        assert status.reading_word(status.take(desk)) == "blocked"
        assert "reading: waiting: the memory takes 4 of the 3 MB" in "\n".join(status.lines(status.take(desk)))
        found = [each for each in doctor.examine(env) if "limits.disk_mb" in each.what]
        assert [each.level for each in found] == ["bad"]
        assert "lmm forget" in found[0].next_step
        notes.remember(home, "The crane is painted yellow.", project="", cwd="", now_ms=1_772_366_400_000)
        wait_for(lambda: "yellow" in desk.recall("which colour has the crane?", project="*").text)
        asked = desk.recall("which colour has the crane?", project="*")
        assert any("newer sessions may be missing" in note for note in asked.notes)
        assert set(desk.known_projects()) == {""}
        limit(home, 100)
        wait_for(lambda: len(desk.known_projects()) > 1)
        wait_for(lambda: not children.progress(home).blocked)
    finally:
        child.stop()


def test_beyond_the_reserve_notes_wait_too_and_none_is_lost(home, env):
    limit(home, 3)
    fill(home, 3 * MB + limits.RESERVE_bytes)
    notes.remember(home, "The crane is painted yellow.", project="", cwd="", now_ms=1_772_366_400_000)
    child = children.start_ingest(home, env, stay=True)
    try:
        wait_for(lambda: (said := children.progress(home)) is not None and bool(said.blocked))
        assert Desk(home, env).known_projects() == {}
        limit(home, 0)
        wait_for(lambda: "" in Desk(home, env).known_projects())
    finally:
        child.stop()


def test_a_limit_that_is_near_is_said_before_it_is_reached():
    assert limits.disk_alarm(DiskUse(79, 100)) == ""
    assert limits.disk_alarm(DiskUse(10**15, 0)) == ""
    near, reached = DiskUse(17_000 * MB, 20_000 * MB), DiskUse(20_000 * MB, 20_000 * MB)
    assert (near.is_full, reached.is_full, reached.is_spent) == (False, True, False)
    assert "17,000 of the 20,000 MB" in limits.disk_alarm(near)
    assert "no session is read until there is room" in limits.disk_alarm(reached)
    assert DiskUse(20_000 * MB + limits.RESERVE_bytes, 20_000 * MB).is_spent


@pytest.mark.parametrize(("setting", "value"), [("disk_mb", -1), ("memory_mb", 10)])
def test_limits_that_make_no_sense_are_refused(setting, value):
    with pytest.raises(config.ConfigError, match=f"limits.{setting}"):
        config.Settings(limits=Limits(**{setting: value}))


def test_a_process_that_holds_too_much_memory_leaves_after_its_work_and_the_next_goes_on(home, env, monkeypatch):
    settings = dataclasses.replace(config.load(home.config, env), limits=Limits(memory_mb=600))
    codes = []
    with monkeypatch.context() as patch:
        patch.setattr(memory, "resident_bytes", lambda: 700 * MB)
        codes.append(service.run(home, env, settings, [], stay=False))
    num_first = sum(Desk(home, env).known_projects().values())
    codes.append(service.run(home, env, settings, [], stay=False))
    assert codes == [TOO_MUCH_MEMORY_code, 0]
    assert sum(Desk(home, env).known_projects().values()) >= num_first > 0
    assert children.progress(home).phase == "done"


def test_memory_is_given_back_before_a_process_leaves(home, env, monkeypatch):
    told = iter([590 * MB, 300 * MB])
    monkeypatch.setattr(memory, "resident_bytes", lambda: next(told))
    rooms = service.Service(home, env, config.load(home.config, env), stay=False)._rooms
    rooms.cuts["codex", "t"] = None
    assert not Watch(home).is_memory_short(Limits(memory_mb=600), rooms)
    assert rooms.cuts == {}
    rooms.ledger.close()


def test_a_small_machine_bounds_the_process_before_the_settings_do(home, env, monkeypatch):
    monkeypatch.setattr(memory, "machine_bytes", lambda: 1_000 * MB)
    monkeypatch.setattr(memory, "resident_bytes", lambda: 800 * MB)
    rooms = service.Service(home, env, config.load(home.config, env), stay=False)._rooms
    assert Watch(home).is_memory_short(Limits(), rooms)
    assert not Watch(home).is_memory_short(Limits(memory_mb=0), rooms)
    for _ in range(2):
        Watch(home).is_memory_short(Limits(), rooms)
    (alarm,) = alarms.of_memory(restarts.known(home), Limits())
    assert "800 MB where three quarters of what this machine or container has are 750" in alarm.what
    assert "limits.memory_mb" not in alarm.next_step
    monkeypatch.setattr(memory, "machine_bytes", lambda: 64_000 * MB)
    assert alarms.of_memory(restarts.known(home), Limits()) == []
    rooms.ledger.close()


def test_this_process_knows_what_it_holds():
    before = memory.resident_bytes()
    held = bytearray(64 * MB)
    held[::4096] = b"x" * len(held[::4096])
    assert memory.resident_bytes() - before > 40 * MB
    memory.give_back()


@pytest.mark.parametrize(
    ("groups", "limits", "allowed"),
    [
        ("0::/", {"memory.max": "536870912"}, [536_870_912]),
        ("0::/user.slice/a.service", {"user.slice/a.service/memory.max": "max", "user.slice/memory.max": "7"}, [7]),
        ("4:cpu,memory:/docker/1f", {"memory/memory.limit_in_bytes": "536870912"}, [536_870_912]),
        ("1:cpu:/\n0::/", {}, []),
    ],
)
def test_a_container_has_what_it_may_take_and_not_what_its_host_has(tmp_path, monkeypatch, groups, limits, allowed):
    told = tmp_path / "cgroup"
    told.write_text(f"{groups}\n", encoding="utf-8")
    for name, limit in limits.items():
        (tmp_path / "control" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "control" / name).write_text(f"{limit}\n", encoding="utf-8")
    assert memory.allowed_bytes(told, tmp_path / "control") == allowed
    assert memory.allowed_bytes(tmp_path / "nowhere") == []
    monkeypatch.setattr(memory, "allowed_bytes", lambda: [1_000, 2_000])
    assert memory.machine_bytes() in (0, 1_000)


def leave_for_memory(home: Home, env: dict[str, str], monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Run the ingest process so many times, of which each ends for want of memory."""
    settings = dataclasses.replace(config.load(home.config, env), limits=Limits(memory_mb=600))
    with monkeypatch.context() as patch:
        patch.setattr(memory, "resident_bytes", lambda: 700 * MB)
        for _ in range(times):
            for old in home.root.glob("ledger.sqlite*"):
                old.unlink()  # so that there is something to read again
            assert service.run(home, env, settings, [], stay=False) == TOO_MUCH_MEMORY_code


def test_reading_that_begins_anew_again_and_again_for_want_of_memory_is_an_alarm(home, env, monkeypatch):
    home.config.write_text("[limits]\nmemory_mb = 600\n", encoding="utf-8")
    leave_for_memory(home, env, monkeypatch, restarts.MANY - 1)
    assert not [each for each in status.take(Desk(home, env)).alarms if "memory_mb" in each]
    assert restarts.pause_s(home) == 0
    leave_for_memory(home, env, monkeypatch, 1)
    (alarm,) = [each for each in status.take(Desk(home, env)).alarms if "memory_mb" in each]
    assert "3 times within an hour, since it held 700 MB where limits.memory_mb allows 600" in alarm
    assert "lmm config set limits.memory_mb" in alarm
    (finding,) = [each for each in doctor.examine(env) if "memory_mb" in each.what]
    assert finding.level == "warn"
    assert "lmm config set limits.memory_mb" in finding.next_step
    first = restarts.pause_s(home)
    leave_for_memory(home, env, monkeypatch, 1)
    assert restarts.pause_s(home) > first > 0
    home.config.write_text("[limits]\nmemory_mb = 1000\n", encoding="utf-8")
    assert not [each for each in status.take(Desk(home, env)).alarms if "memory_mb" in each]


def test_starts_of_long_ago_slow_nothing_down_and_a_damaged_note_is_none(home):
    home.restarts.write_text('{"at_ms": [1, 2, 3, 4, 5], "held_mb": 700, "cap_mb": 600}', encoding="utf-8")
    assert restarts.known(home).num_within(restarts.SAID_FOR_s) == 0
    assert restarts.known(home).num_within(1.0, now_ms=5) == 5
    assert restarts.known(home).num_within(1.0, now_ms=0) == 0  # the clock was set back
    for damaged in ("", "[]", '{"at_ms": "x"}', '{"at_ms": [null, "1"], "held_mb": []}'):
        home.restarts.write_text(damaged, encoding="utf-8")
        assert restarts.known(home) == restarts.Restarts()
    for _ in range(30):
        restarts.note(home, held_mb=700, cap_mb=600)
    assert restarts.pause_s(home) == 600
