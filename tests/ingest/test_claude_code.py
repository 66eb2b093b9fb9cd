import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.readers.claude_calls import compact_diff
from ingest.readers.claude_code import ClaudeCode
from ingest.readers.claude_results import MAX_SIDE_FILE_bytes
from ingest.session import Cursor, Item, ReadTo, Unreadable
from lmm_mcp.domain.event import Event, Thread

HOME = Path(__file__).parent.parent / "sessions" / "claude_code"
PROJECT = HOME / "projects" / "-home-mira-harbour"
READER = ClaudeCode()


def items(name: str) -> list[Item]:
    return list(READER.read(PROJECT / name, Cursor()))


def events(name: str, *kinds: str) -> list[Event]:
    return [item for item in items(name) if isinstance(item, Event) and (not kinds or item.kind in kinds)]


def texts(name: str, *kinds: str) -> list[str]:
    return [event.text for event in events(name, *kinds)]


def threads(name: str) -> list[Thread]:
    return [item for item in items(name) if isinstance(item, Thread)]


def problems(name: str) -> list[str]:
    return [item.problem for item in items(name) if isinstance(item, Unreadable)]


def by_thread(read: list[Item]) -> Iterator[tuple[str, Event]]:
    thread = ""
    for item in read:
        if isinstance(item, Thread):
            thread = item.thread_id
        elif isinstance(item, Event):
            yield thread, item


def call_and_result(name: str, call_id: str) -> tuple[Event, Event]:
    call, result = (event for event in events(name) if event.call_id == call_id)
    return call, result


def test_an_everyday_session_is_told_in_order_and_without_noise() -> None:
    told = events("everyday.jsonl")
    assert [event.kind for event in told] == [
        *("prompt", "thought", "reply", "call", "result", "call", "result", "call", "result", "call", "result", "reply")
    ]
    assert told[0].text == "The checkout test fails since yesterday, please find out why."
    assert told[-1].text.startswith("Postgres listens on 5433")
    assert problems("everyday.jsonl") == []


def test_events_carry_time_folder_branch_and_the_message_they_belong_to() -> None:
    prompt, thought, reply, call, *_ = events("everyday.jsonl")
    assert (prompt.id, prompt.at_ms, prompt.cwd, prompt.branch) == (
        *("a0010001-0000-4000-8000-000000000000", 1772442007000, "/home/mira/harbour", "main"),
    )
    assert prompt.group == ""
    assert thought.group == reply.group == call.group == "msg_11"


def test_the_title_a_user_gave_stays_whatever_the_agent_titles_later() -> None:
    titles = [thread.title for thread in threads("everyday.jsonl")]
    assert titles == ["", "Checkout test and database port", "harbour: port 5433"]


def test_a_failed_command_shows_its_exit_code_and_its_output_without_the_frame() -> None:
    call, result = call_and_result("everyday.jsonl", "toolu_11a")
    assert (call.tool, call.command) == ("Bash", "npm test -- checkout")
    assert call.text == "npm test -- checkout\n# Run the checkout tests"
    assert (result.exit_code, result.failed) == (1, True)
    assert result.text.startswith("1 failing\nError: connect ECONNREFUSED")


def test_a_command_that_did_not_fail_exited_with_zero_and_reminders_are_cut() -> None:
    _, result = call_and_result("everyday.jsonl", "toolu_14a")
    assert (result.exit_code, result.failed, result.text) == (0, False, "12 passing")


def test_an_edit_reads_like_a_diff_and_names_its_file() -> None:
    call, result = call_and_result("everyday.jsonl", "toolu_13a")
    assert call.paths == ("/home/mira/harbour/src/db.ts",)
    assert call.text.splitlines()[1:] == [
        *(" const host = 'localhost'", "-const port = 5432", "+const port = 5433", " const pool = 4")
    ]
    assert (result.exit_code, result.failed) == (None, False)


def test_a_search_has_no_paths_because_it_touches_no_file() -> None:
    call, _ = call_and_result("everyday.jsonl", "toolu_12a")
    assert call.paths == ()
    assert call.text == "pattern: 5432\npath: /home/mira/harbour/src\noutput_mode: content"


def test_a_message_in_several_lines_comes_out_once_even_where_lines_are_cumulative() -> None:
    last_wins = {event.id: event for event in events("split-message.jsonl")}
    assert [(event.kind, event.text) for event in last_wins.values()] == [
        ("prompt", "Which jobs run at night?"),
        ("reply", "Let me look at the crontab and at the queue."),
        ("call", "crontab -l"),
        ("result", "0 3 * * * /srv/harbour/bin/reprice"),
        ("call", "ls jobs"),
        ("result", "reprice.ts\nsitemap.ts"),
        ("reply", "Two jobs: repricing at 03:00 and the sitemap."),
        ("reply", "Two jobs: repricing at 03:00 and the sitemap."),  # another message that says the same
    ]


