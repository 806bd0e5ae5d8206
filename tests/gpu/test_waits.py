"""The host runs ahead of the device: it waits at most once in an optimizer step, and never in a micro-batch."""

from collections import Counter

import pytest

from tests.gpu.conftest import CARD, GPU, in_precision
from tests.gpu.waits import CountWaits

pytestmark = GPU
WARMUP = 2  # the first steps create the state of the optimizer and the scaler


def counted(places: list[list[str]]) -> dict[str, int]:
    return dict(Counter(place for one in places for place in one))


@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed"])
def test_the_host_waits_at_most_once_in_an_optimizer_step_and_never_in_a_micro_batch(run, precision):
    """The gradient scaler of 16-mixed needs that one wait, to decide whether the step is skipped."""
    quiet = ("--trainer.log_every_n_steps", "1000", "--trainer.limit_val_batches", "0", "--trainer.max_epochs", "1")
    count = ("--trainer.callbacks+=tests.gpu.waits.CountWaits", "--trainer.gradient_clip_val", "1.0")
    run("fit", *CARD, *in_precision(precision), *quiet, *count)
    micro_batches, steps = CountWaits.micro_batches[2 * WARMUP :], CountWaits.steps[WARMUP:]
    assert len(micro_batches) == 2 * len(steps) == 6
    assert counted(micro_batches) == {}
    assert max(map(len, steps)) <= 1, counted(steps)
