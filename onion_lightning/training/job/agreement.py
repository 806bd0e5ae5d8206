"""Before the first step, all ranks compare what a run depends on, and stop in one sentence if they differ."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl

from onion_lightning.messages import tell
from onion_lightning.ranks import agree, connected, gather, place, together
from onion_lightning.training.checkpoint_io import checkpoint_digest

__all__ = ["Agreement", "agree_on_flags", "flags_to_compare"]

LIBRARIES = ("torch", "lightning", "transformers", "peft", "bitsandbytes")
# Flags that may differ between machines: places, of which the content is compared, and what belongs to a machine.
PLACES = [
    "config",
    "data.path",
    "data.pairs",
    "data.headlines_file",
    "data.headlines",
    "articles.path",
    "samples.dirpath",
    "output",
]
PLACES += ["checkpoint.dirpath", "model.base_model", "data.base_model", "model.adapter", "ckpt_path", "progress"]
MACHINE = ("logger", "profiler", "devices", "num_nodes", "default_root_dir", "accelerator", "strategy")
EXEMPT = {*PLACES, *(f"trainer.{name}" for name in MACHINE), "data.num_workers"}


def flags_to_compare(flags: Mapping[str, Any]) -> dict[str, str]:
    """Return the values of the flags that must be the same on all ranks, as text.

    Args:
        flags: values by dotted name.
    """
    exempt = {name: any(f"{name}.".startswith(f"{other}.") for other in EXEMPT) for name in flags}
    return {f"--{name}": str(value) for name, value in flags.items() if not exempt[name]}


def agree_on_flags(flags: Mapping[str, str]) -> None:
    """Compare the flags of all ranks, and warn about libraries of other versions.

    Raises:
        OnionError: two ranks differ. All ranks raise it.
    """
    agree(flags, "give all ranks the same value")
    first, *others = gather((place(), {name: version(name) for name in LIBRARIES}))
    for there, found in others:
        if differ := [name for name in LIBRARIES if found[name] != first[1][name]]:
            name = differ[0]
            tell(f"{name} is {first[1][name]} for {first[0]}, but {found[name]} for {there}: results may differ.")
            return


class Agreement(pl.Callback):
    """Compares the data, the tokenizer, the precision and the seeds of all ranks, once each has loaded its data.

    Args:
        flags: those of `flags_to_compare`; ranks that Lightning has started on several machines compare them here.
        checkpoint: file or folder that the run resumes from, or that its adapters are in.
    """

    def __init__(self, flags: Mapping[str, str], checkpoint: str | None) -> None:
        self.flags = dict(flags)
        self.checkpoint = checkpoint

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if not connected():
            return
        with together():
            own = {"--trainer.precision": str(trainer.precision), "--ckpt_path": content_of(self.checkpoint)}
            own["the number of ranks"] = str(trainer.world_size)
        agree(self.flags | own, "give all ranks the same value")
        agree(cast(Any, trainer).datamodule.identity(), "give every machine the same files")


def content_of(checkpoint: str | None) -> str:
    """Identify a checkpoint by its content: its place may differ between machines."""
    return (
        "not given" if checkpoint is None else f"a file with the fingerprint {checkpoint_digest(Path(checkpoint))[:8]}"
    )
