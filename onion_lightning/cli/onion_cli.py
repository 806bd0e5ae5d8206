"""LightningCLI with data and model linked: what is typed, saved and found on this machine becomes one configuration."""

import os
import re
import shlex
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import wandb
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher

from onion_lightning.cli.arguments import typed_keys
from onion_lightning.cli.signals import GracefulStop, StopSignals
from onion_lightning.cli.torchrun import join_restarted_job
from onion_lightning.cli.trainer import OnionTrainer
from onion_lightning.data.module import OnionDataModule
from onion_lightning.errors import OnionError, sentence
from onion_lightning.model.adapters import CHECKPOINT_KEY
from onion_lightning.model.article_writer import ArticleWriter
from onion_lightning.model.base_model import has_bfloat16
from onion_lightning.model.module import OnionModule
from onion_lightning.pretrained.source import same_architecture
from onion_lightning.rank_zero import is_rank_zero, tell
from onion_lightning.training.checkpoint_io import AtomicCheckpointIO, read_checkpoint, resolve
from onion_lightning.training.corpus_table import CorpusTable
from onion_lightning.training.last_checkpoint import LastCheckpoint
from onion_lightning.training.metrics_csv import MetricsCSV
from onion_lightning.training.progress_bar import Progress
from onion_lightning.training.resume import ExactResume
from onion_lightning.training.run_folder import RunFolder
from onion_lightning.training.samples import Samples
from onion_lightning.training.wandb_logger import CarefulWandbLogger, why_offline

__all__ = ["PROGRAM", "OnionCLI"]

SPLIT = ("data.val_fraction", "data.test_fraction")  # with others, rows that the adapters learned from are held out
FATAL = ("model.lora_rank", "model.target_modules")  # adapters of another size cannot be loaded
PROGRAM = "python -m onion_lightning"


class SaveConfig(SaveConfigCallback):
    """Saves the configuration beside the checkpoints and to the loggers."""

    def __init__(self, parser: LightningArgumentParser, config: Namespace, folder: Path) -> None:
        super().__init__(parser, config, save_to_log_dir=False)
        self.folder = folder

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        text = self.parser.dump(self.config, skip_none=False)
        if not getattr(trainer, "fast_dev_run", False):
            (self.folder / "config.yaml").write_text(text, encoding="utf-8")
        for logger in trainer.loggers:
            logger.log_hyperparams(self.config.as_dict())


