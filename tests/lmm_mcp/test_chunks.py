import dataclasses
import json
import os
import random
import secrets
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from lmm_mcp.domain.chunk import Chunk, Line, Span
from lmm_mcp.errors import MixedEmbeddings, StoreError, StoreTooNew
from lmm_mcp.store import schema, tables
from lmm_mcp.store.chunks import ChunkStore, Hit, Scope
from lmm_mcp.store.terms import terms

EVERYWHERE = Scope()


def chunk(
    name: str,
    text: str,
    *,
    agent: str = "codex",
    thread: str = "t1",
    project: str = "shop",
    at_ms: int = 1_000,
    ordinal: int = 0,
    lines: Sequence[Line] | None = None,
) -> Chunk:
    return Chunk(
        id=name,
        agent=agent,
        session_id=thread,
        thread_id=thread,
        project=project,
        branch="main",
        first_ms=at_ms,
        last_ms=at_ms + 500 if at_ms else 0,
        part=0,
        ordinal=ordinal,
        header="",
        lines=tuple(lines or [Line("user", text, Span(f"event-{name}", 0, len(text)))]),
        files=("src/getUserName.py",) if "FILES" in text else (),
        commands=("pytest -q  [exit 1]",) if "COMMANDS" in text else (),
        content_hash=f"hash of {text}",
    )


@pytest.fixture
def store(tmp_path: Path) -> ChunkStore:
    return ChunkStore.open(tmp_path / "store", create=True)


def found(store: ChunkStore, question: str, scope: Scope = EVERYWHERE) -> set[str]:
    return {hit.chunk_id for hit in store.lexical(terms(question), scope, 1_000)}


def unit(*numbers: float) -> np.ndarray:
    vector = np.array(numbers, np.float32)
    return vector / np.linalg.norm(vector)


# Rows


def test_a_chunk_comes_back_as_it_was_stored(store: ChunkStore) -> None:
    lines = [
        Line("user", "数据库 port?", Span("e1", 0, 9)),
        Line("command", "pytest -q", Span("e2", 3, 12)),
        Line("error", "E\tboom\n\u2028", Span("e3", 0, 7)),
    ]
    given = chunk("a", "FILES COMMANDS", lines=lines)
    given = dataclasses.replace(given, header="shop main 2026", files=("a.py", "b.py"), commands=("ls  [exit 0]",))
    store.replace_thread("codex", "t1", [given])
    assert store.get(["a"]) == [given]


def test_half_a_surrogate_pair_is_stored_as_a_replacement_sign(store: ChunkStore) -> None:
    store.replace_thread("codex", "t1", [dataclasses.replace(chunk("a", "x\ud83dy"), branch="b\udc00")])
    assert (store.get(["a"])[0].lines[0].text, store.get(["a"])[0].branch) == ("x\ufffdy", "b\ufffd")


def test_chunks_are_returned_in_the_order_asked_and_unknown_ids_left_out(store: ChunkStore) -> None:
    store.replace_thread("codex", "t1", [chunk(name, name) for name in "abc"])
    assert [each.id for each in store.get(["c", "nobody", "a", "c"])] == ["c", "a"]
    assert store.get([]) == []


def test_a_row_is_searchable_as_soon_as_it_is_written_also_for_another_handle(
    store: ChunkStore, tmp_path: Path
) -> None:
    reader = ChunkStore.open(tmp_path / "store")
    assert found(reader, "rabbit") == set()
    store.replace_thread("codex", "t1", [chunk("a", "the rabbit hole")])
    assert found(store, "rabbits") == {"a"}
    assert found(reader, "rabbits") == {"a"}
    assert reader.stats().num_unindexed == 1
    store.optimize()
    assert reader.stats().num_unindexed == 0
    assert found(reader, "rabbits") == {"a"}


def test_unchanged_chunks_are_not_written_again_and_vanished_ones_are_deleted(store: ChunkStore) -> None:
    assert store.replace_thread("codex", "t1", [chunk(name, name) for name in "abc"]) == 3
    assert store.replace_thread("codex", "t1", [chunk(name, name) for name in "abc"]) == 0
    assert store.replace_thread("codex", "t1", [chunk("a", "a"), chunk("b", "changed"), chunk("d", "d")]) == 2
    assert store.count() == 3
    assert found(store, "changed") == {"b"}
    assert store.get(["c"]) == []


