"""One pass through the network: how far what it says lies from the answers, and from what a teacher says.

Only places that are asked for reach the vocabulary, a stretch at a time: with 150,000 words the logits of a whole row would be
larger than all the rest. The teacher is the same network with its adapter switched off, reading a clean prompt; of it the most
likely tokens count one by one and the rest as one.
"""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from trainer.tokens import Batch

# B rows, T tokens of a row, N targets, K most likely tokens, V words, D width
STRETCH_logits = 64_000_000
"""Logits held at once, at most: 256 MB in float32."""
_LEAST_rest = 1e-6


class Learner(nn.Module):
    """A causal language model, asked at chosen places only. What trains it wraps this, so that every pass goes through `forward`."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.plain = _is_plain(model)

    def forward(
        self, batch: Batch, top: tuple[Tensor, Tensor] | None = None, *, top_k: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Loss in nats at each target, and distance to `top` (ids and log-probabilities, both NK) where that is given.

        With `top_k` instead: the ids and log-probabilities of that many most likely tokens, of this network as it is.
        """
        places_ND = self._places(batch)
        num_words = self._head().weight.shape[0] if self.plain else places_ND.shape[-1]
        stretch = max(1, STRETCH_logits // num_words)
        if top_k:
            return self._most_likely(places_ND, top_k, stretch)
        losses, distances = [], []
        for start in range(0, len(places_ND), stretch):
            part = slice(start, start + stretch)
            shown = () if top is None else (top[0][part], top[1][part])
            arguments = (places_ND[part], batch.targets_N[part], *shown)
            if len(places_ND) > stretch and torch.is_grad_enabled():
                loss_N, distance_N = checkpoint(self._measure, *arguments, use_reentrant=False)
            else:
                loss_N, distance_N = self._measure(*arguments)
            losses.append(loss_N)
            distances.append(distance_N)
        if not losses:  # nothing is asked here, yet every weight must have its gradient, of nothing
            nothing = places_ND.float().sum(-1) * 0.0
            return nothing, nothing
        return torch.cat(losses), torch.cat(distances)

    def _places(self, batch: Batch) -> Tensor:
        arguments = {"input_ids": batch.ids_BT, "position_ids": batch.positions_BT, "use_cache": False}
        inner = _inner(self.model)
        if self.plain:
            hidden_BTD: Tensor = inner.get_decoder()(**arguments).last_hidden_state
            return hidden_BTD[batch.rows_N, batch.columns_N]
        asked = torch.unique(batch.columns_N)
        logits_BTV: Tensor = inner(**arguments, logits_to_keep=asked).logits
        return logits_BTV[batch.rows_N, torch.searchsorted(asked, batch.columns_N)]

    def _head(self) -> Any:
        return _inner(self.model).get_output_embeddings()

    def _logits(self, places_ND: Tensor) -> Tensor:
        return (self._head()(places_ND) if self.plain else places_ND).float()

    def _measure(
        self, places_ND: Tensor, targets_N: Tensor, ids_NK: Tensor | None = None, log_teacher_NK: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        logits_NV = self._logits(places_ND)
        loss_N = functional.cross_entropy(logits_NV, targets_N, reduction="none")
        if ids_NK is None or log_teacher_NK is None:
            return loss_N, torch.zeros_like(loss_N)
        log_own_NK = logits_NV.gather(1, ids_NK) - logits_NV.logsumexp(1, keepdim=True)
        return loss_N, _distance(log_teacher_NK, log_own_NK)

    def _most_likely(self, places_ND: Tensor, top_k: int, stretch: int) -> tuple[Tensor, Tensor]:
        found = []
        for start in range(0, len(places_ND), stretch):
            logits_NV = self._logits(places_ND[start : start + stretch])
            best = logits_NV.topk(min(top_k, logits_NV.shape[1]), dim=1)
            found.append((best.indices, best.values - logits_NV.logsumexp(1, keepdim=True)))
        if not found:
            empty = places_ND.new_zeros((0, top_k), dtype=torch.float32)
            return empty.long(), empty
        return torch.cat([ids for ids, _ in found]), torch.cat([logs for _, logs in found])


def weighed_loss(learner: Any, batch: Batch, *, top_k: int, teacher: Any = None) -> tuple[Tensor, Tensor]:
    """The sum over all targets of weight times loss, and the losses on answers alone (for the log, without gradient).

    `teacher` None = the learner itself with its adapter switched off.
    """
    top, among = None, None
    if batch.teacher is not None:
        among = batch.pulls_N > 0
        with torch.no_grad(), _without_adapter(learner) if teacher is None else nullcontext():
            ids_MK, logs_MK = (learner if teacher is None else teacher)(batch.teacher, top_k=top_k)
        ids_NK = ids_MK.new_zeros((len(among), ids_MK.shape[1]))
        logs_NK = logs_MK.new_zeros((len(among), logs_MK.shape[1]))
        ids_NK[among], logs_NK[among] = ids_MK, logs_MK
        top = (ids_NK, logs_NK)
    loss_N, distance_N = learner(batch, top)
    if not len(batch.targets_N):
        return loss_N.sum(), loss_N.detach()[:0]
    total = (batch.weights_N * loss_N).sum()
    if among is not None:
        total = total + (batch.pulls_N * torch.where(among, distance_N, 0.0)).sum()
    return total, loss_N.detach()


def _distance(log_teacher_NK: Tensor, log_own_NK: Tensor) -> Tensor:
    """Kullback-Leibler divergence over the teacher's most likely tokens, and all others as one."""
    teacher_NK = log_teacher_NK.exp()
    rest_teacher_N = (1 - teacher_NK.sum(1)).clamp(min=_LEAST_rest)
    rest_own_N = (1 - log_own_NK.exp().sum(1)).clamp(min=_LEAST_rest)
    among_N = (teacher_NK * (log_teacher_NK - log_own_NK)).sum(1)
    return among_N + rest_teacher_N * (rest_teacher_N.log() - rest_own_N.log())


def _inner(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _without_adapter(learner: Any) -> Any:
    model = getattr(learner, "module", learner).model
    return model.disable_adapter() if hasattr(model, "disable_adapter") else nullcontext()


@torch.no_grad()
def _is_plain(model: Any) -> bool:
    """Whether logits are the last hidden state times the output weights, with nothing of the model's own in between."""
    inner = _inner(model)
    device = inner.get_input_embeddings().weight.device
    ids = torch.tensor([[1, 2, 3]], device=device)
    was, _ = inner.training, inner.eval()
    try:
        whole = inner(input_ids=ids, use_cache=False).logits
        head = inner.get_output_embeddings()
        hidden = inner.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
        return head is not None and bool(torch.allclose(head(hidden), whole, atol=1e-2, rtol=1e-2))
    except (AttributeError, TypeError):
        return False
    finally:
        inner.train(was)
