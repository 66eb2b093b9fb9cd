"""OpenCode and Kilo: parts that are rewritten in place, reverts, trees of sub-agents, and three kinds of stores."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ingest.readers.opencode import Kilo, OpenCode
from ingest.readers.opencode_stores import listed_rows
from ingest.session import Cursor, Item, SourceFile, Unreadable
from lmm_mcp.domain.event import Event, Thread

SESSIONS = Path(__file__).parents[1] / "sessions"
MAIN, CHILD, GRANDCHILD = (f"ses_4a0000000{n}ffeHarbourTides0{n + 1}" for n in range(3))
MIGRATED = "ses_3a00000000ffeHarbourOld0001"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """OpenCode's data folder as it lies under a home."""
    shutil.copytree(SESSIONS / "opencode" / "home", tmp_path / "home")
    folder = tmp_path / "home" / ".local" / "share" / "opencode"
    made(folder / "opencode.db.sql")
    return folder


def made(script: Path) -> Path:
    database = script.with_suffix("")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(script.read_text(encoding="utf-8"))
    script.unlink()
    return database


def listed(path: Path) -> dict[str, SourceFile]:
    return {source.part: source for source in OpenCode().sources(path) if isinstance(source, SourceFile)}


def read(path: Path, part: str = "") -> list[Item]:
    source = listed(path)[part]
    return list(OpenCode().read(path, source.start))


def events(items: list[Item]) -> dict[str, Event]:
    return {item.id: item for item in items if isinstance(item, Event)}


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


RUNNING = "prt_b50000000000800"


def test_a_tool_that_was_running_is_told_again_with_its_result_under_the_same_id(home: Path) -> None:
    database = home / "opencode.db"
    before, listed_before = events(read(database, MAIN)), listed(database)[MAIN]
    assert before[RUNNING].command == "make tides"
    assert f"{RUNNING}#result" not in before
    change(
        database,
        f"""UPDATE part SET time_updated = time_updated + 5000, data = json_set(data, '$.state.status', 'completed',
        '$.state.output', 'tides made', '$.state.metadata', json('{{"exit": 0}}')) WHERE id = '{RUNNING}'""",
    )
    after = events(read(database, MAIN))
    assert listed(database)[MAIN].mtime_ns != listed_before.mtime_ns
    assert after.keys() - before.keys() == {f"{RUNNING}#result"}
    assert after[f"{RUNNING}#result"].text == "tides made"
    assert after[f"{RUNNING}#result"].call_id == after[RUNNING].call_id


def test_what_was_reverted_is_told_no_more_and_what_stays_keeps_its_ids(home: Path) -> None:
    database = home / "opencode.db"
    before, listed_before = events(read(database, MAIN)), listed(database)[MAIN]
    change(
        database,
        "DELETE FROM part WHERE message_id >= 'msg_b500000000006' AND session_id = (SELECT min(session_id) FROM part"
        " WHERE id = 'prt_b50000000000800')",
        f"DELETE FROM message WHERE id >= 'msg_b500000000006' AND session_id = '{MAIN}'",
    )
    after = events(read(database, MAIN))
    assert listed(database)[MAIN].size < listed_before.size
    assert set(before) - set(after) == {"msg_b500000000007", RUNNING}
    assert all(before[name] == event for name, event in after.items())


@pytest.mark.parametrize("part", ["prt_b50000000000100", "prt_b50000000000203", "prt_b50000000000302"])
def test_an_edit_of_any_part_changes_the_listing_of_its_session_and_of_no_other(home: Path, part: str) -> None:
    database = home / "opencode.db"
    before = listed(database)
    change(database, f"UPDATE part SET time_updated = 1772399999000 WHERE id = '{part}'")
    assert {name for name, source in listed(database).items() if source != before[name]} == {MAIN}


def test_in_a_large_store_the_last_parts_tell_of_changes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.readers.opencode_stores._ALL_ROWS_bytes", 0)
    database = home / "opencode.db"
    before = listed(database)
    change(database, f"UPDATE part SET time_updated = 1772399999000 WHERE id = '{RUNNING}'")
    assert listed(database)[MAIN].mtime_ns // 1_000_000 == 1772399999000
    change(database, f"DELETE FROM part WHERE id = '{RUNNING}'")
    assert listed(database)[MAIN].size == before[MAIN].size - 1


