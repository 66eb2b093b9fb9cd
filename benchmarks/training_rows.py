"""One row of training.py's table, measured in a process of its own: JSON in as the argument, one line of JSON out.

Networks of the shapes of Qwen3 with random weights; lessons of different lengths, packed; forward, backward and the optimizer's
step by the product's own code. Model FLOPs utilisation counts 4N a token, N being the weights a token goes through, and attention;
what is computed twice to save memory is not counted, nor is the vocabulary where nothing is asked.
"""

import json
import math
import os
import platform
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata, util
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import torch  # noqa: E402
from training_plan import Row  # noqa: E402
from transformers import Qwen3Config, Qwen3ForCausalLM  # noqa: E402

from lmm_mcp import memory, prompting  # noqa: E402
from lmm_mcp.errors import TrainingError  # noqa: E402
from lmm_mcp.model import generate  # noqa: E402
from lmm_mcp.model.network import Card, Network, ready_to_serve, with_lora  # noqa: E402
from trainer import base, base_texts, engine, loop, presets, stepping  # noqa: E402
from trainer.checkpoints import Place  # noqa: E402
from trainer.learning import Learner  # noqa: E402
from trainer.preparing import compute_again  # noqa: E402
from trainer.recipe import Recipe  # noqa: E402
from trainer.tokens import Segment  # noqa: E402

SHAPES = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "vocab_size": 2304, "tie_word_embeddings": True},
    "0.6b": {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "tie_word_embeddings": True},
    "1.7b": {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "tie_word_embeddings": True},
    "4b": {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "tie_word_embeddings": True},
}  # fmt: skip
ROWS_PER_STEP = 8
WARM_UP, STEPS = 2, 5
NUM_BRIEFS, BRIEF_tokens, BRIEFS_within_s = 20, 200, 90.0
PACKAGES = ("torch", "transformers", "peft", "accelerate", "trl", "liger-kernel", "unsloth", "flash-attn")
Found = dict[str, Any]


def main() -> None:
    # Whatever a library prints must not land in the answer.
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    answer.write(json.dumps(measured(Row(**json.loads(sys.argv[1])))) + "\n")
    answer.flush()
    os._exit(0)  # some libraries' threads do not end


def measured(row: Row) -> Found:
    """The figures of a row, or `reason`: why there are none, in one line."""
    try:
        return MEASURES[row.kind](row)
    except Exception as problem:  # of whatever library was asked
        if stepping.is_out_of_memory(problem):
            return {"reason": "out of memory"}
        lines = str(problem).strip().splitlines() or [""]
        return {"reason": f"{type(problem).__name__}: {lines[0]}"[:300]}


