"""Getting to the engine of a memory home: greet the one that runs, or start one, however many want the same at once.

Who starts an engine holds a lock until it answers; the others look again until it does. So one comes to be. An engine that
is older than us is told to retire by whoever holds that lock, and nobody tells a newer one to: versions cannot take turns.

Standard library only: the pipe loads this.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from lmm_mcp.errors import EngineError
from lmm_mcp.paths import Home
from lmm_mcp.server import endpoint
from lmm_mcp.server.version import version

PATIENCE_s = 30.0
"""How long an engine may take to come, on a machine that has much else to do."""
LOOK_AGAIN_s = 0.02
MAX_STARTS = 3
"""For one who wants an engine: what ends at once, again and again, is not mended by yet another start."""
STDERR_LOG = "engine-stderr.log"
"""What the last engine wrote to standard error: why it could not start, above all."""
_DETACHED = getattr(subprocess, "DETACHED_PROCESS", 0) | getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)


class Connection:
    """A connection on which the engine has said welcome."""

    def __init__(self, made: socket.socket, answer: dict[str, Any], rest: bytes) -> None:
        self.socket = made
        self.answer = answer
        self.rest = rest
        """Bytes that came behind the answer already."""


def reach(home: Home, env: Mapping[str, str], request: dict[str, Any], *, patience_s: float = PATIENCE_s) -> Connection:
    """Greet the engine, which is started where none runs. Raises EngineError and HomeError."""
    home.ensure()  # somebody may have removed it since we were started
    ends_s = time.monotonic() + patience_s
    num_starts = 0
    while True:
        found, refusal = _greeted(home, request, ends_s)
        if found is not None:
            return found
        if refusal == "newer":
            raise EngineError(
                "a newer version of this memory is at work and speaks another protocol. Restart the agent, so that it starts the new `lmm mcp`."
            )
        if refusal == "full":
            raise EngineError(
                "too many agents are connected to this memory. Close some, or `lmm stop` ends it for all."
            )
        lock = endpoint.hold(home.engine_start_lock)
        if lock is not None:
            try:
                # Somebody may have started one between our look and our lock.
                found, refusal = _greeted(home, {**request, "may_retire": True}, ends_s)
                if found is not None:
                    return found
                if num_starts == MAX_STARTS:
                    raise EngineError(
                        f"{num_starts} engines were started and ended at once. {home.logs} may tell why; `lmm doctor` looks for the reason."
                    )
                if refusal not in ("newer", "full"):
                    num_starts += 1
                    start_engine(home, env)
            finally:
                lock.release()
        elif time.monotonic() >= ends_s:
            raise EngineError(
                f"no engine answered within {patience_s:.0f} s. `lmm stop` ends what hangs; `lmm doctor` looks for the reason."
            )
        else:
            time.sleep(LOOK_AGAIN_s)


def _greeted(home: Home, request: dict[str, Any], ends_s: float) -> tuple[Connection | None, str]:
    """A connection, or why there is none: what the engine said, '' where nobody answered."""
    patience_s = min(endpoint.HELLO_TIMEOUT_s, max(0.1, ends_s - time.monotonic()))
    greeted = endpoint.greet(home, request, version=version(), timeout_s=patience_s)
    if greeted is None:
        return None, ""
    made, answer, rest = greeted
    if answer.get("welcome"):
        return Connection(made, answer, rest), ""
    made.close()
    return None, str(answer.get("no") or "no")


def ask(
    home: Home, request: dict[str, Any], timeout_s: float, *, start: bool = False, env: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Ask the engine one thing, such as `{"want": "status"}`, and return its answer.

    `start`: start an engine where none runs, with the environment `env`. Raises EngineError where none answers in time,
    and where it answers that it could not do it.
    """
    if start:
        found = reach(home, os.environ if env is None else env, request, patience_s=timeout_s)
        made, answer = found.socket, found.answer
    else:
        greeted = endpoint.greet(home, request, version=version(), timeout_s=timeout_s)
        if greeted is None:
            raise EngineError(
                "no engine runs for this memory. An agent that uses it starts one, and so does `lmm serve`."
            )
        made, answer, _ = greeted
    made.close()
    if not answer.get("welcome"):
        raise EngineError(f"the engine does not answer that now ({answer.get('no')}). Ask again in a moment.")
    if "error" in answer:
        raise EngineError(str(answer["error"]))
    return answer


def start_engine(home: Home, env: Mapping[str, str]) -> None:
    """Start an engine and wait until it answers or has given up. Raises EngineError with its last words.

    It belongs to nobody: not to our terminal, nor to the agent that started us and may end all its children.
    """
    command = engine_command(home)
    complaints: Any = subprocess.DEVNULL
    with suppress(OSError):  # a full disk: then nobody hears its last words
        complaints = os.open(home.logs / STDERR_LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=engine_env(home, env),
            cwd=home.root,
            start_new_session=True,
            creationflags=_DETACHED,
        )
    except OSError as problem:
        raise EngineError(f"the engine cannot be started: {problem}. `lmm doctor` looks for the reason.") from problem
    finally:
        if complaints >= 0:
            os.close(complaints)
    assert process.stdout is not None
    with process.stdout:
        said = process.stdout.readline()  # it closes the pipe as soon as it answers, and however it ends
    if os.name == "posix":
        process.wait()  # it has left a child behind, which is the engine
    else:
        process.returncode = 0  # else Python complains that nobody waited for it
    try:
        trouble = str(json.loads(said)["error"])
    except (ValueError, KeyError, TypeError):
        trouble = f"it ended at once: {_last_words(home) or 'it said nothing'}"
    if trouble:
        raise EngineError(f"no engine could be started: {trouble.rstrip('.')}. `lmm doctor` looks for the reason.")


def engine_command(home: Home, *options: str) -> list[str]:
    """How an engine is run; `lmm stop` knows one of ours by it."""
    # -P: the working directory of an agent is a stranger's repository, and a folder `lmm_mcp` in it must not be run.
    return [sys.executable, "-P", "-m", "lmm_mcp.server.engine", "--home", str(home.root), *options]


def engine_env(home: Home, env: Mapping[str, str]) -> dict[str, str]:
    """The environment of an engine."""
    # The C library keeps a heap for each of a dozen threads otherwise, and gives none of them back: 40 MB and more.
    return {"MALLOC_ARENA_MAX": "2", **env, "LMM_HOME": str(home.root)}


def _last_words(home: Home) -> str:
    try:
        lines = (home.logs / STDERR_LOG).read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")
