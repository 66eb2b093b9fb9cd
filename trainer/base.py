"""A base model of our own: a few million parameters in the shape of Qwen3, made from text alone, for machines without a GPU."""

import dataclasses
import json
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
from transformers.utils import logging as transformers_logging

from lmm_mcp import prompting
from lmm_mcp.domain.lesson import SLICES, Lesson
from lmm_mcp.errors import TrainingError
from lmm_mcp.model.network import load, save_base
from lmm_mcp.model.rendering import answer_ids, prompt_ids
from trainer import base_texts
from trainer.loop import train
from trainer.recipe import Pull, Recipe
from trainer.tokens import lesson_segments

END, PAD = "<|endoftext|>", "<|pad|>"
RECIPE = Recipe(
    preset="base",
    method="full",
    stage="sft",
    learning_rate=3e-3,
    epochs=1,
    tokens_per_step=2048,
    seq_len=512,
    min_seq_len=256,
    micro_rows=4,
    max_steps=0,
    prompt_weight=0.15,
    pulls=tuple((name, Pull(1.0, 0.0)) for name in SLICES),
    checkpointing=False,
    shuffled=False,
    saves=20,
)
"""Of a base: a small step for every four rows, since the number of steps is what teaches to copy."""


TRIAL_steps = 20


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
    "medium": Size(768, 12, 4096),  # 88 million parameters, for a GPU
}
NUM_ITEMS = {"test": 200, "small": 40_000, "default": 60_000, "medium": 200_000}
"""Pieces of text of our own that a base of that size is trained on."""
DIALS: dict[str, dict[str, Any]] = {
    "medium": {"learning_rate": 1e-3, "tokens_per_step": 4096, "micro_rows": 8, "saves": 4}
}
"""Where a size departs from `RECIPE`: larger networks bear smaller rates. Nobody has tried others for this one yet."""


def make_base(
    target: Path,
    *,
    texts: Sequence[str] = (),
    seed: int = 0,
    size: str = "default",
    num_items: int = 0,
    minutes: float = 0.0,
    device: str = "auto",
    should_stop: Callable[[], bool] = lambda: False,
    log: Callable[[dict[str, Any]], None] = lambda _line: None,
) -> bool:
    """Make a base and put it at `target`; False where it was asked to stop, and the same call goes on.

    `texts` are the user's own passages: they make the tokenizer fit, and their lines are among those shown. What is made with
    them must go when they are forgotten, so by default there are none. `minutes` instead of `num_items`: as many as can be
    learned from in so long, by what a few steps take. Raises TrainingError.
    """
    if size not in SIZES:
        raise TrainingError(f"there is no size {size!r} of a base; there are {', '.join(SIZES)}.")
    began_s = time.monotonic()
    _quietly()
    workshop = target.with_name(f".{target.name}.making")
    wanted = num_items or NUM_ITEMS[size]
    recipe = RECIPE.but(base=str(workshop / "start"), seed=seed, device=device, **DIALS.get(size, {}))
    lines = [line.strip() for text in texts for line in text.splitlines() if len(line.strip()) > 20]
    plan = {
        "size": dataclasses.asdict(SIZES[size]),
        "seed": seed,
        "num_items": 0 if minutes else wanted,
        "minutes": minutes,
        "texts": len(texts),
    }
    begun = workshop / "plan.json"
    before = json.loads(begun.read_text(encoding="utf-8")) if begun.is_file() else {}
    if before == plan or (minutes and {**before, "num_items": 0} == plan):
        wanted = before["num_items"]
    else:
        shutil.rmtree(workshop, ignore_errors=True)
        workshop.mkdir(parents=True, mode=0o700)
        # What the tokenizer is made from is drawn from another seed: it must not know the values by heart.
        shown = (f"{each.prompt} {each.answer}" for each in base_texts.items(seed + 1, min(6000, 5 * wanted)))
        tokenizer = tokenizer_from((*shown, *texts), SIZES[size].num_words)
        save_base(untrained(tokenizer, SIZES[size], seed=seed), tokenizer, workshop / "start")
        if minutes:
            left_s = minutes * 60 - (time.monotonic() - began_s)
            wanted = num_within(left_s, recipe, workshop / "trial")
        begun.write_text(json.dumps({**plan, "num_items": wanted}), encoding="utf-8")
    lessons = list(base_texts.items(seed, wanted, lines=lines))
    done = train(recipe, (), lessons, workshop / "run", should_stop=should_stop, log=log)
    if not done.finished:
        return False
    made = load(workshop / "start", adapter=done.adapter)
    tell_unseen_apart(made.model, made.tokenizer, lessons, seed=seed)
    save_base(made.model, made.tokenizer, target)
    shutil.rmtree(workshop, ignore_errors=True)
    return True


