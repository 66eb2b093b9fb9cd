"""Where a run stands, written at every tenth of it: what was learned, the optimizer, the place in the data, the dice.

A checkpoint is a folder that is there whole or not at all. Tensors are kept as safetensors; nothing is ever unpickled.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lmm_mcp.errors import TrainingError
from lmm_mcp.model.network import Network, save_adapter
from lmm_mcp.refusal import refusal_behind
from trainer.engine import Engine, like, whole

KEPT = 3
"""Of a run, which goes on from the newest. What it ends with is judged by the gate, and no earlier one is compared with it."""
_STATE = ("exp_avg", "exp_avg_sq", "step")


@dataclass(frozen=True, slots=True)
class Place:
    """How far a run is, and under which conditions."""

    stage: str
    step: int
    """Updates of the weights done in this stage."""
    num_steps: int
    data: str
    """Hash of all that is learned from in this run."""
    seq_len: int
    micro_rows: int
    lost: tuple[str, ...] = ()
    """Lessons left out since rows were shortened."""
    losses: tuple[float, ...] = field(default=())
    """Of each step done in this run, over all stages."""
    num_tokens: int = 0
    seconds: float = 0.0


def save(
    run_folder: Path, place: Place, network: Network, learner: Any, optimizer: torch.optim.Optimizer, engine: Engine
) -> Path:
    """Write a checkpoint, and let go of the oldest beyond `KEPT`.

    Raises TrainingError where the disk is full or closed; older checkpoints are left as they were.
    """
    folder = run_folder / "checkpoints" / f"{place.stage}-{place.step:06d}"
    beside = folder.with_name(f".{folder.name}.new")
    tensors = _optimizer_tensors(learner, optimizer)
    learned = learned_state(network, engine)
    dice = {"cpu": torch.get_rng_state()}
    if engine.device.type == "cuda":
        dice["cuda"] = torch.cuda.get_rng_state(engine.device)
    problem: BaseException | None = None
    if engine.is_first:
        try:
            _write(beside, folder, place, network, learned, tensors, dice)
        except Exception as found:  # safetensors has an error of its own for a full disk
            shutil.rmtree(beside, ignore_errors=True)
            problem = found
    if engine.agreed(problem is not None):
        raise _explained(problem, folder) from problem
    return folder


def newest(run_folder: Path) -> Path | None:
    """The checkpoint to go on from, None where there is none."""
    found = all_of(run_folder)
    return found[-1] if found else None


def all_of(run_folder: Path) -> list[Path]:
    """Every whole checkpoint, oldest first."""
    folders = [each for each in (run_folder / "checkpoints").glob("*-*") if not each.name.startswith(".")]
    return sorted((each for each in folders if (each / "place.json").is_file()), key=_order)


def place_of(checkpoint: Path) -> Place:
    """Where a checkpoint stands. Raises TrainingError where it cannot be read."""
    try:
        tree = json.loads((checkpoint / "place.json").read_text(encoding="utf-8"))
        tree["lost"], tree["losses"] = tuple(tree["lost"]), tuple(tree["losses"])
        return Place(**tree)
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise TrainingError(
            f"the checkpoint {checkpoint} cannot be read: {problem}. Remove it, and the run goes on from the one before."
        ) from problem


def learned_in(checkpoint: Path) -> Path:
    """The folder of what was learned, as `network.load` takes it for an adapter."""
    return checkpoint / "adapter"


def learned_state(network: Network, engine: Engine) -> dict[str, Tensor] | None:
    """What was learned, in one piece, where the weights are split among processes; None where they lie here anyway."""
    if not (engine.sharded and engine.num_processes > 1):
        return None
    parameters = dict(network.model.named_parameters())
    only_trained = any(not each.requires_grad for each in parameters.values())
    return {name: whole(each.detach()) for name, each in parameters.items() if each.requires_grad or not only_trained}


def restore(checkpoint: Path, learner: Any, optimizer: torch.optim.Optimizer, engine: Engine) -> None:
    """Put the optimizer and the dice where they were. The weights come with `network.load`."""
    try:
        tensors = load_file(checkpoint / "optimizer.safetensors")
        dice = load_file(checkpoint / "dice.safetensors")
    except Exception as problem:
        raise TrainingError(
            f"the checkpoint {checkpoint} cannot be read: {problem}. Remove it, and the run goes on from the one before."
        ) from problem
    for name, parameter in _trained(learner):
        state = {kind: tensors[f"{name}.{kind}"] for kind in _STATE if f"{name}.{kind}" in tensors}
        optimizer.state[parameter] = {
            kind: value if kind == "step" else like(value, parameter) for kind, value in state.items()
        }
    torch.set_rng_state(dice["cpu"])
    if "cuda" in dice and engine.device.type == "cuda":
        torch.cuda.set_rng_state(dice["cuda"], engine.device)


def _write(
    beside: Path,
    folder: Path,
    place: Place,
    network: Network,
    learned: dict[str, Tensor] | None,
    tensors: dict[str, Tensor],
    dice: dict[str, Tensor],
) -> None:
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True, mode=0o700)
    save_adapter(network, beside / "adapter", state=learned)
    save_file(tensors, beside / "optimizer.safetensors")
    save_file(dice, beside / "dice.safetensors")
    (beside / "place.json").write_text(json.dumps(asdict(place)), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)  # of the same step, by a run that went on from before it
    beside.rename(folder)
    for old in all_of(folder.parent.parent)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def _optimizer_tensors(learner: Any, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}.{kind}": whole(optimizer.state[parameter][kind]).detach().cpu().contiguous().clone()
        for name, parameter in _trained(learner)
        for kind in _STATE
        if kind in optimizer.state.get(parameter, {})
    }


def _trained(learner: Any) -> Sequence[tuple[str, Tensor]]:
    return [
        (name.removeprefix("module."), parameter)
        for name, parameter in learner.named_parameters()
        if parameter.requires_grad
    ]


def _explained(problem: BaseException | None, folder: Path) -> TrainingError:
    refused = refusal_behind(problem) if problem is not None else ""
    if refused == "full":
        said = f"the disk that holds {folder} is full; free some space and run `lmm train resume`: the last checkpoint is whole"
    elif refused == "forbidden":
        said = f"{folder} cannot be written; give this user the right to, then run `lmm train resume`"
    else:
        said = f"the checkpoint {folder} could not be written: {problem}; see that disk, then run `lmm train resume`"
    return TrainingError(f"{said}.")


def _order(checkpoint: Path) -> tuple[int, int]:
    stage, _, step = checkpoint.name.rpartition("-")
    return (0 if stage == "cpt" else 1), int(step)
