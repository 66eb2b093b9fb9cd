"""Where a run computes: one device or many, whole weights on each or split among them. The only file that knows of processes.

Under `torchrun` every process runs the same program over its share of each step's rows. What is learned is the same as with one
process, up to the order in which numbers are added (a test holds that).
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from lmm_mcp import memory
from lmm_mcp.errors import TrainingError
from trainer.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Engine:
    """The processes of a run, seen from one of them."""

    accelerator: Any
    sharded: bool

    @property
    def device(self) -> torch.device:
        """Of this process."""
        found: torch.device = self.accelerator.device
        return found

    @property
    def num_processes(self) -> int:
        """Of all that run this program together."""
        return int(self.accelerator.num_processes)

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return int(self.accelerator.process_index)

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def spread(self, learner: Any) -> Any:
        """Make the learner ready to run on every process."""
        if self.num_processes == 1:
            return learner
        return _sharded(learner, self.device) if self.sharded else self.accelerator.prepare_model(learner)

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss that covers this process's share of a step."""
        # Processes average their gradients; what we want is the sum.
        self.accelerator.backward(loss * self.num_processes)

    @contextmanager
    def alone(self, learner: Any, *, alone: bool) -> Iterator[None]:
        """While `alone`, gradients are gathered here and not yet exchanged."""
        if self.num_processes == 1 or not alone:
            yield
        elif self.sharded:
            learner.set_requires_gradient_sync(False)
            try:
                yield
            finally:
                learner.set_requires_gradient_sync(True)
        else:
            with self.accelerator.no_sync(learner):
                yield

    def clip(self, parameters: Sequence[Tensor], largest: float) -> float:
        """Shorten the gradient to that norm (0 = leave it) and return the norm it had."""
        norm = torch.nn.utils.clip_grad_norm_(parameters, largest or float("inf"))
        return float(whole(norm))

    def gathered(self, values: list[Any]) -> list[Any]:
        """The values of all processes."""
        found: list[Any] = gather_object(values) if self.num_processes > 1 else values
        return found

    def agreed(self, wish: bool) -> bool:
        """Whether any process wishes it, so that all do the same."""
        return any(self.gathered([wish]))

    def wait(self) -> None:
        """Until every process has come here."""
        self.accelerator.wait_for_everyone()

    def memory_mb(self) -> float:
        """Most that was held on this device so far; on a CPU what this process holds now."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e6
        return (memory.resident_bytes() or 0) / 1e6


def start(recipe: Recipe) -> Engine:
    """Find the device that a recipe wants. Raises TrainingError where this machine has none."""
    if recipe.num_threads:
        torch.set_num_threads(recipe.num_threads)
    device = chosen_device(recipe.device)
    if device == "cpu":
        os.environ.setdefault("ACCELERATE_USE_CPU", "true")
    torch.manual_seed(recipe.seed)
    return Engine(Accelerator(cpu=device == "cpu"), recipe.sharded)


def chosen_device(wanted: str) -> str:
    """`cuda`, `mps` or `cpu`. Raises TrainingError where the one that is wanted is not here."""
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(name for name, there in here.items() if there)
    if not here[wanted]:
        raise TrainingError(
            f"this recipe needs a device `{wanted}` and torch finds none; use `--preset cpu-tiny`, or install a torch built for your GPU."
        )
    return wanted


def whole(tensor: Tensor) -> Tensor:
    """A tensor in one piece, also where it is split among processes."""
    found: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return found


def like(tensor: Tensor, pattern: Any) -> Tensor:
    """A whole tensor laid out as `pattern` is."""
    if not hasattr(pattern, "device_mesh"):
        moved: Tensor = tensor.to(pattern.device)
        return moved
    from torch.distributed.tensor import distribute_tensor

    spread: Tensor = distribute_tensor(tensor.to(pattern.device), pattern.device_mesh, pattern.placements)
    return spread


def _sharded(learner: Any, device: torch.device) -> Any:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    model = learner.model
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    for layer in inner.get_decoder().layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(learner, mesh=mesh)
    return learner
