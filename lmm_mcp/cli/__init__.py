"""The command line. `main` is its door; `lmm mcp` goes straight to the server, since an agent waits for its handshake."""

import gc
import os
import sys

SERVE = "mcp"
WITHOUT_INGEST = "--no-ingest"
_ALLOCATIONS_between_looks = 100_000


def main() -> int:
    """Run what the command line asks for; the exit code."""
    arguments = sys.argv[1:]
    # Registries of MCP servers start a package by its name alone, with a pipe for input.
    by_name_alone = not arguments and sys.argv[0].endswith("lmm-mcp") and not sys.stdin.isatty()
    if by_name_alone or (arguments[:1] == [SERVE] and set(arguments[1:]) <= {WITHOUT_INGEST}):
        return _serve(ingest=WITHOUT_INGEST not in arguments)
    # What a command imports it keeps, and most end within two seconds: looking for garbage is a tenth of that.
    gc.set_threshold(_ALLOCATIONS_between_looks)
    from lmm_mcp.cli.program import run  # typer and rich: a tenth of a second that no server should spend

    return run(arguments)


def _serve(*, ingest: bool) -> int:
    gc.disable()  # nothing that is imported now is ever thrown away: looking for it would cost a tenth of the start
    from lmm_mcp.errors import LmmError
    from lmm_mcp.server.app import serve

    gc.enable()
    gc.freeze()

    code = 0
    try:
        serve(os.environ, ingest=ingest)
    except LmmError as problem:
        sys.stderr.write(f"lmm: {problem}\n")
        code = 1
    except KeyboardInterrupt:
        code = 130
    sys.stderr.flush()
    # A thread may still wait for a line of input that never comes, or import a library: nothing that is worth waiting for.
    os._exit(code)
