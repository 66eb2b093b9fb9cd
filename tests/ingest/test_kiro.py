"""Kiro's stores, tests/sessions/kiro: three generations in the terminal, two in the editor."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ingest.readers.kiro import Kiro
from ingest.readers.kiro_ide import workspace_of
from ingest.session import Cursor, Item, ReadTo, SourceFile, Unreadable
from lmm_mcp.domain.event import Event, Thread

HOME = Path(__file__).parents[1] / "sessions" / "kiro" / "home"
TIDES = "c1a00000-0000-4000-8000-00000000000a"
NEAREST, LIGHT = (f"c1a00000-0000-4000-8000-00000000000{n}" for n in "be")
BOATS, COUNT = (f"sess_c1a00000-0000-4000-8000-00000000000{n}" for n in "cd")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    shutil.copytree(HOME, tmp_path / "home")
    script = next((tmp_path / "home").rglob("*.sql"))
    with closing(sqlite3.connect(script.with_suffix(""))) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(script.read_text(encoding="utf-8"))
    script.unlink()
    return tmp_path / "home"


def found(home: Path) -> Iterator[tuple[Path, Path]]:
    for root in Kiro().roots({"HOME": str(home)}, []):
        yield from ((root, path) for path in Kiro().discover(root))


def named(home: Path, part_of_path: str) -> Path:
    return next(path for _, path in found(home) if part_of_path in str(path))


def items(path: Path, cursor: Cursor | None = None) -> list[Item]:
    return list(Kiro().read(path, cursor or Cursor()))


def tides(home: Path) -> list[Item]:
    return items(named(home, "data.sqlite3"), Cursor(context={"part": TIDES}))


def events(told: list[Item]) -> list[Event]:
    return [item for item in told if isinstance(item, Event)]


def thread(told: list[Item]) -> Thread:
    return next(item for item in told if isinstance(item, Thread))


def problems(told: list[Item]) -> set[str]:
    return {item.problem for item in told if isinstance(item, Unreadable)}


def said(told: list[Item]) -> list[tuple[str, str]]:
    return [(event.kind, event.text) for event in events(told)]


# In the terminal


def test_a_conversation_that_was_continued_elsewhere_is_read_once_where_it_is_newest(home):
    sources = [item for item in Kiro().sources(named(home, "data.sqlite3")) if isinstance(item, SourceFile)]
    assert sorted(item.part for item in sources) == [TIDES, "damaged"]
    assert thread(tides(home)).cwd == "/work/harbour"


def test_turns_of_a_conversation_are_told_with_calls_and_results(home):
    assert [(event.kind, event.tool or event.text[:12]) for event in events(tides(home))] == [
        ("summary", "So far: the "),
        ("prompt", "Die Gezeiten"),
        ("reply", "I will run t"),
        ("call", "execute_bash"),
        ("call", "lmm___recall"),
        ("result", "tides: 3 of "),
        ("result", "<lmm-brief n"),
        ("call", "fs_write"),
        ("result", "Tool use was"),
        ("prompt", "No, ask the "),
        ("reply", "The table is"),
    ]


def test_a_command_that_exited_with_a_code_failed_although_its_status_is_success(home):
    call, result = (event for event in events(tides(home)) if event.call_id.startswith("tooluse_k1"))
    assert call.command == "make tides"
    assert (result.text, result.exit_code, result.failed) == ("tides: 3 of 4 wrong\nmake: *** [tides] Error 1", 2, True)


def test_an_edit_and_its_cancelled_result(home):
    call, result = (event for event in events(tides(home)) if event.call_id.startswith("tooluse_k3"))
    assert (call.text, call.paths) == ("/work/harbour/tides.py\n-HOUR = 1\n+HOUR = 0", ("/work/harbour/tides.py",))
    assert result.failed


def test_a_question_to_this_memory_and_its_brief_are_ours(home):
    assert [event.tool or event.kind for event in events(tides(home)) if event.ours] == ["lmm___recall", "result"]


def test_times_and_folders_are_those_of_the_turn(home):
    told = events(tides(home))
    assert told[1].at_ms == 1772442000000
    assert told[2].at_ms == 1772442065000
    assert told[-1].cwd == "/work/harbour/tables"


def test_context_that_was_injected_and_the_copy_for_the_screen_are_not_told(home):
    assert not [text for _, text in said(tides(home)) if "CONTEXT ENTRY" in text or "all of it once more" in text]


def test_a_conversation_that_goes_on_keeps_its_ids(home):
    before = [event.id for event in events(tides(home))]
    path = named(home, "data.sqlite3")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "UPDATE conversations_v2 SET value = json_insert(value, '$.history[#]', json(?)), updated_at = updated_at + 1"
            " WHERE key = '/work/harbour' AND conversation_id = ?",
            ('{"user": {"content": {"Prompt": {"prompt": "thanks"}}}, "assistant": {}}', TIDES),
        )
    assert [event.id for event in events(tides(home))][:-1] == before


def test_any_change_of_a_conversation_moves_its_time(home):
    path = named(home, "data.sqlite3")
    before = {item.part: item for item in Kiro().sources(path) if isinstance(item, SourceFile)}
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE conversations_v2 SET updated_at = updated_at + 1 WHERE key = '/work/harbour'")
    after = {item.part: item for item in Kiro().sources(path) if isinstance(item, SourceFile)}
    assert after[TIDES].mtime_ns > before[TIDES].mtime_ns


def test_a_damaged_conversation_is_said(home):
    told = items(named(home, "data.sqlite3"), Cursor(context={"part": "damaged"}))
    assert events(told) == []
    assert len(problems(told)) == 1


def test_unknown_contents_and_answers_are_counted(home):
    assert problems(tides(home)) == {
        "unknown content type 'Hologram' (1 times)",
        "unknown answer type 'Teleport' (1 times)",
    }


def test_pieces_of_an_answer_make_one_answer(home):
    told = items(named(home, NEAREST))
    assert said(told) == [
        ("prompt", "Which harbour is nearest?"),
        ("reply", "I will look at the map."),
        ("call", "path: map.json"),
        ("result", "no such file"),
        ("summary", "The map is missing."),
        ("reply", "There is no map here."),
    ]
    assert events(told)[3].failed
    assert problems(told) == {"unknown record type 'Hologram' (1 times)", "unknown content type 'smell' (1 times)"}


def test_a_session_takes_folder_title_and_time_from_the_file_beside_it(home):
    found_thread = thread(items(named(home, NEAREST)))
    assert (found_thread.thread_id, found_thread.title, found_thread.cwd) == (
        NEAREST,
        "Nearest harbour",
        "/work/harbour",
    )


def test_a_log_is_read_on_from_where_it_was_and_the_same_words_stay_apart(home):
    path = named(home, BOATS)
    *_, end = items(path)
    assert isinstance(end, ReadTo)
    assert end.cursor.offset == path.stat().st_size
    with path.open("a", encoding="utf-8") as file:
        file.write('{"role": "user", "content": "An old flat line."}\n')
    told = events(items(path, end.cursor))
    assert [event.text for event in told] == ["An old flat line."]
    assert told[0].id not in {event.id for event in events(items(path))[:-1]}


def test_a_sub_agent_belongs_to_the_session_it_names(home):
    found_thread = thread(items(named(home, COUNT)))
    assert (found_thread.session_id, found_thread.parent) == (BOATS, BOATS)


def test_a_result_without_success_has_failed(home):
    assert [event.failed for event in events(items(named(home, BOATS))) if event.kind == "result"] == [True]


# In the editor


def test_answers_of_the_editor_come_out_of_the_logs_of_their_executions(home):
    told = items(named(home, LIGHT))
    assert said(told) == [
        ("prompt", "Switch the lighthouse on."),
        ("call", "light.py\n import lamp\n-lamp = off\n+lamp = on\n "),
        ("result", ""),
        ("call", "python light.py"),
        ("result", "no lamp"),
        ("reply", "The lamp is on, but not there."),
        ("prompt", "thanks"),
        ("reply", "You are welcome."),
    ]
    assert [(event.exit_code, event.failed) for event in events(told) if event.kind == "result"] == [
        (None, False),
        (1, True),
    ]
    assert events(told)[0].at_ms == 1772442000000
    assert problems(told) == {"unknown action type 'hologram' (1 times)", "unknown role type 'oracle' (1 times)"}


def test_a_log_that_grows_changes_the_mark_of_a_session_that_is_open_and_not_of_an_old_one(home):
    path = named(home, LIGHT)
    log = next(home.glob(".config/Kiro/User/globalStorage/kiro.kiroagent/*/*/*[0-9a-f]"))
    now_ns = path.stat().st_mtime_ns

    def mark(session_ns: int, log_ns: int) -> int:
        os.utime(path, ns=(session_ns, session_ns))
        os.utime(log, ns=(log_ns, log_ns))
        (source,) = Kiro().sources(path)
        assert isinstance(source, SourceFile)
        return source.mtime_ns

    assert mark(now_ns, now_ns + 5) == now_ns + 5
    assert mark(now_ns, now_ns - 5) == now_ns
    assert mark(now_ns, now_ns + 48 * 3600 * 10**9) == now_ns


def test_a_log_of_an_execution_speaks_of_the_session_of_its_workspace(home):
    root, path = next((root, path) for root, path in found(home) if LIGHT in str(path))
    log = next(root.glob("*/*/*[0-9a-f]"))
    assert Kiro().session_of(root, log) == path
    assert Kiro().session_of(root, root / ("0" * 32) / ("1" * 32) / ("2" * 32)) is None


def test_files_of_one_workflow_tell_one_session_under_the_same_ids(home):
    chats = sorted((path for _, path in found(home) if path.suffix == ".chat"), key=lambda path: path.stat().st_size)
    short, long = (items(path) for path in chats)
    assert thread(short) == thread(long)
    assert thread(long).cwd == "/work/harbour"
    assert [event.id for event in events(short)] == [event.id for event in events(long)][:-1]
    assert [kind for kind, _ in said(long)] == ["prompt", "reply", "result", "reply"]


def test_what_the_editor_says_in_the_users_name_is_no_prompt(home):
    for _, path in found(home):
        if path.suffix in (".chat", ".json"):
            assert not [text for kind, text in said(items(path)) if kind == "prompt" and text.startswith(("#", "<"))]


@pytest.mark.parametrize(
    ("name", "workspace"),
    [
        ("L3dvcmsvaGFyYm91cg__", "/work/harbour"),
        ("L3dvcmsvaGFyYm91cg==", "/work/harbour"),
        ("QzpcV29ya1xTaG9w", "C:\\Work\\Shop"),
        ("settings", ""),
        ("", ""),
    ],
)
def test_a_folder_bears_the_path_of_its_workspace(name, workspace):
    assert workspace_of(Path("/x") / name) == workspace if name else workspace_of(Path()) == workspace


# Places


def test_every_generation_is_found_and_nothing_beside_it(home):
    names = sorted(path.name if path.name != "messages.jsonl" else path.parent.name for _, path in found(home))
    chats = [name for name in names if name.endswith(".chat")]
    assert len(chats) == 2
    assert sorted({*names} - {*chats}) == sorted(
        ["data.sqlite3", f"{NEAREST}.jsonl", BOATS, COUNT, f"{LIGHT}.json"],
    )


def test_side_files_speak_for_their_sessions(home):
    for part, beside in ((NEAREST, f"{NEAREST}.json"), (BOATS, "session.json"), ("data.sqlite3", "data.sqlite3-wal")):
        root, path = next((root, path) for root, path in found(home) if part in str(path))
        assert Kiro().session_of(root, path.with_name(beside)) == path
    root = home / ".kiro"
    assert Kiro().session_of(root, root / "settings" / "mcp.json") is None


def test_the_stores_are_looked_for_on_three_systems():
    roots = Kiro().roots({"HOME": "/home/mira", "APPDATA": "/c/Roaming", "LOCALAPPDATA": "/c/Local"}, [])
    for place in (
        "/home/mira/.local/share/kiro-cli",
        "/home/mira/Library/Application Support/kiro-cli",
        "/c/Local/kiro-cli",
        "/home/mira/.kiro",
        "/home/mira/.config/Kiro/User/globalStorage/kiro.kiroagent",
        "/c/Roaming/Kiro/User/globalStorage/kiro.kiroagent",
    ):
        assert Path(place) in roots
