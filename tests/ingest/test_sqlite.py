"""Databases of agents are read without their owner noticing, wherever they lie."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ingest import service
from ingest.readers import sqlite
from ingest.readers.sqlite import CannotRead, holds, opened, tables
from lmm_mcp import children, config
from lmm_mcp.paths import Home


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database in WAL mode that its owner has closed."""
    path = tmp_path / "agent" / "notes.db"
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE said (words text)")
        connection.execute("INSERT INTO said VALUES ('ahoy')")
    return path


@pytest.fixture
def abandoned(database: Path, tmp_path: Path) -> Path:
    """A database whose owner died: the last row lies only in its log."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("INSERT INTO said VALUES ('land')")
        connection.commit()
        shutil.copytree(database.parent, tmp_path / "abandoned")
    (tmp_path / "abandoned" / "notes.db-shm").unlink()
    return tmp_path / "abandoned" / "notes.db"


@pytest.fixture
def not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder may be written: root may write anywhere, so that rights alone would not show it."""
    monkeypatch.setattr(os, "access", lambda *_: False)


def words(path: Path) -> list[str]:
    with opened(path) as connection:
        return [said for (said,) in connection.execute("SELECT words FROM said")]


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_a_database_that_is_not_there_is_never_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), opened(tmp_path / "gone.db"):
        pass
    assert not list(tmp_path.iterdir())


def test_nothing_can_be_written_through_it(database: Path) -> None:
    with pytest.raises(CannotRead), opened(database) as connection:
        connection.execute("INSERT INTO said VALUES ('mutiny')")


def test_what_lies_only_in_the_log_is_read_and_stays_there(abandoned: Path) -> None:
    before = content(abandoned.parent)
    assert words(abandoned) == ["ahoy", "land"]
    after = content(abandoned.parent)
    assert {name: after[name] for name in before} == before


def test_reading_changes_no_file_of_the_owner_and_the_owner_goes_on_as_before(database: Path) -> None:
    before = content(database.parent)
    assert words(database) == ["ahoy"]
    after = content(database.parent)
    assert after["notes.db"] == before["notes.db"]
    assert not after.get("notes.db-wal", (b"", 0))[0]
    with closing(sqlite3.connect(database)) as owner, owner:
        owner.execute("INSERT INTO said VALUES ('land')")
    assert set(content(database.parent)) == {"notes.db"}  # the owner takes away whatever was left
    assert words(database) == ["ahoy", "land"]


@pytest.mark.usefixtures("not_ours")
def test_where_nothing_may_be_written_nothing_is(database: Path) -> None:
    before = content(database.parent)
    assert words(database) == ["ahoy"]
    assert content(database.parent) == before


@pytest.mark.usefixtures("not_ours")
def test_a_log_is_read_also_where_nothing_may_be_written(abandoned: Path) -> None:
    before = content(abandoned.parent)
    assert words(abandoned) == ["ahoy", "land"]
    assert content(abandoned.parent) == before


@pytest.mark.usefixtures("not_ours")
def test_a_large_log_where_nothing_may_be_written_is_said(abandoned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "MAX_COPIED_bytes", 100)
    with pytest.raises(CannotRead, match="may not be written"):
        words(abandoned)


