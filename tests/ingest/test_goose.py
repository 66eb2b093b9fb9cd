"""Goose: rows that are replaced as a whole, what is told to the model alone, and the lines of before there was a database."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ingest.readers.goose import Goose
from ingest.session import Item, SourceFile, Unreadable
from lmm_mcp.domain.event import Event, Thread

SAMPLE = Path(__file__).parents[1] / "sessions" / "goose" / "home" / ".local" / "share" / "goose" / "sessions"
MAIN, CHILD, MOVED = "20260301_1", "20260301_2", "20250724_143012"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Goose's folder of sessions."""
    place = tmp_path / "goose" / "sessions"
    shutil.copytree(SAMPLE, place)
    script = place / "sessions.db.sql"
    with closing(sqlite3.connect(script.with_suffix(""))) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(script.read_text(encoding="utf-8"))
    script.unlink()
    return place


@pytest.fixture
def database(folder: Path) -> Path:
    return folder / "sessions.db"


def listed(path: Path) -> dict[str, SourceFile]:
    return {source.part: source for source in Goose().sources(path) if isinstance(source, SourceFile)}


def read(path: Path, part: str = "") -> list[Item]:
    return list(Goose().read(path, listed(path)[part].start))


def events(items: list[Item]) -> dict[str, Event]:
    return {item.id: item for item in items if isinstance(item, Event)}


def thread(items: list[Item]) -> Thread:
    (found,) = (item for item in items if isinstance(item, Thread))
    return found


def replace_conversation(path: Path, session: str, *, without: str = "") -> None:
    """As Goose does it: all rows go, those that stay are written anew."""
    columns = "message_id, session_id, role, content_json, created_timestamp, metadata_json"
    with closing(sqlite3.connect(path)) as connection, connection:
        rows = connection.execute(
            f"SELECT {columns} FROM messages WHERE session_id = ? ORDER BY id", (session,)
        ).fetchall()
        connection.execute("DELETE FROM messages WHERE session_id = ?", (session,))
        kept = [row for row in rows if row[0] != without]
        connection.executemany(f"INSERT INTO messages ({columns}) VALUES (?, ?, ?, ?, ?, ?)", kept)


def test_a_conversation_that_was_replaced_is_listed_anew_and_told_under_the_same_ids(database: Path) -> None:
    before, told = listed(database), events(read(database, MAIN))
    replace_conversation(database, MAIN)
    assert {name for name, source in listed(database).items() if source != before[name]} == {MAIN}
    assert events(read(database, MAIN)) == told


def test_what_a_replacement_left_out_is_told_no_more(database: Path) -> None:
    before, told = listed(database), events(read(database, MAIN))
    replace_conversation(database, MAIN, without="msg_0a16")
    assert listed(database)[MAIN].size == before[MAIN].size - 1
    assert set(told) - set(events(read(database, MAIN))) == {"msg_0a16"}


