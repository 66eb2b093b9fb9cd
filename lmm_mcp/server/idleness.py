"""Whether this machine has nothing better to do: what training by schedule asks before it starts, and while it runs.

Everything is read from where the operating system tells it; what cannot be told counts as no objection.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
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


def look(quiet_s: float, env: Mapping[str, str], *, power: Path = POWER, ours: bool = False) -> Machine:
    """Look at the machine as it is now. `ours`: the trainer has the GPU, so that it is busy is no news."""
    return Machine(_load_per_core(), _is_on_mains(power), "" if ours else _gpu_busy(env), quiet_s)


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


def _gpu_busy(env: Mapping[str, str]) -> str:
    program = shutil.which("nvidia-smi", path=env.get("PATH"))
    if program is None:
        return ""
    query = "--query-gpu=utilization.gpu,memory.used,memory.total"
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
    return gpu_objection(done.stdout)


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
