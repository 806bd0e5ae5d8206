"""`fit` on the device: in 8, 4 and 16 bit, in each precision, after a validation, and after an overflow in float16."""

import csv
import math

import pynvml
import pytest
import torch

from onion_lightning.model.base_model import best_precision
from tests.conftest import adapters, curve
from tests.gpu.conftest import CARD, DETERMINISTIC, DEVICE, GPU, in_precision, needs_cuda
from tests.tiny import sample_rows

pytestmark = GPU
FORMATS = pytest.mark.parametrize("load_in", ["int8", "nf4", "none"])


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


@FORMATS
@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed"])
def test_fit_lowers_the_loss_and_moves_every_adapter_in_float32(run, tmp_path, load_in, precision):
    run("fit", *CARD, *in_precision(precision), "--model.load_in", load_in)
    losses = list(curve(tmp_path / "run").values())
    assert len(losses) == 10
    assert mean(losses[-3:]) < mean(losses[:3])
    trained = adapters(tmp_path / "run" / "last.ckpt")
    assert {value.dtype for value in trained.values()} == {torch.float32}
    assert all(value.abs().sum() > 0 for name, value in trained.items() if "lora_B" in name)  # it starts at zero
    assert all(value.isfinite().all() for value in trained.values())


@pytest.mark.parametrize(
    "flag", ["use_dora=true", "optimizer=adamw_8bit", "optimizer=paged_adamw_8bit", "neftune_alpha=5"]
)
def test_fit_with_other_adapters_optimizers_and_noise_lowers_the_loss(run, tmp_path, flag):
    if "paged" in flag and DEVICE.type == "cpu":
        pytest.skip("only a GPU has a state in pages")
    run("fit", *CARD, *in_precision("16-mixed"), f"--model.{flag}", "--model.lora_rank", "64")
    losses = list(curve(tmp_path / "run").values())
    assert len(losses) == 10
    assert mean(losses[-3:]) < mean(losses[:3])
    assert all(value.isfinite().all() for value in adapters(tmp_path / "run" / "last.ckpt").values())


def test_fit_lowers_the_loss_of_the_pretrained_demo(run, demo, tmp_path):
    """Every step sees the same eight rows."""
    with (tmp_path / "rows.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ["Title", "Content"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(sample_rows()[:8])
    rows = ("--data.path", str(tmp_path / "rows.csv"), "--data.max_length", "96", "--data.val_fraction", "0")
    few = ("--data.test_fraction", "0", "--trainer.limit_val_batches", "0", "--trainer.max_epochs", "5")
    learn = ("--model.learning_rate", "0.001", "--model.lora_dropout", "0")
    run("fit", *CARD, *in_precision(best_precision(DEVICE)), "--model.base_model", demo, *rows, *few, *learn)
    losses = list(curve(tmp_path / "run").values())
    assert len(losses) == 5
    assert losses[-1] < losses[0] - 0.1


def driver_reports_utilization() -> bool:
    """Return whether the driver does; under MIG and WSL it does not."""
    try:
        torch.cuda.utilization(DEVICE)
    except (RuntimeError, ModuleNotFoundError, pynvml.NVMLError):
        return False
    return True


@needs_cuda
def test_fit_logs_memory_and_where_the_driver_reports_it_utilization(run, tmp_path):
    run("fit", *CARD, *in_precision("16-mixed"), "--trainer.max_steps", "3")
    memory, utilization = (curve(tmp_path / "run", f"gpu/{name}") for name in ("memory_gb", "utilization"))
    assert len(memory) == 3
    assert all(0 < value < torch.cuda.get_device_properties(DEVICE).total_memory / 1e9 for value in memory.values())
    assert len(utilization) == (3 if driver_reports_utilization() else 0)
    assert all(0 <= value <= 100 for value in utilization.values())


@FORMATS
def test_fit_with_a_sanity_check_trains_the_same_adapters_as_without(run, tmp_path, load_in):
    few = ("--trainer.max_steps", "2", "--model.load_in", load_in, "--samples.count", "0")
    for steps in ("0", "2"):
        more = ("--trainer.num_sanity_val_steps", steps, "--checkpoint.dirpath", str(tmp_path / steps))
        run("fit", *CARD, *in_precision("16-mixed"), *DETERMINISTIC, *few, *more)
    one, other = (adapters(tmp_path / steps / "last.ckpt") for steps in ("0", "2"))
    assert any("lora_B" in name and value.abs().sum() > 0 for name, value in one.items())
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_step_that_overflows_in_float16_is_skipped_and_changes_neither_schedule_nor_optimizer(run, tmp_path):
    """With this first factor of the scaler the gradients overflow in the first steps; each skipped step halves it."""
    factor = 2.0**23
    run("fit", *CARD, *in_precision("16-mixed", init_scale=factor))
    last = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    skipped = round(math.log2(factor / last["ScaledHalf"]["scale"]))
    taken = {int(one["step"]) for one in last["optimizer_states"][0]["state"].values()}
    assert 0 < skipped < 8
    assert taken == {10 - skipped} == {last["lr_schedulers"][0]["last_epoch"]}
    assert all(value.isfinite().all() for value in last["state_dict"].values())
    assert all(value.abs().sum() > 0 for name, value in last["state_dict"].items() if "lora_B" in name)
    losses = list(curve(tmp_path / "run").values())
    assert len(losses) == last["global_step"] == 10 - skipped  # a skipped step is neither counted nor logged
    assert mean(losses[-2:]) < mean(losses[:2])
