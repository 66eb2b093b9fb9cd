"""Talks between two people as a ruler: dated sessions whose turns are known to answer questions, and who finds those turns.

A suite in, rows out. The talks are remembered as sessions are (`write`, then the product's own import): a talk is a project,
each of its sessions a thread, each turn a message under its own id. So what is found can be traced to turns: a ranking is the
turns in the order in which they were first found, and sessions are ranked by their first turn.
"""

import io
import json
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from lmm_mcp.domain.chunk import ChunkId
from lmm_mcp.domain.event import Event, Thread
from lmm_mcp.domain.recall import MAX_BUDGET_tokens, Question
from lmm_mcp.embedding import Embedder, embed_query
from lmm_mcp.errors import BadInput
from lmm_mcp.evaluation.arms import NUM_RANKED, RRF_K
from lmm_mcp.evaluation.runs import Row
from lmm_mcp.recall.pipeline import Recaller
from lmm_mcp.store.chunks import ChunkStore, Scope
from lmm_mcp.store.exporting import json_lines, written_beside
from lmm_mcp.store.terms import terms

AGENT = "conversation"
PASSAGE_ARMS = ("bm25", "vectors", "fusion")
"""What ranks whole passages; the turns of each follow in their order."""
ARMS = ("recall", *PASSAGE_ARMS)
SECOND_ms = 1000

T = TypeVar("T")
TurnId = str
Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Turn:
    """What one of the two said."""

    id: TurnId
    """Unique among all talks of a suite."""
    speaker: str
    """Stands before what was said, '' where a reader need not be told."""
    text: str
    kind: Literal["prompt", "reply"]
    """Which of the two is taken for the person, and which for the agent."""


@dataclass(frozen=True, slots=True)
class Session:
    """What was said at one time."""

    id: str
    """Unique among all talks of a suite."""
    at_ms: int
    """UTC, milliseconds since 1970. Turns are taken to follow each other by a second."""
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Conversation:
    """One talk over many sessions."""

    id: str
    sessions: tuple[Session, ...]

    @property
    def project(self) -> str:
        """The project under which it is remembered."""
        return f"/conversations/{self.id}"

    @property
    def ends_ms(self) -> int:
        """When its last turn was said."""
        return max(session.at_ms + len(session.turns) * SECOND_ms for session in self.sessions)


@dataclass(frozen=True, slots=True)
class Posed:
    """One question about a talk, with what answers it."""

    id: str
    text: str
    conversation: str
    gold_turns: frozenset[TurnId]
    """Empty where only the sessions are known."""
    gold_sessions: frozenset[str]
    groups: tuple[str, ...]
    asked_ms: int | None = None
    """When it is asked; None: after everything."""
    others: frozenset[TurnId] = frozenset()
    """Turns that lie in the same talk only to save work, and are struck from the ranking."""


@dataclass(frozen=True, slots=True)
class Found:
    """Turns as they were ranked, and their sessions by the first of each; each once."""

    turns: tuple[TurnId, ...]
    sessions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Suite:
    """Talks, and what is asked about them."""

    name: str
    conversations: tuple[Conversation, ...]
    questions: tuple[Posed, ...]
    judge: Callable[[Posed, Found], Figures]
    left_out: Mapping[str, int] = field(default_factory=dict)
    """How many questions are not asked, by reason."""

    def sampled(self, limit: int | None) -> "Suite":
        """The same talks with at most `limit` questions, spread evenly over all."""
        return self if limit is None else replace(self, questions=tuple(spread(self.questions, limit)))


Rank = Callable[[Posed, Scope], Iterable[TurnId]]
"""Turns for a question within a scope, best first; a turn may come more than once."""


