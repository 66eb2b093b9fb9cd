"""Question files in, results file out: what the recall tool answers to questions about past sessions, with its time.

A question is one JSON object a line with `id`, `question`, `project` (working directory of the asker, null = none) and
`asked_at` (nothing later may be used). A result is `{"id", "text", "sessions", "abstained", "ms"}`.
"""

import json
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmm_mcp.errors import BadInput


@dataclass(frozen=True, slots=True)
class Asked:
    """One question of a suite."""

    id: str
    question: str
    project: str | None
    asked_at: str | None


@dataclass(frozen=True, slots=True)
class Answered:
    """What the tool said."""

    text: str
    sessions: tuple[str, ...]
    abstained: bool


Ask = Callable[[Asked], Answered]
"""Asks one question through the tool; made by the entry point, which may know the server."""


@dataclass(frozen=True, slots=True)
class Times:
    """How long the answers took, in milliseconds."""

    num_questions: int
    num_abstained: int
    p50_ms: float
    p95_ms: float


def read(files: Iterable[Path]) -> list[Asked]:
    """Read question files. Raises BadInput that names file and line."""
    found = []
    for file in files:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as problem:
            raise BadInput(f"{file} cannot be read: {problem}") from problem
        for number, line in enumerate(lines, 1):
            if line.strip():
                found.append(_asked(line, f"{file}:{number}"))
    if not found:
        raise BadInput("the question files hold no question; each line must be a JSON object with `id` and `question`.")
    return found


def answers(questions: Sequence[Asked], ask: Ask, *, num_warm: int = 3) -> Iterator[tuple[Asked, Answered, float]]:
    """Ask one after the other, in order. The first `num_warm` are asked once before, untimed: the ruler is a warm server."""
    for question in questions[:num_warm]:
        ask(question)
    for question in questions:
        started = time.perf_counter()
        answered = ask(question)
        yield question, answered, (time.perf_counter() - started) * 1000


def write(questions: Sequence[Asked], ask: Ask, out: Path) -> Times:
    """Ask everything and write the results file beside and renamed over."""
    times: list[float] = []
    num_abstained = 0
    beside = out.with_name(out.name + ".part")
    with beside.open("w", encoding="utf-8") as results:
        for question, answered, ms in answers(questions, ask):
            times.append(ms)
            num_abstained += answered.abstained
            row = {
                "id": question.id,
                "text": "" if answered.abstained else answered.text,
                "sessions": list(answered.sessions),
                "abstained": answered.abstained,
                "ms": round(ms, 2),
            }
            results.write(json.dumps(row, ensure_ascii=False) + "\n")
    beside.replace(out)
    return Times(len(times), num_abstained, statistics.median(times), percentile(times, 95))


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which `percent` of `values` lie, nearest rank.

    >>> percentile([1, 2, 3, 4], 95)
    4
    """
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(percent / 100 * (len(ordered) - 1)))]


def _asked(line: str, where: str) -> Asked:
    try:
        found: dict[str, Any] = json.loads(line)
        return Asked(str(found["id"]), found["question"], found.get("project"), found.get("asked_at"))
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as problem:
        raise BadInput(
            f"{where} is no question: it must be a JSON object with `id` and `question` ({problem})."
        ) from problem