def test_listing_a_store_counts_by_indexes_and_reads_no_json(home: Path) -> None:
    database = home / "opencode.db"
    queries: list[str] = []
    with closing(sqlite3.connect(database)) as connection:
        connection.set_trace_callback(queries.append)
        list(listed_rows("opencode", database, connection))
        connection.set_trace_callback(None)
        listing = next(query for query in queries if "count(*)" in query)
        plans = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {listing}")]
    assert "data" not in listing
    assert not [plan for plan in plans if plan.startswith("SCAN") and ("message" in plan or "part" in plan)]
    assert [plan for plan in plans if "COVERING INDEX part_session_idx" in plan]


def test_rows_that_lie_only_in_the_log_are_read_while_the_agent_runs(home: Path) -> None:
    database = home / "opencode.db"
    with closing(sqlite3.connect(database)) as agent:
        agent.execute("PRAGMA wal_autocheckpoint = 0")
        agent.execute(
            "INSERT INTO message VALUES ('msg_b500000000009', ?, 1772366460000, 1772366460000, '{\"role\": \"user\"}')",
            (MAIN,),
        )
        agent.execute(
            "INSERT INTO part VALUES ('prt_b50000000000900', 'msg_b500000000009', ?, 1772366460000, 1772366460000, ?)",
            (MAIN, '{"type": "text", "text": "And the moon?"}'),
        )
        agent.commit()
        assert events(read(database, MAIN))["msg_b500000000009"].text == "And the moon?"
        assert events(read(database, MAIN))["msg_b500000000009"].at_ms == 1772366460000


def test_every_sub_agent_belongs_to_the_main_line_and_names_who_started_it(home: Path) -> None:
    threads = {
        item.thread_id: item
        for part in (MAIN, CHILD, GRANDCHILD)
        for item in read(home / "opencode.db", part)
        if isinstance(item, Thread)
    }
    assert {thread.session_id for thread in threads.values()} == {MAIN}
    assert [threads[name].parent for name in (MAIN, CHILD, GRANDCHILD)] == ["", MAIN, CHILD]
    assert not threads[MAIN].is_subagent
    assert threads[GRANDCHILD].is_subagent


def test_a_sub_agent_whose_caller_is_not_there_stands_for_itself(home: Path) -> None:
    database = home / "opencode.db"
    change(database, "PRAGMA foreign_keys = OFF", f"DELETE FROM session WHERE id = '{MAIN}'")
    (child,) = {item for item in read(database, CHILD) if isinstance(item, Thread)}
    (grandchild,) = {item for item in read(database, GRANDCHILD) if isinstance(item, Thread)}
    assert (child.session_id, child.parent) == (CHILD, MAIN)
    assert (grandchild.session_id, grandchild.parent) == (CHILD, CHILD)


def test_sessions_that_name_each_other_as_parents_are_read_all_the_same(home: Path) -> None:
    database = home / "opencode.db"
    change(database, f"UPDATE session SET parent_id = '{GRANDCHILD}' WHERE id = '{MAIN}'")
    assert events(read(database, CHILD))


def test_only_what_a_person_typed_is_a_prompt(home: Path) -> None:
    prompts = [event.text for event in events(read(home / "opencode.db", MAIN)).values() if event.kind == "prompt"]
    assert prompts == [
        "Move the tide table to SQLite. Keep the old CSV readable, bitte — für Jörg.",
        "/review: review changes",
    ]


def test_commands_edits_failures_and_folders_are_told(home: Path) -> None:
    told = events(read(home / "opencode.db", MAIN))
    passed, failed = told["prt_b50000000000203#result"], told["prt_b50000000000204#result"]
    assert (passed.exit_code, passed.failed) == (0, False)
    assert (failed.exit_code, failed.failed) == (1, True)
    assert told["prt_b50000000000204"].command == "python -m pytest -q tests/test_quay.py"
    assert told["prt_b50000000000204"].cwd == "/home/mira/harbour/server"
    edit = told["prt_b50000000000205"]
    assert edit.paths == ("/home/mira/harbour/src/quay.py",)
    assert "+rows = db.execute(TIDES)" in edit.text
    assert told["prt_b50000000000206#result"].failed
    assert told["prt_b50000000000302#result"].failed  # a call that could not be made counts as completed there


def test_calls_are_joined_by_their_part_since_models_give_the_same_call_id_twice(home: Path) -> None:
    told = events(read(home / "opencode.db", MAIN))
    calls = [event for event in told.values() if event.kind == "call"]
    assert len({event.call_id for event in calls}) == len(calls)
    assert told["prt_b50000000000203"].group == told["prt_b50000000000206"].group == "msg_b500000000002"


