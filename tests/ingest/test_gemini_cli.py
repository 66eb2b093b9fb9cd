"""Gemini CLI's sessions about an invented harbour, in tests/sessions/gemini-cli."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from ingest.readers.gemini_cli import GeminiCli
from ingest.session import Cursor, Item, ReadTo, Unreadable
from lmm_mcp.domain.event import Event, Thread

HOME = Path(__file__).parents[1] / "sessions" / "gemini-cli" / "home"
MAIN = "1a2b3c4d-0000-4000-8000-000000000001"


@pytest.fixture
def tmp(tmp_path: Path) -> Path:
    shutil.copytree(HOME, tmp_path / "home")
    return tmp_path / "home" / ".gemini" / "tmp"


def main_of(tmp: Path) -> Path:
    return tmp / "harbour" / "chats" / "session-2026-03-02T09-00-1a2b3c4d.jsonl"


def items(path: Path, cursor: Cursor | None = None) -> list[Item]:
    return list(GeminiCli().read(path, cursor or Cursor()))


def events(path: Path) -> dict[str, Event]:
    return {item.id: item for item in items(path) if isinstance(item, Event)}


def thread_of(path: Path) -> Thread:
    return [item for item in items(path) if isinstance(item, Thread)][-1]


def texts(path: Path, kind: str) -> list[str]:
    return [event.text for event in events(path).values() if event.kind == kind]


def test_the_home_of_gemini_is_moved_by_its_variable(tmp_path: Path) -> None:
    assert GeminiCli().roots({"HOME": "/home/mira"}, []) == (Path("/home/mira/.gemini/tmp"),)
    env = {"HOME": "/home/mira", "GEMINI_CLI_HOME": str(tmp_path)}
    assert GeminiCli().roots(env, [Path("/backup/.gemini")]) == (tmp_path / ".gemini/tmp", Path("/backup/.gemini/tmp"))


def test_a_session_that_was_resumed_is_read_from_its_new_file_alone(tmp: Path) -> None:
    old = tmp / "lighthouse/chats/session-2026-01-11T20-00-3c4d5e6f.json"
    assert old not in set(GeminiCli().discover(tmp))
    assert GeminiCli().session_of(tmp, old) == old.with_suffix(".jsonl")


def test_the_same_session_has_the_same_ids_in_both_formats(tmp: Path) -> None:
    old = tmp / "lighthouse/chats/session-2026-01-11T20-00-3c4d5e6f.json"
    before, after = events(old), events(old.with_suffix(".jsonl"))
    assert before.items() <= after.items()
    assert thread_of(old) == thread_of(old.with_suffix(".jsonl"))


def test_prompt_logs_and_unreadable_files_are_no_sessions(tmp: Path) -> None:
    chats = main_of(tmp).parent
    (chats / "session-2026-03-02T09-00-1a2b3c4d.jsonl.unreadable-1772442000000").touch()
    assert {path.name for path in GeminiCli().discover(tmp)}.isdisjoint({"logs.json", "projects.json"})
    assert not [path for path in GeminiCli().discover(tmp) if "unreadable" in path.name]


def test_the_project_is_told_by_the_registry_by_a_file_beside_and_by_the_hash_of_a_path(tmp: Path) -> None:
    by_hash = next(tmp.glob("*/chats/session-2026-01-10T20-00-2b3c4d5e.json"))
    assert thread_of(main_of(tmp)).cwd == "/home/mira/harbour"
    assert thread_of(next(tmp.glob("lighthouse/chats/*.jsonl"))).cwd == "/home/mira/lighthouse"
    assert thread_of(by_hash).cwd == "/home/mira/buoys"
    assert {event.cwd for event in events(by_hash).values()} == {"/home/mira/buoys"}


def test_a_hash_in_the_registry_names_a_project_without_any_path(tmp: Path) -> None:
    folder = tmp / hashlib.sha256(b"/home/mira/harbour").hexdigest() / "chats"
    folder.mkdir(parents=True)
    path = shutil.copy(next(tmp.glob("lighthouse/chats/*.jsonl")), folder)
    assert thread_of(Path(path)).cwd == "/home/mira/harbour"


def test_a_message_said_again_in_a_newer_version_takes_the_older_ones_place(tmp: Path) -> None:
    shell = [event for event in items(main_of(tmp)) if isinstance(event, Event) and event.command]
    assert len(shell) == 2 and len({event.id for event in shell}) == 1
    assert shell[0].command == "pytest -q tests/test_tides.py"


def test_a_failed_command_has_its_exit_code(tmp: Path) -> None:
    results = {
        event.call_id.partition("-")[0]: event for event in events(main_of(tmp)).values() if event.kind == "result"
    }
    assert (results["run_shell_command"].exit_code, results["run_shell_command"].failed) == (1, True)
    assert results["replace"].failed is False


def test_an_edit_shows_what_changes_and_where(tmp: Path) -> None:
    (edit,) = [event for event in events(main_of(tmp)).values() if event.tool == "replace"]
    assert edit.text == "/home/mira/harbour/tides.py\n-hours = 12\n+hours = 12.42"
    assert edit.paths == ("/home/mira/harbour/tides.py",)


def test_outputs_masked_later_do_not_replace_what_was_told(tmp: Path) -> None:
    assert not [text for text in texts(main_of(tmp), "result") if "masked" in text]


def test_a_prompt_is_what_was_typed_without_the_files_it_names(tmp: Path) -> None:
    assert texts(main_of(tmp), "prompt")[0] == "Why does the spring tide come too early? Prüfe @tides.py"


def test_files_behind_a_prompt_are_cut_off_where_nothing_says_what_was_typed(tmp: Path) -> None:
    path = main_of(tmp)
    path.write_text(path.read_text(encoding="utf-8").replace('"displayContent"', '"other"'), encoding="utf-8")
    assert texts(path, "prompt")[0] == "Why does the spring tide come too early? Prüfe @tides.py"


def test_what_was_rewound_was_said_and_what_was_compressed_is_a_summary(tmp: Path) -> None:
    assert "Use the wrong constant after all" in texts(main_of(tmp), "prompt")
    (summary,) = texts(main_of(tmp), "summary")
    assert "12.42 hours" in summary


def test_thoughts_are_no_replies(tmp: Path) -> None:
    assert "What I think of it" in texts(main_of(tmp), "thought")
    assert "Let me see what is remembered — 潮汐." in texts(main_of(tmp), "reply")


def test_our_tools_and_their_briefs_are_marked_also_under_a_bare_name(tmp: Path) -> None:
    ours = [event.tool or event.kind for event in events(main_of(tmp)).values() if event.ours]
    assert ours == ["mcp__lmm__recall", "result", "expand", "result"]


def test_sub_agents_of_sub_agents_belong_to_the_session_at_the_root(tmp: Path) -> None:
    chats = main_of(tmp).parent
    child = thread_of(chats / MAIN / "codebase_investigator-x7k2p9.jsonl")
    grandchild = thread_of(chats / "codebase_investigator-x7k2p9" / "cli_help-9q.jsonl")
    assert (child.session_id, child.thread_id, child.parent) == (MAIN, "codebase_investigator-x7k2p9", MAIN)
    assert (grandchild.session_id, grandchild.parent) == (MAIN, "codebase_investigator-x7k2p9")
    assert grandchild.cwd == "/home/mira/harbour"


def test_the_agents_summary_is_the_title(tmp: Path) -> None:
    assert thread_of(main_of(tmp)).title == "Tide constants of the harbour"


def test_unknown_records_and_messages_are_counted(tmp: Path) -> None:
    problems = [
        item.problem
        for path in sorted(GeminiCli().discover(tmp))
        for item in items(path)
        if isinstance(item, Unreadable)
    ]
    assert sorted(problems) == ["unknown message type 'sparkle' (1 times)", "unknown record type 'other' (1 times)"]


def test_a_document_under_the_name_of_lines_is_read_whole(tmp: Path) -> None:
    old = tmp / "lighthouse/chats/session-2026-01-11T20-00-3c4d5e6f.json"
    copy = old.with_name("session-copy.jsonl")
    shutil.copy(old, copy)
    assert GeminiCli().claims(copy)
    assert events(copy) == events(old)


def test_a_document_half_written_is_said_and_read_later(tmp: Path) -> None:
    path = next(tmp.glob("*/chats/session-2026-01-10T20-00-2b3c4d5e.json"))
    path.write_bytes(path.read_bytes()[:300])
    complaint, end = items(path)
    assert isinstance(complaint, Unreadable) and "being written" in complaint.problem
    assert end == ReadTo(Cursor())


def test_documents_of_others_are_not_claimed(tmp_path: Path) -> None:
    for name, content in {
        "package.json": {"name": "left-pad"},
        "session-1.json": {"sessionId": "x", "workspaceDirectory": "/", "history": []},
        "session-2.jsonl": {"sessionId": "x", "type": "user", "message": {}},
    }.items():
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
        assert not GeminiCli().claims(tmp_path / name)
