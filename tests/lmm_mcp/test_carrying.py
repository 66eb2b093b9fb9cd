"""The memory carried over: exported, backed up, restored, imported elsewhere, made anew. Through the commands."""

import io
import json
import shutil
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest

from lmm_mcp import children, notes
from lmm_mcp.cli import program
from lmm_mcp.paths import Home
from lmm_mcp.store import backup as store_backup
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.chunks import ChunkStore
from lmm_mcp.store.ledger import Ledger


class Machine:
    """One user's machine: a memory home, and nothing else to read."""

    def __init__(self, root: Path, monkeypatch, capsys, *, home: Path | None = None) -> None:
        self.root = root
        self.home = Home(home or root / "lmm")
        self._env = {
            "HOME": str(root),
            "USERPROFILE": str(root),
            "LMM_HOME": str(self.home.root),
            "CLAUDE_CONFIG_DIR": str(root / "no-claude"),
            "CODEX_HOME": str(root / "no-codex"),
            "LMM_EMBEDDER_NAME": "none",
        }
        root.mkdir(parents=True, exist_ok=True)
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def run(self, *arguments: str, expect: int = 0) -> tuple[str, str]:
        for name, value in self._env.items():
            self._monkeypatch.setenv(name, value)
        self._capsys.readouterr()
        code = program.run(arguments)
        told = self._capsys.readouterr()
        assert code == expect, told.err + told.out
        return told.out, told.err

    def rows(self) -> dict[str, tuple[str, str, str]]:
        store = ChunkStore.open(self.home.store)
        threads = store.threads()
        chunks = [chunk for agent, thread_id in threads for chunk in store.thread(agent, thread_id)]
        assert len({chunk.id for chunk in chunks}) == len(chunks) == store.count()
        return {chunk.id: (chunk.thread_id, chunk.content_hash, chunk.project) for chunk in chunks}

    def messages(self) -> dict[tuple[str, str, str], str]:
        archive = Archive(self.home.archive)
        found = [archive.read(thread.agent, thread.thread_id) for _, thread in archive.threads()]
        return {
            (thread.agent, thread.thread_id, event.id): event.text
            for thread, events in (each for each in found if each is not None)
            for event in events
        }


@pytest.fixture
def new(tmp_path, monkeypatch, capsys):
    """Makes machines that hold nothing yet."""
    return lambda name: Machine(tmp_path / name, monkeypatch, capsys)


@pytest.fixture(scope="module")
def remembered(harbour_env, tmp_path_factory) -> Path:
    """A memory home with sessions, and a note that was read."""
    home = Home(tmp_path_factory.mktemp("remembered") / "lmm")
    shutil.copytree(harbour_env["LMM_HOME"], home.root, ignore=shutil.ignore_patterns("engine*"))
    notes.remember(
        home, "Staging is deployed with make ship.", project="/home/mira/harbour", cwd="", now_ms=1_772_366_400_000
    )
    child = children.start_ingest(home, {**harbour_env, "LMM_HOME": str(home.root)}, stay=False, idle_priority=False)
    assert child.wait(90) == 0
    return home.root


@pytest.fixture
def old(remembered, tmp_path, monkeypatch, capsys) -> Machine:
    """A machine with sessions remembered, and a note."""
    home = tmp_path / "old" / "lmm"
    shutil.copytree(remembered, home)
    return Machine(tmp_path / "old", monkeypatch, capsys, home=home)


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.zst", "parquet"])
def test_what_was_exported_is_the_same_where_it_is_imported(old, new, tmp_path, ending):
    file = tmp_path / f"carried.{ending}"
    old.run("export", str(file))
    assert file.stat().st_mode & 0o077 == 0
    other = new("other")
    other.run("import", str(file))
    assert other.rows() == old.rows()
    assert other.messages() == old.messages()
    assert any(agent == "notes" for agent, _, _ in other.messages())