def test_the_answer_to_a_compaction_is_a_summary(home: Path) -> None:
    (summary,) = (event for event in events(read(home / "opencode.db", MAIN)).values() if event.kind == "summary")
    assert summary.text.startswith("The tide table moved")


def test_an_unknown_part_is_said_once_with_its_count(home: Path) -> None:
    said = [item.problem for item in read(home / "opencode.db", MAIN) if isinstance(item, Unreadable)]
    assert said == ["unknown part type hologram (2 times)"]


def test_what_this_memory_said_is_marked(home: Path) -> None:
    told = events(read(home / "opencode.db", MAIN))
    assert told["prt_b50000000000300"].ours
    assert told["prt_b50000000000300#result"].ours
    assert not told["prt_b50000000000301"].ours


def test_a_title_that_was_never_given_is_none(home: Path) -> None:
    (thread,) = (item for item in read(home / "opencode.db", GRANDCHILD) if isinstance(item, Thread))
    assert thread.title == ""


def test_a_session_is_the_same_in_the_old_tree_and_in_the_database_it_moved_to(home: Path) -> None:
    (old,) = (path for path in OpenCode().discover(home) if path.stem == MIGRATED)
    in_rows = read(home / "opencode.db", MIGRATED)
    (home / "opencode.db").unlink()
    in_tree = read(old)
    assert in_tree[:-1] == in_rows[:-1]
    assert len(events(in_tree)) == 4


def test_the_old_tree_says_nothing_of_a_session_that_a_database_beside_it_tells(home: Path) -> None:
    (left, moved) = sorted(
        (path for path in OpenCode().discover(home) if path.suffix == ".json"), key=lambda path: path.stem == MIGRATED
    )
    assert moved.stem == MIGRATED
    assert not events(list(OpenCode().read(moved, Cursor())))
    assert events(list(OpenCode().read(left, Cursor())))
    change(home / "opencode.db", f"DELETE FROM message WHERE session_id = '{MIGRATED}'")  # it began to move
    assert events(list(OpenCode().read(moved, Cursor())))


def test_every_change_in_the_old_tree_changes_what_is_listed(home: Path) -> None:
    (old,) = (path for path in OpenCode().discover(home) if path.stem == MIGRATED)
    marks = {(source.size, source.mtime_ns) for source in OpenCode().sources(old) if isinstance(source, SourceFile)}
    part = home / "storage" / "part" / "msg_a500000000002" / "prt_a50000000000201.json"
    for act in (
        lambda: part.write_text(part.read_text(encoding="utf-8") + " ", encoding="utf-8"),
        lambda: part.with_name("prt_a50000000000202.json").write_text("{}", encoding="utf-8"),
        lambda: part.unlink(),
        lambda: (home / "storage" / "message" / MIGRATED / "msg_a500000000001.json").unlink(),
    ):
        act()
        (source,) = (item for item in OpenCode().sources(old) if isinstance(item, SourceFile))
        assert (source.size, source.mtime_ns) not in marks
        marks.add((source.size, source.mtime_ns))


def test_a_file_of_the_old_tree_speaks_for_its_session(home: Path) -> None:
    (old,) = (path for path in OpenCode().discover(home) if path.stem == MIGRATED)
    storage = home / "storage"
    reader = OpenCode()
    assert reader.session_of(home, storage / "message" / MIGRATED / "msg_gone.json") == old
    assert reader.session_of(home, storage / "part" / "msg_a500000000002" / "prt_new.json") == old
    assert reader.session_of(home, storage / "part" / "msg_unknown" / "prt_new.json") is None
    assert reader.session_of(home, storage / "session_diff" / f"{MIGRATED}.json") is None


def test_the_log_of_a_database_speaks_for_it(home: Path) -> None:
    reader = OpenCode()
    for name in ("opencode.db", "opencode.db-wal", "opencode.db-journal"):
        assert reader.session_of(home, home / name) == home / "opencode.db"
    assert reader.session_of(home, home / "opencode-dev.db-wal") == home / "opencode-dev.db"
    for name in ("opencode.db-shm", "auth.json", "opencode.db.bak", "mcp-auth.json"):
        assert reader.session_of(home, home / name) is None
    named = home / "elsewhere.db"  # a user may name the database itself
    assert reader.session_of(named, named.with_name("elsewhere.db-wal")) == named


