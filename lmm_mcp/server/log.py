"""The log of the server: a file in the memory home. Logs name counts and times, never session text."""

import logging
import logging.handlers
import sys

from lmm_mcp.paths import Home

LOG_FILE = "server.log"
MAX_LOG_bytes = 1_000_000
NUM_LOGS_kept = 3


def start_logging(home: Home, *, to_stderr: bool = False) -> None:
    """Write our own events to `server.log`, 1 MB x 3, readable by the user alone; warnings to standard error too, if wanted."""
    logging.raiseExceptions = False  # a full disk is no reason to show tracebacks
    complaints = logging.StreamHandler(sys.stderr)
    complaints.setLevel(logging.WARNING)
    complaints.setFormatter(logging.Formatter("lmm: %(message)s"))
    handlers: list[logging.Handler] = [complaints] if to_stderr else []
    try:
        handlers.append(
            logging.handlers.RotatingFileHandler(
                home.logs / LOG_FILE, maxBytes=MAX_LOG_bytes, backupCount=NUM_LOGS_kept - 1, encoding="utf-8"
            )
        )
        handlers[-1].setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"))
    except OSError as problem:  # a full disk must not keep memories from being read
        complaints.handle(logging.makeLogRecord({"msg": f"no log file: {problem}", "levelno": logging.WARNING}))
    logging.basicConfig(level=logging.WARNING, handlers=handlers or [logging.NullHandler()], force=True)
    logging.getLogger("lmm_mcp").setLevel(logging.INFO)
