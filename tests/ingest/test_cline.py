"""Cline and its forks about an invented web shop: task folders in tests/sessions/{cline,roo,kilo-legacy}, sessions in cline."""

import json
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from ingest.readers.cline import Cline
from ingest.readers.cline_calls import TaggedCall, outcome_of, tagged
from ingest.readers.registry import reader_for
from ingest.readers.roo import Roo
from ingest.session import Cursor, Item, SourceFile, Unreadable
from lmm_mcp.domain.event import Event, Thread

SESSIONS = Path(__file__).parents[1] / "sessions"
STORAGE = SESSIONS / "cline/home/.config/Code/User/globalStorage/saoudrizwan.claude-dev"
TAGS = STORAGE / "tasks/1767225600000/api_conversation_history.json"
BLOCKS = STORAGE / "tasks/1767312000000/api_conversation_history.json"
LINE = SESSIONS / "cline/home/.cline/data/sessions/1767400000000_harbr/1767400000000_harbr.messages.json"
ROO = SESSIONS / "roo/home/.config/VSCodium/User/globalStorage/rooveterinaryinc.roo-cline/tasks"
PARENT, CHILD, GRANDCHILD = (f"0198c0de-0000-7000-8000-00000000a00{n}" for n in (1, 2, 3))


def items(path: Path) -> list[Item]:
    reader = reader_for(path)
    assert reader is not None
    return list(reader.read(path, Cursor()))


def events(path: Path) -> list[Event]:
    return [item for item in items(path) if isinstance(item, Event)]


def thread_of(path: Path) -> Thread:
    (thread,) = [item for item in items(path) if isinstance(item, Thread)]
    return thread


def said(found: Iterable[Event], kind: str) -> list[str]:
    return [event.text for event in found if event.kind == kind]


def result_of(found: list[Event], tool: str) -> Event:
    (call_id,) = [event.call_id for event in found if event.kind == "call" and event.tool == tool]
    (result,) = [event for event in found if event.kind == "result" and event.call_id == call_id]
    return result


# Task folders


def test_only_what_a_person_typed_is_a_prompt() -> None:
    assert said(events(TAGS), "prompt") == [
        "The basket loses its discount für Stammkunden.",
        "Leave dist alone, seed the test data instead.",
        "Good. Also for guests?",
        "Write that down in README.md.",
    ]


def test_calls_in_tags_find_their_results_in_words() -> None:
    found = events(TAGS)
    assert said(found, "call") == [
        "path: web/basket.ts",
        "question: which port has the till?",
        "web/basket.ts\n------- SEARCH\ndiscount = 0\n=======\ndiscount = stored ?? 0\n+++++++ REPLACE",
        "npm test -- basket",
        "rm -rf web/dist",
    ]
    assert [event.call_id for event in found if event.kind == "result"] == [
        event.call_id for event in found if event.kind == "call"
    ]
    assert result_of(found, "read_file").text == "12  discount = 0\n13  // <task> is only a word here </task>"
    assert result_of(found, "replace_in_file").failed is None


def test_exit_codes_and_refusals_are_told() -> None:
    test, refused = [event for event in events(TAGS) if event.kind == "result" and event.failed]
    assert (test.exit_code, test.text) == (1, "1 failing: basket keeps the discount")
    assert (refused.exit_code, refused.text) == (
        None,
        "The user denied this operation and provided the following feedback:",
    )


def test_what_the_agent_says_by_a_tool_is_a_reply_and_thoughts_in_tags_are_thoughts() -> None:
    found = events(TAGS)
    assert "The basket keeps the discount now; the test data is seeded." in said(found, "reply")
    assert said(found, "thought") == ["The discount is set on the server."]
    assert not any("<" in text for text in said(found, "reply"))


def test_pieces_of_one_message_share_a_group() -> None:
    thought, reply, call = events(TAGS)[1:4]
    assert thought.group == reply.group == call.group == thought.id


def test_times_come_from_the_screen_by_number_or_by_request() -> None:
    assert [event.at_ms - 1767225600000 for event in events(TAGS)[:5]] == [0, 500, 500, 500, 2000]
    assert [event.at_ms - 1767312000000 for event in events(BLOCKS) if event.kind == "result"] == [100, 5000]


