"""Gives chunks their vectors when nothing else is waiting: a passage can be found by its words before that."""

import logging
import os
import time
from itertools import chain

import numpy as np

from ingest.report import Report
from lmm_mcp import embedding
from lmm_mcp.config import Embedder
from lmm_mcp.domain import windows
from lmm_mcp.embedding import NoEmbedder
from lmm_mcp.errors import MixedEmbeddings
from lmm_mcp.paths import Home
from lmm_mcp.store.chunks import ChunkStore

SLICE = 32
"""Chunks at a time: what is more urgent waits no longer than for these."""
LOOK_AGAIN_s = 30.0
"""How often a model is looked for where there was none: one that was installed meanwhile is found."""
_log = logging.getLogger("lmm.ingest")


class Vectors:
    """See the module. `forget_model` after the settings, or the store, became others."""

    def __init__(self, home: Home, report: Report) -> None:
        self._home, self._report = home, report
        self._model: embedding.Embedder | NoEmbedder | None = None
        self._look_at = 0.0
        self._is_done = False

    def expect(self) -> None:
        """There may be chunks without vectors now."""
        self._is_done = False

    def forget_model(self) -> None:
        """Open the model anew for the next chunks."""
        self._model, self._look_at, self._is_done = None, 0.0, False

    def add(self, store: ChunkStore, settings: Embedder) -> int | None:
        """Give the newest chunks without vectors theirs: how many are left then; None where there was nothing to do."""
        now = time.monotonic()
        if self._is_done and now < self._look_at:
            return None
        self._is_done = True
        if now >= self._look_at:
            self._look_at = now + LOOK_AGAIN_s
            if isinstance(self._model, NoEmbedder):
                self._model = None
        if not store.num_unembedded():
            return None
        if self._model is None:
            self._model = self._opened(store, settings)
        if isinstance(self._model, NoEmbedder):
            self._report.say("watching", to_embed=store.num_unembedded())
            return None
        chunks = store.unembedded(SLICE)
        texts = [windows.texts(chunk) for chunk in chunks]
        made = np.split(self._model.embed([*chain(*texts)]), np.cumsum([len(each) for each in texts])[:-1])
        vectors = {chunk.id: vectors_WD for chunk, vectors_WD in zip(chunks, made, strict=True)}
        store.add_vectors([(each, 0, windows.mean(vectors_WD)) for each, vectors_WD in vectors.items()], vectors)
        self._is_done = False
        to_embed, num_chunks = store.num_unembedded(), store.count()
        self._report.say("embedding", chunks=num_chunks, embedded=num_chunks - to_embed, to_embed=to_embed)
        return to_embed

    def _opened(self, store: ChunkStore, settings: Embedder) -> embedding.Embedder | NoEmbedder:
        model = embedding.load(self._home, settings, num_threads=settings.num_threads or os.cpu_count() or 1)
        if not isinstance(model, NoEmbedder):
            try:
                store.set_embedder(model.name, model.version, model.dim)
            except MixedEmbeddings as problem:  # the user has to choose; reading goes on meanwhile
                _log.warning("%s", problem)
                return NoEmbedder("the stored vectors were made by another model", str(problem))
        return model