def test_a_thread_without_chunks_disappears_and_others_of_the_same_id_stay(store: ChunkStore) -> None:
    store.replace_threads(
        [("codex", "t1", [chunk("a", "x")]), ("claude-code", "t1", [chunk("b", "x", agent="claude-code")])]
    )
    assert store.replace_thread("codex", "t1", []) == 0
    assert found(store, "x") == {"b"}


def test_a_chunk_named_twice_in_one_batch_is_stored_once_and_the_last_wins(store: ChunkStore) -> None:
    first, last = chunk("a", "first"), chunk("a", "last", thread="t2")
    store.replace_threads([("codex", "t1", [first]), ("codex", "t2", [last])])
    assert store.count() == 1
    assert store.get(["a"]) == [last]
    store.replace_threads([("codex", "t2", [chunk("a", "again", thread="t2"), chunk("a", "final", thread="t2")])])
    assert store.count() == 1
    assert store.get(["a"])[0].lines[0].text == "final"


def test_a_chunk_may_move_to_another_thread_in_any_order(store: ChunkStore) -> None:
    store.replace_thread("codex", "fork", [chunk("a", "x", thread="fork")])
    store.replace_thread("codex", "root", [chunk("a", "x", thread="root")])
    assert store.count() == 1
    store.replace_thread("codex", "fork", [])
    assert [each.thread_id for each in store.get(["a"])] == ["root"]


def test_many_threads_are_replaced_at_once(store: ChunkStore) -> None:
    def items(text: str) -> list[tuple[str, str, list[Chunk]]]:
        return [
            ("codex", f"t{t}", [chunk(f"{t}-{n}", f"{text} {n}", thread=f"t{t}", ordinal=n) for n in range(10)])
            for t in range(80)
        ]

    assert store.replace_threads(items("one")) == 800
    assert store.replace_threads(items("one")) == 0
    assert store.replace_threads(items("two")) == 800
    assert store.count() == 800
    assert store.replace_threads([]) == 0


def test_a_thread_comes_in_its_order(store: ChunkStore) -> None:
    chunks = [chunk(f"c{n}", "x", ordinal=n) for n in range(9)]
    store.replace_threads(
        [("codex", "t1", chunks[::-1]), ("codex", "t2", [chunk("other", "x", thread="t2", ordinal=4)])]
    )
    assert [each.id for each in store.thread("codex", "t1")] == [f"c{n}" for n in range(9)]


# Searching by words


def test_prose_files_commands_and_the_header_are_searchable_by_their_parts_and_as_wholes(store: ChunkStore) -> None:
    store.replace_thread("codex", "t1", [chunk("a", "FILES COMMANDS see tokio::spawn")])
    store.replace_thread("codex", "t2", [dataclasses.replace(chunk("b", "x", thread="t2"), header="branch fix/login")])
    for question in ("getUserName", "user name", "src/getUserName.py", "pytest", "tokio::spawn", "spawn"):
        assert found(store, question) == {"a"}, question
    assert found(store, "login") == {"b"}
    store.optimize()
    assert found(store, "tokio::spawn") == {"a"}


def test_rare_words_count_more(store: ChunkStore) -> None:
    store.replace_thread("codex", "t1", [chunk(f"c{n}", "common words", ordinal=n) for n in range(9)])
    store.replace_thread("codex", "t2", [chunk("rare", "quokka", thread="t2")])
    first = store.lexical(["common", "quokka"], EVERYWHERE, 3)
    assert first[0].chunk_id == "rare"
    assert len(first) == 3


def test_odd_questions_find_nothing_and_do_no_harm(store: ChunkStore) -> None:
    store.replace_thread("codex", "t1", [chunk("a", "x")])
    for question in ([], ["  "], ['"AND'], ["(", "*", "+-"], ["a" * 10_000], ["\x00"]):
        assert store.lexical(question, EVERYWHERE, 5) == []
    assert store.lexical(["x"], EVERYWHERE, 0) == []


