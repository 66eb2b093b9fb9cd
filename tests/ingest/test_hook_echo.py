"""What the hook told an agent stands in the agent's own file again; nothing is learned from it there."""

import json

import pytest

from ingest.chunking import chunk_thread
from ingest.readers.claude_code import ClaudeCode
from ingest.session import Cursor
from ingest.turns import pair_turns
from lmm_mcp.domain.event import Event, Thread
from lmm_mcp.domain.fence import fenced

BRIEF = fenced(
    "Left here by earlier sessions\n[c1] user: the mast is of spruce\nsources:\n[c1] 2026-02-01 codex id 0123456789abcdef"
)
SESSION = "7d3a6a1e-2f0c-4b7e-9a55-1f6f0c9b2d10"


def record(number: int, kind: str, **more) -> dict:
    return {
        "parentUuid": None,
        "isSidechain": False,
        "cwd": "/home/mira/mast",
        "sessionId": SESSION,
        "version": "2.1.330",
        "type": kind,
        "uuid": f"7d3a6a1e-0000-4000-8000-{number:012d}",
        "timestamp": f"2026-03-20T10:00:{number:02d}.000Z",
        **more,
    }


def said(number: int, who: str, text: str, **more) -> dict:
    return record(number, who, message={"role": who, "content": [{"type": "text", "text": text}]}, **more)


def attached(number: int, **attachment) -> dict:
    return record(
        number, "attachment", attachment={"hookName": "SessionStart:startup", "hookEvent": "SessionStart", **attachment}
    )


ECHOES = {
    "context": attached(1, type="hook_additional_context", content=[BRIEF]),
    "output": attached(
        1, type="hook_success", content="", stdout=json.dumps({"hookSpecificOutput": {"additionalContext": BRIEF}})
    ),
    "reminder": said(
        1, "user", f"<system-reminder>\nSessionStart hook additional context: {BRIEF}\n</system-reminder>"
    ),
    "hidden": said(1, "user", f"SessionStart hook additional context: {BRIEF}", isMeta=True),
    "prompt": said(1, "user", f"<session-start-hook>\n{BRIEF}\n</session-start-hook>"),
    "bare": said(1, "user", BRIEF),
}


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES.keys())
def test_what_the_hook_told_is_not_learned_from(tmp_path, echo):
    path = tmp_path / f"{SESSION}.jsonl"
    records = [echo, said(2, "user", "Raise the sail, please."), said(3, "assistant", "The sail is up.")]
    path.write_text("".join(json.dumps(each) + "\n" for each in records), encoding="utf-8")
    items = list(ClaudeCode().read(path, Cursor()))
    thread = next(item for item in items if isinstance(item, Thread))
    events = [item for item in items if isinstance(item, Event)]
    chunks = chunk_thread(thread, pair_turns(thread, events), project="/home/mira/mast")
    told = "\n".join(f"{chunk.header}\n{chunk.text_of()}" for chunk in chunks)
    assert "Raise the sail" in told and "The sail is up." in told
    assert "spruce" not in told and "lmm-brief" not in told and "Left here" not in told
