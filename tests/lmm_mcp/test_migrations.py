"""Memories that older versions wrote, opened by this one. Each format is written down here as it landed and never changed.

When a format changes, add what it was before to this file.
"""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import orjson
import pyarrow as pa
import pytest
import zstandard

from lmm_mcp.errors import StoreTooNew
from lmm_mcp.store import schema
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.chunks import ChunkStore
from lmm_mcp.store.ledger import Ledger
from lmm_mcp.store.ledger_schema import MIGRATIONS, hash_of
from lmm_mcp.store.search import EVERYTHING

LEDGER_1 = """
CREATE TABLE agents (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE sources (
    path TEXT PRIMARY KEY, agent TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    prefix_hash TEXT NOT NULL, prefix_bytes INTEGER NOT NULL, cursor_offset INTEGER NOT NULL,
    cursor_json TEXT NOT NULL, reader_version TEXT NOT NULL, thread_ids TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE unreadable (path TEXT, line INTEGER, problem TEXT, PRIMARY KEY (path, line, problem)) WITHOUT ROWID;
CREATE TABLE threads (
    number INTEGER PRIMARY KEY, agent INTEGER NOT NULL, thread_id TEXT NOT NULL, session_id TEXT,
    title TEXT, cwd TEXT, branch TEXT, remote TEXT, project TEXT, forked_from TEXT,
    first_ms INTEGER, last_ms INTEGER, num_events INTEGER, chunker_version INTEGER, UNIQUE (agent, thread_id));
CREATE TABLE claims (
    agent INTEGER, event INTEGER, thread INTEGER NOT NULL, PRIMARY KEY (agent, event)) WITHOUT ROWID;
CREATE TABLE chunks (
    chunk_id TEXT PRIMARY KEY, thread INTEGER NOT NULL, first_event TEXT NOT NULL, last_event TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE aliases (alias TEXT PRIMARY KEY, project TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE roots (folder TEXT PRIMARY KEY, project TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE buried_events (agent INTEGER, event INTEGER, PRIMARY KEY (agent, event)) WITHOUT ROWID;
CREATE TABLE buried_threads (
    agent INTEGER, thread INTEGER, until_ms INTEGER NOT NULL, PRIMARY KEY (agent, thread)) WITHOUT ROWID;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
LEDGER_2 = LEDGER_1 + "CREATE TABLE buried_texts (hash INTEGER PRIMARY KEY);"
LEDGER_3 = LEDGER_2 + "ALTER TABLE threads ADD COLUMN parent TEXT NOT NULL DEFAULT '';"
LEDGERS = {1: LEDGER_1, 2: LEDGER_2, 3: LEDGER_3}

STORE_1 = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("agent", pa.string(), nullable=False),
        pa.field("session_id", pa.string(), nullable=False),
        pa.field("thread_id", pa.string(), nullable=False),
        pa.field("project", pa.string(), nullable=False),
        pa.field("branch", pa.string(), nullable=False),
        pa.field("first_ms", pa.int64(), nullable=False),
        pa.field("last_ms", pa.int64(), nullable=False),
        pa.field("part", pa.int32(), nullable=False),
        pa.field("ordinal", pa.int32(), nullable=False),
        pa.field("header", pa.string(), nullable=False),
        pa.field("lines", pa.string(), nullable=False),
        pa.field("files", pa.list_(pa.string()), nullable=False),
        pa.field("commands", pa.list_(pa.string()), nullable=False),
        pa.field("content_hash", pa.string(), nullable=False),
        pa.field("terms", pa.string(), nullable=False),
        pa.field("written_ms", pa.int64(), nullable=False),
    ]
)
VECTORS_1 = pa.schema(
    [
        pa.field("chunk_id", pa.string(), nullable=False),
        pa.field("piece", pa.int32(), nullable=False),
        pa.field("vector", pa.list_(pa.float32(), 4), nullable=False),
        pa.field("project", pa.string(), nullable=False),
        pa.field("agent", pa.string(), nullable=False),
        pa.field("first_ms", pa.int64(), nullable=False),
        pa.field("last_ms", pa.int64(), nullable=False),
    ]
)


def older_ledger(path: Path, version: int) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(LEDGERS[version])
        connection.executescript(
            f"""
            INSERT INTO agents VALUES (1, 'codex');
            INSERT INTO threads (number, agent, thread_id, session_id, title, cwd, branch, remote, project, forked_from,
                first_ms, last_ms, num_events, chunker_version)
                VALUES (1, 1, 't1', 's1', 'cranes', '/work/harbour', 'main', '', '/work/harbour', '', 10, 20, 2, 1);
            INSERT INTO claims VALUES (1, {hash_of("e1")}, 1);
            INSERT INTO chunks VALUES ('00000000000000c1', 1, 'e1', 'e2');
            INSERT INTO aliases VALUES ('/old/harbour', '/work/harbour');
            INSERT INTO roots VALUES ('/work/harbour', '/work/harbour');
            INSERT INTO buried_events VALUES (1, {hash_of("e9")});
            INSERT INTO sources VALUES ('/s/a.jsonl', 'codex', 7, 8, 'ab', 7, 7, '{{"offset":7,"line":1,"context":{{}}}}', '1.1.', '["t1"]');
            PRAGMA user_version = {version};
            """
        )
        connection.commit()


def test_every_version_of_the_ledger_that_landed_is_written_down_here() -> None:
    assert {*LEDGERS} == {*range(1, len(MIGRATIONS) + 1)}


@pytest.mark.parametrize("version", LEDGERS)
def test_a_ledger_of_any_version_is_opened_with_all_it_knew(tmp_path: Path, version: int) -> None:
    path = tmp_path / "ledger.sqlite"
    older_ledger(path, version)
    ledger = Ledger.open(path)
    (row,) = ledger.threads()
    assert (row.thread.title, row.thread.parent, row.num_events) == ("cranes", "", 2)
    assert ledger.owners("codex", ["e1", "e2"]) == {"e1": "t1"}
    assert ledger.resolve_chunk("00000000000000c1") == ("codex", "t1", "e1", "e2")
    assert ledger.aliases() == {"/old/harbour": "/work/harbour"}
    assert ledger.known_roots() == {"/work/harbour": "/work/harbour"}
    assert ledger.buried("codex", ["e1", "e9"]) == {"e9"}
    assert not ledger.is_text_buried("cranes")
    state = ledger.source("/s/a.jsonl")
    assert state is not None
    assert (state.cursor_offset, state.thread_ids) == (7, ("t1",))
    ledger.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)


@pytest.mark.parametrize("version", LEDGERS)
def test_migrated_step_by_step_is_the_same_as_made_anew(tmp_path: Path, version: int) -> None:
    older_ledger(tmp_path / "old.sqlite", version)
    Ledger.open(tmp_path / "old.sqlite").close()
    Ledger.open(tmp_path / "new.sqlite").close()
    shapes = []
    for name in ("old", "new"):
        with closing(sqlite3.connect(tmp_path / f"{name}.sqlite")) as connection:
            names = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
            shapes.append({table: connection.execute(f"PRAGMA table_info({table})").fetchall() for table in names})
    assert shapes[0] == shapes[1]


TEXTS = ("lift the yellow crane", "lower the blue crane", "paint the yellow boat", "sell the blue boat")


def older_store(folder: Path, terms_version: int, schema_version: int = 1, num_shelves: int = 1) -> None:
    """A store of schema version 1 or 2 as they wrote it: on each shelf two passages of a thread, one of them embedded."""
    folder.mkdir()
    database = lancedb.connect(str(folder))
    for number in range(1, num_shelves + 1):
        older_shelf(database, number, terms_version)
    record = {
        "schema_version": schema_version,
        "terms_version": terms_version,
        "embedder": {"name": "m", "version": "1", "dim": 4},
    }
    if schema_version == 2:
        record["shelves"] = [*range(1, num_shelves + 1)]
    (folder / "store.json").write_text(json.dumps(record), encoding="utf-8")


def older_shelf(database: Any, number: int, terms_version: int) -> None:
    rows = [
        {
            "id": f"00000000000000c{n}",
            "agent": "codex",
            "session_id": "s1",
            "thread_id": f"t{number}",
            "project": "/work/harbour",
            "branch": "main",
            "first_ms": 1_772_366_400_000 + n,
            "last_ms": 1_772_366_400_000 + n,
            "part": 0,
            "ordinal": n,
            "header": "harbour cranes",
            "lines": json.dumps([["user", text, f"e{n}", 0, len(text)]]),
            "files": [],
            "commands": [],
            "content_hash": f"hash{n}",
            "terms": "stale" if terms_version == 0 else text.lower(),
            "written_ms": 1_772_366_400_000,
        }
        for n, text in [*enumerate(TEXTS, 1)][2 * number - 2 : 2 * number]
    ]
    ending = "" if number == 1 else f"_{number}"
    database.create_table(f"chunks{ending}", pa.Table.from_pylist(rows, schema=STORE_1))
    direction = [0.0] * 4
    direction[number - 1] = 1.0
    vector = {"chunk_id": rows[0]["id"], "piece": 0, "vector": direction}
    place = {name: rows[0][name] for name in ("project", "agent", "first_ms", "last_ms")}
    database.create_table(f"vectors{ending}", pa.Table.from_pylist([vector | place], schema=VECTORS_1))


@pytest.mark.parametrize(("terms_version", "schema_version"), [(0, 1), (1, 1), (2, 2)])
def test_a_store_of_an_older_version_is_opened_with_all_its_passages_and_vectors(
    tmp_path: Path, terms_version: int, schema_version: int
) -> None:
    older_store(tmp_path / "store", terms_version, schema_version)
    store = ChunkStore.open(tmp_path / "store", create=True)
    assert store.count() == 2
    assert [hit.chunk_id for hit in store.lexical(["yellow"], EVERYTHING, 5)] == ["00000000000000c1"]
    assert [chunk.lines[0].text for chunk in store.thread("codex", "t1")] == [
        "lift the yellow crane",
        "lower the blue crane",
    ]
    # What was embedded is found by its old vector, and embedded anew since its windows have none.
    old = np.array([1, 0, 0, 0], np.float32)
    assert [hit.chunk_id for hit in store.nearest(old, EVERYTHING, 5)] == ["00000000000000c1"]
    assert store.windows(["00000000000000c1"]) == {}
    assert {chunk.id for chunk in store.unembedded(9)} == {"00000000000000c1", "00000000000000c2"}
    store.add_vectors([("00000000000000c1", 0, old)], {"00000000000000c1": np.array([[1, 0, 0, 0]], np.float32)})
    assert [chunk.id for chunk in store.unembedded(9)] == ["00000000000000c2"]
    store.optimize()
    again = ChunkStore.open(tmp_path / "store", create=True)
    assert again.count() == 2
    assert [chunk.id for chunk in again.unembedded(9)] == ["00000000000000c2"]
    assert again.windows(["00000000000000c1"])["00000000000000c1"] == pytest.approx(old[None, :], abs=0.01)


@pytest.mark.parametrize("terms_version", [0, 2])
def test_a_store_of_the_second_version_keeps_what_is_on_each_of_its_shelves(tmp_path: Path, terms_version: int) -> None:
    older_store(tmp_path / "store", terms_version, 2, num_shelves=2)
    for _ in range(2):  # as it was brought up to date, and as the next process finds it
        store = ChunkStore.open(tmp_path / "store", create=True)
        assert store.count() == 4
        assert store.stats().num_shelves == 2
        assert {hit.chunk_id for hit in store.lexical(["yellow"], EVERYTHING, 5)} == {
            "00000000000000c1",
            "00000000000000c3",
        }
        assert {hit.chunk_id for hit in store.lexical(["boat"], EVERYTHING, 5)} == {
            "00000000000000c3",
            "00000000000000c4",
        }
        assert [chunk.lines[0].text for chunk in store.thread("codex", "t2")] == list(TEXTS[2:])
        for number, name in ((1, "00000000000000c1"), (2, "00000000000000c3")):
            old = np.eye(4, dtype=np.float32)[number - 1]
            assert store.nearest(old, EVERYTHING, 5)[0].chunk_id == name
            assert store.windows([name]) == {}
        assert len(store.unembedded(9)) == 4  # those that have vectors lack those of their windows
    window = np.array([[0, 1, 0, 0]], np.float32)
    store.add_vectors([("00000000000000c3", 0, window[0])], {"00000000000000c3": window})
    store.optimize()
    again = ChunkStore.open(tmp_path / "store", create=True)
    assert "00000000000000c3" not in {chunk.id for chunk in again.unembedded(9)}
    assert again.windows(["00000000000000c3"])["00000000000000c3"] == pytest.approx(window, abs=0.01)


def test_a_store_of_the_third_version_is_opened_as_it_first_wrote_its_record(tmp_path: Path) -> None:
    """Neither losses were counted then, nor was there a second set of vectors."""
    older_store(tmp_path / "store", 2, 2, num_shelves=2)
    ChunkStore.open(tmp_path / "store", create=True)
    path = tmp_path / "store" / "store.json"
    now = json.loads(path.read_text(encoding="utf-8"))
    first = {name: now[name] for name in ("schema_version", "terms_version", "embedder", "shelves")}
    assert first["schema_version"] == 3
    path.write_text(json.dumps(first), encoding="utf-8")
    store = ChunkStore.open(tmp_path / "store", create=True)
    assert store.count() == 4
    assert store.nearest(np.eye(4, dtype=np.float32)[1], EVERYTHING, 1)[0].chunk_id == "00000000000000c3"
    store.delete(["00000000000000c3"])
    assert ChunkStore.open(tmp_path / "store").count() == 3


def test_only_these_versions_of_the_store_have_landed_besides_todays() -> None:
    """If this fails, write the store of the version before down above and open it, too."""
    assert schema.SCHEMA_VERSION in (1, 2, 3)


def test_a_store_or_ledger_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    older_store(tmp_path / "store", 1)
    (tmp_path / "store" / "store.json").write_text('{"schema_version": 99, "terms_version": 1, "embedder": null}')
    with pytest.raises(StoreTooNew):
        ChunkStore.open(tmp_path / "store", create=True)
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreTooNew):
        Ledger.open(tmp_path / "ledger.sqlite")


def test_an_archived_thread_of_the_first_version_is_read(tmp_path: Path) -> None:
    records = [
        {"thread": {"agent": "codex", "session_id": "s1", "thread_id": "t1", "title": "cranes", "cwd": "/work/harbour",
                    "branch": "main", "remote": "", "forked_from": ""}},
        {"event": {"id": "e1", "kind": "prompt", "text": "lift it", "at_ms": 5, "call_id": "", "tool": "", "command": "",
                   "paths": ["a.py"], "exit_code": None, "failed": None, "group": "", "cwd": "", "branch": "", "ours": False}},
    ]  # fmt: skip
    archive = Archive(tmp_path)
    path = archive.path("codex", "t1")
    path.parent.mkdir(parents=True)
    content = b"\n".join(orjson.dumps(record) for record in records)
    path.write_bytes(zstandard.ZstdCompressor(level=3, write_checksum=True, write_content_size=True).compress(content))
    found = archive.read("codex", "t1")
    assert found is not None
    assert (found[0].title, found[0].parent, found[1][0].paths) == ("cranes", "", ("a.py",))