def test_scope_narrows_by_project_agent_and_time(store: ChunkStore) -> None:
    rows = [
        chunk("a", "word", thread="a", project="shop", at_ms=1_000),
        chunk("b", "word", thread="b", project="shop", at_ms=5_000),
        chunk("c", "word", thread="c", project="", agent="claude-code", at_ms=9_000),
        chunk("d", "word", thread="d", project="shop", at_ms=0),
    ]
    store.replace_threads([(row.agent, row.thread_id, [row]) for row in rows])
    store.set_embedder("m", "1", 2)
    store.add_vectors([(row.id, 0, unit(1, 0)) for row in rows])
    expected = {
        EVERYWHERE: "abcd",
        Scope(project="shop"): "abd",
        Scope(project=""): "c",
        Scope(agent="claude-code"): "c",
        Scope(until_ms=5_499): "a",
        Scope(until_ms=5_500): "ab",
        Scope(since_ms=5_000): "bc",
        Scope(since_ms=5_001): "c",
        Scope(since_ms=0): "abc",
        Scope(project="shop", since_ms=1_000, until_ms=2_000): "a",
        Scope(project="nobody"): "",
    }
    for scope, names in expected.items():
        assert found(store, "word", scope) == set(names), scope
        assert {hit.chunk_id for hit in store.nearest(unit(1, 0), scope, 9)} == set(names), scope
        assert store.count(scope) == len(names), scope


@pytest.mark.parametrize(
    "name", ["'; drop table chunks; --", "o'hare", 'a"b', "a\\'b", "100%_x", "数据库", "a\nb", "' or '1'='1"]
)
def test_a_project_with_a_hostile_name_is_only_a_name(store: ChunkStore, name: str) -> None:
    store.replace_threads(
        [
            ("codex", name, [chunk(name, "word", thread=name, project=name)]),
            ("codex", "t2", [chunk("b", "word", thread="t2")]),
        ]
    )
    assert found(store, "word", Scope(project=name)) == {name}
    assert store.count(Scope(project=name)) == 1
    assert [each.id for each in store.get([name])] == [name]
    store.delete([name])
    assert found(store, "word") == {"b"}


# Searching by meaning


def test_the_best_piece_speaks_for_its_chunk(store: ChunkStore) -> None:
    assert store.nearest(unit(1, 0), EVERYWHERE, 5) == []
    store.replace_thread("codex", "t1", [chunk("a", "x"), chunk("b", "y", ordinal=1)])
    store.set_embedder("m", "1", 2)
    store.add_vectors([("a", 0, unit(0, 1)), ("a", 1, unit(1, 0)), ("b", 0, unit(1, 1))])
    hits = store.nearest(unit(1, 0), EVERYWHERE, 5)
    assert hits == [Hit("a", pytest.approx(1.0)), Hit("b", pytest.approx(0.5**0.5, abs=1e-5))]


def test_a_chunk_with_many_pieces_does_not_crowd_the_others_out(store: ChunkStore) -> None:
    store.replace_thread("codex", "t1", [chunk("a", "x"), chunk("b", "y", ordinal=1), chunk("c", "z", ordinal=2)])
    store.set_embedder("m", "1", 2)
    store.add_vectors([("a", piece, unit(1, piece / 1e4)) for piece in range(300)])
    store.add_vectors([("b", 0, unit(1, 1)), ("c", 0, unit(0, 1))])
    assert [hit.chunk_id for hit in store.nearest(unit(1, 0), EVERYWHERE, 2)] == ["a", "b"]


def test_vectors_are_added_once_and_not_for_chunks_that_are_gone(store: ChunkStore) -> None:
    store.replace_thread("codex", "t1", [chunk("a", "x")])
    store.set_embedder("m", "1", 2)
    store.add_vectors([("a", 0, unit(1, 0)), ("a", 0, unit(0, 1)), ("gone", 0, unit(1, 0))])
    store.add_vectors([("a", 0, unit(1, 1))])
    assert store.stats().num_embedded == 1
    assert store.nearest(unit(1, 1), EVERYWHERE, 5) == [Hit("a", pytest.approx(1.0))]


def test_what_awaits_embedding_is_named_newest_first(store: ChunkStore) -> None:
    store.replace_thread("codex", "t1", [chunk(f"c{n}", f"{n}", ordinal=n, at_ms=1_000 + n) for n in range(5)])
    assert [each.id for each in store.unembedded(2)] == ["c4", "c3"]
    store.set_embedder("m", "1", 2)
    store.add_vectors([("c4", 0, unit(1, 0)), ("c2", 0, unit(1, 0))])
    assert [each.id for each in store.unembedded(9)] == ["c3", "c1", "c0"]
    assert store.num_unembedded() == 3
    store.delete(["c3"])
    store.replace_thread("codex", "t2", [chunk("new", "n", thread="t2", at_ms=9_000)])
    assert [each.id for each in store.unembedded(9)] == ["new", "c1", "c0"]


