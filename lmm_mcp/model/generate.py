"""Greedy decoding on a `Network`: of one prompt against the clock, of many at once, and held to a grammar where there is one.

B prompts, T tokens, V vocabulary.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from lmm_mcp.domain.writing import Offered
from lmm_mcp.model.choosing import Choices, Constraint, parse
from lmm_mcp.model.copying import Copying
from lmm_mcp.model.network import Network
from lmm_mcp.model.rendering import answer_ids, answer_text, end_id, prompt_ids

BATCH = 16
"""Prompts decoded side by side: more take memory and wait for the longest among them."""
MAX_CHOICE_tokens = 24


class TooLate(Exception):
    """The deadline passed while an answer was made."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which lines a model named."""

    chosen: tuple[int, ...]
    """() where it said that none answers."""
    confidence: float
    """Probability of how its answer begins, against `none`; of `none` against the best number."""


def generate(
    network: Network,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    constraint: Constraint | Sequence[Constraint | None] | None = None,
    is_late: Callable[[], bool] = lambda: False,
) -> list[str]:
    """What the model says to each prompt, in their order. The same whatever stands beside it, but for rounding.

    `constraint`: for all prompts, or one for each. Raises TooLate as soon as `is_late`.
    """
    constraints = list(constraint) if isinstance(constraint, Sequence) else [constraint] * len(prompts)
    spelled = [_fitting(network, prompt_ids(network.tokenizer, prompt), max_new_tokens) for prompt in prompts]
    said: list[list[int]] = [[] for _ in prompts]
    by_length = sorted(range(len(prompts)), key=lambda n: -len(spelled[n]))
    for start in range(0, len(by_length), BATCH):  # alike in length, so that little is padded
        batch = by_length[start : start + BATCH]
        decoded = _decode(
            network, [spelled[n] for n in batch], [constraints[n] for n in batch], max_new_tokens, is_late
        )
        for n, each in zip(batch, decoded, strict=True):
            said[n] = each.said
    return [answer_text(network.tokenizer, each) for each in said]


def choose(
    network: Network, prompt: str, offered: Sequence[int], *, is_late: Callable[[], bool] = lambda: False
) -> Choice:
    """Which of the offered lines answer, in the model's eyes. Raises TooLate as soon as `is_late`."""
    choices = choices_for(network, offered)
    spelled = _fitting(network, prompt_ids(network.tokenizer, prompt), MAX_CHOICE_tokens)
    (found,) = _decode(network, [spelled], [choices], MAX_CHOICE_tokens, is_late)
    chosen = parse(answer_text(network.tokenizer, found.said), offered) or ()
    none = found.first.get(choices.none, 0.0)
    best = max((share for token, share in found.first.items() if token != choices.none), default=0.0)
    mine = best if chosen else none
    return Choice(chosen, mine / (best + none) if best + none else 0.0)


def choices_for(network: Network, offered: Sequence[int]) -> Choices:
    """The grammar of choices as this network's tokenizer spells it."""
    tokenizer = network.tokenizer
    return Choices(offered, lambda text: answer_ids(tokenizer, text, ended=False), end_id(tokenizer))


def copying_for(network: Network, offered: Sequence[Offered], *, most: int) -> Copying:
    """The grammar of sentences copied from these lines as this network's tokenizer spells it."""
    tokenizer = network.tokenizer
    return Copying(offered, lambda text: answer_ids(tokenizer, text, ended=False), end_id(tokenizer), most=most)


def answer_loss(network: Network, prompt: str, answer: str) -> float:
    """How surprised the model is by an answer: the median over its tokens, in nats."""
    return float(torch.tensor(answer_losses(network, prompt, answer)).median())