@pytest.mark.usefixtures("not_ours")
def test_a_database_that_is_written_while_it_cannot_be_locked_is_read_again_later(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copied_while_written(source: Path, target: Path) -> None:
        original(source, target)
        os.utime(database, ns=(1, 1))

    original = shutil.copyfile
    monkeypatch.setattr(shutil, "copyfile", copied_while_written)
    with pytest.raises(CannotRead, match="while it was read"), opened(database):
        pass


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_that_refuses_to_be_written_can_be_read(database: Path) -> None:
    database.parent.chmod(0o555)
    try:
        assert words(database) == ["ahoy"]
    finally:
        database.parent.chmod(0o755)


def test_a_database_of_somebody_else_is_left_without_files_of_ours(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: database.stat().st_uid + 1, raising=False)
    before = content(database.parent)
    assert words(database) == ["ahoy"]
    assert content(database.parent) == before


@pytest.fixture
def locked(database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    monkeypatch.setattr(sqlite, "BUSY_ms", 50)
    with closing(sqlite3.connect(database, isolation_level=None)) as owner:
        owner.execute("PRAGMA journal_mode = DELETE")
        owner.execute("BEGIN EXCLUSIVE")
        yield owner


def test_a_locked_database_is_said_and_read_when_it_is_free(database: Path, locked: sqlite3.Connection) -> None:
    with pytest.raises(CannotRead, match="locked"):
        words(database)
    locked.execute("COMMIT")
    assert words(database) == ["ahoy"]


def test_a_writer_does_not_keep_readers_out(database: Path) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as owner:
        owner.execute("BEGIN IMMEDIATE")
        owner.execute("INSERT INTO said VALUES ('not yet said')")
        assert words(database) == ["ahoy"]
        owner.execute("COMMIT")
    assert words(database) == ["ahoy", "not yet said"]


@pytest.mark.parametrize("garbage", [b"", b"SQLite format 3\0" + b"\xff" * 4000, b'{"a": 1}', bytes(9000)])
def test_what_is_no_database_is_refused_with_an_error_of_the_system(database: Path, garbage: bytes) -> None:
    database.write_bytes(garbage)
    with pytest.raises(OSError):
        words(database)
    assert not holds(database, {"said": frozenset({"words"})})


def test_tables_and_columns_tell_whose_a_database_is(database: Path) -> None:
    assert holds(database, {"said": frozenset({"words"})})
    assert not holds(database, {"said": frozenset({"words", "mood"})})
    assert not holds(database, {"heard": frozenset()})
    shutil.copy(database, database.with_name("notes.txt"))
    assert not holds(database.with_name("notes.txt"), {"said": frozenset()})
    with opened(database) as connection:
        assert tables(connection) == {"said": frozenset({"words"})}


def test_text_that_is_no_utf8_is_read_as_far_as_it_is(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE said SET words = CAST(x'61ff62' AS TEXT)")
    assert words(database) == ["a\ufffdb"]


def test_odd_characters_in_a_path_are_no_options(tmp_path: Path) -> None:
    folder = tmp_path / "what?mode=rwc&x=#é %41"
    folder.mkdir()
    with closing(sqlite3.connect(folder / "a.db")) as connection, connection:
        connection.execute("CREATE TABLE said (words text)")
    assert words(folder / "a.db") == []
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def endless(path: Path) -> Path:
    """A database whose table of messages looks like one, and counts for ever when it is read."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            """CREATE VIEW counting AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
            SELECT i AS rowid, 'word ' || i AS words FROM n;
            CREATE VIRTUAL TABLE said USING fts5(words, content='counting', content_rowid='rowid')"""
        )
    return path


def test_a_query_that_never_ends_is_given_up_and_not_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = endless(tmp_path / "endless.db")
    monkeypatch.setattr(sqlite, "MAX_WORK_s", 0.2)
    with pytest.raises(CannotRead, match="interrupted"), opened(path) as connection:
        assert "words" in tables(connection)["said"]
        connection.execute("SELECT count(*) FROM said WHERE words != ''").fetchone()
    with pytest.raises(CannotRead, match="longer than it may take"), opened(path):
        pytest.fail("it was opened once more")
    path.unlink()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE said (words text)")
        connection.execute("INSERT INTO said VALUES ('ahoy')")
    assert words(path) == ["ahoy"]  # it is another one now


def test_a_text_that_no_session_holds_is_refused_before_it_is_in_memory(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("INSERT INTO said VALUES (zeroblob(?))", (sqlite.MAX_VALUE_bytes + 1,))
    with pytest.raises(CannotRead, match="too big"):
        words(database)


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where copies are to lie."""
    monkeypatch.setattr(sqlite, "_copies", [])
    sqlite.copy_into(tmp_path / "lmm" / "copies")
    return tmp_path / "lmm" / "copies"


@pytest.mark.usefixtures("not_ours")
def test_a_copy_lies_where_only_its_user_reads_it_and_no_longer_than_it_is_read(abandoned: Path, copies: Path) -> None:
    with opened(abandoned):
        (copy,) = copies.iterdir()
        assert sorted(path.name for path in copy.iterdir() if path.suffix != ".db-shm") == ["notes.db", "notes.db-wal"]
        if os.name == "posix":
            assert {path.stat().st_mode & 0o777 for path in (copy, copies)} == {0o700}
        sqlite.sweep(copies, children.is_alive)
        assert copy.exists()  # we live
    assert not list(copies.iterdir())


def test_the_copy_of_a_process_that_was_killed_is_swept(abandoned: Path, tmp_path: Path) -> None:
    home = Home(tmp_path / "lmm").ensure()
    script = f"""
import os, sys
from pathlib import Path
from ingest.readers import sqlite
os.access = lambda *_: False
sqlite.copy_into(Path({str(home.copies)!r}))
with sqlite.opened(Path({str(abandoned)!r})):
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    assert len(list(home.copies.iterdir())) == 1
    env = {"HOME": str(tmp_path / "nobody"), "LMM_EMBEDDER_NAME": "none"}
    assert service.run(home, env, config.load(home.config, env), [abandoned.parent], stay=False) == 0
    assert not list(home.copies.iterdir())


@pytest.mark.usefixtures("not_ours")
@pytest.mark.parametrize("name", ["state.vscdb", "data.sqlite3"])
def test_a_database_that_holds_tokens_too_is_never_copied(
    abandoned: Path, copies: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = abandoned.rename(abandoned.with_name(name))
    abandoned.with_name("notes.db-wal").rename(path.with_name(f"{name}-wal"))
    monkeypatch.setattr(shutil, "copyfile", lambda *_: pytest.fail("it was copied"))
    before = content(path.parent)
    with pytest.raises(CannotRead, match="give this user the right to write there"):
        words(path)
    assert content(path.parent) == before
    assert not copies.exists()


@pytest.mark.usefixtures("not_ours")
@pytest.mark.parametrize("name", ["notes.db", "state.vscdb"])
def test_a_database_without_a_log_is_read_in_place_where_nothing_may_be_written(
    database: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    path = database.rename(database.with_name(name))
    monkeypatch.setattr(shutil, "copyfile", lambda *_: pytest.fail("it was copied"))
    before = content(path.parent)
    assert words(path) == ["ahoy"]
    assert content(path.parent) == before
