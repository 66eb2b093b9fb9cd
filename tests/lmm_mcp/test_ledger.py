import multiprocessing
import os
import secrets
import sqlite3
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from lmm_mcp.domain.event import Thread
from lmm_mcp.errors import StoreError, StoreLocked, StoreTooNew
from lmm_mcp.store import ledger_schema
from lmm_mcp.store.ledger import Ledger, SourceState, ThreadRow, UnreadableRow

THREAD = Thread("codex", "s1", "t1", "a title", "/work/app", "main", "github.com/a/b", "s0")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path / "home" / "ledger.sqlite")


def state(path: Path, *thread_ids: str, agent: str = "codex") -> SourceState:
    return SourceState(str(path), agent, 10, 2**62, "abc", 4096, 7, '{"offset": 7}', "1.2", thread_ids)


def record(ledger: Ledger, thread: Thread, project: str = "shop") -> None:
    ledger.record_thread(thread, project=project, first_ms=1, last_ms=2, num_events=3, chunker_version=4)


def test_how_far_a_file_was_read_is_remembered_by_its_path(ledger: Ledger, tmp_path: Path) -> None:
    first, second = state(tmp_path / "a.jsonl", "t1", "t2"), state(tmp_path / "b.jsonl", "t3")
    ledger.record_source(first)
    ledger.record_source(second)
    again = SourceState(first.path, "codex", 20, 1, "abd", 1, 9, "{}", "1.3", ("t1",))
    ledger.record_source(again)
    assert ledger.source(Path(first.path)) == again
    assert ledger.source(tmp_path / "c.jsonl") is None
    assert ledger.sources() == [again, second]


def test_a_file_of_which_nothing_is_kept_is_known_again_without_its_path(ledger: Ledger, tmp_path: Path) -> None:
    secret = state(tmp_path / "-work-secret" / "a.jsonl")
    ledger.record_source(secret)
    assert ledger.source(secret.path) == secret
    (only,) = ledger.sources()
    assert "secret" not in only.path
    kept = replace(secret, thread_ids=("t1",))
    for now in (kept, secret, kept):
        ledger.record_source(now)
        assert ledger.source(secret.path) == now
        assert len(ledger.sources()) == 1
    assert ledger.sources() == [kept]


def test_files_of_a_forgotten_thread_count_as_never_read(ledger: Ledger, tmp_path: Path) -> None:
    ledger.record_source(state(tmp_path / "a", "t1", "t2"))
    ledger.record_source(state(tmp_path / "b", "t3"))
    ledger.record_source(state(tmp_path / "c", "t2", agent="claude-code"))
    assert ledger.forget_sources("codex", ["t2"]) == 1
    assert [Path(each.path).name for each in ledger.sources()] == ["b", "c"]


def test_what_could_not_be_read_is_listed_once_until_it_is_cleared(ledger: Ledger, tmp_path: Path) -> None:
    for line in (2, 1, 1):
        ledger.record_unreadable(tmp_path / "a", line, "no JSON")
    assert ledger.unreadable() == [UnreadableRow(str(tmp_path / "a"), line, "no JSON") for line in (1, 2)]
    ledger.clear_unreadable(tmp_path / "a")
    assert ledger.unreadable() == []


def test_a_thread_is_recorded_and_its_newest_state_wins(ledger: Ledger) -> None:
    record(ledger, THREAD, project="old")
    record(ledger, THREAD)
    record(ledger, Thread("notes", "s9", "s9", title="half \ud83d"), project="")
    assert ledger.threads() == [
        ThreadRow(THREAD, "shop", 1, 2, 3, 4),
        ThreadRow(Thread("notes", "s9", "s9", title="half \ufffd"), "", 1, 2, 3, 4),
    ]
    assert [row.thread for row in ledger.threads(session_id="s1")] == [THREAD]
    assert [row.thread.agent for row in ledger.threads(project="")] == ["notes"]


def test_a_thread_that_was_only_named_by_a_claim_is_not_listed(ledger: Ledger) -> None:
    ledger.claim("codex", "t1", ["e1"])
    assert ledger.threads() == []
    record(ledger, THREAD)
    assert len(ledger.threads()) == 1


