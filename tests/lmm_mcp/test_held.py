"""What a process holds of the store in memory: it must answer as the tables do, whatever others write meanwhile."""

import os
import random
import threading
from pathlib import Path

import numpy as np
import pytest

from lmm_mcp.domain import windows as cut
from lmm_mcp.domain.chunk import Chunk, Line, Span
from lmm_mcp.errors import StoreError
from lmm_mcp.store import blocks, bodies, held, places, postings, row, schema
from lmm_mcp.store.chunks import ChunkStore, Scope
from lmm_mcp.store.terms import terms

DIM = 16
EVERYWHERE = Scope()
WORDS = ("harbour", "lantern", "anchor", "gull", "mast", "rope", "tide", "keel", "buoy", "sail")


@pytest.fixture(autouse=True)
def looks_at_every_question(monkeypatch):
    monkeypatch.setattr(held, "LOOK_EVERY_s", 0.0)
    monkeypatch.setattr(held, "WAIT_AFTER_s", 0.0)
    monkeypatch.setattr(held, "PATIENCE_s", 60.0)
    monkeypatch.setattr(held, "PATIENCE_after_quiet_s", 60.0)
    monkeypatch.setattr(held, "LONG_s", 60.0)
    monkeypatch.setattr(places, "LOOK_EVERY_s", 0.0)


@pytest.fixture
def writer(tmp_path: Path) -> ChunkStore:
    return ChunkStore.open(tmp_path / "store", create=True, shelf_rows=60)


@pytest.fixture
def reader(writer: ChunkStore, tmp_path: Path) -> ChunkStore:
    store = ChunkStore.open(tmp_path / "store")
    store.hold()
    return store


def chunk(name: str, text: str, *, thread: str = "t", project: str = "shop", at_ms: int = 1_000) -> Chunk:
    lines = tuple(Line("user", part, Span(f"e-{name}", 0, len(part))) for part in text.split(". "))
    return Chunk(
        *(name, "codex", thread, thread, project, "main", at_ms, at_ms, 0, 0, "", lines, (), ()),
        content_hash=f"hash of {text}",
    )


def vector(seed: str) -> np.ndarray:
    found = np.random.default_rng(sum(map(ord, seed))).standard_normal(DIM).astype(np.float32)
    return found / np.linalg.norm(found)


def embed(store: ChunkStore, most: int = 1_000) -> None:
    store.set_embedder("m", "1", DIM)
    waiting = store.unembedded(most)
    made = {each.id: np.stack([vector(line.text) for line in each.lines]) for each in waiting}
    store.add_vectors([(each.id, 0, vector(each.id + each.content_hash)) for each in waiting], made)


def said(chance: random.Random) -> str:
    return " ".join(chance.choices(WORDS, k=chance.randint(2, 9)))


def agree(reader: ChunkStore, plain: ChunkStore, scope: Scope, *, is_indexed: bool = False) -> None:
    """Both say the same of everything that questions ask."""
    for word in WORDS[:4]:
        one, other = (store.lexical(terms(word), scope, 1_000) for store in (reader, plain))
        assert {hit.chunk_id for hit in one} == {hit.chunk_id for hit in other}
        if is_indexed:
            scores = {hit.chunk_id: hit.score for hit in other}
            # Where terms were never counted over all shelves, each way takes another mean length for theirs.
            assert all(abs(hit.score - scores[hit.chunk_id]) < 0.1 * hit.score for hit in one)
    if plain.embedder is not None:
        asked = vector(WORDS[0])
        one, other = (store.nearest(asked, scope, 1_000) for store in (reader, plain))
        assert {hit.chunk_id: hit.windows for hit in one} == {hit.chunk_id: hit.windows for hit in other}
        scores = {hit.chunk_id: hit.score for hit in other}
        assert all(abs(scores[hit.chunk_id] - hit.score) < 1e-5 for hit in one)
        few = reader.nearest(asked, scope, 5)
        assert few == one[:5]
    ids = sorted(hit.chunk_id for hit in plain.lexical(list(WORDS), EVERYWHERE, 10_000))
    assert reader.get(ids) == plain.get(ids)
    wanted, kept = plain.windows(ids), reader.windows(ids)
    assert wanted.keys() == kept.keys() and all((wanted[each] == kept[each]).all() for each in ids if each in wanted)
    assert reader.count(scope) == plain.count(scope)
    assert reader.projects() == plain.projects()


