"""General questions that any model should go on answering: what it is taught beside the memory, and what it is judged by."""

import json
from collections.abc import Mapping
from importlib import resources

from lmm_mcp import prompting
from lmm_mcp.domain.lesson import Lesson
from lmm_mcp.errors import PromptError
from trainer.made import Made, made


def lessons() -> list[Made]:
    """General questions that any model should go on answering. The base's own answers are what it is held to."""
    found = []
    for n, (asked, answer) in enumerate(_anchors()["train"]):
        prompt = prompting.asking(asked)
        lesson = Lesson(
            slice="general",
            category="",
            prompt=prompt,
            answer=answer,
            template=prompting.load("general").mark,
            family="train/general",
            memory=f"general {n}",
            sources=(),
            threads=(),
            clean_prompt=prompt,
        )
        found.append(made(lesson, asked, template_chars=0, kind="anchor"))
    return found


def probes() -> list[tuple[str, str]]:
    """Questions and answers of the same kind that are never trained on."""
    return [(asked, answer) for asked, answer in _anchors()["probe"]]


def _anchors() -> Mapping[str, list[tuple[str, str]]]:
    try:
        found = json.loads((resources.files("prompts") / "anchors.json").read_text(encoding="utf-8"))
        return {book: [(str(asked), str(answer)) for asked, answer in found[book]] for book in ("train", "probe")}
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise PromptError(f"the general questions cannot be read: {problem}. Install this program again.") from problem
