"""Fits the order of lines (`ranking`) or the sentence model (`embedder`) to this user's sessions, and keeps what was of use.

One walk: sessions > questions without labels > what recall finds > fit and judge > decision. Nothing but the decision is
written, at the end and whole, beside a note of the sessions it was made from; so this may be killed at any time.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping

import torch

from lmm_mcp import artifacts, config, embedding
from lmm_mcp.artifacts import durable, places
from lmm_mcp.artifacts.sources import Sources, forgotten_since
from lmm_mcp.embedding import NoEmbedder, OnnxEmbedder
from lmm_mcp.errors import TrainingError
from lmm_mcp.paths import Home
from lmm_mcp.recall.pipeline import Recaller
from lmm_mcp.recall.reranking import DECISION
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.chunks import ChunkStore
from lmm_mcp.store.ledger import Ledger
from trainer import later
from trainer.stages import reranker

MAX_QUESTIONS = 800
"""Asked at most: a minute or two of recall."""
Say = Callable[[str], None]


def fit_order(home: Home, env: Mapping[str, str], should_stop: Callable[[], str], say: Say, *, seed: int = 17) -> int:
    """Fit and judge the order of lines, and write down the decision. 0 also where it is not kept. Raises LmmError."""
    as_of = artifacts.forgettings(home)
    store, ledger, model = _opened(home, env)
    now_ms = time.time_ns() // 1_000_000
    asked = later.asked(ledger, Archive(home.archive), store, now_ms, seed=seed)
    chosen = later.at_most(asked, MAX_QUESTIONS)
    say(f"{len(asked)} questions out of your sessions, {len(chosen)} are asked: {_counted(later.by_kind(chosen))}")
    recaller = Recaller(store, model, frozenset({"reranker", "model"}))
    found = list(_said(reranker.cases(recaller, chosen, should_stop), say))
    if should_stop():
        return _stopped(say)
    say(f"{len(found)} of them found something of worth")
    if not found:
        raise TrainingError("none of your prompts found anything it then needed. Let more sessions come together.")
    dials = reranker.Dials(seed=seed)
    torch.set_num_threads(1)  # the matrices are small
    decision = reranker.judge(found, dials, say)
    if should_stop():
        return _stopped(say)
    told = reranker.as_json(reranker.fit(found, dials), decision, found, model.version, dials)
    folder = durable.make_folder(places.ranking_folder(home))
    threads = [(row.thread.agent, row.thread.thread_id) for row in ledger.threads()]
    with places.lock(home):
        sources = Sources.of(threads, (), as_of=as_of)
        if forgotten_since(home, sources):
            raise TrainingError("something was forgotten meanwhile; what was fitted is thrown away. Start it again.")
        # The old decision goes first: whatever dies in between leaves none, never one whose sources are others.
        (folder / DECISION).unlink(missing_ok=True)
        artifacts.write_sources(folder, sources)
        (folder / places.UNCLEAN).unlink(missing_ok=True)
        durable.write_json(folder / DECISION, told)
    for reason in decision.reasons:
        say(f"not kept: {reason}")
    say("kept: recall orders lines by it from now on" if decision.kept else "recall stays as it is")
    return 0


def _opened(home: Home, env: Mapping[str, str]) -> tuple[ChunkStore, Ledger, OnnxEmbedder]:
    if not ChunkStore.exists(home.store):
        raise TrainingError("nothing has been imported yet, so there is nothing to learn from. Run `lmm import`.")
    model = embedding.load(home, config.load(home.config, env).embedder, num_threads=os.cpu_count() or 1)
    if isinstance(model, NoEmbedder):
        raise TrainingError(f"ranking is learnt with a sentence model: {model.reason}. First: {model.next_step}.")
    store = ChunkStore.open(home.store)
    if store.embedder is None or store.embedder.version != model.version:
        raise TrainingError(
            "the stored vectors are of another model than the settings name. Run `lmm embedder rebuild`, then try again."
        )
    return store, Ledger.open(home.ledger), model


def _said(found: Iterator[reranker.Case], say: Say) -> Iterator[reranker.Case]:
    for number, case in enumerate(found, 1):
        if number % 100 == 0:
            say(f"{number} questions are answered")
        yield case


def _stopped(say: Say) -> int:
    say("stopped; nothing was written")
    return 0


def _counted(num: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(num.items()))
