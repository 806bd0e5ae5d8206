"""A callback that measures the memory of each rank: `--trainer.callbacks+=tests.memory_watch.MemoryWatch`."""

import json
import threading
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from onion_lightning.process_memory import peak_so_far, release_memory, status


class MemoryWatch(pl.Callback):
    """Writes by how many bytes this process grew while it loaded the model, and while it trained.

    Mapped files do not count while it loads: the system takes their pages back when it needs them.

    Args:
        file: the figures of rank r are written to `file.r`.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.loaded = threading.Event()
        self.loading = 0

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        release_memory()
        self.before = status("RssAnon")
        self.rest = status("VmRSS") - self.before
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self) -> None:
        while not self.loaded.wait(0.005):
            self.loading = max(self.loading, status("RssAnon") - self.before)

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.loaded.set()
        peak_so_far()

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        found = {"loading": self.loading, "training": status("VmHWM") - self.before - self.rest}
        Path(f"{self.file}.{trainer.global_rank}").write_text(json.dumps(found))
