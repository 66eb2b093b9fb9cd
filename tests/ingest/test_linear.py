"""However a transcript repeats itself, reading it takes time in proportion to its length."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest.readers.codex_calls import command_line, patched_paths
from ingest.readers.registry import by_agent
from ingest.redaction import redact_event
from ingest.session import Cursor
from ingest.turns import pair_turns
from lmm_mcp.domain.event import Event, Thread

MAX_s = 2.0
"""Ample for the lengths below on a busy machine; what grows with their square needs ten times that and more."""
NUM = 150_000
SHELL = "<user_shell_command><command>"
TEXTS = {
    "words": "harbour " * (NUM // 8),
    "one-word": "a" * NUM,
    "blanks": " " * NUM + "x",
    "openings": "<lmm-brief " * (NUM // 11),
    "fences": "<lmm-brief>x" * (NUM // 12),
    "wrapped": "bash -lc '" + "x " * (NUM // 2) + "'",
    "typed": SHELL + "</command><result>" * (NUM // 18),
    "typed-open": SHELL + "</command> " * (NUM // 11),
    "patched": "*** Begin Patch\n*** Update File: a" + " " * NUM + "b",
    "heredoc": "apply_patch <<E\n*** Begin Patch\n" + "E\n" * (NUM // 2) + "x",
    "frame": "Exit code: 1\n" + "Wall time: 1\n" * (NUM // 13),
    "reminders": "<system-reminder>" * (NUM // 17),
    "ide": "# Context from my IDE setup\n" + "## My request \n" * (NUM // 15),
    "environment": "<environment_context>" + "<cwd>a" * (NUM // 6),
    "ours": "lmm recall " * (NUM // 11),
}


def claude_code(text: str) -> Iterator[dict[str, Any]]:
    common = {"uuid": "u", "sessionId": "s"}
    uses = [
        {"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": text}},
        {
            "type": "tool_use",
            "id": "e",
            "name": "Edit",
            "input": {"file_path": "a", "old_string": text, "new_string": "b"},
        },
    ]
    yield {"type": "user", **common, "message": {"content": text}}
    yield {"type": "assistant", **common, "message": {"id": "m", "content": [{"type": "text", "text": text}, *uses]}}
    yield {
        "type": "user",
        **common,
        "message": {"content": [{"type": "tool_result", "tool_use_id": "t", "content": text}]},
    }


def codex(text: str) -> Iterator[dict[str, Any]]:
    shell = json.dumps({"cmd": text})
    for item in (
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]},
        {"type": "function_call", "name": "exec_command", "call_id": "c", "arguments": shell},
        {"type": "function_call_output", "call_id": "c", "output": text},
        {"type": "custom_tool_call", "name": "apply_patch", "call_id": "p", "input": text},
    ):
        yield {"type": "response_item", "payload": item}


def walked(agent: str, records: Iterator[dict[str, Any]], folder: Path) -> tuple[list[Event], float]:
    """The events of these records, and the seconds that reading, redacting and pairing took."""
    path = folder / "rollout-x.jsonl"
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
    began = time.process_time()
    events = [redact_event(item) for item in by_agent(agent).read(path, Cursor()) if isinstance(item, Event)]
    list(pair_turns(Thread(agent, "s", "s"), events))
    return events, time.process_time() - began


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize(("agent", "records"), [("claude-code", claude_code), ("codex", codex)])
def test_a_long_text_takes_linear_time_wherever_it_stands(agent: str, records: Any, name: str, tmp_path: Path) -> None:
    _, took_s = walked(agent, records(TEXTS[name]), tmp_path)
    assert took_s < MAX_s


@pytest.mark.parametrize(
    "blocks",
    [
        [{"type": "text", "text": f"{'x' * (at % 97)}{at} moored"} for at in range(6000)],
        [{"type": "tool_use", "id": f"t{at}", "name": "Bash", "input": {"command": "ls"}} for at in range(6000)],
    ],
    ids=["text", "calls"],
)
def test_a_message_of_many_blocks_takes_linear_time_and_loses_none(blocks: list[Any], tmp_path: Path) -> None:
    record = {"type": "assistant", "uuid": "u", "sessionId": "s", "message": {"id": "m", "content": blocks}}
    events, took_s = walked("claude-code", iter([record]), tmp_path)
    assert len({event.id for event in events}) == len(blocks)
    assert took_s < MAX_s


@pytest.mark.parametrize(
    "line", ["[" * NUM, '{"a":' * (NUM // 5), '{"a":' + "[" * NUM + "]" * NUM + "}", "{}" * (NUM // 2)]
)
@pytest.mark.parametrize("agent", ["claude-code", "codex"])
def test_json_nested_or_glued_without_end_takes_linear_time(agent: str, line: str, tmp_path: Path) -> None:
    path = tmp_path / "rollout-x.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    began = time.process_time()
    assert not any(isinstance(item, Event) for item in by_agent(agent).read(path, Cursor()))
    assert time.process_time() - began < MAX_s


def test_a_path_in_a_patch_loses_the_blanks_around_it_and_none_within() -> None:
    patch = (
        "*** Begin Patch\n*** Add File: src/a b.py \t\r\n*** Delete File:  \n*** Update File: c.py\n*** Move to: d.py\n"
    )
    assert patched_paths(patch) == ("src/a b.py", "c.py", "d.py")


@pytest.mark.parametrize(
    ("wrapped", "line"),
    [
        ("bash -lc 'ls src'", "ls src"),
        ('/bin/bash -lc "git commit -m \\"say \\\\\\\\ it\\""', 'git commit -m "say \\\\ it"'),
        ("zsh -c 'echo '\\''it'\\'''", "echo 'it'"),
        ("bash -lc 'ls' src", "bash -lc 'ls' src"),
        ("bash -lc 'ls", "bash -lc 'ls"),
        ("sh -c 'ls' ", "ls"),
    ],
)
def test_a_wrapped_command_is_what_a_person_would_have_typed(wrapped: str, line: str) -> None:
    assert command_line(wrapped) == line
