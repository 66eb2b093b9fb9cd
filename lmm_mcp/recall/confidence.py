"""Whether what was found says anything about what was asked, and which of its lines do: noise costs the asker more than silence."""

from collections.abc import Sequence

from lmm_mcp.domain.chunk import Chunk
from lmm_mcp.recall.candidates import Candidates
from lmm_mcp.recall.found import Evidence
from lmm_mcp.recall.query import Query
from lmm_mcp.store.terms import is_mostly_cjk

MIN_OVERLAP = 0.2
"""Share of the question's information that the best chunk must repeat, where meaning does not speak for it either."""
MIN_SIMILARITY = 0.35
"""Cosine similarity from which meaning alone is enough."""
MIN_SIMILARITY_CJK = 0.56
"""The same for a Chinese, Japanese or Korean question: MiniLM learnt English, and finds any two such texts alike."""
MIN_SCORE = 1.55
"""Score of the best line, of at most 2.9, from which it is told: no other figure tells questions that can be answered from others
better (docs/recall-log.md)."""
MIN_SCORE_WORDS = 1.39
"""The same where nothing has vectors. Both leave at most 3 % of the answerable questions about real sessions unanswered, and of
projects on which they were not chosen at most 5 % (benchmarks/fit_confidence.py)."""
NEARLY = 0.8
"""Share of the similarity floor from which half of the overlap is enough."""
BEST_OF = 10
WEAK = 0.15
"""Share of the best line's score below which a line is not told, though there be room. A higher one loses answers to questions in
other words than theirs (docs/recall-log.md)."""


def is_enough(query: Query, candidates: Candidates, chunks: Sequence[Chunk], lines: Sequence[Evidence]) -> bool:
    """Tell whether the best candidates are worth quoting: words or meaning alone, or half of each, and a line that fits."""
    best = max((each.score for each in lines), default=0.0)
    return best >= floor(query, candidates) and says_anything(query, candidates, chunks)


def worth_telling(lines: Sequence[Evidence], num_chosen: int = 0) -> list[Evidence]:
    """Those that do not fit far worse than the best, in their order.

    `num_chosen`: so many at the head were chosen by a memory model. These stay, and so does what no score was made for.
    """
    weak = WEAK * max((each.score for each in lines), default=0.0)
    return [each for n, each in enumerate(lines) if n < num_chosen or not each.why or each.score >= weak]


def floor(query: Query, candidates: Candidates) -> float:
    """Score of the best line below which nothing is told; 0 in languages of which little is known here."""
    if candidates.is_foreign or is_mostly_cjk(query.text):
        return 0.0
    return MIN_SCORE if candidates.nearest else MIN_SCORE_WORDS


def says_anything(query: Query, candidates: Candidates, chunks: Sequence[Chunk]) -> bool:
    """Whether the best candidates repeat enough of the question, or are near enough in meaning."""
    near_enough = MIN_SIMILARITY_CJK if is_mostly_cjk(query.text) else MIN_SIMILARITY
    similarity = max(candidates.nearest.values(), default=0.0) / near_enough
    if similarity >= 1:
        return True
    if not candidates.lexical:
        return False
    texts = ((chunk.header, *(line.text for line in chunk.lines)) for chunk in chunks[:BEST_OF])
    overlap = query.best_overlap(texts) / MIN_OVERLAP
    return overlap >= 1 or (similarity >= NEARLY and overlap >= 0.5)