def num_within(seconds: float, recipe: Recipe, folder: Path) -> int:
    """How many pieces of text a base can be made from in so long: a few steps are tried, in a folder that is deleted then."""
    began_s = time.monotonic()
    enough = TRIAL_steps * recipe.tokens_per_step // 60  # a piece has some 75 tokens
    lessons = list(base_texts.items(recipe.seed, enough))
    start = load(Path(recipe.base))
    num_tokens = lesson_segments(lessons, start.tokenizer, recipe).num_tokens
    reading_s = 2 * (time.monotonic() - began_s) / enough  # of one; once more when all have been learned
    speeds: list[float] = []
    tried = recipe.but(max_steps=TRIAL_steps, saves=1)
    train(tried, (), lessons, folder, log=lambda line: speeds.append(line["tokens_per_s"]))
    shutil.rmtree(folder)
    learning_s = num_tokens / enough / statistics.median(speeds[TRIAL_steps // 2 :])
    left_s = seconds - (time.monotonic() - began_s)
    # The rest is for checkpoints, and for what cannot be foreseen.
    return max(enough, int(0.85 * left_s / (reading_s + learning_s)))


def tokenizer_from(texts: Iterable[str], num_words: int) -> Any:
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
    wrapped: Any = PreTrainedTokenizerFast
    return wrapped(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD)


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
    model = Qwen3ForCausalLM(config)
    _inclined_to_copy(model)
    return model


@torch.no_grad()
def _inclined_to_copy(model: Qwen3ForCausalLM) -> None:
    # Keys begin as queries, and what is read is handed on as it is: a token looks at its like, as copying needs. Trockman and
    # Kolter 2023, "Mimetic initialization"; here it took a quarter fewer steps to the same loss on repeated lines.
    for layer in model.model.layers:
        attention = layer.self_attn
        torch.nn.init.orthogonal_(attention.q_proj.weight)
        attention.k_proj.weight.copy_(attention.q_proj.weight)
        torch.nn.init.orthogonal_(attention.v_proj.weight)
        attention.o_proj.weight.copy_(attention.v_proj.weight.T * 0.5)


@torch.no_grad()
def tell_unseen_apart(model: Any, tokenizer: Any, lessons: Sequence[Lesson], *, seed: int) -> int:
    """Give each token that none of these lessons holds an embedding unlike the others'; how many there are.

    All of them were only ever pushed away, by the same steps, and lie in one spot: whoever must say one of them says any of
    them, and no adapter can learn otherwise, since it leaves embeddings as they are. A base is made without backticks, and a
    user's lessons are full of them.
    """
    seen = {
        token
        for each in lessons
        for token in (*prompt_ids(tokenizer, each.prompt), *answer_ids(tokenizer, each.answer))
    }
    table = model.get_input_embeddings().weight
    unseen = [token for token in range(len(table)) if token not in seen]
    if unseen and seen:
        dice = torch.Generator().manual_seed(seed)
        away = torch.nn.functional.normalize(torch.randn(len(unseen), table.shape[1], generator=dice))
        table[unseen] += (away * table[sorted(seen)].norm(dim=1).median().cpu()).to(table)
    return len(unseen)


def small_base(target: Path, texts: Sequence[str], *, size: Size = SIZES["test"], seed: int = 0) -> Path:
    """A base of random weights with a tokenizer made from these texts: enough to be trained in a test."""
    _quietly()
    tokenizer = tokenizer_from(texts, size.num_words)
    save_base(untrained(tokenizer, size, seed=seed), tokenizer, target)
    return target


def _quietly() -> None:
    hush: Any = transformers_logging.disable_progress_bar
    hush()


def _fixed_texts() -> list[str]:
    """What stands in every prompt, as one token each: a small network's rows are short, and this says nothing new."""
    fixed = [part for name in ("choose", "brief", "fact") for part in _fixed_parts(prompting.load(name).body)]
    marks = [mark for number in range(1, 13) for mark in (f"[{number}] ", f" [{number}]")]
    months = [f"{year}-{month:02d}-" for year in range(2022, 2034) for month in range(1, 13)]
    return [*dict.fromkeys(fixed), *marks, *months]


def _fixed_parts(body: str) -> list[str]:
    gaps = ("$question", "$evidence", "$project")
    for gap in gaps:
        body = body.replace(gap, "\0")
    return [part for part in body.split("\0") if part]