def machine(_row: Row) -> Found:
    """What it runs on, and how fast a matrix product is there."""
    device = found_device()
    names = (each for each in PACKAGES if util.find_spec(each.replace("-", "_")))
    on_cuda = device.type == "cuda"
    return {
        "hardware": f"{torch.cuda.get_device_name(device)}, {torch.cuda.mem_get_info(device)[1] / 1e9:.0f} GB"
        if on_cuda
        else f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s)",
        "versions": ", ".join(f"{name} {metadata.version(name)}" for name in names),
        "precision": "bfloat16" if on_cuda else "float32",
        "rate": matmul_rate(device, torch.bfloat16 if on_cuda else torch.float32),
    }


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a square matrix product, the best of eight."""
    side = 8192 if device.type == "cuda" else 512
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best = math.inf
    for _ in range(8):
        seconds = timed(lambda: [left @ right for _ in range(4)], device)
        best = min(best, seconds / 4)
    return 2 * side**3 / best


def operations(shape: Mapping[str, int], segments: Sequence[Segment]) -> float:
    """Of one step with an adapter, what is computed twice not counted: forward, and backward without gradients of the base's weights.

    The input's embeddings are looked up, not multiplied; the vocabulary is reached only where something is asked.
    """
    hidden, side = shape["hidden_size"], shape["num_attention_heads"] * shape["head_dim"]
    kept = shape["num_key_value_heads"] * shape["head_dim"]
    layer = hidden * (2 * side + 2 * kept) + 3 * hidden * shape["intermediate_size"]
    tokens = sum(len(each.ids) for each in segments)
    asked = sum(each.num_answer for each in segments)
    linear = 4 * (shape["num_hidden_layers"] * layer * tokens + shape["vocab_size"] * hidden * asked)
    # Causal: half of the square; scores and values, two operations each; backward twice as much as forward.
    attention = sum(len(each.ids) ** 2 for each in segments) * side * 2 * 3 * shape["num_hidden_layers"]
    return linear + attention


def ours(row: Row) -> Found:
    """The step of the loop, with so many rows at once as memory holds."""
    recipe = recipe_of(row).but(seq_len=row.seq_len, checkpointing=row.checkpointing)
    model = model_of(row, recipe)
    segments = lessons(row, recipe, ROWS_PER_STEP)
    seconds, place = trained(model, segments, recipe)
    return {**speed(row, segments, seconds), **held(), "note": f"{place.micro_rows} rows of {place.seq_len} at once"}


def of_preset(row: Row) -> Found:
    """What a preset takes of the memory that it is named after: first with no more than that, then, if less had to do, with all."""
    recipe = recipe_of(row)
    limit = float(row.preset.removesuffix("gb")) * 1e9
    limited(limit)
    asked_for = recipe.micro_rows, recipe.seq_len
    model = model_of(row, recipe)
    segments = lessons(
        row, recipe, 2 * recipe.micro_rows
    )  # twice through the network: gradients are there the second time
    note = ""
    try:
        seconds, place = trained(model, segments, recipe)
        if (place.micro_rows, place.seq_len) != asked_for:
            note = f"only {place.micro_rows} rows of {place.seq_len} fit"
    except TrainingError:
        note = "does not fit"
    if note:
        limited(math.inf)
        model.zero_grad(set_to_none=True)
        seconds, place = trained(model, segments, recipe)
    found = {**speed(row, segments, seconds), **held(), "limit_gb": limit / 1e9}
    fits = not note and found["held_gb"] <= limit / 1e9
    return {**found, "fits": fits, "note": note or f"{recipe.micro_rows} rows of {recipe.seq_len} at once"}


def briefs(row: Row) -> Found:
    """A brief of 200 tokens, one question after the other, as the serving process writes it."""
    recipe = recipe_of(row).but(checkpointing=False)
    own = base.tokenizer_from((each.prompt for each in base_texts.items(1, 300)), 1024)
    context_tokens = 4096
    network = Network(model_of(row, recipe), _Endless(own), Card(row.shape, "", 0, context_tokens))
    network = ready_to_serve(network)
    prompts = []
    for number in range(NUM_BRIEFS + 1):
        question, offered, _ = base_texts.choice_item(random.Random(number), 12)
        prompts.append(prompting.writing(question, offered))
    said: list[int] = []
    times: list[float] = []
    began_s = time.monotonic()
    for prompt in prompts:
        said.append(0)

        def one_more() -> bool:  # asked before every token
            said[-1] += 1
            return False

        def write(prompt: str = prompt, is_late: Callable[[], bool] = one_more) -> Any:
            return generate.generate(network, [prompt], max_new_tokens=BRIEF_tokens, is_late=is_late)

        times.append(timed(write, network.device))
        if len(times) > 3 and time.monotonic() - began_s > BRIEFS_within_s:
            break
    said, times = said[1:], sorted(times[1:])  # the first one loads kernels
    p95 = times[math.ceil(0.95 * len(times)) - 1]
    length = sum(len(own.encode(each)) for each in prompts) // len(prompts)
    return {
        "tokens_per_s": sum(said) / sum(times),
        "p95_s": p95,
        "num_briefs": len(times),
        **held(),
        "note": f"{len(times)} briefs of {said[0]} tokens, prompts of {length}",
    }


class _Endless:
    """A tokenizer without an end that a model could say: random weights would stop a brief anywhere."""

    eos_token_id = -1

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


# What the rows are made of -------------------------------------------------------------------------------------------------


def found_device() -> torch.device:
    return torch.device(engine.chosen_device("auto"))


def recipe_of(row: Row) -> Recipe:
    """The preset as it is; for the tiny shape with shorter rows, and on a device that is here."""
    recipe = presets.preset(row.preset)
    device = found_device()
    seq_len = recipe.seq_len // row.shrunk
    return recipe.but(
        device=device.type,
        stage="sft",
        seq_len=seq_len,
        min_seq_len=min(recipe.min_seq_len, seq_len),
        precision="float32" if device.type == "cpu" else "bfloat16",
    )


def model_of(row: Row, recipe: Recipe) -> Any:
    """A network of random weights with an untrained adapter."""
    torch.manual_seed(0)
    device = found_device()
    with torch.device(device):
        model = Qwen3ForCausalLM._from_config(
            Qwen3Config(**SHAPES[row.shape], max_position_embeddings=4096),
            dtype=torch.float32 if device.type == "cpu" else torch.bfloat16,
            attn_implementation="sdpa",
        )
        model = with_lora(model, rank=recipe.rank, alpha=recipe.alpha)
    if recipe.checkpointing:
        compute_again(model)
    return model.train()


def lessons(row: Row, recipe: Recipe, num_rows: int) -> list[Segment]:
    """As many as go into that many rows, from a quarter to seven quarters of their mean length; a quarter of each is answer."""
    mean = recipe.seq_len // 16
    dice = torch.Generator().manual_seed(0)
    found: list[Segment] = []
    left = num_rows * recipe.seq_len
    while True:
        length = max(4, int(torch.randint(mean // 4, mean * 7 // 4, (1,), generator=dice)))
        left -= length
        if left < 0:
            return found
        ids = torch.randint(3, SHAPES[row.shape]["vocab_size"], (length,), generator=dice).tolist()
        found.append(Segment(tuple(ids), length * 3 // 4, 1.0))


def trained(model: Any, segments: list[Segment], recipe: Recipe) -> tuple[float, Place]:
    """Seconds of a step (the median), and with how much at once. Raises TrainingError where memory is too small for any."""
    hall = engine.start(recipe)
    network = Network(model, _Pad(), Card("", "", 0, recipe.seq_len))
    learner = Learner(model)
    optimizer = torch.optim.AdamW([each for each in learner.parameters() if each.requires_grad], betas=recipe.betas)
    place = Place("sft", 0, STEPS, "", recipe.seq_len, recipe.micro_rows)
    times: list[float] = []

    def step() -> None:
        nonlocal place
        _, place = stepping.with_less(stepping.learn, learner, None, segments, network, recipe, hall, place)
        loop._move(learner, optimizer, 1e-4, recipe.clip, hall)

    for number in range(WARM_UP + STEPS):
        if number == WARM_UP and hall.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()  # of a try with too much at once nothing is to be told
        times.append(timed(step, hall.device))
    return sorted(times[WARM_UP:])[STEPS // 2], place


class _Pad:
    pad_token_id = 0


def speed(row: Row, segments: Sequence[Segment], seconds: float) -> Found:
    """Tokens a second, and the share of the matrix product's rate."""
    tokens = sum(len(each.ids) for each in segments)
    work = operations(SHAPES[row.shape], segments)
    return {"tokens_per_s": tokens / seconds, "mfu": work / seconds / row.rate if row.rate else None}


