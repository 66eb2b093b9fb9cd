"""Where a run computes: one device or many, whole weights on each or split among them. The only file that knows of processes.

Every process runs the same program over its share of each step's rows: started by `together.py`, which has them `join`, or by
`torchrun`. What is learned is the same as with one process, up to the order in which numbers are added (a test holds that).
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, distributed

from lmm_mcp import memory
from lmm_mcp.errors import TrainingError
from trainer.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Engine:
    """The processes of a run, seen from one of them."""

    accelerator: Any
    sharded: bool
    """Wanted; it is so where there are several processes: `is_split`."""

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

    @property
    def is_split(self) -> bool:
        """Whether no process has all weights: then none can go through the network without the others."""
        return self.sharded and self.num_processes > 1

    def spread(self, learner: Any) -> Any:
        """Make the learner ready to run on every process."""
        if self.is_split:
            return _sharded(learner, self.device)
        if self.num_processes > 1:
            for each in learner.parameters():
                if each.requires_grad:  # what is frozen comes from the same file
                    distributed.broadcast(each.data, 0)
        return learner

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss that covers this process's share of a step."""
        # Split weights average their gradients; what we want is the sum.
        self.accelerator.backward(loss * self.num_processes if self.is_split else loss)

    @contextmanager
    def alone(self, learner: Any, *, alone: bool) -> Iterator[None]:
        """While `alone`, gradients of split weights are gathered here and not yet exchanged."""
        if not self.is_split or not alone:
            yield
            return
        learner.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            learner.set_requires_gradient_sync(True)

    def exchange(self, learner: Any) -> None:
        """Add up the gradients of all processes where each has all weights; split ones did so on the way.

        After the step's passes and not within them, as DistributedDataParallel would: so a process in which memory runs out
        leaves nobody waiting.
        """
        if self.num_processes == 1 or self.is_split:
            return
        under_way = []
        for each in learner.parameters():
            if each.requires_grad:
                if each.grad is None:
                    each.grad = torch.zeros_like(each)
                under_way.append(distributed.all_reduce(each.grad, async_op=True))
        for work in under_way:
            work.wait()

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


def join(rank: int, num_processes: int, meeting: Path, *, wanted: str) -> None:
    """Meet the other processes of this machine, by a file that none of them has made yet, before `start`.

    They talk over the loopback interface alone. Raises TrainingError where the device that is `wanted` is not here.
    """
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    # "=": that interface and none whose name only begins so.
    os.environ |= {"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": f"={loopback}"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ |= {"WORLD_SIZE": str(num_processes), "LOCAL_WORLD_SIZE": str(num_processes)}
    on_cuda = chosen_device(wanted) == "cuda"
    if on_cuda:
        torch.cuda.set_device(rank)
    distributed.init_process_group(
        "nccl" if on_cuda else "gloo",
        store=distributed.FileStore(str(meeting), num_processes),  # type: ignore[attr-defined]
        rank=rank,
        world_size=num_processes,
    )


def most_processes(wanted: str) -> tuple[int, str]:
    """How many processes can train together on this machine, and of what there are so many. Raises TrainingError as `start`."""
    device = chosen_device(wanted)
    if sys.platform == "win32":
        return 1, "process on Windows"
    if device == "cuda":
        return torch.cuda.device_count(), "CUDA device(s)"
    return (1, "Apple GPU") if device == "mps" else (os.cpu_count() or 1, "CPU core(s)")


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
