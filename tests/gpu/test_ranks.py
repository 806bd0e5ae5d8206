"""Two GPUs with NCCL train like one, and do not send each other the frozen weights."""

import json

import pytest
import torch

from tests.conftest import adapters, curve, ranks
from tests.gpu.conftest import CARD, DETERMINISTIC, GPU, cards, in_precision

pytestmark = GPU


@pytest.fixture
def two_ranks(flags, shell, tmp_path):
    """Run `fit` on two ranks and return its folder."""
    if cards() < 2:
        pytest.skip("needs two GPUs")

    def command(*words):
        done = shell(flags("fit", *CARD, *ranks(2), "--checkpoint.dirpath", str(tmp_path / "two"), *words))
        assert done.returncode == 0, done.stderr
        return tmp_path / "two"

    return command


def test_two_ranks_have_the_loss_curve_of_one(run, two_ranks, tmp_path):
    """In 32-true the order of sums alone differs; 1e-4 is what the same change costs on the CPU (`test_ddp.py`)."""
    exact = ("--model.load_in", "none", "--model.lora_dropout", "0", "--data.batch_size", "2")
    run("fit", *CARD, *exact)
    folder = two_ranks(*exact)
    assert len(curve(folder)) == 10
    for name in ("train/loss", "val/loss"):
        assert curve(folder, name) == pytest.approx(curve(tmp_path / "run", name), rel=1e-4)


def test_the_frozen_weights_are_not_broadcast_at_the_start(two_ranks, tmp_path):
    count = ("--trainer.callbacks+=tests.gpu.plugins.CountBroadcasts", "--trainer.callbacks.path")
    two_ranks("--trainer.max_steps", "2", *count, str(tmp_path / "bytes.json"))
    found = json.loads((tmp_path / "bytes.json").read_text())
    assert found["sent"] < found["frozen"] / 2, found


@pytest.mark.parametrize("load_in", ["int8", "nf4", "none"])
def test_two_cards_that_share_the_weights_train_and_write_like_two_that_have_all(two_ranks, tmp_path, load_in):
    """Bit for bit: codes are sent as they are, and NCCL adds up the same gradients in the same order."""
    exact = (*in_precision("16-mixed"), *DETERMINISTIC, "--model.load_in", load_in)
    words = (*exact, "--model.gradient_checkpointing", "true", "--data.batch_size", "1", "--samples.count", "2")
    for shard in ("false", "true"):
        two_ranks(*words, "--model.shard", shard, "--checkpoint.dirpath", str(tmp_path / shard))
    whole, shared = (adapters(tmp_path / shard / "last.ckpt") for shard in ("false", "true"))
    assert all(torch.equal(value, shared[name]) for name, value in whole.items())
    for name in ("train/loss", "val/loss"):
        assert curve(tmp_path / "false", name) == curve(tmp_path / "true", name)
    if load_in != "none":  # otherwise adapters are merged into whole weights to generate
        assert (tmp_path / "false/samples.txt").read_text() == (tmp_path / "true/samples.txt").read_text()