def spread(items: Sequence[T], limit: int) -> list[T]:
    """At most `limit` of the items, evenly over all of them.

    >>> spread(range(10), 4)
    [0, 2, 5, 7]
    """
    return list(items) if len(items) <= limit else [items[n * len(items) // limit] for n in range(limit)]


def records(path: Path) -> list[Any]:
    """The records of a suite's file, which is one list. Raises BadInput."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise BadInput(f"{path} cannot be read: {problem}") from problem
    if not isinstance(found, list) or not found:
        raise BadInput(f"{path} holds no list of records; name a file of the suite as it was published.")
    return found


def write(conversations: Iterable[Conversation], target: Path) -> None:
    """Write talks as an export that `lmm import` reads; left alone where it holds the same already.

    Raises BadInput where it holds something else.
    """
    written = io.BytesIO()
    json_lines(((thread, events) for each in conversations for thread, events in _threads(each)), written, "lmm bench")
    if target.exists():
        if target.read_bytes() != written.getvalue():
            raise BadInput(f"{target.parent} holds other conversations; name an empty folder, or remove that one.")
        return
    with written_beside(target) as beside:
        beside.write_bytes(written.getvalue())


def _threads(conversation: Conversation) -> Iterator[tuple[Thread, list[Event]]]:
    for session in conversation.sessions:
        events = [
            Event(
                turn.id,
                turn.kind,
                f"{turn.speaker}: {turn.text}" if turn.speaker else turn.text,
                session.at_ms + n * SECOND_ms,
            )
            for n, turn in enumerate(session.turns)
        ]
        yield Thread(AGENT, session.id, session.id, cwd=conversation.project), events


def by_recall(recaller: Recaller) -> Rank:
    """What the recall tool would quote, line by line, with the largest budget that it takes."""

    def rank(posed: Posed, scope: Scope) -> Iterator[TurnId]:
        question = Question(posed.text, scope.project, until_ms=scope.until_ms, budget_tokens=MAX_BUDGET_tokens)
        return (evidence.line.span.event_id for evidence in recaller.evidence(question))

    return rank


def by_passages(arm: str, store: ChunkStore, embedder: Embedder | None) -> Rank:
    """Whole passages, by the words of the question, by its meaning, or by both; see `PASSAGE_ARMS`. Raises BadInput."""
    if arm != "bm25" and embedder is None:
        raise BadInput(f"the arm {arm} needs a model, and there is none; `lmm embedder install` makes one ready.")

    def rank(posed: Posed, scope: Scope) -> Iterator[TurnId]:
        rankings = []
        if arm != "vectors":
            rankings.append(store.lexical(terms(posed.text), scope, NUM_RANKED))
        if arm != "bm25" and embedder is not None:
            rankings.append(store.nearest(embed_query(embedder, posed.text), scope, NUM_RANKED))
        scores: dict[ChunkId, float] = {}
        for hits in rankings:
            for n, hit in enumerate(hits, 1):
                scores[hit.chunk_id] = scores.get(hit.chunk_id, 0.0) + 1 / (RRF_K + n)
        best = sorted(scores, key=lambda each: (-scores[each], each))[:NUM_RANKED]
        return (event_id for chunk in store.get(best) for event_id in chunk.event_ids)

    return rank


def run(suite: Suite, rank: Rank, *, pooled: bool = False, num_warm: int = 3) -> Iterator[Row]:
    """Pose every question and judge what was found, one after the other.

    `pooled`: all talks are searched, not only the one that is asked about. The first `num_warm` are asked once before,
    untimed: the ruler is a warm server. A time is that of the ranking alone.
    """
    talks = {each.id: each for each in suite.conversations}
    session_of = {turn.id: part.id for each in talks.values() for part in each.sessions for turn in part.turns}

    def scope_of(posed: Posed) -> Scope:
        # Some suites date a question before the end of the talk that they ask about: all of a talk is searched.
        talk = talks[posed.conversation]
        until_ms = None if posed.asked_ms is None else max(posed.asked_ms, talk.ends_ms)
        return Scope(project=None if pooled else talk.project, until_ms=until_ms)

    for posed in suite.questions[:num_warm]:
        list(rank(posed, scope_of(posed)))
    for posed in suite.questions:
        started = time.perf_counter()
        turns = tuple(dict.fromkeys(rank(posed, scope_of(posed))))
        ms = (time.perf_counter() - started) * 1000
        found = Found(turns, tuple(dict.fromkeys(session_of[turn] for turn in turns)))
        yield Row(posed.id, posed.groups, suite.judge(posed, found), round(ms, 2))


def share(gold: Collection[str], ranked: Sequence[str], depth: int) -> float:
    """Which share of `gold` is among the first `depth`.

    >>> share({"a", "b"}, ["a", "c", "b"], 2)
    0.5
    """
    return len(frozenset(gold) & frozenset(ranked[:depth])) / len(gold)


def ndcg(gold: Collection[str], ranked: Sequence[str], depth: int) -> float:
    """Normalised discounted gain: 1 where all of `gold` stands before anything else.

    The second place is not discounted yet (Järvelin and Kekäläinen 2002 with base 2), as in the code that LongMemEval's own
    figures were made with.

    >>> ndcg({"a", "b"}, ["a", "b"], 10), round(ndcg({"a"}, ["c", "c", "a"], 10), 3)
    (1.0, 0.631)
    """
    gains = [1 / max(1.0, math.log2(place)) for place in range(1, depth + 1)]
    reached = sum(gain for gain, each in zip(gains, ranked, strict=False) if each in gold)
    return reached / sum(gains[: len(gold)])
