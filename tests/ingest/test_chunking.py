from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.chunking import MAX_LINE_chars, MAX_PART_chars, chunk_thread
from ingest.turns import pair_turns
from lmm_mcp.domain.event import Event, Thread

THREAD = Thread("claude-code", "s1", "s1", cwd="/work/harbour", branch="main")
AT = 1_760_000_000_000


def event(id: str, kind: str, text: str, **more) -> Event:
    return Event(id, kind, text, at_ms=more.pop("at_ms", AT), **more)


def cut(*events: Event, thread: Thread = THREAD):
    return chunk_thread(thread, pair_turns(thread, events), project="github.com/acme/harbour")


def shell(n: int, command: str, output: str, code: int | None = 0) -> list[Event]:
    return [
        event(f"c{n}", "call", command, call_id=f"k{n}", tool="Bash", command=command),
        event(f"r{n}", "result", output, call_id=f"k{n}", exit_code=code, failed=bool(code)),
    ]


def test_an_exchange_becomes_one_chunk_with_its_header():
    (chunk,) = cut(
        event("u1", "prompt", "Why does the ferry timetable test fail?"),
        *shell(1, "pytest tests/test_timetable.py", "E   AssertionError: 09:15 != 08:15\n1 failed", 1),
        event("a1", "reply", "The test assumes UTC; the timetable is local time."),
    )
    assert "harbour · main · 2025-10-09 · claude-code" in chunk.header
    assert "commands: pytest tests/test_timetable.py  [exit 1]" in chunk.header
    assert [line.role for line in chunk.lines] == ["user", "command", "error", "error", "agent"]
    assert chunk.commands == ("pytest tests/test_timetable.py  [exit 1]",)


def test_spans_index_the_archived_event():
    text = "First line.\n\n  Second line, indented.\nThird."
    (chunk,) = cut(event("u1", "prompt", text))
    assert [text[line.span.start : line.span.end].strip() for line in chunk.lines] == [
        line.text for line in chunk.lines
    ]


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.sampled_from("abc. ,\n!?日本`-"), max_size=3000))
def test_every_quoted_line_of_prose_stands_in_its_event_whatever_the_text(text):
    for chunk in cut(event("u1", "prompt", text)):
        for line in chunk.lines:
            assert line.text.removesuffix(" …") in text
            assert line.text.removesuffix(" …").strip() in text[line.span.start : line.span.end]


def test_long_output_keeps_head_tail_and_the_lines_that_look_like_errors():
    output = "\n".join(
        [
            *(f"compiling unit {n}" for n in range(200)),
            "fatal: tide table missing",
            *(f"step {n}" for n in range(200)),
            "build ended",
        ]
    )
    (chunk,) = cut(event("u1", "prompt", "build"), *shell(1, "make", output, 2))
    text = chunk.text_of("output", "error")
    assert "compiling unit 0" in text
    assert "fatal: tide table missing" in text
    assert "build ended" in text
    assert "step 100" not in text
    assert len(text) < 1000


def test_a_file_that_was_merely_read_leaves_its_path_and_not_its_text():
    (chunk,) = cut(
        event("u1", "prompt", "look at the config"),
        event(
            "c1",
            "call",
            "file_path: /work/harbour/config.toml",
            call_id="k",
            tool="Read",
            paths=("/work/harbour/config.toml",),
        ),
        event("r1", "result", "secretly long file text", call_id="k"),
    )
    assert chunk.files == ("/work/harbour/config.toml",)
    assert "secretly" not in chunk.text_of()


def test_edits_keep_their_changed_lines_and_lock_files_do_not():
    edit = "/work/harbour/app.py\n-PORT = 5432\n+PORT = 5433"
    lock = "/work/harbour/uv.lock\n+" + "\n+".join(f"dep {n}" for n in range(50))
    (chunk,) = cut(
        event("u1", "prompt", "change the port"),
        event("c1", "call", edit, call_id="k1", tool="Edit", paths=("/work/harbour/app.py",)),
        event("c2", "call", lock, call_id="k2", tool="Edit", paths=("/work/harbour/uv.lock",)),
    )
    assert "+PORT = 5433" in chunk.text_of("edit")
    assert "dep 7" not in chunk.text_of()


