"""cursor-agent's chats, tests/sessions/cursor-agent: transcripts without times and results, and stores that have them."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ingest import sources
from ingest.readers.cursor_agent import CursorAgent, folder_named
from ingest.readers.cursor_agent_talk import moment_ms
from ingest.session import Cursor, Item, SourceFile, Unreadable
from lmm_mcp.config import Sessions
from lmm_mcp.domain.event import Event, Thread

HOME = Path(__file__).parents[1] / "sessions" / "cursor-agent" / "home"
TILL, CHILD, HOURS, PLAIN = (f"4c1d0000-0000-4000-8000-00000000000{n}" for n in "abcd")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder `.cursor` of the sample."""
    shutil.copytree(HOME, tmp_path / "home")
    for script in (tmp_path / "home").rglob("*.sql"):
        with closing(sqlite3.connect(script.with_suffix(""))) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(script.read_text(encoding="utf-8"))
        script.unlink()
    return tmp_path / "home" / ".cursor"


def transcript(root: Path, chat: str = TILL) -> Path:
    return next(path for path in CursorAgent().discover(root) if path.stem == chat)


def store(root: Path, chat: str) -> Path:
    return next(root.glob(f"chats/*/{chat}/store.db"))


def items(path: Path) -> list[Item]:
    return list(CursorAgent().read(path, Cursor()))


def events(path: Path) -> list[Event]:
    return [item for item in items(path) if isinstance(item, Event)]


def thread(path: Path) -> Thread:
    return next(item for item in items(path) if isinstance(item, Thread))


def mark(path: Path) -> tuple[int, int]:
    (found,) = CursorAgent().sources(path)
    assert isinstance(found, SourceFile)
    return found.size, found.mtime_ns


def ids(found: list[Event]) -> list[str]:
    return [event.id for event in found]


def test_each_chat_is_found_once_wherever_it_lies(root):
    found = [str(path.relative_to(root)) for path in CursorAgent().discover(root)]
    assert sorted(found) == sorted(
        [
            f"projects/work-harbour/agent-transcripts/{TILL}/{TILL}.jsonl",
            f"projects/work-harbour/agent-transcripts/{TILL}/subagents/{CHILD}.jsonl",
            f"projects/work-harbour/agent-transcripts/{PLAIN}.txt",
            f"chats/0f1e2d3c4b5a69788796a5b4c3d2e1f0/{HOURS}/store.db",
        ]
    )


def test_calls_of_a_transcript_take_their_results_from_the_store(root):
    found = events(transcript(root))
    assert [(event.kind, event.tool or event.text[:14]) for event in found] == [
        ("prompt", "Warum startet "),
        ("reply", "I will look at"),
        ("call", "Read"),
        ("result", "PORT = 80"),
        ("call", "CallMcpTool"),
        ("result", "<lmm-brief not"),
        ("call", "Shell"),
        ("result", "Permission den"),
        ("call", "StrReplace"),
        ("result", "The file was u"),
        ("call", "Shell"),
        ("result", "listening on 5"),
        ("call", "Subagent"),
        ("prompt", "go on"),
        ("reply", "The till start"),
        ("prompt", "go on"),
    ]


def test_the_same_command_run_twice_has_each_its_own_result(root):
    first, second = [event for event in events(transcript(root)) if event.tool == "Shell"]
    results = {event.call_id: event for event in events(transcript(root)) if event.kind == "result"}
    assert (results[first.call_id].exit_code, results[first.call_id].failed) == (1, True)
    assert (results[second.call_id].exit_code, results[second.call_id].failed) == (0, False)
    assert (first.command, first.cwd) == ("python till.py", "/work/harbour")


def test_the_frame_around_a_commands_output_is_taken_off(root):
    assert "Permission denied: port 80" in [event.text for event in events(transcript(root))]


def test_without_its_store_a_transcript_says_the_same_without_results_under_the_same_ids(root):
    path = transcript(root)
    whole = [event for event in events(path) if event.kind != "result"]
    shutil.rmtree(root / "chats")
    alone = events(path)
    assert ids(alone) == ids(whole)
    assert [event.text for event in alone] == [event.text for event in whole]


def test_a_chat_whose_transcript_is_gone_keeps_its_ids(root):
    path = transcript(root)
    calls = {event.id for event in events(path) if event.tool in ("Read", "StrReplace")}
    path.unlink()
    path.with_suffix(".txt").unlink()
    store_path = store(root, TILL)
    assert store_path in CursorAgent().discover(root)
    with closing(sqlite3.connect(store_path)) as connection, connection:
        connection.execute("UPDATE meta SET value = '{}'")  # no root: all that was stored, in its order
    assert calls <= set(ids(events(store_path)))


