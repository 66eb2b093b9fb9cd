"""How much memory this process holds, and giving back what it no longer needs."""

import os
import sys
from contextlib import suppress
from pathlib import Path


def resident_bytes() -> int:
    """What this process holds in memory now; 0 where this system does not tell."""
    if sys.platform == "linux":
        with suppress(OSError, ValueError, IndexError):
            pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
            return pages * _page_bytes()
    if sys.platform == "win32":
        return _on_windows()
    with suppress(ImportError, OSError):
        import resource

        # macOS tells the most that was ever held, in bytes: a bound from above.
        return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return 0


def machine_bytes() -> int:
    """What this machine has in all, or this container may take; 0 where it does not tell."""
    try:
        has = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return 0
    return min([has, *allowed_bytes()])


def allowed_bytes(groups: Path = Path("/proc/self/cgroup"), control: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """What Linux lets this process's control groups take, each of them; whoever takes more is killed.

    A container sees the memory of its host, and its own limit here alone.
    """
    found = []
    with suppress(OSError, UnicodeDecodeError):
        for line in groups.read_text(encoding="utf-8").splitlines():
            _, kinds, group = line.split(":", 2)
            if not kinds:
                root, name = control, "memory.max"
            elif "memory" in kinds.split(","):
                root, name = control / "memory", "memory.limit_in_bytes"
            else:
                continue
            folder = root / group.lstrip("/")
            for place in (folder, *folder.parents):
                if place.is_relative_to(root):
                    with suppress(OSError, ValueError):  # not there: only the container's own part is; "max"
                        found.append(int((place / name).read_text(encoding="ascii")))
    return found


def give_back() -> None:
    """Return freed memory to the system: glibc keeps hundreds of MB after the upkeep of an index, Arrow what it read last."""
    if (arrow := sys.modules.get("pyarrow")) is not None:  # who has not loaded it has nothing of it
        arrow.default_memory_pool().release_unused()
    if sys.platform != "linux":
        return
    import ctypes

    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _page_bytes() -> int:
    import resource

    return resource.getpagesize()


def _on_windows() -> int:
    if sys.platform == "win32":
        import ctypes
        from ctypes import wintypes

        class Counters(ctypes.Structure):
            _fields_ = (
                ("cb", wintypes.DWORD),
                ("PageFaultCount", wintypes.DWORD),
                *(
                    (name, ctypes.c_size_t)
                    for name in (
                        *("PeakWorkingSetSize", "WorkingSetSize", "QuotaPeakPagedPoolUsage", "QuotaPagedPoolUsage"),
                        *("QuotaPeakNonPagedPoolUsage", "QuotaNonPagedPoolUsage", "PagefileUsage", "PeakPagefileUsage"),
                    )
                ),
            )

        found = Counters()
        found.cb = ctypes.sizeof(found)
        kernel = ctypes.WinDLL("kernel32")
        kernel.GetCurrentProcess.restype = wintypes.HANDLE
        told = kernel.K32GetProcessMemoryInfo(
            wintypes.HANDLE(kernel.GetCurrentProcess()), ctypes.byref(found), wintypes.DWORD(found.cb)
        )
        return int(found.WorkingSetSize) if told else 0
    return 0
