"""`python -m ingest [--once | --stay] [PATHS]`: reads session files into the memory home. Started by `lmm`, seldom by hand."""

import argparse
import atexit
import logging
import os
import signal
import sys
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import NoReturn

from ingest.readers.sqlite import copy_into
from lmm_mcp import children, config
from lmm_mcp.errors import LmmError
from lmm_mcp.paths import Home, home_of
from lmm_mcp.refusal import exit_code_of, explained, is_full, refusal_behind


def main() -> int:
    """Parse, set up logging, run."""
    parser = argparse.ArgumentParser(prog="python -m ingest", description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--once", action="store_true", help="read what there is and leave (the default)")
    mode.add_argument("--stay", action="store_true", help="stay and read what is added")
    mode.add_argument("--rebuild", action="store_true", help="make the store anew from the archive")
    mode.add_argument(
        "--derive", action="store_true", help="derive facts and salience from the archive; read nothing new"
    )
    mode.add_argument("--trial", action="store_true", help="read the file named on standard input, and keep nothing")
    mode.add_argument("--survey", action="store_true", help="print as JSON whose sessions lie where; read none")
    parser.add_argument(
        "paths", nargs="*", type=Path, help="session files or folders; all that can be found if left out"
    )
    arguments = parser.parse_args()
    os.umask(0o077)  # what the libraries of the store write is nobody else's, wherever the home is copied to
    home = home_of(os.environ)
    copy_into(home.copies)
    if arguments.trial:
        from ingest import trial

        return trial.main()
    if arguments.survey:
        return _survey(home)
    try:
        home.ensure()
        _start_logging(home)
        _say_that_we_come(home)
        # Lance is loud about indexes that grow; what matters is raised.
        os.environ.setdefault("LANCEDB_LOG", "error")
        from ingest import service  # after the home stands: these imports take most of a second

        settings = config.load(home.config, os.environ)
        if arguments.rebuild:
            from ingest.rebuilding import rebuild

            return rebuild(home, settings)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        code = service.run(home, os.environ, settings, arguments.paths, stay=arguments.stay, derives=arguments.derive)
        return exit_code_of("full") if code == 1 and is_full(home.root) else code
    except (LmmError, OSError) as problem:
        refusal = refusal_behind(problem) or ("full" if is_full(home.root) else "")
        told = "" if isinstance(problem, LmmError) else explained(refusal, home.root)
        _say(f"lmm: {told or problem}\n")
        return exit_code_of(refusal)


def _say_that_we_come(home: Home) -> None:
    """What follows loads for a second or more, and `lmm stop` must know of us already."""
    with suppress(OSError):  # a full disk is met again by those who can tell of it
        mark = children.come(home)
        atexit.register(mark.unlink, missing_ok=True)


def _survey(home: Home) -> int:
    import orjson

    from ingest.survey import survey
    from lmm_mcp.store.ledger import Ledger

    try:
        settings = config.load(home.config, os.environ).sessions
        projects = [Path(folder) for folder in Ledger.open(home.ledger).known_roots()] if home.ledger.exists() else []
        sys.stdout.buffer.write(orjson.dumps(survey(os.environ, settings, home.notes, projects)))
        sys.stdout.flush()
    except (LmmError, OSError) as problem:
        _say(f"lmm: {problem}\n")
        return 1
    return 0


def _start_logging(home: Home) -> None:
    """Log to `ingest.log`, 1 MB x 4, and to standard error: as far as the disk takes it, and without a word about that."""
    logging.raiseExceptions = False
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    with suppress(OSError):  # what must be said goes by exit code
        handlers.append(
            RotatingFileHandler(home.logs / "ingest.log", maxBytes=1_000_000, backupCount=3, encoding="utf-8")
        )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", handlers=handlers)


def _say(told: str) -> None:
    with suppress(OSError):
        sys.stderr.write(told)
        sys.stderr.flush()


def _leave(code: int) -> NoReturn:
    """End with this exit code, also where standard error cannot be written: Python would make it 120."""
    logging.shutdown()
    try:
        sys.stderr.flush()
    except OSError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.exit(code)


if __name__ == "__main__":
    _leave(main())
