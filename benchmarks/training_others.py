"""The same step through TRL and Unsloth, where they are installed: the same network, the same lessons, their own packing and loss.

Written for TRL 1.16. What they do is theirs: with its defaults TRL pads eight lessons a pass, and computes activations again.
"""

import itertools
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import training_rows as rows
from training_plan import Row
from training_rows import Found

from trainer.recipe import Recipe
from trainer.tokens import Segment

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def measured(row: Row) -> Found:
    """The figures of `trl` or `unsloth`. Raises whatever they raise."""
    recipe = rows.recipe_of(row).but(seq_len=row.seq_len, checkpointing=False)  # they switch it on themselves
    segments = rows.lessons(row, recipe, rows.ROWS_PER_STEP)
    with tempfile.TemporaryDirectory() as folder:
        if row.kind == "unsloth":
            import unsloth  # noqa: F401 - before trl and transformers: it patches them

            model, checkpointing = _unsloths(row, recipe, Path(folder))
        else:
            model, checkpointing = rows.model_of(row, recipe), row.checkpointing
        return _stepped(row, model, segments, folder, checkpointing=checkpointing)


def _stepped(row: Row, model: Any, segments: Sequence[Segment], folder: str, *, checkpointing: bool) -> Found:
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    device = rows.found_device()
    packs = row.packing or row.kind == "unsloth"
    # Packed rows that go through at once are laid end to end, and without flash attention all would be held against all.
    at_once = 1 if packs else min(8, len(segments))
    num_passes = max(1, (rows.ROWS_PER_STEP if packs else len(segments)) // at_once)
    num_steps = rows.WARM_UP + rows.STEPS
    data = [
        {"input_ids": list(each.ids), "labels": [-100] * each.first + list(each.ids[each.first :])}
        for _, each in itertools.product(range(num_steps), segments)
    ]
    config = SFTConfig(
        output_dir=folder, max_length=row.seq_len, max_steps=num_steps, per_device_train_batch_size=at_once,
        gradient_accumulation_steps=num_passes, gradient_checkpointing=checkpointing, learning_rate=1e-4, packing=packs,
        use_liger_kernel=row.packing, use_cpu=device.type == "cpu", bf16=device.type != "cpu", report_to="none",
        save_strategy="no", disable_tqdm=True, logging_steps=10**6,
    )  # fmt: skip
    ends: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            rows.sync(device)
            ends.append(time.perf_counter())

    trainer = SFTTrainer(
        model=model, args=config, train_dataset=Dataset.from_list(data), processing_class=_tokenizer(), callbacks=[Clock()]
    )  # fmt: skip
    trainer.train()
    times = sorted(after - before for before, after in itertools.pairwise(ends[rows.WARM_UP - 1 :]))
    # How many of our steps' lessons one of theirs holds: packing fills rows in its own way.
    share = num_steps * at_once * num_passes / len(trainer.train_dataset)
    note = f"{at_once} {'rows' if packs else 'lessons'} at once, {'computes' if checkpointing else 'does not compute'} activations again"
    found = rows.speed(row, segments, times[len(times) // 2] / share)
    return {**found, **rows.held(), "note": note}


def _unsloths(row: Row, recipe: Recipe, folder: Path) -> tuple[Any, bool]:
    """The same network as Unsloth loads it, with what its own guide recommends."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM
    from unsloth import FastLanguageModel

    plain = Qwen3ForCausalLM._from_config(Qwen3Config(**rows.SHAPES[row.shape]), dtype=torch.bfloat16)
    plain.save_pretrained(folder / "plain")
    _tokenizer().save_pretrained(folder / "plain")
    model, _ = FastLanguageModel.from_pretrained(
        model_name=str(folder / "plain"), max_seq_length=row.seq_len, dtype=torch.bfloat16, load_in_4bit=False
    )
    model = FastLanguageModel.get_peft_model(
        model, r=recipe.rank, lora_alpha=recipe.alpha, target_modules=LINEAR, lora_dropout=0, bias="none",
        use_gradient_checkpointing="unsloth" if row.checkpointing else False,
    )  # fmt: skip
    return model, row.checkpointing


def _tokenizer() -> Any:
    from trainer.base import tokenizer_from

    return tokenizer_from(["which port does the api use"], 512)
