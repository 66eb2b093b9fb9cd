"""Cards made by the memory model, and the box they are kept in: `LMM_HOME/artifacts/cards`, one file a project.

They are a cache: whoever forgets anything deletes them all, and they are written again. What was read before a forgetting is
not kept after it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lmm_mcp import artifacts
from lmm_mcp.artifacts import durable, places
from lmm_mcp.domain.card import Card, CardSentence
from lmm_mcp.domain.chunk import ChunkId
from lmm_mcp.domain.writing import Offered, Sentence, Writer
from lmm_mcp.model.validating import objection
from lmm_mcp.paths import Home

MAX_SENTENCES = 3
_FORMAT = 1


def sentences_of(
    writer: Writer, question: str, offered: Sequence[Offered], *, within_s: float
) -> tuple[tuple[CardSentence, ...], str]:
    """What a model has to say to a question, and its version: what it wrote and was checked, else the lines that it chose.

    Nothing where it finds no answer, or takes too long.
    """
    written = writer.write(question, offered, within_s=within_s)
    if written is None or not written.chosen:
        return (), ""
    by_number = {each.number: each for each in offered}
    quotes = [Sentence(by_number[number].text, (number,)) for number in written.chosen if number in by_number]
    told = list(written.sentences) or [each for each in quotes if not objection(each, offered)]
    found = tuple(
        CardSentence(each.text, tuple((by_number[n].chunk_id, by_number[n].line_number) for n in each.cites))
        for each in told[:MAX_SENTENCES]
    )
    return found, written.model


class CardBox:
    """See the module. Safe to be asked from several threads: each file is replaced whole."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._known: dict[str, tuple[tuple[int, int], tuple[Card, ...]]] = {}

    def of(self, project: str) -> tuple[Card, ...]:
        """All cards of a project; none where there are none, or they cannot be read."""
        path = self._path(project)
        try:
            about = path.stat()
        except OSError:
            return ()
        stamp = about.st_mtime_ns, about.st_ino
        known = self._known.get(project)
        if known is None or known[0] != stamp:
            known = self._known[project] = (stamp, _cards(durable.read_json(path)))
        return known[1]

    def keep(self, card: Card, *, as_of: int) -> bool:
        """Put a card in the place of the one with its subject; whether that was done.

        `as_of`: `artifacts.forgettings` before its passages were read; where something was forgotten since, it is not kept.
        Raises OSError.
        """
        with places.lock(self._home):
            if artifacts.forgettings(self._home) != as_of:
                return False
            others = [each for each in self.of(card.project) if (each.kind, each.subject) != (card.kind, card.subject)]
            self._write(card.project, [*others, card])
        return True

    def drop(self, project: str, wanted: Sequence[tuple[str, str]]) -> None:
        """Drop all cards of a project but those with these (kind, subject). Raises OSError."""
        with places.lock(self._home):
            kept = [each for each in self.of(project) if (each.kind, each.subject) in wanted]
            if len(kept) < len(self.of(project)):
                self._write(project, kept)

    def _write(self, project: str, cards: Sequence[Card]) -> None:
        path = self._path(project)
        durable.make_folder(path.parent)
        durable.write_json(path, {"format": _FORMAT, "cards": [asdict(each) for each in cards]})

    def _path(self, project: str) -> Path:
        name = hashlib.blake2b(project.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        return places.cards_folder(self._home) / f"{name}.json"


@dataclass(frozen=True, slots=True)
class CardsBy:
    """Of a box the cards that one version wrote."""

    box: CardBox
    model: str

    def of(self, project: str) -> tuple[Card, ...]:
        """Its cards of a project."""
        return tuple(card for card in self.box.of(project) if card.model == self.model)


def is_void(card: Card, hashes: Mapping[ChunkId, str]) -> bool:
    """Whether a passage that a card rests on is gone or another one. `hashes`: content hashes of those there are."""
    return any(hashes.get(chunk_id) != told for chunk_id, told in card.sources.items())


def _cards(told: Any) -> tuple[Card, ...]:
    try:
        if told["format"] != _FORMAT:
            return ()
        return tuple(_card(each) for each in told["cards"])
    except (TypeError, KeyError, ValueError):
        return ()


def _card(told: Any) -> Card:
    return Card(
        kind=str(told["kind"]),
        project=str(told["project"]),
        subject=str(told["subject"]),
        sentences=tuple(
            CardSentence(str(each["text"]), tuple((str(chunk_id), int(n)) for chunk_id, n in each["rests_on"]))
            for each in told["sentences"]
        ),
        sources={str(chunk_id): str(told_hash) for chunk_id, told_hash in told["sources"].items()},
        newest_ms=int(told["newest_ms"]),
        model=str(told["model"]),
    )