def answer_losses(network: Network, prompt: str, answer: str) -> list[float]:
    """How surprised the model is by each token of an answer, in nats."""
    after = answer_ids(network.tokenizer, answer)
    before = _fitting(network, prompt_ids(network.tokenizer, prompt), len(after))
    ids_BT = torch.tensor([[*before, *after]], device=network.device)
    with _at_rest(network):
        logits_TV = network.model(input_ids=ids_BT, logits_to_keep=len(after) + 1).logits[0].float()
    told_T = torch.tensor(after, device=network.device)
    losses_T = torch.nn.functional.cross_entropy(logits_TV[:-1], told_T, reduction="none")
    return [float(loss) for loss in losses_T.cpu()]


def _fitting(network: Network, ids: Sequence[int], num_new: int) -> list[int]:
    """A prompt that leaves its answer room in the context: of a longer one the middle goes.

    It begins with the question and ends with what is wanted; in between stand the lines.
    """
    room = max(2, network.card.context_tokens - num_new)
    if len(ids) <= room:
        return list(ids)
    head = room // 2
    return [*ids[:head], *ids[len(ids) - (room - head) :]]


@dataclass(slots=True)
class _Answer:
    said: list[int] = field(default_factory=list)
    first: dict[int, float] = field(default_factory=dict)
    """Shares of the tokens with which the answer might have begun, where a grammar holds."""
    is_over: bool = False


def _decode(
    network: Network,
    prompts: Sequence[Sequence[int]],
    constraints: Sequence[Constraint | None],
    max_new_tokens: int,
    is_late: Callable[[], bool],
) -> list[_Answer]:
    """Answers to prompts that are decoded side by side, padded on the left."""
    answers = [_Answer() for _ in prompts]
    if not prompts:
        return answers
    end = end_id(network.tokenizer)
    width = max(map(len, prompts))
    pads = [width - len(each) for each in prompts]
    fed_BT = torch.tensor([[end] * pad + list(each) for pad, each in zip(pads, prompts, strict=True)])
    seen_BT = torch.tensor([[0] * pad + [1] * len(each) for pad, each in zip(pads, prompts, strict=True)])
    positions_BT = (seen_BT.cumsum(1) - 1).clamp(min=0)
    past: Any = None
    with _at_rest(network):
        for _ in range(max_new_tokens):
            if is_late():
                raise TooLate
            # One prompt alone is not padded, and needs no mask: attention is faster without.
            mask = None if len(prompts) == 1 else seen_BT.to(network.device)
            out = network.model(
                input_ids=fed_BT.to(network.device),
                attention_mask=mask,
                position_ids=positions_BT.to(network.device),
                past_key_values=past,
                use_cache=True,
                logits_to_keep=1,
            )
            past = out.past_key_values
            logits_BV = out.logits[:, -1].float()
            following = [
                end if each.is_over else _next(each, logits_BV[n], constraints[n], end)
                for n, each in enumerate(answers)
            ]
            if all(each.is_over for each in answers):
                break
            fed_BT = torch.tensor(following)[:, None]
            seen_BT = torch.cat([seen_BT, torch.ones_like(fed_BT)], 1)
            positions_BT = positions_BT[:, -1:] + 1
    return answers


def _next(answer: _Answer, logits_V: torch.Tensor, constraint: Constraint | None, end: int) -> int:
    """Say one token more."""
    if constraint is None:
        token = int(logits_V.argmax())
    else:
        allowed = list(constraint.allowed(answer.said)) or [end]
        of_allowed = logits_V[torch.tensor(allowed, device=logits_V.device)]
        token = allowed[int(of_allowed.argmax())]
        if not answer.said:
            answer.first = dict(zip(allowed, of_allowed.softmax(0).tolist(), strict=True))
    answer.is_over = token == end
    if not answer.is_over:
        answer.said.append(token)
        if constraint is not None and tuple(constraint.allowed(answer.said)) == (end,):
            answer.is_over = True
    return token


@contextmanager
def _at_rest(network: Network) -> Iterator[None]:
    """Without dropout and without gradients; training goes on as it was afterwards."""
    was_training = network.model.training
    network.model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        network.model.train(was_training)


def deadline(within_s: float) -> Callable[[], bool]:
    """A clock that is late after so long."""
    until_s = time.monotonic() + within_s
    return lambda: time.monotonic() > until_s
