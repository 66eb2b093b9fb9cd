"""`lmm mcp`: carries an agent's lines to the engine and its answers back, and outlives the engine.

What was asked and not answered yet is kept. When the engine goes away, the next one is told what the first was told (the
handshake, whose second answer the agent never sees) and asked again. That is safe: three of the tools only read, and
`remember` knows the same request when it comes again. Where no engine can be had, every request gets an error that says what
to do. When the agent closes our standard input, we end; when we are killed, the engine sees it.

Standard library only, and little of that: each agent has one of these, and waits for it.
"""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from lmm_mcp.errors import LmmError
from lmm_mcp.paths import Home, home_of
from lmm_mcp.server import endpoint, reach

MAX_TRIES = 3
"""How often a request is asked: one that ends every engine must not do so for ever."""
MAX_KEPT = 1000
"""Requests that wait for an engine; an agent that asks more without an answer gets errors."""
ANSWERS_AFTER_END_s = 10.0
"""How long the answers to what was asked are waited for, after the agent has closed our input."""
STARTS_IN_ROW = 3
START_WINDOW_s = 60.0
"""An engine that ends again and again is not started for nothing but to be there: only when something is asked."""
STOPPED = "notifications/lmm/stopped"
SERVER_ERROR = -32000
TOO_LARGE = -32600


def serve(env: Mapping[str, str], *, reads: bool = True) -> int:
    """Carry until standard input ends; the exit code. `reads=False`: nothing new need be read for us. Raises HomeError."""
    home = home_of(env).ensure()
    pipe = Pipe(home, env, reads=reads)
    threading.Thread(target=pipe.carry_back, name="answers", daemon=True).start()
    return pipe.carry()


class _Request:
    """One request of the agent that is not answered yet."""

    __slots__ = ("id", "is_endless", "is_handshake", "line", "tries")

    def __init__(self, message: dict[str, Any], line: bytes) -> None:
        self.id = message["id"]
        self.line = line
        self.is_handshake = message["method"] == "initialize"
        self.is_endless = message["method"] == endpoint.ENDLESS
        self.tries = 0


