"""Question to brief: query > candidates > fusion > evidence > brief. Deterministic for a given store."""

from lmm_mcp.domain.recall import Question, Recall
from lmm_mcp.embedding import Embedder
from lmm_mcp.recall import brief, confidence
from lmm_mcp.recall.candidates import gather, scope_of
from lmm_mcp.recall.evidence import MAX_CHUNKS, only_asks, pick
from lmm_mcp.recall.fusion import fuse
from lmm_mcp.recall.query import understand
from lmm_mcp.store.chunks import ChunkStore


class Recaller:
    """Answers questions from one open store. Thread-safe as far as the store is; holds no state of its own."""

    def __init__(self, store: ChunkStore, embedder: Embedder | None) -> None:
        self._store = store
        self._embedder = embedder

    def recall(self, question: Question) -> Recall:
        """Retrieve, weigh, and write the brief; or say that nothing is known."""
        scope = scope_of(question)
        query = understand(question.text, self._store.frequencies())
        candidates = gather(self._store, query, scope, self._embedder)
        scores = fuse(candidates.lexical, candidates.nearest)
        chunks = self._store.get(list(scores)[:MAX_CHUNKS])
        if asked := {chunk.id for chunk in chunks if only_asks(query, chunk)}:
            chunks = [chunk for chunk in chunks if chunk.id not in asked]
            candidates = candidates.without(asked)
        if confidence.is_enough(query, candidates, chunks):
            written = brief.write(
                pick(query, chunks, scores, budget_tokens=question.budget_tokens), budget_tokens=question.budget_tokens
            )
            if written is not None:
                return written
        return brief.nothing(self._store.count(scope), everywhere=question.project is None)
