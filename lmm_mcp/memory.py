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
    """What this machine has in all; 0 where it does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return 0


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
