"""Qwen Code's sessions about an invented harbour, in tests/sessions/qwen-code."""

from pathlib import Path

from ingest.readers.claude_code import ClaudeCode
from ingest.readers.gemini_cli import GeminiCli
from ingest.readers.qwen_code import QwenCode
from ingest.session import Cursor, Item, Unreadable
from lmm_mcp.domain.event import Event, Thread

ROOT = Path(__file__).parents[1] / "sessions" / "qwen-code" / "home" / ".qwen"
PROJECT = ROOT / "projects" / "-home-mira-harbour"
SID = "5e6f7081-0000-4000-8000-000000000001"
MAIN = PROJECT / "chats" / f"{SID}.jsonl"
FORK = PROJECT / "chats" / "6f708192-0000-4000-8000-000000000002.jsonl"
CHILD = PROJECT / "chats" / "70819203-0000-4000-8000-000000000003.jsonl"
SUB = PROJECT / "subagents" / SID / "agent-explore-7f3c.jsonl"


def items(path: Path) -> list[Item]:
    return list(QwenCode().read(path, Cursor()))


def events(path: Path) -> list[Event]:
    return [item for item in items(path) if isinstance(item, Event)]


def thread_of(path: Path) -> Thread:
    return [item for item in items(path) if isinstance(item, Thread)][-1]


def texts(path: Path, kind: str) -> list[str]:
    return [event.text for event in events(path) if event.kind == kind]


def test_sessions_lie_under_the_runtime_folder_and_where_they_lay_before() -> None:
    env = {"HOME": "/home/mira", "QWEN_RUNTIME_DIR": "~/scratch", "QWEN_HOME": "/srv/qwen"}
    assert QwenCode().roots(env, []) == (Path("/home/mira/scratch"), Path("/home/mira/.qwen"))


def test_chats_and_sub_agents_are_found_and_nothing_beside_them() -> None:
    found = [path.name for path in QwenCode().discover(ROOT)]
    assert len(found) == 5
    assert SUB.name in found
    assert not [name for name in found if name in ("logs.json", "agent-explore-7f3c.meta.json")]


def test_no_relative_takes_the_others_files() -> None:
    old = next(ROOT.glob("tmp/*/chats/*.json"))
    for path in (MAIN, SUB, old):
        assert QwenCode().claims(path)
        assert not ClaudeCode().claims(path)
        assert not GeminiCli().claims(path)


def test_call_ids_that_come_again_join_their_own_results() -> None:
    calls = {event.call_id: event.tool for event in events(MAIN) if event.kind == "call"}
    results = {calls[event.call_id]: event for event in events(MAIN) if event.kind == "result"}
    assert set(calls.values()) == {"run_shell_command", "edit", "mcp__lmm__recall"} == set(results)
    assert (results["run_shell_command"].exit_code, results["run_shell_command"].failed) == (1, True)
    assert (results["edit"].exit_code, results["edit"].failed) == (None, True)


def test_a_prompt_is_what_was_typed() -> None:
    assert texts(MAIN, "prompt") == ["Warum kommt die Flut zu früh? See @tides.py", "thank you"]


def test_what_was_compressed_leaves_its_summary() -> None:
    assert texts(MAIN, "summary") == ["<state_snapshot>The tides are right: 12.42 hours.</state_snapshot>"]


def test_a_title_given_by_the_user_stays() -> None:
    thread = thread_of(MAIN)
    assert (thread.title, thread.cwd, thread.branch) == ("Tides of the harbour", "/home/mira/harbour", "tides")


def test_our_tool_and_its_brief_are_marked() -> None:
    assert [event.kind for event in events(MAIN) if event.ours] == ["call", "result"]


def test_a_sub_agent_is_a_thread_of_its_session() -> None:
    thread = thread_of(SUB)
    assert (thread.session_id, thread.thread_id, thread.parent) == (SID, f"{SID}/explore-7f3c", SID)
    assert thread.title == "Explore"


def test_a_session_started_by_another_belongs_to_it() -> None:
    thread = thread_of(CHILD)
    assert (thread.session_id, thread.thread_id, thread.parent) == (SID, CHILD.stem, SID)


def test_a_fork_repeats_messages_under_their_own_ids_and_says_whence() -> None:
    mine, theirs = {event.id: event.text for event in events(MAIN)}, {event.id: event.text for event in events(FORK)}
    shared = mine.keys() & theirs.keys()
    assert len(shared) == 5
    assert thread_of(FORK).forked_from == SID
    assert {event.call_id for event in events(FORK) if event.call_id} <= {event.call_id for event in events(MAIN)}


def test_the_first_format_is_read_as_a_document_and_placed_by_its_hash() -> None:
    old = next(ROOT.glob("tmp/*/chats/*.json"))
    assert [event.kind for event in events(old)] == ["prompt", "reply", "call", "result"]
    assert thread_of(old) == Thread(
        "qwen-code",
        "81920314-0000-4000-8000-000000000004",
        "81920314-0000-4000-8000-000000000004",
        cwd="/home/mira/buoys",
    )


def test_unknown_records_are_counted() -> None:
    problems = [item.problem for item in items(MAIN) if isinstance(item, Unreadable)]
    assert problems == [
        "unknown system record type 'weather_report' (1 times)",
        "unknown record type 'lantern' (1 times)",
    ]