def test_a_fork_repeats_the_ids_of_what_it_copied_and_names_its_origin() -> None:
    origin, copy = events("fork-origin.jsonl"), events("fork-copy.jsonl")
    assert [event.id for event in copy[:2]] == [event.id for event in origin[:2]]
    assert len({event.id for event in origin + copy}) == 6
    assert threads("fork-copy.jsonl")[0].forked_from == threads("fork-origin.jsonl")[0].session_id


def test_prompts_are_what_a_person_typed_and_nothing_that_was_injected() -> None:
    assert texts("prompts.jsonl", "prompt") == [
        "Why is the total wrong for two items?",
        "Rename this to lineTotal.",
        "This is how it looks.\n[image]",
        "/review the cart module",
        "prices are in cents, always",
        "also check the shipping costs",
        "and look at this\n[image]",
        "No, keep the name: the API depends on it.",
    ]


def test_a_command_typed_by_the_person_is_a_call_with_its_output() -> None:
    call, result = events("prompts.jsonl", "call", "result")[:2]
    assert (call.tool, call.command) == ("Bash", "git push --force-with-lease")
    assert result.call_id == call.call_id
    assert result.text == "To origin: main -> main\nremote: 1 warning"


def test_a_rejected_call_failed_and_what_the_person_said_follows_it() -> None:
    _, result = call_and_result("prompts.jsonl", "toolu_51a")
    assert result.failed is True
    following = events("prompts.jsonl")[events("prompts.jsonl").index(result) + 1]
    assert (following.kind, following.id) == ("prompt", f"{result.id}#1")


def test_errors_of_the_model_service_are_no_replies() -> None:
    assert texts("prompts.jsonl", "reply") == []


def test_summaries_come_out_and_titles_of_other_sessions_do_not() -> None:
    own, compacted, away = events("compaction.jsonl", "summary")
    assert own.text == "Image resizing moved to a worker"
    assert own.id == "summary:a0060002-0000-4000-8000-000000000000"
    assert "originals stay in the bucket" in compacted.text
    assert away.text.endswith("the old endpoint is gone.")
    assert threads("compaction.jsonl")[-1].title == "Image resizing moved to a worker"


def test_output_that_was_spilled_into_a_side_file_is_read_from_there() -> None:
    whole, without_file, outside = texts("spilled-output.jsonl", "result")
    assert whole.endswith("ERROR: order 1501 has no customer\n")
    assert without_file.startswith("Output too large")
    assert outside.startswith("Output too large")
    assert len(problems("spilled-output.jsonl")) == 2


