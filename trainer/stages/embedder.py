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
import numpy.typing as npt
import torch
from torch.nn import functional

from lmm_mcp.domain import windows
from lmm_mcp.evaluation import runs
from lmm_mcp.store.chunks import ChunkStore
from trainer.encoder import Below, Encoder
from trainer.later import Later

Matrix = npt.NDArray[np.float32]
NUM_HARD = 1
"""Hard negatives of each pair in a step, drawn from the nearest windows of other sessions."""
MIN_PAIRS = 100
MIN_JUDGED = 30
"""Fewer questions of a kind decide nothing."""
POOL = 150
"""Windows of a project among which the right one is to be found."""
MAX_HARD = 4


@dataclass(frozen=True, slots=True)
class Dials:
    """What may be turned. `learning`: layers at the top that learn; `anchor`: weight of staying near."""

    steps: int = 80
    batch: int = 12
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
    store: ChunkStore, told: Sequence[Later], pool: Mapping[str, "Pool"], embed: Callable[[str], Matrix]
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
    vectors_WD: Matrix
    sessions: tuple[str, ...]

    def nearest(self, vector_D: Matrix, *, besides: str, num: int = MAX_HARD) -> tuple[str, ...]:
        """The texts nearest to a question, those of its own session left out."""
        order = np.argsort(-(self.vectors_WD @ vector_D))[: 4 * num].tolist()
        return tuple([self.texts[n] for n in order if self.sessions[n] != besides][:num])


def pools(
    store: ChunkStore, threads: Sequence[tuple[str, str]], rng: random.Random, limit: int = POOL
) -> dict[str, Pool]:
    """Of every project so many windows, drawn evenly."""
    drawn: dict[str, list[tuple[str, Matrix, str]]] = {}
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


class Texts:
    """Texts as the frozen layers see them, each computed once. The same for every encoder of the same frozen layers."""

    def __init__(self, encoder: Encoder, tokens: Tokens, should_stop: Callable[[], object] = lambda: "") -> None:
        self._encoder, self._tokens, self._should_stop = encoder, tokens, should_stop
        self._known: dict[str, Below] = {}

    def below(self, texts: Sequence[str]) -> list[Below]:
        """In the order asked. Raises Stopped."""
        new = {text: self._tokens.encode(text).ids for text in dict.fromkeys(texts) if text not in self._known}
        order = sorted(new, key=lambda text: len(new[text]))  # texts of one length share a batch without waste
        for start in range(0, len(order), 64):
            if self._should_stop():
                raise Stopped
            part = order[start : start + 64]
            self._known |= dict(zip(part, self._encoder.below([new[text] for text in part]), strict=True))
        return [self._known[text] for text in texts]


class Stopped(Exception):
    """Somebody wants it to stop."""


def fit(
    tensors: Mapping[str, np.ndarray[Any, Any]],
    texts: Texts,
    found: Sequence[Pair],
    dials: Dials,
    say: Callable[[str], None],
    should_stop: Callable[[], object] = lambda: "",
) -> Encoder:
    """Learn. The same pairs give the same encoder on the same machine. Raises Stopped."""
    torch.manual_seed(dials.seed)
    rng = random.Random(dials.seed)  # noqa: S311 - a draw, no secret
    encoder, before = Encoder(tensors, dials.learning), Encoder(tensors, dials.learning)
    texts.below([text for pair in found for text in (pair.question, *pair.right, *pair.hard)])
    say(f"{len(found)} pairs are ready")
    optimizer = torch.optim.AdamW(encoder.learnt.values(), lr=dials.lr, weight_decay=0.01)
    started = time.monotonic()
    for step in range(dials.steps):
        if should_stop():
            raise Stopped
        batch = rng.sample(list(found), min(dials.batch, len(found)))
        questions = texts.below([pair.question for pair in batch])
        right = [rng.choice(pair.right) for pair in batch]
        hard = [each for pair in batch for each in rng.sample(pair.hard, min(NUM_HARD, len(pair.hard)))]
        passages = texts.below([*right, *hard])
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


def ranks(encoder: Encoder, texts: Texts, found: Sequence[Pair], pool: Mapping[str, Pool]) -> list[float]:
    """One over the rank of the best right window of each pair among the windows of its project."""

    def embedded(wanted: Sequence[str]) -> Matrix:
        known = texts.below(wanted)
        with torch.no_grad():
            made = [encoder.vectors(known[start : start + 64]).numpy() for start in range(0, len(known), 64)]
        return np.concatenate(made)

    others = {project: embedded(pool[project].texts) for project in sorted({pair.project for pair in found})}
    result = []
    for pair in found:
        question_D = embedded([pair.question])[0]
        best = float((embedded(pair.right) @ question_D).max())
        result.append(1 / (1 + int((others[pair.project] @ question_D > best + 1e-6).sum())))
    return result


def compared(found: Sequence[Pair], before: Sequence[float], after: Sequence[float]) -> dict[str, runs.Mean]:
    """What each kind of question gained, paired, with its interval."""
    gains: dict[str, list[float]] = {}
    for pair, old, new in zip(found, before, after, strict=True):
        gains.setdefault(pair.kind, []).append(new - old)
    return {kind: runs.mean(values) for kind, values in gains.items()}


def reasons_against(gains: Mapping[str, runs.Mean], learnt: Sequence[str]) -> tuple[str, ...]:
    """Why such gains are not enough; none: it is kept. `learnt`: the kinds that it was fitted on."""
    found = []
    for kind, gain in sorted(gains.items()):
        told = f"{100 * gain.value:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f}), n {gain.num}"
        if gain.num < MIN_JUDGED:
            found.append(f"{kind}: {gain.num} questions are too few to decide, {MIN_JUDGED} are needed")
        elif kind in learnt and gain.low <= 0:
            found.append(f"{kind}: mean reciprocal rank {told}: not surely better")
        elif gain.high < 0 or (kind not in learnt and gain.value < 0):
            found.append(f"{kind}: mean reciprocal rank {told}: worse for a kind that it never saw")
    if not set(gains) - set(learnt):
        found.append("no other kind of question could be asked")
    return tuple(found)