def know_places(reader: ChunkStore) -> None:
    """Have it know where rows lie that are not held, as it would after some seconds."""
    for shelf in reader._shelves():
        for of_table, table in ((shelf.chunk_places, shelf.chunks), (shelf.vector_places, shelf.vectors)):
            if of_table is not None and table is not None:
                of_table.of(table, [])
                with of_table._looking:
                    assert of_table.of(table, []) == []


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("are_held", (True, False))
def test_whatever_is_written_a_reader_that_holds_rows_or_their_places_answers_as_the_tables_do(
    are_held, seed, writer, reader, tmp_path, monkeypatch
):
    if not are_held:
        monkeypatch.setattr(row, "MAX_HELD_rows", 0)
        reader.hold(is_wanted=False)
        reader.hold()
    monkeypatch.setattr(blocks, "MANY_BLOCKS", 3)
    monkeypatch.setattr(postings, "_BATCH_rows", 7)
    chance = random.Random(seed)
    plain = ChunkStore.open(tmp_path / "store")
    threads: dict[str, list[Chunk]] = {}
    for step in range(25):
        name = f"t{chance.randrange(6)}"
        now = threads.get(name, [])
        match chance.randrange(7):
            case 0 | 1 | 2:
                now = [*now, *(chunk(f"{name}-{step}-{n}", said(chance), thread=name, at_ms=step) for n in range(9))]
            case 3:
                now = [chunk(each.id, said(chance), thread=name) if chance.random() < 0.4 else each for each in now[1:]]
            case 4:
                embed(writer, chance.choice((5, 1_000)))
            case 5:
                writer.optimize(retain_s=chance.choice((0.0, 60.0)))
            case 6:
                now = [chunk(each.id, each.text_of(), thread=name, project="boat") for each in now]
        threads[name] = now
        ids = sorted(each.id for each in now)
        assert reader.get(ids) == plain.get(ids)  # before the places of what changes are known, too
        writer.replace_thread("codex", name, now)
        ids = sorted(each.id for each in now)
        assert reader.get(ids) == plain.get(ids)
        know_places(reader)
        agree(reader, plain, chance.choice((EVERYWHERE, Scope(project="boat"), Scope(until_ms=12))))
    embed(writer)
    writer.optimize()
    know_places(reader)
    agree(reader, plain, EVERYWHERE, is_indexed=True)
    assert any(each.chunk_places for each in reader._shelves()) is not are_held


def test_a_table_that_changes_all_the_time_is_not_read_through_at_every_question(writer, reader, tmp_path, monkeypatch):
    monkeypatch.setattr(row, "MAX_HELD_rows", 0)
    reader.hold(is_wanted=False)
    reader.hold()
    writer.replace_thread("codex", "t", [chunk("a", "the anchor is red")])
    know_places(reader)
    monkeypatch.setattr(places, "LOOK_EVERY_s", 3_600.0)
    (shelf,) = reader._shelves()
    for colour in ("blue", "green", "white"):
        writer.replace_thread("codex", "t", [chunk("a", f"the anchor is {colour}")])
        assert [each.text_of() for each in reader.get(["a"])] == [f"the anchor is {colour}"]
        assert shelf.chunk_places._known is None and not shelf.chunk_places._looking.locked()


