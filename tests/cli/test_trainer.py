"""The Trainer's arguments: loggers, precision and strategies."""

import json

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import MixedPrecision, Precision
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch.amp import GradScaler

from onion_lightning.cli import trainer
from onion_lightning.cli.main import main
from onion_lightning.cli.onion_cli import OnionCLI
from onion_lightning.cli.parsing.trainer_checks import check_strategy
from onion_lightning.cli.signals import StopSignals
from onion_lightning.errors import OnionError
from onion_lightning.model import base_model
from onion_lightning.model.module import OnionModule
from onion_lightning.training.wandb_logger import CarefulWandbLogger
from tests.conftest import ROOT, curve

WANDB = {"class_path": "lightning.pytorch.loggers.WandbLogger"}


class Built(Exception):
    """Carries the command line's objects out of it, before anything runs."""


@pytest.fixture
def built():
    """Returns a function that builds what a command line describes, and returns the CLI before anything runs."""

    class Build(OnionCLI):
        def after_instantiate_classes(self):
            raise Built(self)

    def build(*words):
        with StopSignals() as signals, pytest.raises(Built) as found:
            Build(list(words), signals)
        return found.value.args[0]

    return build


@pytest.fixture
def loggers(built, flags):
    """Returns the loggers that `--trainer.logger` leads to."""
    return lambda logger: built(*flags("fit", "--trainer.logger", json.dumps(logger))).trainer.loggers


def test_a_wandb_logger_is_replaced_by_the_careful_one_and_keeps_its_options(loggers, tmp_path):
    options = {"save_dir": str(tmp_path), "project": "onion", "offline": True, "tags": ["egg"]}
    careful, _ = loggers({**WANDB, "init_args": options})
    assert type(careful) is CarefulWandbLogger
    assert careful._wandb_init["project"] == "onion"
    assert careful._wandb_init["tags"] == ["egg"]


def test_other_loggers_are_left_as_they_are(loggers, tmp_path):
    csv = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": str(tmp_path)}}
    one, other, _ = loggers([csv, {**WANDB, "init_args": {"save_dir": str(tmp_path), "offline": True}}])
    assert type(one) is CSVLogger
    assert type(other) is CarefulWandbLogger
    assert len(loggers(False)) == 1  # metrics.csv


CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("asked", "device", "bfloat16", "found"),
    [
        (None, CPU, True, "bf16-mixed"),
        (None, CPU, False, "32-true"),
        (None, CUDA, True, "bf16-mixed"),
        (None, CUDA, False, "16-mixed"),
        ("16-mixed", CPU, True, "bf16-mixed"),  # float16 products on a CPU are thousands of times slower
        ("16-mixed", CPU, False, "32-true"),
        ("bf16", CPU, False, "32-true"),
        ("bf16-mixed", CPU, True, "bf16-mixed"),
        ("32-true", CPU, True, "32-true"),
        ("16-mixed", CUDA, True, "16-mixed"),
        (16, CUDA, False, "16-mixed"),
        (32, CUDA, True, "32-true"),
    ],
)
def test_the_precision_is_the_one_asked_for_or_the_fastest_of_the_device(
    monkeypatch, capsys, asked, device, bfloat16, found
):
    monkeypatch.setattr(base_model, "has_bfloat16", lambda device: bfloat16)
    monkeypatch.setattr(trainer, "has_bfloat16", lambda device: bfloat16)
    assert trainer.choose_precision(asked, device) == found
    replaced = asked is not None and trainer.ALIASES.get(str(asked), asked) != found
    assert (f"--trainer.precision {asked}" in capsys.readouterr().err) == replaced


@pytest.mark.parametrize("asked", ["16-true", "bf16-true", "64-true", 64, "transformer-engine"])
@pytest.mark.parametrize("command", ["fit", "predict"])
def test_precisions_that_would_not_keep_adapters_in_float32_are_refused(refused, command, asked):
    sentence = refused(command, "--trainer.precision", str(asked))
    assert "adapters are trained in float32; give 16-mixed, bf16-mixed, 32-true, or omit the flag." in sentence


def test_a_plugin_with_such_a_precision_is_refused_too(refused):
    half = json.dumps([{"class_path": "HalfPrecision", "init_args": {"precision": "bf16-true"}}])
    assert "--trainer.precision bf16-true: adapters" in refused("fit", "--trainer.plugins", half)


def test_bfloat16_that_a_gpu_only_emulates_is_refused(monkeypatch):
    monkeypatch.setattr(trainer, "has_bfloat16", lambda device: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    with pytest.raises(OnionError, match=r"--trainer\.precision bf16: Tesla T4 has no bfloat16; give 16-mixed"):
        trainer.choose_precision("bf16", CUDA)


@pytest.mark.parametrize("asked", ["tpu", "hpu", "mps", "Gpu"])
def test_other_accelerators_are_refused(refused, asked):
    sentence = refused("fit", "--trainer.accelerator", asked)
    assert f"--trainer.accelerator {asked}: is not supported; give gpu, cpu or auto." in sentence


@pytest.mark.parametrize(("there", "found"), [(True, "gpu"), (False, "cpu")])
def test_auto_is_a_gpu_if_there_is_one(monkeypatch, there, found):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert trainer.choose_accelerator("auto") == found


@pytest.mark.parametrize(
    ("precision", "dtype"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16), ("16-mixed", torch.float16)]
)
@pytest.mark.parametrize("load_in", ["int8", "nf4", "none"])
def test_frozen_layers_have_the_dtype_of_the_trainers_precision(tiny_base, monkeypatch, precision, dtype, load_in):
    made = OnionModule(base_model=str(tiny_base), load_in=load_in)
    scaler = GradScaler("cpu") if precision == "16-mixed" else None
    plugin = Precision() if precision == "32-true" else MixedPrecision(precision, "cpu", scaler)
    made.trainer = pl.Trainer(accelerator="cpu", plugins=[plugin], logger=False)
    made.configure_model()
    assert made.language_model.get_input_embeddings().weight.dtype == dtype
    assert {p.dtype for p in made.parameters() if p.requires_grad} == {torch.float32}


