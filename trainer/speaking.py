"""The real models behind `judging.Speaker`: a network that is asked with what it learned, or with that put aside."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel

from lmm_mcp import artifacts
from lmm_mcp.domain.writing import Offered
from lmm_mcp.model import generate
from lmm_mcp.model.copying import TOKENS_PER_SENTENCE
from lmm_mcp.model.network import Network
from lmm_mcp.model.rendering import answer_text, end_id, prompt_ids

TEMPERATURE = 0.8


@dataclass(frozen=True, slots=True)
class NetworkSpeaker:
    """A network under a name. An adapter may be put aside: then it is its own base, and needs no second copy."""

    network: Network
    name: str
    is_base: bool = False
    """Ask it without what it learned. Only where that is an adapter; whole weights are the model."""
    look_up: Callable[[], None] = lambda: None
    """Called at every token: raises where nobody should wait for the rest."""

    @property
    def num_bytes(self) -> int:
        """What was learned, on the disk."""
        return (
            0 if self.is_base or not self.network.card.adapter else artifacts.num_bytes(Path(self.network.card.adapter))
        )

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int, copied: Sequence[Sequence[Offered]] = ()
    ) -> list[str]:
        """See `Speaker`."""
        most = max_new_tokens // TOKENS_PER_SENTENCE
        grammars = [generate.copying_for(self.network, lines, most=most) for lines in copied] or None
        with self._ready():
            return generate.generate(
                self.network, prompts, max_new_tokens=max_new_tokens, constraint=grammars, is_late=self._is_late
            )

    def choose(self, prompt: str, numbers: Sequence[int]) -> tuple[int, ...]:
        """See `Speaker`."""
        with self._ready():
            return generate.choose(self.network, prompt, numbers, is_late=self._is_late).chosen

    def answer_loss(self, prompt: str, answer: str) -> float:
        """See `Speaker`."""
        self.look_up()
        with self._ready():
            return generate.answer_loss(self.network, prompt, answer)

    def answer_losses(self, prompt: str, answer: str) -> list[float]:
        """How surprised it is by each token of an answer, in nats."""
        with self._ready():
            return generate.answer_losses(self.network, prompt, answer)

    def sample(self, prompts: Sequence[str], *, max_new_tokens: int, seed: int) -> list[str]:
        """See `Speaker`. The same seed says the same on one device."""
        dice = torch.Generator().manual_seed(seed)
        with self._ready():
            return [self._sampled(prompt, max_new_tokens, dice) for prompt in prompts]

    def _sampled(self, prompt: str, max_new_tokens: int, dice: torch.Generator) -> str:
        network, said = self.network, list[int]()
        end = end_id(network.tokenizer)
        fed = prompt_ids(network.tokenizer, prompt)
        past = None
        was_training = network.model.training
        network.model.eval()
        with torch.inference_mode():
            for _ in range(max_new_tokens):
                self.look_up()
                ids_BT = torch.tensor([fed], device=network.device)
                out = network.model(input_ids=ids_BT, past_key_values=past, use_cache=True, logits_to_keep=1)
                past = out.past_key_values
                shares_V = (out.logits[0, -1].float().cpu() / TEMPERATURE).softmax(0)
                token = int(torch.multinomial(shares_V, 1, generator=dice))
                if token == end:
                    break
                said.append(token)
                fed = [token]
        network.model.train(was_training)
        return answer_text(network.tokenizer, said)

    def _is_late(self) -> bool:
        self.look_up()
        return False

    @contextlib.contextmanager
    def _ready(self) -> Iterator[None]:
        if self.is_base and isinstance(self.network.model, PeftModel):
            with self.network.model.disable_adapter():
                yield
        else:
            yield
