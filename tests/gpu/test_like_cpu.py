"""The device computes what the CPU does in float32: losses of training, `evaluate` and `attend`.

`EXACT` is for float32, where only the order of sums differs (TF32 is off by default): another micro-batch size changes the
ten losses by up to 2e-7 on a CPU. It leaves room for weights that another kernel rounds to the neighboring 8-bit code: if
one in a thousand is, the loss changes by 1e-4.
`HALF` is for float16, which rounds each activation by up to 2**-11: real float16 on a CPU changes losses by up to 9e-4
(nf4) and attention by 9e-4. It leaves room for a GPU, where sums of products may be rounded to float16 in between.
"""

import json

import numpy as np
import pytest
import torch

from onion_lightning.attention.phrase_attention import attend
from tests.attention.conftest import KEY, QUERY, TEXT
from tests.conftest import curve
from tests.evaluation.conftest import SMALL, UNCUT
from tests.gpu.conftest import CARD, CPU, DEVICE, GPU, batch_on, in_precision, on_device

pytestmark = GPU
FORMATS = pytest.mark.parametrize("load_in", ["int8", "nf4", "none"])
EXACT, HALF = 1e-4, 5e-3
PRECISIONS = pytest.mark.parametrize(("precision", "tolerance"), [("32-true", EXACT), ("16-mixed", HALF)])


@FORMATS
@PRECISIONS
def test_ten_losses_are_those_of_the_cpu(run, tmp_path, load_in, precision, tolerance):
    same = ("--model.load_in", load_in, "--model.lora_dropout", "0", "--trainer.gradient_clip_val", "1.0")
    run("fit", *CPU, *same, "--checkpoint.dirpath", str(tmp_path / "cpu"))
    run("fit", *CARD, *in_precision(precision), *same)
    losses = curve(tmp_path / "run")
    assert len(losses) == 10
    cpu = curve(tmp_path / "cpu")
    assert losses == pytest.approx(cpu, rel=tolerance)


def loss_per_token(base: str, load_in: str, device: torch.device, precision: str) -> float:
    """Return the loss of two short rows."""
    made = on_device(base, precision, device, load_in=load_in).eval()
    with torch.inference_mode(), torch.autocast(device.type, torch.float16, enabled=precision == "16-mixed"):
        rows = batch_on(made, device)
        return float(made.loss_sum(rows)) / rows["supervised"]


@FORMATS
@PRECISIONS
def test_the_pretrained_demo_has_the_loss_that_it_has_on_the_cpu(demo, load_in, precision, tolerance):
    """Unlike random weights, pretrained ones have outliers, which are what float16 may not represent."""
    expected = loss_per_token(demo, load_in, torch.device("cpu"), "32-true")
    assert loss_per_token(demo, load_in, DEVICE, precision) == pytest.approx(expected, rel=tolerance)


@PRECISIONS
def test_evaluate_gives_the_losses_that_it_gives_on_the_cpu(run, tmp_path, precision, tolerance):
    """Generated articles are sampled, with other random numbers on each kind of device: only the losses are comparable."""
    run("fit", *CPU, *UNCUT, "--data.test_fraction", "0.5", "--trainer.max_steps", "2", "--samples.count", "0")
    checkpoint = ("--ckpt_path", str(tmp_path / "run" / "last.ckpt"))
    losses = []
    for name, machine in (("cpu", CPU), ("card", (*CARD, *in_precision(precision)))):
        run("evaluate", *machine, *SMALL, *checkpoint, "--output", str(tmp_path / name))
        metrics = json.loads((tmp_path / name / "metrics.json").read_text())
        losses.append({system: metrics["systems"][system]["loss"] for system in ("base", "few_shot", "tuned")})
    assert losses[1] == pytest.approx(losses[0], rel=tolerance)


@pytest.mark.parametrize(
    ("load_in", "precision", "tolerance"),
    [("none", "32-true", EXACT), ("int8", "16-mixed", HALF), ("nf4", "16-mixed", HALF)],
)
def test_attend_gives_the_attention_that_it_gives_on_the_cpu(tiny_base, load_in, precision, tolerance):
    """Compares the share of attention from each token of the query to each earlier token, in every head.

    A code that another kernel rounds to its neighbor may change a share of one token by 2e-4 (seen on an H100), which is not
    `EXACT`; the quantized weights themselves are compared in `test_frozen_linear.py`.
    """
    shares = []
    for device, its_precision in ((torch.device("cpu"), "32-true"), (DEVICE, precision)):
        made = on_device(tiny_base, its_precision, device, load_in=load_in)
        maps = attend(made.language_model, made.tokenizer, TEXT, QUERY, KEY).maps["base"]
        shares.append(maps.mean.cpu().numpy())
    np.testing.assert_allclose(shares[1], shares[0], atol=tolerance)


def test_the_attend_command_runs_on_the_device(run, tmp_path):
    run("attend", *CARD, "--text", TEXT, "--query", QUERY, "--key", KEY, "--output", str(tmp_path / "a"))
    content = json.loads((tmp_path / "a" / "attention.json").read_text())
    assert np.shape(content["systems"]["base"]["key"]) == (2, 4)
    assert content["checks"]["base"]["future"] == 0.0
