"""Prompt files: loaded by name, filled strictly. Training and serving both render here, so that what is asked is the same, byte for byte."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from string import Template

from lmm_mcp.domain.writing import Offered
from lmm_mcp.errors import PromptError


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt text with named gaps (`$question`)."""

    name: str
    body: str

    @property
    def mark(self) -> str:
        """`name@hash`, by which a lesson or a brief says what it was made with."""
        return f"{self.name}@{hashlib.blake2b(self.body.encode(), digest_size=4).hexdigest()}"

    def render(self, **inputs: str) -> str:
        """Fill every gap. Raises PromptError where a name is missing or unknown."""
        template = Template(self.body)
        wanted, given = set(template.get_identifiers()), set(inputs)
        if wanted != given:
            raise PromptError(
                f"prompt {self.name}: missing {sorted(wanted - given)}, unknown {sorted(given - wanted)}."
            )
        return template.substitute(inputs)


@cache
def load(name: str) -> Prompt:
    """The prompt `prompts/<name>.md`, without the line end at its end. Raises PromptError where there is none."""
    try:
        body = (resources.files("prompts") / f"{name}.md").read_text(encoding="utf-8")
    except (OSError, ModuleNotFoundError) as problem:
        raise PromptError(f"there is no prompt {name}: {problem}. Install this program again.") from problem
    return Prompt(name, body.removesuffix("\n"))


MAX_QUESTION_chars = 400
"""Of a question that is shown with lines: what is longer was pasted for the most part, and no model is trained on it."""


def essence(text: str) -> str:
    """What an agent would ask of a long prompt: its beginning, up to the end of a word.

    >>> essence("a b " * 200)[-5:], len(essence("a b " * 200))
    ('b a b', 399)
    >>> len(essence("a" * 1_000))
    400
    """
    if len(text) <= MAX_QUESTION_chars:
        return text
    end = text.rfind(" ", 0, MAX_QUESTION_chars)
    return text[: end if end > 0 else MAX_QUESTION_chars]


def choosing(question: str, offered: Sequence[Offered]) -> str:
    """Ask which of these lines answer. The answer is their numbers, best first, with blanks between, or `none`."""
    return load("choose").render(question=_one_line(essence(question)), evidence=_shown(offered))


def writing(question: str, offered: Sequence[Offered]) -> str:
    """Ask for the brief: sentences, each with the numbers it rests on in brackets; or `Nothing here answers this.`"""
    return load("brief").render(question=_one_line(essence(question)), evidence=_shown(offered))


def recalling(question: str, project: str) -> str:
    """Ask from memory alone."""
    return load("fact").render(question=_one_line(question), project=_one_line(project) or "any")


def clueing(question: str, project: str) -> str:
    """Ask for the words by which the answer can be found. The answer is words, with commas between."""
    return load("clue").render(question=_one_line(question), project=_one_line(project) or "any")


def remembering(context: str, project: str) -> str:
    """Ask what of a stretch of a session is worth remembering."""
    return load("remember").render(context=context.strip(), project=_one_line(project) or "any")


def asking(question: str) -> str:
    """Ask what any model should know, with nothing of the memory in it."""
    return load("general").render(question=_one_line(question))


def _shown(offered: Sequence[Offered]) -> str:
    return "\n".join(each.shown() for each in offered)


def _one_line(text: str) -> str:
    return " ".join(text.split())
