"""`python -m lmm_mcp.server.engine`: the one process of a memory home that answers every agent on this machine.

It holds `home.engine_lock` for life, so there is one. It keeps the tables and the model open, and one ingest process at work
while some agent wants that. It leaves a minute after its last agent, unless it was started to stay, and takes its ingest
process with it. Nothing heavy is imported or opened before the first agent has its list of tools.

Until an agent has heard "welcome" it has no engine, and asks again: so an engine may leave at any moment without losing one.
"""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lmm_mcp.errors import EngineError, LmmError
from lmm_mcp.paths import Home
from lmm_mcp.server import endpoint
from lmm_mcp.server.version import order, version

if TYPE_CHECKING:
    from lmm_mcp.server.lessons_due import Teacher

LINGER_s = 60.0
"""How long it stays after the last agent has gone: most come back soon."""
MODEL_IDLE_s = 600.0
"""After so long without a question the model is put away: it is most of what we hold in memory."""
LINGER_VARIABLE = "LMM_ENGINE_LINGER_S"
MODEL_IDLE_VARIABLE = "LMM_ENGINE_MODEL_IDLE_S"
"""These override the two; for tests and measurements."""
TICK_s = 5.0
COLLECT_AT = 2_000, 20, 1_000_000
"""Python's garbage collector: what is held in memory is never looked through while somebody asks, which would keep all waiting
for 0.2 s several times a minute; `Holdings.tidy` has it done in quiet."""
MAX_CONNECTIONS = 128
LOCK_PATIENCE_s = 15.0
"""How long a new engine waits for an old one to finish its answers and leave."""
LEAVING_s = 10.0
"""How long leaving may take, before it is cut short."""
RETIRED = 75
"""Exit code of one that made room for another: whoever keeps services running starts the newer one in its place."""

SWITCH_EVERY_s = 0.0005
"""How long a question may keep the interpreter from others. At Python's own 5 ms each of a question's dozen calls into a
library waits so long for its turn: with 16 agents during an import that was half of the time an answer took."""

_log = logging.getLogger("lmm_mcp.server.engine")  # by its name also where it is the main program


def main() -> None:
    """Run detached, as the pipe starts it: one JSON line on standard output says when it answers, or why it cannot.

    With `--stay` (`lmm serve`) run where we are until told to stop, and take over from an engine that runs.
    """
    parser = argparse.ArgumentParser(prog="python -m lmm_mcp.server.engine")
    parser.add_argument("--home", type=Path, required=True, help="the memory home")
    parser.add_argument("--stay", action="store_true", help="stay in the foreground, with or without agents")
    parser.add_argument("--http", type=int, metavar="PORT", help="serve HTTP on this port of 127.0.0.1 too")
    arguments = parser.parse_args()
    home = Home(arguments.home)
    if arguments.stay:
        _stay(home, arguments.http)
    if os.name == "posix" and os.fork():
        os._exit(0)  # what is left behind is nobody's child: an agent that ends all of its own does not end it

    def ready(trouble: str = "") -> None:
        with suppress(OSError):  # whoever wanted us has gone: others will come
            os.write(1, json.dumps({"error": trouble}).encode() + b"\n")
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)

    try:
        linger_s = float(os.environ.get(LINGER_VARIABLE) or LINGER_s)
        code = run(home, os.environ, linger_s=linger_s, ready=ready)
    except (LmmError, ValueError) as problem:
        ready(str(problem))
        code = 1
    except Exception as problem:
        ready(f"{type(problem).__name__}: {problem}")
        raise
    # A thread may still be at work on what nobody waits for any more.
    os._exit(code)


