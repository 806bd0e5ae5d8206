"""Limits that end inside an accumulation window are refused before training starts."""

from dataclasses import dataclass

import pytest

from onion_lightning.errors import OnionError
from onion_lightning.training.last_checkpoint import check_whole_steps


@dataclass
class Limits:
    """The Trainer's attributes that the check reads."""

    num_training_batches: float = 10
    val_check_batch: float | None = 10
    accumulate_grad_batches: int = 4
    limit_train_batches: float = 1.0
    val_check_interval: float = 1.0
    fast_dev_run: bool = False


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (
            Limits(num_training_batches=6, limit_train_batches=0.6, val_check_batch=4),
            "--trainer.limit_train_batches 0.6: is 6 micro-batches, and an optimizer step takes 4; give a multiple of 4.",
        ),
        (
            Limits(num_training_batches=8, val_check_batch=3, val_check_interval=3),
            "--trainer.val_check_interval 3: is 3 micro-batches, and an optimizer step takes 4; give a multiple of 4.",
        ),
    ],
)
def test_a_limit_inside_an_accumulation_window_is_refused(limits, message):
    with pytest.raises(OnionError) as error:
        check_whole_steps(limits)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "limits",
    [
        Limits(num_training_batches=8, val_check_batch=4),
        Limits(num_training_batches=float("inf"), val_check_batch=float("inf")),
        Limits(num_training_batches=0, val_check_batch=None),
        Limits(accumulate_grad_batches=1),
        Limits(num_training_batches=1, val_check_batch=1, fast_dev_run=True),
    ],
)
def test_whole_steps_no_limit_and_a_trial_run_are_accepted(limits):
    check_whole_steps(limits)
