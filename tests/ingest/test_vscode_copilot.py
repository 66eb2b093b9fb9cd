"""Chats of Copilot in VS Code, tests/sessions/vscode-copilot: documents, and logs of what was changed in them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ingest.readers.vscode_copilot import VsCodeCopilot
from ingest.readers.vscode_log import replayed
from ingest.session import Cursor, Item, Unreadable
from lmm_mcp.domain.event import Event, Thread

HOME = Path(__file__).parents[1] / "sessions" / "vscode-copilot" / "home"
USER = Path(".config/Code/User")
HOURS, ADD, BRANCH = (f"9a7e0000-0000-4000-8000-00000000000{n}" for n in "abc")
CALLS = f"{HOURS}:c0000005-sub"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    shutil.copytree(HOME, tmp_path / "home")
    return tmp_path / "home"


def chat(home: Path, name: str) -> Path:
    roots = (home / USER, home / ".vscode-server/data/User")
    return next(path for root in roots for path in VsCodeCopilot().discover(root) if path.stem == name)


def items(path: Path) -> list[Item]:
    return list(VsCodeCopilot().read(path, Cursor()))


def by_thread(path: Path) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = {}
    current = ""
    for item in items(path):
        if isinstance(item, Thread):
            current = item.thread_id
        elif isinstance(item, Event):
            found.setdefault(current, []).append(item)
    return found


def threads(path: Path) -> dict[str, Thread]:
    return {item.thread_id: item for item in items(path) if isinstance(item, Thread)}


def answered(path: Path, tool: str) -> tuple[Event, Event]:
    found = [event for events in by_thread(path).values() for event in events]
    call = next(event for event in found if event.tool == tool)
    return call, next(event for event in found if event.kind == "result" and event.call_id == call.call_id)


def replay(*operations: dict[str, Any]) -> Any:
    return replayed(enumerate(operations), Path("x.jsonl"))


def test_a_log_is_replayed_into_what_the_chat_shows(home):
    assert [(event.kind, event.tool or event.text[:18]) for event in by_thread(chat(home, HOURS))[HOURS]] == [
        ("prompt", "Die Öffnungszeiten"),
        ("summary", "So far: the openin"),
        ("thought", "The hours may be i"),
        ("reply", "I will look at `ho"),
        ("call", "copilot_readFile"),
        ("result", "export const open "),
        ("call", "mcp_lmm_recall"),
        ("result", '<lmm-brief note="q'),
        ("call", "run_in_terminal"),
        ("result", "1 failing: 8 is no"),
        ("call", "copilot_replaceString"),
        ("result", "The file was edite"),
        ("call", "runSubagent"),
        ("result", "Only hours.ts does"),
        ("call", "copilot_deleteFile"),
        ("result", "The deletion was r"),
        ("reply", "The hours are in U"),
        ("prompt", "thanks"),
        ("reply", "Any time."),
    ]


def test_the_old_document_beside_a_log_is_not_read_again(home):
    assert sorted(path.name for path in VsCodeCopilot().discover(home / USER)) == [f"{HOURS}.jsonl", f"{ADD}.json"]
    log = chat(home, HOURS)
    assert VsCodeCopilot().session_of(home / USER, log.with_suffix(".json")) == log


def test_the_document_that_was_the_log_has_the_same_ids(home):
    log = chat(home, HOURS)
    prompt = by_thread(log)[HOURS][0]
    log.unlink()
    document = chat(home, HOURS)
    assert document.suffix == ".json"
    (same,) = by_thread(document)[HOURS]
    assert (same.id, same.text) == (prompt.id, prompt.text)


def test_a_request_that_was_taken_back_is_gone(home):
    assert "delete the shop" not in json.dumps([event.text for event in by_thread(chat(home, HOURS))[HOURS]])


def test_a_chat_belongs_to_the_folder_of_its_window(home):
    assert threads(chat(home, HOURS))[HOURS] == Thread(
        agent="vscode-copilot",
        session_id=HOURS,
        thread_id=HOURS,
        title="Opening hours",
        cwd="/work/harbour web",
    )
    assert threads(chat(home, ADD))[ADD].cwd == ""


def test_a_chat_on_another_machine_knows_folder_branch_and_remote(home):
    found = threads(chat(home, BRANCH))[BRANCH]
    assert (found.cwd, found.branch, found.remote) == ("/work/all", "main", "https://github.com/quay/harbour.git")


def test_what_the_model_asked_and_was_given_is_found_beside_the_answer(home):
    call, result = answered(chat(home, HOURS), "copilot_readFile")
    assert (call.text, call.paths) == ("filePath: /work/harbour web/hours.ts", ("/work/harbour web/hours.ts",))
    assert result.text == "export const open = 8\nexport const close = 17"
    call, _ = answered(chat(home, HOURS), "copilot_replaceString")
    assert call.text == "/work/harbour web/hours.ts\n-open = 8\n+open = utc(8)"


def test_a_command_is_the_one_that_was_run_and_its_exit_code_tells_that_it_failed(home):
    call, result = answered(chat(home, HOURS), "run_in_terminal")
    assert (call.command, call.cwd) == ("npm test -- hours", "/work/harbour web/web")
    assert (result.exit_code, result.failed, result.text) == (1, True, "1 failing: 8 is not 9")


def test_a_call_that_a_person_refused_has_failed(home):
    assert answered(chat(home, HOURS), "copilot_deleteFile")[1].failed


def test_a_question_to_this_memory_and_its_brief_are_ours(home):
    assert all(event.ours for event in answered(chat(home, HOURS), "mcp_lmm_recall"))
    events = by_thread(chat(home, HOURS))[HOURS]
    assert len([event for event in events if event.ours]) == 2


def test_an_edit_is_told_once_by_its_call_and_alone_where_there_was_none(home):
    assert "textEditGroup" not in [event.tool for event in by_thread(chat(home, HOURS))[HOURS]]
    assert [(event.kind, event.text) for event in by_thread(chat(home, ADD))[ADD]] == [
        ("prompt", "write a function that adds"),
        ("reply", "Here it is."),
        ("call", "/work/sums/add.py\ndef add(a, b):\n    return a + b"),
        ("reply", "And that is all."),
    ]


def test_a_sub_agent_has_its_task_its_calls_and_its_answer_in_a_thread_of_its_own(home):
    path = chat(home, HOURS)
    child = threads(path)[CALLS]
    assert (child.session_id, child.parent) == (HOURS, HOURS)
    assert [(event.kind, event.text) for event in by_thread(path)[CALLS]] == [
        ("prompt", "Find every file that keeps a time."),
        ("call", "Searching for `Date`"),
        ("result", ""),
        ("reply", "Only hours.ts does."),
    ]
    assert by_thread(path)[CALLS][2].paths == ("/work/harbour web/hours.ts",)


def test_unknown_parts_and_operations_are_counted(home):
    assert {item.problem for item in items(chat(home, HOURS)) if isinstance(item, Unreadable)} == {
        "operations that cannot be followed (1 times)",
        "unknown part type 'hologram' (1 times)",
    }


def test_ids_stay_while_an_answer_is_being_written(home):
    path = chat(home, HOURS)
    whole = {event.id for events in by_thread(path).values() for event in events}
    lines = path.read_bytes().splitlines(keepends=True)
    for num_lines in range(1, 5):
        path.write_bytes(b"".join(lines[:num_lines]))
        assert {event.id for events in by_thread(path).values() for event in events} <= whole


def test_a_log_that_begins_anew_forgets_what_was_before():
    assert replay({"kind": 0, "v": {"a": 1}}, {"kind": 0, "v": {"b": 2}}) == ({"b": 2}, [])


@pytest.mark.parametrize(
    ("operation", "made"),
    [
        ({"kind": 1, "k": ["a", 0, "b"], "v": 5}, {"a": [{"b": 5}]}),
        ({"kind": 1, "k": ["a", 1], "v": 5}, {"a": [{"b": 1}, 5]}),
        ({"kind": 2, "k": ["a"], "v": [7]}, {"a": [{"b": 1}, 7]}),
        ({"kind": 2, "k": ["a"], "v": [7], "i": 0}, {"a": [7]}),
        ({"kind": 2, "k": ["a"], "i": 0}, {"a": []}),
        ({"kind": 2, "k": ["new"], "v": [7]}, {"a": [{"b": 1}], "new": [7]}),
        ({"kind": 3, "k": ["a", 0, "b"]}, {"a": [{}]}),
    ],
)
def test_operations_set_push_cut_and_delete(operation, made):
    assert replay({"kind": 0, "v": {"a": [{"b": 1}]}}, operation) == (made, [])


@pytest.mark.parametrize(
    "operation",
    [
        {"kind": 1, "k": ["a", 10**9], "v": 1},
        {"kind": 1, "k": ["a", -1, "b"], "v": 1},
        {"kind": 1, "k": ["nowhere", "b"], "v": 1},
        {"kind": 1, "k": [], "v": 1},
        {"kind": 1, "k": "a", "v": 1},
        {"kind": True, "k": ["a"], "v": 1},
        {"kind": 0},
        {},
    ],
)
def test_an_operation_that_leads_nowhere_is_counted_and_changes_nothing(operation):
    state, problems = replay({"kind": 0, "v": {"a": [{"b": 1}]}}, operation)
    assert state == {"a": [{"b": 1}]}
    assert len(problems) == 1


def test_files_beside_chats_are_none(home):
    reader, root = VsCodeCopilot(), home / USER
    folder = chat(home, HOURS).parent
    for name in ("settings.json", "state.vscdb", "chats.jsonl"):
        assert reader.session_of(root, folder / name) is None
    assert reader.session_of(root, root / "History" / "1a2b" / f"{HOURS}.json") is None


def test_every_editor_of_its_kind_is_looked_into():
    roots = VsCodeCopilot().roots({"HOME": "/home/mira", "APPDATA": "/c/Roaming"}, [Path("/extra")])
    for place in (
        ".config/Code - Insiders/User",
        "Library/Application Support/VSCodium/User",
        ".vscode-server/data/User",
    ):
        assert Path("/home/mira") / place in roots
    assert Path("/c/Roaming/Code/User") in roots
    assert roots[-1] == Path("/extra")
