"""Gives chunks their vectors when nothing else is waiting: a passage can be found by its words before that.

Where another model is wanted than the one whose vectors are served, its vectors are made beside those, and new chunks get
both; once all are made, they are served from then on.
"""

import logging
import os
import time
from collections.abc import Sequence
from itertools import chain

import numpy as np

from ingest.report import Report
from lmm_mcp import embedding
from lmm_mcp.config import Embedder
from lmm_mcp.domain import windows
from lmm_mcp.domain.chunk import Chunk
from lmm_mcp.embedding import NoEmbedder
from lmm_mcp.paths import Home
from lmm_mcp.store.chunks import ChunkStore, EmbedderRecord

SLICE = 32
"""Chunks at a time: what is more urgent waits no longer than for these."""
LOOK_AGAIN_s = 30.0
"""How often it is looked which model is wanted: one that was installed, or fitted, meanwhile is found."""
_log = logging.getLogger("lmm.ingest")


class Vectors:
    """See the module. `forget_model` after the settings, or the store, became others."""

    def __init__(self, home: Home, report: Report) -> None:
        self._home, self._report = home, report
        self._models: dict[EmbedderRecord, embedding.Embedder | NoEmbedder] = {}
        self._wanted: EmbedderRecord | None = None
        self._look_at = 0.0
        self._is_done = False

    def expect(self) -> None:
        """There may be chunks without vectors now."""
        self._is_done = False

    def forget_model(self) -> None:
        """Look which model is wanted, and open it anew, for the next chunks."""
        self._models.clear()
        self._look_at, self._is_done = 0.0, False

    def add(self, store: ChunkStore, settings: Embedder) -> int | None:
        """Give the newest chunks without vectors theirs: how many are left then; None where there was nothing to do."""
        now = time.monotonic()
        if self._is_done and now < self._look_at:
            return None
        self._is_done = True
        if embedding.full_name(settings.name) == embedding.NO_MODEL:
            self._wait(store)
            return None
        if now >= self._look_at:
            self._look_at = now + LOOK_AGAIN_s
            self._models = {of: model for of, model in self._models.items() if not isinstance(model, NoEmbedder)}
            self._wanted = self._chosen(store, settings)
        elif self._wanted is not None and store.embedder is None:
            self._want(store, settings, self._wanted)
        for of_next in (False, True):
            left = self._embed(store, settings, of_next=of_next)
            if left is not None:
                self._is_done = False
                return left
        if self._wanted is not None and store.next_embedder == self._wanted and store.serve_next():
            self._is_done = False
            self._let_go(self._wanted)
            self._report.say("embedding", to_embed=store.num_unembedded(), to_embed_anew=0)
            return 0
        self._wait(store)
        return None

    def _wait(self, store: ChunkStore) -> None:
        if to_embed := store.num_unembedded():
            self._report.say("watching", to_embed=to_embed)

    def _embed(self, store: ChunkStore, settings: Embedder, *, of_next: bool) -> int | None:
        """Make some of the vectors that are served, or of the next ones; None where there was nothing to do."""
        maker = store.next_embedder if of_next else store.embedder
        if maker is None or (of_next and maker != self._wanted) or not store.num_unembedded(of_next=of_next):
            return None
        model = self._opened(maker, settings)
        if isinstance(model, NoEmbedder):
            return None
        chunks = store.unembedded(SLICE, of_next=of_next)
        vectors = _made(model, chunks)
        whole = [(each, 0, windows.mean(vectors_WD)) for each, vectors_WD in vectors.items()]
        store.add_vectors(whole, vectors, to_next=of_next)
        left, num_chunks = store.num_unembedded(of_next=of_next), store.count()
        to_embed = 0 if of_next else left
        self._report.say(
            "embedding",
            chunks=num_chunks,
            embedded=num_chunks - to_embed,
            to_embed=to_embed,
            to_embed_anew=store.num_unembedded(of_next=True) if store.next_embedder is not None else 0,
        )
        return left if not of_next else max(left, 1)  # it is not done before they are served

    def _chosen(self, store: ChunkStore, settings: Embedder) -> EmbedderRecord | None:
        """What is wanted now, and the store told so; None where it is not to be had."""
        card = embedding.look(self._home, settings)
        if isinstance(card, NoEmbedder):
            return None
        wanted = EmbedderRecord(card.name, card.version, card.dim)
        return wanted if self._want(store, settings, wanted) else None

    def _want(self, store: ChunkStore, settings: Embedder, wanted: EmbedderRecord) -> bool:
        """Have the store take this embedder's vectors; False where its model cannot be opened."""
        served = store.embedder
        if wanted == served and store.next_embedder in (None, wanted):
            return True
        if not store.count():
            return True
        if isinstance(model := self._opened(wanted, settings), NoEmbedder):
            _log.warning("nothing is embedded by %s: %s", wanted.name, model.reason)
            return False
        if served not in (None, wanted):
            found = embedding.look_named(self._home, served.name, served.version)
            if isinstance(found, NoEmbedder):  # nobody can ask with them any more
                _log.warning("%s: all vectors are made anew", found.reason)
                store.clear_vectors()
        store.set_embedder(wanted.name, wanted.version, wanted.dim)
        if wanted == store.embedder:
            self._let_go(wanted)
        return True

    def _opened(self, of: EmbedderRecord, settings: Embedder) -> embedding.Embedder | NoEmbedder:
        if of not in self._models:
            num_threads = settings.num_threads or os.cpu_count() or 1
            self._models[of] = embedding.load_named(self._home, of.name, of.version, num_threads=num_threads)
        return self._models[of]

    def _let_go(self, served: EmbedderRecord) -> None:
        """Of all models but the one that serves from now on."""
        self._models = {of: model for of, model in self._models.items() if of == served}
        embedding.sweep(self._home, name=served.name, version=served.version)


def _made(model: embedding.Embedder, chunks: Sequence[Chunk]) -> dict[str, embedding.Vectors]:
    texts = [windows.texts(chunk) for chunk in chunks]
    made = np.split(model.embed([*chain(*texts)]), np.cumsum([len(each) for each in texts])[:-1])
    return {chunk.id: vectors_WD for chunk, vectors_WD in zip(chunks, made, strict=True)}
