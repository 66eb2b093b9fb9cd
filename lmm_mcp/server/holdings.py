"""What is open of one memory home, once for all who ask: tables, ledger, model, and the settings they go by.

Nothing is opened when this is made; each thing comes to life on first use. Safe to call from several threads.
"""

import gc
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lmm_mcp import config, memory
from lmm_mcp.paths import Home

if TYPE_CHECKING:  # each of these takes a tenth of a second or more to import; the methods do it when needed
    from lmm_mcp.domain.card import Cards
    from lmm_mcp.embedding import Card, NoEmbedder, OnnxEmbedder
    from lmm_mcp.model.cards import CardBox
    from lmm_mcp.model.serving import Serving
    from lmm_mcp.model.writer import MemoryWriter
    from lmm_mcp.recall.changebox import ChangeBox
    from lmm_mcp.recall.pipeline import Recaller
    from lmm_mcp.recall.reranking import Model
    from lmm_mcp.store.archive import Archive
    from lmm_mcp.store.chunks import ChunkStore
    from lmm_mcp.store.ledger import Ledger

_LOOK_FOR_MODEL_EVERY_s = 30.0
_LOADING_s = 60.0
_QUIET_s = 3.0
"""Without a question: then there is time to tidy up."""
SWEEP_EVERY_s = 600.0
"""Where there is never quiet, tidying up takes 0.2 s from a question so often; where nobody ever asks, agents that come and go
leave something behind, too."""


