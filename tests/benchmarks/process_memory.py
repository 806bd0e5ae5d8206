"""The memory of this process, as Linux counts it."""

from onion_lightning.process_memory import peak_so_far, status

__all__ = ["peak_so_far", "status"]