def test_the_index_of_tasks_names_folder_and_title() -> None:
    thread = thread_of(BLOCKS)
    assert (thread.session_id, thread.cwd, thread.title) == (
        "1767312000000",
        "/home/mira/harbour/till",
        "Why is the till slow?",
    )


def test_without_an_index_the_folder_is_what_the_model_was_told(tmp_path: Path) -> None:
    copy = shutil.copytree(TAGS.parent, tmp_path / "tasks" / "1767225600000")
    assert thread_of(copy / TAGS.name).cwd == "/home/mira/harbour"


def test_call_ids_that_a_provider_counts_from_zero_stay_apart() -> None:
    calls = [event for event in events(BLOCKS) if event.kind == "call"]
    assert [event.id for event in calls] == ["1767312000000:call_0", "1767312000000:call_0.2"]
    assert result_of(events(BLOCKS), "read_file").text == "import slow"


def test_our_own_calls_and_briefs_are_ours() -> None:
    for path, tool in ((TAGS, "lmm__recall"), (LINE, "lmm__recall"), (ROO / PARENT / TAGS.name, "mcp--lmm--recall")):
        found = events(path)
        assert {event.tool for event in found if event.ours} == {tool, ""}
        assert result_of(found, tool).ours


def test_unknown_blocks_and_roles_are_counted() -> None:
    problems = [item.problem for path in (TAGS, LINE) for item in items(path) if isinstance(item, Unreadable)]
    assert problems == ["unknown block type 'hologram' (1 times)", "unknown role type 'captain' (1 times)"]


def test_a_half_written_conversation_is_said_and_nothing_of_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / TAGS.name
    path.write_bytes(TAGS.read_bytes()[:2000])
    (problem,) = [item for item in Cline().read(path, Cursor()) if not isinstance(item, Event | Thread)][:-1]
    assert isinstance(problem, Unreadable)
    assert "perhaps it is being written" in problem.problem


def test_what_stays_keeps_its_ids_when_the_beginning_of_a_conversation_goes(tmp_path: Path) -> None:
    path = shutil.copytree(BLOCKS.parent, tmp_path / "1767312000000") / BLOCKS.name
    records = json.loads(path.read_text(encoding="utf-8"))
    before = {event.id for event in events(path)}
    path.write_text(json.dumps(records[:1] + records[3:]), encoding="utf-8")
    prose = {event.id for event in events(path) if event.kind not in ("call", "result")}
    assert prose < before


def test_a_task_that_moved_to_another_store_is_the_same_task(tmp_path: Path) -> None:
    moved = shutil.copytree(STORAGE, tmp_path / ".cline" / "data")
    (found,) = [path for path in Cline().discover(moved) if path.parent.name == TAGS.parent.name]
    assert thread_of(found) == thread_of(TAGS)
    assert [event.id for event in events(found)] == [event.id for event in events(TAGS)]


def test_a_result_within_a_block_is_told_without_its_frame(tmp_path: Path) -> None:
    path = tmp_path / "1767225600000" / TAGS.name
    path.parent.mkdir()
    output = "[read_file for 'a'] Result:\nmoored\n\n<environment_details>\n# Files\n</environment_details>"
    messages = [
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "x", "name": "read_file", "input": {"path": "a"}}],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x", "content": output}]},
    ]
    path.write_text(json.dumps(messages), encoding="utf-8")
    assert result_of(events(path), "read_file").text == "moored"


