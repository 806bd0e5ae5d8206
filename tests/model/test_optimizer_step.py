"""The optimizer, its schedule, and the check for values that are not finite."""

from types import SimpleNamespace

import pytest
import torch

from onion_lightning.errors import NonFiniteError, OnionError
from onion_lightning.model.optimization.optimizer import OptimizerSettings, adamw_with_cosine, total_steps
from onion_lightning.model.optimization.optimizer_step import MAX_SKIPPED, HostCopy, check_finite, gpu_stats

FINITE, INFINITE = 1.0, float("inf")


def training(scaler=None, skipped_in_a_row=0):
    """Return what the check reads from a module; with a scaler, one that trains in fp16."""
    data = SimpleNamespace(headlines_of=lambda epoch, step: [f"Row Of Epoch {epoch}, Step {step}"])
    plugin = SimpleNamespace(scaler=scaler)
    trainer = SimpleNamespace(precision_plugin=plugin, datamodule=data, global_step=12)
    position = {"current_epoch": 2, "epoch_began": 10, "attempted_steps": 12}
    return SimpleNamespace(trainer=trainer, learning_rate=0.1, skipped_in_a_row=skipped_in_a_row, **position)


def test_the_learning_rate_rises_linearly_to_its_peak_and_decays_to_zero():
    configured = adamw_with_cosine(
        [("a", torch.nn.Parameter(torch.zeros(1)))], OptimizerSettings(0.5, 0.1, 0.25), steps=10
    )
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
    optimizer = adamw_with_cosine([("a", frozen), ("b", trainable)], OptimizerSettings(0.5), steps=10)["optimizer"]
    assert [p is trainable for group in optimizer.param_groups for p in group["params"]] == [True]


def test_a_run_without_an_end_is_refused():
    endless = SimpleNamespace(estimated_stepping_batches=float("inf"), max_epochs=-1)
    with pytest.raises(
        OnionError, match=r"^--trainer\.max_epochs -1: .*set --trainer\.max_epochs or --trainer\.max_steps"
    ):
        total_steps(endless)


@pytest.mark.parametrize(("loss", "norm"), [(FINITE, INFINITE), (INFINITE, FINITE), (float("nan"), FINITE)])
def test_a_value_that_is_not_finite_stops_training_with_the_step_and_its_rows(loss, norm):
    check_finite(training(), FINITE, FINITE)
    with pytest.raises(NonFiniteError, match=r"at optimizer step 13 \(epoch 2\).*Row Of Epoch 2, Step 2"):
        check_finite(training(), loss, norm)


def test_in_fp16_an_infinite_gradient_is_left_to_the_scaler_but_an_infinite_loss_is_not():
    check_finite(training(object()), FINITE, INFINITE)
    with pytest.raises(NonFiniteError):
        check_finite(training(object()), INFINITE, FINITE)


def test_a_scaler_that_skips_every_step_stops_the_run():
    check_finite(training(object(), skipped_in_a_row=MAX_SKIPPED - 1), FINITE, INFINITE)
    with pytest.raises(NonFiniteError, match="gradient norm inf"):
        check_finite(training(object(), skipped_in_a_row=MAX_SKIPPED), FINITE, INFINITE)


def test_values_on_the_host_are_read_without_a_copy():
    assert HostCopy(torch.tensor([1.5, float("inf")])).read() == [1.5, float("inf")]


def test_there_are_no_gpu_statistics_on_the_cpu():
    assert gpu_stats(torch.device("cpu")) == {}
