"""Positions are counted from one, in epochs and optimizer steps of the whole run."""

import pytest

from onion_lightning.training.progress.position import Position, Remaining
from tests.training.progress.conftest import FakeTrainer


@pytest.mark.parametrize(
    ("trainer", "text"),
    [
        (FakeTrainer(), "epoch 1 of 2, step 0 of 10"),
        (FakeTrainer(global_step=7, current_epoch=1), "epoch 2 of 2, step 7 of 10"),
        (FakeTrainer(global_step=10, current_epoch=2), "epoch 2 of 2, step 10 of 10"),
        (FakeTrainer(estimated_stepping_batches=3, max_epochs=100), "epoch 1 of 1, step 0 of 3"),  # max_steps
        (FakeTrainer(estimated_stepping_batches=12, max_epochs=-1), "epoch 1 of 3, step 0 of 12"),
    ],
)
def test_the_position_is_in_epochs_and_steps_of_the_whole_run(trainer, text):
    assert str(Position(trainer)) == text


def test_the_remaining_time_follows_from_what_this_process_has_done(clock):
    remaining = Remaining(40, 100, clock)
    clock.now = 30
    assert remaining.describe(40) == ""
    assert remaining.describe(50) == "0:02:30 remaining"
