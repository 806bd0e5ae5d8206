"""Limits on an epoch end after an optimizer step, or are refused before training starts."""

from dataclasses import dataclass, replace

import pytest

from onion_lightning.data.limits import set_whole_steps
from onion_lightning.errors import OnionError


@dataclass
class Limits:
    """The Trainer's attributes that are read and changed."""

    limit_train_batches: int | float = 1.0
    limit_val_batches: int | float = 1.0
    val_check_interval: int | float | None = 1.0
    check_val_every_n_epoch: int | None = 1
    fast_dev_run: bool = False


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (
            Limits(limit_train_batches=6),
            "--trainer.limit_train_batches 6: is 6 micro-batches, and an optimizer step takes 4; give a multiple of 4.",
        ),
        (
            Limits(val_check_interval=3),
            "--trainer.val_check_interval 3: is 3 micro-batches, and an optimizer step takes 4; give a multiple of 4.",
        ),
        (
            Limits(limit_train_batches=8, val_check_interval=12),
            "--trainer.val_check_interval 12: is more than the 8 micro-batches of an epoch; give at most 8, a fraction such"
            " as 0.5, or omit the flag to validate once per epoch.",
        ),
    ],
)
def test_a_number_that_is_no_multiple_or_too_large_is_refused(limits, message):
    with pytest.raises(OnionError) as error:
        set_whole_steps(limits, 20, 4)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "limits",
    [
        Limits(),
        Limits(limit_train_batches=8, val_check_interval=4),
        Limits(limit_train_batches=99),
        Limits(limit_train_batches=0),
        Limits(val_check_interval=None),
        Limits(val_check_interval=1000, limit_val_batches=0),
        Limits(val_check_interval=1000, check_val_every_n_epoch=None),
        Limits(limit_train_batches=1, fast_dev_run=True),
    ],
)
def test_whole_steps_no_limit_and_a_trial_run_are_left_as_they_are(limits):
    before = replace(limits)
    set_whole_steps(limits, 20, 4)
    assert limits == before


@pytest.mark.parametrize(("fraction", "batches"), [(0.5, 8), (0.05, 4), (0.71, 16), (0.99, 20)])
def test_a_fraction_is_rounded_to_an_optimizer_step(fraction, batches):
    limits = Limits(val_check_interval=fraction)
    set_whole_steps(limits, 20, 4)
    assert limits.val_check_interval == batches
    limits = Limits(limit_train_batches=fraction)
    set_whole_steps(limits, 20, 4)
    assert limits.limit_train_batches == batches
