"""Codex rollouts about an invented web shop, one small file for each oddity, in tests/sessions/codex."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.readers.codex import Codex
from ingest.session import Cursor, Item, ReadTo, Unreadable
from lmm_mcp.domain.event import Event, Thread

SESSIONS = Path(__file__).parents[1] / "sessions" / "codex"
PARENT = "019cade2-11c0-7abc-8def-000000000010"


def items(path: Path, cursor: Cursor | None = None) -> list[Item]:
    return list(Codex().read(path, cursor or Cursor()))


def events(path: Path) -> list[Event]:
    return [item for item in items(path) if isinstance(item, Event)]


def of(name: str) -> list[Event]:
    return events(SESSIONS / f"{name}.jsonl")


def thread_of(path: Path) -> Thread:
    return [item for item in items(path) if isinstance(item, Thread)][-1]


def problems(path: Path) -> list[tuple[int, str]]:
    return [(item.line, item.problem) for item in items(path) if isinstance(item, Unreadable)]


def said(found: Iterable[Event]) -> list[tuple[str, str]]:
    return [(event.kind, event.text) for event in found]


def by_call(found: Iterable[Event], kind: str) -> dict[str, Event]:
    return {event.call_id.rpartition(":")[2].removeprefix("call_"): event for event in found if event.kind == kind}


def installed(home: Path, *names: str) -> list[Path]:
    """Lay sample files out as a Codex home does."""
    paths = []
    for name in names:
        own = json.loads((SESSIONS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()[0])["payload"]["id"]
        paths.append(home / "sessions" / "2026" / "03" / "02" / f"rollout-2026-03-02T09-00-00-{own}.jsonl")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(SESSIONS / f"{name}.jsonl", paths[-1])
    return paths


def compressed(path: Path, at: Path) -> Path:
    # Two frames, as a writer makes them that compresses piece by piece.
    plain, compressor = path.read_bytes(), zstandard.ZstdCompressor()
    at.write_bytes(compressor.compress(plain[:100]) + compressor.compress(plain[100:]))
    return at


# An ordinary session


def test_everything_written_twice_is_read_once():
    assert [(event.kind, event.tool or event.text[:14]) for event in of("envelope")[:11]] == [
        ("prompt", "The basket los"),
        ("thought", "**Looking at t"),
        ("reply", "I will look at"),
        ("call", "exec_command"),
        ("result", "12:  discount "),
        ("call", "update_plan"),
        ("result", "Plan updated"),
        ("call", "view_image"),
        ("result", ""),
        ("call", "web_search"),
        ("reply", "The discount w"),
    ]


def test_a_thread_knows_where_it_ran_and_what_it_is_called():
    assert thread_of(SESSIONS / "envelope.jsonl") == Thread(
        agent="codex",
        session_id="019cadc6-9a80-7abc-8def-000000000001",
        thread_id="019cadc6-9a80-7abc-8def-000000000001",
        title="Basket discount",
        cwd="/work/harbour",
        branch="main",
        remote="https://github.com/quay/harbour.git",
    )


def test_events_say_when_and_where_they_happened():
    prompt, *_, last = of("envelope")
    assert (prompt.at_ms, prompt.cwd, prompt.branch) == (1772442005000, "/work/harbour", "main")
    assert last.cwd == "/work/harbour/api"


def test_a_command_runs_where_its_call_says():
    call = by_call(of("envelope"), "call")["1"]
    assert (call.command, call.cwd) == ("rg -n discount web/basket.ts", "/work/harbour/web")


def test_ids_are_the_agents_own_and_repeated_messages_without_one_stay_apart():
    found = of("envelope")
    thread = "019cadc6-9a80-7abc-8def-000000000001"
    names = [f"{thread}:{name}" for name in ("rs_1", "msg_1", "call_1", "call_1#result")]
    assert [event.id for event in found[1:5]] == names
    assert len({event.id for event in found}) == len(found)
    assert all(event.id.startswith("019cadc6-9a80-7abc-8def-000000000001:") for event in found[-4:])


def test_ids_that_every_session_counts_anew_belong_to_their_session_and_unique_ones_to_nobody(tmp_path: Path):
    def session(name: str) -> Path:
        items = [
            {
                "type": "message",
                "id": "msg_1",
                "role": "user",
                "content": [{"type": "input_text", "text": "the till?"}],
            },
            {"type": "function_call", "call_id": "call_0", "name": "shell", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_0", "output": "7012"},
            {"type": "function_call", "call_id": "call_Tb3kQ9zVw2LxYp7c", "name": "shell", "arguments": "{}"},
        ]
        lines = [{"type": "session_meta", "payload": {"id": name}}]
        lines += [{"type": "response_item", "payload": item} for item in items]
        path = tmp_path / f"rollout-{name}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return path

    one, other = ({event.id for event in events(session(name))} for name in ("till-one", "till-other"))
    assert one & other == {"call_Tb3kQ9zVw2LxYp7c"}
    assert len(one) == len(other) == 4


def test_an_item_that_has_a_role_and_no_type_is_a_message(tmp_path: Path):
    path = tmp_path / "rollout-rewritten.jsonl"
    item = {"role": "user", "content": [{"type": "input_text", "text": "Which port does the till use?"}]}
    path.write_text(json.dumps({"type": "response_item", "payload": item}) + "\n", encoding="utf-8")
    assert said(events(path)) == [("prompt", "Which port does the till use?")]
    assert not problems(path)


def test_an_item_may_bear_the_time_itself(tmp_path: Path):
    head = {"id": "s1", "timestamp": "2026-03-05T09:00:00Z"}
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hoist"}]}
    lines = [
        {"type": "session_meta", "payload": head},
        {"type": "response_item", "payload": item | {"timestamp": "2026-03-05T09:00:07Z"}},
        {"type": "response_item", "payload": item},
    ]
    path = tmp_path / "stream.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert [event.at_ms % 60_000 for event in events(path)] == [7_000, 0]


def test_a_plan_and_an_image_are_said_in_words():
    calls = by_call(of("envelope"), "call")
    assert calls["2"].text == "explanation: Small fix.\n[in_progress] store the discount\n[pending] test"
    assert calls["3"].paths == ("/work/harbour/shots/basket.png",)


# Older and other shapes of files


def test_the_oldest_format_takes_time_and_place_from_its_head():
    found = of("bare")
    assert said(found) == [
        ("prompt", "Which port does the till use?"),
        ("call", "grep -rn port till/"),
        ("result", "till/serve.py:4: port = 7012\n"),
        ("reply", "The till listens on 7012."),
    ]
    assert {(event.at_ms, event.cwd, event.branch) for event in found} == {(1754042400000, "/work/harbour", "trunk")}
    thread = thread_of(SESSIONS / "bare.jsonl")
    assert (thread.thread_id, thread.cwd, thread.remote) == (
        "5973b6c0-94b8-487b-a530-2aeb6098ae0e",
        "/work/harbour",
        "git@github.com:quay/harbour.git",
    )


def test_a_file_of_display_events_alone_is_read_from_them():
    prompt, thought, call, result, patch, patched, reply = of("display_only")
    assert said([prompt, thought, reply]) == [
        ("prompt", "Why is the test red?"),
        ("thought", "It may be the clock."),
        ("reply", "The clock is in another zone."),
    ]
    assert (call.command, call.cwd, result.exit_code, result.failed) == ("npm test", "/work/harbour/web", 1, True)
    assert (patch.paths, patched.text, patched.failed) == (("web/clock.ts",), "context not found", True)


def test_a_compressed_rollout_reads_like_the_plain_one(tmp_path):
    plain = SESSIONS / "envelope.jsonl"
    packed = compressed(plain, tmp_path / "rollout-2026-03-02T09-00-00-019cadc6-9a80-7abc-8def-000000000001.jsonl.zst")
    assert events(packed) == events(plain)


def test_a_rollout_compressed_after_it_was_read_is_not_read_again(tmp_path):
    plain = tmp_path / "rollout-x.jsonl"
    lines = (SESSIONS / "envelope.jsonl").read_bytes().splitlines(keepends=True)
    plain.write_bytes(b"".join(lines[:-3]))
    cursor = items(plain)[-1].cursor
    plain.write_bytes(b"".join(lines))
    packed = compressed(plain, tmp_path / "rollout-x.jsonl.zst")
    assert said(item for item in items(packed, cursor) if isinstance(item, Event)) == [
        ("prompt", "continue"),
        ("reply", "Done."),
    ]


def test_a_damaged_compressed_file_is_said_and_read_as_far_as_it_goes(tmp_path):
    packed = compressed(SESSIONS / "envelope.jsonl", tmp_path / "rollout-x.jsonl.zst")
    packed.write_bytes(packed.read_bytes() + b"this is no frame")
    assert len(events(packed)) == len(of("envelope"))
    assert [problem[:27] for _, problem in problems(packed)] == ["compressed data is damaged:"]


def test_a_missing_file_raises_and_a_folder_does_too(tmp_path):
    with pytest.raises(OSError):
        items(tmp_path / "rollout-gone.jsonl")
    with pytest.raises(OSError):
        items(tmp_path)


# Outputs


@pytest.mark.parametrize(
    ("name", "text", "exit_code", "failed"),
    [
        ("ok", "3 passed\n", 0, False),
        ("failed", "FAILED test_till\n", 1, True),
        ("chunk", "bash: tilt: command not found\n", 127, True),
        ("running", "listening...\n", None, None),
        ("silent", "", 0, False),
        ("json", "no such table: tills\n", 2, True),
        ("object", "refused", None, True),
        ("parts", "first\nsecond", None, None),
        ("plain", "aborted by user after 4.1s", None, None),
        ("signal", "Killed\n", -9, True),
        ("own_words", "The word Output:\nstands in my text. Exit code: 3", None, None),
        ("own_json", '{"output":"a program\'s own JSON","count":2}', None, None),
        ("typed", "bye\n", 0, False),
        ("lost", "write_stdin failed: Unknown process id 99", None, True),
        ("mcp", '{"tables":["till_log"]}', None, None),
    ],
)
def test_an_output_loses_its_frame_and_gives_its_exit_code(name, text, exit_code, failed):
    result = by_call(of("outputs"), "result")[name]
    assert (result.text, result.exit_code, result.failed) == (text, exit_code, failed)


def test_typing_into_a_process_is_no_command_and_a_foreign_tool_is_named_in_full():
    calls = by_call(of("outputs"), "call")
    assert (calls["typed"].text, calls["typed"].command) == ("q\n", "")
    assert (calls["mcp"].tool, calls["mcp"].text) == ("mcp__warehouse__search_tables", "query: tills\nlimit: 3")


# Patches and shells


def test_a_patch_is_kept_as_written_with_the_files_it_touches():
    calls, results = by_call(of("patches"), "call"), by_call(of("patches"), "result")
    assert calls["p1"].text.startswith("*** Begin Patch\n*** Update File: web/basket.ts\n@@\n-  discount = 0\n")
    assert calls["p1"].paths == ("web/basket.ts", "web/stored.ts", "web/old.ts")
    assert (results["p1"].exit_code, results["p1"].failed) == (0, False)
    assert (results["p2"].exit_code, results["p2"].failed) == (None, True)


def test_a_patch_through_a_shell_is_a_patch():
    calls = by_call(of("patches"), "call")
    whole = calls["p1"].text
    assert [(calls[name].text.strip(), calls[name].command, calls[name].paths) for name in ("p3", "p4", "p6")] == [
        (whole, "", calls["p1"].paths)
    ] * 3
    assert calls["p5"].command.startswith("cd web && npm test && apply_patch <<'EOF'")
    assert calls["p5"].paths == ("basket.ts", "cart.ts")


def test_a_command_is_what_a_person_would_have_typed():
    calls = by_call(of("shells"), "call")
    assert {name: (call.command, call.cwd) for name, call in calls.items() if name.startswith("s")} == {
        "s1": ("make till", "/work/harbour/till"),
        "s2": ("git commit -m 'open the till'", "/work/other"),
        "s3": ("ls -la", "/work/harbour"),
        "s4": ("Get-ChildItem", "/work/harbour"),
        "s5": ("pwd", "/work/harbour/api"),
        "s6": ("npm run build", "/work/harbour"),
        "s7": ("", "/work/harbour"),
    }
    assert calls["s7"].text == '{"cmd": "half a comm'


def test_a_command_the_user_ran_is_a_call_with_its_result():
    call, result = of("shells")[-2:]
    assert (call.tool, call.command) == ("user_shell_command", "git status --short")
    assert (result.text, result.exit_code, result.call_id) == (" M web/basket.ts", 0, call.call_id)


# Forks and sub-agents


def test_a_fork_yields_only_what_is_new_in_it(tmp_path):
    _, fork = installed(tmp_path, "parent", "fork")
    assert said(events(fork)) == [
        ("prompt", "Now the other way: a column in the customers table."),
        ("reply", "Added the column gift_balance."),
    ]
    thread = thread_of(fork)
    assert thread.forked_from == PARENT
    assert thread.thread_id == thread.session_id != PARENT


def test_a_subagent_is_a_thread_of_its_parents_session(tmp_path):
    _, sub = installed(tmp_path, "parent", "subagent")
    assert said(events(sub)) == [
        ("prompt", "List every caller of chargeCard."),
        ("reply", "Two callers: pay.ts and refund.ts."),
    ]
    thread = thread_of(sub)
    assert (thread.session_id, thread.parent, thread.is_subagent) == (PARENT, PARENT, True)


def test_a_fork_whose_parent_is_gone_keeps_the_copies_under_the_originals_ids(tmp_path):
    (fork,) = installed(tmp_path, "fork")
    copies, original = events(fork), of("parent")
    assert [event.id for event in copies][: len(original)] == [event.id for event in original]
    assert said(copies)[: len(original)] == said(original)
    assert len(copies) == len(original) + 2


def test_a_fork_without_turn_ids_is_cut_by_what_the_parent_holds(tmp_path):
    _, fork = installed(tmp_path, "old_parent", "old_fork")
    assert said(events(fork)) == [("prompt", "Keep it, and rename it."), ("reply", "I begin with the table.")]


def test_a_fork_without_turn_ids_and_without_parent_is_kept_whole(tmp_path):
    (fork,) = installed(tmp_path, "old_fork")
    assert len(events(fork)) == 7


# What is not the user's own


def test_what_the_harness_says_in_the_users_name_is_no_prompt():
    assert said(of("injected")) == [
        ("prompt", "Rename chargeCard to charge.\n"),
        ("prompt", '<div class="basket"> is never closed, mend it'),
        ("prompt", "What is wrong in this picture?"),
    ]


def test_a_compaction_is_a_summary_and_its_copies_are_dropped():
    prompt, summary = of("compacted")
    assert (prompt.kind, summary.kind) == ("prompt", "summary")
    assert summary.text == "The till is half moved: orders are done, refunds are not."
    assert summary.id.startswith("compact:")


def test_what_this_memory_said_is_marked_as_ours():
    found = of("ours")
    ours = [event for event in found if event.ours]
    assert sorted(by_call(ours, "call")) == ["m1", "m2"]
    assert sorted(by_call(ours, "result")) == ["m1", "m2", "m3"]


# Damage


def test_what_cannot_be_read_is_said_with_its_line_and_the_rest_is_read():
    path = SESSIONS / "damaged.jsonl"
    assert said(events(path)) == [("prompt", "Is the till open?"), ("reply", "Yes, since nine.")]
    assert [(line, problem.partition(":")[0]) for line, problem in problems(path)] == [
        (10, "a record that is not built as expected (TypeError)"),
        (11, "a record that is not built as expected (ValueError)"),
        (12, "not JSON from character 1 of 21"),
        (3, "unknown record type 'shiny_new_record'"),
        (5, "unknown response item type 'shiny_new_item'"),
        (6, "unknown event type 'shiny_new_event'"),
    ]


def test_an_unknown_type_is_said_once_for_a_file_however_often_it_grows(tmp_path):
    path = tmp_path / "rollout-x.jsonl"
    shutil.copyfile(SESSIONS / "damaged.jsonl", path)
    cursor = items(path)[-1].cursor
    with path.open("a", encoding="utf-8") as file:
        file.write('age"}}\n{"timestamp":"","type":"shiny_new_record","payload":{}}\n')
    assert [item.problem for item in items(path, cursor) if isinstance(item, Unreadable)] == [
        "a record that is not built as expected (TypeError)"
    ]


@pytest.mark.parametrize("name", sorted(path.stem for path in SESSIONS.glob("*.jsonl")))
def test_a_file_read_while_it_grows_gives_the_same_as_read_at_once(tmp_path, name):
    lines = (SESSIONS / f"{name}.jsonl").read_bytes().splitlines(keepends=True)
    installed(tmp_path, "parent", "old_parent")
    path = tmp_path / "sessions" / f"rollout-{name}.jsonl"
    path.write_bytes(b"".join(lines))
    whole, path_cursor, piecemeal = events(path), Cursor(), []
    for num_lines in range(len(lines) + 1):
        path.write_bytes(b"".join(lines[:num_lines]))
        *found, read_to = items(path, path_cursor)
        assert isinstance(read_to, ReadTo)
        if any(isinstance(item, Event) for item in found):
            assert isinstance(next(item for item in found if not isinstance(item, Unreadable)), Thread)
        # As the ledger keeps it.
        path_cursor = Cursor(read_to.cursor.offset, read_to.cursor.line, json.loads(json.dumps(read_to.cursor.context)))
        piecemeal += [item for item in found if isinstance(item, Event)]
    assert piecemeal == whole


PAYLOAD_KEYS = [
    "role",
    "content",
    "id",
    "call_id",
    "name",
    "arguments",
    "output",
    "action",
    "summary",
    "git",
    "turn_id",
]
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["user", "exec_command", "{}"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(sorted({*PAYLOAD_KEYS, "type", "text", "source"})),
            inner,
        )
    ),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine is slow, and that is no finding
@given(
    kind=st.sampled_from(["session_meta", "response_item", "event_msg", "turn_context", "compacted", "new"]),
    item=st.sampled_from(
        ["message", "reasoning", "function_call", "function_call_output", "local_shell_call", "user_message"]
    ),
    payload=st.dictionaries(st.sampled_from(PAYLOAD_KEYS), ODD),
)
def test_no_record_however_odd_stops_the_reading(tmp_path_factory, kind, item, payload):
    path = tmp_path_factory.getbasetemp() / "rollout-odd.jsonl"
    last = '{"type":"response_item","payload":{"type":"message","role":"user","content":"still here"}}'
    path.write_text(json.dumps({"type": kind, "payload": {"type": item, **payload}}) + f"\n{last}\n", encoding="utf-8")
    *_, prompt, read_to = [item for item in items(path) if not isinstance(item, Unreadable | Thread)]
    assert isinstance(prompt, Event)
    assert prompt.text == "still here"
    assert isinstance(read_to, ReadTo)
    json.dumps(read_to.cursor.context)


# Finding files


def test_codex_homes_come_from_its_own_variable_else_from_home(tmp_path):
    assert Codex().roots({"HOME": str(tmp_path)}, [Path("/more")]) == (tmp_path / ".codex", Path("/more"))
    assert Codex().roots({"HOME": "/h", "CODEX_HOME": str(tmp_path)}, [tmp_path]) == (tmp_path,)
    assert Codex().roots({"HOME": str(tmp_path), "CODEX_HOME": "~/agents"}, []) == (tmp_path / "agents",)


def test_only_rollouts_are_found_and_the_plain_one_of_two(tmp_path):
    day = tmp_path / "sessions" / "2026" / "03" / "02"
    old = tmp_path / "archived_sessions"
    day.mkdir(parents=True)
    old.mkdir()
    for name in ("auth.json", "history.jsonl", "session_index.jsonl", "state_5.sqlite", "sessions/rollout.txt"):
        (tmp_path / name).touch()
    for path in (
        day / "rollout-a.jsonl",
        day / "rollout-a.jsonl.zst",
        old / "rollout-b.jsonl.zst",
        old / "notes.jsonl",
    ):
        path.touch()
    assert set(Codex().discover(tmp_path)) == {day / "rollout-a.jsonl", old / "rollout-b.jsonl.zst"}
    assert list(Codex().discover(tmp_path / "nowhere")) == []


def test_a_named_file_is_claimed_by_its_name_or_its_first_line(tmp_path):
    (plain,) = installed(tmp_path, "envelope")
    assert Codex().claims(plain)
    assert Codex().claims(SESSIONS / "envelope.jsonl")
    assert not Codex().claims(SESSIONS / "bare.jsonl")  # its head could be anybody's; under its own name it is known
    assert not Codex().claims(tmp_path)
    (tmp_path / "history.jsonl").write_text('{"session_id": "x", "ts": 1, "text": "y"}\n', encoding="utf-8")
    assert not Codex().claims(tmp_path / "history.jsonl")