def test_its_places_are_known_on_three_systems(tmp_path: Path) -> None:
    env = {"HOME": "/home/mira"}
    assert Path("/home/mira/.local/share/opencode") in OpenCode().roots(env, ())
    windows = env | {"LOCALAPPDATA": "/c/Users/Mira/AppData/Local"}
    assert Path("/c/Users/Mira/AppData/Local/kilo") in Kilo().roots(windows, ())
    moved = env | {"XDG_DATA_HOME": "/data"}
    assert Path("/data/opencode") in OpenCode().roots(moved, ())
    assert OpenCode().roots(env, (tmp_path,))[-1] == tmp_path


@pytest.mark.parametrize(
    ("named", "place"),
    [
        ("/srv/oc.db", "/srv/oc.db"),
        ("work.db", "/home/mira/.local/share/opencode/work.db"),
        ("~/oc.db", "/home/mira/oc.db"),
    ],
)
def test_the_database_that_the_environment_names_is_looked_at(named: str, place: str) -> None:
    assert Path(place) in OpenCode().roots({"HOME": "/home/mira", "OPENCODE_DB": named}, ())
    assert Path(place.replace("opencode", "kilo")) in Kilo().roots({"HOME": "/home/mira", "KILO_DB": named}, ())


def test_a_database_in_memory_is_no_place() -> None:
    without = OpenCode().roots({"HOME": "/home/mira"}, ())
    assert OpenCode().roots({"HOME": "/home/mira", "OPENCODE_DB": ":memory:"}, ()) == without


def test_kilo_and_opencode_claim_their_own_and_leave_each_others(home: Path, tmp_path: Path) -> None:
    shutil.copytree(SESSIONS / "kilo" / "home", tmp_path / "kilo-home")
    kilo = made(tmp_path / "kilo-home" / ".local" / "share" / "kilo" / "kilo.db.sql")
    assert Kilo().claims(kilo)
    assert not OpenCode().claims(kilo)
    assert OpenCode().claims(home / "opencode.db")
    assert not Kilo().claims(home / "opencode.db")
    with closing(sqlite3.connect(tmp_path / "strangers.db")) as connection:
        connection.execute("CREATE TABLE session (id, directory)")
    assert not OpenCode().claims(tmp_path / "strangers.db")


def test_an_export_is_one_session_under_the_ids_it_has_in_the_database(tmp_path: Path) -> None:
    (export,) = (SESSIONS / "opencode" / "import").glob("*.json")
    copy = tmp_path / "whatever.jsonl"  # people redirect it into any name
    shutil.copy(export, copy)
    assert OpenCode().claims(copy)
    items = read(copy)
    assert [item.thread_id for item in items if isinstance(item, Thread)] == [export.stem]
    assert set(events(items)) == {
        "msg_b600000000001",
        "prt_b60000000000200",
        "prt_b60000000000200#result",
        "prt_b60000000000201",
    }


def test_ids_that_were_blacked_out_name_nothing(tmp_path: Path) -> None:
    (export,) = (SESSIONS / "opencode" / "import").glob("*.json")
    document = json.loads(export.read_text(encoding="utf-8"))
    document["info"]["parentID"] = "REDACTED"
    for message in document["messages"]:
        message["info"]["id"] = "REDACTED"
        for part in message["parts"]:
            part["id"] = "REDACTED"
    copy = tmp_path / "ses_x.json"
    copy.write_text(json.dumps(document), encoding="utf-8")
    items = read(copy)
    assert len(events(items)) == 4
    assert "REDACTED" not in "".join(events(items))
    assert [item.is_subagent for item in items if isinstance(item, Thread)] == [False]


def test_a_session_whose_messages_lie_where_nobody_knows_is_said(home: Path) -> None:
    database = home / "opencode.db"
    change(
        database,
        "CREATE TABLE session_message (id text PRIMARY KEY, session_id text, type text, data text)",
        "INSERT INTO session_message VALUES ('m', 'ses_4affffffffffeNothingSaid01', 'user', '{}')",
    )
    said = [item.problem for item in OpenCode().sources(database) if isinstance(item, Unreadable)]
    assert said == ["messages in the unknown table session_message (1 sessions)"]


