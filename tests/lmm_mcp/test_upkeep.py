"""Upkeep of the store: when it is due, that it bounds what is on disk, and what is remembered when it fails."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lmm_mcp import alarms, doctor, samples
from lmm_mcp.domain.chunk import Chunk, Line, Span
from lmm_mcp.errors import StoreError
from lmm_mcp.paths import Home
from lmm_mcp.server import status
from lmm_mcp.server.desk import Desk
from lmm_mcp.store import frequencies, tables, upkeep
from lmm_mcp.store.chunks import ChunkStore, Scope
from lmm_mcp.store.pending import Pending
from lmm_mcp.store.tables import StoreStats
from lmm_mcp.store.upkeep import Trouble

ROOT = Path(__file__).resolve().parents[2]
WORDS = [f"{one}{two}" for one in "abcdefghijklmno" for two in "pqrstuvwxyz"]


def rows(first: int, count: int, thread: str = "t") -> list[Chunk]:
    blank = Chunk(
        id="",
        agent=thread,
        session_id=thread,
        thread_id=thread,
        project="shop",
        branch="",
        first_ms=1_000,
        last_ms=1_000,
        header="",
        part=0,
        ordinal=0,
        lines=(),
        files=(),
        commands=(),
        content_hash="x",
    )
    return [
        dataclasses.replace(
            blank,
            id=f"c{n}",
            ordinal=n,
            last_ms=1_000 + n,
            lines=(Line("user", f"some words w{n} {' '.join(WORDS[n % 90 : n % 90 + 60])}", Span(f"e{n}", 0, 5)),),
        )
        for n in range(first, first + count)
    ]


@pytest.fixture
def store(tmp_path: Path) -> ChunkStore:
    return ChunkStore.open(tmp_path / "store", create=True)


def write(store: ChunkStore, num_commits: int, first: int = 0) -> None:
    for n in range(first, first + num_commits):
        store.replace_thread("t", f"t{n}", rows(n, 1, f"t{n}"))


def test_a_session_that_grows_does_not_bring_upkeep_at_every_message(store):
    write(store, 60)
    assert not store.upkeep_due()
    write(store, 10, first=60)
    assert store.upkeep_due()
    store.keep_up()
    assert not store.upkeep_due()
    assert (store.stats().num_unindexed, store._shelves()[0].untidy.num_rows) == (0, 0)


def test_who_leaves_tidies_up_a_little_earlier_but_not_for_nothing(store):
    write(store, 20)
    store.keep_up()
    assert store.stats().num_unindexed == 20
    store.keep_up(leaving=True)
    assert store.stats().num_unindexed == 0
    before = store.stats().num_versions
    store.keep_up(leaving=True)
    assert store.stats().num_versions == before


def test_what_an_earlier_process_left_is_known_to_the_next(store, tmp_path):
    write(store, 70)
    again = ChunkStore.open(tmp_path / "store", create=True)
    assert again.upkeep_due()
    again.keep_up()
    assert again.stats().num_fragments == 1


def test_old_versions_of_both_tables_go_after_a_while(store):
    write(store, 20)
    store.set_embedder("m", "1", 2)
    for n in range(20):
        store.add_vectors([(f"c{n}", 0, np.array([1, 0], np.float32))])
    store.optimize()
    assert store.stats().num_versions > 20
    shelf = store._shelves()[0]
    assert not upkeep.due(shelf)
    assert upkeep.due(shelf, retain_s=0) == shelf.tables
    write(store, 1, first=100)
    assert not upkeep.due(shelf, retain_s=0)  # not for the sake of old versions alone while a session grows
    store.optimize(retain_s=0)
    store.optimize(retain_s=0)
    assert store.stats().num_versions == 2
    assert not upkeep.due(shelf, retain_s=0)


def test_many_small_batches_take_hardly_more_disk_than_one_after_upkeep(tmp_path):
    once = ChunkStore.open(tmp_path / "once", create=True)
    once.replace_thread("t", "t", rows(0, 1_000))
    once.optimize(retain_s=0)
    live = ChunkStore.open(tmp_path / "live", create=True)
    most = 0
    for n in range(0, 1_000, 10):
        live.replace_thread("t", f"t{n}", rows(n, 10, f"t{n}"))
        live.keep_up()
        most = max(most, live.stats().num_fragments)
    live.optimize(retain_s=0)
    live.optimize(retain_s=0)
    for each in (once, live):
        tables.drop_old_versions(each._shelves()[0].chunks)
    assert most <= upkeep.NUM_COMMITS + 1_000 // upkeep.ROWS_A_COMMIT + 1
    assert live.stats().disk_bytes <= 1.3 * once.stats().disk_bytes


# Failure


def broken(store: ChunkStore, monkeypatch: pytest.MonkeyPatch, told: str = "Spill has sent an error") -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(f"lance error: {told}, rust/x.rs:1:2")

    monkeypatch.setattr(upkeep, "tidy", fail)


def test_upkeep_that_fails_is_remembered_where_others_see_it_and_put_off(store, tmp_path, monkeypatch):
    write(store, 70)
    broken(store, monkeypatch)
    store.keep_up()
    other = ChunkStore.open(tmp_path / "store", create=True)
    found = other.trouble()
    assert found is not None
    assert (found.num_failures, "Spill has sent an error" in found.problem) == (1, True)
    assert 50_000 < found.retry_ms - time.time_ns() // 1_000_000 <= 60_000
    assert not store.upkeep_due()
    assert not other.upkeep_due(leaving=True)
    assert {hit.chunk_id for hit in other.lexical(["word"], Scope(), 99)} == {f"c{n}" for n in range(70)}


def test_each_further_failure_waits_twice_as_long_up_to_a_day():
    waits = []
    found: Trouble | None = None
    folder = Path(os.devnull).parent / "no such folder"
    for _ in range(14):
        now_ms = time.time_ns() // 1_000_000
        found = upkeep.note_failure(folder, "x", found)
        waits.append(round((found.retry_ms - now_ms) / 60_000))
    assert waits[:4] == [1, 2, 4, 8]
    assert waits[-1] == 24 * 60
    assert found is not None
    assert found.num_failures == 14


def test_a_clock_that_was_set_back_does_not_put_upkeep_off_for_ever():
    far_ms = time.time_ns() // 1_000_000 + 10 * 86_400_000
    assert upkeep.may_try(Trouble(3, 0, far_ms, "x"))
    assert not upkeep.may_try(Trouble(3, 0, far_ms - 9 * 86_400_000 - 3_600_000, "x"))


def test_success_ends_the_trouble_and_after_two_failures_the_text_index_is_made_anew(store, tmp_path, monkeypatch):
    write(store, 70)
    with monkeypatch.context() as patch:
        broken(store, patch)
        for _ in range(2):
            failed = store._tidying.failed
            store._tidying.failed = None if failed is None else dataclasses.replace(failed, retry_ms=0)
            store.keep_up()
    assert store.trouble().num_failures == 2
    asked = []
    real = tables.index_terms
    monkeypatch.setattr(
        tables, "index_terms", lambda chunks, *, anew=False: (asked.append(anew), real(chunks, anew=anew))
    )
    store.optimize()
    assert asked == [True]
    assert store.trouble() is None
    assert not (tmp_path / "store" / upkeep.RECORD_FILE).exists()
    assert {hit.chunk_id for hit in store.lexical(["word"], Scope(), 99)} == {f"c{n}" for n in range(70)}


def test_a_damaged_note_of_trouble_is_no_trouble(store, tmp_path):
    for content in ("{", "[]", '{"num_failures": 1, "what": 2}'):
        (tmp_path / "store" / upkeep.RECORD_FILE).write_text(content, encoding="utf-8")
        assert store.trouble() is None


def test_missing_files_make_upkeep_fail_without_ending_the_process(store, tmp_path):
    write(store, 70)
    for path in (tmp_path / "store" / "chunks.lance" / "data").iterdir():
        path.unlink()
    store.keep_up()
    assert "cannot optimize the store" in store.trouble().problem
    with pytest.raises(StoreError):
        store.optimize()


TIDYING = """
import sys
from pathlib import Path
from lmm_mcp.store.chunks import ChunkStore
store = ChunkStore.open(Path(sys.argv[1]), create=True)
print("open", flush=True)
while True:
    store.optimize(retain_s=0)
    store.purge()
    print("done", flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL elsewhere")
def test_who_is_killed_in_the_middle_of_upkeep_loses_nothing_and_leaves_no_litter(tmp_path):
    folder = tmp_path / "store"
    store = ChunkStore.open(folder, create=True)
    write(store, 30)
    store.replace_thread("t", "big", rows(1_000, 1_500, "big"))
    everything = {f"c{n}" for n in (*range(30), *range(1_000, 2_500))}
    for delay_s in (0.0, 0.03, 0.1, 0.25):
        child = subprocess.Popen(
            [sys.executable, "-c", TIDYING, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        started = time.monotonic()
        while time.monotonic() - started < delay_s:
            assert child.poll() is None
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        again = ChunkStore.open(folder, create=True)
        assert {hit.chunk_id for hit in again.lexical(["word"], Scope(), 9_999)} == everything
        assert again.count() == len(everything)
    again.optimize(retain_s=0)
    again.optimize(retain_s=0)
    small = again.stats().disk_bytes
    again.purge()
    assert small <= 1.2 * again.stats().disk_bytes + 200_000


# Alarms


def test_alarms_name_failures_and_what_no_kept_up_store_has():
    assert alarms.of_store(StoreStats(num_fragments=100, num_versions=100), None) == []
    found = alarms.of_store(StoreStats(num_fragments=9_000, num_versions=20_000), Trouble(3, 0, 0, "the disk is full."))
    assert [each.is_bad for each in found] == [True, False, False]
    assert "3 times in a row" in found[0].what
    assert "the disk is full" in found[0].told()
    assert "9,000 files" in found[1].what
    assert "20,000 versions" in found[2].what


def test_what_threatens_a_real_store_is_said_by_status_and_by_doctor_until_it_is_mended(tmp_path, monkeypatch):
    home = Home(tmp_path / "lmm").ensure()
    env = {**samples.environment({}, home.root), "LMM_EMBEDDER_NAME": "none"}
    monkeypatch.setattr(upkeep, "MANY_FRAGMENTS", 50)
    monkeypatch.setattr(upkeep, "MANY_VERSIONS", 50)
    threats = {
        "the upkeep of the store failed once, so it grows and slows down: ": "bad",
        "files, where upkeep leaves fewer than 50": "warn",
        "versions, where upkeep leaves fewer than 50": "warn",
    }

    def said(what: str) -> tuple[list[str], list[str]]:
        """What status says of a threat, and how bad doctor finds it; each must name the next step."""
        of_status = [each for each in status.take(Desk(home, env)).alarms if what in each]
        of_doctor = [each for each in doctor.examine(env) if what in each.what]
        assert all("lmm rebuild" in each for each in (*of_status, *(found.next_step for found in of_doctor)))
        return of_status, [each.level for each in of_doctor]

    store = ChunkStore.open(home.store, create=True)
    write(store, 70)
    with monkeypatch.context() as patch:
        broken(store, patch)
        store.keep_up()
    for what, level in threats.items():
        of_status, of_doctor = said(what)
        assert (len(of_status), of_doctor) == (1, [level]), what
    store.optimize(retain_s=0)
    store.optimize(retain_s=0)
    for what in threats:
        assert said(what) == ([], []), what


# Counts


def test_counts_of_terms_are_those_of_counting_one_by_one():
    dice = np.random.default_rng(4)
    texts = [" ".join(f"w{n}" for n in dice.zipf(1.3, dice.integers(1, 30)).clip(max=300)) for _ in range(9_000)]
    found = frequencies.count(iter(texts))
    expected: dict[str, int] = {}
    for text in texts:
        for word in set(text.split(" ")):
            expected[word] = expected.get(word, 0) + 1
    assert found.num_chunks == 9_000
    assert len(found.hashes) == sum(count > 1 for count in expected.values())
    idf = found.idf(list(expected))
    for word, count in expected.items():
        assert idf[word] == pytest.approx(np.log1p((9_000 - count + 0.5) / (count + 0.5)), rel=1e-9), word


def test_counts_of_parts_add_up_and_rows_without_terms_count_as_chunks():
    one, two = frequencies.count(["a b", "a c", ""]), frequencies.count(["a b", "b a", "b"])
    both = frequencies.merged([one, two])
    assert both.num_chunks == 6
    assert sorted(both.counts.tolist()) == [3, 4]
    assert frequencies.count([]).num_chunks == 0
    assert frequencies.count([""]).idf(["a"]) == {"a": pytest.approx(np.log1p((1 - 1 + 0.5) / 1.5))}


def test_what_awaits_vectors_is_held_in_part_and_counted_in_all():
    import pyarrow as pa

    waiting = Pending(pa.table({"id": [f"c{n}" for n in range(10)], "last_ms": list(range(10))}), max_held=4)
    assert len(waiting) == 10
    assert waiting.newest(2) == ["c9", "c8"]
    waiting.add({"new": 99, "old": 1})
    assert waiting.newest(9) == ["new", "c9", "c8", "c7"]
    assert len(waiting) == 12
    assert waiting.drop(["new", "c9", "c8", "c7"])
    assert waiting.is_used_up
    assert len(waiting) == 8
    assert not waiting.drop(["c0"])


def test_a_store_whose_waiting_chunks_do_not_fit_in_memory_gets_all_its_vectors(store, monkeypatch):
    monkeypatch.setattr("lmm_mcp.store.pending.MAX_HELD", 7)
    monkeypatch.setattr(Pending.__init__, "__kwdefaults__", {"max_held": 7})
    store.replace_thread("t", "t", rows(0, 40))
    store.set_embedder("m", "1", 2)
    seen = []
    while waiting := store.unembedded(3):
        seen += [each.id for each in waiting]
        store.add_vectors([(each.id, 0, np.array([1, 0], np.float32)) for each in waiting])
    assert seen == [f"c{n}" for n in reversed(range(40))]
    assert json.dumps(store.num_unembedded()) == "0"
