"""A question and the cards of its project in, the sentences of a matching card out, as long as they hold.

A card holds while every passage it rests on is as it was, and nothing that was found for the question is younger than what its
writer saw.
"""

from collections.abc import Sequence

from lmm_mcp.domain.card import Card, CardSentence
from lmm_mcp.domain.chunk import Chunk
from lmm_mcp.recall.evidence import quoted
from lmm_mcp.recall.found import Evidence
from lmm_mcp.recall.query import Query
from lmm_mcp.recall.signatures import same
from lmm_mcp.recall.telling import Told
from lmm_mcp.store.terms import terms

_OF_A_PROJECT = frozenset(
    terms(
        "project repo repository code codebase overview summary summarise about know state status brief tell us context"
    )
)
AMONG = 12
"""Best lines among which a younger one makes a card void."""


def matching(query: Query, cards: Sequence[Card]) -> Card | None:
    """The card that answers a question, None where none does."""
    for card in cards:
        match card.kind:
            case "file" if query.touches((card.subject,)):
                return card
            case "error" if any(same(failure, card.subject) for failure in query.failures):
                return card
            case "project" if query.terms and set(query.terms) <= _OF_A_PROJECT | set(terms(card.project)):
                return card
    return None


def told(card: Card, chunks: Sequence[Chunk], lines: Sequence[Evidence]) -> tuple[Told, ...]:
    """Its sentences, none where it does not hold any more. `chunks`: the passages that it rests on, those there are."""
    by_id = {chunk.id: chunk for chunk in chunks}
    is_changed = any(id_ not in by_id or by_id[id_].content_hash != was for id_, was in card.sources.items())
    if is_changed or any(each.chunk.last_ms > card.newest_ms for each in lines[:AMONG]):
        return ()
    superseded = {(each.chunk.id, each.number) for each in lines if each.superseded}
    found = tuple(_sentence(each, by_id) for each in card.sentences)
    return tuple(
        each
        for each in found
        if each is not None and not any((item.chunk.id, item.number) in superseded for item in each.rests_on)
    )


def _sentence(sentence: CardSentence, by_id: dict[str, Chunk]) -> Told | None:
    rests_on = []
    for chunk_id, number in sentence.rests_on:
        if chunk_id not in by_id or number >= len(by_id[chunk_id].lines):
            return None
        line = by_id[chunk_id].lines[number]
        rests_on.append(Evidence(by_id[chunk_id], line, 0.0, quoted(line.text), number=number))
    return Told(quoted(sentence.text), tuple(rests_on)) if rests_on else None
