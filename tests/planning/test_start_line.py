"""`fit` begins with one line about the device, the precision and memory."""

import re
import shutil

import pytest
import torch
from transformers import LlamaConfig

from onion_lightning.cli.main import main
from onion_lightning.planning import start_line
from onion_lightning.planning.memory import SharedLayers
from tests.conftest import ranks

CONFIG = LlamaConfig(hidden_size=64, num_attention_heads=4, num_key_value_heads=2)


@pytest.fixture
def line(run, capsys):
    """Returns the lines that `fit` prints about memory."""

    def of(*words: str) -> list[str]:
        run("fit", "--trainer.max_steps", "1", *words)
        return [one for one in capsys.readouterr().err.splitlines() if "raining on" in one or "too little" in one]

    return of


def test_fit_begins_with_one_line_about_device_precision_attention_and_memory(line):
    [found] = line("--trainer.limit_val_batches", "0")
    expected = (
        rf"Training on the CPU \({torch.get_num_threads()} threads?\) in 32-true, with 8-bit weights and flash attention."
        r" Expected memory: (\d+\.\d+) of (\d+\.\d+) GB, for 4 rows of \d+ tokens\."
    )
    memory = re.fullmatch(expected, found)
    assert memory, found
    assert 0 < float(memory[1]) < float(memory[2])


def test_it_is_printed_before_the_weights_are_loaded(flags, tmp_path, tiny_base, capsys):
    folder = tmp_path / "damaged"
    shutil.copytree(tiny_base, folder)
    (folder / "model.safetensors").write_bytes(b"damaged")
    assert main(flags("fit", "--model.base_model", str(folder))) == 1
    printed = capsys.readouterr().err
    assert 0 <= printed.index("Training on the CPU") < printed.index("its weights are damaged")


def test_layers_that_the_model_does_not_have_are_refused_before_the_weights_are_loaded(refused, tmp_path, tiny_base):
    folder = tmp_path / "damaged"
    shutil.copytree(tiny_base, folder)
    (folder / "model.safetensors").write_bytes(b"damaged")
    line = refused("fit", "--model.base_model", str(folder), "--model.target_modules", '["egg"]')
    assert line.startswith("error: --model.target_modules ['egg']: ")
    assert "give auto, all-linear, or some of down_proj, gate_proj, k_proj," in line


def test_too_little_memory_is_announced_with_what_helps_most_cheaply(line, monkeypatch):
    monkeypatch.setattr(start_line, "available_memory", lambda device: 5_000_000)
    _, advice = line("--trainer.limit_val_batches", "0")
    assert advice == ("This may be too little: give --data.batch_size 2, which does not change the effective batch.")


def test_ranks_are_counted_and_print_once_what_they_share(shell, flags):
    words = ("--trainer.max_steps", "1", "--trainer.limit_val_batches", "0", "--model.shard", "true")
    done = shell(flags("fit", *words, *ranks(2)))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Training on 2 x the CPU") == 1
    assert (
        done.stderr.count("2 ranks share the decoder layers: each keeps 0.00 GB, and receives 0.00 GB per step.") == 1
    )


def test_what_ranks_share_is_in_gigabytes_for_all_micro_batches_of_a_step():
    shared = SharedLayers(ranks=8, count=80, size=70_000_000_000, gathered=0)
    assert start_line.describe_shares(shared, accumulate=2) == (
        "8 ranks share the decoder layers: each keeps 8.8 GB, and receives 245.0 GB per step."
    )


def test_a_model_that_cannot_be_traced_is_trained_anyway(line, monkeypatch):
    def fail(*args: object, **flags: object) -> None:
        raise start_line.OnionError("cannot be predicted")

    monkeypatch.setattr(start_line, "recall_memory", fail)
    [found] = line("--trainer.limit_val_batches", "0")
    assert "Expected memory: unknown of" in found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_attention_kernel_is_the_one_that_torch_chooses(dtype):
    """Without that of cuDNN, which is turned off when the model is loaded, after the line is printed."""
    torch.backends.cuda.enable_cudnn_sdp(True)
    assert start_line.kernel_name(CONFIG, torch.device("cpu"), dtype) == "flash"
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        assert start_line.kernel_name(CONFIG, torch.device("cpu"), dtype) == "math"
    assert not torch.backends.cuda.cudnn_sdp_enabled()


def test_memory_that_the_system_does_not_report_is_left_out(monkeypatch):
    monkeypatch.setattr(start_line.os, "sysconf", lambda name: (_ for _ in ()).throw(ValueError(name)))
    assert start_line.available_memory(torch.device("cpu")) is None
    assert start_line.describe_memory(None, None) == "unknown GB"