@pytest.mark.parametrize("session", [MAIN, MOVED])
def test_rows_whose_ids_were_made_up_by_a_migration_keep_theirs(database: Path, session: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE messages SET message_id = NULL")
    without_ids = events(read(database, session))
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE messages SET message_id = 'msg_' || session_id || '_' || id")
    assert events(read(database, session)) == without_ids


def test_a_session_is_the_same_in_its_lines_and_in_the_database_they_were_imported_into(folder: Path) -> None:
    in_lines, in_rows = read(folder / f"{MOVED}.jsonl"), read(folder / "sessions.db", MOVED)
    assert in_lines[:-1] == in_rows[:-1]
    assert [event.text for event in events(in_lines).values()] == [
        "Weigh the catch.",
        "scales --read",
        "12 kg",
        "Twelve kilos — schwer!",
    ]


def test_lines_that_were_written_anew_with_more_keep_their_ids(folder: Path) -> None:
    lines = folder / f"{MOVED}.jsonl"
    told = events(read(lines))
    more = {
        "id": None,
        "role": "user",
        "created": 1763366500,
        "content": [{"type": "text", "text": "Weigh the catch."}],
    }
    lines.write_text(lines.read_text(encoding="utf-8") + "\n" + json.dumps(more) + "\n", encoding="utf-8")
    again = events(read(lines))
    assert again.keys() > told.keys()
    assert len(again) == len(told) + 1


def test_short_ids_of_lines_do_not_meet_those_of_other_sessions(folder: Path) -> None:
    assert not {"m1", "m2"} & set(events(read(folder / "nets.jsonl")))
    assert thread(read(folder / "nets.jsonl")).cwd == "/home/mira/nets"


def test_what_is_told_to_the_model_alone_is_a_summary_or_nothing(database: Path) -> None:
    told = [event for event in events(read(database, MAIN)).values() if event.kind in ("prompt", "reply", "summary")]
    assert [(event.kind, event.text) for event in told] == [
        ("prompt", "Price the herring for Friday — für den Markt."),
        ("reply", "I look at last week."),
        ("reply", "Herring costs five on Friday. 🐟"),
        ("summary", "Herring is priced at five; the market opens at six."),
    ]


def test_calls_results_and_failures_are_told(database: Path) -> None:
    told = events(read(database, MAIN))
    shell = next(event for event in told.values() if event.command)
    assert (shell.tool, shell.command, shell.cwd) == (
        "developer__shell",
        "python price.py --day fri",
        "/home/mira/fishhall",
    )
    result = told[f"{shell.id}#result"]
    assert (result.exit_code, result.failed, result.call_id) == (2, True, shell.id)
    assert result.text == "price.py: no scales\n", "what is meant for the screen is said once"
    edit = told["toolu_01FishEditor0000001"]
    assert edit.paths == ("/home/mira/fishhall/price.py",)
    assert edit.text == "/home/mira/fishhall/price.py\n-price = 4\n+price = 5"
    refused = next(event for event in told.values() if event.kind == "result" and "-32602" in event.text)
    assert refused.failed


def test_our_own_traffic_is_marked_though_its_call_id_was_used_before(database: Path) -> None:
    told = events(read(database, MAIN))
    ours = [event for event in told.values() if event.ours]
    assert [event.kind for event in ours] == ["call", "result"]
    assert ours[0].tool == "lmm__recall"
    assert ours[0].call_id == ours[1].call_id


def test_a_sub_agent_names_its_parent_and_hidden_sessions_are_left_out(database: Path) -> None:
    assert set(listed(database)) == {MAIN, CHILD, MOVED}
    child = thread(read(database, CHILD))
    assert (child.session_id, child.thread_id, child.parent, child.title) == (MAIN, CHILD, MAIN, "")
    assert thread(read(database, MAIN)).title == "Price the herring"


def test_unknown_contents_are_said(folder: Path) -> None:
    for path, part, kind in ((folder / "sessions.db", MAIN, "hologram"), (folder / "nets.jsonl", "", "netting")):
        said = [item.problem for item in read(path, part) if isinstance(item, Unreadable)]
        assert said == [f"unknown content type {kind}"]


def test_an_older_schema_without_ids_and_parents_is_read(tmp_path: Path) -> None:
    database = tmp_path / "sessions.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.executescript(
            """CREATE TABLE sessions (id TEXT PRIMARY KEY, description TEXT, working_dir TEXT, updated_at TIMESTAMP);
            CREATE TABLE messages (id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT, role TEXT, content_json TEXT,
                created_timestamp INTEGER);
            INSERT INTO sessions VALUES ('20251001_1', 'Salt the cod', '/home/mira/cod', '2025-10-01 08:00:00');
            INSERT INTO messages VALUES (1, '20251001_1', 'user', '[{"type": "text", "text": "Salt it."}]', 1759305600);"""
        )
    items = read(database, "20251001_1")
    assert thread(items).title == "Salt the cod"
    (event,) = events(items).values()
    assert (event.at_ms, event.cwd) == (1759305600_000, "/home/mira/cod")


def test_its_places_are_known_on_three_systems() -> None:
    home = {"HOME": "/home/mira"}
    assert Path("/home/mira/.local/share/goose/sessions") in Goose().roots(home, ())
    assert Path("/data/goose/sessions") in Goose().roots(home | {"XDG_DATA_HOME": "/data"}, ())
    windows = home | {"APPDATA": "/c/Users/Mira/AppData/Roaming"}
    assert Path("/c/Users/Mira/AppData/Roaming/Block/goose/data/sessions") in Goose().roots(windows, ())
    rooted = home | {"GOOSE_PATH_ROOT": "/srv/goose", "XDG_DATA_HOME": "/data"}
    assert Goose().roots(rooted, (Path("/extra"),)) == (Path("/srv/goose/data/sessions"), Path("/extra"))


def test_only_sessions_are_looked_for_and_the_log_speaks_for_the_database(folder: Path) -> None:
    for name in ("config.yaml", "secrets.yaml", "backup.db", "sessions.db.bak"):
        (folder / name).write_text("{}", encoding="utf-8")
    reader = Goose()
    assert {path.name for path in reader.discover(folder)} == {"sessions.db", f"{MOVED}.jsonl", "nets.jsonl"}
    assert reader.session_of(folder, folder / "sessions.db-wal") == folder / "sessions.db"
    assert reader.session_of(folder, folder / "nets.jsonl") == folder / "nets.jsonl"
    for name in ("sessions.db-shm", "config.yaml", "backup.db"):
        assert reader.session_of(folder, folder / name) is None
    assert reader.session_of(folder, folder / "logs" / "nets.jsonl") is None


def test_files_are_claimed_by_tables_and_header(folder: Path, tmp_path: Path) -> None:
    assert all(Goose().claims(path) for path in Goose().discover(folder))
    other = tmp_path / "other.jsonl"
    other.write_text('{"role": "user", "working_dir": "/"}\n{"description": "x"}\n', encoding="utf-8")
    assert not Goose().claims(other)
    with closing(sqlite3.connect(tmp_path / "sessions.db")) as connection:
        connection.execute("CREATE TABLE sessions (id, working_dir, updated_at)")
    assert not Goose().claims(tmp_path / "sessions.db")