def test_messages_of_a_store_come_as_its_root_lists_them(root):
    found = events(store(root, HOURS))
    assert [(event.kind, event.text) for event in found] == [
        ("prompt", "When does the shop open?"),
        ("thought", "The page says so."),
        ("call", "path: web/hours.html"),
        ("result", "Error: File not found"),
        ("reply", "Open from nine to five."),
    ]
    assert found[0].at_ms == 1772445600000
    assert found[3].failed


def test_a_root_that_cannot_be_understood_costs_only_the_order(root):
    path = store(root, HOURS)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE blobs SET data = X'ffffffffff' WHERE substr(data, 1, 1) = X'0a'")
    assert "Open from nine to five." in [event.text for event in events(path)]


def test_prompts_are_what_was_typed_and_carry_the_time(root):
    prompts = [event for event in events(transcript(root)) if event.kind == "prompt"]
    assert [event.text for event in prompts] == ["Warum startet die Kasse nicht? 🧾", "go on", "go on"]
    assert [event.at_ms for event in prompts] == [1772442000000, 1772442300000, 1772442360000]
    assert len(set(ids(prompts))) == 3


def test_a_sub_agent_belongs_to_the_chat_in_whose_folder_it_lies(root):
    found = thread(transcript(root, CHILD))
    assert (found.session_id, found.thread_id, found.parent) == (TILL, CHILD, TILL)
    assert [event.kind for event in events(transcript(root, CHILD))] == ["prompt", "reply"]


def test_a_chat_knows_its_title_and_its_folder(root):
    found = thread(transcript(root))
    assert (found.title, found.cwd) == ("Till does not start", "/work/harbour")
    assert thread(store(root, HOURS)).cwd == "/work/harbour/web"
    assert thread(transcript(root, PLAIN)).cwd == "/work/harbour"


