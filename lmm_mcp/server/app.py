"""`lmm mcp`: puts the parts together and speaks MCP over standard input and output until that ends.

Nothing heavy is imported or opened before the client has its tool list. Then a thread opens the store, loads the model
and sees to it that an ingest process is at work. Standard output belongs to the protocol; logs go to a file and to
standard error, and name counts and times, never session text.
"""

import logging
import logging.handlers
import os
import sys
from collections.abc import Mapping

import anyio

from lmm_mcp.paths import Home, home_of
from lmm_mcp.server.desk import Desk, reachable_cwd
from lmm_mcp.server.keeper import Keeper
from lmm_mcp.server.stdin import mend_stdin
from lmm_mcp.server.tools import build_server
from lmm_mcp.server.version import version
from lmm_mcp.server.warming import WarmUp

LOG_FILE = "server.log"
MAX_LOG_bytes = 1_000_000
NUM_LOGS_kept = 3

_log = logging.getLogger(__name__)


def serve(env: Mapping[str, str], *, ingest: bool = True) -> None:
    """Serve until standard input ends. `ingest=False` reads nothing new. Raises HomeError."""
    home = home_of(env).ensure()
    start_logging(home)
    desk = Desk(home, env, cwd=reachable_cwd(env, _real_cwd()))
    keeper = Keeper(home, env) if ingest else None
    server = build_server(
        desk,
        version=version(),
        on_remembered=keeper.look_now if keeper else lambda: None,
        is_beginning=keeper.is_beginning if keeper else lambda: False,
    )
    server.middleware.append(WarmUp(desk, keeper))
    _log.info("lmm %s serves from process %d", version(), os.getpid())
    mend_stdin()
    try:
        anyio.run(server.run_stdio_async)
    finally:
        if keeper is not None:
            keeper.stop()
        _log.info("process %d leaves", os.getpid())


def start_logging(home: Home) -> None:
    """Write warnings to standard error and our own events to `server.log`, 1 MB x 3, readable by the user alone."""
    logging.raiseExceptions = False  # a full disk is no reason to show tracebacks
    complaints = logging.StreamHandler(sys.stderr)
    complaints.setLevel(logging.WARNING)
    complaints.setFormatter(logging.Formatter("lmm: %(message)s"))
    handlers: list[logging.Handler] = [complaints]
    try:
        handlers.append(
            logging.handlers.RotatingFileHandler(
                home.logs / LOG_FILE, maxBytes=MAX_LOG_bytes, backupCount=NUM_LOGS_kept - 1, encoding="utf-8"
            )
        )
        handlers[-1].setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"))
    except OSError as problem:  # a full disk must not keep memories from being read
        complaints.handle(logging.makeLogRecord({"msg": f"no log file: {problem}", "levelno": logging.WARNING}))
    logging.basicConfig(level=logging.WARNING, handlers=handlers, force=True)
    logging.getLogger("lmm_mcp").setLevel(logging.INFO)


def _real_cwd() -> str:
    try:
        return str(os.getcwd())  # noqa: PTH109 - Path.cwd would do the same and hide that this may fail
    except FileNotFoundError:  # the folder was deleted under our feet
        return ""
