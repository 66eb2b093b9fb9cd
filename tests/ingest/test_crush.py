"""Crush: a database in each project, seconds for times, rows that lie in the log, messages rewritten while they are spoken."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ingest.readers.crush import Crush
from ingest.session import Item, SourceFile, Unreadable
from lmm_mcp.domain.event import Event, Thread

SAMPLE = Path(__file__).parents[1] / "sessions" / "crush" / "home" / "harbour"
MAIN = "6d0c1f5e-0000-4a00-8000-000000000001"
CHILD = "6d0c1f5e-0000-4a00-8000-00000000000a$$toolu_01CraneSubagent0001"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The database of a project."""
    project = tmp_path / "harbour"
    shutil.copytree(SAMPLE, project)
    script = project / ".crush" / "crush.db.sql"
    with closing(sqlite3.connect(script.with_suffix(""))) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(script.read_text(encoding="utf-8"))
    script.unlink()
    return script.with_suffix("")


def listed(path: Path) -> dict[str, SourceFile]:
    return {source.part: source for source in Crush().sources(path) if isinstance(source, SourceFile)}


def read(path: Path, part: str = MAIN) -> list[Item]:
    return list(Crush().read(path, listed(path)[part].start))


def events(items: list[Item]) -> dict[str, Event]:
    return {item.id: item for item in items if isinstance(item, Event)}


def message(number: int) -> str:
    return f"6d0c1f5e-0000-4a00-9000-{number:012}"


def test_rows_that_lie_only_in_the_log_are_read_while_crush_runs(database: Path) -> None:
    with closing(sqlite3.connect(database)) as crush:
        crush.execute("PRAGMA wal_autocheckpoint = 0")
        crush.execute(
            "INSERT INTO messages (id, session_id, role, parts, created_at, updated_at) VALUES ('late', ?, 'user', ?, 1, 1)",
            (MAIN, json.dumps([{"type": "text", "data": {"text": "And at ebb?"}}])),
        )
        crush.commit()
        assert "And at ebb?" not in database.read_bytes().decode("utf-8", "replace")
        assert events(read(database))["late"].text == "And at ebb?"


def test_a_message_that_goes_on_within_the_same_second_changes_the_listing_and_keeps_its_id(database: Path) -> None:
    before = listed(database)
    told = events(read(database))
    with closing(sqlite3.connect(database)) as crush, crush:
        crush.execute(
            "UPDATE messages SET parts = json_insert(parts, '$[#]', json(?)) WHERE id = ?",
            ('{"type": "text", "data": {"text": "It waits for the pilot."}}', message(13)),
        )
    after = listed(database)
    assert after[MAIN] != before[MAIN]
    assert after[CHILD] == before[CHILD]
    assert events(read(database)).keys() - told.keys() == {message(13)}


def test_messages_that_vanish_change_the_listing_and_nothing_else_is_told_anew(database: Path) -> None:
    before, told = listed(database), events(read(database))
    with closing(sqlite3.connect(database)) as crush, crush:
        crush.execute("DELETE FROM messages WHERE id = ?", (message(1),))
    assert listed(database)[MAIN].size == before[MAIN].size - 1
    assert events(read(database)) == {name: event for name, event in told.items() if name != message(1)}


def test_times_are_seconds_whatever_the_schema_says(database: Path) -> None:
    assert events(read(database))[message(1)].at_ms == 1772366400_000
    assert listed(database)[MAIN].mtime_ns // 1_000_000 == 1772366460_000


def test_the_project_is_the_folder_that_holds_the_database(database: Path) -> None:
    (thread,) = (item for item in read(database) if isinstance(item, Thread))
    assert thread.cwd == str(database.parents[1])
    assert thread.title == "Teach the crane to swing"


def test_with_another_data_folder_the_project_is_the_repository_around_it(database: Path, tmp_path: Path) -> None:
    moved = database.parents[1] / "var" / "state"
    moved.mkdir(parents=True)
    shutil.copy(database, moved / "crush.db")
    (database.parents[1] / ".git").mkdir()
    (thread,) = (item for item in read(moved / "crush.db") if isinstance(item, Thread))
    assert thread.cwd == str(database.parents[1])
    nowhere = tmp_path / "state" / "crush.db"
    nowhere.parent.mkdir()
    shutil.copy(database, nowhere)
    (thread,) = (item for item in read(nowhere) if isinstance(item, Thread))
    assert thread.cwd == ""


def test_a_sub_agent_names_its_parent_and_title_makers_are_left_out(database: Path) -> None:
    assert set(listed(database)) == {MAIN, CHILD}
    (thread,) = (item for item in read(database, CHILD) if isinstance(item, Thread))
    assert (thread.session_id, thread.parent) == (MAIN, MAIN)
    assert thread.is_subagent
    assert thread.title == ""
    with closing(sqlite3.connect(database)) as crush, crush:
        crush.execute("UPDATE sessions SET parent_session_id = ? WHERE id = ?", (CHILD, MAIN))
    assert events(read(database, CHILD))


