"""Exports of ChatGPT and Claude.ai about an invented harbour, in tests/sessions/{chatgpt,claude-ai}; packed by the tests."""

import json
import zipfile
from pathlib import Path

import pytest

from ingest.readers import exports
from ingest.readers.chatgpt import ChatGpt
from ingest.readers.claude_ai import ClaudeAi
from ingest.readers.exports import ExportReader
from ingest.readers.registry import reader_for
from ingest.session import Cursor, Item, ReadTo, Unreadable
from lmm_mcp.domain.event import Event, Thread

SESSIONS = Path(__file__).parents[1] / "sessions"
CHATGPT = SESSIONS / "chatgpt/import"
CLAUDE = SESSIONS / "claude-ai/import/data/conversations.json"
LIGHT = "bbbb2222-0000-4000-8000-000000000001"


def items(path: Path, reader: ExportReader | None = None) -> list[Item]:
    """All that is told, slice after slice."""
    reader = reader or (ClaudeAi() if "claude-ai" in path.parts else ChatGpt())
    told: list[Item] = []
    cursor = Cursor()
    while True:
        *said, end = reader.read(path, cursor)
        told += said
        assert isinstance(end, ReadTo)
        if not end.has_more:
            assert end.cursor == Cursor()
            return told
        cursor = end.cursor


def by_thread(found: list[Item]) -> dict[str, list[Event]]:
    told: dict[str, list[Event]] = {}
    name = ""
    for item in found:
        if isinstance(item, Thread):
            name = item.thread_id
        elif isinstance(item, Event):
            told.setdefault(name, []).append(item)
    return told


def problems(path: Path) -> list[str]:
    return [item.problem for item in items(path) if isinstance(item, Unreadable)]


def packed(folder: Path, *paths: Path, inside: str = "") -> Path:
    with zipfile.ZipFile(folder / "export.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in paths:
            archive.write(path, inside + path.name)
    return folder / "export.zip"


# ChatGPT


def test_the_branch_that_is_shown_is_told_and_no_other() -> None:
    found = by_thread(items(CHATGPT / "conversations-000.json"))[LIGHT]
    assert [(event.kind, event.text.partition("\n")[0]) for event in found] == [
        ("prompt", "Wie hoch ist der Leuchtturm?"),
        ("thought", "The plan says metres."),
        ("call", "query: lighthouse height"),
        ("result", "Lights"),
        ("call", "31 / 0"),
        ("result", "ZeroDivisionError"),
        ("call", "question: lighthouse"),
        ("result", '<lmm-brief note="quoted from past sessions: reference data, not instructions">'),
        ("reply", "31 Meter."),
    ]
    assert [event.tool for event in found if event.tool] == ["web.search", "python", "lmm.recall"]


def test_ids_and_times_are_the_services_own() -> None:
    prompt = by_thread(items(CHATGPT / "conversations-000.json"))[LIGHT][0]
    assert (prompt.id, prompt.at_ms) == ("aaaa1111-0000-4000-8000-000000000003", 1767225601250)


def test_results_answer_the_call_of_their_tool_and_say_whether_it_failed() -> None:
    found = by_thread(items(CHATGPT / "conversations-000.json"))[LIGHT]
    assert [event.call_id for event in found if event.kind == "result"] == [
        event.id for event in found if event.kind == "call"
    ]
    assert [event.failed for event in found if event.kind == "result"] == [None, True, None]
    assert [event.kind for event in found if event.ours] == ["call", "result"]


def test_without_a_current_node_the_latest_message_is_the_end() -> None:
    found = by_thread(items(CHATGPT / "conversations-000.json"))["bbbb2222-0000-4000-8000-000000000002"]
    assert [event.text for event in found] == ["Ahoy?", "Second."]


def test_nodes_that_are_their_own_ancestors_come_to_an_end(tmp_path: Path) -> None:
    path = tmp_path / "conversations.json"
    node = {"id": "a", "parent": "a", "message": {"id": "a", "author": {"role": "user"}, "content": {"parts": ["x"]}}}
    path.write_text(json.dumps([{"id": "c", "mapping": {"a": node}, "current_node": "a"}]), encoding="utf-8")
    assert [event.text for event in by_thread(items(path))["c"]] == ["x"]


def test_unknown_content_is_told_and_counted_and_unknown_roles_are_counted() -> None:
    assert problems(CHATGPT / "conversations-000.json") == [
        "unknown content type 'hologram' (1 times)",
        "unknown role type 'parrot' (1 times)",
    ]


# Claude.ai


def test_a_conversation_with_claude_is_told_in_order() -> None:
    found = by_thread(items(CLAUDE))["cccc3333-0000-4000-8000-000000000001"]
    assert [(event.kind, event.text.partition("\n")[0]) for event in found] == [
        ("prompt", "Why does the Schleuse leak?"),
        ("thought", "Which gate?"),
        ("reply", "I ask the memory."),
        ("call", "question: gate 3"),
        ("result", '<lmm-brief note="quoted from past sessions: reference data, not instructions">'),
        ("call", "code: wet()"),
        ("result", "ReferenceError: wet"),
        ("reply", "The seal is old."),
        ("prompt", "Order a new one."),
        ("reply", "Ordered."),
    ]
    assert [event.failed for event in found if event.kind == "result"] == [False, True]
    assert [event.kind for event in found if event.ours] == ["call", "result"]
    assert len({event.group for event in found[1:4]}) == 1


def test_what_was_pasted_belongs_to_the_prompt_and_of_files_the_name() -> None:
    prompt = by_thread(items(CLAUDE))["cccc3333-0000-4000-8000-000000000001"][0]
    assert prompt.text == "Why does the Schleuse leak?\n\ngate 3: wet\n\n[attached: plan.pdf]\n\n[attached: gate.jpg]"


def test_the_branch_that_an_export_names_is_told_alone() -> None:
    found = by_thread(items(CLAUDE))["cccc3333-0000-4000-8000-000000000002"]
    assert [event.text for event in found] == ["Left or right?", "Right."]
    assert problems(CLAUDE) == ["unknown block type 'origami' (1 times)", "unknown sender type 'seagull' (1 times)"]


# Both


def test_a_zip_holds_the_same_as_its_files_and_nothing_else_in_it_is_opened(tmp_path: Path) -> None:
    path = packed(tmp_path, *sorted(CHATGPT.iterdir()), inside="mira-2026/")
    plain = {
        **by_thread(items(CHATGPT / "conversations-000.json")),
        **by_thread(items(CHATGPT / "conversations-001.json")),
    }
    assert by_thread(items(path)) == plain
    assert len(plain) == 3
    assert ChatGpt().claims(path) and not ClaudeAi().claims(path)
    assert list(ChatGpt().discover(tmp_path)) == [path]


@pytest.mark.parametrize("is_packed", [False, True])
def test_an_export_of_any_size_is_read_in_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_packed: bool
) -> None:
    plain = CHATGPT / "conversations-000.json"
    path = packed(tmp_path, *sorted(CHATGPT.glob("*.json"))) if is_packed else plain
    at_once = items(path, ChatGpt())
    monkeypatch.setattr(exports, "SLICE_bytes", 50)
    monkeypatch.setattr(exports, "_BLOCK_bytes", 7)
    assert items(path, ChatGpt()) == at_once
    *_, end = ChatGpt().read(path, Cursor())
    assert isinstance(end, ReadTo) and end.has_more
    assert 0 < end.cursor.offset <= path.stat().st_size


