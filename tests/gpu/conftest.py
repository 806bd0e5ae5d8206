"""Where the tests of this folder run: on a GPU, or on the CPU in its place, to check the tests themselves without a card.

    pytest -m gpu
    ONION_TEST_ACCELERATOR=cpu pytest -m gpu

In the second case, tests that read CUDA's own counters are skipped, and 16-mixed is real float16 with a gradient scaler.
"""

import gc
import json
import os

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it once: see `DETERMINISTIC`

from collections.abc import Iterator

import pytest
import torch

from onion_lightning.data.collate import Batch
from onion_lightning.errors import OnionError
from onion_lightning.model.base_model import has_bfloat16
from onion_lightning.model.module import OnionModule
from onion_lightning.pretrained.demo import demo_directory
from tests.conftest import batch

ACCELERATOR = os.environ.get("ONION_TEST_ACCELERATOR", "gpu")
DEVICE = torch.device("cpu" if ACCELERATOR == "cpu" else "cuda")
CARD = ("--trainer.accelerator", ACCELERATOR)
CPU = ("--trainer.accelerator", "cpu", "--trainer.precision", "32-true")

# On a GPU, the backward pass of memory-efficient attention adds gradients in any order, and so may cuBLAS where several
# workspaces exist. Only with this flag, and with CUBLAS_WORKSPACE_CONFIG, do two runs agree bit for bit.
DETERMINISTIC = ("--trainer.deterministic", "true")

# A warning that only a card causes is shown and fails no test: nobody has seen them yet.
GPU = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]
needs_cuda = pytest.mark.skipif(ACCELERATOR == "cpu", reason="reads counters that only CUDA has")


@pytest.fixture(scope="session", autouse=True)
def _device_is_there() -> None:
    if DEVICE.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here; ONION_TEST_ACCELERATOR=cpu checks the tests themselves on the CPU")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Undo what a Trainer with `DETERMINISTIC` sets for the whole process, and free the memory of the test's model."""
    yield
    torch.use_deterministic_algorithms(False)
    gc.collect()
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()


def in_precision(precision: str, **scaler: float) -> tuple[str, ...]:
    """Return the flags for a precision on the device.

    For 16-mixed on the CPU, or with options of the scaler, they are a plugin: it computes in real float16 on both devices.
    """
    if precision == "bf16-mixed" and DEVICE.type == "cuda" and not has_bfloat16(DEVICE):
        pytest.skip(f"{torch.cuda.get_device_name()} has no bfloat16")
    if precision == "16-mixed" and (DEVICE.type == "cpu" or scaler):
        plugin = {"class_path": "tests.gpu.plugins.ScaledHalf", "init_args": scaler}
        return ("--trainer.plugins", json.dumps([plugin]))
    return ("--trainer.precision", precision)


def cards() -> int:
    """Return the number of GPUs; on the CPU, as many ranks as a test may start."""
    return torch.cuda.device_count() if DEVICE.type == "cuda" else 2


@pytest.fixture(scope="session")
def demo() -> str:
    """Return the name of the demo model, a pretrained model of 135 million parameters."""
    try:
        demo_directory()
    except OnionError as error:
        pytest.skip(str(error))
    return "demo"


def on_device(base: str, precision: str = "32-true", device: torch.device = DEVICE, **more: object) -> OnionModule:
    """Return an `OnionModule` without dropout, with its weights on the device."""
    made = OnionModule(base_model=str(base), seed=1, lora_dropout=0.0, **more)
    made.load_base(device, precision)
    return made


def batch_on(made: OnionModule, device: torch.device) -> Batch:
    """Return the micro-batch of two rows that other tests use, on a device."""
    rows = batch(made)
    tensors = {name: rows[name].to(device) for name in ("input_ids", "targets", "predictors")}
    return Batch(**(rows | tensors))