def test_results_find_their_calls_though_a_model_counts_them_anew(database: Path) -> None:
    told = events(read(database))
    first, second = (f"{MAIN}:call_0{suffix}" for suffix in ("", ".2"))
    assert (told[first].tool, told[second].tool) == ("bash", "edit")
    assert told[f"{first}#result"].call_id == first
    assert told[f"{second}#result"].failed


def test_the_exit_code_is_read_out_of_the_output_and_the_frame_is_taken_off(database: Path) -> None:
    result = events(read(database))[f"{MAIN}:call_0#result"]
    assert (result.exit_code, result.failed) == (1, True)
    assert "<cwd>" not in result.text


def test_prompts_thoughts_replies_and_summaries_are_told_apart(database: Path) -> None:
    told = events(read(database))
    kinds = {name: event.kind for name, event in told.items() if event.kind not in ("call", "result")}
    assert kinds == {
        message(1): "prompt",
        f"{message(2)}#thought": "thought",
        message(2): "reply",
        message(6): "reply",
        message(12): "summary",
    }


def test_what_a_person_ran_themselves_is_a_call(database: Path) -> None:
    told = events(read(database))
    (typed,) = (event for event in told.values() if event.tool == "shell_command")
    assert typed.command == "git status"
    assert told[f"{typed.id}#result"].exit_code == 0
    assert told[f"{typed.id}#result"].failed is False


def test_our_own_traffic_is_marked_and_unknown_parts_are_said(database: Path) -> None:
    items = read(database)
    ours = {event.id for event in events(items).values() if event.ours}
    assert ours == {"toolu_01CraneRecall0000001", "toolu_01CraneRecall0000001#result"}
    assert [item.problem for item in items if isinstance(item, Unreadable)] == ["unknown part type hologram"]


def test_data_folders_are_found_by_the_list_that_crush_keeps(database: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    place = home / ".local" / "share" / "crush"
    place.mkdir(parents=True)
    (place / "projects.json").write_text(
        json.dumps(
            {
                "projects": [
                    {"path": str(database.parents[1]), "data_dir": str(database.parent)},
                    {"path": "/srv/quay", "data_dir": "state"},
                    {"path": 7, "data_dir": None},
                    "odd",
                ]
            }
        ),
        encoding="utf-8",
    )
    (place / "crush.json").write_text('{"providers": {"example": {"api_key": "k"}}}', encoding="utf-8")
    roots = Crush().roots({"HOME": str(home)}, ())
    assert roots[:2] == (database.parent, Path("/srv/quay/state"))
    assert list(Crush().discover(roots[0])) == [database]
    assert Crush().roots({"HOME": str(home), "CRUSH_GLOBAL_DATA": str(place)}, ())[0] == database.parent
    assert database.parent not in Crush().roots({"HOME": str(home), "CRUSH_GLOBAL_DATA": str(tmp_path)}, ())


@pytest.mark.parametrize("garbage", ["", "[]", '{"projects": {}}', '{"projects": [{"data_dir": "\\u0000"}]}', "{"])
def test_a_list_of_projects_that_cannot_be_read_names_none(tmp_path: Path, garbage: str) -> None:
    (tmp_path / "projects.json").write_text(garbage, encoding="utf-8")
    assert Crush().roots({"HOME": "/home/mira", "CRUSH_GLOBAL_DATA": str(tmp_path)}, ()) == (Path("/home/mira/.crush"),)


def test_a_project_and_a_data_folder_may_be_named_and_the_log_speaks_for_the_database(database: Path) -> None:
    project, folder = database.parents[1], database.parent
    assert list(Crush().discover(project)) == list(Crush().discover(folder)) == [database]
    assert list(Crush().discover(database)) == [database]
    for root in (project, folder, database):
        assert Crush().session_of(root, folder / "crush.db-wal") == database
    assert Crush().session_of(project, folder / "crush.db-shm") is None
    assert Crush().session_of(project, project / "src" / "crush.db") is None
    assert Crush().session_of(project, folder / "logs" / "crush.log") is None


def test_only_a_database_with_its_tables_is_claimed(database: Path, tmp_path: Path) -> None:
    assert Crush().claims(database)
    other = tmp_path / "crush.db"
    with closing(sqlite3.connect(other)) as connection, connection:
        connection.execute("CREATE TABLE sessions (id, title, parent_session_id, updated_at)")
    assert not Crush().claims(other)
    assert [item.problem for item in Crush().sources(other) if isinstance(item, Unreadable)]