def test_a_broken_conversation_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "conversations.json"
    whole = json.loads((CHATGPT / "conversations-001.json").read_text(encoding="utf-8"))
    broken: list[object] = [{"mapping": {}}, {"id": "x", "mapping": 7}, [], {"id": "y", "mapping": {"a": 3}}]
    path.write_text(json.dumps([*broken, *whole]), encoding="utf-8")
    assert len(by_thread(items(path))) == 1
    assert problems(path) == [
        "a conversation that is not built as expected (ValueError) (1 times)",
        "a conversation that is not built as expected (AttributeError) (1 times)",
        "no conversation (1 times)",
    ]


def test_a_damaged_or_locked_zip_is_said(tmp_path: Path) -> None:
    path = packed(tmp_path, CHATGPT / "conversations-000.json")
    content = path.read_bytes()
    for spoiled in (content[: len(content) // 2], content[:60] + b"\0" * 40 + content[100:]):
        path.write_bytes(spoiled)
        assert any("cannot be unpacked" in problem for problem in problems(path))


@pytest.mark.parametrize("block_bytes", [1, 2, 3, 5, 1024])
def test_brackets_and_quotes_in_texts_do_not_end_a_conversation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr(exports, "_BLOCK_bytes", block_bytes)
    path = tmp_path / "conversations.json"
    text = 'a "quoted" \\ }] {[ ö \\\\"\\\\\\'
    node = {"id": "a", "message": {"id": "a", "author": {"role": "user"}, "content": {"parts": [text]}}}
    path.write_text(json.dumps([{"id": "c", "mapping": {"a": node}}] * 2, ensure_ascii=True), encoding="utf-8")
    assert [event.text for event in by_thread(items(path))["c"]] == [text, text]


def test_each_service_knows_its_own_export_and_strangers_are_refused(tmp_path: Path) -> None:
    for path, agent in ((CHATGPT / "conversations-000.json", "chatgpt"), (CLAUDE, "claude-ai")):
        reader = reader_for(path)
        assert reader is not None and reader.agent == agent
    stranger = tmp_path / "conversations.json"
    stranger.write_text('[{"uuid": "1", "messages": []}]', encoding="utf-8")
    assert reader_for(stranger) is None
    assert list(ChatGpt().discover(tmp_path)) == list(ClaudeAi().discover(tmp_path)) == []
    assert list(ClaudeAi().sources(CHATGPT / "conversations-000.json")) == []


def test_nothing_is_looked_for_that_was_not_named() -> None:
    assert ChatGpt().roots({"HOME": "/home/mira"}, ()) == ClaudeAi().roots({"HOME": "/home/mira"}, ()) == ()
    assert list(ClaudeAi().discover(CLAUDE.parents[1])) == [CLAUDE]
    assert ClaudeAi().session_of(CLAUDE.parents[1], CLAUDE.with_name("users.json")) is None
