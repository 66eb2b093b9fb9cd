"""What a run keeps of its lessons and probes: one JSON object a line, whole or not at all, found again after a death."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lmm_mcp.artifacts import durable
from lmm_mcp.domain.lesson import Lesson, Probe
from lmm_mcp.errors import TrainingError

LESSONS, TEXTS, PROBES, ABOUT = "lessons.jsonl", "texts.jsonl", "probes.jsonl", "about.json"
UNTIL = "until_ms"
"""In `ABOUT`: nothing later was learned from, also not by what the run goes on from."""


def write_lessons(path: Path, lessons: Iterable[Lesson]) -> None:
    """Keep lessons in their order. Raises OSError."""
    _write(path, (asdict(each) for each in lessons))


def read_lessons(path: Path) -> list[Lesson]:
    """Find them again. Raises TrainingError where that cannot be."""
    return [Lesson(**_with_tuples(each)) for each in _read(path)]


def write_probes(path: Path, probes: Iterable[Probe]) -> None:
    """Keep probes in their order. Raises OSError."""
    _write(path, (asdict(each) for each in probes))


def read_probes(path: Path) -> list[Probe]:
    """Find them again. Raises TrainingError where that cannot be."""
    return [Probe(**_with_tuples(each)) for each in _read(path)]


def write_texts(path: Path, texts: Iterable[str]) -> None:
    """Keep texts of continued pretraining. Raises OSError."""
    _write(path, ({"text": each} for each in texts))


def read_texts(path: Path) -> list[str]:
    """Find them again. Raises TrainingError where that cannot be."""
    return [str(each["text"]) for each in _read(path)]


def _write(path: Path, records: Iterable[dict[str, Any]]) -> None:
    lines = [json.dumps(each, ensure_ascii=True) + "\n" for each in records]  # ASCII: halves of characters come back
    durable.write(path, "".join(lines).encode("ascii"))


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]
    except (OSError, ValueError) as problem:
        raise TrainingError(
            f"{path} cannot be read ({problem}), so this run cannot go on. Start anew with `lmm train --fresh`."
        ) from problem


def _with_tuples(record: dict[str, Any]) -> dict[str, Any]:
    listed = {name: tuple(value) for name, value in record.items() if isinstance(value, list)}
    if "threads" in listed:
        listed["threads"] = tuple((agent, thread) for agent, thread in listed["threads"])
    return {**record, **listed}
