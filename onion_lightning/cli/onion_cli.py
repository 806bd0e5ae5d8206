"""LightningCLI for this project's modules and data modules."""

import gc
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from jsonargparse import ArgumentError, Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ProgressBar as LightningProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.plugins import Precision

from onion_lightning.cli.commands import (
    COMMANDS,
    PLANNING,
    RUNNING,
    SESSION_COMMANDS,
    UNLOGGED,
    WEIGHTLESS,
    OnionSession,
    OnionTrainer,
    all_commands,
)
from onion_lightning.cli.job import agree_on_options, connect, explain_failure, prepare_trainer
from onion_lightning.cli.launchers import follow_launcher
from onion_lightning.cli.parsing.arguments import given_keys
from onion_lightning.cli.parsing.checks import check_command, check_decoding, check_options
from onion_lightning.cli.parsing.classes import choose_classes
from onion_lightning.cli.parsing.parser import SaveConfig, add_flags, flag_names, parser_settings
from onion_lightning.cli.parsing.precedence import apply_adapter, apply_checkpoint
from onion_lightning.cli.parsing.trainer_checks import (
    check_callbacks,
    check_strategy,
    check_strategy_name,
    check_trainer,
)
from onion_lightning.cli.parsing.wording import explain_building, explain_parsing
from onion_lightning.cli.result import finish_wandb, report_fit
from onion_lightning.cli.signals import GracefulStop, StopSignals
from onion_lightning.cli.trainer import (
    as_list,
    best_checkpoint,
    build_loggers,
    choose_accelerator,
    choose_precision,
    explain,
    prepare_wandb,
    session_device,
    take_line_of_fit,
    trainer_flags,
    training_device,
    wandb_arguments,
)
from onion_lightning.heartbeat import show_progress
from onion_lightning.model.base_model import compute_dtype
from onion_lightning.ranks import together
from onion_lightning.training.checkpoint_io import AtomicCheckpointIO
from onion_lightning.training.job.agreement import Agreement
from onion_lightning.training.job.checkpoint import choose_checkpoint
from onion_lightning.training.last_checkpoint import LastCheckpoint
from onion_lightning.training.metrics_csv import MetricsCSV
from onion_lightning.training.progress.choose import choose_progress, progress_callback
from onion_lightning.training.progress.fit_lines import FitLines
from onion_lightning.training.resume import ExactResume
from onion_lightning.training.run_folder import RunFolder

__all__ = ["OnionCLI"]


