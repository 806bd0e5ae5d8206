"""Turns the Trainer's limits on an epoch into whole optimizer steps. Lightning counts micro-batches."""

from typing import Any

import lightning.pytorch as pl

from onion_lightning.errors import OnionError

__all__ = ["check_fraction", "set_whole_steps", "whole_steps"]


def set_whole_steps(trainer: pl.Trainer, batches: int, accumulate: int) -> None:
    """Round fractions of an epoch to whole optimizer steps, and check numbers of micro-batches.

    Args:
        trainer: its `limit_train_batches` and `val_check_interval` are changed in place.
        batches: micro-batches of a whole epoch on one rank.
        accumulate: micro-batches per optimizer step.

    Raises:
        OnionError: a number of micro-batches is not a multiple of the accumulation, or an epoch has fewer.
    """
    if getattr(trainer, "fast_dev_run", False):
        return
    limit = whole_steps("limit_train_batches", trainer.limit_train_batches, batches, accumulate)
    trainer.limit_train_batches = limit
    batches = batches if isinstance(limit, float) else min(limit, batches)
    interval: Any = getattr(trainer, "val_check_interval", None)
    if not isinstance(interval, int | float) or not batches or trainer.limit_val_batches == 0:
        return  # a time, or nothing to validate
    if isinstance(interval, int) and interval > batches and trainer.check_val_every_n_epoch is not None:
        raise OnionError(
            f"--trainer.val_check_interval {interval}: is more than the {batches} micro-batches of an epoch; give at most"
            f" {batches}, a fraction such as 0.5, or omit the flag to validate once per epoch."
        )
    trainer.val_check_interval = whole_steps("val_check_interval", interval, batches, accumulate)


def check_fraction(trainer: pl.Trainer, flag: str, batches: int) -> None:
    """Check the fraction of the batches of a held-out split that the Trainer is limited to.

    Args:
        trainer: has the limit.
        flag: such as `limit_val_batches`.
        batches: the split's batches on one rank.

    Raises:
        OnionError: it is less than one batch.
    """
    limit = getattr(trainer, flag)
    if isinstance(limit, float) and 0 < limit * batches < 1:
        raise OnionError(
            f"--trainer.{flag} {limit:g}: is less than one batch (there are {batches}); give a larger fraction, or a"
            " number of batches such as 1."
        )


def whole_steps(flag: str, value: int | float, batches: int, accumulate: int) -> int | float:
    """Return a limit as a multiple of `accumulate` micro-batches; 1.0, the whole epoch, and 0 are returned unchanged.

    Raises:
        OnionError: it is a number of micro-batches that is no such multiple.
    """
    if isinstance(value, float):
        if value in (0, 1):
            return value
        return max(1, round(value * batches / accumulate)) * accumulate
    if value % accumulate and not (flag == "limit_train_batches" and value >= batches):
        raise OnionError(
            f"--trainer.{flag} {value}: is {value} micro-batches, and an optimizer step takes {accumulate}; give a multiple"
            f" of {accumulate}."
        )
    return value