def test_what_went_in_a_write_that_failed_half_way_is_awaited_no_more(store: ChunkStore, monkeypatch) -> None:
    store.replace_thread("codex", "t1", [chunk(f"c{n}", f"{n}", ordinal=n, at_ms=1_000 + n) for n in range(3)])
    assert store.num_unembedded() == 3
    with monkeypatch.context() as full:
        full.setattr(schema, "write_record", lambda *_: (_ for _ in ()).throw(OSError("No space left on device")))
        with pytest.raises(StoreError, match="disk is full"):
            store.delete(["c1", "c2"])
    assert store.unembedded(2) == []
    assert store.num_unembedded() == 1
    assert [each.id for each in store.unembedded(2)] == ["c0"]


def test_a_chunk_whose_text_changed_loses_its_vectors_and_one_that_moved_keeps_them(store: ChunkStore) -> None:
    store.replace_thread("codex", "t1", [chunk("a", "x"), chunk("b", "y", ordinal=1)])
    store.set_embedder("m", "1", 2)
    store.add_vectors([("a", 0, unit(1, 0)), ("b", 0, unit(1, 0)), ("b", 1, unit(0, 1))])
    assert store.replace_thread("codex", "t1", [chunk("a", "new"), chunk("b", "y", ordinal=1, project="other")]) == 2
    assert [each.id for each in store.unembedded(9)] == ["a"]
    assert store.nearest(unit(1, 0), Scope(project="shop"), 9) == []
    assert [hit.chunk_id for hit in store.nearest(unit(0, 1), Scope(project="other"), 9)] == ["b"]
    assert [each.project for each in store.get(["b"])] == ["other"]


def test_vectors_of_two_embedders_are_not_mixed(store: ChunkStore, tmp_path: Path) -> None:
    store.replace_thread("codex", "t1", [chunk("a", "x")])
    with pytest.raises(StoreError, match="set_embedder"):
        store.add_vectors([("a", 0, unit(1, 0))])
    store.set_embedder("first", "1", 2)
    store.set_embedder("second", "1", 3)
    store.set_embedder("first", "1", 2)
    store.add_vectors([("a", 0, unit(1, 0))])
    with pytest.raises(MixedEmbeddings, match="lmm embedder rebuild"):
        store.add_vectors([("a", 0, unit(1, 0, 0))])
    with pytest.raises(MixedEmbeddings, match="lmm embedder rebuild"):
        store.nearest(unit(1, 0, 0), EVERYWHERE, 1)
    store.clear_vectors()
    assert store.embedder is None
    assert store.nearest(unit(1, 0, 0), EVERYWHERE, 1) == []
    store.set_embedder("second", "1", 3)
    store.add_vectors([("a", 0, unit(1, 0, 0))])
    again = ChunkStore.open(tmp_path / "store")
    assert again.embedder == schema.EmbedderRecord("second", "1", 3)
    assert [hit.chunk_id for hit in again.nearest(unit(1, 0, 0), EVERYWHERE, 1)] == ["a"]


def test_a_reader_sees_vectors_come_and_go_and_change_their_embedder(store: ChunkStore, tmp_path: Path) -> None:
    reader = ChunkStore.open(tmp_path / "store")
    store.replace_thread("codex", "t1", [chunk("a", "x")])
    assert reader.nearest(unit(1, 0), EVERYWHERE, 1) == []
    store.set_embedder("first", "1", 2)
    store.add_vectors([("a", 0, unit(1, 0))])
    assert [hit.chunk_id for hit in reader.nearest(unit(1, 0), EVERYWHERE, 1)] == ["a"]
    store.clear_vectors()
    assert reader.nearest(unit(1, 0), EVERYWHERE, 1) == []
    store.set_embedder("second", "1", 3)
    store.add_vectors([("a", 0, unit(0, 1, 0))])
    assert [hit.chunk_id for hit in reader.nearest(unit(0, 1, 0), EVERYWHERE, 1)] == ["a"]


# Upkeep


