"""`lmm start`: the main job in one command, for somebody who has just installed this.

Reads the sessions on this machine, asks a question about them, shows the brief, and says how to connect an agent. Never
waits for long: sessions are read newest first and can be recalled by their words at once, so after some seconds the
question is asked while a process in the background goes on. A machine without sessions sees the invented ones; that
there are none is known only once that process has looked.
"""

import os
import shlex
import shutil
import time
from pathlib import Path
from typing import Annotated

import typer

from lmm_mcp import children, samples
from lmm_mcp.children import Progress
from lmm_mcp.cli import following, reading, terminal
from lmm_mcp.domain.recall import Recall
from lmm_mcp.domain.wording import counted, sized
from lmm_mcp.errors import BadInput, ConfigError
from lmm_mcp.integrations import program as programs
from lmm_mcp.integrations import registry
from lmm_mcp.integrations.contract import Integration, Program
from lmm_mcp.paths import Home
from lmm_mcp.server import status
from lmm_mcp.server.desk import Desk

WAIT_FOR_IMPORT_s = 20.0
WAIT_FOR_LOOK_s = 15.0
"""So long it may take to list the session files, even where nobody wants to wait for their being read (2 s on most machines)."""
WAIT_FOR_VECTORS_s = 8.0
"""Small memories are embedded within this; large ones are asked by their words."""
_QUESTION_chars = 160
_BUDGET_tokens = 400
_NUM_THREADS_tried = 20
_COMMAND = "  "
"""What a line begins with that is to be copied."""


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
    if home.paused.exists():
        raise BadInput("reading is paused. `lmm resume` first.")
    make_model_ready(terminal.desk(home))
    said = _read(home, wait)
    desk = terminal.desk(home)
    is_own = bool(_num_sessions(desk))
    said = _by_now(home, said)  # to open the store took a second
    terminal.say(told(said, is_any_read=is_own))
    if is_own:
        _answer(desk, question or _own_question(desk))
    elif following.is_imported(said):
        _answer_from_samples(question or samples.QUESTIONS[0])
    else:
        terminal.say(f'Ask in a moment: lmm recall "{question or "what was decided last, and why?"}"')
    said = _by_now(home, said)
    if said.is_running:
        terminal.say(
            f"\nReading goes on in the background ({status.reading_line(said, is_paused=False)}): "
            "`lmm status` shows how far it is, `lmm pause` stops it."
        )
    for line in _how_to_connect().splitlines():
        (terminal.say_whole if line.startswith(_COMMAND) else terminal.say)(line)


def _answer(desk: Desk, asked: str) -> None:
    started_s = time.perf_counter()
    found: Recall = desk.recall(asked, project="*", budget_tokens=_BUDGET_tokens)
    took_ms = (time.perf_counter() - started_s) * 1000
    terminal.say(f"\n> {asked}\n")
    terminal.say_answer(found)
    terminal.say(f"\nanswered in {took_ms:,.0f} ms")


def _answer_from_samples(asked: str) -> None:
    with reading.memory_of_samples() as home:
        _answer(terminal.desk(home), asked)
    terminal.say("These sessions were invented and what was read of them is gone again, so their ids lead nowhere.")


def _read(home: Home, wait_s: float) -> Progress:
    """Let the ingest process read, in the background as soon as `wait_s` are over; how far it was then."""
    child = children.start_ingest(home, os.environ, stay=False, idle_priority=False, outlive_us=True)
    ends_s = time.monotonic() + wait_s
    try:
        said = following.follow(home, child, is_enough=_has_looked, at_most_s=max(wait_s, WAIT_FOR_LOOK_s))
        for is_enough, at_most_s in ((following.is_imported, wait_s), (following.is_embedded, WAIT_FOR_VECTORS_s)):
            left_s = min(at_most_s, ends_s - time.monotonic())
            if left_s > 0 and not is_enough(said):
                said = following.follow(home, child, is_enough=is_enough, at_most_s=left_s)
    except KeyboardInterrupt:
        child.stop(grace_s=0.5)
        raise
    child.leave_behind()
    # What a process said that has long ended says nothing about now.
    return said if said.pid == child.pid or said.is_running else Progress()


def _by_now(home: Home, said: Progress) -> Progress:
    latest = children.progress(home)
    return latest if latest is not None and latest.pid == said.pid else said


def _has_looked(said: Progress) -> bool:
    return said.files_total > 0 or following.is_imported(said)


def _num_sessions(desk: Desk) -> int:
    return sum(count for agent, count in status.take(desk).by_agent.items() if agent != "notes")


def told(said: Progress, *, is_any_read: bool) -> str:
    """How far reading is, in one sentence. `is_any_read`: whether some session can be recalled by now.

    >>> told(Progress(phase="done"), is_any_read=False)
    'No sessions of any agent were found on this machine: here are four invented ones.'
    >>> told(Progress(files_total=2, bytes_total=9_000_000), is_any_read=False)
    '2 session files were found (9.0 MB), and none is read yet: reading goes on in the background.'
    """
    is_all = following.is_imported(said)
    found = f"{counted(said.files_total, 'session file')} {'was' if said.files_total == 1 else 'were'} found"
    done, total = sized(said.bytes_done), sized(said.bytes_total)
    if is_any_read and is_all:
        return reading.summary(said)
    if is_any_read:
        return f"read {said.files_done:,} of {counted(said.files_total, 'file')} so far ({done} of {total}), newest first; the rest is read in the background"
    if not is_all and said.files_total:
        return f"{found} ({total}), and none is read yet: reading goes on in the background."
    if not is_all:
        return "No session is read yet: reading goes on in the background."
    if said.files_total:
        return f"{found}, but nothing to remember in them: here are four invented sessions."
    return "No sessions of any agent were found on this machine: here are four invented ones."


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


def _how_to_connect() -> str:
    mine = programs.installed(os.environ)
    agents = registry.found(os.environ)
    left = [agent for agent in agents if not _is_connected(agent, mine)]
    lines = [""]
    if left or not agents:
        # Named, it does not ask: whoever types it has decided.
        names = [agent.name for agent in left or registry.ALL]
        lines += [
            "Connect your agents, once, and they recall by themselves:",
            f"{_COMMAND}{shlex.join([*mine.words, 'install', *names])}",
        ]
    else:
        lines.append(f"{' and '.join(agent.title for agent in agents)} know this memory already.")
    lines.append(f"Any other MCP client: let it run `{shlex.join([*mine.words, 'mcp'])}` over stdio.")
    lines.append(_how_to_call(program()))
    return "\n".join(lines)


def _is_connected(agent: Integration, mine: Program) -> bool:
    try:
        return agent.look(os.environ, mine).state == "connected"
    except ConfigError:  # `lmm install` says what is wrong with its file
        return False


def _how_to_call(program: list[str]) -> str:
    found = shutil.which("lmm")
    if found and Path(found).resolve() == Path(program[0]).resolve():
        return "`lmm --help` shows what else there is."
    told = f"`{shlex.join(program)} --help` shows what else there is."
    if len(program) > 1:
        return told
    folder = Path(program[0]).parent
    if os.name == "nt":
        return f"{told} To call it just `lmm`, put {folder} on your PATH."
    return f'{told} To call it just `lmm`, type once in a shell:\n{_COMMAND}export PATH="{folder}:$PATH"'


def program() -> list[str]:
    """How to start this `lmm` by full paths: agents start it without our PATH."""
    return list(programs.installed(os.environ).words)