def test_base64_and_ruler_lines_are_noise():
    (chunk,) = cut(event("u1", "prompt", "Icon:\n" + "iVBORw0KGgo" * 40 + "\n----------\nthanks for looking"))
    assert [line.text for line in chunk.lines] == ["Icon:", "thanks for looking"]


def test_a_long_turn_is_cut_into_parts_that_repeat_what_was_asked():
    chunks = cut(
        event("u1", "prompt", "Explain the whole booking flow"),
        *(event(f"a{n}", "reply", f"Step {n}: " + "the crane moves. " * 30) for n in range(12)),
    )
    assert len(chunks) > 3
    assert [chunk.part for chunk in chunks] == list(range(len(chunks)))
    assert all("asked: Explain the whole booking flow" in chunk.header for chunk in chunks[1:])
    assert all(len(line.text) <= MAX_LINE_chars for chunk in chunks for line in chunk.lines)
    assert all(len(chunk.text_of()) <= MAX_PART_chars * 2 for chunk in chunks)


def test_a_grown_thread_keeps_its_earlier_chunks():
    events = [
        event("u1", "prompt", "one"),
        event("a1", "reply", "yes"),
        event("u2", "prompt", "two"),
        event("a2", "reply", "no"),
    ]
    assert cut(*events)[:1] == cut(*events[:2])


def test_ids_do_not_depend_on_where_the_thread_lies():
    events = [event("u1", "prompt", "one"), event("a1", "reply", "yes")]
    fork = replace(THREAD, session_id="s2", thread_id="s2")
    assert [chunk.id for chunk in cut(*events)] == [chunk.id for chunk in cut(*events, thread=fork)]


def test_a_sub_agent_is_shown_under_its_parents_session():
    (chunk,) = cut(event("u1", "prompt", "search the docs"), thread=replace(THREAD, thread_id="agent-7"))
    assert (chunk.session_id, chunk.thread_id) == ("s1", "agent-7")
    assert "sub-agent" in chunk.header


def test_how_a_long_command_went_is_kept_though_the_command_is_cut():
    (chunk,) = cut(event("u1", "prompt", "build"), *shell(1, "make " + "target " * 200, "no rule", 2))
    (line,) = (line.text for line in chunk.lines if line.role == "command")
    assert line.startswith("$ make target")
    assert line.endswith(" …  [exit 2]")
    assert len(line) <= MAX_LINE_chars
    assert chunk.commands[0].endswith(" …  [exit 2]")
    assert chunk.header.endswith(" …  [exit 2]")


def test_an_edit_that_failed_says_so_and_one_that_did_not_does_not():
    def edit(n: int, failed: bool) -> list[Event]:
        call = event(f"c{n}", "call", f"/w/{n}.py\n-a\n+b", call_id=f"k{n}", tool="Edit", paths=(f"/w/{n}.py",))
        return [call, event(f"r{n}", "result", "String to replace not found", call_id=f"k{n}", failed=failed)]

    (chunk,) = cut(event("u1", "prompt", "change both"), *edit(1, True), *edit(2, False))
    assert [line.text for line in chunk.lines if line.role == "path"] == ["Edit /w/1.py  [failed]", "Edit /w/2.py"]


def test_a_call_of_another_tool_that_failed_says_so():
    (chunk,) = cut(
        event("u1", "prompt", "file it"),
        event("c1", "call", "title: crane\n" + "x " * 300, call_id="k1", tool="mcp__tracker__create"),
        event("r1", "result", "quota exceeded", call_id="k1", failed=True),
    )
    assert [line.text for line in chunk.lines if line.role == "command"] == ["create: title: crane  [failed]"]
