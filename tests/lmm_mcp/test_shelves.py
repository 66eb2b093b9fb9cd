"""Stores of several shelves: they must behave as one, whatever is written, moved, deleted, or interrupted."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lmm_mcp.domain.chunk import Chunk, Line, Span
from lmm_mcp.store import schema, upkeep
from lmm_mcp.store.chunks import ChunkStore, Scope
from lmm_mcp.store.terms import terms

ROOT = Path(__file__).resolve().parents[2]
SHELF = 20
"""Rows of a shelf in these tests."""
DIM = 8
EVERYWHERE = Scope()
WORDS = "abcdefghijklmnopqrstuvwxyz"


def chunk(name: str, text: str, *, thread: str = "t", project: str = "shop", at_ms: int = 1_000) -> Chunk:
    return Chunk(
        id=name,
        agent="codex",
        session_id=thread,
        thread_id=thread,
        project=project,
        branch="main",
        first_ms=at_ms,
        last_ms=at_ms,
        part=0,
        ordinal=0,
        header="",
        lines=(Line("user", text, Span(f"e-{name}", 0, len(text))),),
        files=(),
        commands=(),
        content_hash=f"hash of {text}",
    )


def thread_of(number: int, num_chunks: int = 10, text: str = "sea") -> tuple[str, str, list[Chunk]]:
    name = f"t{number}"
    return (
        "codex",
        name,
        [
            chunk(f"c{number}-{n}", f"{text} {WORDS[number % 26] * 3} n{n}", thread=name, at_ms=number + 1)
            for n in range(num_chunks)
        ],
    )


def vector(seed: int) -> np.ndarray:
    found = np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)
    return found / np.linalg.norm(found)


def embed(store: ChunkStore) -> None:
    store.set_embedder("m", "1", DIM)
    while waiting := store.unembedded(50):
        store.add_vectors([(each.id, 0, vector(sum(map(ord, each.id)))) for each in waiting])


@pytest.fixture
def store(tmp_path: Path) -> ChunkStore:
    return ChunkStore.open(tmp_path / "store", create=True, shelf_rows=SHELF)


def filled(store: ChunkStore, threads: int) -> ChunkStore:
    for number in range(threads):
        store.replace_threads([thread_of(number)])
    return store


def ids(store: ChunkStore, question: str, scope: Scope = EVERYWHERE) -> set[str]:
    return {hit.chunk_id for hit in store.lexical(terms(question), scope, 1_000)}


def num_rows(store: ChunkStore) -> list[int]:
    return [shelf.chunks.count_rows() for shelf in store._shelves()]


def test_a_full_shelf_is_closed_and_the_next_one_opened(store, tmp_path):
    filled(store, 5)
    assert num_rows(store) == [20, 20, 10]
    assert store.count() == store.stats().num_chunks == 50
    again = ChunkStore.open(tmp_path / "store")
    assert again.count() == 50
    assert ids(again, "aaa") == {f"c0-{n}" for n in range(10)}
    assert ids(again, "sea") == ids(store, "sea") == {f"c{t}-{n}" for t in range(5) for n in range(10)}


def test_a_reader_sees_shelves_that_come_and_go(store, tmp_path):
    reader = ChunkStore.open(tmp_path / "store")
    filled(store, 3)
    embed(store)
    assert reader.count() == 30
    filled(store, 12)
    embed(store)
    store.optimize(retain_s=0)
    assert len(store._shelves()) < 6
    assert reader.count() == 120
    assert {hit.chunk_id for hit in reader.nearest(vector(1), EVERYWHERE, 200)} == ids(reader, "sea")


def test_a_row_is_rewritten_where_it_lies_and_never_doubled(store):
    filled(store, 5)
    embed(store)
    assert store.replace_threads([thread_of(0), thread_of(4)]) == 0
    changed = [replace(each, content_hash="new", project="other") for each in thread_of(0)[2]]
    assert store.replace_thread("codex", "t0", changed) == 10
    assert num_rows(store) == [20, 20, 10]
    assert {each.content_hash for each in store.get([each.id for each in changed])} == {"new"}
    assert ids(store, "sea", Scope(project="other")) == {each.id for each in changed}
    assert store.num_unembedded() == 10
    store.replace_thread("codex", "t1", [])
    assert store.count() == 40
    store.delete(["c2-0", "c4-0"])
    assert store.count() == 38


def test_a_chunk_that_moves_to_a_thread_of_another_shelf_stays_one_chunk(store):
    filled(store, 5)
    moved = replace(thread_of(0)[2][0], thread_id="t4", session_id="t4")
    store.replace_thread("codex", "t4", [*thread_of(4)[2], moved])
    assert store.count() == 50
    assert len(store.thread("codex", "t4")) == 11
    store.replace_thread("codex", "t0", thread_of(0)[2][1:])
    assert store.count() == 50
    assert store.get(["c0-0"])[0].thread_id == "t4"


def test_what_several_shelves_find_is_ranked_by_the_words_of_all(tmp_path):
    rows = [
        chunk(f"c{n}", f"common {'rare' if n in (3, 44) else 'plain'} {WORDS[n % 26] * (3 + n // 26)}", thread=f"t{n}")
        for n in range(50)
    ]
    items = [("codex", each.thread_id, [each]) for each in rows]
    one = ChunkStore.open(tmp_path / "one", create=True)
    several = ChunkStore.open(tmp_path / "several", create=True, shelf_rows=SHELF)
    for item in items:
        several.replace_threads([item])
    one.replace_threads(items)
    for each in (one, several):
        each.optimize()
    assert len(several._shelves()) == 3
    for question in (["common", "rare"], ["plain", "hhh"], ["plain"]):
        best = [[hit.chunk_id for hit in each.lexical(question, EVERYWHERE, 50)] for each in (one, several)]
        assert sorted(best[0]) == sorted(best[1])
        if len(question) > 1:
            expected = {"c3", "c44"} if "rare" in question else {"c7"}
            assert set(best[0][: len(expected)]) == set(best[1][: len(expected)]) == expected


def test_closed_shelves_of_a_size_are_joined_and_nothing_is_lost_or_doubled(store, tmp_path):
    filled(store, 19)
    embed(store)
    before = {each.id: each for each in store.get(sorted(ids(store, "sea")))}
    near = [hit.chunk_id for hit in store.nearest(vector(5), EVERYWHERE, 30)]
    assert len(store._shelves()) == 10
    store.optimize(retain_s=0)
    assert num_rows(store) == [80, 80, 20, 10]
    assert {each.id: each for each in store.get(sorted(ids(store, "sea")))} == before
    assert [hit.chunk_id for hit in store.nearest(vector(5), EVERYWHERE, 30)] == near
    assert store.num_unembedded() == 0
    named = {
        f"{kind}{'' if n == 1 else f'_{n}'}.lance"
        for n in schema.read_record(tmp_path / "store").shelves
        for kind in ("chunks", "vectors")
    }
    assert {path.name for path in (tmp_path / "store").glob("*.lance")} == named
    assert 160 <= store.frequencies().num_chunks <= 190


def test_all_is_replaced_at_once_and_vectors_stay_with_equal_texts(store, tmp_path):
    filled(store, 5)
    embed(store)
    reader = ChunkStore.open(tmp_path / "store")
    renewed = [thread_of(number)[2] for number in range(4)]
    renewed[0] = [replace(each, content_hash="new") for each in renewed[0]]
    store.replace_all([*renewed, renewed[1]])
    assert store.count() == reader.count() == 40
    assert {each.id for each in store.unembedded(99)} == {each.id for each in renewed[0]}
    assert len({hit.chunk_id for hit in reader.nearest(vector(1), EVERYWHERE, 99)}) == 30
    assert num_rows(store) == [20, 20]


def test_a_replacement_that_fails_leaves_all_as_it_was(store, tmp_path):
    filled(store, 5)

    def broken() -> Sequence[Sequence[Chunk]]:
        yield thread_of(7)[2]
        raise ValueError("half of it")

    with pytest.raises(Exception, match="half of it"):
        store.replace_all(broken())
    assert store.count() == ChunkStore.open(tmp_path / "store").count() == 50
    assert ChunkStore.open(tmp_path / "store", create=True).count() == 50
    assert ids(store, "hhh") == set()


def test_after_a_purge_no_byte_of_what_was_deleted_is_left_on_any_shelf(store, tmp_path):
    filled(store, 5)
    store.optimize()
    secret = "wordthatmustgo"
    store.replace_thread("codex", "t0", [replace(each, header=secret) for each in thread_of(0)[2]])
    store.replace_thread("codex", "t0", [])
    store.purge()
    assert not any(secret.encode() in path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file())
    assert ids(store, "sea") == {f"c{t}-{n}" for t in range(1, 5) for n in range(10)}


def test_random_work_on_small_shelves_always_leaves_what_was_said_last(store):
    dice = random.Random(3)
    said: dict[str, list[Chunk]] = {}
    for _ in range(60):
        number = dice.randrange(20)
        _, name, chunks = thread_of(number, dice.randrange(8), text=dice.choice(["sea", "land"]))
        store.replace_thread("codex", name, chunks)
        said[name] = chunks
        if dice.random() < 0.3:
            embed(store)
        if dice.random() < 0.15:
            store.optimize(retain_s=0)
    everything = {each.id: each for chunks in said.values() for each in chunks}
    embed(store)
    assert store.count() == len(everything) == store.stats().num_embedded
    assert {each.id: each for each in store.get(sorted(everything))} == everything
    assert store.threads() == {("codex", name) for name, chunks in said.items() if chunks}
    assert {hit.chunk_id for hit in store.nearest(vector(0), EVERYWHERE, 999)} == set(everything)


JOINING = f"""
import os, signal, sys
from pathlib import Path
from lmm_mcp.store import schema, tables, upkeep
from lmm_mcp.store.chunks import ChunkStore
sys.path.insert(0, {str(Path(__file__).parent)!r})
where, folder = sys.argv[1], Path(sys.argv[2])
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
store = ChunkStore.open(folder, create=True, shelf_rows={SHELF})
if where == "before the record": schema.write_record = die
if where == "after the record": tables.sweep = die
if where == "while indexing": upkeep.finish = die
store.optimize(retain_s=0)
"""


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL elsewhere")
@pytest.mark.parametrize("where", ["before the record", "after the record", "while indexing"])
def test_who_is_killed_while_shelves_are_joined_loses_and_doubles_nothing(store, tmp_path, where):
    filled(store, 9)
    embed(store)
    all_ids = ids(store, "sea")
    del store
    died = subprocess.run([sys.executable, "-c", JOINING, where, str(tmp_path / "store")], cwd=ROOT, check=False)
    assert died.returncode == -signal.SIGKILL
    again = ChunkStore.open(tmp_path / "store", create=True, shelf_rows=SHELF)
    for _ in range(2):
        assert again.count() == 90
        assert ids(again, "sea") == all_ids
        assert {hit.chunk_id for hit in again.nearest(vector(2), EVERYWHERE, 99)} == all_ids
        again.optimize(retain_s=0)
    assert num_rows(again) == [80, 10]
    assert len(list((tmp_path / "store").glob("*.lance"))) == 4


def test_beyond_the_exact_size_an_index_answers_and_finds_the_same(tmp_path):
    store = ChunkStore.open(tmp_path / "store", create=True, shelf_rows=600, exact_rows=500)
    for number in range(7):
        rows = [chunk(f"c{number}-{n}", "x", thread=f"t{number}", project=f"p{n % 2}") for n in range(100)]
        store.replace_thread("codex", f"t{number}", rows)
    embed(store)
    everything = [f"c{number}-{n}" for number in range(7) for n in range(100)]
    scores = {each: float(vector(sum(map(ord, each))) @ vector(7)) for each in everything}
    best = sorted(scores, key=lambda each: -scores[each])
    exact = [hit.score for hit in store.nearest(vector(7), EVERYWHERE, 10)]
    assert exact == pytest.approx([scores[each] for each in best[:10]], abs=1e-5)
    store.keep_up()
    assert any(each.columns == ["vector"] for each in store._shelves()[0].vectors.list_indices())
    indexed = [hit.score for hit in store.nearest(vector(7), EVERYWHERE, 10)]
    assert indexed == pytest.approx(exact, abs=1e-5)
    store.replace_thread("codex", "new", [chunk("new", "x", thread="new")])
    store.add_vectors([("new", 0, vector(7))])
    assert store.nearest(vector(7), EVERYWHERE, 1)[0].chunk_id == "new"
    recent = Scope(since_ms=1_000, agent="codex")
    assert [hit.score for hit in store.nearest(vector(7), recent, 10)][1:] == pytest.approx(exact[:9], abs=1e-5)
    mine = [hit.score for hit in store.nearest(vector(7), Scope(project="p1"), 10)]
    assert mine == pytest.approx([scores[each] for each in best if int(each.split("-")[1]) % 2][:10], abs=1e-5)


def test_rows_changed_under_indexes_of_ids_are_never_doubled(store):
    filled(store, 9)
    store.optimize(retain_s=0)
    assert any(each.columns == ["id"] for each in store._shelves()[0].chunks.list_indices())
    for turn in range(5):
        for number in range(9):
            agent, name, chunks = thread_of(number)
            store.replace_thread(agent, name, [replace(each, content_hash=f"turn {turn}") for each in chunks])
        assert store.count() == 90
    assert {each.content_hash for each in store.get(sorted(ids(store, "sea")))} == {"turn 4"}
    store.optimize(retain_s=0)
    assert store.count() == 90
    assert upkeep.trouble(store._folder) is None