def test_an_event_belongs_to_the_thread_that_claimed_it_last_until_it_is_released(ledger: Ledger) -> None:
    ledger.claim("codex", "t1", ["e1", "e2"])
    ledger.claim("codex", "t2", ["e2", "e3"])
    ledger.claim("claude-code", "other", ["e1"])
    assert ledger.owners("codex", ["e1", "e2", "e3", "e4"]) == {"e1": "t1", "e2": "t2", "e3": "t2"}
    ledger.release("codex", ["e2", "nobody's"])
    assert ledger.owners("codex", ["e1", "e2"]) == {"e1": "t1"}
    assert ledger.owners("never seen", ["e1"]) == {}
    assert ledger.owners("codex", []) == {}


def test_many_claims_are_found_again(ledger: Ledger) -> None:
    names = [f"event-{number}" for number in range(5_000)]
    for start in range(0, 5_000, 1_000):
        ledger.claim("codex", f"t{start}", names[start : start + 1_000])
    owners = ledger.owners("codex", [*names, "unknown"])
    assert owners == {f"event-{number}": f"t{number // 1_000 * 1_000}" for number in range(5_000)}


def test_a_chunk_id_stays_resolvable_after_its_thread_was_cut_anew(ledger: Ledger) -> None:
    ledger.record_chunks("codex", "t1", [("old", "e1", "e2")])
    ledger.record_chunks("codex", "t1", [("new", "e1", "e3"), ("new", "e1", "e4")])
    ledger.record_chunks("codex", "t1", [])
    assert ledger.resolve_chunk("old") == ("codex", "t1", "e1", "e2")
    assert ledger.resolve_chunk("new") == ("codex", "t1", "e1", "e4")
    assert ledger.resolve_chunk("never given") is None


def test_chunk_ids_and_claims_that_touch_buried_events_are_deleted(ledger: Ledger) -> None:
    ledger.record_chunks("codex", "t1", [("a", "e1", "e2"), ("b", "e2", "e3"), ("c", "e4", "e5")])
    ledger.record_chunks("claude-code", "t1", [("d", "e2", "e2")])
    ledger.claim("codex", "t1", ["e2", "e4"])
    ledger.bury("codex", ["e2"])
    ledger.forget_buried("codex")
    assert [name for name in "abcd" if ledger.resolve_chunk(name)] == ["c", "d"]
    assert ledger.owners("codex", ["e2", "e4"]) == {"e4": "t1"}


def test_a_buried_text_is_known_again_but_not_kept(ledger: Ledger) -> None:
    ledger.bury_text("a secret title")
    ledger.bury_text("")
    assert ledger.is_text_buried("a secret title")
    assert not ledger.is_text_buried("")


def test_a_text_may_be_buried_in_one_thread_alone(ledger: Ledger) -> None:
    ledger.bury_text("main", "codex", "t1")
    assert ledger.is_text_buried("main", "codex", "t1")
    assert not any(ledger.is_text_buried("main", *of) for of in ((), ("codex", "t2"), ("claude-code", "t1")))


def test_a_thread_may_be_left_without_a_title_for_good(ledger: Ledger) -> None:
    ledger.bury_title("codex", "t1")
    assert ledger.is_title_buried("codex", "t1")
    assert not ledger.is_title_buried("codex", "t2")
    assert not ledger.is_text_buried("")


def test_all_that_a_thread_owns_may_be_buried_unread(ledger: Ledger) -> None:
    ledger.claim("codex", "t1", ["e1", "e2"])
    ledger.claim("codex", "t2", ["e3"])
    ledger.bury_claimed("codex", "t1")
    assert ledger.buried("codex", ["e1", "e2", "e3"]) == {"e1", "e2"}


def test_a_revised_thread_is_to_be_cut_anew(ledger: Ledger) -> None:
    record(ledger, THREAD)
    new = replace(THREAD, title="other", branch="", cwd="/work")
    ledger.revise(new)
    ledger.revise(Thread("codex", "s9", "never seen"))
    assert [(row.thread, row.project, row.chunker_version) for row in ledger.threads()] == [(new, "shop", 0)]


