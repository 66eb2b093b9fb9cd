"""`python -m ingest [--once | --stay] [PATHS]`: reads session files into the memory home. Started by `lmm`, seldom by hand."""

import argparse
import logging
import os
import signal
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path

from lmm_mcp import config
from lmm_mcp.errors import LmmError
from lmm_mcp.paths import home_of


def main() -> int:
    """Parse, set up logging, run."""
    parser = argparse.ArgumentParser(prog="python -m ingest", description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--once", action="store_true", help="read what there is and leave (the default)")
    mode.add_argument("--stay", action="store_true", help="stay and read what is added")
    parser.add_argument(
        "paths", nargs="*", type=Path, help="session files or folders; all that can be found if left out"
    )
    arguments = parser.parse_args()
    try:
        home = home_of(os.environ).ensure()
        handlers: list[logging.Handler] = [
            RotatingFileHandler(home.logs / "ingest.log", maxBytes=1_000_000, backupCount=3, encoding="utf-8"),
            logging.StreamHandler(sys.stderr),
        ]
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", handlers=handlers)
        # Lance is loud about indexes that grow; what matters is raised.
        os.environ.setdefault("LANCEDB_LOG", "error")
        from ingest import service  # after the home stands: these imports take most of a second

        settings = config.load(home.config, os.environ)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        return service.run(home, os.environ, settings, arguments.paths, stay=arguments.stay)
    except LmmError as problem:
        sys.stderr.write(f"lmm: {problem}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