def test_a_folder_is_found_by_a_name_that_could_mean_several(tmp_path):
    for name in ("my/shop", "my-shop.app/web", "my-shop"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    assert folder_named("my-shop-app-web", tmp_path) == tmp_path / "my-shop.app" / "web"
    assert folder_named("my-shop", tmp_path) in (tmp_path / "my" / "shop", tmp_path / "my-shop")
    assert folder_named("my-shop-gone", tmp_path) is None


def test_a_plain_text_transcript_says_what_was_asked_and_what_came_back(root):
    found = events(transcript(root, PLAIN))
    assert [(event.kind, event.text) for event in found] == [
        ("prompt", "Which port does the shop use?"),
        ("thought", "The user wants a number."),
        ("reply", "Let me look."),
        ("call", "rg -n PORT shop"),
        ("result", "shop/settings.py:3: PORT = 8080"),
        ("reply", "The shop uses 8080."),
    ]
    assert found[3].command == "rg -n PORT shop"


def test_a_question_to_this_memory_through_the_server_is_ours(root):
    ours = [event for event in events(transcript(root)) if event.ours]
    assert [event.kind for event in ours] == ["call", "result"]
    assert ours[0].text == "query: port of the till"


def test_unknown_records_and_blocks_are_counted_and_known_silent_ones_are_not(root):
    assert {item.problem for item in items(transcript(root)) if isinstance(item, Unreadable)} == {
        "unknown record type 'shiny_new_record' (1 times)",
        "unknown block type 'hologram' (1 times)",
    }


def test_a_store_that_cannot_be_read_is_said_and_costs_only_the_results(root):
    store(root, TILL).write_bytes(b"no database at all")
    found = items(transcript(root))
    assert "results are missing" in next(item.problem for item in found if isinstance(item, Unreadable))
    assert [item for item in found if isinstance(item, Event) and item.kind == "reply"]


def test_a_change_of_the_store_changes_the_mark_of_its_transcript(root):
    path = transcript(root)
    before = mark(path)
    with closing(sqlite3.connect(store(root, TILL))) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        with connection:
            connection.execute("INSERT INTO blobs VALUES ('00', X'00')")
        assert mark(path) != before


def test_a_change_of_a_store_or_its_log_speaks_of_the_transcript(root):
    reader = CursorAgent()
    path = transcript(root)
    for name in ("store.db", "store.db-wal", "meta.json"):
        assert reader.session_of(root, store(root, TILL).with_name(name)) == path
        assert reader.session_of(root, store(root, HOURS).with_name(name)) == store(root, HOURS)
    assert reader.session_of(root, path.with_suffix(".txt")) == path
    assert reader.session_of(root, store(root, TILL).with_name("prompt_history.json")) is None
    assert reader.session_of(root, root / "cli-config.json") is None
    assert reader.session_of(root, root / "projects" / "work-harbour" / "terminals" / "1.txt") is None


def editors(user: Path) -> None:
    """Make the database of an editor that knows two of the chats."""
    database = user / "globalStorage" / "state.vscdb"
    database.parent.mkdir(parents=True)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE cursorDiskKV (key TEXT UNIQUE ON CONFLICT REPLACE, value BLOB)")
        connection.executemany(
            "INSERT INTO cursorDiskKV VALUES (?, '{}')", [(f"composerData:{PLAIN}",), (f"composerData:{TILL}",)]
        )


def test_a_transcript_that_the_editor_wrote_is_left_to_the_reader_of_the_editor(root):
    editors(root.parent / ".config" / "Cursor" / "User")
    assert list(CursorAgent().sources(transcript(root, PLAIN))) == []
    assert list(CursorAgent().sources(transcript(root, TILL)))  # it has a store of its own
    shutil.rmtree(root / "chats")
    assert list(CursorAgent().sources(transcript(root, TILL))) == []
    assert list(CursorAgent().sources(transcript(root, CHILD))) == []


@pytest.mark.parametrize("moved_by", ["XDG_CONFIG_HOME", "APPDATA", "sessions.folders"])
@pytest.mark.parametrize("left_out", [(), ("cursor",)])
def test_the_editors_transcripts_are_its_own_wherever_its_database_was_moved(root, tmp_path, moved_by, left_out):
    editors(tmp_path / "moved" / "Cursor" / "User")
    env = {"HOME": str(root.parent)}
    folders: tuple[str, ...] = ()
    if moved_by == "sessions.folders":
        folders = (f"cursor={tmp_path / 'moved' / 'Cursor' / 'User'}",)
    else:
        env[moved_by] = str(tmp_path / "moved")
    settings = Sessions(folders=folders, exclude_agents=left_out)
    found = [item for item in sources.find(env, settings, tmp_path / "notes") if isinstance(item, SourceFile)]
    assert {item.path.stem for item in found if item.agent == "cursor-agent"} == {TILL, "store"}
    of_editor = {item.part for item in found if item.agent == "cursor"}
    assert of_editor == (set() if left_out else {PLAIN, TILL})
    again = sources.named([root / "projects"])  # by name, in the same process
    assert PLAIN not in {item.path.stem for item in again if isinstance(item, SourceFile)}


def test_chats_are_read_where_the_environment_moved_them(root, tmp_path):
    (tmp_path / "config").mkdir()
    root.rename(tmp_path / "config" / "cursor")
    env = {"HOME": str(tmp_path / "home"), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    found = [item for item in sources.find(env, Sessions(), tmp_path / "notes") if isinstance(item, SourceFile)]
    assert {item.agent for item in found} == {"cursor-agent"}
    assert {item.path.stem for item in found} == {TILL, CHILD, PLAIN, "store"}
    assert all(events(item.path) for item in found)


def test_the_environment_moves_the_folder():
    assert CursorAgent().roots({"HOME": "/home/mira"}, []) == (Path("/home/mira/.cursor"),)
    found = CursorAgent().roots({"HOME": "/home/mira", "XDG_CONFIG_HOME": "/srv/config"}, [])
    assert found == (Path("/home/mira/.cursor"), Path("/srv/config/cursor"))
    assert CursorAgent().roots({"HOME": "/home/mira", "CURSOR_CONFIG_DIR": "/srv/cursor"}, []) == (Path("/srv/cursor"),)


@pytest.mark.parametrize(
    ("stamp", "at_ms"),
    [
        ("Sunday, Jul 26, 2026, 1:06 PM (UTC+3)", 1785060360000),
        ("Monday, Mar 2, 2026, 12:00 AM (UTC-5:30)", 1772429400000),
        ("Monday, Mar 2, 2026, 12:30 PM (UTC)", 1772454600000),
        ("Monday, Xyz 2, 2026, 12:30 PM (UTC)", 0),
        ("yesterday", 0),
    ],
)
def test_times_are_read_as_the_agent_writes_them(stamp, at_ms):
    assert moment_ms(stamp) == at_ms


def test_a_time_that_cannot_be_is_no_time_and_no_error(tmp_path):
    path = tmp_path / "agent-transcripts" / "x.jsonl"
    path.parent.mkdir()
    text = "<timestamp>Monday, Feb 31, 2026, 99:99 PM (UTC+99)</timestamp><user_query>hello</user_query>"
    path.write_text(json.dumps({"role": "user", "message": {"content": text}}) + "\n", encoding="utf-8")
    assert [event.text for event in events(path)] == ["hello"]
