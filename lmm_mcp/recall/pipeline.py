"""Question to brief: query > candidates > fusion > evidence > brief. Deterministic for a given store."""

import copy
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lmm_mcp.domain.card import Cards
from lmm_mcp.domain.chunk import Chunk
from lmm_mcp.domain.recall import MAX_BUDGET_tokens, Question, Recall
from lmm_mcp.domain.writing import Writer
from lmm_mcp.embedding import Embedder
from lmm_mcp.recall import brief, cards, confidence, failures, fixes, listing, naming
from lmm_mcp.recall.candidates import NOTHING, Candidates, gather, scope_of
from lmm_mcp.recall.changes import KnowsChanges
from lmm_mcp.recall.evidence import MAX_CHUNKS, only_asks, pick
from lmm_mcp.recall.found import Evidence
from lmm_mcp.recall.fusion import LEXICAL_SHARE, LEXICAL_SHARE_FOREIGN, fuse
from lmm_mcp.recall.hubs import levelled
from lmm_mcp.recall.offering import offered
from lmm_mcp.recall.query import Query, understand
from lmm_mcp.recall.reranking import Model
from lmm_mcp.recall.telling import Answer, answer
from lmm_mcp.recall.when import DAY_ms
from lmm_mcp.store.chunks import ChunkStore, Scope

NUM_BEST_BY_WORDS = 5
FILE_SHARE = 0.5
"""What a passage gains that touched the files which are asked about; half of it where something else is asked, too."""
TIME_SHARE = 0.5
"""What a passage of the time that is named gains."""
NAME_SHARE = 0.25
"""What a passage of the agent, or of the project, that is named gains."""

DOUBTED = 1.1
"""Where the memory model says that nothing here answers, the best line must score this much more than else to be told."""