@pytest.mark.parametrize("name", ["ddp_spawn", "ddp_notebook"])
def test_a_strategy_that_starts_ranks_midway_is_refused(name):
    made = pl.Trainer(accelerator="cpu", devices=2, strategy=name, logger=False)
    with pytest.raises(OnionError, match=f"--trainer.strategy {name}: is not supported"):
        check_strategy(made.strategy, name)


@pytest.mark.parametrize(
    ("callback", "says"),
    [
        (
            '{"class_path": "GradientAccumulationScheduler", "init_args": {"scheduling": {"0": 2}}}',
            "--data.global_batch_size",
        ),
        ('{"class_path": "StochasticWeightAveraging", "init_args": {"swa_lrs": 0.1}}', "learning rate schedule"),
        ('"BatchSizeFinder"', "--data.batch_size"),
        ('"LearningRateFinder"', "--model.learning_rate"),
        ('"EMAWeightAveraging"', "copies the frozen weights"),
        ('"BackboneFinetuning"', "the base model stays frozen"),
    ],
)
def test_callbacks_that_contradict_adapters_or_exact_resume_are_refused(refused, tmp_path, callback, says):
    sentence = refused("fit", "--trainer.callbacks", f"[{callback}]")
    assert sentence.startswith("error: --trainer.callbacks ")
    assert says in sentence
    assert list(tmp_path.iterdir()) == []


def test_overfit_batches_is_refused(refused, tmp_path):
    assert "--trainer.overfit_batches 2: is not supported" in refused("fit", "--trainer.overfit_batches", "2")
    assert list(tmp_path.iterdir()) == []


def test_more_micro_batches_than_an_epoch_has_are_refused_before_anything_is_written(refused, tmp_path):
    sentence = refused("fit", "--trainer.val_check_interval", "1000")
    assert "--trainer.val_check_interval 1000: is more than the 10 micro-batches of an epoch" in sentence
    assert not list(tmp_path.rglob("last.ckpt"))


def test_half_an_epoch_is_rounded_to_an_optimizer_step(run, tmp_path):
    run("fit", "--trainer.val_check_interval", "0.5", "--trainer.max_epochs", "1", "--samples.count", "0")
    assert sorted(curve(tmp_path / "run", "val/loss")) == [1, 3]  # after 2 and 4 of 5 steps


def test_a_run_without_checkpointing_writes_no_checkpoint_and_reports_it(run, flags, refused, tmp_path, capsys):
    off = ("--trainer.enable_checkpointing", "false")
    run("fit", *off, "--trainer.max_epochs", "1")
    printed = capsys.readouterr().err
    assert "Done: step 5" in printed
    assert "No checkpoint was written (--trainer.enable_checkpointing false)." in printed
    assert "Write an article" not in printed
    assert not list(tmp_path.rglob("*.ckpt"))
    stop = ("--trainer.callbacks+=tests.stopper.StopAt", "--trainer.callbacks.step=2")
    assert main(flags("fit", *off, *stop)) == 130
    assert "Resume" not in capsys.readouterr().err
    assert "remove one of them" in refused("fit", *off, "--trainer.callbacks+=ModelCheckpoint")


@pytest.fixture
def eight_gpus(monkeypatch):
    """Makes torch and Lightning count eight GPUs with bfloat16, on a machine without one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr("lightning.fabric.accelerators.cuda.num_cuda_devices", lambda: 8)
    monkeypatch.setattr(pl.accelerators.CUDAAccelerator, "is_available", lambda *args: True)


@pytest.mark.parametrize(
    ("config", "devices", "strategy", "load_in"),
    [
        ("gpu1", 1, SingleDeviceStrategy, "int8"),
        ("qlora", 1, SingleDeviceStrategy, "nf4"),
        ("ddp8", 8, DDPStrategy, "int8"),
    ],
)
@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed"])
def test_every_gpu_config_is_built_up_to_the_device(
    eight_gpus, built, tmp_path, config, devices, strategy, load_in, precision
):
    words = [
        "--config",
        str(ROOT / f"configs/{config}.yaml"),
        "--trainer.precision",
        precision,
        "--trainer.logger",
        "false",
    ]
    cli = built("fit", *words, "--checkpoint.dirpath", str(tmp_path / "run"))
    found = cli.trainer
    assert isinstance(found.accelerator, pl.accelerators.CUDAAccelerator)
    assert type(found.strategy) is strategy
    assert found.world_size == devices
    assert found.strategy.root_device == torch.device("cuda", 0)
    assert found.precision == precision
    assert (found.precision_plugin.scaler is not None) == (precision == "16-mixed")
    assert found.precision_plugin.device == "cuda"
    assert found.gradient_clip_val == 1.0
    assert found.num_sanity_val_steps == 2
    assert (cli.model.load_in, cli.model.gradient_checkpointing) == (load_in, True)
    assert cli.datamodule.global_batch_size == 64
    assert cli.datamodule.batch_size * devices <= 64