def test_importing_again_or_from_another_format_doubles_nothing(old, new, tmp_path):
    other = new("other")
    for name in ("a.jsonl", "b.parquet", "c.jsonl.zst"):
        old.run("export", str(tmp_path / name))
        other.run("import", str(tmp_path / name))
        other.run("import", str(tmp_path / name))
    old.run("backup", str(tmp_path / "d.tar"))
    other.run("import", str(tmp_path / "d.tar"))
    assert other.rows() == old.rows()
    assert other.messages() == old.messages()


def test_an_older_export_or_backup_adds_what_is_missing_and_takes_no_words_back(old, new, tmp_path):
    old.run("export", str(tmp_path / "old.jsonl"))
    old.run("backup", str(tmp_path / "old.tar"))
    lines = [json.loads(line) for line in (tmp_path / "old.jsonl").read_text(encoding="utf-8").splitlines()]
    replies = [line["event"] for line in lines if line.get("event", {}).get("kind") == "reply"]
    for reply in replies[1:]:
        reply["text"] += " This was said since."
    for line in lines:
        if "thread" in line and line["thread"]["title"]:
            line["thread"]["title"] = "named since"
    lines.remove({"event": replies[0]})
    later = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    (tmp_path / "new.jsonl").write_text(later, encoding="utf-8")
    other = new("other")
    other.run("import", str(tmp_path / "new.jsonl"))
    before, titles = other.messages(), [thread.title for _, thread in Archive(other.home.archive).threads()]
    assert "named since" in titles
    other.run("import", str(tmp_path / "old.tar"))
    other.run("import", str(tmp_path / "old.jsonl"))
    after = other.messages()
    assert [name[2] for name in after.keys() - before.keys()] == [replies[0]["id"]]
    assert {name: after[name] for name in before} == before
    assert sorted(thread.title for _, thread in Archive(other.home.archive).threads()) == sorted(titles)


def test_an_export_in_slices_is_the_same_as_in_one_piece(old, new, tmp_path, monkeypatch):
    old.run("export", str(tmp_path / "a.jsonl"))
    old.run("backup", str(tmp_path / "b.tar"))
    monkeypatch.setattr("lmm_mcp.store.exporting._ROWS_at_once", 7)
    old.run("export", str(tmp_path / "c.parquet"))
    from ingest.readers.lmm_export import LmmExport
    from lmm_mcp.domain.event import Event

    def told(path: Path) -> list[str]:
        ids, source = [], next(iter(LmmExport().sources(path)))
        cursor, has_more, num_slices = source.start, True, 0
        while has_more:
            *items, end = LmmExport().read(path, cursor)
            ids += [item.id for item in items if isinstance(item, Event)]
            cursor, has_more, num_slices = end.cursor, end.has_more, num_slices + 1
        assert num_slices > 3, path
        return sorted(set(ids))

    monkeypatch.setattr("ingest.readers.lmm_export.SLICE_bytes", 2_000)
    everything = sorted({event_id for _, _, event_id in old.messages()})
    assert [told(tmp_path / name) for name in ("a.jsonl", "b.tar", "c.parquet")] == [everything] * 3


def test_only_what_was_asked_for_is_exported(old, tmp_path):
    old.run("export", str(tmp_path / "a.jsonl"), "--agent", "codex")
    old.run("export", str(tmp_path / "b.parquet"), "--project", "/home/mira/lighthouse")
    lines = [orjson.loads(line) for line in (tmp_path / "a.jsonl").read_bytes().splitlines()]
    assert {line["thread"]["agent"] for line in lines if "thread" in line} == {"codex"}
    table = pq.read_table(tmp_path / "b.parquet")
    assert set(table["thread_cwd"].to_pylist()) == {"/home/mira/lighthouse"}
    assert table.num_rows == 2
    _, complaint = old.run("export", str(tmp_path / "c.jsonl"), "--agent", "goose", expect=1)
    assert "nothing of that kind is remembered" in complaint
    assert not (tmp_path / "c.jsonl").exists()


