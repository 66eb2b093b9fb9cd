"""MCP over streamable HTTP, for clients that want a URL: on this machine's loopback only, with a token, beside the local door.

The project is named by the header `X-LMM-Project` (as `project` of the tools names it), since there is no working
directory; without it all are asked. `Host` and `Origin` are checked by the SDK, so that no web page reaches us through a browser.
"""

import asyncio
import contextlib
import hmac
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any
from urllib.parse import unquote

import uvicorn
from mcp.server.transport_security import TransportSecuritySettings
from uvicorn.protocols.http.h11_impl import H11Protocol

from lmm_mcp.errors import EngineError, HomeError
from lmm_mcp.paths import Home
from lmm_mcp.server import endpoint
from lmm_mcp.server.desk import Desk
from lmm_mcp.server.engine import Engine
from lmm_mcp.server.session import asking

HOST = "127.0.0.1"
PATH = "/mcp"
PROJECT_HEADER = b"x-lmm-project"
MAX_REQUESTS = 64
"""At once; more are turned away with 503."""
MAX_CONNECTIONS = 256
"""At once; more are cut off: everybody on this machine may knock, and each costs the engine a file descriptor."""
SILENCE_s = 10.0
"""How long a connection may last without a request, or without the next one, at least: half of one is none."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def token_of(home: Home) -> str:
    """The token of this home, made the first time; the file is readable by the user alone. Raises HomeError."""
    try:
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(home.http_token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_urlsafe(32) + "\n")
        token = home.http_token.read_text(encoding="ascii").strip()
        home.http_token.chmod(0o600)
    except (OSError, ValueError) as problem:
        raise HomeError(
            f"{home.http_token} cannot be used: {problem}. Remove it, so that a new one is made."
        ) from problem
    if len(token) < 20:  # its writer died, or somebody thought of a word
        raise HomeError(f"{home.http_token} holds no token. Remove it, so that a new one is made.")
    return token


def bound(port: int) -> socket.socket:
    """A socket on this port of the loopback interface, 0 for any. Raises EngineError where it is taken."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # where it means what we want: not to wait for old connections
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((HOST, port))
        made.listen(128)
    except (OSError, OverflowError) as problem:
        made.close()
        raise EngineError(f"port {port} cannot be used: {problem}. Choose another one with --port.") from problem
    return made


class HttpDoor:
    """What `engine.run` serves beside the local door."""

    def __init__(self, home: Home, listening: socket.socket) -> None:
        self._token = token_of(home)
        self._socket = listening
        self.port: int = listening.getsockname()[1]

    async def serve(self, engine: Engine) -> None:
        """Serve until cancelled."""
        names = [f"{name}:{self.port}" for name in (HOST, "localhost")]
        security = TransportSecuritySettings(
            enable_dns_rebinding_protection=True,
            allowed_hosts=names,
            allowed_origins=[f"http://{name}" for name in names],
        )
        app = engine.server.streamable_http_app(
            streamable_http_path=PATH,
            stateless_http=True,  # an agent that never says goodbye leaves nothing behind
            json_response=True,
            max_request_body_size=endpoint.MAX_LINE_bytes,
            transport_security=security,
            host=HOST,
        )
        config = uvicorn.Config(
            self._guarded(app, engine),
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="on",
            http=_Impatient,
            limit_concurrency=MAX_REQUESTS,
            timeout_graceful_shutdown=2,
        )
        server = _Server(config)
        serving = asyncio.ensure_future(server.serve(sockets=[self._socket]))
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            server.should_exit = True
            await serving
            raise

    def _guarded(self, app: App, engine: Engine) -> App:
        wanted = b"Bearer " + self._token.encode()

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            headers = dict(scope["headers"])
            if not hmac.compare_digest(headers.get(b"authorization", b""), wanted):
                told = [(b"www-authenticate", b"Bearer"), (b"content-length", b"0")]
                await send({"type": "http.response.start", "status": 401, "headers": told})
                await send({"type": "http.response.body", "body": b""})
                return
            project = unquote(headers.get(PROJECT_HEADER, b"").decode("latin-1"))
            engine.count_question()
            asking.set(Desk(engine.home, engine.env, project=project, holdings=engine.holdings))
            await app(scope, receive, send)

        return guarded


class _Impatient(H11Protocol):
    """A connection that is cut off where there are too many, or where nobody asks anything."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
        else:
            self.loop.call_later(SILENCE_s, self._cut_off_if_silent)

    def _cut_off_if_silent(self, answered: object = None) -> None:
        """`answered`: the last request, where that was answered by the last look; None where there was none."""
        if self.transport.is_closing():
            return
        last = vars(self).get("cycle")  # what answers a request, where there has been one
        if last is None or last is answered:
            self.transport.abort()
        else:
            self.loop.call_later(SILENCE_s, self._cut_off_if_silent, last if last.response_complete else None)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the engine."""
        yield