def _stay(home: Home, http_port: int | None) -> NoReturn:
    """Be the engine that `lmm serve` promises."""
    from lmm_mcp.server import staying

    code = 1
    try:
        code = staying.serve(home, os.environ, http_port)
    except LmmError as problem:
        sys.stderr.write(f"lmm: {problem}\n")
    except KeyboardInterrupt:
        code = 130
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run(
    home: Home,
    env: Mapping[str, str],
    *,
    stays: bool = False,
    linger_s: float = LINGER_s,
    tcp: bool = False,
    also: Callable[["Engine"], Awaitable[None]] | None = None,
    ready: Callable[[], None] = lambda: None,
) -> int:
    """Be the engine of this home until it is time to leave; an exit code: 0, or `RETIRED` where another takes over.

    `stays`: not to leave for want of agents. `tcp`: a port instead of a socket. `also`: something to be served beside, such as
    HTTP. `ready`: called as soon as agents are answered. Raises HomeError, and EngineError where another one will not go.
    """
    home.ensure()
    os.umask(0o077)
    lock = endpoint.hold(home.engine_lock, timeout_s=LOCK_PATIENCE_s)
    if lock is None:
        pid = endpoint.about(home).get("pid", "unknown")
        raise EngineError(
            f"another engine (process {pid}) has this memory and does not answer. `lmm stop` ends it, and the next question starts a new one."
        )
    import gc

    gc.disable()  # nothing that is imported now is ever thrown away: looking for it would cost a tenth of the start
    from lmm_mcp.server.log import start_logging

    start_logging(home, to_stderr=stays)
    engine = Engine(home, env, stays=stays, linger_s=linger_s)
    gc.enable()
    gc.freeze()
    gc.set_threshold(*COLLECT_AT)
    sys.setswitchinterval(SWITCH_EVERY_s)
    door = endpoint.listen(home, version=version(), tcp=tcp)
    try:
        return asyncio.run(engine.serve(door, ready, also))
    finally:
        lock.release()


