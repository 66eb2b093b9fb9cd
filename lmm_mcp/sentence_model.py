"""What a sentence-transformers model says about itself in its JSON files, and its export to a graph with torch.

`export` is the one function of the house that needs torch; it imports it inside, from the [train] extra.
"""

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from lmm_mcp.domain.wording import EXTRA_TRAIN
from lmm_mcp.embedding import Card, Pooling
from lmm_mcp.errors import EmbedderError

ReadJson = Callable[[str], Any]
"""A path within the model's folder to what the JSON file there holds, None where there is no such file."""

SERVED_MODULES = {"Transformer", "Pooling", "Normalize"}
"""What can be done outside a graph. Anything else, such as a further dense layer, must be exported into it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What decides about vectors, beside the weights."""

    modules: tuple[str, ...]
    pooling: str
    dim: int
    max_tokens: int
    query_prefix: str
    document_prefix: str
    lowercase: bool


def read_settings(read: ReadJson) -> Settings:
    """Read a model's settings, old style or new; what they leave out is as sentence-transformers assumes it."""
    modules = read("modules.json") or [{"type": "Transformer"}, {"type": "Pooling", "path": "1_Pooling"}]
    places = {str(module.get("type", "")).rsplit(".", 1)[-1]: str(module.get("path", "")) for module in modules}
    pooling = (read(f"{places['Pooling']}/config.json") or {}) if "Pooling" in places else {}
    network = read("config.json") or {}
    transformer = read("sentence_bert_config.json") or {}
    prompts = (read("config_sentence_transformers.json") or {}).get("prompts") or {}
    return Settings(
        modules=tuple(places),
        pooling=_pooling(pooling),
        dim=int(
            pooling.get("embedding_dimension")
            or pooling.get("word_embedding_dimension")
            or network.get("hidden_size")
            or 0
        ),
        max_tokens=_max_tokens(transformer, network, read("tokenizer_config.json") or {}),
        query_prefix=str(prompts.get("query") or ""),
        document_prefix=str(prompts.get("document") or prompts.get("passage") or ""),
        lowercase=bool(transformer.get("do_lower_case")),
    )


def card_of_graph(folder: Path, name: str, read: ReadJson, source: str) -> Card:
    """Describe a model whose `model.onnx` gives token vectors. Raises EmbedderError where more would have to be done."""
    settings = read_settings(read)
    unknown = sorted(set(settings.modules) - SERVED_MODULES)
    pooling = next((known for known in get_args(Pooling) if known == settings.pooling), None)
    if unknown or pooling is None or not settings.dim:
        what = (
            f"has further layers ({', '.join(unknown)})"
            if unknown
            else f"pools in a way not known here ({settings.pooling})"
        )
        raise EmbedderError(
            f"{name} {what}: with the [train] extra installed, name a local copy of it and it is exported whole."
        )
    with (folder / "model.onnx").open("rb") as file:
        graph_hash = hashlib.file_digest(file, "sha256").hexdigest()
    return _card(folder, name, settings, pooling, f"{graph_hash}:{pooling}", source)


def from_folder(local: Path, name: str, folder: Path) -> Card:
    """Make a model ready that lies in a folder of the user's: take its graph if it has one, else export it."""
    source = f"the folder {local}"
    graph, tokenizer = local / "onnx" / "model.onnx", local / "tokenizer.json"
    if not graph.is_file() or not tokenizer.is_file():
        return export(str(local), name, folder, source=source + ", exported")
    shutil.copyfile(graph, folder / "model.onnx")
    shutil.copyfile(tokenizer, folder / "tokenizer.json")
    return card_of_graph(folder, name, lambda path: _read_json(local / path), source)


