"""`metrics.jsonl` of a run: one line a step, appended as it happens, and read while it is being written."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "metrics.jsonl"


class RunLog:
    """The open log of one run."""

    def __init__(self, run_folder: Path) -> None:
        self.path = run_folder / FILE
        _mend(self.path)

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line. Raises OSError where the disk is full; what was written before stays whole."""
        with self.path.open("a", encoding="utf-8") as opened:
            opened.write(json.dumps(line) + "\n")
        self.path.chmod(0o600)


def read(run_folder: Path) -> list[dict[str, Any]]:
    """All steps in order; of one that was done twice, after a resume, the later line. [] where there is no log yet.

    A last line that was never finished, as a kill leaves it, is left out.
    """
    try:
        lines = (run_folder / FILE).read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return []
    steps: dict[tuple[str, int], dict[str, Any]] = {}
    for line in lines:
        try:
            found = json.loads(line)
            key = (str(found["stage"]), int(found["step"]))
        except (ValueError, KeyError, TypeError):
            continue
        steps.pop(key, None)  # so that it stands where it was done last
        steps[key] = found
    return list(steps.values())


def _mend(path: Path) -> None:
    """Give a torn last line its end, so that the next one stands by itself."""
    try:
        with path.open("rb+") as opened:
            if opened.seek(0, 2) and (opened.seek(-1, 2), opened.read(1))[1] != b"\n":
                opened.write(b"\n")
    except FileNotFoundError:
        path.touch(mode=0o600)
