"""Continued pretraining: the loss of a language model on the text of passages, every token counting."""

from collections.abc import Sequence
from typing import Any

from trainer.recipe import Recipe
from trainer.tokens import Tokenized, document_segments

NAME = "cpt"


def segments(texts: Sequence[str], tokenizer: Any, recipe: Recipe) -> Tokenized:
    """What this stage learns from."""
    return document_segments(texts, tokenizer, recipe)


def peak_learning_rate(recipe: Recipe) -> float:
    """Lower than for lessons: it is meant to add words and names, and to leave the rest in place."""
    return recipe.cpt_learning_rate


def epochs(recipe: Recipe) -> float:
    """How often each text is seen."""
    return recipe.cpt_epochs
