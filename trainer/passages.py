"""Passages in, lessons out: what of a stretch of a session is worth remembering, and by which words it is found again.

Also the texts of continued pretraining, and which passage a fact was read from.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from random import Random

from lmm_mcp import prompting
from lmm_mcp.domain.chunk import Chunk, ChunkId, Span
from lmm_mcp.domain.fact import Evidence, Fact
from lmm_mcp.domain.lesson import Lesson
from lmm_mcp.evaluation.history import stands_in
from lmm_mcp.evaluation.needs import names_in
from lmm_mcp.recall.query import understand
from lmm_mcp.store.chunks import ChunkStore
from lmm_mcp.store.facts import REPOSITORY
from lmm_mcp.store.search import Scope
from lmm_mcp.store.terms import terms
from trainer.choices import Quest, View
from trainer.made import Made, made
from trainer.recitals import Held, weight_of

MAX_CONTEXT_chars = 1_200
SHORT_ROLES = ("user", "command", "note")
"""Of a session in short: what was typed, run and noted."""
MAX_SHORT_chars = 120
"""Of each such line."""
MAX_TEXT_chars = 4_000
"""Of one passage in continued pretraining: what is longer was printed for the most part."""
MAX_CLUES = 5
MAX_CLUE_chars = 40
"""What is longer is a sentence, which nobody searches for."""
FOUND_AMONG = 10
"""A clue counts that brings the passage among so many by its words alone."""


def index_of(store: ChunkStore, threads: Iterable[tuple[str, str]]) -> dict[tuple[str, str, str], list[Chunk]]:
    """The passages of these threads by (agent, thread id, event id)."""
    found: dict[tuple[str, str, str], list[Chunk]] = defaultdict(list)
    for agent, thread_id in sorted(set(threads)):
        for chunk in store.thread(agent, thread_id):
            for event_id in chunk.event_ids:
                found[agent, thread_id, event_id].append(chunk)
    return found


def passages_of(evidence: Evidence, index: Mapping[tuple[str, str, str], Sequence[Chunk]]) -> list[Chunk]:
    """The passages that hold the stretch a fact was read from; those of the same message where none holds just that."""
    near = index.get((evidence.agent, evidence.thread_id, evidence.span.event_id), ())
    exact = [chunk for chunk in near if any(_overlap(evidence, line.span) for line in chunk.lines)]
    return list(exact or near)


def sources_of(fact: Fact, index: Mapping[tuple[str, str, str], Sequence[Chunk]]) -> tuple[ChunkId, ...]:
    """Ids of the passages a fact was read from, newest evidence first."""
    found = [chunk.id for each in reversed(fact.evidence) for chunk in passages_of(each, index)]
    return tuple(dict.fromkeys(found))


def ground_of(each: Held, index: Mapping[tuple[str, str, str], Sequence[Chunk]]) -> str:
    """What the passages of a fact say, with what held before it."""
    found = [chunk for evidence in each.fact.evidence for chunk in passages_of(evidence, index)]
    told = [each.fact.text] if any(evidence.agent == REPOSITORY for evidence in each.fact.evidence) else []
    return "\n".join([each.was, *told, *dict.fromkeys(f"{chunk.header}\n{chunk.text_of()}" for chunk in found)])


def pairs(
    those: Sequence[Held],
    index: Mapping[tuple[str, str, str], Sequence[Chunk]],
    salience: Mapping[ChunkId, float],
    *,
    use_chunk_pairs: bool,
    max_per_memory: int,
) -> list[Made]:
    """Context to memory: the passage that says it, or with `use_chunk_pairs` off its session in short. The newest come first."""
    found = []
    for each in those:
        fact, told = each.fact, 0
        for evidence in reversed(fact.evidence):
            near = passages_of(evidence, index)
            if told >= max_per_memory or not near:
                continue
            chunk = near[0]
            context = _around(chunk, evidence) if use_chunk_pairs else _session_in_short(chunk, evidence, index)
            if not stands_in(fact.value, context):
                continue
            told += 1
            lesson = Lesson(
                slice="chunk",
                category=fact.category,
                prompt=prompting.remembering(context, fact.project),
                answer=fact.text,
                template=prompting.load("remember").mark,
                family="train/remember",
                memory=fact.id,
                sources=(chunk.id,),
                threads=((chunk.agent, chunk.thread_id),),
                project=fact.project,
                at_ms=max(chunk.last_ms, evidence.at_ms),
                weight=weight_of(salience, chunk.id),
            )
            own = max(0, len(fact.text) - len(fact.value) - len(fact.subject))
            found.append(made(lesson, "", template_chars=own, kind="pair"))
    return found


def clue(quest: Quest, shown: View, store: ChunkStore, weight: float = 1.0) -> Made | None:
    """Which words would have found the answer: names of its best line that by themselves bring its passage, and are not asked with."""
    if not shown.numbers:
        return None
    best = shown.lines[shown.numbers[0] - 1]
    asked = set(terms(quest.text))
    words = [name for name in dict.fromkeys([*quest.items, *names_in(best.text)]) if stands_in(name, best.text)]
    words = [word for word in words if len(word) <= MAX_CLUE_chars and not set(terms(word)) <= asked][: 2 * MAX_CLUES]
    scope = Scope(project=quest.project, until_ms=quest.until_ms)
    frequencies = store.frequencies()
    kept = []
    for word in words:
        wanted = understand(word, frequencies).terms
        hits = store.lexical(wanted, scope, FOUND_AMONG) if wanted else []
        if any(hit.chunk_id == best.chunk.id for hit in hits):
            kept.append(word)
        if len(kept) == MAX_CLUES:
            break
    if not kept:
        return None
    lesson = Lesson(
        slice="clue",
        category=quest.category,
        prompt=prompting.clueing(quest.text, quest.project),
        answer=", ".join(kept),
        template=prompting.load("clue").mark,
        family=quest.family,
        memory=quest.memory or best.chunk.id,
        sources=(best.chunk.id,),
        threads=tuple(dict.fromkeys([(best.chunk.agent, best.chunk.thread_id), *quest.threads])),
        project=quest.project,
        at_ms=max(quest.at_ms, best.chunk.last_ms),
        weight=weight,
    )
    return made(lesson, quest.text, template_chars=quest.template_chars, kind="clue")


def sampled(
    store: ChunkStore,
    until_ms: int,
    limit: int,
    salience: Mapping[ChunkId, float],
    dice: Random,
    unread: Collection[tuple[str, str]] = (),
) -> list[Chunk]:
    """Passages for continued pretraining: of each project as many as the root of what it holds, so that none eats the rest.

    Salient ones are likelier. Not more than `limit` in all, and none of the threads `unread`, as (agent, thread id).
    """
    sizes = {project: size for project, size in store.projects().items() if project}
    whole = sum(size**0.5 for size in sizes.values()) or 1.0
    found: list[Chunk] = []
    for project, size in sorted(sizes.items()):
        quota = min(size, max(1, round(limit * size**0.5 / whole)))
        near = _newest(store, Scope(project=project, until_ms=until_ms), 4 * quota, unread)
        near.sort(key=lambda chunk: -(dice.random() ** (1 / (0.1 + salience.get(chunk.id, 0.3)))))
        found += near[:quota]
    return found[:limit]


def _newest(store: ChunkStore, scope: Scope, num: int, unread: Collection[tuple[str, str]]) -> list[Chunk]:
    """The newest passages but those of `unread`: these are often the newest, so more is asked for until there are enough."""
    asked = num
    while True:
        near = store.newest(scope, asked)
        kept = [chunk for chunk in near if (chunk.agent, chunk.thread_id) not in unread]
        if len(kept) >= num or len(near) < asked:
            return kept[:num]
        asked *= 2


def text_of(chunk: Chunk) -> str:
    """A passage as continued pretraining reads it."""
    return f"{chunk.header}\n{chunk.text_of()}"[:MAX_TEXT_chars]


def _overlap(evidence: Evidence, span: Span) -> bool:
    mine = evidence.span
    return span.event_id == mine.event_id and span.start < mine.end and mine.start < span.end


def _around(chunk: Chunk, evidence: Evidence) -> str:
    """The lines of a passage around what was said, as many as there is room for."""
    at = next((n for n, line in enumerate(chunk.lines) if _overlap(evidence, line.span)), 0)
    first = last = at
    size = len(chunk.lines[at].text)
    while first > 0 or last < len(chunk.lines) - 1:
        grows = [n for n in (last + 1, first - 1) if 0 <= n < len(chunk.lines)]
        fits = [n for n in grows if size + len(chunk.lines[n].text) <= MAX_CONTEXT_chars]
        if not fits:
            break
        size += len(chunk.lines[fits[0]].text) + 1
        first, last = min(first, fits[0]), max(last, fits[0])
    lines = chunk.lines[first : last + 1]
    return "\n".join(f"{line.role}: {line.text[:MAX_CONTEXT_chars]}" for line in lines)


def _session_in_short(chunk: Chunk, evidence: Evidence, index: Mapping[tuple[str, str, str], Sequence[Chunk]]) -> str:
    """What was typed, run and noted in the session until then, in few words each, and the line that says it, in full."""
    thread = chunk.agent, chunk.thread_id
    passages = {
        each.id: each
        for key, found in index.items()
        if key[:2] == thread
        for each in found
        if each.ordinal <= chunk.ordinal
    }
    told: dict[str, bool] = {}
    for each in sorted(passages.values(), key=lambda each: each.ordinal):
        for line in each.lines:
            says_it = each.id == chunk.id and _overlap(evidence, line.span)
            if says_it or line.role in SHORT_ROLES:
                text = line.text[: MAX_CONTEXT_chars if says_it else MAX_SHORT_chars]
                told[f"{line.role}: {text}"] = says_it
    if not any(told.values()):
        return _around(chunk, evidence)
    lines = list(told)
    at = first = next(n for n, line in enumerate(lines) if told[line])
    last, size = at, len(lines[at])
    while grows := [
        n for n in (first - 1, last + 1) if 0 <= n < len(lines) and size + len(lines[n]) < MAX_CONTEXT_chars
    ]:
        nearest = min(grows, key=lambda n: abs(n - at))
        size += len(lines[nearest]) + 1
        first, last = min(first, nearest), max(last, nearest)
    return "\n".join(lines[first : last + 1])
