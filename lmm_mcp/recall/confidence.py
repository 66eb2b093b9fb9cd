"""Whether what was found says anything about what was asked: a brief of noise costs the asker more than silence."""

from collections.abc import Sequence

from lmm_mcp.domain.chunk import Chunk
from lmm_mcp.recall.candidates import Candidates
from lmm_mcp.recall.query import Query
from lmm_mcp.store.terms import terms

MIN_OVERLAP = 0.2
"""Share of the question's information that the best chunk must repeat, where meaning does not speak for it either."""
MIN_SIMILARITY = 0.35
"""Cosine similarity from which meaning alone is enough."""
BEST_OF = 10


def is_enough(query: Query, candidates: Candidates, chunks: Sequence[Chunk]) -> bool:
    """Tell whether the best candidates are worth quoting."""
    if max(candidates.nearest.values(), default=0.0) >= MIN_SIMILARITY:
        return True
    best = max(
        (query.overlap(frozenset(terms(f"{chunk.header}\n{chunk.text_of()}"))) for chunk in chunks[:BEST_OF]),
        default=0.0,
    )
    return best >= MIN_OVERLAP and bool(candidates.lexical)