def test_a_change_of_the_screen_alone_makes_a_task_be_read_again(tmp_path: Path) -> None:
    path = shutil.copytree(TAGS.parent, tmp_path / "1767225600000") / TAGS.name
    (before,) = Cline().sources(path)
    screen = path.with_name("ui_messages.json")
    screen.write_text(screen.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    (after,) = Cline().sources(path)
    assert isinstance(before, SourceFile) and isinstance(after, SourceFile)
    assert after.size == before.size + 1
    assert Cline().session_of(tmp_path, screen) == path


def test_an_index_or_settings_beside_tasks_are_no_sessions() -> None:
    for name in (
        "state/taskHistory.json",
        "settings/cline_mcp_settings.json",
        "tasks/1/settings.json",
        "ui_messages.json",
    ):
        assert Cline().session_of(STORAGE, STORAGE / name) in (None, STORAGE / "api_conversation_history.json")


# Sessions of the command line


def test_a_session_knows_what_its_manifest_says() -> None:
    thread = thread_of(LINE)
    assert (thread.title, thread.cwd, thread.branch, thread.remote) == (
        "Ship the quay page",
        "/home/mira/harbour",
        "quay-page",
        "git@github.com:quay/harbour.git",
    )
    assert said(events(LINE), "prompt") == ["Ship the quay page"]


def test_a_sub_agent_is_a_thread_of_the_session_that_started_it() -> None:
    thread = thread_of(LINE.with_name("checker__x7Fq2a.messages.json"))
    assert (thread.session_id, thread.parent) == (LINE.parent.name, LINE.parent.name)
    assert thread.thread_id == f"{LINE.parent.name}__teamtask__checker__x7Fq2a"


def test_several_commands_are_one_call_that_failed_if_one_of_them_did() -> None:
    result = result_of(events(LINE), "run_commands")
    assert (result.failed, result.exit_code, result.text) == (True, None, "Command exited with code 2\nquay.html")


def test_messages_keep_their_ids_when_the_agent_makes_its_own_anew(tmp_path: Path) -> None:
    path = shutil.copytree(LINE.parent, tmp_path / LINE.parent.name) / LINE.name
    before = [event.id for event in events(path)]
    document = json.loads(path.read_text(encoding="utf-8"))
    for number, message in enumerate(document["messages"]):
        message["id"] = f"msg_anew{number}"
    path.write_text(json.dumps(document), encoding="utf-8")
    assert [event.id for event in events(path)] == before


def test_a_fork_shares_the_messages_it_was_made_from_with_its_origin(tmp_path: Path) -> None:
    fork = tmp_path / "1767500000000_forkd" / "1767500000000_forkd.messages.json"
    fork.parent.mkdir()
    document = json.loads(LINE.read_text(encoding="utf-8"))
    document["sessionId"] = fork.parent.name
    document["messages"] = [*document["messages"][:3], {"id": "m", "role": "user", "content": "Ship another page"}]
    fork.write_text(json.dumps(document), encoding="utf-8")
    manifest = {"session_id": fork.parent.name, "metadata": {"fork": {"forkedFromSessionId": LINE.parent.name}}}
    fork.with_name(f"{fork.parent.name}.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert thread_of(fork).forked_from == LINE.parent.name
    ids = {event.id for event in events(LINE)}
    assert [event.text for event in events(fork) if event.id not in ids] == ["Ship another page"]


def test_tools_that_the_provider_ran_and_errors_of_requests_are_told(tmp_path: Path) -> None:
    path = tmp_path / "s" / "s.messages.json"
    path.parent.mkdir()
    activity = {"toolCallId": "srvtoolu_01", "toolName": "web_search", "input": {"query": "tide"}, "output": "high"}
    messages = [
        {"role": "user", "content": "When is high tide?"},
        {"role": "assistant", "content": "At noon.", "metadata": {"modelToolActivities": [activity]}},
        {"role": "error", "content": "overloaded"},
    ]
    path.write_text(json.dumps({"messages": messages}), encoding="utf-8")
    assert [(event.kind, event.text, event.failed) for event in events(path)] == [
        ("prompt", "When is high tide?", None),
        ("call", "query: tide", None),
        ("result", "high", None),
        ("reply", "At noon.", None),
        ("result", "overloaded", True),
    ]


def test_a_compaction_beside_the_messages_is_a_summary() -> None:
    assert said(events(LINE), "summary") == ["The quay page was built and checked."]
    assert Cline().session_of(LINE.parents[1], LINE.with_name(f"{LINE.parent.name}.compaction.json")) == LINE


@pytest.mark.parametrize(
    ("env", "root"),
    [
        ({}, "/home/mira/.cline/data"),
        ({"CLINE_DIR": "/c"}, "/c/data"),
        ({"CLINE_DATA_DIR": "/d"}, "/d"),
        ({"CLINE_SESSION_DATA_DIR": "/s"}, "/s"),
        ({}, "/home/mira/.config/Code - Insiders/User/globalStorage/saoudrizwan.claude-dev"),
        ({}, "/home/mira/Library/Application Support/Cursor/User/globalStorage/saoudrizwan.claude-dev"),
        ({"APPDATA": "/r"}, "/r/Windsurf/User/globalStorage/saoudrizwan.claude-dev"),
    ],
)
def test_roots_are_on_three_systems_and_where_variables_say(env: dict[str, str], root: str) -> None:
    assert Path(root) in Cline().roots({"HOME": "/home/mira", **env}, ())


# Roo and Kilo


def test_a_tree_of_tasks_belongs_to_its_root() -> None:
    threads = [thread_of(ROO / name / TAGS.name) for name in (PARENT, CHILD, GRANDCHILD)]
    assert [(thread.session_id, thread.thread_id, thread.parent) for thread in threads] == [
        (PARENT, PARENT, ""),
        (PARENT, CHILD, PARENT),
        (PARENT, GRANDCHILD, CHILD),
    ]


def test_tasks_that_call_each_other_parent_come_to_an_end(tmp_path: Path) -> None:
    for name, parent in (("a", "b"), ("b", "a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "history_item.json").write_text(json.dumps({"id": name, "parentTaskId": parent}))
        (tmp_path / name / TAGS.name).write_text('[{"role": "user", "content": "Moor."}]')
    assert thread_of(tmp_path / "a" / TAGS.name).parent == "b"


def test_the_later_shape_of_messages_is_read_like_the_older_one() -> None:
    found = events(ROO / CHILD / TAGS.name)
    assert [event.kind for event in found] == ["prompt", "thought", "call", "result", "reply"]
    result = result_of(found, "write_to_file")
    assert (result.failed, result.text) == (True, "[ERROR] the folder is read-only")


def test_a_question_its_answer_and_a_condensed_past_are_told() -> None:
    found = events(ROO / PARENT / TAGS.name)
    assert said(found, "prompt") == ["Baue die Preisliste um", "EUR"]
    assert said(found, "summary") == ["Summary: the price list is a CSV in EUR."]
    assert "Which currency?\n- EUR\n- DKK" in said(found, "reply")
    assert not any("truncation" in event.text for event in found)


def test_members_of_the_family_leave_each_other_their_tasks(tmp_path: Path) -> None:
    kilo = next((SESSIONS / "kilo-legacy").rglob(TAGS.name))
    readers = [reader_for(path) for path in (TAGS, ROO / CHILD / TAGS.name, kilo)]
    assert [reader.agent for reader in readers if reader] == ["cline", "roo", "kilo-legacy"]
    elsewhere = shutil.copytree(ROO / PARENT, tmp_path / "task") / TAGS.name
    assert isinstance(reader_for(elsewhere), Roo)
    elsewhere.with_name("history_item.json").unlink()
    assert isinstance(reader_for(elsewhere), Cline)


# Tags and results


def test_a_tag_that_is_never_closed_is_only_a_word() -> None:
    text = "Use <read_file> or <write_to_file> here. " * 5000
    assert list(tagged(text)) == [text]


def test_thoughts_and_prompts_that_are_never_closed_are_read_in_reasonable_time(tmp_path: Path) -> None:
    path = tmp_path / "1767225600000" / TAGS.name
    path.parent.mkdir()
    noise = "".join(f"<{tag}>" * 20_000 for tag in ("thinking", "task", "environment_details", "feedback", "read_file"))
    messages = [{"role": role, "content": noise} for role in ("user", "assistant")]
    path.write_text(json.dumps(messages), encoding="utf-8")
    began = time.perf_counter()
    assert [event.kind for event in events(path)] == ["prompt", "reply"]
    assert time.perf_counter() - began < 5


def test_content_may_hold_the_tag_that_would_end_it() -> None:
    text = "<write_to_file><path>a.md</path><content>\nwrite </content> there\n</content></write_to_file>"
    assert list(tagged(text)) == [
        TaggedCall("write_to_file", {"path": "a.md", "content": "write </content> there"}),
    ]


def test_results_are_taken_out_of_their_frames() -> None:
    assert outcome_of("Command executed.\nOutput:\nok").text == "ok"
    assert outcome_of("Command failed with exit code 3.\nboom")[1:] == (3, True)
    assert outcome_of("The tool execution failed with the following error:\n<error>\nno file\n</error>")[::2] == (
        "no file",
        True,
    )
    assert outcome_of([{"type": "text", "text": "a"}, {"type": "image"}, "b"]).text == "a\nb"