def test_a_forgotten_thread_leaves_no_rows(ledger: Ledger) -> None:
    for thread_id in ("t1", "t2"):
        record(ledger, Thread("codex", "s1", thread_id))
        ledger.claim("codex", thread_id, [f"e-{thread_id}"])
        ledger.record_chunks("codex", thread_id, [(f"c-{thread_id}", "e", "e")])
    ledger.forget_threads("codex", ["t1", "never seen"])
    assert [row.thread.thread_id for row in ledger.threads()] == ["t2"]
    assert ledger.owners("codex", ["e-t1", "e-t2"]) == {"e-t2": "t2"}
    assert ledger.resolve_chunk("c-t1") is None


def test_buried_events_stay_buried_and_only_for_their_agent(ledger: Ledger) -> None:
    ledger.bury("codex", ["e1", "e2", "e1"])
    ledger.bury("codex", ["e2"])
    assert ledger.buried("codex", ["e1", "e2", "e3"]) == {"e1", "e2"}
    assert ledger.buried("claude-code", ["e1"]) == set()
    assert ledger.num_buried() == 2


def test_a_thread_is_buried_up_to_the_latest_time_that_was_named(ledger: Ledger) -> None:
    assert ledger.buried_until("codex", "t1") is None
    ledger.bury_thread("codex", "t1", 500)
    ledger.bury_thread("codex", "t1", 400)
    assert ledger.buried_until("codex", "t1") == 500


def test_aliases_roots_and_values_are_kept(ledger: Ledger) -> None:
    ledger.add_alias("/old", "github.com/a/b")
    ledger.add_alias("/other", "github.com/a/b")
    ledger.remove_alias("/other")
    ledger.add_root("/work/app", "github.com/a/b")
    ledger.add_root("/work/new", "/work/new")
    ledger.set_meta("name", "one")
    ledger.set_meta("name", "two")
    assert ledger.aliases() == {"/old": "github.com/a/b"}
    assert ledger.known_roots() == {"/work/app": "github.com/a/b", "/work/new": "/work/new"}
    assert (ledger.meta("name"), ledger.meta("none")) == ("two", None)
    ledger.clear_meta("name")
    assert ledger.meta("name") is None
    ledger.forget_projects(["github.com/a/b"])
    assert (ledger.aliases(), ledger.known_roots()) == ({}, {"/work/new": "/work/new"})


def test_what_names_something_is_forgotten_wherever_it_stands(ledger: Ledger, tmp_path: Path) -> None:
    ledger.add_alias("/work/zebra", "shop")
    ledger.add_alias("/work/pear", "shop")
    ledger.add_root("/work/plum", "github.com/zebra/plum")
    ledger.record_source(state(tmp_path / "zebra", "t1"))
    ledger.record_source(state(tmp_path / "pear", "t2"))
    ledger.record_source(state(tmp_path / "plum", "t3"))
    ledger.record_unreadable(tmp_path / "plum", 1, "of a zebra")
    ledger.forget_names(lambda name: "zebra" in name)
    assert (ledger.aliases(), ledger.known_roots(), ledger.unreadable()) == ({"/work/pear": "shop"}, {}, [])
    assert [Path(each.path).name for each in ledger.sources()] == ["pear"]


def test_a_transaction_is_written_as_a_whole_or_not_at_all(ledger: Ledger, tmp_path: Path) -> None:
    reader = Ledger.open(tmp_path / "home" / "ledger.sqlite")
    with pytest.raises(KeyError), ledger.transaction():
        record(ledger, THREAD)
        with ledger.transaction():
            ledger.claim("codex", "t1", ["e1"])
        assert reader.threads() == []
        raise KeyError
    assert ledger.threads() == []
    assert ledger.owners("codex", ["e1"]) == {}
    with ledger.transaction():
        record(ledger, THREAD)
    assert len(reader.threads()) == 1