def test_statistics_count_what_lies_there(store: ChunkStore) -> None:
    store.replace_threads(
        [
            ("codex", "t1", [chunk("a", "x"), chunk("b", "y", project="")]),
            ("notes", "n", [chunk("c", "z", agent="notes", thread="n")]),
        ]
    )
    stats = store.stats()
    assert (stats.num_chunks, stats.num_embedded) == (3, 0)
    assert stats.by_agent == {"codex": 2, "notes": 1}
    assert stats.by_project == store.projects() == {"shop": 2, "": 1}
    assert stats.disk_bytes > 1_000
    assert stats.num_fragments == 1


def test_upkeep_joins_small_files_and_keeps_search_as_it_was(store: ChunkStore) -> None:
    for n in range(70):
        store.replace_thread("codex", f"t{n}", [chunk(f"c{n}", f"word w{n}", thread=f"t{n}")])
    assert store.upkeep_due()
    before = store.lexical(["word", "w5"], EVERYWHERE, 100)
    store.optimize()
    assert not store.upkeep_due()
    assert store.stats().num_fragments == 1
    after = store.lexical(["word", "w5"], EVERYWHERE, 100)
    assert after[0].chunk_id == "c5"
    assert {h.chunk_id: pytest.approx(h.score, rel=1e-5) for h in before} == {h.chunk_id: h.score for h in after}


def test_upkeep_that_fails_says_so(store: ChunkStore, tmp_path: Path) -> None:
    store.replace_thread("codex", "t1", [chunk("a", "x")])
    for path in (tmp_path / "store" / "chunks.lance" / "data").iterdir():
        path.unlink()
    with pytest.raises(StoreError, match="cannot optimize the store"):
        store.optimize()