def test_a_file_is_never_overwritten_and_must_say_its_format(old, tmp_path):
    (tmp_path / "mine.jsonl").write_text("mine", encoding="utf-8")
    assert "exists already" in old.run("export", str(tmp_path / "mine.jsonl"), expect=1)[1]
    assert "must end in" in old.run("export", str(tmp_path / "mine.csv"), expect=1)[1]
    assert "there is no folder" in old.run("backup", str(tmp_path / "nowhere" / "x.tar"), expect=1)[1]
    assert (tmp_path / "mine.jsonl").read_text(encoding="utf-8") == "mine"
    assert not list(tmp_path.glob("*.part"))


def test_an_export_of_a_newer_version_is_refused_with_the_next_step(new, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"lmm_export":99}\n{"thread": {}}\n', encoding="utf-8")
    machine = new("other")
    machine.run("import", str(tmp_path / "a.jsonl"))
    ledger = Ledger.open(machine.home.ledger)
    assert ["upgrade this one" in row.problem for row in ledger.unreadable()] == [True]


def test_a_hostile_export_files_nothing_outside_and_breaks_nothing(new, tmp_path):
    records = [
        {"lmm_export": 1},
        {"event": {"id": "early", "kind": "prompt", "text": "before any thread", "at_ms": 1}},
        {"thread": {"agent": "../../evil", "session_id": "s", "thread_id": "s"}},
        {"event": {"id": "e1", "kind": "prompt", "text": "climbs out", "at_ms": 1}},
        {"thread": {"agent": "codex"}},
        {"event": {"id": 7, "kind": ["prompt"], "text": {}, "at_ms": "now"}},
        {
            "thread": {
                "agent": "codex",
                "session_id": "good",
                "thread_id": "good",
                "cwd": "/home/mira/harbour",
                "odd": 1,
            }
        },
        {"event": {"id": "e2", "kind": "prompt", "text": "a good one about cranes", "at_ms": 1_772_366_400_000}},
        "nonsense",
    ]
    (tmp_path / "a.jsonl").write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records))
    machine = new("other")
    machine.run("import", str(tmp_path / "a.jsonl"))
    assert {key[0] for key in machine.messages()} == {"codex"}
    assert not list(tmp_path.rglob("*evil*"))


def test_a_backup_is_restored_whole_into_an_empty_memory(old, new, tmp_path):
    old.run("config", "set", "recall.budget_tokens", "700")
    old.run("forget", "--match", "ZEBRAFISH", "--yes")
    file = tmp_path / "all.tar"
    out, _ = old.run("backup", str(file))
    assert str(file) in out
    assert file.stat().st_mode & 0o077 == 0
    other = new("other")
    assert (
        "recall goes by words alone here: the settings say `none`; `lmm config set "
        in other.run("restore", str(file))[0]
    )
    assert other.rows() == old.rows()
    assert other.messages() == old.messages()
    assert "700" in other.run("config")[0]
    assert "make ship" in other.run("recall", "how is staging deployed?", "--project", "*")[0]
    # What was forgotten there stays forgotten here.
    assert Ledger.open(other.home.ledger).num_buried() == Ledger.open(old.home.ledger).num_buried() > 0


def test_a_backup_is_refused_by_a_memory_that_holds_sessions_and_imported_into_it(old, new, tmp_path):
    file = tmp_path / "all.tar"
    old.run("backup", str(file))
    other = new("other")
    old.run("export", str(tmp_path / "some.jsonl"), "--agent", "codex")
    other.run("import", str(tmp_path / "some.jsonl"))
    before = other.rows()
    _, complaint = other.run("restore", str(file), expect=1)
    assert f"`lmm import {file}`" in complaint
    assert other.rows() == before
    other.run("import", str(file))
    assert other.rows() == old.rows()


