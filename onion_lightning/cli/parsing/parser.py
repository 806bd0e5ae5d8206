"""The flags that this project adds to LightningCLI's parser, and how a run's configuration is saved."""

import os
import shlex
import shutil
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback

from onion_lightning import __version__
from onion_lightning.cli.parsing.packaged_configs import config_names
from onion_lightning.model.articles.writer import ArticleWriter
from onion_lightning.output_folder import writing_run
from onion_lightning.private_api import option_strings
from onion_lightning.surrogates import replace_surrogates
from onion_lightning.training.last_checkpoint import LastCheckpoint
from onion_lightning.training.progress.choose import ProgressMode
from onion_lightning.training.samples import Samples

__all__ = ["SaveConfig", "add_flags", "flag_names", "parser_settings", "program"]

SCRIPT = "onion-lightning"


def program() -> str:
    """Return how this program was started, for the commands that it prints.

    uvx puts the script on the path of its own process alone, and sets `UV` without `VIRTUAL_ENV`, unlike `uv run`. In an
    environment that is not active, or by `pipx run`, the script is not on the path.
    """
    started = Path(sys.argv[0])
    if started.stem != SCRIPT:
        return "python -m onion_lightning"
    if "UV" in os.environ and os.environ.get("VIRTUAL_ENV") != sys.prefix:
        return f"uvx {SCRIPT}"
    found = shutil.which(SCRIPT)
    on_path = found is not None and Path(found).resolve().parent == started.resolve().parent
    return SCRIPT if on_path else shlex.quote(str(started.absolute()))


def parser_settings(subcommands: Collection[str]) -> dict[str, Any]:
    """Arguments of the parsers: errors are raised, so that they are reported in one sentence; names are not abbreviated."""
    settings = {"exit_on_error": False, "allow_abbrev": False}
    return {
        **settings,
        "prog": program(),
        "version": __version__,
        "description": "Fine-tune a language model on headlines and articles, and write articles for new headlines. --config"
        f" is a YAML file, or the name of a config of this package: {', '.join(config_names())}.",
        **{name: dict(settings) for name in subcommands},
    }


def flag_names(parser: LightningArgumentParser) -> list[str]:
    """Return the names of a parser's flags, without dashes and without those that print help."""
    words = [word for word in option_strings(parser) if word.startswith("--")]
    return [word[2:] for word in words if not word.endswith(("help", "+"))]


def add_flags(parser: LightningArgumentParser) -> None:
    """Add this project's flags to every command, so that one config serves them all.

    The groups are callbacks, but not registered as such: Lightning would run each of them in every command.
    """
    parser.add_argument(
        "--progress",
        type=ProgressMode,
        default="auto",
        help="How progress is shown on standard error: a bar, lines for a log file, or none; auto shows a bar in a terminal.",
    )
    parser.add_argument(
        "--collective_timeout",
        type=float,
        default=1800.0,
        help="Seconds that ranks wait for one another in an exchange; then the job ends. Shorter interruptions of the network"
        " change nothing.",
    )
    for cls, group in ((LastCheckpoint, "checkpoint"), (Samples, "samples"), (ArticleWriter, "articles")):
        parser.add_class_arguments(cls, group, fail_untyped=False, sub_configs=True)
    parser.link_arguments("model.base_model", "data.base_model")
    parser.link_arguments("checkpoint.dirpath", "samples.dirpath")


class SaveConfig(SaveConfigCallback):
    """Saves the configuration to `config.yaml` in the run's folder, and logs it as hyperparameters.

    Args:
        parser: of the subcommand.
        config: of the subcommand.
        folder: the run's folder.
    """

    def __init__(self, parser: LightningArgumentParser, config: Namespace, folder: Path) -> None:
        super().__init__(parser, config, save_to_log_dir=False)
        self.folder = folder

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        text = self.parser.dump(self.config, skip_none=False)
        path = self.folder / "config.yaml"
        with writing_run(path):
            path.write_text(replace_surrogates(text), encoding="utf-8")
        for logger in trainer.loggers:
            logger.log_hyperparams(self.config.as_dict())