def test_a_store_of_before_there_were_times_and_sessions_of_parts_is_read(tmp_path: Path) -> None:
    database = tmp_path / "opencode.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.executescript(
            """CREATE TABLE session (id text PRIMARY KEY, directory text, time_created text, time_updated text);
            CREATE TABLE message (id text PRIMARY KEY, session_id text, time_created any, data text);
            CREATE TABLE part (id text PRIMARY KEY, message_id text, data text);
            INSERT INTO session VALUES ('s', '/home/mira/quay', '2026-03-01T12:00:00Z', '2026-03-01T12:00:09Z');
            INSERT INTO message VALUES ('m', 's', '2026-03-01T12:00:01Z', '{"role": "user"}');
            INSERT INTO part VALUES ('p', 'm', '{"type": "text", "text": "Mind the gap."}');"""
        )
    assert listed(database)["s"].size == 2
    assert listed(database)["s"].mtime_ns // 1_000_000 == 1772366409000
    (event,) = events(read(database, "s")).values()
    assert (event.at_ms, event.cwd) == (1772366401000, "/home/mira/quay")


def fork(path: Path, session: str, new: str, before: str, at: int) -> None:
    """As OpenCode does it: messages before one are copied under new ids, with their times, and nothing says where from."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO session SELECT ?, project_id, NULL, 'forked', directory, title || ' (fork #1)', version, NULL,"
            " ?, ?, NULL, NULL FROM session WHERE id = ?",
            (new, at, at, session),
        )
        messages = connection.execute(
            "SELECT id, time_created, data FROM message WHERE session_id = ? AND id < ? ORDER BY id", (session, before)
        ).fetchall()
        for number, (old, made, data) in enumerate(messages):
            name = f"msg_{new[-6:]}{number:06}"
            connection.execute("INSERT INTO message VALUES (?, ?, ?, ?, ?)", (name, new, made, at, data))
            parts = connection.execute("SELECT data FROM part WHERE message_id = ? ORDER BY id", (old,)).fetchall()
            connection.executemany(
                "INSERT INTO part VALUES (?, ?, ?, ?, ?, ?)",
                [(f"prt_{name[4:]}{n:02}", name, new, at, at, part) for n, (part,) in enumerate(parts)],
            )


def test_a_fork_tells_its_copies_under_the_ids_of_the_originals(home: Path) -> None:
    database = home / "opencode.db"
    original = events(read(database, MAIN))
    fork(database, MAIN, "ses_4d00000000ffeForked000001", "msg_b500000000004", 1772366500000)
    change(
        database,
        "INSERT INTO message VALUES ('msg_d1', 'ses_4d00000000ffeForked000001', 1772366501000, 1772366501000,"
        ' \'{"role": "user"}\')',
        "INSERT INTO part VALUES ('prt_d1', 'msg_d1', 'ses_4d00000000ffeForked000001', 1772366501000, 1772366501000,"
        ' \'{"type": "text", "text": "Or into a text file?"}\')',
    )
    items = read(database, "ses_4d00000000ffeForked000001")
    (thread,) = (item for item in items if isinstance(item, Thread))
    assert thread.forked_from == MAIN
    assert set(events(items)) - {"msg_d1"} == {name for name in original if name[4:] < "b500000000004"}
    assert events(items)["prt_b50000000000204#result"] == original["prt_b50000000000204#result"]
    assert events(read(database, MAIN)) == original


def test_a_fork_of_a_fork_finds_each_message_where_it_was_first_said(home: Path) -> None:
    database = home / "opencode.db"
    first, second = "ses_4d00000000ffeForked000001", "ses_4d00000000ffeForked000002"
    fork(database, MAIN, first, "msg_b500000000003", 1772366500000)
    change(
        database,
        f"INSERT INTO message VALUES ('msg_d1', '{first}', 1772366501000, 1772366501000, '{{\"role\": \"user\"}}')",
        f"INSERT INTO part VALUES ('prt_d1', 'msg_d1', '{first}', 1772366501000, 1772366501000,"
        ' \'{"type": "text", "text": "Or into a text file?"}\')',
    )
    fork(database, first, second, "msg_z", 1772366600000)
    items = read(database, second)
    (thread,) = (item for item in items if isinstance(item, Thread))
    assert thread.forked_from == first
    assert {"msg_b500000000001", "msg_d1"} <= set(events(items))


def test_a_fork_whose_original_is_gone_is_told_under_its_own_ids(home: Path) -> None:
    database = home / "opencode.db"
    fork(database, MAIN, "ses_4d00000000ffeForked000001", "msg_b500000000004", 1772366500000)
    change(database, f"DELETE FROM message WHERE session_id = '{MAIN}'")
    items = read(database, "ses_4d00000000ffeForked000001")
    assert [item.forked_from for item in items if isinstance(item, Thread)] == [""]
    assert "msg_000001000000" in events(items)
