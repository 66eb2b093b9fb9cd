"""How fast the training loop learns: tokens a second, share of the machine's own matrix products, peak memory.

    python benchmarks/training.py --shape tiny
    python benchmarks/training.py --shape 0.6b 1.7b 4b --method lora --rows 8 --seq-len 4096      (a GPU with memory enough)

Networks of the shapes of Qwen3 with random weights; rows full of short lessons, packed; forward, backward and the optimizer's
step. Model FLOPs utilisation counts 4N a token for an adapter (6N where all weights move) and attention; what is computed twice to
save memory is not counted. The rate it is compared with is that of a matrix product measured in the same run, in the same numbers.
With trl installed, the same step goes through its SFTTrainer with its defaults.
"""

import argparse
import math
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lmm_mcp import memory  # noqa: E402
from lmm_mcp.model.network import Card, Network, with_lora  # noqa: E402
from trainer import engine, loop, stepping  # noqa: E402
from trainer.checkpoints import Place  # noqa: E402
from trainer.learning import Learner  # noqa: E402
from trainer.recipe import Recipe  # noqa: E402
from trainer.tokens import Segment  # noqa: E402

SHAPES = {
    "tiny": {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 6, "num_key_value_heads": 6, "head_dim": 32, "vocab_size": 4352, "tie_word_embeddings": True},
    "0.6b": {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "tie_word_embeddings": True},
    "1.7b": {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "tie_word_embeddings": True},
    "4b": {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "tie_word_embeddings": True},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Measured:
    """One way of doing the step."""

    name: str
    tokens_per_s: float
    mfu: float
    memory_mb: float


class _Pad:
    pad_token_id = 0


def matmul_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a square matrix product."""
    side = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best = math.inf
    for _ in range(8):
        _sync(device)
        started = time.perf_counter()
        for _ in range(4):
            left @ right
        _sync(device)
        best = min(best, (time.perf_counter() - started) / 4)
    return 2 * side**3 / best


def operations(model: torch.nn.Module, shape: dict[str, int], segments: list[Segment], *, whole: bool) -> float:
    """Of one step, what is computed twice not counted. The input's embeddings are looked up, not multiplied."""
    passes = 6 if whole else 4
    linear = sum(
        p.numel() for name, p in model.named_parameters() if p.ndim == 2 and "lora" not in name and "embed" not in name
    )
    asked = sum(each.num_answer for each in segments)
    head = shape["vocab_size"] * shape["hidden_size"]
    tokens = sum(len(each.ids) for each in segments)
    side = shape["num_attention_heads"] * shape["head_dim"]
    # Causal: half of the square; scores and values; backward twice as much.
    attention = sum(len(each.ids) ** 2 for each in segments) * side * 2 * 3 * shape["num_hidden_layers"]
    return passes * (linear * tokens + head * asked) + attention


def ours(name: str, args: argparse.Namespace, device: torch.device, rate: float) -> Measured:
    """The step of trainer/stepping.py."""
    shape = SHAPES[name]
    model, segments, recipe = prepared(shape, args, device)
    hall = engine.start(recipe)
    network = Network(model, _Pad(), Card(name, "", 0, args.seq_len))
    learner = Learner(model)
    optimizer = torch.optim.AdamW([p for p in learner.parameters() if p.requires_grad], lr=1e-4, betas=(0.9, 0.95))
    place = Place("sft", 0, args.steps, "", args.seq_len, args.rows)
    times = []
    for _ in range(args.steps + 2):
        _sync(device)
        started = time.perf_counter()
        stepping.learn(learner, None, segments, network, recipe, hall, place)
        loop._move(learner, optimizer, 1e-4, 1.0, hall)
        _sync(device)
        times.append(time.perf_counter() - started)
    seconds = sorted(times[2:])[args.steps // 2]
    tokens = sum(len(each.ids) for each in segments)
    work = operations(model, shape, segments, whole=args.method == "full")
    return Measured(f"{name} {args.method}", tokens / seconds, work / seconds / rate, _memory_mb(device))


def prepared(
    shape: dict[str, int], args: argparse.Namespace, device: torch.device
) -> tuple[torch.nn.Module, list[Segment], Recipe]:
    """A network of random weights, lessons that fill the rows, and the recipe."""
    torch.manual_seed(0)
    dtype = torch.bfloat16 if device.type == "cuda" and args.method != "full" else torch.float32
    with torch.device(device):
        model = Qwen3ForCausalLM._from_config(
            Qwen3Config(**shape, max_position_embeddings=args.seq_len), dtype=dtype, attn_implementation="sdpa"
        )
    if args.method == "lora":
        model = with_lora(model, rank=32, alpha=64)
    if args.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    each = args.lesson_tokens
    draw = torch.Generator().manual_seed(0)
    segments = [
        Segment(tuple(torch.randint(3, shape["vocab_size"], (each,), generator=draw).tolist()), each * 3 // 4, 1.0)
        for _ in range(args.rows * (args.seq_len // each))
    ]
    recipe = Recipe(
        method=args.method, seq_len=args.seq_len, min_seq_len=16, micro_rows=args.rows, tokens_per_step=args.rows * args.seq_len,
        precision=args.precision, device=device.type, stage="sft",
    )  # fmt: skip
    return model, segments, recipe


def theirs(name: str, args: argparse.Namespace, device: torch.device, rate: float) -> Measured | str:
    """The same lessons through TRL with its defaults; the reason where that cannot be measured."""
    try:
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer
    except ImportError:
        return f"{name} TRL: skipped, trl is not installed"
    shape = SHAPES[name]
    model, segments, _ = prepared(shape, args, device)
    with tempfile.TemporaryDirectory() as folder:
        rows = [{"input_ids": list(s.ids), "completion_mask": [0] * s.first + [1] * s.num_answer} for s in segments] * (
            args.steps + 2
        )
        per_step = len(segments)
        config = SFTConfig(
            output_dir=folder, max_length=args.seq_len, per_device_train_batch_size=min(8, per_step), max_steps=args.steps,
            gradient_accumulation_steps=max(1, per_step // 8), report_to="none", save_strategy="no", disable_tqdm=True,
            use_cpu=device.type == "cpu", bf16=args.precision == "bfloat16", logging_steps=10**6,
        )  # fmt: skip
        trainer = SFTTrainer(
            model=model, args=config, train_dataset=Dataset.from_list(rows), processing_class=_tokenizer(shape)
        )
        _sync(device)
        started = time.perf_counter()
        trainer.train()
        _sync(device)
        seconds = (time.perf_counter() - started) / args.steps
    work = operations(model, shape, segments, whole=args.method == "full")
    tokens = sum(len(each.ids) for each in segments)
    return Measured(f"{name} TRL defaults", tokens / seconds, work / seconds / rate, _memory_mb(device))


def _tokenizer(shape: dict[str, int]) -> object:
    from trainer.base import tokenizer_from

    return tokenizer_from(["which port does the api use"], min(512, shape["vocab_size"]))


def _sync(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device) / 1e6
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return peak
    return memory.resident_bytes() / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=["tiny"])
    parser.add_argument("--method", choices=["lora", "full"], default="lora")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--rows", type=int, default=4, help="rows that go through at once")
    parser.add_argument("--seq-len", type=int, default=512)
    parser.add_argument("--lesson-tokens", type=int, default=128)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--checkpointing", action="store_true")
    args = parser.parse_args()
    device = torch.device(engine.chosen_device("auto"))
    rate = matmul_flops(device, torch.bfloat16 if args.precision == "bfloat16" else torch.float32)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{where}, torch {torch.__version__}, {args.precision}: a matrix product runs at {rate / 1e12:.3f} TFLOPS")
    print(
        f"rows of {args.seq_len} tokens, {args.rows} at once, lessons of {args.lesson_tokens}, a quarter of it answer"
    )
    print(f"\n{'what':<24}{'tokens/s':>12}{'MFU':>8}{'memory MB':>12}")
    for name in args.shape:
        for found in (ours(name, args, device, rate), theirs(name, args, device, rate)):
            if isinstance(found, str):
                print(found)
            else:
                print(f"{found.name:<24}{found.tokens_per_s:>12.0f}{found.mfu:>8.1%}{found.memory_mb:>12.0f}")


if __name__ == "__main__":
    main()
