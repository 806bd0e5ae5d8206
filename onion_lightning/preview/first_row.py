"""Prints the first training row, or pair of rows, when `fit` starts, as the loss sees it."""

from typing import Any, cast

import lightning.pytorch as pl
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from onion_lightning.data.module import OnionDataModule
from onion_lightning.messages import stderr_console
from onion_lightning.model.packed_rows import attends_only
from onion_lightning.pretrained.locate import load_config
from onion_lightning.preview.rows import first_places, see_row
from onion_lightning.preview.terminal import show_row

__all__ = ["FirstRow"]


class FirstRow(pl.Callback):
    """Prints one row of the next global batch, or both of a pair, once, on rank 0."""

    @rank_zero_only
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data: OnionDataModule = cast(Any, trainer).datamodule
        for place in first_places(data.sampler, len(data.roles)):
            show_row(stderr_console(), see_row(data, place, not attends_only(load_config(data.base_model))))
