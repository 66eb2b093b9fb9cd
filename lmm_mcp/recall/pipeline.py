"""Question to brief: query > candidates > fusion > evidence > brief. Deterministic for a given store."""

from lmm_mcp.domain.recall import Question, Recall
from lmm_mcp.embedding import Embedder
from lmm_mcp.recall import brief, confidence
from lmm_mcp.recall.candidates import gather, scope_of
from lmm_mcp.recall.evidence import MAX_CHUNKS, Evidence, only_asks, pick
from lmm_mcp.recall.fusion import fuse
from lmm_mcp.recall.query import understand
from lmm_mcp.store.chunks import ChunkStore


class Recaller:
    """Answers questions from one open store. Thread-safe as far as the store is; holds no state of its own."""

    def __init__(self, store: ChunkStore, embedder: Embedder | None, without: frozenset[str] = frozenset()) -> None:
        """`without`: parts to leave out, of `domain.recall.PARTS`."""
        self._store = store
        self._embedder = embedder
        self._without = without

    def recall(self, question: Question) -> Recall:
        """Find, weigh, and write the brief; or say that nothing is known."""
        found = self.evidence(question)
        written = brief.write(found, budget_tokens=question.budget_tokens) if found else None
        return written or brief.nothing(self._store.count(scope_of(question)), everywhere=question.project is None)

    def evidence(self, question: Question) -> list[Evidence]:
        """The lines that answer, most useful first; none where nothing that was found says anything about the question."""
        query = understand(question.text, self._store.frequencies())
        candidates = gather(self._store, query, scope_of(question), self._embedder, without=self._without)
        scores = fuse(candidates.lexical, candidates.nearest, candidates.best_windows)
        chunks = self._store.get(list(scores)[:MAX_CHUNKS])
        if asked := {chunk.id for chunk in chunks if only_asks(query, chunk)}:
            chunks = [chunk for chunk in chunks if chunk.id not in asked]
            candidates = candidates.without(asked)
        if "confidence" not in self._without and not confidence.is_enough(query, candidates, chunks):
            return []
        return pick(query, chunks, scores, candidates, budget_tokens=question.budget_tokens, without=self._without)
