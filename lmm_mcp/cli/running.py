"""Commands about the processes of a memory: serve, watch, stop."""

import os
import subprocess
import sys
import time
from typing import Annotated, Any

import typer

from lmm_mcp import children, restarts
from lmm_mcp.cli import terminal
from lmm_mcp.cli.asking import AS_JSON
from lmm_mcp.domain.wording import counted
from lmm_mcp.errors import BadInput, EngineError
from lmm_mcp.limits import TOO_MUCH_MEMORY_code
from lmm_mcp.paths import Home
from lmm_mcp.refusal import explained, refusal_of
from lmm_mcp.server import endpoint, reach, status, stopping, units

PANEL = "Run"
_LOOK_EVERY_s = 0.2
_ASK_s = 2.0
_REFUSED_RETRY_s = 30.0


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("serve", rich_help_panel=PANEL)(serve)
    app.command("watch", rich_help_panel=PANEL)(watch)
    app.command("stop", rich_help_panel=PANEL)(stop)


def serve(
    http: Annotated[bool, typer.Option("--http", help="Serve MCP over HTTP too, on this machine only.")] = False,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port for --http.")] = endpoint.HTTP_PORT,
    unit: Annotated[
        str, typer.Option("--unit", metavar="systemd|launchd", help="Print a service file and leave.")
    ] = "",
    write_unit: Annotated[
        bool, typer.Option("--write-unit", help="Write the service file, and say how to start it.")
    ] = False,
) -> None:
    """Keep the memory running, with or without agents, until Ctrl-C.

    Sessions are read as they grow, and the first question of an agent finds everything open.

    [dim]lmm serve[/]

    [dim]lmm serve --http --port 7787[/]

    [dim]lmm serve --unit systemd --write-unit[/]
    """
    options = ["--http", "--port", str(port)] if http else []
    if unit or write_unit:
        _tell_unit(unit or ("launchd" if sys.platform == "darwin" else "systemd"), options, is_to_write=write_unit)
        return
    home = terminal.home()
    command = reach.engine_command(home, "--stay", *(["--http", str(port)] if http else []))
    env = reach.engine_env(home, os.environ)
    sys.stdout.flush()
    if os.name == "posix":
        os.execve(sys.executable, command, env)  # noqa: S606 - it takes our place: a terminal and a service see one process
    raise typer.Exit(subprocess.run(command, env=env, check=False).returncode)


def _tell_unit(kind: str, options: list[str], *, is_to_write: bool) -> None:
    if kind not in units.KINDS:
        raise BadInput(f"there is no service file for {kind!r}; write `--unit systemd` or `--unit launchd`.")
    from lmm_mcp.cli.starting import program  # which itself needs other commands

    file = units.place(kind, os.environ)
    text = units.text(kind, [*program(), "serve", *options], os.environ)
    if not is_to_write:
        terminal.say_whole(text.rstrip("\n"))
        terminal.aside(f"put this into {file} (`--write-unit` does), then: {units.next_command(kind, file)}")
        return
    if file.exists() and units.MARK not in file.read_text(encoding="utf-8", errors="replace"):
        raise BadInput(f"{file} was written by somebody else. Move it away, or print ours with `--unit {kind}`.")
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    beside.replace(file)
    terminal.say(f"wrote {file}; now type: {units.next_command(kind, file)}")


def watch() -> None:
    """Read sessions as they grow, without serving anybody, until Ctrl-C.

    [dim]lmm watch[/]
    """
    home = terminal.home()
    child = children.start_ingest(home, os.environ, stay=True, idle_priority=False)
    told = refused = ""
    try:
        while _goes_on(code := child.poll()):
            if code is not None:
                # A full disk is made room on by somebody, sooner or later; it can hold no word on what is wrong.
                why = explained(refusal_of(code), home.root).partition(";")[0]
                if why and why != refused:
                    terminal.aside(f"lmm: {why}; nothing was lost, and reading goes on by itself once it can")
                refused = why
                time.sleep(_REFUSED_RETRY_s if why else restarts.pause_s(home))
                child.start_again()
            said = children.progress(home)
            if said is not None and said.pid == child.pid:
                line = status.reading_line(said, home.paused.exists())
                if line.partition(",")[0] != told.partition(",")[0]:
                    terminal.say(line)
                told = line
            time.sleep(_LOOK_EVERY_s)
    except KeyboardInterrupt:
        child.stop()
        raise
    if code:
        raise EngineError(f"the ingest process ended with code {code}; {home.logs / children.STDERR_LOG} says why.")
    said = children.progress(home)
    if said is not None and said.is_running and said.pid != child.pid:
        terminal.say(f"process {said.pid} reads the sessions of {home.root} already")
    else:
        terminal.say("the ingest process was told to leave, and has")


def _goes_on(code: int | None) -> bool:
    """Whether the ingest process runs, or has only to be started again."""
    return code is None or code == TOO_MUCH_MEMORY_code or refusal_of(code) != ""


def stop(as_json: Annotated[bool, AS_JSON] = False) -> None:
    """End the engine and the ingest process of this memory.

    Nothing is lost. An agent that asks something afterwards starts them again; `lmm pause` keeps sessions from being read.
    """
    home = terminal.home()
    done = stopping.stop(home)
    if as_json:
        terminal.say_json({"done": done})
        return
    for told in done or ["nothing was running"]:
        terminal.say(told)


def engine_now(home: Home) -> dict[str, Any]:
    """How the engine is, as it says: see `answers.status`; empty where none runs, only `problem` where it does not answer."""
    try:
        return reach.ask(home, {"want": "status"}, _ASK_s)
    except EngineError:
        lock = endpoint.hold(home.engine_lock) if home.engine_lock.exists() else None
    if lock is None and home.engine_lock.exists():
        pid = endpoint.about(home).get("pid", "unknown")
        return {"problem": f"the engine (process {pid}) does not answer", "pid": pid}
    if lock is not None:
        lock.release()
    return {}


def engine_line(now: dict[str, Any]) -> str:
    """The same for people."""
    if not now:
        return "none runs; an agent that uses this memory starts it, and so does `lmm serve`"
    if "problem" in now:
        return f"{now['problem']}; `lmm stop` ends it"
    up_s = int(now["up_s"])
    up = f"{up_s} s" if up_s < 120 else f"{up_s // 60} min" if up_s < 7200 else f"{up_s // 3600} h"
    stays = ", stays without agents" if now["stays"] else ""
    return (
        f"process {now['pid']}, version {now['version'] or 'unknown'}, {counted(now['clients'], 'agent')} connected, "
        f"{now['resident_mb']:,} MB, up {up}{stays}"
    )