class Recaller:
    """Answers questions from one open store. Thread-safe as far as the store is; holds no state of its own."""

    def __init__(
        self,
        store: ChunkStore,
        embedder: Embedder | None,
        without: frozenset[str] = frozenset(),
        *,
        writer: Writer | None = None,
        within_s: float = 0.3,
        cards: Cards | None = None,
        reranker: Model | None = None,
        changes: KnowsChanges | None = None,
    ) -> None:
        """`without`: parts to leave out, of `domain.recall.PARTS`. `within_s`: how long to wait for `writer`."""
        self._changes = None if "changes" in without else changes
        self._writer = None if "model" in without else writer
        self._within_s = within_s
        self._cards = None if "cards" in without else cards
        self._reranker = reranker
        self._store = store
        self._embedder = embedder
        self._without = without

    def over(self, store: ChunkStore, embedder: Embedder | None) -> "Recaller":
        """The same, reading another store with another model."""
        other = copy.copy(self)
        other._store, other._embedder = store, embedder
        return other

    def recall(self, question: Question) -> Recall:
        """Find, weigh, and write the brief; or say that nothing is known."""
        told = self.answer(question)
        if told.lines:
            is_weak_told = "weak" in self._without
            lines = told.lines if is_weak_told else confidence.worth_telling(told.lines, told.num_chosen)
            written = brief.write(lines, budget_tokens=question.budget_tokens, sentences=told.sentences)
            if written is not None:
                return replace(written, notes=(*written.notes, *told.notes))
        return brief.nothing(self._store.count(scope_of(question)), everywhere=question.project is None)

    def evidence(self, question: Question) -> list[Evidence]:
        """The lines that answer, most useful first; none where nothing that was found says anything about the question."""
        return list(self.answer(question).lines)

    def answer(self, question: Question) -> Answer:
        """The lines that answer, and what the memory model made of them where one serves."""
        found = self.search(question)
        lines, is_sure = self._weighed(question, found)
        if not lines:
            return Answer()
        if self._writer is None or not found.scores:
            return self._with_card(question, found, Answer(tuple(lines)))
        written = self._writer.write(question.text, offered(lines), within_s=self._within_s)
        told = answer(lines, written, is_sure=is_sure)
        return told if told.sentences or not told.lines else self._with_card(question, found, told)

    def ranked(self, question: Question) -> tuple[list[Evidence], bool]:
        """The lines that answer without any memory model, and whether they are told though one finds no answer in them."""
        return self._weighed(question, self.search(question))

    def _weighed(self, question: Question, found: "Search") -> tuple[list[Evidence], bool]:
        """The lines of what was found, none where they say too little; and whether the ranking is sure of them."""
        is_open = "confidence" in self._without
        lines = found.lines(budget_tokens=question.budget_tokens, without=self._without)
        if not lines or not (is_open or found.is_enough(lines)):
            return [], False
        return lines, is_open or not found.scores or found.is_sure(lines)

    def _with_card(self, question: Question, found: "Search", told: Answer) -> Answer:
        """Add what was written about the subject before, where the question is of one and names no agent and no beginning."""
        if self._cards is None or not question.project or question.agent is not None or question.since_ms is not None:
            return told
        # Of the past those that rest on nothing later. When a card was written is no matter: it says what its lines say, and
        # `newest_ms` is of all that its writer saw, not only of what it quotes.
        until_ms = question.until_ms
        known = [
            card for card in self._cards.of(question.project) if until_ms is None or 0 < card.newest_ms <= until_ms
        ]
        card = cards.matching(found.query, known)
        sentences = cards.told(card, self._store.get(list(card.sources)), told.lines) if card is not None else ()
        return replace(told, sentences=sentences, card_by=card.model) if card is not None and sentences else told

    def search(self, question: Question) -> "Search":
        """The passages that may answer, best first, and all that is known of them."""
        asked_ms = None if "times" in self._without else question.asked_ms
        query = understand(question.text, self._store.frequencies(), asked_ms).lacking(self._without)
        if query.asks_of_times or query.asks_of_failures:
            done = self._store.newest(_then(question, query, spare_ms=0), listing.MAX_CHUNKS)
            told = listing.listed(done) if query.asks_of_times else failures.listed(done, self._after(question))
            return Search(query, NOTHING, {}, done if told else (), told, without=self._without)
        candidates = gather(self._store, query, scope_of(question), self._embedder, without=self._without)
        then = NOTHING
        if query.periods:  # what was said then may be far down among all that was ever said
            then = gather(self._store, query, _then(question, query), self._embedder, without=self._without)
            candidates = candidates.joined(then)
        ranking = candidates if "hubs" in self._without else levelled(candidates)
        scores = self._fused(ranking, LEXICAL_SHARE)
        chunks = self._store.get([*list(scores)[:MAX_CHUNKS], *then.lexical, *then.nearest])
        asked = () if "asked" in self._without else {chunk.id for chunk in chunks if only_asks(query, chunk)}
        if asked:
            chunks = [chunk for chunk in chunks if chunk.id not in asked]
            candidates, ranking = candidates.without(asked), ranking.without(asked)
        repeated = LEXICAL_SHARE if "share" in self._without else _repeated(query, candidates, chunks)
        scores, plain = (self._fused(each, min(LEXICAL_SHARE, repeated)) for each in (ranking, candidates))
        chunks.sort(key=lambda chunk: -scores[chunk.id])
        boosts = _boosts(question, query, chunks, self._without)
        gained = {each.id: sum(gain.get(each.id, 0.0) for gain in boosts.values()) for each in chunks}
        scores, plain = (of | {name: of[name] + gain for name, gain in gained.items()} for of in (scores, plain))
        chunks.sort(key=lambda chunk: -scores[chunk.id])
        first = self._mended(question, query, chunks)
        return Search(
            query,
            candidates,
            scores,
            chunks,
            ranking=ranking,
            plain=plain,
            first=first,
            reranker=self._reranker,
            changes=None if question.agent else self._changes,
            until_ms=question.until_ms,
            boosts=boosts,
            without=self._without,
        )

    def _mended(self, question: Question, query: Query, chunks: Sequence[Chunk]) -> list[Evidence]:
        """What mended the errors that are asked about when they came before, the newest first."""
        told: list[Evidence] = []
        num_told = 0
        for error in fixes.met(query.failures, chunks) if query.failures else ():
            if found := fixes.mended(error, self._after(question)(error.chunk)):
                told += found
                num_told += 1
            if num_told == fixes.MAX_TOLD:
                break
        return told

    def _after(self, question: Question) -> Callable[[Chunk], list[Chunk]]:
        """The next passages of a thread, as of when it is asked."""
        until_ms = math.inf if question.until_ms is None else question.until_ms
        return lambda chunk: [
            each for each in self._store.following(chunk, fixes.MAX_PASSAGES_after) if each.last_ms <= until_ms
        ]

    def _fused(self, candidates: Candidates, lexical_share: float) -> dict[str, float]:
        if candidates.is_foreign:
            return fuse(candidates.lexical, candidates.nearest, lexical_share=LEXICAL_SHARE_FOREIGN)
        share = 0.0 if "words" in self._without else lexical_share
        return fuse(candidates.lexical, candidates.nearest, candidates.best_windows, lexical_share=share)