class Engine:
    """See the module."""

    def __init__(self, home: Home, env: Mapping[str, str], *, stays: bool, linger_s: float) -> None:
        from lmm_mcp.server.carding import Carding
        from lmm_mcp.server.desk import Desk
        from lmm_mcp.server.holdings import Holdings
        from lmm_mcp.server.keeper import Keeper
        from lmm_mcp.server.session import Session, asking
        from lmm_mcp.server.tools import build_server
        from lmm_mcp.server.warming import WarmUp, make_model_ready

        self.home, self.env = home, env
        self.stays = stays
        self.sessions: set[Session] = set()
        self.holdings = Holdings(home, env, for_many=True)
        self.holdings.waits_for_model = False  # an agent gets its brief without, until the model is there
        self.keeper = Keeper(home, env)
        self._carding = Carding(self.holdings)
        self._card: asyncio.Task[None] | None = None
        self.started_s = time.time()
        self._linger_s = linger_s
        self._model_idle_s = float(env.get(MODEL_IDLE_VARIABLE) or MODEL_IDLE_s)
        self._wants_reading = stays
        self._num_connections = self._num_answering = 0
        self._last_busy_s = time.monotonic()
        self._reason = ""
        self._over = asyncio.Event()
        own_desk = Desk(home, env, holdings=self.holdings)
        self.teacher = self._teacher() if stays else None

        def start_reading() -> None:
            if self._wants_reading and not self._reason:
                make_model_ready(own_desk)  # before the ingest process looks for it
                self.keeper.start()

        self._warm_up = WarmUp(own_desk, start_reading)
        self.server = build_server(
            asking.get,
            version=version(),
            on_remembered=self.keeper.look_now,
            is_beginning=lambda: self._wants_reading and self.keeper.is_beginning(),
        )
        self.server.middleware.append(self._warm_up)

    async def serve(
        self, door: endpoint.Door, ready: Callable[[], None], also: Callable[["Engine"], Awaitable[None]] | None
    ) -> int:
        """Answer until it is time to leave; the exit code."""
        self._loop = asyncio.get_running_loop()
        self._door = door
        with suppress(NotImplementedError, RuntimeError, ValueError):  # Windows; not the main thread
            for name in (signal.SIGTERM, signal.SIGINT):
                self._loop.add_signal_handler(name, self.leave, "stopped")
        door.socket.setblocking(False)
        listening = await asyncio.start_server(self._answer, sock=door.socket, limit=endpoint.MAX_LINE_bytes)
        _log.info("lmm %s serves from process %d", version(), os.getpid())
        beside = asyncio.ensure_future(also(self)) if also is not None else None
        ready()
        if self.stays:
            self._warm_up.begin()
        if self.teacher is not None:
            self.teacher.start()
        try:
            await self._wait(beside)
        finally:
            _end_anyway(LEAVING_s, RETIRED if self._reason == "retired" else 0)
            listening.close()  # first of all: who comes now finds nobody, and waits for the next engine
            door.close()
            self.keeper.stop()
            if self.teacher is not None:
                self.teacher.stop()
            await self._say_goodbye()
            if beside is not None:
                beside.cancel()
                await asyncio.wait({beside}, timeout=2)
            _log.info("process %d leaves: %s", os.getpid(), self._reason)
        return RETIRED if self._reason == "retired" else 0

    def _teacher(self) -> "Teacher":
        from lmm_mcp.server.lessons_due import Standing, Teacher, standing

        def now() -> Standing:
            store = self.holdings.store()
            return standing(self.home, store.count() if store is not None else 0)

        return Teacher(
            self.home,
            self.env,
            schedule=lambda: self.holdings.settings.train.schedule,
            standing=now,
            quiet_s=lambda: self.holdings.quiet_s,
        )

    def leave(self, reason: str) -> None:
        """Leave as soon as what was asked is answered. `reason`: `idle`, `stopped` (on purpose), `retired` (for another)."""
        self._reason = self._reason or reason
        self._over.set()

    async def _wait(self, beside: "asyncio.Future[None] | None") -> None:
        while not self._over.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), min(TICK_s, self._linger_s))
            now_s = time.monotonic()
            if self.sessions:
                self._last_busy_s = now_s
            elif not self.stays and now_s - self._last_busy_s >= self._linger_s:
                self.leave("idle")
            if beside is not None and beside.done():
                self.leave("stopped")
                beside.result()
            if not self._over.is_set() and endpoint.about(self.home).get("pid") != os.getpid():
                # Our door was taken away, so nobody can come any more; another engine can open one.
                self.leave("retired")
            await asyncio.to_thread(self.holdings.tidy, model_after_s=self._model_idle_s)
            if self._card is None or self._card.done():
                self._card = asyncio.create_task(asyncio.to_thread(self._write_a_card))

    def _write_a_card(self) -> None:
        try:
            if self._carding.is_time():
                self._carding.step()
        except Exception:  # a card less; whoever asks is answered all the same
            _log.exception("no card could be written")

    async def _say_goodbye(self) -> None:
        if self._reason == "stopped":
            for session in list(self.sessions):
                with suppress(TimeoutError):
                    await asyncio.wait_for(session.say_stopped(), 0.5)
        for session in list(self.sessions):
            session.end()
        while self.sessions or self._num_answering:  # `_end_anyway` sees to it that this ends
            await asyncio.sleep(0.01)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first line to its end."""
        self._num_connections += 1
        try:
            if self._num_connections <= MAX_CONNECTIONS:
                line = await asyncio.wait_for(reader.readline(), endpoint.HELLO_TIMEOUT_s)
                await self._greet(_parsed(line), reader, writer)
            else:
                await _say(writer, {"no": "full"})
        except (OSError, ValueError, TimeoutError):  # a stranger at the door, or one that was killed
            pass
        finally:
            self._num_connections -= 1
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _greet(self, hello: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        secret, nonce, wanted = self._door.secret, str(hello.get("nonce", "")), hello.get("want")
        reply: dict[str, Any] = {"version": version(), "pid": os.getpid()}
        if secret:
            if hello.get("proof") != endpoint.proof(secret, "pipe", nonce):
                return
            reply["proof"] = endpoint.proof(secret, "engine", nonce)
        if refusal := self._refusal(hello):
            await _say(writer, {**reply, "no": refusal})
        elif wanted == "mcp":
            await self._serve_agent(hello, {**reply, "welcome": True}, reader, writer)
        else:
            self._num_answering += 1
            try:
                await _say(writer, {**reply, "welcome": True, **await self._answered(str(wanted), hello)})
            finally:
                self._num_answering -= 1

    def _refusal(self, hello: dict[str, Any]) -> str:
        """Why this one is not served; '' where it is. Whoever may retire us does so here."""
        if self._over.is_set():
            return "leaving"
        if hello.get("want") == "stop":  # understood from every version
            return ""
        if not isinstance(hello.get("wire"), int) or not isinstance(hello.get("version"), str):
            return "garbage"
        is_newer = order(hello["version"]) > order(version())
        if hello.get("want") == "mcp" and is_newer:
            if not hello.get("may_retire"):
                return "older"
            _log.info("version %s takes over", hello["version"])
            self.leave("retired")
            return "leaving"
        if hello["wire"] != endpoint.WIRE:
            return "older" if hello["wire"] > endpoint.WIRE else "newer"
        return ""

    async def _serve_agent(
        self, hello: dict[str, Any], welcome: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        from lmm_mcp.server.session import Session

        session = Session(reader, writer, self.desk(hello))
        self.sessions.add(session)  # before the welcome: from here on we do not leave for want of agents
        self._wants_reading = self._wants_reading or bool(hello.get("reads", True))
        try:
            await _say(writer, welcome)
            await session.serve(self.server)
        except Exception:
            _log.exception("a connection ended early")
        finally:
            self.sessions.discard(session)
            self._last_busy_s = time.monotonic()

    async def _answered(self, wanted: str, request: dict[str, Any]) -> dict[str, Any]:
        from lmm_mcp.server.answers import answers

        self._last_busy_s = time.monotonic()
        if wanted not in answers:
            return {
                "error": f"this engine (version {version()}) cannot answer {wanted[:40]!r}. `lmm stop` ends it, and the next one is of the version that is installed."
            }
        try:
            return await asyncio.to_thread(answers[wanted], self, request)
        except LmmError as problem:
            return {"error": str(problem)}
        except Exception as problem:
            _log.exception("%s could not be answered", wanted)
            return {"error": f"{type(problem).__name__}: {problem}. The engine's log says where."}

    def desk(self, request: Mapping[str, Any]) -> Any:
        """The desk of whoever asks, out of its hello: `cwd`, `client`, and `env`, its settings."""
        from lmm_mcp.server.desk import Desk

        theirs = request.get("env")
        env = self.env
        if isinstance(theirs, dict):  # ours are those of whichever agent was the first
            ours = {name: value for name, value in env.items() if not name.startswith("LMM_")}
            env = {**ours, **{str(name): str(value) for name, value in theirs.items()}}
        return Desk(
            self.home,
            env,
            cwd=str(request.get("cwd") or ""),
            client=str(request.get("client") or ""),
            holdings=self.holdings,
        )

    def count_question(self) -> None:
        """Somebody asks who has no connection of its own: that counts as being here."""
        self._last_busy_s = time.monotonic()

    def call_soon(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Have something done by the engine's own thread; for answers, which have threads of their own."""
        self._loop.call_soon_threadsafe(function, *arguments)


async def _say(writer: asyncio.StreamWriter, line: dict[str, Any]) -> None:
    writer.write(json.dumps(line).encode() + b"\n")
    await writer.drain()


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line) if line.endswith(b"\n") and len(line) <= endpoint.MAX_HELLO_bytes else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _end_anyway(after_s: float, code: int) -> None:
    """End this process if it has not ended by then: somebody may wait for our lock."""
    import threading

    def end() -> None:
        time.sleep(after_s)
        os._exit(code)

    threading.Thread(target=end, name="end-anyway", daemon=True).start()


if __name__ == "__main__":
    main()
