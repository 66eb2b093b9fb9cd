"""What recall is held against: the same questions, the same store or the same files, answered in the simplest ways.

Every arm but `grep` and `oracle` packs whole passages, best first, as far as the budget goes. They answer always, so their
`quiet` is 0 by construction.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from lmm_mcp.domain.chunk import Chunk
from lmm_mcp.domain.recall import CHARS_PER_TOKEN
from lmm_mcp.embedding import Embedder, embed_query
from lmm_mcp.evaluation.grepping import Grep
from lmm_mcp.evaluation.judging import folded
from lmm_mcp.evaluation.questions import Answered, Asked
from lmm_mcp.recall.fusion import fuse
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.chunks import ChunkStore, Scope
from lmm_mcp.store.ledger import Ledger
from lmm_mcp.store.terms import terms

NUM_RANKED = 60
RRF_K = 60
"""Of reciprocal rank fusion (Cormack et al. 2009)."""


@dataclass(frozen=True)
class Bench:
    """What the arms work on, opened by the entry point."""

    store: ChunkStore
    ledger: Ledger
    archive: Archive
    embedder: Embedder | None
    scope_of: Callable[[Asked], Scope]
    """Where the asker of a question stands, and until when it may look."""
    asked_until_ms: int | None = None
    """Nothing is asked as of a later time."""

    @cached_property
    def files(self) -> Grep:
        """The session files themselves."""
        return Grep(self.ledger, self.asked_until_ms)


Arm = Callable[[Bench, Asked, int], Answered]
"""Answers one question within a budget of tokens."""


def recent(bench: Bench, asked: Asked, budget_tokens: int) -> Answered:
    """What was said last."""
    return _packed(bench.store.newest(bench.scope_of(asked), NUM_RANKED), budget_tokens)


def bm25(bench: Bench, asked: Asked, budget_tokens: int) -> Answered:
    """The words of the question."""
    return _packed(bench.store.get(list(_lexical(bench, asked))), budget_tokens)


def vectors(bench: Bench, asked: Asked, budget_tokens: int) -> Answered:
    """The meaning of the question."""
    return _packed(bench.store.get(list(_nearest(bench, asked))), budget_tokens)


def fusion(bench: Bench, asked: Asked, budget_tokens: int) -> Answered:
    """Both, by reciprocal rank."""
    scores: dict[str, float] = {}
    for ranking in (_lexical(bench, asked), _nearest(bench, asked)):
        for rank, chunk_id in enumerate(ranking):
            scores[chunk_id] = scores.get(chunk_id, 0.0) + 1 / (RRF_K + rank + 1)
    return _packed(bench.store.get(sorted(scores, key=lambda each: (-scores[each], each))[:NUM_RANKED]), budget_tokens)


def passages(bench: Bench, asked: Asked, budget_tokens: int) -> Answered:
    """Words and meaning weighed as `recall` weighs them, but whole passages instead of the lines that answer."""
    ranked = list(fuse(_lexical(bench, asked), _nearest(bench, asked)))[:NUM_RANKED]
    return _packed(bench.store.get(ranked), budget_tokens)


def grep(bench: Bench, asked: Asked, budget_tokens: int) -> Answered:
    """What `rg` finds in the session files of the asker's project, see `grepping`."""
    return bench.files.answer(asked.question, bench.scope_of(asked), budget_tokens)


def oracle(bench: Bench, asked: Asked, budget_tokens: int) -> Answered:
    """The ceiling: the shortest remembered lines of the gold sessions that hold the needed items, and nothing else."""
    if asked.key is None or not asked.key.answers:
        return Answered("", (), abstained=True)
    scope = bench.scope_of(asked)
    rows = [row for row in bench.ledger.threads() if row.thread.session_id in asked.key.sessions]
    lines = [
        (line.text, chunk.session_id)
        for row in rows
        for chunk in bench.store.thread(row.thread.agent, row.thread.thread_id)
        if scope.until_ms is None or chunk.last_ms <= scope.until_ms
        for line in chunk.lines
    ]
    chosen: dict[str, str] = {}
    for item in asked.key.answers:
        wanted = [folded(alternative) for alternative in item]
        holding = [pair for pair in lines if any(each in folded(pair[0]) for each in wanted)]
        if holding:
            text, session = min(holding, key=lambda pair: len(pair[0]))
            chosen[text] = session
    return _joined(list(chosen.items()), budget_tokens)


ARMS: Mapping[str, Arm] = {
    "recent": recent,
    "grep": grep,
    "bm25": bm25,
    "vectors": vectors,
    "fusion": fusion,
    "passages": passages,
    "oracle": oracle,
}


def _lexical(bench: Bench, asked: Asked) -> dict[str, float]:
    hits = bench.store.lexical(terms(asked.question), bench.scope_of(asked), NUM_RANKED)
    return {hit.chunk_id: hit.score for hit in hits}


def _nearest(bench: Bench, asked: Asked) -> dict[str, float]:
    if bench.embedder is None:
        return {}
    hits = bench.store.nearest(embed_query(bench.embedder, asked.question), bench.scope_of(asked), NUM_RANKED)
    return {hit.chunk_id: hit.score for hit in hits}


def _packed(chunks: Sequence[Chunk], budget_tokens: int) -> Answered:
    texts = [(f"{chunk.header}\n{chunk.text_of()}", chunk.session_id) for chunk in chunks]
    return _joined(texts, budget_tokens, [chunk.id for chunk in chunks])


def _joined(texts: Sequence[tuple[str, str]], budget_tokens: int, passages: Sequence[str] = ()) -> Answered:
    """As many as begin within the budget, the last one cut."""
    room = budget_tokens * CHARS_PER_TOKEN
    said, sessions = [], []
    for text, session in texts:
        if room <= 0:
            break
        said.append(text[:room])
        sessions.append(session)
        room -= len(text) + 1
    return Answered("\n".join(said), tuple(dict.fromkeys(sessions)), not said, tuple(passages[: len(said)]))
