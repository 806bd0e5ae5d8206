"""Before the first step, all ranks compare what a run depends on, and stop in one sentence if they differ."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, cast

import lightning.pytorch as pl

from onion_lightning.errors import OnionError
from onion_lightning.messages import tell
from onion_lightning.ranks import connected, gather, place

__all__ = ["Agreement", "agree", "flags_to_compare"]

LIBRARIES = ("torch", "lightning", "transformers", "peft", "bitsandbytes")
# Flags that may differ between machines: places, of which the content is compared, and what belongs to a machine.
PLACES = ["config", "data.path", "data.headlines_file", "data.headlines", "articles.path", "samples.dirpath", "output"]
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


def agree(own: Mapping[str, str], remedy: str = "give all ranks the same value") -> None:
    """Compare this rank's values with those of all others: one gather of a few kilobytes.

    Args:
        own: what a run depends on, by flag or name.
        remedy: what to do if they differ.

    Raises:
        OnionError: two ranks differ. All ranks raise it.
    """
    if not connected():
        return
    records = gather((place(), dict(own)))
    libraries = gather({name: version(name) for name in LIBRARIES})
    first, expected = records[0]
    for other, found in records[1:]:
        differ = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
        if differ:
            name, more = differ[0], f" ({len(differ) - 1} more differ)" if len(differ) > 1 else ""
            raise OnionError(
                f"{name}: is {expected.get(name)} for {first}, but {found.get(name)} for {other}{more}; {remedy}."
            )
    for (other, _), found in zip(records[1:], libraries[1:], strict=True):
        for name in LIBRARIES:
            if found[name] != libraries[0][name]:
                tell(f"{name} is {libraries[0][name]} for {first}, but {found[name]} for {other}: results may differ.")
                return


class Agreement(pl.Callback):
    """Compares the data, the tokenizer, the precision and the seeds of all ranks, once each has loaded its data.

    Args:
        flags: those of `flags_to_compare`; ranks that Lightning has started on several machines compare them here.
    """

    def __init__(self, flags: Mapping[str, str]) -> None:
        self.flags = dict(flags)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        agree(self.flags | {"--trainer.precision": str(trainer.precision)})
        if connected():
            agree(cast(Any, trainer).datamodule.identity(), "give every machine the same files")