def test_a_side_file_is_opened_only_inside_the_folder_of_its_session(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("hunter2", encoding="utf-8")
    session = tmp_path / "spilled-output.jsonl"
    shutil.copy(PROJECT / "spilled-output.jsonl", session)
    side_files = tmp_path / "spilled-output" / "tool-results"
    side_files.mkdir(parents=True)
    (side_files / "b71.txt").symlink_to(secret)
    assert not any("hunter2" in str(item) for item in READER.read(session, Cursor()))
    shutil.rmtree(side_files.parent)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b71.txt").write_text("hunter2", encoding="utf-8")
    side_files.parent.mkdir()
    side_files.symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert not any("hunter2" in str(item) for item in READER.read(session, Cursor()))


def test_of_a_huge_side_file_head_and_tail_are_read(tmp_path: Path) -> None:
    session = tmp_path / "spilled-output.jsonl"
    shutil.copy(PROJECT / "spilled-output.jsonl", session)
    side_file = tmp_path / "spilled-output" / "tool-results" / "b71.txt"
    side_file.parent.mkdir(parents=True)
    side_file.write_text("first\n" + "middle\n" * 400_000 + "last\n", encoding="utf-8")
    read = next(item for item in READER.read(session, Cursor()) if isinstance(item, Event) and item.kind == "result")
    assert read.text.startswith("first\n")
    assert read.text.endswith("last\n")
    assert len(read.text) < MAX_SIDE_FILE_bytes + 100


def test_a_sub_agent_is_a_thread_of_its_own_in_its_parents_session() -> None:
    (parent,) = threads("parent.jsonl")
    (agent,) = threads("parent/subagents/agent-a77c0de1.jsonl")
    assert agent.session_id == parent.session_id == parent.thread_id
    assert (agent.thread_id, agent.title, agent.is_subagent) == ("a77c0de1", "Find rounding", True)
    assert agent.parent == agent.session_id
    assert texts("parent/subagents/agent-a77c0de1.jsonl", "prompt") == ["List every place that rounds prices."]
    (old,) = threads("agent-12ab34cd.jsonl")
    assert (old.session_id, old.thread_id) == (parent.session_id, "12ab34cd")


def subagent_line(agent_id: str, number: int, **more: object) -> str:
    about = {"isSidechain": True, "sessionId": "s-tree", "agentId": agent_id, "uuid": f"{agent_id}-{number}"}
    message = {"role": "user", "content": f"step {number} of {agent_id}"}
    at = f"2026-03-02T09:{number:02}:00.000Z"
    return json.dumps({"type": "user", "cwd": "/w", "timestamp": at, "message": message, **about, **more}) + "\n"


def test_a_sub_agent_of_a_sub_agent_hangs_on_the_one_that_started_it(tmp_path: Path) -> None:
    folder = tmp_path / "projects" / "-w" / "s-tree" / "subagents"
    (folder / "workflows").mkdir(parents=True)
    upper, lower = folder / "agent-aa11.jsonl", folder / "workflows" / "agent-bb22.jsonl"
    printed = {"stdout": '{"toolUseResult": {"agentId": "bb22"}}'}  # what a tool printed says nothing
    nested = {"content": [{"agentId": "bb22"}], "agentId": "aa11"}
    upper.write_text(
        subagent_line("aa11", 1) + subagent_line("aa11", 2, toolUseResult=printed)
        + subagent_line("aa11", 3, toolUseResult=nested), encoding="utf-8"
    )  # fmt: skip
    lower.write_text(subagent_line("bb22", 4), encoding="utf-8")

    def told(path: Path, cursor: Cursor) -> tuple[Thread, Cursor]:
        *said, end = READER.read(path, cursor)
        assert isinstance(end, ReadTo)
        return [item for item in said if isinstance(item, Thread)][-1], end.cursor

    thread, cursor = told(lower, Cursor())
    assert thread.parent == "s-tree"  # while it works nobody says who started it
    with upper.open("a", encoding="utf-8") as stream:
        stream.write(subagent_line("aa11", 5, toolUseResult={"status": "completed", "agentId": "bb22", "content": []}))
    with lower.open("a", encoding="utf-8") as stream:
        stream.write(subagent_line("bb22", 6))
    thread, _ = told(lower, cursor)
    assert (thread.thread_id, thread.parent, thread.session_id) == ("bb22", "aa11", "s-tree")
    assert told(lower, Cursor())[0] == thread
    *_, of_upper, of_lower, _ = (item for item in READER.read(upper, Cursor()) if not isinstance(item, Event))
    assert of_upper == Thread("claude-code", "s-tree", "aa11", cwd="/w", parent="s-tree")
    assert of_lower == Thread("claude-code", "s-tree", "bb22", parent="aa11")  # its own file may have been read by then
    upper.write_text(subagent_line("aa11", 1), encoding="utf-8")  # written anew, it says so no more
    assert told(lower, Cursor())[0].parent == "s-tree"


def test_sub_agents_between_the_lines_of_their_parent_are_told_apart() -> None:
    session = threads("inline-sidechain.jsonl")[0].session_id
    told = [(thread, event.text) for thread, event in by_thread(items("inline-sidechain.jsonl"))]
    assert told[0] == (session, "Compare the two payment providers.")
    assert told[2] == (f"{session}/sidechain", "Summarise the fees of both.")
    assert told[5] == ("c9", "And the refund rules?")
    assert told[-1] == (session, "B is cheaper above 50 euros.")
    assert {thread.session_id for thread in threads("inline-sidechain.jsonl")} == {session}


def test_a_resumed_file_tells_whose_lines_it_begins_with() -> None:
    first, second = threads("resumed.jsonl")
    told = [(thread, event.text) for thread, event in by_thread(items("resumed.jsonl"))]
    assert [thread for thread, _ in told] == [first.thread_id] * 2 + [second.thread_id] * 2
    assert (first.cwd, first.branch) == ("C:\\Users\\mira\\harbour", "")
    assert (second.cwd, second.branch) == ("C:\\Users\\mira\\harbour\\web", "feature/cart")


@pytest.mark.parametrize(
    ("call_id", "exit_code", "failed", "text"),
    [
        ("toolu_10a", 2, True, "src/a.ts: unused"),
        ("toolu_10b", None, False, "Command running in background with ID: b1"),
        ("toolu_10c", None, False, ""),
        ("toolu_10d", None, None, ""),
        ("toolu_10e", None, True, "File does not exist."),
        ("toolu_10g", None, False, "User has answered your questions.\nWhich database? Postgres"),
        ("toolu_10i", None, False, "HARB-17 created"),
        ("toolu_10m", None, False, "[image]"),
        ("toolu_10n", 0, False, "[base64, 3,302 characters]"),
        ("srv_1", None, None, "Release notes https://db.example/17"),
    ],
)
def test_results_say_how_it_went(call_id: str, exit_code: int | None, failed: bool | None, text: str) -> None:
    _, result = call_and_result("outcomes.jsonl", call_id)
    assert (result.exit_code, result.failed, result.text) == (exit_code, failed, text)


@pytest.mark.parametrize(
    ("call_id", "paths", "text"),
    [
        ("toolu_10f", (), "[x] move the port\n[~] tell the team\n[ ] close the ticket"),
        ("toolu_10g", (), "Which database?\n- Postgres: as today\n- SQLite: one file"),
        ("toolu_10h", (), "1. Move the port\n2. Restart the shop"),
        ("toolu_10i", (), 'title: Port moved\nlabels: ["infra", "db"]\nurgent: true'),
        ("toolu_10j", ("/home/mira/harbour/.env.example",), "/home/mira/harbour/.env.example\nPORT=5433\n"),
        ("toolu_10k", ("/home/mira/harbour/sales.ipynb",), "/home/mira/harbour/sales.ipynb\ndf.head()"),
        (
            "toolu_10l",
            ("/home/mira/harbour/src/tax.ts",),
            "/home/mira/harbour/src/tax.ts\n(every occurrence)\n-0.19\n+0.07\n+// reduced rate",
        ),
        ("srv_1", (), "query: postgres 17 notes"),
    ],
)
def test_calls_are_readable(call_id: str, paths: tuple[str, ...], text: str) -> None:
    call, _ = call_and_result("outcomes.jsonl", call_id)
    assert (call.paths, call.text) == (paths, text)


def test_our_own_traffic_is_marked_and_nothing_else() -> None:
    ours = [event.text for event in events("echo.jsonl") if event.ours]
    theirs = [event.text for event in events("echo.jsonl") if not event.ours]
    assert len(ours) == 6
    assert ours[0] == "query: database port"
    assert ours[-1].startswith("<lmm-brief")
    assert [text[:20] for text in theirs] == [
        *(
            "Which port was it?",
            "file_path: /tmp/brie",
            "What does this mean?",
            "git log --grep 'lmm ",
            "no commits",
            "5433.",
        )
    ]


def test_a_session_without_a_word_yields_no_thread() -> None:
    (end,) = items("metadata-only.jsonl")
    assert isinstance(end, ReadTo)


def test_a_title_that_comes_before_the_first_word_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "late.jsonl"
    title = json.loads((PROJECT / "metadata-only.jsonl").read_bytes().splitlines()[0])
    word = {**json.loads((PROJECT / "everyday.jsonl").read_bytes().splitlines()[1]), "sessionId": title["sessionId"]}
    path.write_text(json.dumps(title) + "\n" + json.dumps(word) + "\n", encoding="utf-8")
    thread, event, _ = READER.read(path, Cursor())
    assert isinstance(thread, Thread)
    assert isinstance(event, Event)
    assert (thread.title, thread.cwd) == ("Nothing was said", "/home/mira/harbour")


def test_what_is_not_known_is_counted_at_the_end() -> None:
    assert texts("unknown.jsonl") == ["Hello?", "Yes.", "Without an envelope.", "Without even an id."]
    assert sorted(problems("unknown.jsonl")) == [
        "assistant record without a message",
        "unknown block type 'smell' (1 times)",
        "unknown record type 'hologram' (2 times)",
        "unknown record type 'other' (1 times)",
        "user record without a message",
    ]


def test_a_record_without_an_id_is_named_by_what_it_says() -> None:
    assert events("unknown.jsonl")[-1].id.startswith("content:")
    assert events("unknown.jsonl")[-1].id == events("unknown.jsonl")[-1].id


def test_broken_bytes_cost_only_what_they_break() -> None:
    told = texts("broken-bytes.jsonl")
    assert told[:2] == ["Two records share this line.", "This is the second of them."]
    assert told[2] == "\ufffd\ufffd is not UTF-8 here"
    assert told[3] == "After a crash there were NULs before me."
    assert told[4:] == ["\ufffd an emoji", "the last line has no newline yet"]
    assert [item.line for item in items("broken-bytes.jsonl") if isinstance(item, Unreadable)] == [6, 7, 8]


def test_a_title_that_comes_with_the_next_tail_is_told(tmp_path: Path) -> None:
    path = tmp_path / "tail.jsonl"
    lines = (PROJECT / "everyday.jsonl").read_bytes().splitlines(keepends=True)
    first_title = next(n for n, line in enumerate(lines) if b'"ai-title"' in line)
    path.write_bytes(b"".join(lines[:first_title]))
    *_, read_to = READER.read(path, Cursor())
    assert isinstance(read_to, ReadTo)
    path.write_bytes(b"".join(lines[: first_title + 1]))
    thread, _ = READER.read(path, read_to.cursor)
    assert isinstance(thread, Thread)
    assert thread.title == "Checkout test and database port"


def test_reading_leaves_the_cursor_it_was_given_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "tail.jsonl"
    lines = (PROJECT / "split-message.jsonl").read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]))
    *_, read_to = READER.read(path, Cursor())
    assert isinstance(read_to, ReadTo)
    path.write_bytes(b"".join(lines))
    once, again = (list(READER.read(path, read_to.cursor)) for _ in range(2))
    assert once == again


