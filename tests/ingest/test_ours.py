"""What this memory is asked on a command line, in whatever dress, and what merely speaks of it."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import typer

from ingest.readers.ours import is_our_command
from ingest.readers.registry import by_agent
from ingest.session import Cursor
from lmm_mcp.cli.program import app
from lmm_mcp.domain.event import Event

ASKED = (
    "lmm recall 'which port'",
    "LMM_HOME=/x lmm recall 'which port'",
    "A=1 LMM_HOME='/x y' lmm recall port",
    "env A=b lmm recall port",
    "env -i A=b lmm recall port",
    "env -u A lmm recall port",
    "python -m lmm_mcp recall port",
    "python3.12 -X utf8 -m lmm_mcp recall port",
    "LMM_HOME=/x .venv/bin/python -m lmm_mcp status",
    "py -3 -m lmm_mcp recall port",
    "lmm-mcp recall port",
    "/x/.venv/bin/lmm recall port",
    r"C:\x\Scripts\lmm.exe recall port",
    r'& "C:\my x\Scripts\LMM.exe" recall port',
    "lmm show c1",
    "lmm start --no-wait",
    "lmm demo",
    "lmm projects --json",
    "lmm bench questions",
    "lmm facts | grep port",
    "lmm timeline --since yesterday",
    "lmm agents --json",
    "lmm prove --receipt r.json",
    "lmm export --to - | head",
    "lmm train log",
    "lmm train --dry-run",
    "lmm model show v0001",
    "lmm experiment run",
    "lmm --home /x recall port",
    "uvx lmm-mcp recall port",
    "uvx lmm-mcp@latest recall port",
    "uvx --from lmm-mcp lmm recall port",
    "uv run --with rich python -m lmm_mcp recall port",
    "uv run lmm status",
    "uv tool run lmm-mcp status",
    "sudo -u ann lmm status",
    "timeout 5 lmm status",
    "timeout -k 1 5s lmm status",
    "time lmm status",
    "echo port | xargs -n 1 lmm recall",
    "cd shop && lmm recall port",
    "cd shop; lmm recall port | head -5",
    "cd shop\nlmm recall port",
    "cd shop \\\n  && lmm \\\n  recall port",
    "if lmm status; then echo yes; fi",
    "! lmm status",
    "{ lmm status; }",
    "(lmm status)",
    "x=$(lmm recall port)",
    'echo "it is $(lmm recall port)"',
    'echo "it is `lmm recall port`"',
    "echo `lmm recall port`",
    "2>/dev/null lmm status",
    "lmm status >out 2>&1",
    'bash -lc "lmm recall port"',
    "bash -lc 'LMM_HOME=/x lmm recall \"which port\"'",
    "bash -c \"bash -c 'lmm recall port'\"",
    'sh -c "cd shop && /x/bin/lmm recall port"',
    'sudo bash -e -c "lmm status"',
    'zsh -lic "python -m lmm_mcp recall port"',
    'powershell -NoProfile -Command "lmm recall port"',
    "cmd /c lmm recall port",
    "eval 'lmm recall port'",
    "cat > f <<EOF\nwords\nEOF\nlmm recall port",
    "echo it\\'s; lmm status",
)
SILENT = frozenset(
    "import mcp pause resume serve watch stop install uninstall config embedder backup restore rebuild".split()
)
"""Commands that tell paths, counts and settings, and nothing that was remembered."""
MENTIONED = (
    "grep lmm README.md",
    "grep -rn 'lmm recall' docs",
    "cat lmm.py",
    "cat lmm recall",
    "pip install lmm-mcp",
    "uv pip install lmm-mcp status",
    "uv tool install lmm-mcp",
    "python -m pip install lmm_mcp",
    "python -m pytest lmm_mcp recall",
    "python lmm_mcp/recall.py recall",
    "python -m lmm_mcp.evaluation recall",
    "which lmm",
    "lmm --version",
    "lmm --help",
    "lmm import",
    "lmm mcp",
    "git log --grep 'lmm recall'",
    "git commit -m 'lmm recall says less'",
    'git commit -m "cut\n\nlmm recall says less"',
    "echo 'x; lmm recall port'",
    'echo "x && lmm recall port"',
    "ls # lmm recall port",
    "cat > README.md <<'EOF'\nlmm recall port\nEOF\ngit add README.md",
    "cat > README.md <<-EOF\n\tlmm recall port\n\tEOF\ngit add README.md",
    "echo done > lmm status",
    "cd /src/lmm && pytest tests/recall",
    "sudo grep lmm recall",
    "xargs grep lmm recall",
    "film recall",
    "ls lmm; recall",
    "mylmm recall port",
    "lmm2 recall port",
    "bash lmm recall",
    "bash -lc 'grep lmm recall'",
    "",
    "'",
    '"lmm recall',
    "\\",
    "lmm",
    "LMM_HOME=/x",
    "env",
    "sudo -u",
    "bash -c",
    "<<",
)


@pytest.mark.parametrize("command", ASKED)
def test_what_asks_this_memory_is_ours(command: str) -> None:
    assert is_our_command(command)


def test_every_command_is_known_to_say_what_is_remembered_or_not_to() -> None:
    commands = typer.main.get_command(app).commands
    assert {name for name in commands if not is_our_command(f"lmm {name}")} == SILENT & {*commands} == SILENT


@pytest.mark.parametrize("command", MENTIONED)
def test_what_only_speaks_of_this_memory_is_not_ours(command: str) -> None:
    assert not is_our_command(command)


@pytest.mark.parametrize(
    "unit",
    [
        "lmm ",
        "'lmm",
        '"lmm',
        "lmm\\",
        "$(lmm ",
        '"$(lmm ',
        "`lmm",
        "<<lmm\n",
        "lmm<<a\n",
        "sudo lmm -x ",
        "bash -c lmm ",
        "eval lmm ",
        "uv run -x lmm ",
        "# lmm\n",
        "A=lmm ",
        "lmm -x ",
        "\\\n lmm",
    ],
)
def test_a_command_line_of_a_megabyte_is_taken_apart_in_linear_time(unit: str) -> None:
    took = []
    for num_chars in (25_000, 100_000):
        command = unit * (num_chars // len(unit))
        began = time.process_time()
        is_our_command(command)
        took.append(time.process_time() - began)
    assert took[1] < 8 * took[0] + 0.1, took


ASKED_FOR = {"server": "lmm", "uri": "lmm://timeline?since=7d"}
TOLD = "Nothing is remembered of that time here."
AT = "2026-03-03T09:00:00.000Z"


def line_of_claude(**content: Any) -> dict[str, Any]:
    kind = "assistant" if content["type"] == "tool_use" else "user"
    own = {"type": kind, "uuid": f"u-{kind}", "sessionId": "s1", "timestamp": AT, "cwd": "/work"}
    return {**own, "message": {"role": kind, "content": [content]}}


def line_of_codex(**payload: Any) -> dict[str, Any]:
    return {"type": "response_item", "timestamp": AT, "payload": payload}


def line_of_qwen(kind: str, **part: Any) -> dict[str, Any]:
    own = {"uuid": f"u-{kind}", "sessionId": "s1", "timestamp": AT, "type": kind, "cwd": "/work"}
    return {**own, "message": {"role": "model" if kind == "assistant" else "user", "parts": [part]}}


READ = {
    "claude-code": (
        line_of_claude(type="tool_use", id="toolu_1", name="ReadMcpResourceTool", input=ASKED_FOR),
        line_of_claude(type="tool_result", tool_use_id="toolu_1", content=TOLD),
    ),
    "codex": (
        line_of_codex(
            type="function_call", name="read_mcp_resource", call_id="call_1", arguments=json.dumps(ASKED_FOR)
        ),
        line_of_codex(type="function_call_output", call_id="call_1", output=TOLD),
    ),
    "qwen-code": (
        line_of_qwen("assistant", functionCall={"id": "call_1", "name": "read_mcp_resource", "args": ASKED_FOR}),
        line_of_qwen("tool_result", functionResponse={"id": "call_1", "response": {"output": TOLD}}),
    ),
}
"""An agent that reads one of our resources, and what it is told: nothing that stands in a fence."""


@pytest.mark.parametrize("agent", READ)
@pytest.mark.parametrize("server", ["lmm", "film"])
def test_a_resource_of_ours_that_was_read_is_ours_and_that_of_another_server_is_not(
    tmp_path: Path, agent: str, server: str
) -> None:
    path = tmp_path / "s1.jsonl"
    text = "".join(json.dumps(line) + "\n" for line in READ[agent])
    path.write_text(text.replace("lmm", server), encoding="utf-8")
    events = [item for item in by_agent(agent).read(path, Cursor()) if isinstance(item, Event)]
    assert [event.kind for event in events] == ["call", "result"]
    assert [event.ours for event in events] == [server == "lmm"] * 2
