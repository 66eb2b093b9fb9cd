"""Another embedder's vectors are made beside those that are served: never a mixture, never none, whatever happens in between."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from lmm_mcp.domain.chunk import Chunk, Line, Span
from lmm_mcp.errors import MixedEmbeddings
from lmm_mcp.store import tables
from lmm_mcp.store.chunks import ChunkStore, EmbedderRecord, Scope

ROOT = Path(__file__).resolve().parents[2]
OLD, NEW, THIRD = (
    EmbedderRecord("acme/old", "1", 8),
    EmbedderRecord("acme/new", "2", 8),
    EmbedderRecord("acme/third", "3", 16),
)
EVERYWHERE = Scope()
SHELF = 10
"""Rows of a shelf in these tests."""
ALL = 1_000


def chunk(name: str, text: str = "tide", *, thread: str = "t", project: str = "shop") -> Chunk:
    at_ms = 1_000 + int.from_bytes(name.encode()[-2:])
    line = Line("user", text, Span(f"e-{name}", 0, len(text)))
    return Chunk(
        name, "codex", thread, thread, project, "main", at_ms, at_ms, 0, 0, "", (line,), (), (), f"hash of {text}"
    )


def vector(by: EmbedderRecord, name: str) -> np.ndarray:
    """What `by` makes of a chunk: the two of one chunk are at right angles, so that a mixture shows."""
    found = np.zeros(by.dim, np.float32)
    found[{OLD: 0, NEW: 1, THIRD: 2}[by]] = 0.9
    found[3] = (0.19**0.5) * (1 if hash_of(name) % 2 else -1)
    return found


def hash_of(name: str) -> int:
    return sum(name.encode())


def embed(store: ChunkStore, num: int = ALL) -> None:
    """Give so many chunks the vectors that they lack, first those that are served."""
    for of_next, by in ((False, store.embedder), (True, store.next_embedder)):
        while by is not None and num and (waiting := store.unembedded(min(num, 7), of_next=of_next)):
            rows = {each.id: vector(by, each.id) for each in waiting}
            windows = {name: row[None, :] for name, row in rows.items()}
            store.add_vectors([(name, 0, row) for name, row in rows.items()], windows, to_next=of_next)
            num -= len(waiting)


def begin(store: ChunkStore, by: EmbedderRecord, *, anew: bool = False) -> None:
    store.set_embedder(by.name, by.version, by.dim, anew=anew)


def near(store: ChunkStore, by: EmbedderRecord, scope: Scope = EVERYWHERE) -> dict[str, float]:
    """Ids and similarities of what lies near to what `by` makes of anything."""
    question = np.zeros(by.dim, np.float32)
    question[{OLD: 0, NEW: 1, THIRD: 2}[by]] = 1
    return {hit.chunk_id: round(hit.score, 3) for hit in store.nearest(question, scope, ALL, of=by)}


def filled(folder: Path, num: int = 35) -> ChunkStore:
    store = ChunkStore.open(folder, create=True, shelf_rows=SHELF)
    for n in range(7):
        store.replace_thread("codex", f"t{n}", [chunk(f"c{m:02}", thread=f"t{n}") for m in range(n, num, 7)])
    begin(store, OLD)
    embed(store)
    return store


def names(num: int) -> set[str]:
    return {f"c{n:02}" for n in range(num)}


def all_of(ids: set[str]) -> dict[str, float]:
    return dict.fromkeys(ids, 0.9)


def tables_of_vectors(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("vectors*.lance")}


def test_the_old_vectors_are_served_until_the_last_of_the_new_ones_is_made(tmp_path: Path) -> None:
    store, reader = filled(tmp_path), ChunkStore.open(tmp_path)
    begin(store, NEW)
    for left in range(35, 0, -5):
        assert (store.num_unembedded(), store.num_unembedded(of_next=True)) == (0, left)
        assert not store.serve_next()
        for each in (store, reader):
            assert (each.embedder, each.next_embedder) == (OLD, NEW)
            assert near(each, OLD) == all_of(names(35))
            assert each.windows(["c01"])["c01"][0][0] == pytest.approx(0.9, abs=0.01)
        embed(store, 5)
    assert store.stats().num_embedded == store.stats().num_embedded_next == 35
    assert store.serve_next()
    for each in (store, reader, ChunkStore.open(tmp_path)):
        assert (each.embedder, each.next_embedder, each.num_unembedded()) == (NEW, None, 0)
        assert near(each, NEW) == all_of(names(35))
        assert each.windows(["c01"])["c01"][0][1] == pytest.approx(0.9, abs=0.01)
    assert len(tables_of_vectors(tmp_path)) == store.stats().num_shelves  # those of the old one are gone


def test_a_question_embedded_by_another_model_is_refused_and_not_compared(tmp_path: Path) -> None:
    store, reader = filled(tmp_path), ChunkStore.open(tmp_path)
    reader.hold()
    begin(store, NEW)
    embed(store)
    assert near(reader, OLD) == all_of(names(35))
    with pytest.raises(MixedEmbeddings, match="Ask again"):
        near(reader, NEW)
    store.serve_next()
    with pytest.raises(MixedEmbeddings, match="Ask again"):
        near(reader, OLD)
    with pytest.raises(MixedEmbeddings):
        reader.windows(["c01"], of=OLD)
    assert near(reader, NEW) == all_of(names(35))


@pytest.mark.parametrize("holds", [False, True], ids=["from the tables", "from memory"])
def test_who_asks_all_the_while_is_always_answered_by_one_embedder(tmp_path: Path, holds: bool) -> None:
    store, reader = filled(tmp_path), ChunkStore.open(tmp_path)
    reader.hold(is_wanted=holds)
    stop, seen, wrong = threading.Event(), set(), []

    def ask() -> None:
        while not stop.is_set():
            by = reader.embedder
            assert by is not None
            try:
                found = near(reader, by)
            except MixedEmbeddings:  # others are served since the line above
                continue
            except BaseException as problem:
                wrong.append(problem)
                return
            seen.add(by)
            if found != all_of(names(35)):
                wrong.append((by, found))

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for each in asking:
        each.start()
    try:
        for by in (NEW, OLD, NEW):
            begin(store, by)
            embed(store)
            assert store.serve_next()
            while by not in seen and not wrong:
                stop.wait(0.01)
            seen.clear()
    finally:
        stop.set()
        for each in asking:
            each.join()
    assert not wrong


def test_what_is_forgotten_changed_moved_or_new_reaches_both(tmp_path: Path) -> None:
    store = filled(tmp_path, num=14)
    begin(store, NEW)
    embed(store)
    store.delete(["c03"])
    thread = store.thread("codex", "t0")  # c00 and c07
    moved = [chunk("c00", thread="t0", project="harbour"), chunk("c07", "another text", thread="t0")]
    assert {each.id for each in thread} == {"c00", "c07"}
    store.replace_threads([("codex", "t0", moved), ("codex", "new", [chunk("x1", thread="new")])])
    left = names(14) - {"c03"}
    for of_next in (False, True):
        assert {each.id for each in store.unembedded(9, of_next=of_next)} == {"c07", "x1"}
    assert near(store, OLD) == all_of(left - {"c07"})
    assert near(store, OLD, Scope(project="harbour")) == all_of({"c00"})
    assert not store.serve_next()
    embed(store)
    assert store.serve_next()
    assert near(store, NEW) == all_of(left | {"x1"})
    assert near(store, NEW, Scope(project="harbour")) == all_of({"c00"})


def test_nothing_of_what_is_purged_stays_in_either(tmp_path: Path) -> None:
    store = filled(tmp_path, num=14)
    begin(store, NEW)
    embed(store)
    store.delete(["c03"])
    store.purge()
    held = b"".join(path.read_bytes() for path in tmp_path.rglob("*.lance") if path.is_file())
    assert b"c04" in held and b"c03" not in held
    embed(store)
    assert store.serve_next()
    assert near(store, NEW) == all_of(names(14) - {"c03"})


def test_joining_and_making_all_anew_keep_both(tmp_path: Path) -> None:
    store = filled(tmp_path, num=84)
    begin(store, NEW)
    embed(store, 60)
    before = store.stats().num_shelves
    store.optimize(retain_s=0)
    assert store.stats().num_shelves < before
    assert store.stats().num_embedded_next == 60
    store.replace_all([[chunk(f"c{n:02}", thread=f"t{n % 7}") for n in range(80)]])
    assert (store.num_unembedded(), store.stats().num_embedded, store.embedder) == (0, 80, OLD)
    assert 50 <= store.stats().num_embedded_next <= 60
    assert near(store, OLD) == all_of(names(80))
    embed(store)
    assert store.serve_next()
    assert near(store, NEW) == all_of(names(80))


def test_the_vectors_that_are_made_get_their_indexes_before_they_are_served(tmp_path: Path) -> None:
    store = ChunkStore.open(tmp_path, create=True, shelf_rows=300, exact_rows=100)
    store.replace_thread("codex", "t", [chunk(f"c{n:03}", thread="t") for n in range(300)])
    begin(store, OLD)
    begin(store, NEW)  # nothing was embedded: it serves at once
    assert (store.embedder, store.next_embedder) == (NEW, None)
    embed(store)
    store.optimize(retain_s=0)
    begin(store, OLD)
    embed(store)
    assert store.serve_next()
    closed = store._shelves()[0]
    assert {column for each in closed.vectors.list_indices() for column in each.columns} >= {"chunk_id", "vector"}


def test_changing_ones_mind_gives_up_what_was_made(tmp_path: Path) -> None:
    store = filled(tmp_path)
    before = tables_of_vectors(tmp_path)
    begin(store, NEW)
    embed(store, 20)
    begin(store, OLD)
    assert (store.embedder, store.next_embedder, store.num_unembedded()) == (OLD, None, 0)
    assert not store.serve_next()
    assert tables_of_vectors(tmp_path) == before
    begin(store, NEW)
    assert store.num_unembedded(of_next=True) == 35  # none of those that were given up
    embed(store, 20)
    begin(store, THIRD)
    assert store.num_unembedded(of_next=True) == 35
    embed(store)
    assert store.serve_next()
    assert near(store, THIRD) == all_of(names(35))


def test_all_can_be_made_anew_by_the_same_embedder(tmp_path: Path) -> None:
    store = filled(tmp_path)
    before = tables_of_vectors(tmp_path)
    begin(store, OLD)
    assert store.next_embedder is None
    begin(store, OLD, anew=True)
    embed(store, 20)
    begin(store, OLD)  # as the next ingest process does
    assert store.num_unembedded(of_next=True) == 15
    embed(store)
    assert store.serve_next()
    assert near(store, OLD) == all_of(names(35))
    assert not before & tables_of_vectors(tmp_path)


def test_a_table_of_vectors_that_was_lost_is_made_again_and_the_others_stay(tmp_path: Path) -> None:
    store = filled(tmp_path)
    tables.connect(tmp_path).drop_table(tables.vectors_name(2))
    again = ChunkStore.open(tmp_path, create=True, shelf_rows=SHELF)
    begin(again, OLD)
    num_lost = again.num_unembedded()
    assert 0 < num_lost < 35
    embed(again)
    assert near(again, OLD) == all_of(names(35))
    assert store.embedder == OLD


def test_a_store_of_a_program_that_knew_of_one_set_is_read_as_it_is(tmp_path: Path) -> None:
    filled(tmp_path)
    record = tmp_path / "store.json"
    told = json.loads(record.read_text(encoding="utf-8"))
    for name in ("vector_set", "next_embedder", "newest_set"):
        del told[name]
    record.write_text(json.dumps(told), encoding="utf-8")
    store = ChunkStore.open(tmp_path, create=True, shelf_rows=SHELF)
    assert near(store, OLD) == all_of(names(35))
    assert store.num_unembedded() == 0


MAKING = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
sys.path.insert(0, sys.argv[1] + "/tests/lmm_mcp")
from pathlib import Path
import test_next_vectors as t
from lmm_mcp.store import schema, tables, tidying
from lmm_mcp.store.chunks import ChunkStore

where, num = sys.argv[3], int(sys.argv[4])
real = {"make": tables.make_vectors, "record": schema.write_record, "drop": None}
count = 0

def dying(before):
    def call(*args, **named):
        global count
        count += 1
        if count == num and before:
            os.kill(os.getpid(), signal.SIGKILL)
        found = call.real(*args, **named)
        if count == num:
            os.kill(os.getpid(), signal.SIGKILL)
        return found
    return call

def arm(module, name, before):
    call = dying(before)
    call.real = getattr(module, name)
    setattr(module, name, call)

if where == "make":
    arm(tables, "make_vectors", False)
elif where == "record":
    arm(schema, "write_record", False)
elif where == "unrecorded":
    arm(schema, "write_record", True)
elif where == "index":
    arm(tidying.Tidying, "finish_next", False)
elif where == "sweep":
    arm(tables, "sweep", True)
store = ChunkStore.open(Path(sys.argv[2]), create=True, shelf_rows=t.SHELF)
if where == "add":
    arm(ChunkStore, "add_vectors", False)
t.begin(store, t.NEW)
t.embed(store)
store.serve_next()
"""

