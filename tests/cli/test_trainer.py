"""The Trainer's arguments: loggers, precision and strategies."""

import json

import lightning.pytorch as pl
import pytest
from lightning.pytorch.loggers import CSVLogger

from onion_lightning.cli import trainer
from onion_lightning.cli.onion_cli import OnionCLI
from onion_lightning.cli.signals import StopSignals
from onion_lightning.errors import OnionError
from onion_lightning.training.wandb_logger import CarefulWandbLogger

WANDB = {"class_path": "lightning.pytorch.loggers.WandbLogger"}


class Built(Exception):
    """Carries the Trainer out of the command line, before anything runs."""


@pytest.fixture
def loggers(flags, tmp_path):
    """Returns the loggers that `--trainer.logger` leads to."""

    class Build(OnionCLI):
        def after_instantiate_classes(self):
            raise Built(self.trainer)

    def build(logger):
        with StopSignals() as signals, pytest.raises(Built) as built:
            Build(flags("fit", "--trainer.logger", json.dumps(logger)), signals)
        return built.value.args[0].loggers

    return build


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


@pytest.mark.parametrize(
    ("asked", "bfloat16", "found"), [("16-mixed", True, "bf16-mixed"), ("16-mixed", False, "32-true")]
)
def test_float16_on_the_cpu_becomes_what_the_cpu_has(monkeypatch, asked, bfloat16, found):
    monkeypatch.setattr(trainer, "has_bfloat16", lambda device: bfloat16)
    assert trainer.choose_precision(asked, "cpu") == found
    assert trainer.choose_precision("32-true", "cpu") == "32-true"


@pytest.mark.parametrize("name", ["ddp_spawn", "ddp_notebook"])
def test_a_strategy_that_starts_ranks_midway_is_refused(name):
    made = pl.Trainer(accelerator="cpu", devices=2, strategy=name, logger=False)
    with pytest.raises(OnionError, match=f"--trainer.strategy {name}: is not supported"):
        trainer.check_strategy(made.strategy, name)
