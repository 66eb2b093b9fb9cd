"""The command line. `main` is its door; what agents start goes past all commands, since an agent waits for it."""

import gc
import os
import sys

SERVE = "mcp"
WITHOUT_INGEST = "--no-ingest"
HOOK = "hook"
_ALLOCATIONS_between_looks = 100_000


def main() -> int:
    """Run what the command line asks for; the exit code."""
    arguments = sys.argv[1:]
    # Registries of MCP servers start a package by its name alone, with a pipe for input.
    by_name_alone = not arguments and sys.argv[0].endswith("lmm-mcp") and not sys.stdin.isatty()
    if by_name_alone or (arguments[:1] == [SERVE] and set(arguments[1:]) <= {WITHOUT_INGEST}):
        return _serve(reads=WITHOUT_INGEST not in arguments)
    if arguments[:1] == [HOOK] and "--help" not in arguments and "-h" not in arguments:
        from lmm_mcp.server.hook import main as answer_hook

        answer_hook(os.environ, arguments[1:])
    # What a command imports it keeps, and most end within two seconds: looking for garbage is a tenth of that.
    gc.set_threshold(_ALLOCATIONS_between_looks)
    from lmm_mcp.cli.program import run  # typer and rich: a tenth of a second that no server should spend

    return run(arguments)


def _serve(*, reads: bool) -> int:
    from lmm_mcp.server.pipe import main as serve

    code = serve(os.environ, reads=reads)
    sys.stderr.flush()
    # A thread may still wait for an answer that nobody wants any more.
    os._exit(code)
