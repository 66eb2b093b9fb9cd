"""A query in, candidate chunks out: what shares its words and what is near in meaning, within scope."""

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace

import numpy as np

from lmm_mcp.domain import windows
from lmm_mcp.domain.recall import Question
from lmm_mcp.embedding import Embedder, Vectors, embed_query
from lmm_mcp.recall.query import Query
from lmm_mcp.store.chunks import ChunkStore, EmbedderRecord, Scope
from lmm_mcp.store.terms import is_mostly_cjk

MAX_LEXICAL = 60
MAX_NEAREST = 60
_BESIDE = ThreadPoolExecutor(thread_name_prefix="words")
"""One for all questions: a thread costs as much as some of them look for words."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Chunk ids with their scores, each best first."""

    lexical: Mapping[str, float]
    """BM25."""
    nearest: Mapping[str, float]
    """Cosine similarity of the whole; empty without an embedder."""
    windows: Mapping[str, Vectors] = field(default_factory=dict)
    """Cosine similarity of each window of a chunk, where windows have vectors; see `domain.windows`."""
    vectors: Mapping[str, Vectors] = field(default_factory=dict)
    """The vectors of these windows."""
    is_foreign: bool = False
    """The question is in a language of which the model may know little."""

    def without(self, ids: Collection[str]) -> "Candidates":
        """The same, as if these chunks had not been found."""
        lexical, nearest = (
            {each: score for each, score in found.items() if each not in ids} for found in (self.lexical, self.nearest)
        )
        return replace(self, lexical=lexical, nearest=nearest)

    def joined(self, other: "Candidates") -> "Candidates":
        """What was found for the same question here and there, best first."""
        lexical, nearest = (
            dict(sorted({**a, **b}.items(), key=lambda item: (-item[1], item[0])))
            for a, b in ((self.lexical, other.lexical), (self.nearest, other.nearest))
        )
        return replace(
            self,
            lexical=lexical,
            nearest=nearest,
            windows={**self.windows, **other.windows},
            vectors={**self.vectors, **other.vectors},
        )

    @property
    def best_windows(self) -> Mapping[str, float]:
        """Similarity of the best window of each chunk; of the whole where its windows have no vectors."""
        return {
            chunk_id: float(self.windows[chunk_id].max()) if chunk_id in self.windows else whole
            for chunk_id, whole in self.nearest.items()
        }

    def vector_of(self, chunk_id: str, window: int) -> Vectors | None:
        """The vector of a window of a chunk, by its number as `Evidence` has it; None where there is none."""
        vectors_WD = self.vectors.get(chunk_id)
        found: Vectors | None = None if vectors_WD is None or window < 0 else vectors_WD[window]
        return found


NOTHING = Candidates({}, {})


def scope_of(question: Question) -> Scope:
    """Name what may be searched at all."""
    return Scope(project=question.project, agent=question.agent, since_ms=question.since_ms, until_ms=question.until_ms)


def gather(
    store: ChunkStore, query: Query, scope: Scope, embedder: Embedder | None, *, without: Collection[str] = ()
) -> Candidates:
    """Ask both sides at once. The lexical one is skipped where the question holds no term, the other where there is no model.

    `without`: parts to leave out, of `domain.recall.PARTS`. Raises MixedEmbeddings where the vectors that are served are
    no longer of `embedder`.
    """

    def lexical() -> dict[str, float]:
        if not query.terms or "words" in without:
            return {}
        return {hit.chunk_id: hit.score for hit in store.lexical(query.terms, scope, MAX_LEXICAL)}

    if embedder is None or "vectors" in without:
        return Candidates(lexical(), {})

    made_by = EmbedderRecord(embedder.name, embedder.version, embedder.dim)

    def lexical_with_windows() -> tuple[dict[str, float], Mapping[str, Vectors]]:
        found = lexical()
        return found, {} if "windows" in without else store.windows(list(found), of=made_by)

    # A second core looks for the words while this one embeds the question.
    by_words = _BESIDE.submit(lexical_with_windows)
    try:
        vector_D = embed_query(embedder, query.text)
        hits = store.nearest(vector_D, scope, MAX_NEAREST, of=made_by)
    finally:
        wait([by_words])
    found, vectors = by_words.result()
    nearest = {hit.chunk_id: hit.score for hit in hits}
    if "windows" in without:
        return Candidates(found, nearest, is_foreign=is_mostly_cjk(query.text))
    near = {hit.chunk_id: hit.windows for hit in hits if hit.chunk_id not in vectors}
    unpacked = zip(near, windows.unpacked_all(list(near.values()), len(vector_D)), strict=True)
    vectors = {each: vectors_WD for each, vectors_WD in (*vectors.items(), *unpacked) if len(vectors_WD)}
    # What only its words brought has a meaning, too.
    whole, similarities = _similarities(vectors, vector_D)
    nearest = dict(sorted({**whole, **nearest}.items(), key=lambda item: (-item[1], item[0])))
    return Candidates(found, nearest, similarities, vectors, is_foreign=is_mostly_cjk(query.text))


def _similarities(vectors: Mapping[str, Vectors], vector_D: Vectors) -> tuple[dict[str, float], dict[str, Vectors]]:
    """How near each passage as a whole, and each of its windows, is to a question."""
    if not vectors:
        return {}, {}
    starts = np.cumsum([0, *map(len, vectors.values())])[:-1]
    all_WD = np.concatenate(list(vectors.values()))
    # Not matrix products: what these give a row depends on its neighbours in the last digit.
    similar_W = np.einsum("wd,d->w", all_WD, vector_D)
    norms_P = np.linalg.norm(np.add.reduceat(all_WD, starts, axis=0), axis=1)
    norms_P[norms_P == 0] = 1.0
    whole_P = np.add.reduceat(similar_W, starts) / norms_P
    return (
        dict(zip(vectors, whole_P.tolist(), strict=True)),
        dict(zip(vectors, np.split(similar_W, starts[1:]), strict=True)),
    )


def by_line(found: Candidates, chunk_id: str, cut: list[range], num_lines: int) -> Vectors:
    """The similarity of the window in which each line of a chunk stands: float32 [lines].

    Where windows have no vectors, it is that of the whole chunk; 0 where nothing was embedded.
    """
    similarities_W = found.windows.get(chunk_id)
    if similarities_W is None or len(similarities_W) != len(cut):
        return np.full(num_lines, max(0.0, found.nearest.get(chunk_id, 0.0)), np.float32)
    similarities_L: Vectors = np.repeat(similarities_W, [len(each) for each in cut])
    return similarities_L
