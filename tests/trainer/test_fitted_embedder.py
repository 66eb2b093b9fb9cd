"""Fitting the sentence model: what is fitted is what is served, and only what was of use is made ready."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from lmm_mcp import artifacts, config, embedding, minilm_graph
from lmm_mcp.artifacts.sources import Sources
from lmm_mcp.embedding import NoEmbedder, OnnxEmbedder
from lmm_mcp.evaluation import runs
from lmm_mcp.paths import Home
from trainer import ranking
from trainer.encoder import Encoder
from trainer.stages import embedder
from trainer.stages.embedder import Dials, Pair, Pool, Texts

DIM, WIDE, LAYERS = 24, 32, 3
WORDS = "tide ferry harbour lamp crane rope buoy signal berth pilot anchor chart".split()
QUICK = Dials(steps=20, batch=6, lr=3e-3, learning=1)
DEEP = Dials(steps=120, batch=12, lr=5e-3, learning=LAYERS, anchor=0.0)


@pytest.fixture
def tensors(small_bert) -> dict[str, np.ndarray]:
    """Three layers: of these the upper ones are fitted."""
    return small_bert(7, num_words=len(WORDS) + 1, layers=LAYERS, dim=DIM, wide=WIDE)


@pytest.fixture
def tokens() -> Tokenizer:
    made = Tokenizer(WordLevel({"[UNK]": 0, **{word: n for n, word in enumerate(WORDS, 1)}}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    return made


def pairs() -> list[Pair]:
    """Every word asks for the one after the next: nothing that the words themselves tell."""
    return [
        Pair("made", "p", f"{word} lamp", (f"{WORDS[(n + 2) % len(WORDS)]} rope chart",), (f"{word} rope chart",))
        for n, word in enumerate(WORDS)
    ]


def test_the_encoder_gives_what_the_served_graph_gives(tensors, tokens, tmp_path):
    name = ranking._made_ready(home_with(tmp_path, tokens), tensors, tmp_path, Sources.of((), (), as_of=0), until_ms=7)
    served = OnnxEmbedder(embedding.folder_of(Home(tmp_path), name))
    assert (served.card.is_personal, served.card.until_ms) == (True, 7)
    texts = ["tide ferry harbour", "rope", "crane buoy buoy signal berth tide tide"]
    encoder = Encoder(tensors, 1)
    with torch.no_grad():
        vectors_BD = encoder.vectors(encoder.below([tokens.encode(text).ids for text in texts])).numpy()
    assert np.allclose(vectors_BD, served.embed(texts), atol=1e-3)  # frozen layers are kept in half precision


def test_what_was_learnt_is_exported_and_the_layers_below_are_as_they_were(tensors, tokens):
    before = {name: value.copy() for name, value in tensors.items()}
    fitted = embedder.fit(tensors, Texts(Encoder(tensors, 1), tokens), pairs(), QUICK, lambda _: None)
    changed = {name for name, value in fitted.tensors().items() if not np.array_equal(value, before[name])}
    assert changed
    assert all(name.startswith(f"encoder.layer.{LAYERS - 1}.") for name in changed)
    minilm_graph.build(fitted.tensors())


def test_pairs_that_were_learnt_are_found_sooner(tensors, tokens):
    texts = Texts(Encoder(tensors, LAYERS), tokens)
    pool = {"p": Pool(tuple(pair.right[0] for pair in pairs()), np.zeros((len(WORDS), DIM), np.float32), ("s",) * 12)}
    before = embedder.ranks(Encoder(tensors, LAYERS), texts, pairs(), pool)
    fitted = embedder.fit(tensors, texts, pairs(), DEEP, lambda _: None)
    after = embedder.ranks(fitted, texts, pairs(), pool)
    assert np.mean(after) > np.mean(before) + 0.2
    assert embedder.compared(pairs(), before, after)["made"].value == pytest.approx(np.mean(after) - np.mean(before))


def test_the_same_pairs_give_the_same_model(tensors, tokens):
    one, other = (
        embedder.fit(tensors, Texts(Encoder(tensors, 1), tokens), pairs(), QUICK, lambda _: None).tensors()
        for _ in range(2)
    )
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_a_wish_to_stop_is_heard_between_two_steps(tensors, tokens):
    wishes = iter([""] * 5)
    with pytest.raises(embedder.Stopped):
        embedder.fit(
            tensors, Texts(Encoder(tensors, 1), tokens), pairs(), QUICK, lambda _: None, lambda: next(wishes, "user")
        )


def gain(value: float, low: float, high: float, num: int = 100) -> runs.Mean:
    return runs.Mean(value, low, high, num)


@pytest.mark.parametrize(
    ("gains", "kept"),
    [
        ({"made": gain(0.1, 0.02, 0.2), "refind": gain(0.01, -0.02, 0.05)}, True),
        ({"made": gain(0.1, -0.02, 0.2), "refind": gain(0.01, -0.02, 0.05)}, False),
        ({"made": gain(0.1, 0.02, 0.2), "refind": gain(-0.01, -0.04, 0.02)}, False),
        ({"made": gain(0.1, 0.02, 0.2), "refind": gain(0.1, 0.02, 0.2, num=12)}, False),
        ({"made": gain(0.1, 0.02, 0.2)}, False),
    ],
    ids=["surely better", "perhaps not", "worse for another kind", "too few of another kind", "no other kind"],
)
def test_it_is_kept_only_where_it_is_surely_better_and_no_worse_for_a_kind_it_never_saw(gains, kept):
    assert (embedder.reasons_against(gains, ["made"]) == ()) is kept


def home_with(folder, tokens: Tokenizer) -> Home:
    tokens.save(str(folder / "tokenizer.json"))
    return Home(folder)


def test_a_model_that_was_kept_serves_in_place_of_minilm_until_another_is_refused(tensors, tokens, tmp_path):
    home, minilm = home_with(tmp_path, tokens), config.Embedder()
    assert embedding.wanted_name(home, minilm) == embedding.MINILM
    name = ranking._made_ready(home, tensors, tmp_path, Sources.of([("codex", "t1")], (), as_of=0), until_ms=0)
    assert embedding.wanted_name(home, minilm) == name
    assert embedding.look(home, minilm).name == name
    assert embedding.wanted_name(home, config.Embedder(name="acme/other")) == "acme/other"
    embedding.sweep(home, name=embedding.MINILM, version="v")
    assert embedding.wanted_name(home, minilm) == name
    said = []
    assert ranking._refused(home, said.append) == 0
    assert name in said[0]
    assert embedding.wanted_name(home, minilm) == embedding.MINILM
    embedding.sweep(home, name=name, version="v")  # it serves still
    assert embedding.folder_of(home, name).exists()
    embedding.sweep(home, name=embedding.MINILM, version="v")
    assert not embedding.folder_of(home, name).exists()


def test_a_model_fitted_to_what_was_forgotten_serves_no_longer(tensors, tokens, tmp_path):
    home = home_with(tmp_path, tokens)
    artifacts.forgettings(home)
    name = ranking._made_ready(home, tensors, tmp_path, Sources.of([("codex", "t1")], (), as_of=0), until_ms=0)
    settings = config.Embedder(name=name)
    assert isinstance(embedding.load(home, settings, num_threads=1), OnnxEmbedder)
    artifacts.mark_unclean(home, [("codex", "t1")])
    found = embedding.load(home, settings, num_threads=1)
    assert isinstance(found, NoEmbedder)
    assert "forgotten" in found.reason
    assert embedding.wanted_name(home, config.Embedder()) == embedding.MINILM
    assert name in embedding.serving(home, config.Embedder(), name, "v").reason