def test_several_threads_may_use_one_ledger(ledger: Ledger) -> None:
    def claim(number: int) -> None:
        for turn in range(20):
            ledger.claim("codex", f"t{number}", [f"e{number}-{turn}"])

    workers = [threading.Thread(target=claim, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    names = [f"e{number}-{turn}" for number in range(4) for turn in range(20)]
    assert len(ledger.owners("codex", names)) == 80


def _claim_in_another_process(path: Path, number: int) -> None:
    ledger = Ledger.open(path)
    for turn in range(20):
        ledger.claim("codex", f"t{number}", [f"e{number}-{turn}"])


def test_several_processes_may_make_and_write_one_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_claim_in_another_process, args=(path, number)) for number in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    names = [f"e{number}-{turn}" for number in range(2) for turn in range(20)]
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len(Ledger.open(path).owners("codex", names)) == 40


def test_a_write_that_cannot_wait_any_longer_says_that_another_process_writes(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_schema, "BUSY_ms", 1)
    other = Ledger.open(tmp_path / "home" / "ledger.sqlite")
    with ledger.transaction(), pytest.raises(StoreLocked, match="another process"):
        other.set_meta("name", "value")


def test_after_a_purge_no_byte_of_what_was_deleted_is_left(ledger: Ledger, tmp_path: Path) -> None:
    needle = secrets.token_hex(16)
    record(ledger, Thread("codex", "s1", "t1", title=needle))
    record(ledger, Thread("codex", "s2", "t2", title="stays"))
    ledger.record_chunks("codex", "t1", [("c", needle, needle)])
    assert any(needle.encode() in path.read_bytes() for path in (tmp_path / "home").iterdir())
    ledger.forget_threads("codex", ["t1"])
    ledger.purge()
    assert not any(needle.encode() in path.read_bytes() for path in (tmp_path / "home").iterdir())
    assert [row.thread.title for row in ledger.threads()] == ["stays"]


def test_a_purge_while_another_process_reads_is_refused(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(ledger, THREAD)
    monkeypatch.setattr(ledger_schema, "BUSY_ms", 1)
    impatient = Ledger.open(tmp_path / "home" / "ledger.sqlite")
    reader = sqlite3.connect(tmp_path / "home" / "ledger.sqlite")
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM threads").fetchall()
    record(ledger, THREAD, project="other")
    with pytest.raises(StoreLocked):
        impatient.purge()
    reader.close()
    impatient.purge()


def test_a_ledger_of_a_newer_version_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "home" / "ledger.sqlite"
    raw = sqlite3.connect(path)
    raw.execute("PRAGMA user_version = 99")
    raw.close()
    with pytest.raises(StoreTooNew, match="LMM_HOME"):
        Ledger.open(path)


def test_an_older_ledger_is_brought_up_to_date(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.set_meta("name", "value")
    step = ("ALTER TABLE meta ADD COLUMN extra TEXT",)
    monkeypatch.setattr(ledger_schema, "MIGRATIONS", (*ledger_schema.MIGRATIONS, step))
    assert Ledger.open(tmp_path / "home" / "ledger.sqlite").meta("name") == "value"
    raw = sqlite3.connect(tmp_path / "home" / "ledger.sqlite")
    assert raw.execute("SELECT extra FROM meta").fetchall() == [(None,)]
    raw.close()


def test_a_damaged_ledger_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreError, match=r"ledger\.sqlite"):
        Ledger.open(path)


@pytest.mark.skipif(os.name != "posix", reason="file modes are a matter of posix systems")
def test_the_file_and_its_log_can_be_read_by_their_user_alone(ledger: Ledger, tmp_path: Path) -> None:
    ledger.set_meta("name", "value")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "home").iterdir()}
    assert set(modes.values()) == {0o600}
    assert "ledger.sqlite-wal" in modes


def test_a_second_connection_leaves_the_locks_of_the_first_alone(tmp_path):
    path = tmp_path / "ledger.sqlite"
    first = Ledger.open(path)
    first.set_meta("colour", "red")
    second = Ledger.open(path)
    # Another process that comes and goes must not think that it is the last one, and take the log away with it.
    for colour in ("green", "blue"):
        change = f"from pathlib import Path; from lmm_mcp.store.ledger import Ledger; l = Ledger.open(Path({str(path)!r})); l.set_meta('colour', '{colour}'); l.close()"
        subprocess.run([sys.executable, "-c", change], check=True)
        assert [each.meta("colour") for each in (first, second)] == [colour, colour]


def test_agents_are_those_of_whom_threads_are_recorded(ledger):
    assert ledger.agents() == []
    for agent, thread_id in (("codex", "a"), ("parrot", "b"), ("parrot", "c")):
        thread = replace(THREAD, agent=agent, thread_id=thread_id)
        ledger.record_thread(thread, project="", first_ms=1, last_ms=2, num_events=1, chunker_version=1)
    assert ledger.agents() == ["parrot", "codex"]
