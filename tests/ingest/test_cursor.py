"""The Cursor editor's store, tests/sessions/cursor: conversations as rows of a key-value table, beside tokens."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ingest.readers.cursor import CursorEditor
from ingest.session import Cursor, Item, SourceFile, Unreadable
from lmm_mcp.domain.event import Event, Thread

HOME = Path(__file__).parents[1] / "sessions" / "cursor" / "home"
BASKET, SUB, OLD, DELETED = (f"7b1f0c52-0d3e-4f0a-9a51-0000000000a{n}" for n in (1, 2, 3, 4))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The database of the sample, in its place."""
    shutil.copytree(HOME, tmp_path / "home")
    script = next((tmp_path / "home").rglob("*.sql"))
    with closing(sqlite3.connect(script.with_suffix(""))) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(script.read_text(encoding="utf-8"))
    script.unlink()
    return script.with_suffix("")


def run(store: Path, *statements: str) -> None:
    with closing(sqlite3.connect(store)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def name_parent(store: Path, child: str, parent: str) -> None:
    info = f"json_set(value, '$.subagentInfo.parentComposerId', '{parent}')"
    run(
        store,
        f"UPDATE cursorDiskKV SET value = json_set(value, '$.subagentInfo', json('{{}}')) WHERE key = 'composerData:{child}'",
        f"UPDATE cursorDiskKV SET value = {info} WHERE key = 'composerData:{child}'",
    )


def listed(store: Path) -> dict[str, SourceFile]:
    return {item.part: item for item in CursorEditor().sources(store) if isinstance(item, SourceFile)}


def items(store: Path, conversation: str = BASKET) -> list[Item]:
    return list(CursorEditor().read(store, Cursor(context={"part": conversation})))


def events(store: Path, conversation: str = BASKET) -> list[Event]:
    return [item for item in items(store, conversation) if isinstance(item, Event)]


def thread(store: Path, conversation: str = BASKET) -> Thread:
    return next(item for item in items(store, conversation) if isinstance(item, Thread))


def by_tool(found: list[Event], tool: str) -> tuple[Event, Event]:
    call = next(event for event in found if event.tool == tool)
    return call, next(event for event in found if event.kind == "result" and event.call_id == call.call_id)


def test_messages_come_in_the_order_of_the_list_and_not_of_the_table(store):
    assert [(event.kind, event.tool or event.text[:12]) for event in events(store)] == [
        ("prompt", "The basket l"),
        ("thought", "The total is"),
        ("reply", "Ich schaue m"),
        ("call", "read_file_v2"),
        ("result", "12: const to"),
        ("call", "search_replace"),
        ("result", "-sum(items)\n"),
        ("call", "run_terminal_command_v2"),
        ("result", "1 failing: d"),
        ("call", "mcp-lmm-recall"),
        ("result", "<lmm-brief n"),
        ("call", "edit_file_v2"),
        ("result", "Edit rejecte"),
        ("summary", "Summary so f"),
        ("call", "run_terminal_command_v2"),
        ("reply", "The discount"),
    ]


def test_a_message_that_was_taken_back_is_not_told_although_its_row_is_there(store):
    assert not [event for event in events(store) if "Never mind" in event.text]


def test_a_conversation_deleted_in_the_editor_is_not_listed_although_its_messages_are_there(store):
    assert set(listed(store)) == {BASKET, SUB, OLD}
    assert events(store, DELETED) == []


def test_a_conversation_knows_its_folder_by_its_window_its_branch_and_its_name(store):
    assert thread(store) == Thread(
        agent="cursor",
        session_id=BASKET,
        thread_id=BASKET,
        title="Basket discount",
        cwd="/work/harbour",
        branch="fix-discount",
    )


def test_a_sub_agent_belongs_to_the_conversation_that_lists_it(store):
    found = thread(store, SUB)
    assert (found.session_id, found.thread_id, found.parent) == (BASKET, SUB, BASKET)


def test_a_sub_agent_that_only_its_parent_knows_of_is_found_without_the_list_of_conversations(store):
    run(store, "DROP TABLE composerHeaders")
    found = thread(store, SUB)
    assert (found.session_id, found.thread_id, found.parent) == (BASKET, SUB, BASKET)


def test_a_sub_agent_is_read_again_when_its_parent_comes_to_name_it(store):
    run(
        store,
        f"UPDATE cursorDiskKV SET value = json_remove(value, '$.subagentComposerIds') WHERE key = 'composerData:{BASKET}'",
    )
    before = listed(store)
    assert thread(store, SUB).parent == ""
    run(
        store,
        f"UPDATE cursorDiskKV SET value = json_set(value, '$.subagentComposerIds', json('[\"{SUB}\"]'))"
        f" WHERE key = 'composerData:{BASKET}'",
    )
    after = listed(store)
    assert (after[SUB].size, after[SUB].mtime_ns) != (before[SUB].size, before[SUB].mtime_ns)
    assert after[OLD] == before[OLD]
    assert thread(store, SUB).parent == BASKET


def test_a_sub_agent_that_names_its_parent_belongs_to_it_without_any_list(store):
    run(store, "DROP TABLE composerHeaders")
    name_parent(store, SUB, BASKET)
    assert (thread(store, SUB).session_id, thread(store, SUB).parent) == (BASKET, BASKET)


def test_conversations_that_name_each_other_as_parents_are_read_nevertheless(store):
    name_parent(store, SUB, BASKET)
    name_parent(store, BASKET, SUB)
    assert thread(store, SUB).thread_id == SUB


def test_a_command_that_completed_with_an_exit_code_has_failed(store):
    call, result = by_tool(events(store), "run_terminal_command_v2")
    assert (call.command, call.cwd) == ("npm test -- basket", "/work/harbour/web")
    assert (result.text, result.exit_code, result.failed) == ("1 failing: discount is undefined", 1, True)


def test_an_edit_that_was_refused_has_failed_and_says_why(store):
    call, result = by_tool(events(store), "edit_file_v2")
    assert call.paths == ("web/till.ts",)
    assert "export const till = 5433" in call.text
    assert (result.text, result.failed) == ("Edit rejected: User chose to skip", True)


def test_a_tool_that_still_runs_has_no_result_yet(store):
    call = next(event for event in events(store) if event.command == "npm run watch")
    assert not [event for event in events(store) if event.kind == "result" and event.call_id == call.call_id]


def test_a_question_to_this_memory_and_its_brief_are_ours(store):
    call, result = by_tool(events(store), "mcp-lmm-recall")
    assert call.ours and result.ours
    assert call.text == "query: where is the discount stored"
    assert not [event for event in events(store) if event.ours and event not in (call, result)]


def test_what_a_tool_is_called_does_not_hide_that_its_server_is_ours(store):
    run(store, "UPDATE cursorDiskKV SET value = replace(value, 'mcp-lmm-recall', 'mcp_tool')")
    assert by_tool(events(store), "mcp_tool")[0].ours


def test_ids_are_the_bubbles_own_and_a_call_id_with_a_line_break_does_not_pass(store):
    found = events(store)
    assert found[0].id == "b0000000-0000-4000-8000-000000000001"
    assert [event.id.partition("#")[2] for event in found[3:5]] == ["call", "result"]
    assert found[3].call_id == found[4].call_id
    assert not [event for event in found if "\n" in event.call_id]


def test_times_are_the_bubbles_own_and_where_one_has_none_the_last_before_it_counts(store):
    found = events(store)
    assert found[0].at_ms == 1772442000000
    assert found[-1].at_ms == 1772442660000
    run(store, "UPDATE cursorDiskKV SET value = json_remove(value, '$.createdAt') WHERE key LIKE 'bubbleId:%'")
    assert {event.at_ms for event in events(store)} == {1772442000000}


def test_an_old_conversation_has_its_messages_inline_and_its_words_in_rich_text(store):
    prompt, reply = events(store, OLD)
    assert prompt.text == "Which port does @till use?\nBitte kurz."
    assert (prompt.at_ms, reply.at_ms) == (1741000000000, 1741000030000)


def test_a_conversation_that_keeps_its_messages_in_both_ways_tells_each_once(store):
    before = [(event.id, event.text) for event in events(store, OLD)]
    headers = (
        '[{"bubbleId": "b0000000-0000-4000-8000-000000000031"}, {"bubbleId": "b0000000-0000-4000-8000-000000000032"}]'
    )
    run(
        store,
        f"UPDATE cursorDiskKV SET value = json_set(value, '$.fullConversationHeadersOnly', json('{headers}'))"
        f" WHERE key = 'composerData:{OLD}'",
    )
    assert [(event.id, event.text) for event in events(store, OLD)] == before
    run(
        store,
        f"UPDATE cursorDiskKV SET value = json_remove(value, '$.conversation[0].bubbleId') WHERE key = 'composerData:{OLD}'",
    )
    assert len(events(store, OLD)) == 2


def test_an_old_conversation_belongs_to_the_window_that_holds_the_files_it_spoke_of(store):
    windows = store.parent.parent / "workspaceStorage"
    for name, folder in (("1a", "/work"), ("2b", "/work/till"), ("3c", "/work/till/docs"), ("4d", "/")):
        (windows / name).mkdir()
        (windows / name / "workspace.json").write_text(f'{{"folder": "file://{folder}"}}', encoding="utf-8")
    files = ", ".join(f'{{"uri": {{"fsPath": "/work/till/{name}"}}}}' for name in ("a.py", "b.py", "docs/c.md"))
    run(
        store,
        "UPDATE cursorDiskKV SET value = json_remove(json_set(value, '$.context', json('{\"fileSelections\": ["
        + files
        + f"]}}')), '$.workspaceIdentifier') WHERE key = 'composerData:{OLD}'",
    )
    assert thread(store, OLD).cwd == "/work/till"


def test_empty_rows_and_unknown_bubbles_are_counted(store):
    assert {item.problem for item in items(store) if isinstance(item, Unreadable)} == {
        "messages without readable content (1 times)",
        "unknown bubble type '7' (1 times)",
    }


def test_without_a_list_of_messages_they_come_in_the_order_they_were_written(store):
    run(
        store,
        f"UPDATE cursorDiskKV SET value = json_remove(value, '$.fullConversationHeadersOnly') WHERE key = 'composerData:{SUB}'",
    )
    assert [event.kind for event in events(store, SUB)] == ["prompt", "reply"]


@pytest.mark.parametrize(
    "change",
    [
        f"DELETE FROM cursorDiskKV WHERE key = 'bubbleId:{BASKET}:b0000000-0000-4000-8000-000000000014'",
        f"INSERT INTO cursorDiskKV VALUES ('bubbleId:{BASKET}:new', '{{}}')",
        f"INSERT INTO cursorDiskKV SELECT key, '{{}}' FROM cursorDiskKV WHERE key LIKE 'bubbleId:{BASKET}:%' LIMIT 1",
        f"INSERT INTO cursorDiskKV SELECT key, value FROM cursorDiskKV WHERE key = 'composerData:{BASKET}'",
        f"UPDATE composerHeaders SET lastUpdatedAt = 1772443000000 WHERE composerId = '{BASKET}'",
        f"UPDATE composerHeaders SET value = '{{}}' WHERE composerId = '{BASKET}'",
    ],
)
def test_whatever_happens_to_a_conversation_changes_its_mark_and_no_others(store, change):
    before = listed(store)
    run(store, change)
    after = listed(store)
    assert (after[BASKET].size, after[BASKET].mtime_ns) != (before[BASKET].size, before[BASKET].mtime_ns)
    assert {name: item for name, item in after.items() if name != BASKET} == {
        name: item for name, item in before.items() if name != BASKET
    }


def test_the_conversation_that_was_spoken_in_last_is_the_newest(store):
    order = sorted(listed(store).values(), key=lambda item: item.mtime_ns)
    assert [item.part for item in order] == [OLD, SUB, BASKET]
    assert order[-1].mtime_ns // 1_000_000 == 1772442900000


@pytest.fixture
def watched(monkeypatch) -> tuple[list[str], set[str]]:
    """Statements that are run, and tables of which a value is read."""
    statements: list[str] = []
    read: set[str] = set()

    def authorize(action: int, table: str | None, *more: object) -> int:
        if action == sqlite3.SQLITE_READ and table:
            read.add(table)
        return sqlite3.SQLITE_OK

    def watching(path: str, **more: Any) -> sqlite3.Connection:
        connection = connect(path, **more)
        connection.set_trace_callback(statements.append)
        connection.set_authorizer(authorize)
        return connection

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", watching)
    return statements, read


def test_no_row_is_ever_read_but_those_of_conversations(store, watched):
    for part in listed(store):
        events(store, part)
    statements, read = watched
    assert read & {"ItemTable", "cursorDiskKV", "composerHeaders"} == {"cursorDiskKV", "composerHeaders"}
    found = [statement for statement in statements if "FROM cursorDiskKV" in statement]
    assert found
    assert not [statement for statement in found if "composerData:" not in statement and "bubbleId:" not in statement]


def test_messages_are_not_read_to_find_out_which_are_new(store, watched):
    listed(store)
    (counting,) = [statement for statement in watched[0] if "bubbleId:" in statement]
    with closing(sqlite3.connect(store)) as connection:
        plan = [step[3] for step in connection.execute(f"EXPLAIN QUERY PLAN {counting}")]
    assert "SEARCH cursorDiskKV USING COVERING INDEX" in plan[0]


def test_the_database_is_found_on_three_systems():
    env = {"HOME": "/home/mira", "APPDATA": "/c/Roaming"}
    assert set(CursorEditor().roots(env, [])) == {
        Path("/home/mira/.config/Cursor/User"),
        Path("/home/mira/Library/Application Support/Cursor/User"),
        Path("/c/Roaming/Cursor/User"),
    }


def test_the_log_of_the_database_speaks_for_it_and_the_databases_of_windows_do_not(store):
    root = store.parent.parent
    reader = CursorEditor()
    assert reader.session_of(root, store.with_name("state.vscdb-wal")) == store
    assert reader.session_of(root, root / "workspaceStorage" / "5d41" / "state.vscdb") is None


def test_the_database_of_another_editor_is_not_claimed(tmp_path):
    path = tmp_path / "state.vscdb"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE ItemTable (key TEXT, value BLOB)")
    assert not CursorEditor().claims(path)


def test_other_keys_of_the_same_table_are_nobodys_conversation(store):
    run(
        store,
        "INSERT INTO cursorDiskKV VALUES ('checkpointId:x:y', '{}')",
        "INSERT INTO cursorDiskKV VALUES (NULL, 'x')",
    )
    assert set(listed(store)) == {BASKET, SUB, OLD}


def parts_of(iterator: Iterator[SourceFile | Unreadable]) -> list[str]:
    return [item.part for item in iterator if isinstance(item, SourceFile)]


def test_a_database_before_its_tables_are_made_holds_nothing(tmp_path):
    path = tmp_path / "state.vscdb"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE ItemTable (key TEXT, value BLOB)")
    assert parts_of(CursorEditor().sources(path)) == []