class Pipe:
    """See the module. Two threads: `carry` reads the agent, `carry_back` keeps an engine and writes to the agent."""

    def __init__(self, home: Home, env: Mapping[str, str], *, reads: bool) -> None:
        self._home, self._env = home, env
        self._hello = {
            "want": "mcp",
            "cwd": reachable_cwd(env, _real_cwd()),
            "client": os.urandom(12).hex(),
            "reads": reads,
            "env": {name: value for name, value in env.items() if name.startswith("LMM_")},
        }
        self._state = threading.Condition()
        self._sending = threading.Lock()
        self._engine: socket.socket | None = None
        self._open: dict[str, _Request] = {}
        self._handshake: bytes = b""
        """The agent's `initialize`, once it was answered: what a further engine must be told first."""
        self._initialized: bytes = b""
        self._to_swallow = ""
        """Key of the handshake that only we said, while it is not answered."""
        self._was_stopped = False
        self._starts: list[float] = []
        self._has_ended = False

    # From the agent

    def carry(self) -> int:
        """Carry the agent's lines to the engine until there are no more; the exit code."""
        for line in _lines(0):
            if line is None:
                self._say(
                    _error(None, f"a message of more than {endpoint.MAX_LINE_bytes:,} bytes was dropped.", TOO_LARGE)
                )
                continue
            self._take(line)
        with self._state:
            self._has_ended = True
            self._state.notify_all()
            self._state.wait_for(lambda: all(each.is_endless for each in self._open.values()), ANSWERS_AFTER_END_s)
        return 0

    def _take(self, line: bytes) -> None:
        message = _parsed(line)
        with self._state:
            engine = self._engine
            if "method" in message and message.get("id") is not None:
                if len(self._open) >= MAX_KEPT:
                    self._say(
                        _error(message["id"], f"{MAX_KEPT} requests wait already. Ask again when some are answered.")
                    )
                    return
                request = self._open[repr(message["id"])] = _Request(message, line)
                request.tries = int(engine is not None)
            elif message.get("method") == "notifications/initialized":
                self._initialized = line
            elif message.get("method") == "notifications/cancelled" and isinstance(message.get("params"), dict):
                self._open.pop(repr(message["params"].get("requestId")), None)
            self._state.notify_all()
        if engine is not None:
            self._send(engine, line)

    def _send(self, engine: socket.socket, line: bytes) -> None:
        with self._sending, suppress(OSError):  # it has gone: the other thread sees that, and asks again
            engine.sendall(line)

    # From the engine

    def carry_back(self) -> None:
        """Keep an engine for as long as this process lives, and carry its answers back."""
        while True:
            try:
                found = reach.reach(self._home, self._env, self._hello)
            except LmmError as problem:
                self._refuse_all(str(problem))
            except Exception as problem:  # whatever it is, the agent must not wait for ever
                self._refuse_all(f"{type(problem).__name__}: {problem}. `lmm doctor` looks for the reason.")
            else:
                self._attach(found.socket)
                self._carry_answers(found.socket, found.rest)
                self._detach(found.socket)
            self._pause()

    def _attach(self, engine: socket.socket) -> None:
        """Tell a new engine what the ones before it were told and did not answer."""
        with self._sending:
            with self._state:
                self._engine = engine
                self._was_stopped = False
                told: list[bytes] = []
                if self._handshake:
                    self._to_swallow = repr(_parsed(self._handshake).get("id"))
                    told += [self._handshake, self._initialized]
                for request in self._open.values():
                    request.tries += 1
                    told.append(request.line)
                    if request.is_handshake:
                        told.append(self._initialized)
            with suppress(OSError):  # gone again
                engine.sendall(b"".join(told))

    def _carry_answers(self, engine: socket.socket, heard: bytes) -> None:
        pieces = [heard]
        while True:
            while b"\n" in pieces[-1]:
                *lines, rest = b"".join(pieces).split(b"\n")
                pieces = [rest]
                for line in lines:
                    self._give(line)
            try:
                piece = engine.recv(65536)
            except OSError:
                return
            if not piece:
                return
            pieces.append(piece)

    def _give(self, line: bytes) -> None:
        """Give the agent one line of the engine, unless it is for us."""
        message = _parsed(line)
        if message.get("method") == STOPPED:
            self._was_stopped = True
            return
        key = repr(message.get("id"))
        with self._state:
            if "method" not in message:
                if key == self._to_swallow:
                    self._to_swallow = ""
                    return
                request = self._open.get(key)
                if request is not None and request.is_handshake and "result" in message:
                    self._handshake = request.line
        self._say(line + b"\n")
        with self._state:  # only now: who ends for want of open requests must have said all
            if "method" not in message:
                self._open.pop(key, None)
                self._state.notify_all()

    def _detach(self, engine: socket.socket) -> None:
        with self._state:
            self._engine = None
            self._to_swallow = ""
            worn_out = [request for request in self._open.values() if request.tries >= MAX_TRIES]
        engine.close()
        self._refuse(
            worn_out,
            f"the memory's engine ended {MAX_TRIES} times before it answered this. "
            f"{self._home.logs} may tell why; `lmm doctor` looks for the reason.",
        )

    def _pause(self) -> None:
        """Wait for what needs an engine: at once a request, and else the wish to be there for the next one."""
        now_s = time.monotonic()
        self._starts = [at_s for at_s in self._starts if now_s - at_s < START_WINDOW_s] + [now_s]
        with self._state:
            if self._was_stopped or len(self._starts) > STARTS_IN_ROW:
                self._state.wait_for(lambda: bool(self._open))

    # To the agent

    def _refuse_all(self, why: str) -> None:
        self._was_stopped = True  # not again before something is asked
        with self._state:
            requests = list(self._open.values())
        self._refuse(requests, why)

    def _refuse(self, requests: list[_Request], why: str) -> None:
        for request in requests:
            self._say(_error(request.id, f"the memory does not answer: {why}"))
            with self._state:
                self._open.pop(repr(request.id), None)
                self._state.notify_all()

    def _say(self, line: bytes) -> None:
        """Write one line to the agent; where it does not listen any more, end."""
        try:
            with _writing:
                while line:
                    line = line[os.write(1, line) :]
        except OSError:
            os._exit(0)


_writing = threading.Lock()


def _lines(descriptor: int) -> Any:
    """Lines of the agent as they come; None for one that is too long to be meant."""
    pieces: list[bytes] = []
    size = 0
    while True:
        try:
            piece = os.read(descriptor, 65536)
        except OSError:
            piece = b""
        if not piece:
            break
        *lines, rest = piece.split(b"\n")
        for line in lines:
            size += len(line)
            pieces.append(line)
            whole, is_whole = b"".join(pieces), size <= endpoint.MAX_LINE_bytes
            pieces, size = [], 0
            if whole.strip():
                yield whole + b"\n" if is_whole else None
        size += len(rest)
        if size <= endpoint.MAX_LINE_bytes:
            pieces.append(rest)
        elif pieces:
            pieces = [pieces[0][:100]]  # enough to know that there was a line
    # A last line without its end was not finished: its writer died in the middle.


def _error(request_id: Any, message: str, code: int = SERVER_ERROR) -> bytes:
    told = {"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": message}}
    return json.dumps(told).encode() + b"\n"


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def reachable_cwd(env: Mapping[str, str], real: str) -> str:
    """The working directory as the user names it: `PWD` keeps symbolic links, but is believed only where it fits."""
    named = env.get("PWD", "")
    with suppress(OSError, ValueError):
        if named and os.path.samefile(named, real):  # noqa: PTH121 - so that names stay as they are
            return named
    return real


def _real_cwd() -> str:
    try:
        return str(os.getcwd())  # noqa: PTH109 - Path.cwd would do the same and hide that this may fail
    except FileNotFoundError:  # the folder was deleted under our feet
        return ""


def main(env: Mapping[str, str], *, reads: bool) -> int:
    """Serve, and say in one line on standard error what stands in the way."""
    try:
        return serve(env, reads=reads)
    except LmmError as problem:
        sys.stderr.write(f"lmm: {problem}\n")
        return 1
    except KeyboardInterrupt:
        return 130
