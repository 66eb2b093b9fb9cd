"""`lmm start`: the main job in one command, for somebody who has just installed this.

Reads the sessions on this machine, asks a question about them, shows the brief, and says how to connect an agent. Never
waits for long: sessions are read newest first and can be recalled by their words at once, so after some seconds the
question is asked while a process in the background goes on. A machine without sessions sees the invented ones.
"""

import os
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from lmm_mcp import children, samples
from lmm_mcp.children import Progress
from lmm_mcp.cli import following, reading, terminal
from lmm_mcp.domain.recall import Recall
from lmm_mcp.paths import Home
from lmm_mcp.server import status
from lmm_mcp.server.desk import Desk

WAIT_FOR_IMPORT_s = 20.0
WAIT_FOR_VECTORS_s = 8.0
"""Small memories are embedded within this; large ones are asked by their words."""
_QUESTION_chars = 160
_BUDGET_tokens = 400
_NUM_THREADS_tried = 20


def start(
    question: Annotated[
        str | None,
        typer.Option(
            "--question", "-q", help="Ask this instead of one made from your newest session.", show_default=False
        ),
    ] = None,
    wait: Annotated[
        float,
        typer.Option(
            min=0, max=600, help="Seconds to read before the question is asked; the rest is read in the background."
        ),
    ] = WAIT_FOR_IMPORT_s,
) -> None:
    """Read your sessions, answer a question about them, and show how to connect an agent.

    [dim]lmm start --question "how do we deploy?"[/]
    """
    from lmm_mcp.server.warming import make_model_ready  # loads the server's libraries

    home = terminal.home()
    make_model_ready(terminal.desk(home))
    said = _read(home, wait)
    desk = terminal.desk(home)
    is_own = bool(_num_sessions(desk))
    if not is_own:
        terminal.say("No sessions of Claude Code or Codex were found on this machine: here are four invented ones.")
        desk = terminal.desk(reading.read_samples(Home(home.root / "demo")))
    else:
        terminal.say(_told(said))
    asked = question or (_own_question(desk) if is_own else samples.QUESTIONS[0])
    started_s = time.perf_counter()
    found: Recall = desk.recall(asked, project="*", budget_tokens=_BUDGET_tokens)
    took_ms = (time.perf_counter() - started_s) * 1000
    terminal.say(f"\n> {asked}\n")
    terminal.say_brief(found.text)
    for note in found.notes:
        terminal.say(f"note: {note}")
    terminal.say(
        f"\nanswered in {took_ms:,.0f} ms; {status.reading_line(children.progress(desk.home), is_paused=False)}"
    )
    terminal.say(_how_to_connect(home))


def _read(home: Home, wait_s: float) -> Progress:
    """Let the ingest process read, in the background as soon as `wait_s` are over."""
    child = children.start_ingest(home, os.environ, stay=False, idle_priority=False, outlive_us=True)
    try:
        started_s = time.monotonic()
        said = following.follow(home, child, is_enough=following.is_imported, at_most_s=wait_s)
        if following.is_imported(said):
            left_s = min(WAIT_FOR_VECTORS_s, max(0.0, wait_s - (time.monotonic() - started_s)))
            said = following.follow(home, child, is_enough=following.is_embedded, at_most_s=left_s)
    except KeyboardInterrupt:
        child.stop(grace_s=0.5)
        raise
    child.leave_behind()
    return said


def _num_sessions(desk: Desk) -> int:
    return sum(count for agent, count in status.take(desk).by_agent.items() if agent != "notes")


def _told(said: Progress) -> str:
    if said.is_running and not following.is_imported(said):
        done, total = said.bytes_done / 1e6, said.bytes_total / 1e6
        return f"read {said.files_done:,} of {said.files_total:,} files so far ({done:,.0f} of {total:,.0f} MB), newest first; the rest is read in the background"
    return reading.summary(said)


def _own_question(desk: Desk) -> str:
    """A question that the newest session should be able to answer: its title, or its own first prompt that says enough."""
    rows = [row for row in desk.ledger.threads() if row.thread.agent != "notes" and not row.thread.is_subagent]
    for row in sorted(rows, key=lambda row: -row.last_ms)[:_NUM_THREADS_tried]:
        if len(row.thread.title.split()) >= 4:
            return _shortened(row.thread.title)
        found = desk.archive.read(row.thread.agent, row.thread.thread_id)
        prompts = [event.text for event in found[1] if event.kind == "prompt" and not event.ours] if found else []
        for prompt in prompts:
            line = next((line.strip() for line in prompt.splitlines() if len(line.split()) >= 4), "")
            if line:
                return _shortened(line)
    return "what was decided last, and why?"


def _shortened(line: str) -> str:
    return line if len(line) <= _QUESTION_chars else line[:_QUESTION_chars].rsplit(" ", 1)[0]


def _how_to_connect(home: Home) -> str:
    command = [*_program(), "mcp"]
    is_named = bool(os.environ.get("LMM_HOME"))
    name = f"LMM_HOME={home.root}"
    claude = ["claude", "mcp", "add", "--scope", "user", "lmm", *(["-e", name] if is_named else []), "--", *command]
    codex = ["codex", "mcp", "add", "lmm", *(["--env", name] if is_named else []), "--", *command]
    lines = [
        "\nConnect an agent, once, and it recalls by itself:",
        *(f"  {shlex.join(line)}" for line in (claude, codex)),
    ]
    return "\n".join(
        [*lines, "Any other MCP client: run the command after `--` over stdio. `lmm --help` shows what else there is."]
    )


def _program() -> list[str]:
    """How to start this `lmm` by full paths: agents start it without our PATH."""
    beside = Path(sys.executable).with_name("lmm.exe" if os.name == "nt" else "lmm")
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "lmm_mcp"]
