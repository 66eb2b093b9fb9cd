"""What the engine does while nobody asks: cards about projects, files and errors, one at a time, so that they are there when needed.

Only where a memory model serves; a card whose passages are as they were is left alone.
"""

import logging
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from lmm_mcp import artifacts, training
from lmm_mcp.domain.card import Card
from lmm_mcp.domain.recall import Question
from lmm_mcp.server.holdings import Holdings

QUIET_s = 30.0
"""Without a question before anything is done."""
LATEST_s = 540.0
"""So long after the last question nothing more is begun: what is open for questions is put away soon."""
LOOK_EVERY_s = 300.0
WITHIN_s = 20.0
"""For one card; whoever asks meanwhile has the brief without the model."""
MAX_PROJECTS = 5
NUM_PASSAGES = 300
"""The newest of a project, out of which subjects are taken."""
MIN_SESSIONS = 2
"""In which an error was met."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Subject:
    """What a card may be about."""

    kind: str
    project: str
    name: str
    question: str


class Carding:
    """See the module. `step` does one thing and is to be called again and again, never twice at once."""

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings
        self._waiting: Iterator[Subject] = iter(())
        self._looked_s = float("-inf")

    def is_time(self) -> bool:
        """Whether nobody asks, nothing trains and the machine has time."""
        if not QUIET_s <= self._holdings.quiet_s <= LATEST_s or not self._holdings.settings.model.cards:
            return False
        if hasattr(os, "getloadavg") and os.getloadavg()[0] > max(1.0, 0.5 * (os.cpu_count() or 1)):
            return False
        return not training.is_busy(self._holdings.home)

    def step(self) -> Card | None:
        """Write the next card that is missing or void; None where there is none, or nothing can be said."""
        if self._holdings.scribe() is None:
            return None
        subject = next(self._waiting, None)
        if subject is None:
            if time.monotonic() - self._looked_s < LOOK_EVERY_s:
                return None
            self._looked_s = time.monotonic()
            with self._holdings.of_our_own():
                self._waiting = iter(self._missing())
            subject = next(self._waiting, None)
        if subject is None:
            return None
        with self._holdings.of_our_own():
            return self._write(subject)

    def _missing(self) -> list[Subject]:
        from lmm_mcp.model.cards import is_void

        store, box = self._holdings.store(), self._holdings.cards
        if store is None:
            return []
        found = []
        projects = sorted(((num, key) for key, num in store.projects().items() if key), reverse=True)
        for _, project in projects[:MAX_PROJECTS]:
            wanted = self._subjects(project)
            box.drop(project, [(each.kind, each.name) for each in wanted])
            known = {(each.kind, each.subject): each for each in box.of(project)}
            ids = {chunk_id for card in known.values() for chunk_id in card.sources}
            hashes = {chunk.id: chunk.content_hash for chunk in store.get(sorted(ids))}
            for each in wanted:
                card = known.get((each.kind, each.name))
                if card is None or is_void(card, hashes):
                    found.append(each)
        return found

    def _subjects(self, project: str) -> list[Subject]:
        from lmm_mcp.recall.signatures import signature
        from lmm_mcp.store.search import Scope

        store = self._holdings.store()
        assert store is not None
        files: Counter[str] = Counter()
        errors: dict[str, set[str]] = {}
        texts: dict[str, str] = {}
        for chunk in store.newest(Scope(project=project), NUM_PASSAGES):
            files.update(set(chunk.files))
            for line in chunk.lines:
                if line.role == "error" and (told := signature(line.text)):
                    errors.setdefault(told, set()).add(chunk.session_id)
                    texts.setdefault(told, line.text)
        limit = self._holdings.settings.model.cards
        often = [
            each for each in sorted(errors, key=lambda each: -len(errors[each])) if len(errors[each]) >= MIN_SESSIONS
        ]
        found = [Subject("project", project, project, "What was decided, and how are things done here?")]
        found += [Subject("error", project, each, texts[each]) for each in often[: limit // 3]]
        num_left = max(0, limit - len(found))
        found += [
            Subject("file", project, file, f"What should I know about {file}?")
            for file, _ in files.most_common(num_left)
        ]
        return found[:limit]

    def _write(self, subject: Subject) -> Card | None:
        from lmm_mcp.model.cards import sentences_of
        from lmm_mcp.recall.offering import offered

        as_of = artifacts.forgettings(self._holdings.home)
        recaller, scribe = self._holdings.recaller(("model", "cards")), self._holdings.scribe()
        if recaller is None or scribe is None:
            return None
        lines = recaller.evidence(Question(subject.question, subject.project))
        shown = offered(lines)
        if not shown:
            return None
        sentences, model = sentences_of(scribe, subject.question, shown, within_s=WITHIN_s)
        if not sentences:
            return None
        chunks = {each.chunk.id: each.chunk for each in lines[: len(shown)]}
        cited = {chunk_id for each in sentences for chunk_id, _ in each.rests_on}
        card = Card(
            kind=subject.kind,
            project=subject.project,
            subject=subject.name,
            sentences=sentences,
            sources={chunk_id: chunks[chunk_id].content_hash for chunk_id in sorted(cited)},
            newest_ms=max(each.last_ms for each in chunks.values()),
            model=model,
        )
        if not self._holdings.cards.keep(card, as_of=as_of):
            return None
        _log.info("wrote a card of a %s", subject.kind)
        return card
