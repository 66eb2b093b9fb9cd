"""A store and a model for the same questions asked many times, each time with another part of recall left out.

What a question finds does not depend on how it is weighed afterwards, and takes most of its time: it is looked up once. Only as
long as nothing is written to the store; thrown away after the measurement.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar, cast

import numpy as np

from lmm_mcp.domain.chunk import Chunk, ChunkId
from lmm_mcp.embedding import Embedder, Vectors, embed_query
from lmm_mcp.store.chunks import ChunkStore, EmbedderRecord, Scope
from lmm_mcp.store.frequencies import Frequencies
from lmm_mcp.store.search import Hit

_Found = TypeVar("_Found")


class _Known:
    """What was looked up, by what was asked."""

    def __init__(self) -> None:
        self._found: dict[Hashable, Any] = {}

    def get(self, key: Hashable, look: Callable[[], _Found]) -> _Found:
        if key not in self._found:
            self._found[key] = look()
        return cast(_Found, self._found[key])


class KnowingStore:
    """A store as far as recall reads it."""

    def __init__(self, store: ChunkStore) -> None:
        self._store = store
        self._known = _Known()
        self._chunks: dict[ChunkId, Chunk | None] = {}
        self._windows: dict[ChunkId, np.ndarray | None] = {}

    def lexical(self, terms: Sequence[str], scope: Scope, limit: int) -> list[Hit]:
        """As `ChunkStore.lexical`."""
        return self._known.get(
            ("lexical", tuple(terms), scope, limit), lambda: self._store.lexical(terms, scope, limit)
        )

    def nearest(self, vector: np.ndarray, scope: Scope, limit: int, *, of: EmbedderRecord | None = None) -> list[Hit]:
        """As `ChunkStore.nearest`."""
        key = ("nearest", vector.tobytes(), scope, limit)
        return self._known.get(key, lambda: self._store.nearest(vector, scope, limit, of=of))

    def windows(self, ids: Sequence[ChunkId], *, of: EmbedderRecord | None = None) -> dict[ChunkId, np.ndarray]:
        """As `ChunkStore.windows`."""
        if new := [each for each in ids if each not in self._windows]:
            self._windows |= dict.fromkeys(new) | self._store.windows(new, of=of)
        return {each: found for each in ids if (found := self._windows[each]) is not None}

    def get(self, ids: Sequence[ChunkId]) -> list[Chunk]:
        """As `ChunkStore.get`."""
        if new := [each for each in dict.fromkeys(ids) if each not in self._chunks]:
            self._chunks |= dict.fromkeys(new) | {chunk.id: chunk for chunk in self._store.get(new)}
        return [found for each in dict.fromkeys(ids) if (found := self._chunks[each]) is not None]

    def newest(self, scope: Scope, limit: int) -> list[Chunk]:
        """As `ChunkStore.newest`."""
        return self._known.get(("newest", scope, limit), lambda: self._store.newest(scope, limit))

    def following(self, chunk: Chunk, limit: int) -> list[Chunk]:
        """As `ChunkStore.following`."""
        return self._known.get(("following", chunk.id, limit), lambda: self._store.following(chunk, limit))

    def count(self, scope: Scope) -> int:
        """As `ChunkStore.count`."""
        return self._known.get(("count", scope), lambda: self._store.count(scope))

    def frequencies(self) -> Frequencies:
        """As `ChunkStore.frequencies`."""
        return self._known.get("frequencies", lambda: self._store.frequencies())


class KnowingEmbedder:
    """A model that embeds a question once."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._known = _Known()
        self.name, self.version, self.dim = embedder.name, embedder.version, embedder.dim

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed questions: float32 [len(texts), dim]."""
        return np.stack([self._known.get(text, lambda text=text: embed_query(self._embedder, text)) for text in texts])  # type: ignore[misc]