def timed(do: Callable[[], Any], device: torch.device) -> float:
    """Seconds, with all that was started on the device."""
    sync(device)
    began_s = time.perf_counter()
    do()
    sync(device)
    return time.perf_counter() - began_s


def sync(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def held() -> Found:
    """The most that tensors took since the last reset, and that this process held of the device: with torch's reserve and CUDA's own.

    On a CPU what it holds now. Another program on the same GPU would be counted as CUDA's own.
    """
    if found_device().type != "cuda":
        return {"peak_gb": memory.resident_bytes() / 1e9, "held_gb": memory.resident_bytes() / 1e9}
    return {
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9,
        "held_gb": (torch.cuda.max_memory_reserved() + _of_cuda()) / 1e9,
    }


def limited(num_bytes: float) -> None:
    """Let torch take no more of the GPU than a card of that size has left for it; inf: all."""
    if found_device().type == "cuda":
        total = torch.cuda.mem_get_info()[1]
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(min(1.0, max(0.0, num_bytes - _of_cuda()) / total))


def _of_cuda() -> int:
    """What is taken beside torch's tensors: the context."""
    torch.zeros(1, device="cuda")
    free, total = torch.cuda.mem_get_info()
    return max(0, total - free - torch.cuda.memory_reserved())


def _others(row: Row) -> Found:
    import training_others

    return training_others.measured(row)


MEASURES: dict[str, Callable[[Row], Found]] = {
    "machine": machine, "ours": ours, "preset": of_preset, "briefs": briefs, "trl": _others, "unsloth": _others,
}  # fmt: skip


if __name__ == "__main__":
    main()
