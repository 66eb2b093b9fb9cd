"""`Made`: a lesson with what is known of its making, for the counts that only the maker can give."""

from collections.abc import Iterable
from dataclasses import dataclass

from lmm_mcp.domain.lesson import Lesson
from trainer.phrasings import template_share


@dataclass(frozen=True, slots=True)
class Made:
    """A lesson, and how much of its question and answer was written by us and not by sessions."""

    lesson: Lesson
    template_chars: int
    all_chars: int
    kind: str = ""
    """What it was made from, for the counts: `prompt`, `edit`, `fact`, `nothing there`, ..."""

    @property
    def chars(self) -> tuple[int, int]:
        """Those that we wrote, and all."""
        return self.template_chars, self.all_chars


def made(lesson: Lesson, question: str, *, template_chars: int, kind: str) -> Made:
    """Count the question and the answer; quoted evidence stands between them and counts as neither."""
    whole = len(question) + len(lesson.answer)
    return Made(lesson, min(whole, template_chars), whole, kind)


def share_of_templates(found: Iterable[Made]) -> float:
    """Characters from templates among all characters of questions and answers, 0 to 1."""
    return template_share([(each.template_chars, each.all_chars) for each in found])
