"""Question files in, answers out: what the recall tool, or something to hold against it, says to questions about past sessions.

A question is one JSON object a line with `id`, `question`, `project` (working directory of the asker, null = none) and
`asked_at` (nothing later may be used); where it is to be judged, too, `answers` (the needed items, each a list of
alternatives; none: the right answer is silence), `gold` (evidence, each with its `session`), `stale` (values that held
before), `category` and `paraphrase`. A result is `{"id", "text", "sessions", "abstained", "ms"}`.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmm_mcp.errors import BadInput
from lmm_mcp.evaluation.judging import Key, judge
from lmm_mcp.evaluation.runs import Row
from lmm_mcp.store.exporting import written_beside


@dataclass(frozen=True, slots=True)
class Asked:
    """One question of a suite."""

    id: str
    question: str
    project: str | None
    asked_at: str | None
    key: Key | None = None
    """None where nobody wrote down what is right: it is asked, and not judged."""
    groups: tuple[str, ...] = ()
    """What a table may be split by: its category, and `paraphrased` or `same words`."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What was said."""

    text: str
    sessions: tuple[str, ...]
    abstained: bool
    passages: tuple[str, ...] = ()
    """Ids of those cited, best first; none where what answers knows no passages."""


Ask = Callable[[Asked], Answered]
"""Asks one question through the tool; made by the entry point, which may know the server."""


def read(files: Iterable[Path]) -> list[Asked]:
    """Read question files. Raises BadInput that names file and line."""
    found: dict[str, Asked] = {}
    for file in files:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as problem:
            raise BadInput(f"{file} cannot be read: {problem}") from problem
        for number, line in enumerate(lines, 1):
            if line.strip():
                asked = _asked(line, f"{file}:{number}")
                if asked.id in found:
                    raise BadInput(f"{file}:{number} has the id {asked.id!r} of another question; each needs its own.")
                found[asked.id] = asked
    if not found:
        raise BadInput("the question files hold no question; each line must be a JSON object with `id` and `question`.")
    return list(found.values())


def answers(questions: Sequence[Asked], ask: Ask, *, num_warm: int = 3) -> Iterator[tuple[Asked, Answered, float]]:
    """Ask one after the other, in order. The first `num_warm` are asked once before, untimed: the ruler is a warm server."""
    for question in questions[:num_warm]:
        ask(question)
    for question in questions:
        started = time.perf_counter()
        answered = ask(question)
        yield question, answered, (time.perf_counter() - started) * 1000


def run(questions: Sequence[Asked], ask: Ask, out: Path | None = None) -> list[Row]:
    """Ask and judge everything; with `out`, the answers themselves are written there, whole or not at all, for the user alone."""
    rows, results = [], []
    for question, answered, ms in answers(questions, ask):
        text = "" if answered.abstained else answered.text
        figures = (
            {} if question.key is None else judge(question.key, text, answered.sessions, abstained=answered.abstained)
        )
        rows.append(Row(question.id, question.groups, figures, round(ms, 2)))
        result = {
            "id": question.id,
            "text": text,
            "sessions": list(answered.sessions),
            "abstained": answered.abstained,
            "ms": round(ms, 2),
        }
        results.append(json.dumps(result, ensure_ascii=False) + "\n")
    if out is not None:
        with written_beside(out) as beside:
            beside.write_text("".join(results), encoding="utf-8")
    return rows


def _asked(line: str, where: str) -> Asked:
    try:
        found: dict[str, Any] = json.loads(line)
        key = None
        if "answers" in found:
            key = Key(
                tuple(tuple(str(alternative) for alternative in item) for item in found["answers"]),
                frozenset(str(gold["session"]) for gold in found.get("gold") or ()),
                tuple(str(value) for value in found.get("stale") or ()),
            )
        groups = [str(found["category"])] if found.get("category") else []
        if key is not None and key.answers and "paraphrase" in found:
            groups.append("paraphrased" if found["paraphrase"] else "same words")
        question = found["question"]
        if not isinstance(question, str) or not question.strip():
            raise ValueError("`question` is empty")
        return Asked(str(found["id"]), question, found.get("project"), found.get("asked_at"), key, tuple(groups))
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise BadInput(
            f"{where} is no question: it must be a JSON object with `id` and `question` ({problem})."
        ) from problem