def export(model: str, name: str, folder: Path, *, revision: str | None = None, source: str) -> Card:
    """Write a model's whole pipeline, pooling and further layers included, into one graph; checked against the model.

    `model` is a folder or a name on the hub. Only weights in safetensors are read: the older format can run code.
    Raises EmbedderError where the [train] extra is missing or the graph differs.
    """
    try:
        import torch
        from sentence_transformers import SentenceTransformer
    except ImportError as problem:
        raise EmbedderError(
            f"{name} has no onnx/model.onnx, so it must be exported, which needs torch: {EXTRA_TRAIN}."
        ) from problem
    try:
        whole = SentenceTransformer(
            model,
            device="cpu",
            revision=revision,
            model_kwargs={"use_safetensors": True, "attn_implementation": "eager"},
        )
    except Exception as problem:
        raise EmbedderError(f"{name} cannot be loaded by sentence-transformers: {problem}") from problem

    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.whole = whole.eval()

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.whole({"input_ids": input_ids, "attention_mask": attention_mask})[
                "sentence_embedding"
            ]
            return result

    graph = Graph()
    ids_1T = torch.ones((1, 7), dtype=torch.int64)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer's doubts about shapes are settled by the check below
        torch.onnx.export(
            graph,
            (ids_1T, torch.ones_like(ids_1T)),
            str(folder / "model.onnx"),
            input_names=["input_ids", "attention_mask"],
            output_names=["sentence_vector"],
            dynamic_axes={"input_ids": {1: "tokens"}, "attention_mask": {1: "tokens"}},
            opset_version=18,
            dynamo=False,  # the other exporter needs onnxscript
        )
    whole.tokenizer.save_pretrained(str(folder / "tokenizer"))
    (folder / "tokenizer" / "tokenizer.json").rename(folder / "tokenizer.json")
    shutil.rmtree(folder / "tokenizer")
    settings = Settings(
        modules=(),
        pooling="graph",
        dim=int(graph(ids_1T, torch.ones_like(ids_1T)).shape[1]),
        max_tokens=int(whole.max_seq_length or 512),
        query_prefix=str(whole.prompts.get("query") or ""),
        document_prefix=str(whole.prompts.get("document") or whole.prompts.get("passage") or ""),
        lowercase=bool(getattr(whole[0], "do_lower_case", False)),
    )
    with (folder / "model.onnx").open("rb") as file:
        graph_hash = hashlib.file_digest(file, "sha256").hexdigest()
    return _card(folder, name, settings, "graph", graph_hash, source)


def _card(folder: Path, name: str, settings: Settings, pooling: Pooling, weights_hash: str, source: str) -> Card:
    return Card(
        name=name,
        weights_hash=weights_hash,
        dim=settings.dim,
        max_tokens=settings.max_tokens,
        pooling=pooling,
        graph_bytes=(folder / "model.onnx").stat().st_size,
        query_prefix=settings.query_prefix,
        document_prefix=settings.document_prefix,
        lowercase=settings.lowercase,
        source=source,
    )


def _pooling(config: Mapping[str, Any]) -> str:
    """Name the way of pooling.

    >>> _pooling({"pooling_mode": "cls"}), _pooling({"pooling_mode_mean_tokens": True}), _pooling({})
    ('cls', 'mean', 'mean')
    """
    if config.get("pooling_mode"):
        mode = config["pooling_mode"]
        return mode if isinstance(mode, str) else "+".join(map(str, mode))
    old = {
        "pooling_mode_cls_token": "cls",
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_max_tokens": "max",
        "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
        "pooling_mode_weightedmean_tokens": "weightedmean",
        "pooling_mode_lasttoken": "lasttoken",
    }
    return "+".join(name for key, name in old.items() if config.get(key)) or "mean"


def _max_tokens(transformer: Mapping[str, Any], network: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> int:
    """Choose how long a text may be: what the model says, but never beyond its positions.

    >>> _max_tokens({"max_seq_length": 256}, {"max_position_embeddings": 512}, {})
    256
    >>> _max_tokens({}, {"max_position_embeddings": 514, "model_type": "xlm-roberta"}, {"model_max_length": 10**30})
    512
    """
    positions = int(network.get("max_position_embeddings") or 512)
    if "roberta" in str(network.get("model_type", "")):
        positions -= 2  # it counts positions from 2 on
    said = transformer.get("max_seq_length") or tokenizer.get("model_max_length") or positions
    return min(int(said), positions)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