def test_what_was_forgotten_is_not_held_a_moment_longer(writer, reader, monkeypatch):
    monkeypatch.setattr(held, "LOOK_EVERY_s", 3_600.0)
    monkeypatch.setattr(held, "WAIT_AFTER_s", 3_600.0)
    writer.replace_thread("codex", "t", [chunk("a", "the anchor is red"), chunk("b", "the anchor is blue")])
    embed(writer)
    assert {hit.chunk_id for hit in reader.lexical(["anchor"], EVERYWHERE, 9)} == {"a", "b"}
    assert len(reader.nearest(vector("x"), EVERYWHERE, 9)) == len(reader.get(["a", "b"])) == 2
    writer.delete(["a"])
    assert [hit.chunk_id for hit in reader.lexical(["anchor"], EVERYWHERE, 9)] == ["b"]
    assert [hit.chunk_id for hit in reader.nearest(vector("x"), EVERYWHERE, 9)] == ["b"]
    assert [each.id for each in reader.get(["a", "b"])] == ["b"]
    writer.purge()
    assert [each.id for each in reader.get(["a", "b"])] == ["b"]
    assert reader.count() == 1


def test_what_was_forgotten_is_not_held_either_where_the_clock_of_the_file_system_stood_still(
    writer, reader, tmp_path, monkeypatch
):
    monkeypatch.setattr(held, "LOOK_EVERY_s", 3_600.0)
    monkeypatch.setattr(held, "WAIT_AFTER_s", 3_600.0)
    writer.replace_thread("codex", "t", [chunk("a", "the anchor is red"), chunk("b", "the anchor is blue")])
    assert len(reader.get(["a", "b"])) == 2
    record = tmp_path / "store" / schema.RECORD_FILE
    before = record.stat()
    writer.delete(["a"])
    os.utime(record, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert [each.id for each in reader.get(["a", "b"])] == ["b"]


@pytest.mark.parametrize("loss", ["delete", "purge"])
def test_what_went_before_a_shelf_came_is_not_held_either(loss, writer, reader, tmp_path, monkeypatch):
    monkeypatch.setattr(held, "LOOK_EVERY_s", 3_600.0)
    monkeypatch.setattr(held, "WAIT_AFTER_s", 3_600.0)
    writer.replace_thread("codex", "t", [chunk(f"c{n}", f"the anchor number {n}") for n in range(55)])
    embed(writer)
    assert len(reader.get(["c1", "c2"])) == 2
    assert len(reader.nearest(vector("x"), EVERYWHERE, 99)) == 55
    writer.delete(["c1"])
    if loss == "purge":
        assert len(reader.get(["c1", "c2"])) == 1
        writer.purge()
    writer.replace_thread("codex", "u", [chunk(f"d{n}", "keel", thread="u") for n in range(9)])
    plain = ChunkStore.open(tmp_path / "store")
    assert len(reader._shelves()) == 2
    assert [each.id for each in reader.get(["c1", "c2"])] == ["c2"]
    near, nearest = (each.nearest(vector("x"), EVERYWHERE, 99) for each in (reader, plain))
    assert {hit.chunk_id for hit in near} == {hit.chunk_id for hit in nearest}
    assert {each.id: each.lines for each in reader.get([f"c{n}" for n in range(55)])} == {
        each.id: each.lines for each in plain.get([f"c{n}" for n in range(55)])
    }


def test_a_new_shelf_leaves_what_is_held_of_the_others(writer, reader, tmp_path):
    writer.replace_thread("codex", "t", [chunk(f"c{n}", said(random.Random(n))) for n in range(59)])
    embed(writer)
    agree(reader, ChunkStore.open(tmp_path / "store"), EVERYWHERE)
    before = reader._shelves()[0].held
    writer.replace_thread("codex", "u", [chunk("late", "keel", thread="u")])
    agree(reader, ChunkStore.open(tmp_path / "store"), EVERYWHERE)
    assert len(reader._shelves()) == 2
    assert reader._shelves()[0].held is before
    assert reader._shelves()[1].held is not None


def test_a_row_that_came_after_the_last_look_is_read_all_the_same(writer, reader, monkeypatch):
    writer.replace_thread("codex", "t", [chunk("a", "anchor")])
    assert reader.count() == 1
    monkeypatch.setattr(held, "LOOK_EVERY_s", 3_600.0)
    monkeypatch.setattr(held, "WAIT_AFTER_s", 3_600.0)
    writer.replace_thread("codex", "t", [chunk("a", "anchor"), chunk("b", "keel")])
    assert [each.id for each in reader.get(["b", "a", "nowhere"])] == ["b", "a"]


def test_words_of_many_rows_are_read_beside_the_questions_and_the_index_answers_until_then(
    writer, reader, tmp_path, monkeypatch
):
    monkeypatch.setattr(held, "FEW_rows", 10)
    monkeypatch.setattr(held, "WAIT_AFTER_s", 3_600.0)
    writer.replace_thread("codex", "t", [chunk(f"c{n}", f"mast {said(random.Random(n))}") for n in range(40)])
    may_read = threading.Event()
    real = postings.looked
    monkeypatch.setattr(postings, "looked", lambda *given: may_read.wait(30) and real(*given))
    shelf = reader._shelves()[0]
    for _ in range(3):
        assert len(reader.lexical(["mast"], EVERYWHERE, 50)) == 40
        assert shelf.held.rows(shelf.chunks).words is None
    may_read.set()
    for each in threading.enumerate():
        if each.name == "look":
            each.join(30)
    assert shelf.held.rows(shelf.chunks).words
    agree(reader, ChunkStore.open(tmp_path / "store"), EVERYWHERE)


@pytest.mark.parametrize("meanwhile", ["written", "tidied"])
def test_words_are_those_of_their_rows_though_others_come_or_rows_move_while_they_are_read(
    meanwhile, writer, reader, tmp_path, monkeypatch
):
    for n in range(3):
        writer.replace_thread(
            "codex", f"t{n}", [chunk(f"c{n}-{m}", f"keel {WORDS[m]}", thread=f"t{n}") for m in range(5)]
        )
    real = postings.looked

    def looked(*given):
        if meanwhile == "written":
            writer.replace_thread("codex", "u", [chunk("late", "anchor anchor", thread="u")])
        else:
            writer.optimize(retain_s=0.0)
        monkeypatch.setattr(postings, "looked", real)
        return real(*given)

    monkeypatch.setattr(postings, "looked", looked)
    first = reader.lexical(["anchor"], EVERYWHERE, 50)
    assert {hit.chunk_id for hit in first} <= {"c0-2", "c1-2", "c2-2"}
    agree(reader, ChunkStore.open(tmp_path / "store"), EVERYWHERE)


def test_passages_that_say_the_same_are_worth_the_same_whenever_they_came(writer, reader):
    chance = random.Random(3)
    texts = [said(chance) for _ in range(50)]
    writer.replace_thread("codex", "t", [chunk(f"c{n:02}", text) for n, text in enumerate(texts)])
    reader.lexical(["anchor"], EVERYWHERE, 200)
    writer._row.shelves()[0].write([chunk(f"d{n:02}", text, thread="u") for n, text in enumerate(texts)], (), ())
    scores = {hit.chunk_id: hit.score for hit in reader.lexical(["anchor", "keel"], EVERYWHERE, 200)}
    pairs = [(scores[f"c{n:02}"], scores[f"d{n:02}"]) for n in range(50) if f"c{n:02}" in scores]
    assert len(pairs) > 10
    assert all(abs(one - other) < 1e-6 for one, other in pairs)


def test_shelves_that_are_held_and_shelves_that_are_not_weigh_words_alike(writer, tmp_path):
    texts = [said(random.Random(m)) for m in range(60)]
    for n in range(2):
        writer.replace_thread("codex", f"t{n}", [chunk(f"c{n}-{m}", texts[m], thread=f"t{n}") for m in range(60)])
        writer.optimize()
    reader = ChunkStore.open(tmp_path / "store")
    reader.hold()
    first, *others = reader._shelves()
    for each in others:
        each.held = each.held or held.Held()
    first.held = None
    scores = {hit.chunk_id: hit.score for hit in reader.lexical(["anchor", "keel"], EVERYWHERE, 200)}
    pairs = [(scores[f"c0-{m}"], scores[f"c1-{m}"]) for m in range(60) if f"c0-{m}" in scores]
    assert len(pairs) > 10 and all(abs(one - other) < 1e-4 for one, other in pairs)


def test_no_more_rows_are_held_than_was_agreed_and_the_newest_shelf_before_all(writer, tmp_path, monkeypatch):
    monkeypatch.setattr(row, "MAX_HELD_rows", 150)
    monkeypatch.setattr("lmm_mcp.store.shelf.SHELF_rows", 60)
    for n in range(5):
        writer.replace_thread(
            "codex", f"t{n}", [chunk(f"c{n}-{m}", said(random.Random(m)), thread=f"t{n}") for m in range(60)]
        )
    embed(writer)
    reader, plain = (ChunkStore.open(tmp_path / "store") for _ in range(2))
    reader.hold()
    assert [each.held is not None for each in reader._shelves()] == [False] * 4 + [True, True]
    agree(reader, plain, EVERYWHERE)
    reader.hold(is_wanted=False)
    assert not any(each.held for each in reader._shelves())


def test_what_was_read_is_kept_as_far_as_agreed_and_read_again_else(writer, reader, tmp_path, monkeypatch):
    monkeypatch.setattr(held, "MAX_WINDOW_bytes", 10 * (100 + 2 * (DIM + 4)))
    monkeypatch.setattr(bodies, "MAX_LINES", 30)
    monkeypatch.setattr(bodies, "MAX_PACKED_bytes", 3_000)
    monkeypatch.setattr(row, "MAX_WHOLE_rows", -1)
    reader.hold(is_wanted=False)
    reader.hold()
    writer.replace_thread("codex", "t", [chunk(f"c{n}", f"{said(random.Random(n))}. keel") for n in range(30)])
    embed(writer)
    for _ in range(2):
        agree(reader, ChunkStore.open(tmp_path / "store"), EVERYWHERE)
    kept = reader._shelves()[0].held
    assert (len(kept.windows._held), len(kept.passages._fresh._held)) == (10, 10)
    assert 10 < len(kept.passages._packed._held) < 30
    assert cut.unpacked(reader.nearest(vector("keel"), EVERYWHERE, 1)[0].windows, DIM).shape == (2, DIM)


def test_questions_read_nothing_of_a_table_whose_rows_are_all_held_also_after_upkeep(writer, reader, monkeypatch):
    def asked() -> tuple[list[Chunk], list[bytes]]:
        reader.count(), reader.nearest(vector("keel"), EVERYWHERE, 1)
        for each in threading.enumerate():
            if each.name == "look":
                each.join(30)
        with monkeypatch.context() as patch:
            for name in ("packed", "windows_of"):
                patch.setattr(bodies, name, lambda _: pytest.fail("it was read again"))
            return reader.get(ids), [hit.windows for hit in reader.nearest(vector("keel"), EVERYWHERE, 100)]

    for n in range(5):
        writer.replace_thread("codex", f"t{n}", [chunk(f"c{n}-{m}", "anchor. keel", thread=f"t{n}") for m in range(9)])
    embed(writer, 20), embed(writer)
    ids = [f"c{n}-{m}" for n in range(5) for m in range(9)]
    reader.count(), reader.nearest(vector("keel"), EVERYWHERE, 1)  # the first look is no more than a look
    first = asked()
    kept = reader._shelves()[0].held
    before = {*kept.passages._packed._held}, {*kept.windows._held}
    assert [len(each) for each in before] == [45, 45]
    with monkeypatch.context() as patch:
        for name in ("packed", "windows_of"):
            patch.setattr(bodies, name, lambda _: pytest.fail("it was read again"))
        writer.optimize(retain_s=0.0)
        assert asked() == first
    assert before[0].isdisjoint(kept.passages._packed._held), "they lie elsewhere now"
    assert before[1].isdisjoint(kept.windows._held)
    writer.replace_thread("codex", "t1", [chunk("c1-0", "anchor. gull", thread="t1")])
    embed(writer)
    told, windows = asked()
    assert [each.text_of() for each in told if each.id == "c1-0"] == ["anchor\ngull"]
    assert len(told) == len(windows) == 37


def test_a_question_in_the_moment_in_which_rows_get_other_numbers_finds_them_in_memory(writer, reader, monkeypatch):
    for n in range(3):
        writer.replace_thread("codex", f"t{n}", [chunk(f"c{n}-{m}", "anchor", thread=f"t{n}") for m in range(9)])
    ids = [f"c{n}-{m}" for n in range(3) for m in range(9)]
    reader.count(), reader.get(ids)
    shelf = reader._shelves()[0]
    shelf.held.passages._fresh._held.clear()
    told, read, real, packed = [], [], bodies.Bodies.renumber, bodies.packed

    def renumber(self, now):
        real(self, now)
        monkeypatch.setattr(held, "LOOK_EVERY_s", 3_600.0)
        monkeypatch.setattr(held, "WAIT_AFTER_s", 3_600.0)
        told.append((len(now), len(shelf.get(ids)), list(read)))

    monkeypatch.setattr(bodies.Bodies, "renumber", renumber)
    monkeypatch.setattr(bodies, "packed", lambda request: read.append(1) or packed(request))
    writer.optimize(retain_s=0.0)
    reader.count()
    for each in threading.enumerate():
        if each.name == "look":
            each.join(30)
    assert told == [(27, 27, [])]


def test_passages_come_out_of_memory_as_they_went_in(writer, reader):
    lines = tuple(Line(role, f"{role} 'é' \u2028 数据库", Span("e", 3, 9)) for role in ("user", "output", "path"))
    made = Chunk(
        *("c", "codex", "s", "t", "shop", "main", 1, 2, 3, 4, "head\n", lines, ("a b.py",), ("pytest -q  [exit 1]",)),
        content_hash="h",
    )
    writer.replace_thread("codex", "t", [made])
    assert reader.get(["c"]) == [made]
    kept = reader._shelves()[0].held.passages._packed._held
    assert list(bodies.unpacked(kept).values()) == [made]


def test_equal_passages_keep_their_order_wherever_they_lie(writer, reader):
    same = {f"c{n:02}": vector("one and the same") for n in range(30)}
    writer.replace_thread("codex", "t", [chunk(name, "gull") for name in same])
    writer.set_embedder("m", "1", DIM)
    orders = []
    for names in (sorted(same)[:7], sorted(same)[7:]):
        writer.add_vectors([(name, 0, same[name]) for name in names])
        orders.append([hit.chunk_id for hit in reader.nearest(vector("gull"), EVERYWHERE, 5)])
    writer.optimize()
    orders.append([hit.chunk_id for hit in reader.nearest(vector("gull"), EVERYWHERE, 5)])
    assert orders == [["c00", "c01", "c02", "c03", "c04"]] * 3


def test_a_question_does_not_wait_for_the_look_that_it_sets_off(writer, reader, monkeypatch):
    writer.replace_thread("codex", "t", [chunk("a", "anchor")])
    assert reader.count() == 1
    monkeypatch.setattr(held, "WAIT_AFTER_s", 3_600.0)
    may_look = threading.Event()
    real = blocks.looked

    def waits(*arguments):
        assert may_look.wait(30)
        return real(*arguments)

    monkeypatch.setattr(blocks, "looked", waits)
    writer.replace_thread("codex", "t", [chunk("a", "anchor"), chunk("b", "anchor")])
    assert [reader.count(), reader.count()] == [1, 1]
    may_look.set()
    for each in threading.enumerate():
        if each.name == "look":
            each.join(30)
    assert reader.count() == 2


def test_a_question_after_some_quiet_waits_for_the_look_but_not_for_ever(writer, reader, monkeypatch):
    writer.replace_thread("codex", "t", [chunk("a", "anchor")])
    assert reader.count() == 1
    writer.replace_thread("codex", "t", [chunk("a", "anchor"), chunk("b", "anchor")])
    assert reader.count() == 2
    monkeypatch.setattr(held, "PATIENCE_s", 0.05)
    monkeypatch.setattr(held, "QUIET_s", 3_600.0)
    may_look = threading.Event()
    monkeypatch.setattr(blocks, "looked", lambda *_: may_look.wait(30) and ())
    writer.replace_thread("codex", "t", [chunk("a", "anchor")])
    assert reader.count() == 2
    may_look.set()


def test_while_looks_take_long_a_question_waits_for_none_until_the_last_is_old(writer, reader, monkeypatch):
    writer.replace_thread("codex", "t", [chunk("a", "anchor")])
    assert reader.count() == 1
    monkeypatch.setattr(held, "LONG_s", 0.0)
    writer.replace_thread("codex", "t", [chunk("a", "anchor"), chunk("b", "anchor")])
    monkeypatch.setattr(held, "QUIET_s", 0.0)
    assert reader.count() == 2, "it waits"
    monkeypatch.setattr(held, "QUIET_s", 3_600.0)
    may_look = threading.Event()
    monkeypatch.setattr(blocks, "looked", lambda *_: may_look.wait(30) and ())
    writer.replace_thread("codex", "t", [chunk("a", "anchor")])
    assert reader.count() == 2
    may_look.set()


def test_what_came_two_seconds_ago_is_found_however_seldom_is_asked(writer, reader, monkeypatch):
    writer.replace_thread("codex", "t", [chunk("a", "anchor")])
    assert reader.count() == 1
    monkeypatch.setattr(held, "PATIENCE_s", 0.0)
    monkeypatch.setattr(held, "LONG_s", 0.0)
    may_look = threading.Event()
    real = blocks.looked
    monkeypatch.setattr(blocks, "looked", lambda *asked: may_look.wait(30) and real(*asked))
    writer.replace_thread("codex", "t", [chunk("a", "anchor"), chunk("b", "anchor")])
    reader._shelves()[0].held._rows._looked_s -= 2.0
    late = threading.Timer(0.2, may_look.set)
    late.start()
    assert reader.count() == 2
    late.join()


def test_a_look_that_fails_is_told_to_the_next_question_and_forgotten_when_all_is_well(writer, reader, monkeypatch):
    writer.replace_thread("codex", "t", [chunk("a", "anchor")])
    assert reader.count() == 1
    with monkeypatch.context() as broken:
        broken.setattr(blocks, "looked", lambda *_: (_ for _ in ()).throw(RuntimeError("lance error: gone")))
        writer.replace_thread("codex", "t", [chunk("a", "anchor"), chunk("b", "anchor")])
        reader.count()
        with pytest.raises(StoreError, match="gone"):
            reader.count()
    assert reader.count() == 2


def test_questions_at_once_look_once_and_none_of_them_fails(writer, reader):
    writer.replace_thread("codex", "t", [chunk(f"c{n}", said(random.Random(n))) for n in range(40)])
    embed(writer)
    problems: list[BaseException] = []
    is_over = threading.Event()

    def ask() -> None:
        try:
            while not is_over.is_set():
                found = reader.nearest(vector("tide"), EVERYWHERE, 8)
                assert len(found) == 8 and len(reader.get([hit.chunk_id for hit in found])) <= 8
                assert reader.lexical(["tide"], EVERYWHERE, 9)
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for each in threads:
        each.start()
    for n in range(12):
        writer.replace_thread("codex", "u", [chunk(f"u{m}", said(random.Random(m)), thread="u") for m in range(n)])
        embed(writer)
    is_over.set()
    for each in threads:
        each.join()
    assert problems == []
