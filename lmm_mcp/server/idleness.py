"""Whether this machine has nothing better to do: what training by schedule asks before it starts, and while it runs.

Everything is read from where the operating system tells it; what cannot be told counts as no objection.
"""

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

POWER = Path("/sys/class/power_supply")
MAX_LOAD_per_core = 0.5
"""Runnable processes for each core, over the last minute; our own trainer is taken off."""
MAX_GPU_percent = 20
MAX_GPU_memory_percent = 50
_ASK_s = 5.0


@dataclass(frozen=True, slots=True)
class Machine:
    """What the machine is doing."""

    load_per_core: float
    """0 where it cannot be told."""
    is_on_mains: bool
    gpu_busy: str
    """Why the GPU is not free, '' where it is, or where there is none."""
    quiet_s: float
    """Since the last question to the memory."""
    num_ours_on_gpu: int = 0
    """Processes of our trainer that compute on a GPU, and so take a core each and not all of them."""

    @property
    def our_load_per_core(self) -> float:
        """What of the load is our trainer's: a core for each process on a GPU; without one all cores may be ours."""
        return min(1.0, self.num_ours_on_gpu / (os.cpu_count() or 1)) if self.num_ours_on_gpu else 1.0


def objection(machine: Machine, *, needs_quiet_s: float, our_load_per_core: float = 0.0) -> str:
    """Why this is no time to train, '' where it is.

    >>> objection(Machine(0.1, True, "", 900.0), needs_quiet_s=600)
    ''
    >>> objection(Machine(0.1, False, "", 900.0), needs_quiet_s=600)
    'this machine runs on its battery'
    """
    if not machine.is_on_mains:
        return "this machine runs on its battery"
    if machine.quiet_s < needs_quiet_s:
        return f"an agent asked something {machine.quiet_s:.0f} s ago"
    load = machine.load_per_core - our_load_per_core
    if load > MAX_LOAD_per_core:
        return f"this machine is busy (load {load:.1f} a core)"
    return machine.gpu_busy


def look(quiet_s: float, env: Mapping[str, str], *, power: Path = POWER, trainer: int = 0) -> Machine:
    """Look at the machine as it is now. `trainer`: process id of ours, whose use of the GPU is no objection; 0 for none."""
    load, is_on_mains = _load_per_core(), _is_on_mains(power)
    if not trainer:
        return Machine(load, is_on_mains, _gpu_busy(env), quiet_s)
    computing = _nvidia(env, "--query-compute-apps=gpu_uuid,pid,used_gpu_memory")
    ours = beside_ours(computing, lambda pid: _is_of(pid, trainer))
    wanted = others_objection(_nvidia(env, "--query-gpu=uuid,memory.used,memory.total"), ours) if ours else ""
    return Machine(load, is_on_mains, wanted, quiet_s, sum(map(len, ours.values())))


def _load_per_core() -> float:
    try:
        return os.getloadavg()[0] / (os.cpu_count() or 1)
    except (OSError, AttributeError):  # Windows
        return 0.0


def _is_on_mains(power: Path) -> bool:
    """Whether no battery is being used up."""
    if sys.platform == "darwin":
        with suppress(OSError, subprocess.SubprocessError):
            told = subprocess.run(["pmset", "-g", "batt"], capture_output=True, timeout=_ASK_s, check=False).stdout
            return b"Battery Power" not in told
        return True
    mains, discharging = [], False
    with suppress(OSError):
        for supply in sorted(power.iterdir()):
            kind = _said(supply / "type")
            if kind == "Mains" or kind.startswith("USB"):
                mains.append(_said(supply / "online") == "1")
            elif kind == "Battery" and _said(supply / "scope") != "Device":  # a mouse has a battery, too
                discharging = discharging or _said(supply / "status") == "Discharging"
    return any(mains) or not discharging


def _said(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _is_of(pid: int, trainer: int) -> bool:
    """Whether a process is our trainer or one that it started: it was given a session of its own."""
    if pid == trainer or os.name != "posix":
        return pid == trainer
    with suppress(OSError):
        return os.getsid(pid) == trainer
    return False


def _gpu_busy(env: Mapping[str, str]) -> str:
    return gpu_objection(_nvidia(env, "--query-gpu=utilization.gpu,memory.used,memory.total"))


def _nvidia(env: Mapping[str, str], query: str) -> str:
    """What `nvidia-smi` tells, a line for each; '' where it cannot be asked."""
    program = shutil.which("nvidia-smi", path=env.get("PATH"))
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, query, "--format=csv,noheader,nounits"],
            capture_output=True,
            timeout=_ASK_s,
            check=True,
            text=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def beside_ours(told: str, is_ours: Callable[[int], bool]) -> dict[str, list[float]]:
    r"""By GPU the memory that each process of ours has there, in MiB, from `nvidia-smi`'s list of GPU, process and memory.

    What it cannot tell (as under Windows) counts as all there is.

    >>> beside_ours("GPU-a, 7, 400\nGPU-b, 9, [N/A]", lambda pid: pid == 7)
    {'GPU-a': [400.0]}
    """
    found: dict[str, list[float]] = {}
    for line in told.splitlines():
        try:
            gpu, pid, memory = (part.strip() for part in line.split(","))
            if is_ours(int(pid)):
                known = memory.replace(".", "", 1).isdecimal()
                found.setdefault(gpu, []).append(float(memory) if known else math.inf)
        except ValueError:
            continue
    return found


def others_objection(told: str, ours: Mapping[str, Sequence[float]]) -> str:
    r"""Why a GPU that we train on is wanted by somebody else, '' where none is. `told`: GPU, memory used and in all, in MiB.

    >>> others_objection("GPU-a, 20000, 24000", {"GPU-a": [19000.0]})
    ''
    >>> others_objection("GPU-a, 20000, 24000", {"GPU-a": [6000.0]})
    'somebody else uses 58 % of the memory of the GPU'
    """
    for line in told.splitlines():
        try:
            gpu, used, whole = (part.strip() for part in line.split(","))
            share = 100 * (float(used) - sum(ours.get(gpu, (math.inf,)))) / float(whole)
        except (ValueError, ZeroDivisionError):
            continue
        if share > MAX_GPU_memory_percent:
            return f"somebody else uses {share:.0f} % of the memory of the GPU"
    return ""


def gpu_objection(told: str) -> str:
    r"""Why no GPU is free, from what `nvidia-smi` told: utilisation, memory used and in all, a line for each; '' where one is.

    >>> gpu_objection("3, 400, 24000\n97, 20000, 24000")
    ''
    >>> gpu_objection("97, 20000, 24000")
    'the GPU is busy (97 %, 83 % of its memory)'
    """
    busy = ""
    for line in told.splitlines():
        try:
            percent, used, whole = (float(part) for part in line.split(","))
        except ValueError:
            continue
        of_memory = 100 * used / whole if whole else 0.0
        if percent <= MAX_GPU_percent and of_memory <= MAX_GPU_memory_percent:
            return ""
        busy = f"the GPU is busy ({percent:.0f} %, {of_memory:.0f} % of its memory)"
    return busy
