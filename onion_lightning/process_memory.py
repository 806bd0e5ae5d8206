"""The memory of this process, as Linux counts it."""

import ctypes
import gc
import re
import sys
from pathlib import Path

__all__ = ["peak_so_far", "release_memory", "return_freed_memory", "status"]

# Parameters of glibc's `mallopt`: sizes above the first are mapped on their own, what is free above the second is returned.
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def status(name: str) -> int:
    """Return a line of this process's status in bytes: VmRSS is the current size, VmHWM the peak.

    Raises:
        OSError: the system is not Linux.
    """
    found = re.search(rf"{name}:\s+(\d+)", STATUS.read_text())
    assert found is not None
    return int(found[1]) * 1024


def peak_so_far() -> int:
    """Return the peak memory of this process in bytes, and start to measure it anew."""
    peak = status("VmHWM")
    CLEAR.write_text("5")
    return peak


def return_freed_memory(smallest: int = 65536) -> None:
    """Have glibc return freed tensors to the system at once, for the rest of this process.

    By default it keeps them, in pieces that the next tensors may not fit: the process then grows beyond what it needs.

    Args:
        smallest: of these tensors in bytes; each is mapped anew, which takes time.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not in musl
        if mallopt is not None:
            mallopt(MMAP_THRESHOLD, smallest)
            mallopt(TRIM_THRESHOLD, 0)


def release_memory() -> None:
    """Return freed memory to the system: what loading left behind, glibc would keep for later."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # not in musl
        if trim is not None:
            trim(0)
