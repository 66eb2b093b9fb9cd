"""Fits the sentence model to a user's own sessions, on a CPU in minutes, and decides by itself whether that was of use.

What is learnt from: prompts and how their turns ended, and a few words of a line and that line (`trainer.later`), against the
windows of the same project that the model takes for nearest (multiple negatives ranking, temperature 0.05). An anchor keeps
every vector near where it was, since most of what will be asked is of neither kind. Judged on projects that it did not
learn from, and on prompts that should find earlier work on the files they then changed (`evaluation.refind`): a kind of
question it never saw. Whoever wins on the one and loses on the other has learnt the kind, not the user.

Axes: B batch, D dimensions, W windows.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn import functional

from lmm_mcp.domain import windows
from lmm_mcp.evaluation import runs
from lmm_mcp.store.chunks import ChunkStore
from trainer.encoder import Below, Encoder
from trainer.later import Later

NUM_HARD = 1
"""Hard negatives of each pair, of the ten nearest windows of other sessions."""
MIN_PAIRS = 100
POOL = 400
"""Windows of a project among which the right one is to be found."""


@dataclass(frozen=True, slots=True)
class Dials:
    """What may be turned. `learning`: layers at the top that learn; `anchor`: weight of staying near."""

    steps: int = 150
    batch: int = 16
    learning: int = 2
    lr: float = 3e-5
    temperature: float = 0.05
    anchor: float = 1.0
    seed: int = 17


@dataclass(frozen=True, slots=True)
class Pair:
    """A question with the windows that answer it, and some that only look like it."""

    kind: str
    project: str
    question: str
    right: tuple[str, ...]
    hard: tuple[str, ...]


class Tokens(Protocol):
    """A tokenizer, as the `tokenizers` library has it."""

    def encode(self, sequence: str, /) -> Any:
        """With `.ids`."""
        ...


def pairs(
    store: ChunkStore, told: Sequence[Later], pool: Mapping[str, "Pool"], embed: Callable[[str], np.ndarray]
) -> list[Pair]:
    """Questions with their windows as text. `embed`: the model as it is."""
    ids = sorted({chunk_id for each in told for chunk_id, _ in each.lines})
    chunks = {chunk.id: chunk for chunk in store.get(ids)}
    found = []
    for each in told:
        right = []
        for chunk_id, number in sorted(each.lines):
            if chunk := chunks.get(chunk_id):
                cut = windows.windows(chunk.lines)
                right.append(windows.texts(chunk)[next(n for n, part in enumerate(cut) if number in part)])
        if right and each.project in pool:
            hard = pool[each.project].nearest(embed(each.text), besides=each.session.partition(" ")[2])
            found.append(Pair(each.kind, each.project, each.text, tuple(dict.fromkeys(right)), hard))
    return found


@dataclass(frozen=True, slots=True)
class Pool:
    """Windows of one project: their texts, vectors and sessions."""

    texts: tuple[str, ...]
    vectors_WD: np.ndarray
    sessions: tuple[str, ...]

    def nearest(self, vector_D: np.ndarray, *, besides: str, num: int = 10) -> tuple[str, ...]:
        """The texts nearest to a question, those of its own session left out."""
        order = np.argsort(-(self.vectors_WD @ vector_D))[: 4 * num].tolist()
        return tuple([self.texts[n] for n in order if self.sessions[n] != besides][:num])


def pools(
    store: ChunkStore, threads: Sequence[tuple[str, str]], rng: random.Random, limit: int = POOL
) -> dict[str, Pool]:
    """Of every project so many windows, drawn evenly."""
    drawn: dict[str, list[tuple[str, np.ndarray, str]]] = {}
    for agent, thread_id in threads:
        chunks = store.thread(agent, thread_id)
        vectors = store.windows([chunk.id for chunk in chunks])
        for chunk in chunks:
            texts = windows.texts(chunk)
            if len(vectors.get(chunk.id, ())) == len(texts):
                rows = zip(texts, vectors[chunk.id], strict=True)
                drawn.setdefault(chunk.project, []).extend(
                    (text, vector_D, chunk.session_id) for text, vector_D in rows
                )
    found = {}
    for project, rows_of in drawn.items():
        kept = rng.sample(rows_of, min(limit, len(rows_of)))
        found[project] = Pool(
            tuple(t for t, _, _ in kept), np.stack([v for _, v, _ in kept]), tuple(s for _, _, s in kept)
        )
    return found


def held_out(found: Sequence[Pair]) -> frozenset[str]:
    """Projects that hold about a third of the pairs: to judge by, never to learn from."""
    num = Counter(pair.project for pair in found)
    chosen, size = set(), 0
    for project, count in sorted(num.items(), key=lambda item: (-item[1], item[0]))[1::2]:
        if size < len(found) / 3:
            chosen.add(project)
            size += count
    return frozenset(chosen)


def fit(
    tensors: Mapping[str, np.ndarray],
    tokens: Tokens,
    found: Sequence[Pair],
    dials: Dials,
    say: Callable[[str], None],
    should_stop: Callable[[], object] = lambda: "",
) -> Encoder | None:
    """Learn; None where somebody wants it to stop."""
    torch.manual_seed(dials.seed)
    rng = random.Random(dials.seed)  # noqa: S311 - a draw, no secret
    encoder = Encoder(tensors, dials.learning)
    texts = sorted({text for pair in found for text in (pair.question, *pair.right, *pair.hard)})
    below: dict[str, Below] = {}
    for start in range(0, len(texts), 256):
        if should_stop():
            return None
        part = texts[start : start + 256]
        below |= dict(zip(part, encoder.below([tokens.encode(text).ids for text in part]), strict=True))
    say(f"{len(found)} pairs of {len(texts)} texts are ready")
    optimizer = torch.optim.AdamW(encoder.learnt.values(), lr=dials.lr, weight_decay=0.01)
    before = Encoder(tensors, dials.learning)
    started = time.monotonic()
    for step in range(dials.steps):
        if should_stop():
            return None
        batch = rng.sample(list(found), min(dials.batch, len(found)))
        questions = [below[pair.question] for pair in batch]
        passages = [below[rng.choice(pair.right)] for pair in batch]
        passages += [below[each] for pair in batch for each in rng.sample(pair.hard, min(NUM_HARD, len(pair.hard)))]
        for group in optimizer.param_groups:
            group["lr"] = dials.lr * min(1.0, (step + 1) / 10) * (1 - step / dials.steps)
        # 1. how near each question is to its own passage
        questions_BD, passages_BD = encoder.vectors(questions), encoder.vectors(passages)
        similar_BB = questions_BD @ passages_BD.T / dials.temperature
        loss = functional.cross_entropy(similar_BB, torch.arange(len(batch)))
        # 2. how far vectors went
        with torch.no_grad():
            were_BD = before.vectors(passages)
        drift = (1 - (passages_BD * were_BD).sum(1)).mean()
        # 3. move
        optimizer.zero_grad()
        (loss + dials.anchor * drift).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step % 25 == 24:
            took_s = time.monotonic() - started
            say(
                f"step {step + 1} of {dials.steps}: loss {loss.item():.3f} nats, drift {drift.item():.3f}, {took_s:.0f} s"
            )
    return encoder


def ranks(encoder: Encoder, tokens: Tokens, found: Sequence[Pair], pool: Mapping[str, Pool]) -> dict[str, float]:
    """One over the rank of the best right window of each pair among the windows of its project, by place in `found`."""

    def embedded(texts: Sequence[str]) -> np.ndarray:
        made = []
        with torch.no_grad():
            for start in range(0, len(texts), 64):
                part = texts[start : start + 64]
                made.append(encoder.vectors(encoder.below([tokens.encode(text).ids for text in part])).numpy())
        return np.concatenate(made)

    others = {project: embedded(pool[project].texts) for project in sorted({pair.project for pair in found})}
    result = {}
    for place, pair in enumerate(found):
        question_D = embedded([pair.question])[0]
        best = float((embedded(pair.right) @ question_D).max())
        result[str(place)] = 1 / (1 + int((others[pair.project] @ question_D > best + 1e-6).sum()))
    return result


def compared(found: Sequence[Pair], before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, runs.Mean]:
    """What each kind of question gained, paired, with its interval."""
    gains: dict[str, list[float]] = {}
    for place, pair in enumerate(found):
        gains.setdefault(pair.kind, []).append(after[str(place)] - before[str(place)])
    return {kind: runs.mean(values) for kind, values in gains.items()}
