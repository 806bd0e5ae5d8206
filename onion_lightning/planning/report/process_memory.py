"""The memory of this process, as Linux counts it."""

import ctypes
import gc
import re
import sys
from pathlib import Path

__all__ = ["peak_so_far", "release_memory", "status"]

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


def release_memory() -> None:
    """Return freed memory to the system: what loading left behind, glibc would keep for later."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # not in musl
        if trim is not None:
            trim(0)
