"""What a run needs and can be told before it makes anything: packages, room on the disk, memory on the device.

What would surely fail is refused with the next step; memory is an estimate, so that a lack of it is only said.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lmm_mcp import artifacts, memory
from lmm_mcp.artifacts import durable
from lmm_mcp.errors import BadInput, TrainingError
from lmm_mcp.model import network
from lmm_mcp.paths import Home
from trainer import checkpoints, engine, planning, preparing, presets
from trainer.plan import Plan
from trainer.recipe import Recipe

PAPERS_bytes = 100_000_000
"""Of lessons, probes, what models said, and the page."""


def look(home: Home, plan: Plan, *, free_bytes: Callable[[Path], int] | None = None) -> list[str]:
    """What is to be said before a run begins. `free_bytes`: of the disk that holds a folder.

    Raises TrainingError where a package is missing or the disk has no room, ModelError where the base is not here or what it goes
    on from was learned on another, BadInput where the recipe cannot go on from that.
    """
    preparing.check(plan.recipe)
    base = planning.base_of(home, plan)
    if (start := planning.start_from(home, plan)) is not None:
        network.check_adapter(start, base.fingerprint)
        _check_shape(plan, start)
    num_parameters = _num_parameters(plan.recipe, base.folder)
    needed = disk_bytes(plan.recipe, num_parameters)
    free = (free_bytes or (lambda folder: shutil.disk_usage(folder).free))(_there(artifacts.runs_folder(home)))
    if free < needed:
        raise TrainingError(
            f"a run keeps up to {_told(needed)} of checkpoints and weights under {home.artifacts}, and {_told(free)} are free there; "
            "free some space, delete what `lmm model list` shows and nobody needs, or choose a smaller --rank."
        )
    told = []
    if plan.recipe.preset == "cpu-tiny" and 0 < (size := gpu_bytes()) < presets.SMALLEST_GPU_gb * 1e9:
        told.append(
            f"the GPU here has {_told(size)} and no preset fits into less than {presets.SMALLEST_GPU_gb} GB, so the processor trains"
        )
    memory = presets.estimate(plan.recipe, 0, num_parameters=num_parameters).memory_bytes
    device = engine.chosen_device(plan.recipe.device)
    there = memory_bytes(device)
    if there and memory > there:
        told.append(
            f"this may take {_told(memory)} of memory and {device} has {_told(there)}: rows get shorter where it runs out "
            "(`--seq-len`, `--micro-rows` or a smaller base take less from the start)"
        )
    return told


def disk_bytes(recipe: Recipe, num_parameters: int) -> int:
    """What checkpoints (value and two moments of each number that is learned), the result and the version take at most."""
    learned = presets.learned_parameters(recipe, num_parameters)
    return PAPERS_bytes + 4 * learned * (3 * (checkpoints.KEPT + 1) + 2)


def memory_bytes(device: str) -> int:
    """Of a device in all, 0 where it does not tell."""
    if device == "cuda":
        return gpu_bytes()
    return memory.machine_bytes()


def gpu_bytes() -> int:
    """Memory of the first CUDA device, 0 where there is none."""
    return int(torch.cuda.get_device_properties(0).total_memory) if torch.cuda.is_available() else 0


def _check_shape(plan: Plan, start: Path) -> None:
    """What was learned keeps its shape: a recipe that says otherwise would be passed over, or its work not kept."""
    recipe = plan.recipe
    needed: dict[str, Any] = {"method": "full"}
    if (start / network.ADAPTER_FILE).is_file():
        told = durable.read_json(start / "adapter_config.json") or {}  # peft's; of a torn one loading tells
        named = (("rank", "r"), ("alpha", "lora_alpha"), ("dropout", "lora_dropout"))
        needed = {dial: told[key] for dial, key in named if key in told}
        needed["method"] = "qlora" if recipe.method == "qlora" else "lora"
    dials = [f"--{name} {value}" for name, value in needed.items() if getattr(recipe, name) != value]
    if dials:
        raise BadInput(
            f"{plan.from_checkpoint} can only be gone on from with {' '.join(dials)}; write that, or --from-checkpoint {planning.FROM_BASE}."
        )


def _num_parameters(recipe: Recipe, base: Path) -> int:
    known = presets.NUM_PARAMETERS.get(recipe.base, 0)
    return known or sum(file.stat().st_size for file in base.glob("*.safetensors")) // 2  # of two bytes each at least


def _there(folder: Path) -> Path:
    """The folder, or the nearest above it that there is yet."""
    return next(each for each in (folder, *folder.parents) if each.is_dir())


def _told(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
