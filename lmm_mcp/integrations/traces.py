"""`connected.json` in the memory home: what the agents' files lacked before we wrote into them. See `contract.Trace`."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmm_mcp.integrations.contract import Trace


def load(file: Path) -> dict[str, Trace]:
    """Traces by the path of the file that they are about. One that cannot be read is as good as none."""
    try:
        found: Any = json.loads(file.read_text(encoding="utf-8"))
        return {path: Trace(_made(one["made"]), str(one["text"])) for path, one in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def save(file: Path, traces: Mapping[str, Trace]) -> None:
    """Write them beside and rename; none at all removes the file."""
    if not traces:
        file.unlink(missing_ok=True)
        return
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    told = {path: {"made": dict(trace.made), "text": trace.text} for path, trace in sorted(traces.items())}
    try:
        with open(beside, "w", encoding="utf-8", opener=lambda path, how: os.open(path, how, 0o600)) as stream:
            json.dump(told, stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)


def _made(value: Any) -> dict[str, str | None]:
    return {str(place): None if blanks is None else str(blanks) for place, blanks in value.items()}
