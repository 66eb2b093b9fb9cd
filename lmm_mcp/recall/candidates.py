"""A query in, candidate chunks out: what shares its words and what is near in meaning, within scope."""

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lmm_mcp.domain.recall import Question
from lmm_mcp.embedding import Embedder, embed_query
from lmm_mcp.recall.query import Query
from lmm_mcp.store.chunks import ChunkStore, Scope

MAX_LEXICAL = 60
MAX_NEAREST = 60


@dataclass(frozen=True, slots=True)
class Candidates:
    """Two rankings of chunk ids, best first, with their scores."""

    lexical: Mapping[str, float]
    """BM25."""
    nearest: Mapping[str, float]
    """Cosine similarity; empty without an embedder."""

    def without(self, ids: Collection[str]) -> "Candidates":
        """The same, as if these chunks had not been found."""
        lexical, nearest = (
            {each: score for each, score in found.items() if each not in ids} for found in (self.lexical, self.nearest)
        )
        return Candidates(lexical, nearest)


def scope_of(question: Question) -> Scope:
    """Name what may be searched at all."""
    return Scope(project=question.project, agent=question.agent, since_ms=question.since_ms, until_ms=question.until_ms)


def gather(
    store: ChunkStore, query: Query, scope: Scope, embedder: Embedder | None, *, with_words: bool = True
) -> Candidates:
    """Ask both sides at once. The lexical one is skipped where the question holds no term, the other where there is no model."""

    def lexical() -> dict[str, float]:
        if not query.terms or not with_words:
            return {}
        return {hit.chunk_id: hit.score for hit in store.lexical(query.terms, scope, MAX_LEXICAL)}

    if embedder is None:
        return Candidates(lexical(), {})
    with ThreadPoolExecutor(1) as beside:  # a second core looks for the words while this one embeds the question
        by_words = beside.submit(lexical)
        vector = embed_query(embedder, query.text)
        nearest = {hit.chunk_id: hit.score for hit in store.nearest(vector, scope, MAX_NEAREST)}
        return Candidates(by_words.result(), nearest)
