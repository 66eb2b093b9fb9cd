"""A base model of our own: a few million parameters in the shape of Qwen3, made from text alone, for machines without a GPU."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
from transformers.utils import logging as transformers_logging

from lmm_mcp import prompting
from lmm_mcp.model.network import save_base

END, PAD = "<|endoftext|>", "<|pad|>"


@dataclass(frozen=True, slots=True)
class Size:
    """The shape of a base."""

    hidden: int
    num_layers: int
    num_words: int
    """Of the tokenizer."""
    context_tokens: int = 2048


SIZES = {
    "test": Size(64, 2, 512),
    "small": Size(128, 4, 2048),
    "default": Size(192, 4, 4096),
}


def tokenizer_from(texts: Iterable[str], num_words: int) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes and frequent groups of them. Each digit is a token, so that numbers can be copied."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=num_words,
            special_tokens=[END, PAD],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in _fixed_texts()])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD)


def untrained(tokenizer: Any, size: Size, *, seed: int) -> Qwen3ForCausalLM:
    """A network of random weights."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        intermediate_size=size.hidden * 8 // 3 // 32 * 32,
        num_hidden_layers=size.num_layers,
        num_attention_heads=size.hidden // 32,
        num_key_value_heads=size.hidden // 32,
        head_dim=32,
        max_position_embeddings=size.context_tokens,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    return Qwen3ForCausalLM(config)


def small_base(target: Path, texts: Sequence[str], *, size: Size = SIZES["test"], seed: int = 0) -> Path:
    """A base of random weights with a tokenizer made from these texts: enough to be trained in a test."""
    transformers_logging.disable_progress_bar()
    tokenizer = tokenizer_from(texts, size.num_words)
    save_base(untrained(tokenizer, size, seed=seed), tokenizer, target)
    return target


def _fixed_texts() -> list[str]:
    """What stands in every prompt, as one token each: a small network's rows are short, and this says nothing new."""
    fixed = [part for name in ("choose", "brief", "fact") for part in _fixed_parts(prompting.load(name).body)]
    marks = [mark for number in range(1, 13) for mark in (f"[{number}] ", f" [{number}]")]
    months = [f"{year}-{month:02d}-" for year in range(2022, 2034) for month in range(1, 13)]
    return [*dict.fromkeys(fixed), *marks, *months]


def _fixed_parts(body: str) -> list[str]:
    parts = []
    for line in body.replace("$question", "\0").replace("$evidence", "\0").replace("$project", "\0").split("\0"):
        if line:
            parts.append(line)
    return parts
