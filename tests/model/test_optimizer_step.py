"""The optimizer, its schedule, and the check for values that are not finite."""

from types import SimpleNamespace

import pytest
import torch

from onion_lightning.errors import NonFiniteError, OnionError
from onion_lightning.model.module import OnionModule
from onion_lightning.model.optimizer_step import adamw_with_cosine, check_finite, gpu_stats, total_steps

FINITE, INFINITE = torch.tensor(1.0), torch.tensor(float("inf"))


def trainer(scale=None):
    """Return what the code reads from a Trainer; with a scale, one that trains in fp16."""
    scaler = None if scale is None else SimpleNamespace(get_scale=lambda: scale)
    data = SimpleNamespace(headlines_of=lambda epoch, step: [f"Row Of Epoch {epoch}, Step {step}"])
    return SimpleNamespace(precision_plugin=SimpleNamespace(scaler=scaler), datamodule=data, global_step=12)


def training(scale=None):
    return SimpleNamespace(trainer=trainer(scale), learning_rate=0.1, current_epoch=2, epoch_began=10)


def test_the_learning_rate_rises_linearly_to_its_peak_and_decays_to_zero():
    configured = adamw_with_cosine([torch.nn.Parameter(torch.zeros(1))], 0.5, 0.1, 0.25, steps=10)
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(11):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[:4] == pytest.approx([0, 0.5 / 3, 1 / 3, 0.5])  # warmup is rounded up to 3 steps
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[-1] == 0
    assert configured["lr_scheduler"]["interval"] == "step"
    assert optimizer.param_groups[0]["weight_decay"] == 0.1


def test_frozen_parameters_are_not_optimized():
    frozen = torch.nn.Parameter(torch.zeros(1), requires_grad=False)
    trainable = torch.nn.Parameter(torch.zeros(1))
    optimizer = adamw_with_cosine([frozen, trainable], 0.5, 0, 0, steps=10)["optimizer"]
    assert [p is trainable for group in optimizer.param_groups for p in group["params"]] == [True]


def test_a_run_without_an_end_is_refused():
    endless = SimpleNamespace(estimated_stepping_batches=float("inf"), max_epochs=-1)
    with pytest.raises(
        OnionError, match=r"^--trainer\.max_epochs -1: .*set --trainer\.max_epochs or --trainer\.max_steps"
    ):
        total_steps(endless)


@pytest.mark.parametrize(("loss", "norm"), [(FINITE, INFINITE), (INFINITE, FINITE), (FINITE * float("nan"), FINITE)])
def test_a_value_that_is_not_finite_stops_training_with_the_step_and_its_rows(loss, norm):
    check_finite(training(), FINITE, FINITE)
    with pytest.raises(NonFiniteError, match=r"at optimizer step 13 \(epoch 2\).*Row Of Epoch 2, Step 2"):
        check_finite(training(), loss, norm)


def test_in_fp16_an_infinite_gradient_is_left_to_the_scaler_but_an_infinite_loss_is_not():
    check_finite(training(scale=1024.0), FINITE, INFINITE)
    with pytest.raises(NonFiniteError):
        check_finite(training(scale=1024.0), INFINITE, FINITE)


@pytest.mark.parametrize(("before", "after", "steps"), [(1024.0, 512.0, 0), (1024.0, 1024.0, 1), (512.0, 1024.0, 1)])
def test_the_schedule_is_not_stepped_where_the_scaler_skipped_the_optimizer_step(before, after, steps):
    made, stepped = OnionModule(), []
    made.scale_before = before
    made.trainer = trainer(after)
    made.lr_scheduler_step(SimpleNamespace(step=lambda: stepped.append(1)), None)
    assert len(stepped) == steps


def test_there_are_no_gpu_statistics_on_the_cpu():
    assert gpu_stats(torch.device("cpu")) == {}