class Holdings:
    """See the module. `env` overrides the user's settings, as always. `for_many`: many questions will be asked."""

    def __init__(self, home: Home, env: Mapping[str, str], *, for_many: bool = False) -> None:
        self.home = home
        self.env = env
        self.for_many = for_many
        """Whether rows of the store are held in memory: that takes as long as two questions, and pays off with the third."""
        self._lock = threading.RLock()
        self._settings: config.Settings | None = None
        self._settings_stamp: tuple[int, int] | None = None
        self.as_of_ms: int | None = None
        """Where the past is asked, to measure: whatever was learned from anything later takes no part in the answers."""
        self.waits_for_model = True
        """Whether the first question waits until the memory model is loaded: whoever asks once would never hear it else."""
        self._serving: Serving | None = None
        self._cards: CardBox | None = None
        self._changes: ChangeBox | None = None
        self._thread = threading.local()
        self._ledger: Ledger | None = None
        self._ledger_id: tuple[int, int] | None = None
        self._store: ChunkStore | None = None
        self._store_id: tuple[int, int] | None = None
        self._embedder: OnnxEmbedder | NoEmbedder | None = None
        self._embedder_of = "", ""
        """Name and version of the model that is open, or was looked for."""
        self._looked_for_model_s = 0.0
        self._used_model_s = time.monotonic()
        self._is_tidy = False
        self._swept_s = time.monotonic()

    @property
    def settings(self) -> config.Settings:
        """The user's settings; read again when the file has changed. Raises ConfigError."""
        with self._lock:
            stamp = config.stamp(self.home.config)
            if self._settings is None or stamp != self._settings_stamp:
                now = config.load(self.home.config, self.env)
                if self._settings is not None and now.embedder != self._settings.embedder:
                    self._let_go_of_model()
                self._settings, self._settings_stamp = now, stamp
            return self._settings

    @property
    def ledger(self) -> "Ledger":
        """The ledger, made where there is none."""
        from lmm_mcp.store.ledger import Ledger

        with self._lock:
            if self._ledger is None or _identity(self.home.ledger) != self._ledger_id:
                self._ledger = Ledger.open(
                    self.home.ledger
                )  # the last one may be in use: it is closed when nobody has it
                self._ledger_id = _identity(self.home.ledger)
            return self._ledger

    @property
    def archive(self) -> "Archive":
        """The archived sessions."""
        from lmm_mcp.store.archive import Archive

        return Archive(self.home.archive)

    def store(self) -> "ChunkStore | None":
        """The chunk store as of now; None where nothing was ever imported. Raises StoreError."""
        with self._lock:
            if self._store is None or _identity(self.home.store) != self._store_id:
                from lmm_mcp.store.chunks import ChunkStore

                self._store = None
                if not ChunkStore.exists(self.home.store):
                    return None
                self._store_id = _identity(self.home.store)
                self._store = ChunkStore.open(self.home.store)
            return self._store

    def embedder(self) -> "OnnxEmbedder | NoEmbedder":
        """The model for questions, or why there is none; one that was installed meanwhile is found after half a minute.

        It is the one that made the vectors which are served, also while another is wanted and makes new ones.
        """
        from lmm_mcp.embedding import NoEmbedder, load_serving

        with self._lock:
            made_by = self._made_by()
            if made_by[0] and made_by != self._embedder_of:
                self._let_go_of_model()
            is_due = time.monotonic() - self._looked_for_model_s > _LOOK_FOR_MODEL_EVERY_s
            model = self._embedder
            if model is None or (isinstance(model, NoEmbedder) and is_due):
                model = load_serving(self.home, self.settings.embedder, *made_by, num_threads=1)
                self._embedder_of = made_by if isinstance(model, NoEmbedder) else (model.name, model.version)
                self._embedder, self._looked_for_model_s = model, time.monotonic()
            if not getattr(self._thread, "is_ours", False):
                self._used_model_s = time.monotonic()
            self._is_tidy = False
        return model if isinstance(model, NoEmbedder) else self._too_late(model.card) or model

    def _look(self) -> "Card | NoEmbedder":
        """The card of the model for questions, or why there is none."""
        from lmm_mcp.embedding import serving

        return serving(self.home, self.settings.embedder, *self._made_by())

    def _made_by(self) -> tuple[str, str]:
        """Name and version of what made the vectors that are served; '' where there are none."""
        store = self.store()
        record = store.embedder if store is not None else None
        return (record.name, record.version) if record is not None else ("", "")

    def _let_go_of_model(self) -> None:
        self._embedder, self._embedder_of = None, ("", "")

    def look_for_model(self) -> None:
        """Look again at the next question: one was made ready."""
        with self._lock:
            self._looked_for_model_s = -_LOOK_FOR_MODEL_EVERY_s

    @property
    def has_model(self) -> bool:
        """Whether a model is open now."""
        return type(self._embedder).__name__ == "OnnxEmbedder"  # to ask must not load its libraries

    @property
    def quiet_s(self) -> float:
        """Seconds since the last question, or since this was made."""
        return time.monotonic() - self._used_model_s

    def tidy(self, *, model_after_s: float) -> None:
        """Give back memory that questions have left behind, once there is quiet; after `model_after_s` of it the model and rows.

        The next question brings both back.
        """
        with self._lock:
            quiet_s = time.monotonic() - self._used_model_s
            is_held = self._store is not None and self._store.is_held
            is_to_go = (self._embedder is not None or is_held) and quiet_s >= model_after_s
            if is_to_go:
                self._let_go_of_model()
                if self._store is not None:
                    self._store.hold(is_wanted=False)
            elif (self._is_tidy or quiet_s < _QUIET_s) and time.monotonic() - self._swept_s < SWEEP_EVERY_s:
                return
            self._is_tidy, self._swept_s = quiet_s >= _QUIET_s, time.monotonic()
        gc.collect()
        memory.give_back()

    def by_words_only(self) -> str:
        """Why questions are answered by their words only, with the next step; '' where a model serves them."""
        from lmm_mcp.embedding import NoEmbedder

        if isinstance(self._embedder, NoEmbedder):
            model = self.embedder()
            found = model if isinstance(model, NoEmbedder) else model.card
        else:
            found = self._look()  # to name a model, it need not be opened
        if not isinstance(found, NoEmbedder):
            found = self._too_late(found) or found
        return f"{found.reason}; {found.next_step}" if isinstance(found, NoEmbedder) else ""

    def recaller(self, without: Collection[str] = ()) -> "Recaller | None":
        """What answers questions, without some parts of recall; None where nothing was ever imported."""
        from lmm_mcp.embedding import NoEmbedder
        from lmm_mcp.recall.pipeline import Recaller

        if (store := self.store()) is None:
            return None
        model = self.embedder()
        if self.for_many:
            store.hold()
        writer = None if {"model", "cards"} <= set(without) else self.writer()
        return Recaller(
            store,
            None if isinstance(model, NoEmbedder) else model,
            frozenset(without),
            writer=writer,
            within_s=self.settings.model.within_ms / 1000,
            reranker=self.ranking(),
            cards=self._cards_to_tell() if writer is not None else None,
            changes=self.changes,
        )

    def ranking(self) -> "Model | None":
        """The order of lines that was learned and serves; None where none does."""
        from lmm_mcp.recall import reranking

        store = self.store()
        version = store.embedder.version if store is not None and store.embedder else ""
        return reranking.load(self.home, version, as_of_ms=self.as_of_ms)

    def memory_model(self) -> tuple[str, int] | None:
        """The memory model that serves and the time from which on it has learned nothing (0: nobody knows); None for none."""
        return self._served().learned()

    def writer(self) -> "MemoryWriter | None":
        """The memory model that serves; None where none does, and then nothing was loaded."""
        if self.as_of_ms is not None:
            model = self.memory_model()
            if model is None or not 0 < model[1] <= self.as_of_ms:
                return None
        return self._served().writer(wait_s=_LOADING_s if self.waits_for_model else 0.0)

    def scribe(self) -> "MemoryWriter | None":
        """The same, to write cards while nobody asks."""
        return self._served().scribe()

    @property
    def cards(self) -> "CardBox":
        """What it wrote while nobody asked."""
        from lmm_mcp.model.cards import CardBox

        with self._lock:
            if self._cards is None:
                self._cards = CardBox(self.home)
            return self._cards

    @property
    def changes(self) -> "ChangeBox":
        """What was replaced by what, as facts tell it."""
        from lmm_mcp.recall.changebox import ChangeBox

        with self._lock:
            if self._changes is None:
                self._changes = ChangeBox(self.home.facts)
            return self._changes

    @contextmanager
    def of_our_own(self) -> Iterator[None]:
        """What is asked meanwhile is no question of anybody's, and keeps nothing open."""
        self._thread.is_ours = True
        try:
            yield
        finally:
            self._thread.is_ours = False

    def _cards_to_tell(self) -> "Cards":
        """All; of the past only those by the model that may answer, since who wrote the others may have learned more."""
        from lmm_mcp.model.cards import CardsBy

        model = None if self.as_of_ms is None else self.memory_model()
        return self.cards if model is None else CardsBy(self.cards, model[0])

    def _too_late(self, card: "Card") -> "NoEmbedder | None":
        """Why a sentence model may not answer where the past is asked."""
        from lmm_mcp.embedding import NoEmbedder

        if self.as_of_ms is None or not card.is_personal or 0 < card.until_ms <= self.as_of_ms:
            return None
        return NoEmbedder(
            f"the model {card.name} was fitted to sessions later than what is asked",
            "`lmm embedder install` goes back to one that was not, once all is embedded again",
        )

    def _served(self) -> "Serving":
        from lmm_mcp.model.serving import Serving

        with self._lock:
            wanted = self.settings.model
            if self._serving is None or self._serving.settings != wanted:
                if self._serving is not None:
                    self._serving.close()
                self._serving = Serving(self.home, self.env, wanted)
            return self._serving


def _identity(path: Path) -> tuple[int, int] | None:
    """What a file or folder is, whatever its name: another one is put in its place when a backup is restored."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