def _boosts(
    question: Question, query: Query, chunks: Sequence[Chunk], without: Collection[str]
) -> dict[str, dict[str, float]]:
    """What passages gain beside words and meaning, by reason and chunk id."""
    of_files = FILE_SHARE if query.asks_of_files else FILE_SHARE / 2
    agents, projects = frozenset[str](), frozenset[str]()
    if "names" not in without:
        agents = naming.agents(question.text, chunks) if question.agent is None else agents
        projects = naming.projects(question.text, chunks) if question.project is None else projects
    found = {
        "file": {each.id: of_files for each in chunks if query.paths and query.touches(each.files)},
        "time": {each.id: TIME_SHARE * query.nearness(each) for each in chunks if query.periods},
        "agent": {each.id: NAME_SHARE for each in chunks if each.agent in agents},
        "project": {each.id: NAME_SHARE for each in chunks if each.project in projects},
    }
    return {reason: gains for reason, gains in found.items() if gains}


def _then(question: Question, query: Query, spare_ms: int = DAY_ms) -> Scope:
    """What may be searched, within the times that the question names and a little to either side of them."""
    scope = scope_of(question)
    since_ms = min(each.since_ms for each in query.periods) - spare_ms
    until_ms = max(each.until_ms for each in query.periods) + spare_ms
    return replace(
        scope,
        since_ms=max(since_ms, scope.since_ms or 0),
        until_ms=until_ms if scope.until_ms is None else min(until_ms, scope.until_ms),
    )


def _repeated(query: Query, candidates: Candidates, chunks: Sequence[Chunk]) -> float:
    """Share of the question's information that the best passage by words repeats: words count as far as they are met."""
    best = set(list(candidates.lexical)[:NUM_BEST_BY_WORDS])
    return query.best_overlap((line.text for line in chunk.lines) for chunk in chunks if chunk.id in best)


@dataclass(frozen=True, slots=True)
class Search:
    """What a question found before its lines are weighed."""

    query: Query
    candidates: Candidates
    scores: Mapping[str, float]
    """Fused, 0 to 1, by chunk id, best first."""
    chunks: Sequence[Chunk]
    """The best of them, without those that only ask the same."""
    listed: Sequence[Evidence] = ()
    """Where nothing but a time was asked about: what was done then, or what failed."""
    first: Sequence[Evidence] = ()
    """What is told before all that was ranked: what mended the same error before."""
    reranker: Model | None = None
    """What was learnt of the order of lines; None where nothing was."""
    changes: KnowsChanges | None = None
    """What was replaced by what; None where nobody knows, or where one agent's sessions alone are asked about."""
    until_ms: int | None = None
    """As of when it is asked."""
    boosts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """What passages gained beside words and meaning, by reason and chunk id; `scores` hold it."""
    without: frozenset[str] = frozenset()
    """Parts that were left out."""
    ranking: Candidates | None = None
    """`candidates` with the similarities by which they are ranked (`hubs`); None where nothing was."""
    plain: Mapping[str, float] | None = None
    """As `scores`, of similarities as they are: by these silence is decided."""

    def is_enough(self, lines: Sequence[Evidence]) -> bool:
        """Whether anything that was found is worth telling."""
        return bool(self.listed or self.first) or confidence.is_enough(self.query, self.candidates, self.chunks, lines)

    def is_sure(self, lines: Sequence[Evidence]) -> bool:
        """Whether the ranking stands by what it found though the memory model finds no answer in it."""
        floor = confidence.floor(self.query, self.candidates) or confidence.MIN_SCORE
        return bool(self.first) or max((each.score for each in lines), default=0.0) >= DOUBTED * floor

    def lines(self, *, budget_tokens: int = MAX_BUDGET_tokens, without: Collection[str] = ()) -> list[Evidence]:
        """Their lines, most useful first, as many as a budget may hold. `without`: further parts to leave out."""
        without = self.without.union(without)
        is_labelled = "labels" not in without
        first, listed = (
            [each if is_labelled else replace(each, of="") for each in found] for found in (self.first, self.listed)
        )
        if listed:
            return listed
        found = pick(
            self.query,
            self.chunks,
            self.scores,
            self.candidates,
            ranking=self.ranking,
            plain=self.plain,
            budget_tokens=budget_tokens,
            without=without,
            reranker=self.reranker,
            changes=self.changes,
            until_ms=self.until_ms,
        )
        told = {each.text.casefold() for each in first}
        return [*first, *(each for each in found if each.text.casefold() not in told)]
