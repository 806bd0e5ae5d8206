"""Every private attribute of a library that this project uses, each with the reason.

`tests/test_lightning_internals.py` fails when a library changes one of them.
"""

import lightning.pytorch as pl

__all__ = ["attached_trainer"]


def attached_trainer(module: pl.LightningModule) -> pl.Trainer | None:
    """The Trainer that a module is attached to, or None. The public property raises where there is none."""
    return module._trainer
