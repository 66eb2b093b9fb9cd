"""Questions that learn how to rank, with the lines that answer them, without anybody's labels and strict in time.

What sessions asked before they began and what they then needed comes from `trainer.questions`, posed before the session and
once more after it. Two kinds more are made of passages: a prompt, for how its turn ended, and a third of the words of a line,
its values left out, for that line.
"""

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lmm_mcp.domain.chunk import Chunk, ChunkId
from lmm_mcp.evaluation import history, refind
from lmm_mcp.evaluation.history import Session
from lmm_mcp.recall.evidence import MIN_LINE_chars
from lmm_mcp.recall.supersession import values_in
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.chunks import ChunkStore
from lmm_mcp.store.ledger import Ledger
from lmm_mcp.store.terms import terms
from trainer.questions import needs_of

KINDS = ("prompt", "error", "edit", "ending", "made")
MAX_TEXT_chars = 400
"""Of a question; an agent asks for the essence."""
MAX_ENDING_lines = 5
"""Of a turn, that count as what it came to."""
MIN_MADE_words, MAX_MADE_words = 3, 8
_WORDS = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True, slots=True)
class Later:
    """One question with what answers it: items that a line must hold, or the lines themselves."""

    id: str
    kind: str
    """One of KINDS."""
    text: str
    project: str
    session: str
    """Who asks, as agent and id."""
    until_ms: int
    """Nothing later may answer."""
    needed: tuple[str, ...] = ()
    lines: frozenset[tuple[ChunkId, int]] = frozenset()
    """By passage and number."""


def asked(ledger: Ledger, archive: Archive, store: ChunkStore, until_ms: int, *, seed: int = 17) -> list[Later]:
    """All questions of a history. Walks through the archive twice; raises ArchiveError on damage."""
    found = [
        Later(
            need.id,
            need.kind,
            need.text[:MAX_TEXT_chars],
            need.project,
            " ".join(need.session),
            need.until_ms,
            need.items,
        )
        for need in needs_of(ledger, archive, until_ms)
    ]
    return found + told(store, history.sessions(ledger), random.Random(seed))  # noqa: S311 - a draw, no secret


def told(store: ChunkStore, sessions: Iterable[Session], rng: random.Random) -> list[Later]:
    """Questions made of passages, asked when their session was over."""
    found: list[Later] = []
    for session in sessions:
        name, end_ms = f"{session.agent} {session.id}", max((row.last_ms for row in session.rows), default=0)
        for row in session.rows:
            if row.thread.is_subagent or not row.last_ms:
                continue
            for turn in _turns(store.thread(session.agent, row.thread.thread_id)):
                found += _of_turn(turn, session.project, name, end_ms, rng)
    return found


def at_most(found: Sequence[Later], limit: int) -> list[Later]:
    """As many, evenly of all kinds and sessions; the same ones every time."""
    return history.spread(found, limit, ids=lambda each: each.id, groups=lambda each: (each.kind, each.session))


def _turns(chunks: Iterable[Chunk]) -> Iterator[list[Chunk]]:
    """The parts of each turn together."""
    turn: list[Chunk] = []
    for chunk in chunks:
        if chunk.part == 0 and turn:
            yield turn
            turn = []
        turn.append(chunk)
    if turn:
        yield turn


def _of_turn(turn: Sequence[Chunk], project: str, name: str, end_ms: int, rng: random.Random) -> Iterator[Later]:
    prompt = " ".join(line.text for line in turn[0].lines if line.role == "user")
    said = [
        (chunk, n)
        for chunk in turn
        for n, line in enumerate(chunk.lines)
        if line.role == "agent" and len(line.text) >= MIN_LINE_chars
    ]
    if refind.is_question(prompt) and len(prompt) <= MAX_TEXT_chars and said:
        ends = frozenset((chunk.id, n) for chunk, n in said[-MAX_ENDING_lines:])
        yield Later(f"{turn[0].id}-end", "ending", prompt, project, name, end_ms, lines=ends)
    telling = [(chunk, n) for chunk, n in said if values_in(chunk.lines[n].text)]
    if telling:
        chunk, n = rng.choice(telling)
        words = [word for word in _WORDS.findall(chunk.lines[n].text) if not values_in(word) and terms(word)]
        if len(words) >= 2 * MIN_MADE_words:
            kept = sorted(rng.sample(range(len(words)), max(MIN_MADE_words, len(words) // 3)))
            text = " ".join(words[at] for at in kept[:MAX_MADE_words])
            line = frozenset({(chunk.id, n)})
            yield Later(f"{chunk.id}-made", "made", text, project, name, end_ms, lines=line)


def by_kind(found: Iterable[Later]) -> dict[str, int]:
    """How many there are of each kind."""
    num: dict[str, int] = defaultdict(int)
    for each in found:
        num[each.kind] += 1
    return dict(num)
