"""`lmm hook session-start`: what an agent runs when a session begins, resumes, is cleared or was compacted.

The hook's JSON comes in, what is remembered of the project goes out as JSON of the same agent. An agent waits for this, so it
never takes longer than `PATIENCE_s` and never fails: whatever is wrong, nothing is printed and the exit code is 0. The
engine is asked where one runs; else the same is worked out here, without the libraries of the store.

Standard library only until something is to be worked out.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from lmm_mcp.errors import HomeError
from lmm_mcp.paths import Home, home_of

EVENT = "session-start"
PATIENCE_s = 1.4
"""From our start to our end, whatever happens."""
ENGINE_PATIENCE_s = 0.5
MAX_INPUT_bytes = 1_000_000
LOG_FILE = "hook.log"
MAX_LOG_bytes = 100_000


def main(env: Mapping[str, str], arguments: Sequence[str]) -> None:
    """Answer and end this process; exit code 0, always."""
    ends_s = time.monotonic() + PATIENCE_s
    try:
        home = home_of({**env, "LMM_HOME": _value_of("--home", arguments) or env.get("LMM_HOME", "")})
    except HomeError:
        os._exit(0)
    answers: list[str] = []
    troubles: list[str] = []

    def work() -> None:
        try:
            if arguments[:1] == [EVENT]:
                answers.append(answer(home, sys.stdin.buffer.read(MAX_INPUT_bytes)))
        except Exception as problem:
            troubles.append(type(problem).__name__)

    worker = threading.Thread(target=work, name="answer", daemon=True)
    worker.start()
    worker.join(max(0.0, ends_s - time.monotonic()))
    with suppress(AttributeError, OSError, ValueError):  # there may be no standard output at all
        if answers and answers[0]:
            sys.stdout.write(answers[0] + "\n")
            sys.stdout.flush()
    if not answers:
        _log(home, troubles[0] if troubles else f"no answer within {PATIENCE_s} s")
    os._exit(0)  # the worker may still wait for an input that never ends, or for a disk


def answer(home: Home, data: bytes) -> str:
    """What to print for the hook's input: one line of JSON, '' where there is nothing to tell. May raise anything."""
    given = _parsed(data)
    request = {name: _text(given, name) for name in ("cwd", "session_id", "source")}
    if not request["cwd"]:
        request["cwd"] = os.getcwd()  # noqa: PTH109 - pathlib would load what nothing else here needs
    if not home.ledger.exists():
        return ""
    text = _from_engine(home, request)
    if text is None:
        text = _worked_out(home, request)
    if not text:
        return ""
    return json.dumps({"hookSpecificOutput": {"hookEventName": "SessionStart", "additionalContext": text}})


def _from_engine(home: Home, request: dict[str, str]) -> str | None:
    """The engine's answer; None where no engine, or no useful one, runs. None is started for this."""
    from lmm_mcp.errors import LmmError
    from lmm_mcp.server.reach import ask

    try:
        text = ask(home, {"want": "brief", **request}, ENGINE_PATIENCE_s).get("text")
    except LmmError:
        return None
    return text if isinstance(text, str) else None


def _worked_out(home: Home, request: dict[str, str]) -> str:
    from lmm_mcp.recall.opening import for_folder
    from lmm_mcp.store.archive import Archive
    from lmm_mcp.store.ledger import Ledger

    ledger = Ledger.open(home.ledger)
    try:
        return for_folder(ledger, Archive(home.archive), **request)
    finally:
        ledger.close()


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name)
    return value if isinstance(value, str) else ""


def _value_of(option: str, arguments: Sequence[str]) -> str:
    at = arguments.index(option) + 1 if option in arguments else len(arguments)
    return arguments[at] if at < len(arguments) else ""


def _log(home: Home, problem: str) -> None:
    """One line with the time and the kind of problem, never what a session says."""
    path = home.logs / LOG_FILE
    with suppress(OSError):
        is_long = path.exists() and path.stat().st_size > MAX_LOG_bytes
        how = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if is_long else os.O_APPEND)
        descriptor = os.open(path, how, 0o600)
        try:
            os.write(descriptor, f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {EVENT}: {problem}\n".encode())
        finally:
            os.close(descriptor)