def test_only_transcripts_are_found() -> None:
    (root,) = READER.roots({"CLAUDE_CONFIG_DIR": str(HOME)}, [])
    found = {path.relative_to(PROJECT).as_posix() for path in READER.discover(root)}
    assert len(found) == 18
    assert found >= {
        *("everyday.jsonl", "agent-12ab34cd.jsonl"),
        *("parent/subagents/agent-a77c0de1.jsonl", "parent/subagents/workflows/nightly/agent-b8.jsonl"),
    }
    assert not any("memory" in name or "history" in name or "journal" in name or "observer" in name for name in found)


def test_all_transcripts_are_claimed_and_other_files_are_not(tmp_path: Path) -> None:
    for path in READER.discover(HOME / "projects"):
        assert READER.claims(path), path
    assert not READER.claims(HOME / "history.jsonl")
    assert not READER.claims(tmp_path)
    other = tmp_path / "rollout.jsonl"
    other.write_text('{"timestamp":"2026-01-01T00:00:00Z","type":"session_meta","payload":{}}\n', encoding="utf-8")
    assert not READER.claims(other)
    other.write_text('{"type":"user","uuid":"1","sessionId":"2","message":{"parts":[]}}\n', encoding="utf-8")
    assert not READER.claims(other)
    without_ids = '{"type":"user","sessionId":"2","timestamp":"2026-03-01T12:00:00Z","message":{"content":"till?"}}\n'
    other.write_text(without_ids, encoding="utf-8")
    assert READER.claims(other)