@pytest.mark.parametrize("spoil", ["cut", "climbs", "link", "holes", "no backup", "empty"])
def test_a_spoiled_backup_changes_nothing(old, new, tmp_path, spoil):
    file = tmp_path / "all.tar"
    old.run("backup", str(file))
    content = file.read_bytes()
    match spoil:
        case "cut":
            file.write_bytes(content[: len(content) // 2])
        case "no backup":
            file.write_bytes(b"not a tar" * 100)
        case "empty":
            file.write_bytes(b"")
        case _:
            with tarfile.open(file, "a:") as tar:
                member = tarfile.TarInfo(
                    "archive/../../climbed.jsonl.zst" if spoil == "climbs" else "notes/2026-03.jsonl"
                )
                if spoil == "link":
                    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
                else:
                    member.size = 3
                if spoil == "holes":
                    member.pax_headers = {"GNU.sparse.map": "0,3", "GNU.sparse.size": str(10**12)}
                tar.addfile(member, io.BytesIO(b"bad"))
    other = new("other")
    _, complaint = other.run("restore", str(file), expect=1)
    assert str(file) in complaint
    assert not list(other.home.archive.glob("*/*"))
    assert not (other.home.root / "restore.part").exists()
    assert not list(tmp_path.rglob("climbed*"))


def test_a_backup_with_a_ledger_of_a_newer_version_changes_nothing(old, new, tmp_path):
    with closing(sqlite3.connect(old.home.ledger)) as connection:
        connection.execute("PRAGMA user_version = 99")
    store_backup.backup(old.home, tmp_path / "all.tar", made_by="99.0")
    other = new("other")
    _, complaint = other.run("restore", str(tmp_path / "all.tar"), expect=1)
    assert "upgrade lmm-mcp first" in complaint
    assert not other.home.ledger.exists()
    assert not list(other.home.archive.glob("*/*"))


def test_a_restore_that_died_is_done_again(old, new, tmp_path, monkeypatch):
    file = tmp_path / "all.tar"
    old.run("backup", str(file))
    other = new("other")
    with monkeypatch.context() as patched:

        def dies(self: Path, target: Path) -> Path:
            if self.name == "archive":
                raise OSError(5, "the machine died")
            return original(self, target)

        original = Path.replace
        patched.setattr(Path, "replace", dies)
        other.run("restore", str(file), expect=1)
    other.run("restore", str(file))
    assert other.rows() == old.rows()


def test_a_rebuilt_store_says_the_same(old):
    before = old.rows()
    out, _ = old.run("rebuild", "--json")
    assert json.loads(out) == {"passages": len(before)}
    assert old.rows() == before


def test_a_rebuilt_store_drops_what_has_no_session_and_makes_what_is_missing(old):
    before = old.rows()
    store = ChunkStore.open(old.home.store, create=True)
    some = sorted(before)
    store.delete(some[:3])
    (kept,) = store.get([some[5]])
    from dataclasses import replace

    store.replace_thread("codex", "ghost", [replace(kept, id="f" * 16, thread_id="ghost", session_id="ghost")])
    old.run("rebuild")
    assert old.rows() == before


def test_a_store_that_cannot_be_read_is_made_anew(old):
    before = old.rows()
    for path in (old.home.store / "chunks.lance" / "data").glob("*.lance"):
        path.write_bytes(path.read_bytes()[:-20])
    old.run("rebuild")
    assert old.rows() == before
    assert not (old.home.root / "store.damaged").exists()
    assert "make ship" in old.run("recall", "how is staging deployed?", "--project", "*")[0]


def test_passages_of_a_damaged_archive_file_stay_as_they_stood(old):
    before = old.rows()
    archive = Archive(old.home.archive)
    path, thread = next((path, thread) for path, thread in archive.threads() if thread.agent == "codex")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + b"\xff" * 40 + content[len(content) // 2 + 40 :])
    old.run("rebuild")
    assert old.rows() == before
    assert any(thread_id == thread.thread_id for thread_id, _, _ in old.rows().values())