def bytes_hold(folder: Path, needle: str) -> bool:
    return any(needle.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_after_a_purge_no_byte_of_what_was_deleted_is_left(store: ChunkStore, tmp_path: Path) -> None:
    needles = {name: secrets.token_hex(24) for name in "abc"}
    keep = [chunk(f"k{n}", f"kept {n}", ordinal=n) for n in range(200)]
    store.replace_thread("codex", "t1", [*keep, chunk("a", needles["a"])])
    store.set_embedder("m", "1", 2)
    store.add_vectors([("a", 0, unit(0.123456, 1)), ("k1", 0, unit(1, 0))])
    store.optimize()
    store.replace_thread("codex", "t2", [chunk("b", needles["b"], thread="t2"), chunk("c", needles["c"], thread="t2")])
    assert all(bytes_hold(tmp_path, needle) for needle in needles.values())
    store.delete(["a", "b"])
    store.replace_thread("codex", "t2", [chunk("c", "revised", thread="t2")])
    reader = ChunkStore.open(tmp_path / "store")
    assert found(reader, "kept") == {each.id for each in keep}
    store.purge()
    assert not any(bytes_hold(tmp_path, needle) for needle in needles.values())
    assert store.stats().num_versions == 2
    assert store.stats().num_unindexed == 0
    assert found(reader, "kept") == {each.id for each in keep}
    assert found(store, "revised") == {"c"}
    assert [hit.chunk_id for hit in reader.nearest(unit(1, 0), EVERYWHERE, 9)] == ["k1"]


# Versions


def test_a_store_that_is_not_there_is_an_error_that_names_the_next_step(tmp_path: Path) -> None:
    assert not ChunkStore.exists(tmp_path / "store")
    with pytest.raises(StoreError, match="lmm import"):
        ChunkStore.open(tmp_path / "store")


def change_record(folder: Path, **values: int) -> None:
    path = folder / schema.RECORD_FILE
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


def test_a_store_of_a_newer_version_is_refused(store: ChunkStore, tmp_path: Path) -> None:
    change_record(tmp_path / "store", schema_version=schema.SCHEMA_VERSION + 1)
    for create in (True, False):
        with pytest.raises(StoreTooNew, match="LMM_HOME"):
            ChunkStore.open(tmp_path / "store", create=create)


def test_a_damaged_record_is_an_error_that_names_the_file(store: ChunkStore, tmp_path: Path) -> None:
    (tmp_path / "store" / schema.RECORD_FILE).write_text("{", encoding="utf-8")
    with pytest.raises(StoreError, match=r"store\.json"):
        ChunkStore.open(tmp_path / "store", create=True)


def test_an_older_schema_is_migrated_by_the_writer_and_refused_to_readers(
    store: ChunkStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.replace_thread("codex", "t1", [chunk("a", "x")])
    steps: list[int] = []
    monkeypatch.setattr(schema, "SCHEMA_VERSION", schema.SCHEMA_VERSION + 2)
    first = schema.SCHEMA_VERSION - 2
    monkeypatch.setattr(schema, "MIGRATIONS", {first: lambda _: steps.append(1), first + 1: lambda _: steps.append(2)})
    with pytest.raises(StoreError, match="lmm import"):
        ChunkStore.open(tmp_path / "store")
    ChunkStore.open(tmp_path / "store", create=True)
    assert steps == [1, 2]
    assert found(ChunkStore.open(tmp_path / "store"), "x") == {"a"}


def test_rows_are_analysed_again_when_the_analysis_changed(store: ChunkStore, tmp_path: Path) -> None:
    store.replace_thread("codex", "t1", [chunk("a", "FILES zebra")])
    stale = store._shelves()[0].chunks.search().limit(9).to_arrow()
    stale = stale.set_column(stale.schema.get_field_index("terms"), stale.schema.field("terms"), [["outdated"]])
    store._row.database.create_table(tables.CHUNKS, stale, mode="overwrite")
    change_record(tmp_path / "store", terms_version=0)
    again = ChunkStore.open(tmp_path / "store", create=True)
    assert found(again, "outdated") == set()
    assert found(again, "zebra") == found(again, "getUserName") == {"a"}
    assert again.stats().num_unindexed == 0
    assert ChunkStore.open(tmp_path / "store", create=True).stats().num_versions == again.stats().num_versions


@pytest.mark.skipif(os.name != "posix", reason="file modes are a matter of posix systems")
def test_the_folder_can_be_read_by_its_user_alone(store: ChunkStore, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o700


def test_random_replacements_always_leave_exactly_what_was_said_last(store: ChunkStore) -> None:
    dice = random.Random(5)
    said: dict[str, list[Chunk]] = {}
    store.set_embedder("m", "1", 2)
    for _ in range(25):
        thread = dice.choice("pqr")
        chunks = [
            chunk(f"{thread}{n}", f"text{dice.randrange(3)}", thread=thread, project=dice.choice(["shop", "other"]))
            for n in dice.sample(range(5), dice.randrange(5))
        ]
        store.replace_thread("codex", thread, chunks)
        said[thread] = chunks
        store.add_vectors([(each.id, 0, unit(1, 0)) for each in store.unembedded(9)])
        if dice.random() < 0.2:
            store.optimize()
    everything = [each for chunks in said.values() for each in chunks]
    assert sorted(store.get([each.id for each in everything]), key=lambda c: c.id) == sorted(
        everything, key=lambda c: c.id
    )
    assert store.count() == store.stats().num_embedded == len(everything)
    for project in ("shop", "other"):
        scoped = {hit.chunk_id for hit in store.nearest(unit(1, 0), Scope(project=project), 99)}
        assert scoped == {each.id for each in everything if each.project == project}


def _cut_files(table: Path) -> None:
    for path in (table / "data").glob("*.lance"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _garble_files(table: Path) -> None:
    for path in (table / "data").glob("*.lance"):
        content = bytearray(path.read_bytes())
        for at in range(len(content) // 4, 3 * len(content) // 4):
            content[at] ^= 0x5A
        path.write_bytes(content)


DAMAGE = {
    "data files cut": _cut_files,
    "data files garbled": _garble_files,
    "data files gone": lambda table: shutil.rmtree(table / "data"),
    "index gone": lambda table: shutil.rmtree(table / "_indices"),
    "versions gone": lambda table: shutil.rmtree(table / "_versions"),
    "table gone": shutil.rmtree,
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("is_writer", [False, True])
def test_damage_is_found_and_said_in_one_sentence_with_the_way_out(tmp_path, damage, is_writer):
    store = ChunkStore.open(tmp_path / "store", create=True)
    store.replace_thread("codex", "t1", [chunk("one", "the crane " * 900), chunk("two", "the quay " * 900)])
    store.optimize()
    store.check()
    assert store.threads() == {("codex", "t1")}
    DAMAGE[damage](tmp_path / "store" / "chunks.lance")
    with pytest.raises(StoreError) as caught:
        ChunkStore.open(tmp_path / "store", create=is_writer).check()
    told = str(caught.value)
    assert f"move the folder {tmp_path / 'store'} away and run `lmm import`" in told
    assert len(told) < 700
    assert not any(word in told for word in (".rs:", "LanceError", "cargo", "\n"))
