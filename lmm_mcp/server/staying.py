"""The engine in the foreground (`lmm serve`): takes over from the one that runs, so that agents do not notice."""

import os
from collections.abc import Mapping

from lmm_mcp.errors import EngineError
from lmm_mcp.paths import Home
from lmm_mcp.server import endpoint, engine, reach
from lmm_mcp.server.version import order, version


def serve(home: Home, env: Mapping[str, str], http_port: int | None) -> int:
    """Be the engine of this home until stopped; the exit code. `http_port`: serve HTTP there too, None for not.

    Raises EngineError where one that stays or is newer runs already, or where the port is taken.
    """
    home.ensure()
    beside = None
    if http_port is not None:
        from lmm_mcp.server.http import PATH, PROJECT_HEADER, HttpDoor, bound  # loads a web server

        beside = HttpDoor(home, bound(http_port))
        print_line(
            f"HTTP: http://127.0.0.1:{beside.port}{PATH} with the header `Authorization: Bearer TOKEN`, where TOKEN is what "
            f"{home.http_token} holds; `{PROJECT_HEADER.decode()}: NAME` names the project that is asked"
        )
    starting = endpoint.hold(home.engine_start_lock, timeout_s=reach.PATIENCE_s)
    if starting is None:
        raise EngineError("another engine is being started, and does not come up. `lmm stop` ends it.")
    try:
        _make_room(home)

        def ready() -> None:
            starting.release()  # agents that lost the engine before us find us now
            print_line(f"serving {home.root} (process {os.getpid()}); Ctrl-C or `lmm stop` ends it")

        return engine.run(home, env, stays=True, also=beside.serve if beside else None, ready=ready)
    finally:
        starting.release()


def _make_room(home: Home) -> None:
    try:
        said = reach.ask(home, {"want": "status"}, 5.0)
    except EngineError:
        return  # none runs; or one that hangs, which whoever takes its lock finds out
    if said.get("stays"):
        raise EngineError(
            f"`lmm serve` keeps an engine running already (process {said.get('pid')}). `lmm stop` ends it, if you want another."
        )
    if order(str(said.get("version", ""))) > order(version()):
        raise EngineError(
            f"an engine of the newer version {said.get('version')} runs (process {said.get('pid')}). Run `lmm serve` of that version."
        )
    reach.ask(home, {"want": "retire"}, 5.0)


def print_line(text: str) -> None:
    """Say a line to whoever started us, at once."""
    os.write(1, text.encode("utf-8", "replace") + b"\n")
