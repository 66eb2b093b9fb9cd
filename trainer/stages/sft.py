"""Lessons: the loss on the answer alone, and, where a lesson has a clean prompt, the distance to what the base says to that.

The teacher is the base itself, its adapter switched off, reading gold evidence only: it shows how to speak, the answer says what.
Its first tokens are not asked for, since it has not seen yet what is wanted; how much each side counts, the recipe says by slice.
"""

from collections.abc import Sequence
from typing import Any

from lmm_mcp.domain.lesson import Lesson
from trainer.recipe import Recipe
from trainer.tokens import Tokenized, lesson_segments

NAME = "sft"


def segments(lessons: Sequence[Lesson], tokenizer: Any, recipe: Recipe) -> Tokenized:
    """What this stage learns from; a lesson without room for prompt and answer is left out and told."""
    return lesson_segments(lessons, tokenizer, recipe)


def peak_learning_rate(recipe: Recipe) -> float:
    """See the recipe."""
    return recipe.learning_rate


def epochs(recipe: Recipe) -> float:
    """How often each lesson is seen."""
    return recipe.epochs