def test_sessions_are_looked_for_where_the_environment_says(tmp_path: Path) -> None:
    work, play = tmp_path / "work", tmp_path / "play, mostly"
    play.mkdir()
    home = {"HOME": str(tmp_path)}
    assert READER.roots(home, []) == (tmp_path / ".claude" / "projects",)
    assert READER.roots({**home, "CLAUDE_CONFIG_DIR": "~/.work"}, []) == (tmp_path / ".work" / "projects",)
    assert READER.roots({"CLAUDE_CONFIG_DIR": f"{work},{tmp_path}"}, []) == (work / "projects", tmp_path / "projects")
    assert READER.roots({"CLAUDE_CONFIG_DIR": f"{work}{os.pathsep}{tmp_path}"}, [work])[1:] == (tmp_path / "projects",)
    assert READER.roots({"CLAUDE_CONFIG_DIR": str(play)}, [work / "projects"]) == (play / "projects", work / "projects")


def test_sessions_of_the_desktop_application_are_found_in_their_own_folders(tmp_path: Path) -> None:
    place = tmp_path / "Library" / "Application Support" / "Claude" / "local-agent-mode-sessions"
    session = place / "account" / "organisation" / "local_1f2a" / ".claude" / "projects" / "-sessions-quay" / "s1.jsonl"
    session.parent.mkdir(parents=True)
    session.write_text("{}\n", encoding="utf-8")
    session.parents[2].joinpath(".credentials.json").write_text("{}", encoding="utf-8")
    roots = READER.roots({"HOME": str(tmp_path)}, [])
    assert [path for root in roots for path in READER.discover(root)] == [session]


def test_a_compact_diff_shows_only_what_changes() -> None:
    assert compact_diff("a", "a") == " a"
    assert compact_diff("", "new") == "+new"
    assert compact_diff("old", "") == "-old"
    assert compact_diff("a\nb\nc\nd", "a\nb\nd") == " b\n-c\n d"
    assert compact_diff("x\nx", "x\nx\nx") == " x\n+x"