class OnionCLI(LightningCLI):
    """`fit`, `validate`, `test`, `predict`, `evaluate` and `attend` for `OnionModule` and `OnionDataModule`.

    Args:
        args: the command line, without the program's name.
        signals: the handler that is in force.
    """

    def __init__(self, args: list[str], signals: StopSignals) -> None:
        self.args = args
        self.signals = signals
        super().__init__(
            OnionModule,
            OnionDataModule,
            trainer_class=OnionTrainer,
            args=args,
            seed_everything_default=42,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_kwargs={
                "exit_on_error": False,
                "prog": PROGRAM,
                "description": "Fine-tune a language model on headlines and articles, and write articles for headlines.",
                **{name: {"exit_on_error": False} for name in self.subcommands()},
            },
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        return {**LightningCLI.subcommands(), **{name: {"model", "datamodule"} for name in ("evaluate", "attend")}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(LastCheckpoint, "checkpoint")
        parser.add_lightning_class_args(Samples, "samples")
        parser.add_lightning_class_args(ArticleWriter, "articles")
        parser.link_arguments("model.base_model", "data.base_model")
        parser.link_arguments("checkpoint.dirpath", "samples.dirpath")

    @property
    def options(self) -> Namespace:
        """The configuration of the subcommand that runs."""
        return self.config[self.config["subcommand"]]

    @property
    def folder(self) -> Path:
        return Path(self.options.checkpoint.dirpath).expanduser()

    # Before anything is built

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        self.config = parser.parse_args(args)

    def was_typed(self, key: str) -> bool:
        """Whether the user gave a value, by flag or YAML."""
        return key in typed_keys(self.args)

    def _parse_ckpt_path(self) -> None:
        """Take from the checkpoint what the user did not type. (Lightning's own lets the checkpoint beat the user.)"""
        self.wandb_id = None
        fits = self.config["subcommand"] == "fit"
        if self.options.get("ckpt_path") is None:
            return
        path = resolve(self.options.ckpt_path, self.folder)
        if fits and self.options.ckpt_path == "last" and not path.exists():
            tell(f"--ckpt_path last: there is no {path} yet, so the run starts anew.")
            self.options["ckpt_path"] = None
            return
        meta = read_checkpoint(path)[CHECKPOINT_KEY]
        self.options["ckpt_path"] = str(path)
        self.wandb_id = meta.get("wandb_id")
        self.take_flags(path, meta, fits)

    def take_flags(self, path: Path, meta: dict[str, Any], fits: bool) -> None:
        for name, saved in (meta["flags"] | (meta["training"] if fits else {})).items():
            typed = self.options[name]
            if not self.was_typed(name):
                self.options[name] = saved
            elif typed != saved and name in FATAL:
                raise OnionError(
                    f"--{name} {typed}: {path} was made with {saved}; give that value, or another checkpoint."
                )
            elif typed != saved and name in SPLIT and self.config["subcommand"] in ("validate", "test", "evaluate"):
                raise OnionError(
                    f"--{name} {typed}: {path} was made with {saved}, and with another split its training rows would be"
                    " held out; leave the flag away."
                )
            elif typed != saved and name == "model.base_model" and not same_architecture(typed, meta["architecture"]):
                raise OnionError(
                    f"--{name} {typed}: {path} was made for {saved}, a model of another shape; give that one, or another"
                    " checkpoint."
                )
            elif typed != saved and fits:
                tell(f"--{name} {typed}: the checkpoint was made with {saved}; going on with {typed}, as typed.")
        self.options.data["base_model"] = self.options.model.base_model

    def before_instantiate_classes(self) -> None:
        fits = self.subcommand == "fit"
        self.save_config_callback = SaveConfig if fits else None
        self.save_config_kwargs = {"folder": self.folder} if fits else {}
        if self.subcommand == "attend":
            self.stay_on_one_device()
        if self.subcommand not in ("fit", "evaluate", "attend"):
            self.options.trainer["logger"] = False
            return
        for logger in wandb_configs(self.options.trainer):
            self.prepare_wandb(logger)

    def stay_on_one_device(self) -> None:
        """`attend` runs on what this machine has, whatever the config was written for."""
        trainer = self.options.trainer
        if trainer["accelerator"] != "cpu" and not torch.cuda.is_available():
            trainer["accelerator"] = "auto"
        for name, value in (("devices", 1), ("num_nodes", 1), ("strategy", "auto"), ("precision", None)):
            trainer[name] = value

    def prepare_wandb(self, logger: Namespace) -> None:
        """Go on in the checkpoint's run; go offline where W&B cannot be had."""
        arguments = logger["init_args"]
        if self.wandb_id:
            arguments["id"] = self.wandb_id
        if not arguments.get("offline") and is_rank_zero() and (reason := why_offline()):
            arguments["offline"] = True
            tell(f"W&B is offline: {reason}. `wandb sync` uploads the run later.")
        if arguments.get("offline"):
            os.environ.setdefault("WANDB_SILENT", "true")  # eight lines about syncing
        for kind in ("DATA", "CACHE"):  # it would write into the home folder
            os.environ.setdefault(f"WANDB_{kind}_DIR", str(Path(arguments.get("save_dir") or ".") / "wandb"))

    # Building

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        fits = self.subcommand == "fit"
        config = {**self._get(self.config_init, "trainer"), **kwargs}
        config["plugins"] = [*(config["plugins"] or []), AtomicCheckpointIO()]
        config["use_distributed_sampler"] = False  # the data module deals rows itself
        config["precision"] = self.precision()
        config["enable_model_summary"] = bool(config["enable_model_summary"])  # its table says nothing of 8 bit
        config["enable_checkpointing"] = fits
        bar = [Progress()] if config["enable_progress_bar"] is not False else []
        config["callbacks"] = [*self.first_callbacks(), *bar, *(config["callbacks"] or [])]
        try:
            made = self._instantiate_trainer(config, self.last_callbacks())
        except (MisconfigurationException, ValueError) as error:
            if not re.search("accelerator|device|backend|GPU|CUDA|MPS|TPU", str(error)):
                raise OnionError(f"--trainer: {sentence(error)}") from error
            machine = f"--trainer.devices {config['devices']} and --trainer.strategy {config['strategy']}"
            raise OnionError(
                f"--trainer.accelerator {config['accelerator']} with {machine}: {sentence(error).rstrip('.')}; without a GPU,"
                " take --trainer.accelerator cpu or configs/cpu.yaml."
            ) from error
        check_strategy(made.strategy, config["strategy"])
        join_restarted_job(made.strategy)
        if fits and not getattr(made, "fast_dev_run", False):
            made.loggers = [*made.loggers, MetricsCSV(self.folder)]
        for logger in made.loggers:
            if isinstance(logger, WandbLogger):
                logger.__class__ = CarefulWandbLogger  # jsonargparse would not find wandb's options in a subclass
                logger._wandb_init.pop("anonymous", None)  # Lightning passes what W&B then warns of
        return made

    def first_callbacks(self) -> list[pl.Callback]:
        stop = GracefulStop(self.signals)
        if self.subcommand != "fit":
            return [stop]
        return [stop, RunFolder(self.folder, self.options.ckpt_path is not None), CorpusTable(self.folder)]

    def last_callbacks(self) -> list[pl.Callback]:
        if self.subcommand == "fit":
            made = [self._get(self.config_init, key) for key in ("checkpoint", "samples")]
            return [*made, ExactResume(), best_checkpoint(self.folder)]
        if self.subcommand in ("evaluate", "attend"):
            return []
        writer = self._get(self.config_init, "articles")
        writer.checkpoint = self.options.ckpt_path
        return [writer]

    def precision(self) -> Any:
        """The precision that was asked for, or what this CPU has instead of float16."""
        asked = self.options.trainer.precision
        accelerator = self.options.trainer.accelerator
        on_cpu = accelerator == "cpu" or (accelerator == "auto" and not torch.cuda.is_available())
        if not on_cpu or asked not in ("16-mixed", "16", 16, "bf16-mixed", "bf16"):
            return asked
        if has_bfloat16(torch.device("cpu")):
            return "bf16-mixed"
        tell(f"--trainer.precision {asked}: this CPU has no 16-bit arithmetic, so the run is in 32-true.")
        return "32-true"

    # Around the run

    def before_fit(self) -> None:
        self.began = time.monotonic()

    def after_fit(self) -> None:
        if getattr(self.trainer, "fast_dev_run", False):
            return
        self.finish_wandb()
        minutes = (time.monotonic() - self.began) / 60
        last, best = self.folder / "last.ckpt", self.folder / "best.ckpt"
        figures = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        perplexity = f", validation perplexity {figures['val/perplexity']:.2f}" if "val/perplexity" in figures else ""
        tell(f"\nDone: step {self.trainer.global_step} after {minutes:.1f} minutes{perplexity}.")
        tell(f"Checkpoint: {last}" + (f" (lowest validation loss: {best})" if best.exists() else ""))
        carried = ("-c", "--config", "--trainer.accelerator", "--trainer.devices", "--trainer.strategy")
        flags = [word for pair in pairwise(self.args) if pair[0] in carried for word in pair]
        command = [*PROGRAM.split(), "predict", *flags, "--ckpt_path", str(last)]
        command += ["--data.headlines", '["Area Man Declares War On Tuesday"]']
        tell(f"Write an article with it:\n  {shlex.join(command)}")

    def after_evaluate(self) -> None:
        self.finish_wandb()

    after_attend = after_evaluate

    def finish_wandb(self) -> None:
        for logger in self.trainer.loggers:
            if isinstance(logger, CarefulWandbLogger):
                logger.attempt(wandb.finish)


def wandb_configs(trainer: Namespace) -> list[Namespace]:
    loggers = trainer.logger if isinstance(trainer.logger, list) else [trainer.logger]
    return [one for one in loggers if isinstance(one, Namespace) and one["class_path"].endswith(WandbLogger.__name__)]


def check_strategy(strategy: Strategy, asked: Any) -> None:
    """Refuse what would cut up the frozen weights, or would start ranks in the middle of this program.

    Raises:
        OnionError: the strategy is neither one device nor DDP with a process of its own for each rank.
    """
    known = isinstance(strategy, SingleDeviceStrategy | DDPStrategy)
    if not known or isinstance(strategy.launcher, _MultiProcessingLauncher):
        raise OnionError(f"--trainer.strategy {asked}: is not supported; give ddp, or auto on one device.")


def best_checkpoint(folder: Path) -> ModelCheckpoint:
    return ModelCheckpoint(
        folder,
        filename="best",
        monitor="val/loss",
        save_top_k=1,
        enable_version_counter=False,
        save_on_train_epoch_end=False,
    )
