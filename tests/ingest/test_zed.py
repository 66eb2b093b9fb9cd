"""Zed's store of threads, tests/sessions/zed: one document a row, packed or not, of two generations."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import zstandard

from ingest import sources
from ingest.readers.zed import Zed
from ingest.session import Cursor, Item, SourceFile, Unreadable
from lmm_mcp.config import Sessions
from lmm_mcp.domain.event import Event, Thread

HOME = Path(__file__).parents[1] / "sessions" / "zed" / "home"
PRICES, FLOATS, TILL, NEWER, DAMAGED = (f"2ed00000-0000-4000-8000-00000000000{n}" for n in "abcde")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    shutil.copytree(HOME, tmp_path / "home")
    script = next((tmp_path / "home").rglob("*.sql"))
    with closing(sqlite3.connect(script.with_suffix(""))) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(script.read_text(encoding="utf-8"))
    script.unlink()
    return script.with_suffix("")


def run(store: Path, statement: str, values: tuple[Any, ...] = ()) -> None:
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute(statement, values)


def listed(store: Path) -> dict[str, SourceFile]:
    return {item.part: item for item in Zed().sources(store) if isinstance(item, SourceFile)}


def items(store: Path, thread: str = PRICES) -> list[Item]:
    return list(Zed().read(store, Cursor(context={"part": thread})))


def events(store: Path, thread: str = PRICES) -> list[Event]:
    return [item for item in items(store, thread) if isinstance(item, Event)]


def thread(store: Path, name: str = PRICES) -> Thread:
    return next(item for item in items(store, name) if isinstance(item, Thread))


def problems(store: Path, name: str) -> set[str]:
    return {item.problem for item in items(store, name) if isinstance(item, Unreadable)}


def rewrite(store: Path, name: str, document: dict[str, Any]) -> None:
    packed = zstandard.ZstdCompressor().compress(json.dumps(document).encode())
    run(store, "UPDATE threads SET data_type = 'zstd', data = ? WHERE id = ?", (packed, name))


def test_a_packed_thread_is_told_message_by_message(store):
    assert [(event.kind, event.tool or event.text[:12]) for event in events(store)] == [
        ("prompt", "Why is the p"),
        ("thought", "Floats, prob"),
        ("reply", "I will run t"),
        ("call", "terminal"),
        ("result", 'Command "car'),
        ("call", "recall"),
        ("result", "<lmm-brief n"),
        ("call", "edit_file"),
        ("result", "-f32\n+u64"),
        ("reply", "Prices are w"),
        ("call", "spawn_agent"),
        ("summary", "Prices were "),
    ]


def test_a_mentioned_file_is_named_and_its_text_which_zed_put_in_is_not_what_was_typed(store):
    assert events(store)[0].text == "Why is the price in @/work/harbour/price.rs rounded? ½ € is missing."


def test_a_command_that_failed_says_so_in_its_words(store):
    call, result = events(store)[3:5]
    assert (call.command, call.cwd) == ("cargo test price", "/work/harbour")
    assert (result.exit_code, result.failed, result.call_id) == (101, True, call.call_id)


def test_an_edit_shows_its_diff_and_not_the_whole_file_twice(store):
    call, result = events(store)[7:9]
    assert call.paths == ("harbour/price.rs",)
    assert "all of it" not in result.text


def test_a_question_to_this_memory_is_known_by_its_brief_for_its_tool_bears_a_bare_name(store):
    assert [event.tool or event.kind for event in events(store) if event.ours] == ["recall", "result"]


def test_calls_with_ids_that_count_from_zero_bear_their_threads_name(store):
    assert next(event for event in events(store) if event.tool == "recall").id == f"{PRICES}:recall-0"


def test_a_thread_knows_folder_branch_remote_and_title(store):
    assert thread(store) == Thread(
        agent="zed",
        session_id=PRICES,
        thread_id=PRICES,
        title="Rounded prices",
        cwd="/work/harbour",
        branch="cents",
        remote="git@github.com:quay/harbour.git",
    )


def test_a_sub_agent_belongs_to_the_thread_at_the_root_of_its_tree(store):
    run(store, "UPDATE threads SET parent_id = ? WHERE id = ?", (FLOATS, TILL))
    assert (thread(store, FLOATS).session_id, thread(store, FLOATS).parent) == (PRICES, PRICES)
    assert (thread(store, TILL).session_id, thread(store, TILL).parent) == (PRICES, FLOATS)


def test_threads_that_name_each_other_as_parents_are_read_nevertheless(store):
    run(store, "UPDATE threads SET parent_id = ? WHERE id = ?", (FLOATS, PRICES))
    assert thread(store, FLOATS).thread_id == FLOATS


def test_a_thread_of_the_first_agent_is_told_without_its_system_prompt_and_context(store):
    assert [(event.kind, event.text) for event in events(store, TILL)] == [
        ("prompt", "Start the till."),
        ("thought", "A script?"),
        ("reply", "It runs."),
        ("call", "./till"),
        ("result", "listening"),
    ]


def test_an_old_thread_that_is_written_in_the_new_form_keeps_its_ids(store):
    before = [event.id for event in events(store, TILL)]
    use = {"id": "toolu_zed_old_04aaaa", "name": "terminal", "input": {"command": "./till", "cd": "harbour"}}
    answer = {"tool_use_id": use["id"], "tool_name": "terminal", "is_error": False, "content": [{"Text": "listening"}]}
    content = [{"Thinking": {"text": "A script?"}}, {"Text": "It runs."}, {"ToolUse": use}]
    user = {"id": "a new id", "content": [{"Text": "Start the till."}]}
    rewrite(
        store,
        TILL,
        {
            "version": "0.3.0",
            "title": "Start of the till",
            "messages": [{"User": user}, {"Agent": {"content": content, "tool_results": {use["id"]: answer}}}],
        },
    )
    assert [event.id for event in events(store, TILL)] == before


def test_the_oldest_documents_keep_a_text_and_results_in_the_next_message(store):
    document = {
        "messages": [
            {"id": 0, "role": "user", "text": "hello"},
            {"id": 1, "role": "assistant", "text": "hi", "tool_uses": [{"id": "t-1", "name": "now", "input": {}}]},
            {"id": 2, "role": "user", "text": "", "tool_results": [{"tool_use_id": "t-1", "content": "noon"}]},
        ]
    }
    run(store, "UPDATE threads SET data = ? WHERE id = ?", (json.dumps(document), TILL))
    found = events(store, TILL)
    assert [event.kind for event in found] == ["prompt", "reply", "call", "result"]
    assert found[2].call_id == found[3].call_id


def test_the_same_words_said_twice_are_two_messages(store):
    again = [{"User": {"id": name, "content": [{"Text": "go on"}]}} for name in ("u-8", "u-9")]
    rewrite(store, TILL, {"version": "0.3.0", "messages": again})
    assert len({event.id for event in events(store, TILL)}) == 2


def test_an_id_that_a_model_gives_to_two_calls_of_a_thread_names_two_calls(store):
    use = {"ToolUse": {"id": "now-0", "name": "now", "input": {}}}
    answers = [{"now-0": {"tool_use_id": "now-0", "content": [{"Text": text}]}} for text in ("noon", "one")]
    said = [{"Agent": {"content": [use], "tool_results": answer}} for answer in answers]
    rewrite(store, TILL, {"version": "0.3.0", "messages": said})
    found = events(store, TILL)
    assert len({event.id for event in found}) == 4
    assert [found[n].call_id == found[n + 1].call_id for n in range(3)] == [True, False, True]


def test_messages_taken_back_are_gone_and_the_rest_keeps_its_ids(store):
    messages = [{"User": {"id": str(n), "content": [{"Text": f"say {n}"}]}} for n in range(3)]
    rewrite(store, TILL, {"version": "0.3.0", "messages": messages})
    before = [event.id for event in events(store, TILL)]
    rewrite(store, TILL, {"version": "0.3.0", "messages": messages[:2]})
    assert [event.id for event in events(store, TILL)] == before[:2]


def test_what_cannot_be_unpacked_costs_that_thread_only(store):
    run(store, "UPDATE threads SET data = ? WHERE id = ?", (b"\x28\xb5\x2f\xfdrubbish", PRICES))
    assert "cannot be unpacked" in problems(store, PRICES).pop()
    assert problems(store, NEWER) == {"a thread packed in an unknown way"}
    assert "not JSON" in problems(store, DAMAGED).pop()
    assert events(store, FLOATS)


def test_unknown_messages_and_contents_are_counted(store):
    assert problems(store, PRICES) == {
        "unknown content type 'Hologram' (1 times)",
        "unknown message type 'Teleport' (1 times)",
    }


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE threads SET updated_at = '2026-03-02T10:00:00.123456788+00:00' WHERE id = ?",
        "UPDATE threads SET data = data || X'00' WHERE id = ?",
        "UPDATE threads SET summary = 'a longer name of the thread' WHERE id = ?",
    ],
)
def test_a_change_of_a_thread_changes_its_mark_and_no_others(store, change):
    before = listed(store)
    run(store, change, (PRICES,))
    after = listed(store)
    assert (after[PRICES].size, after[PRICES].mtime_ns) != (before[PRICES].size, before[PRICES].mtime_ns)
    assert after[FLOATS] == before[FLOATS]


def test_a_store_from_before_the_newer_columns_is_read(store):
    for column in ("parent_id", "folder_paths", "folder_paths_order", "created_at"):
        run(store, f"ALTER TABLE threads DROP COLUMN {column}")
    assert thread(store).cwd == "/work/harbour"
    assert (thread(store, FLOATS).session_id, thread(store, FLOATS).parent) == (PRICES, PRICES)
    assert {event.at_ms for event in events(store, TILL)} == {1748764800000}


def test_the_store_is_looked_for_on_three_systems_and_as_a_flatpak():
    env = {"HOME": "/home/mira", "LOCALAPPDATA": "/c/Local", "FLATPAK_XDG_DATA_HOME": "/srv/flat"}
    found = Zed().roots(env, [])
    for place in (
        "/home/mira/.local/share/zed",
        "/home/mira/Library/Application Support/Zed",
        "/c/Local/Zed",
        "/srv/flat/zed",
        "/home/mira/.var/app/dev.zed.Zed/data/zed",
    ):
        assert Path(place) in found


def test_only_the_database_of_threads_and_its_log_are_spoken_of(store):
    root = store.parent.parent
    assert Zed().session_of(root, store.with_name("threads.db-wal")) == store
    assert Zed().session_of(root, root / "db" / "0-stable" / "db.sqlite") is None


def test_a_folder_that_has_two_names_is_looked_through_once(tmp_path: Path) -> None:
    data = tmp_path / ".local" / "share"
    (data / "zed" / "threads").mkdir(parents=True)
    (data / "Zed").symlink_to(data / "zed")  # as a disk that does not tell them apart has it
    env = {"HOME": str(tmp_path)}
    found = [root for reader, root in sources.roots(env, Sessions(), tmp_path / "notes") if reader.agent == "zed"]
    assert found[0] == data / "zed"
    assert data / "Zed" not in found
    assert len(found) == len(Zed().roots(env, [])) - 1  # those that are not there may come
