"""A question in, search terms out: what the lexical side looks for, and how much each term says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lmm_mcp.store.frequencies import Frequencies
from lmm_mcp.store.terms import terms


@dataclass(frozen=True, slots=True)
class Query:
    """A question as the stations of recall see it."""

    text: str
    idf: Mapping[str, float]
    """Each distinct term of the question, in order, with its inverse document frequency in nats; more = rarer."""

    @property
    def terms(self) -> tuple[str, ...]:
        """The distinct terms in the order of the question."""
        return tuple(self.idf)

    def overlap(self, found: frozenset[str]) -> float:
        """Share of the question's information that `found` repeats, 0 to 1."""
        total = sum(self.idf.values())
        return sum(idf for term, idf in self.idf.items() if term in found) / total if total else 0.0


def understand(text: str, frequencies: Frequencies) -> Query:
    """Analyse a question.

    >>> understand("Which port does the dev server use?", Frequencies.none()).terms
    ('port', 'dev', 'server', 'use')
    """
    distinct: Sequence[str] = tuple(dict.fromkeys(terms(text)))
    return Query(text=text, idf=frequencies.idf(distinct))
