"""How well embedding models tell this user's passages apart: no labels needed, nothing leaves the machine.

From passages in which somebody asks and somebody answers, the question is taken out and posed; the model must find the
rest of the same passage among all the others. That favours no model by the words of a test set written by somebody else,
and it speaks the languages that the user works in.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmm_mcp.domain.chunk import Chunk
from lmm_mcp.embedding import Embedder, embed_query

MIN_ASKED_chars = 40
MIN_ANSWERED_chars = 200
NUM_SAMPLED = 300


@dataclass(frozen=True, slots=True)
class Pair:
    """What was asked, and the passage that followed."""

    asked: str
    answered: str


@dataclass(frozen=True, slots=True)
class Score:
    """How one model did."""

    name: str
    dim: int
    num_pairs: int
    hit_at_1: float
    """Share of questions, 0 to 1, whose own passage came first."""
    hit_at_10: float
    per_second: float
    """Passages embedded a second."""
    query_ms: float
    """Median time to embed one question."""


def pairs_of(chunks: Sequence[Chunk]) -> list[Pair]:
    """Take the passages apart that hold a question and an answer long enough to be told from others."""
    found = []
    for chunk in chunks:
        asked = chunk.text_of("user", "note")
        answered = chunk.text_of("agent", "thought", "command", "summary", "edit")
        if len(asked) >= MIN_ASKED_chars and len(answered) >= MIN_ANSWERED_chars:
            found.append(Pair(asked[:600], answered[:1500]))
    return found


def sample(pairs: Sequence[Pair], size: int = NUM_SAMPLED) -> list[Pair]:
    """Spread `size` pairs evenly over all, so that the same store gives the same sample.

    >>> [pair.asked for pair in sample([Pair(str(n), "") for n in range(10)], 4)]
    ['0', '2', '5', '7']
    """
    return list(pairs) if len(pairs) <= size else [pairs[n * len(pairs) // size] for n in range(size)]


def measure(embedder: Embedder, pairs: Sequence[Pair]) -> Score:
    """Embed both sides and rank. Raises ValueError for an empty sample."""
    if not pairs:
        raise ValueError("no pairs to measure with")
    started = time.perf_counter()
    passages_ND = np.asarray(embedder.embed([pair.answered for pair in pairs]))
    per_second = len(pairs) / (time.perf_counter() - started)
    ranks, times_ms = [], []
    for n, pair in enumerate(pairs):
        started = time.perf_counter()
        question_D = embed_query(embedder, pair.asked)
        times_ms.append((time.perf_counter() - started) * 1000)
        similarities_N = passages_ND @ question_D
        ranks.append(int((similarities_N > similarities_N[n]).sum()))
    return Score(
        name=embedder.name,
        dim=embedder.dim,
        num_pairs=len(pairs),
        hit_at_1=statistics.mean(rank == 0 for rank in ranks),
        hit_at_10=statistics.mean(rank < 10 for rank in ranks),
        per_second=per_second,
        query_ms=statistics.median(times_ms),
    )
