"""MiniLM in torch, from the weights of which `minilm_graph` makes the served graph: so what was fitted is what is served.

Only the top layers learn. What the layers below make of a text does not change, so it is computed once for each text.

Axes: B batch, T tokens, D hidden, N heads, K hidden of a head.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lmm_mcp.minilm_graph import MINILM, Shape, num_layers

MAX_TOKENS = 64
"""Of a text while learning and judging; windows have some sixty."""
Below = tuple[Tensor, int]
"""What the frozen layers made of a text, float16 [T, D], and its number of tokens."""


class Encoder:
    """See the module. `learning`: how many layers at the top may change."""

    def __init__(self, tensors: Mapping[str, np.ndarray[Any, Any]], learning: int, shape: Shape = MINILM) -> None:
        self._shape = shape
        self._num_layers = num_layers(tensors)
        self._num_below = self._num_layers - learning
        floats = {name: torch.tensor(value) for name, value in tensors.items() if value.dtype.kind == "f"}
        self._weights: dict[str, Tensor] = floats
        self.learnt = {name: floats[name] for name in floats if self._layer_of(name) >= self._num_below}
        for weight in self.learnt.values():
            weight.requires_grad_(True)

    def below(self, ids: Sequence[Sequence[int]]) -> list[Below]:
        """What the frozen layers make of texts, given as token ids."""
        made: list[Below] = []
        with torch.no_grad():
            for start in range(0, len(ids), 32):
                part = [each[:MAX_TOKENS] for each in ids[start : start + 32]]
                hidden_BTD, mask_BT = self._embedded(part)
                for number in range(self._num_below):
                    hidden_BTD = self._layer(number, hidden_BTD, mask_BT)
                made += [(hidden_BTD[n, : len(each)].half(), len(each)) for n, each in enumerate(part)]
        return made

    def vectors(self, below: Sequence[Below]) -> Tensor:
        """The sentence vectors, of length 1: [B, D]. Gradients flow into what learns."""
        length = max(num for _, num in below)
        hidden_BTD = torch.stack([functional.pad(each, (0, 0, 0, length - num)) for each, num in below]).float()
        mask_BT = torch.tensor([[n < num for n in range(length)] for _, num in below])
        for number in range(self._num_below, self._num_layers):
            hidden_BTD = self._layer(number, hidden_BTD, mask_BT)
        weight_BT1 = mask_BT[:, :, None].float()
        return functional.normalize((hidden_BTD * weight_BT1).sum(1) / weight_BT1.sum(1), dim=1)

    def tensors(self) -> dict[str, np.ndarray[Any, Any]]:
        """All weights, for `minilm_graph.build`."""
        return {name: weight.detach().numpy() for name, weight in self._weights.items()}

    def _layer_of(self, name: str) -> int:
        return int(name.split(".")[2]) if name.startswith("encoder.layer.") else -1

    def _embedded(self, ids: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        length = max(map(len, ids))
        ids_BT = torch.tensor([[*each, *[0] * (length - len(each))] for each in ids])
        mask_BT = torch.tensor([[n < len(each) for n in range(length)] for each in ids])
        at = self._weights
        hidden_BTD = at["embeddings.word_embeddings.weight"][ids_BT]
        hidden_BTD = hidden_BTD + at["embeddings.position_embeddings.weight"][:length]
        hidden_BTD = hidden_BTD + at["embeddings.token_type_embeddings.weight"][0]
        return self._norm("embeddings.LayerNorm", hidden_BTD), mask_BT

    def _layer(self, number: int, hidden_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        name = f"encoder.layer.{number}"
        size_B, length, dim = hidden_BTD.shape
        query, key, value = (
            self._dense(f"{name}.attention.self.{part}", hidden_BTD)
            .view(size_B, length, self._shape.num_heads, dim // self._shape.num_heads)
            .transpose(1, 2)
            for part in ("query", "key", "value")
        )
        mixed_BNTK = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask_BT[:, None, None, :])
        mixed_BTD = self._dense(
            f"{name}.attention.output.dense", mixed_BNTK.transpose(1, 2).reshape(size_B, length, dim)
        )
        hidden_BTD = self._norm(f"{name}.attention.output.LayerNorm", mixed_BTD + hidden_BTD)
        wide_BTF = functional.gelu(self._dense(f"{name}.intermediate.dense", hidden_BTD))
        return self._norm(f"{name}.output.LayerNorm", self._dense(f"{name}.output.dense", wide_BTF) + hidden_BTD)

    def _dense(self, name: str, value: Tensor) -> Tensor:
        return functional.linear(value, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, name: str, value: Tensor) -> Tensor:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return functional.layer_norm(value, weight.shape, weight, bias, self._shape.layer_norm_epsilon)