DEATHS = [
    *(("make", n) for n in (1, 3)),
    *(("unrecorded", n) for n in (1, 2)),
    *(("record", n) for n in (1, 2)),
    *(("add", n) for n in (1, 4)),
    ("index", 1),
    *(("sweep", n) for n in (2, 3)),
]


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL on Windows")
@pytest.mark.parametrize(("where", "num"), DEATHS, ids=[f"{where} {num}" for where, num in DEATHS])
def test_who_dies_at_any_step_leaves_the_old_ones_or_all_of_the_new_ones(tmp_path: Path, where: str, num: int) -> None:
    reader = None
    filled(tmp_path)
    reader = ChunkStore.open(tmp_path)
    died = subprocess.run([sys.executable, "-c", MAKING, str(ROOT), str(tmp_path), where, str(num)], check=False)
    assert died.returncode == -signal.SIGKILL
    served = reader.embedder
    assert served in (OLD, NEW)
    assert near(reader, served) == all_of(names(35))
    again = ChunkStore.open(tmp_path, create=True, shelf_rows=SHELF)
    made = again.stats().num_embedded_next if again.next_embedder else 0
    begin(again, NEW)
    if served == OLD:
        assert near(again, OLD) == all_of(names(35))
        assert again.num_unembedded(of_next=True) == 35 - made  # it is gone on with
        embed(again)
        assert again.serve_next()
    assert near(again, NEW) == near(reader, NEW) == all_of(names(35))
    assert len(tables_of_vectors(tmp_path)) == again.stats().num_shelves