class OnionCLI(LightningCLI):
    """Runs `fit`, `validate`, `test`, `predict` and the commands of `commands.py`.

    Args:
        args: the command line, without the program's name.
        signals: the signal handler that is installed.

    Raises:
        OnionError: bad input, or too little memory.
    """

    def __init__(self, args: list[str], signals: StopSignals) -> None:
        check_command(args, all_commands())
        self.args = args
        self.signals = signals
        self.last: LastCheckpoint | None = None
        self.run_folder: RunFolder | None = None
        self.building = [args[0]] if args[0] in all_commands() else list(all_commands())
        try:
            super().__init__(
                *choose_classes(args),
                trainer_class=OnionTrainer,
                trainer_defaults={"use_distributed_sampler": False},  # the data module assigns rows to ranks
                args=args,
                seed_everything_default=42,
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
                parser_kwargs=parser_settings(self.building),
            )
        except RuntimeError as error:
            if late := explain_failure(error, self):
                raise late from error
            raise
        finally:
            if self.run_folder is not None:
                self.run_folder.release()
        finish_wandb(self.trainer)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override] # Lightning calls it on the instance
        """Return the command that was given, or all of them: building the parsers of all takes half a second."""
        return {name: skipped for name, skipped in all_commands().items() if name in self.building}

    def setup_parser(self, *args: Any, **kwargs: Any) -> None:
        super().setup_parser(*args, **kwargs)
        for name in {*self.building} & {*COMMANDS}:  # Lightning's commands have it: one line is for all
            self._subcommand_parsers[name].add_argument("--weights_only", type=bool | None, help="Not used.")
        if "predict" in self.building:  # otherwise Lightning would keep all articles in memory
            self._subcommand_parsers["predict"].set_defaults(return_predictions=False)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        add_flags(parser)

    @property
    def options(self) -> Namespace:
        """The configuration of the subcommand."""
        return self.config[self.config["subcommand"]]

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.options.checkpoint.dirpath).expanduser()

    @property
    def saves(self) -> bool:
        """Whether `fit` writes checkpoints."""
        return self.options.trainer.enable_checkpointing is not False

    # Before anything is built

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        runs = self.args[0] in RUNNING
        self.hosts = connect(self.args, runs)
        with together():
            self.check_arguments(parser, args)
        command, folder = self.config["subcommand"], self.folder
        if runs:
            self.flags = agree_on_options(self.options)
            self.options["ckpt_path"] = choose_checkpoint(self.options.ckpt_path, folder, command == "fit")
        with together():
            self.wandb_id = apply_checkpoint(command, self.options, self.typed, self.configured, folder)
            apply_adapter(command, self.options, self.typed, self.configured)

    def check_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        try:
            self.config = parser.parse_args(args)
        except ArgumentError as error:
            flags = self.all_flags()
            raise explain_parsing(error, args, flags, args[0] if args[0] in flags else "") from error
        self.typed, self.configured = given_keys(self.args)
        command, given = self.config["subcommand"], self.typed | self.configured
        check_options(command, vars(self.options), given)
        check_trainer(command, vars(self.options.trainer), self.typed, given)
        check_decoding(command, self.options.model, self.typed)
        if command in SESSION_COMMANDS:
            take_line_of_fit(command, self.options, self.typed)

    def all_flags(self) -> dict[str, list[str]]:
        """Return the names of the flags of each command, without dashes."""
        self.building = list(all_commands())
        settings = parser_settings(self.building)
        self.setup_parser(True, parser_settings([]), {name: settings[name] for name in self.building})
        return {name: flag_names(found) for name, found in self._subcommand_parsers.items()}

    def _parse_ckpt_path(self) -> None:
        """Do nothing: Lightning's own lets the checkpoint's hyperparameters beat given flags (see private_api.py)."""

    def before_instantiate_classes(self) -> None:
        fits = self.subcommand == "fit"
        self.mode = choose_progress(self.options.progress, self.options.trainer.enable_progress_bar)
        show_progress(self.mode != "none", as_bars=self.mode != "lines")
        self.save_config_callback = SaveConfig if fits else None
        self.save_config_kwargs = {"folder": self.folder} if fits else {}
        if self.subcommand in UNLOGGED:
            self.options.trainer["logger"] = False
        if self.subcommand in PLANNING:
            self.planned = trainer_flags(self.options.trainer)
            accelerator = "cpu" if self.planned.accelerator == "cpu" else "auto"
            self.options.trainer["accelerator"], self.options.trainer["precision"] = accelerator, None
        if self.subcommand in WEIGHTLESS:
            self.options.trainer["accelerator"], self.options.trainer["precision"] = "cpu", None
        if self.subcommand in SESSION_COMMANDS:
            for name in ("callbacks", "plugins", "profiler", "strategy"):  # they may need what this machine lacks
                self.options.trainer[name] = "auto" if name == "strategy" else None
        else:
            follow_launcher(self.options.trainer, self.typed)
        for arguments in wandb_arguments(self.options.trainer.logger):
            prepare_wandb(arguments, self.wandb_id)

    # Building

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except (MisconfigurationException, ImportError, ValueError) as error:
            raise explain_building(error, self.options.as_dict()) from error
        if not gc.isenabled():  # see __main__.py
            gc.freeze()  # collections need not examine what is there
            gc.enable()

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Build the Trainer, or the session of a command that needs none."""
        built = self.config_init[self.subcommand]
        loggers = build_loggers(self.options.trainer.logger, built.trainer.logger)
        if self.subcommand in SESSION_COMMANDS:
            device = session_device(self.options.trainer.accelerator, self.typed)
            session = OnionSession(loggers if isinstance(loggers, list) else [], device)
            session.precision = choose_precision(self.options.trainer.precision, session.device)
            session.asked = self.options.trainer.precision is not None
            if self.subcommand in PLANNING:
                session.flags = self.planned
            return session
        fits = self.subcommand == "fit"
        plugins = as_list(built.trainer.plugins or [])
        check_strategy_name(built.trainer.strategy)
        self.progress = progress_callback(self.mode, str(self.subcommand), built.trainer.callbacks or [])
        report = self.progress.wrote_checkpoint if isinstance(self.progress, FitLines) else None
        config: dict[str, Any] = {
            "logger": loggers,
            "plugins": [*plugins, AtomicCheckpointIO(report)],
            "accelerator": choose_accelerator(self.options.trainer.accelerator),
            "precision": self.precision(plugins),
            "inference_mode": built.trainer.inference_mode and not self.options.model.shard,  # see sharding/layers.py
            # Off by default: its table does not account for 8-bit weights.
            "enable_model_summary": bool(built.trainer.enable_model_summary),
            "enable_checkpointing": fits,  # `callbacks` obeys the flag
            "callbacks": (callbacks := self.callbacks(built)),
            # Otherwise Lightning would add a bar of its own.
            "enable_progress_bar": any(isinstance(callback, LightningProgressBar) for callback in callbacks),
        }
        try:
            trainer = super().instantiate_trainer(**config, **kwargs)
        except (MisconfigurationException, TypeError, ValueError) as error:
            raise explain(error, built.trainer) from error
        check_strategy(trainer.strategy, built.trainer.strategy)
        compute_dtype(trainer.precision)  # a plugin may have set another one
        prepare_trainer(trainer, built.data, self.options.collective_timeout, self.options.model.shard)
        if fits and not getattr(trainer, "fast_dev_run", False):
            trainer.loggers = [*trainer.loggers, MetricsCSV(self.folder)]
        return trainer

    def precision(self, plugins: list[Any]) -> str | None:
        """Return the Trainer's precision; None if a plugin sets it, because Lightning accepts only one of them."""
        if any(isinstance(plugin, Precision) for plugin in plugins):
            return None
        return choose_precision(self.options.trainer.precision, training_device(self.options.trainer.accelerator))

    def callbacks(self, built: Namespace) -> list[pl.Callback]:
        """Return this project's callbacks for the subcommand, with the configured ones between them."""
        configured = as_list(built.trainer.callbacks or [])
        check_callbacks(map(type, configured), self.options.trainer.enable_checkpointing)
        progress = [] if self.progress is None else [self.progress]
        first: list[pl.Callback] = [
            GracefulStop(self.signals, self.saves),
            Agreement(self.flags, self.options.ckpt_path),
        ]
        if self.subcommand == "fit":
            # They import bitsandbytes, peft and datasets, which takes seconds: too long for `--help`.
            from onion_lightning.planning.start_line import StartLine
            from onion_lightning.preview.first_row import FirstRow
            from onion_lightning.training.corpus_table import CorpusTable

            self.run_folder = RunFolder(self.folder, self.options.ckpt_path is not None)
            first += [self.run_folder, CorpusTable(self.folder), FirstRow(), StartLine()]
            built.checkpoint.enabled = self.saves
            self.last = built.checkpoint
            best = [best_checkpoint(self.folder)] if self.saves else []
            if isinstance(self.progress, FitLines):
                built.samples.report = self.progress.wrote_samples
            return [*first, *progress, *configured, built.checkpoint, built.samples, ExactResume(), *best]
        if self.subcommand in COMMANDS:
            return [*first, *progress, *configured]
        built.articles.checkpoint = self.options.ckpt_path
        return [*first, *progress, *configured, built.articles]

    # Around the run

    def before_fit(self) -> None:
        self.began = time.monotonic()

    def after_fit(self) -> None:
        if getattr(self.trainer, "fast_dev_run", False):
            return
        finish_wandb(self.trainer)
        report_fit(self.trainer, self.folder, self.saves, (time.monotonic() - self.began) / 60, self.args)

    def after_predict(self) -> None:
        self.config_init.predict.articles.finish(self.trainer)
