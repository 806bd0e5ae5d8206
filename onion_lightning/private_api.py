"""The uses of libraries' private APIs, each with its reason. `tests/test_private_api.py` fails when a library changes one.

There are two exceptions. `cli/onion_cli.py` overrides `LightningCLI._parse_ckpt_path`, which would let a checkpoint's
hyperparameters override explicit flags, and `training/resume.py` corrects positions in the `loops` of a checkpoint.
"""

from typing import Any

import datasets
import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel

__all__ = [
    "FakeTensorMode",  # tensors without memory
    "TorchDispatchMode",  # sees every operation; torch documents both classes, but their modules are private
    "attached_trainer",
    "attention_implementation",
    "cpu_has_bfloat16",
    "dataset_fingerprint",
    "drop_anonymous",
    "dump_checkpoint",
    "row_to_log",
    "run_validation",
    "starts_ranks_midway",
]


def attached_trainer(module: pl.LightningModule) -> pl.Trainer | None:
    """Return the Trainer that a module is attached to, or None. The public property raises where there is none."""
    return module._trainer


def dump_checkpoint(trainer: pl.Trainer) -> dict[str, Any]:
    """Return a checkpoint without `Trainer.save_checkpoint`'s barrier, for when the other ranks may be gone."""
    checkpoint: dict[str, Any] = trainer._checkpoint_connector.dump_checkpoint()
    return checkpoint


def row_to_log(trainer: pl.Trainer) -> dict[str, float]:
    """Return the row that Lightning is about to log for this optimizer step; empty if it logs none.

    Loggers get it after the last hook in which a checkpoint can be saved, and a kill in between would lose it.
    """
    connector = trainer._logger_connector
    if not connector.should_update_logs:
        return {}
    figures = {name: float(value) for name, value in connector.metrics["log"].items()}
    return figures | {"epoch": trainer.current_epoch, "step": trainer.fit_loop.epoch_loop._batches_that_stepped}


def run_validation(trainer: pl.Trainer) -> None:
    """Run the validation that is due at the position of a resumed run. Lightning would skip it."""
    loop = trainer.fit_loop.epoch_loop.val_loop
    trainer.validating = True
    loop.restarting = False
    loop.run()
    trainer.training = True


def starts_ranks_midway(strategy: Strategy) -> bool:
    """Return whether a strategy forks or spawns its ranks from the running program (`ddp_spawn`, `ddp_notebook`)."""
    return isinstance(strategy.launcher, _MultiProcessingLauncher)


def drop_anonymous(logger: WandbLogger) -> None:
    """Remove an argument that Lightning always passes to `wandb.init`, and that W&B warns about."""
    logger._wandb_init.pop("anonymous", None)


def attention_implementation(model: PreTrainedModel) -> str:
    """Return the name of a model's attention implementation, to restore it later. Only the setter is public."""
    name: str = model.config._attn_implementation
    return name


def dataset_fingerprint(rows: datasets.Dataset) -> str:
    """Return the fingerprint of a dataset, which `datasets` computes and uses as the key of its own cache."""
    fingerprint: str = rows._fingerprint
    return fingerprint


def cpu_has_bfloat16() -> bool:
    """Return whether this CPU multiplies in bfloat16 natively. torch has no public query for it."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
