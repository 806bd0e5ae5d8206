"""Lists the commands that this project adds to Lightning's. A new one is a function in a module of its own, and a line here.

LightningCLI reads a command's flags from the function's signature, and their `--help` from its docstring.
"""

import lightning.pytorch as pl
from lightning.pytorch.cli import LightningCLI

from onion_lightning.attention.command import run_attend
from onion_lightning.evaluation.command import run_evaluate
from onion_lightning.export.command import run_export
from onion_lightning.memorization.command import run_memorize
from onion_lightning.planning.command import run_plan
from onion_lightning.preview.command import run_preview
from onion_lightning.serving.command import run_serve
from onion_lightning.training.session import Session
from onion_lightning.verification.command import run_verify

__all__ = [
    "COMMANDS",
    "PLANNING",
    "RUNNING",
    "SESSION_COMMANDS",
    "UNLOGGED",
    "WEIGHTLESS",
    "OnionSession",
    "OnionTrainer",
    "all_commands",
]


class TrainerCommands:
    """Commands that run on a Trainer, which is their first argument."""

    evaluate = run_evaluate
    memorize = run_memorize


class SessionCommands:
    """Commands that run on a `Session` instead. No Trainer is built, so any config works on any machine."""

    attend = run_attend
    export = run_export
    plan = run_plan
    preview = run_preview
    serve = run_serve
    verify = run_verify


# LightningCLI reads the flags of every command from this class.
class OnionTrainer(TrainerCommands, SessionCommands, pl.Trainer):
    """Lightning's Trainer."""


class OnionSession(SessionCommands, Session):
    """The session that commands without a Trainer run on."""


def names(commands: type) -> tuple[str, ...]:
    return tuple(name for name in vars(commands) if not name.startswith("_"))


SESSION_COMMANDS = names(SessionCommands)
COMMANDS = (*names(TrainerCommands), *SESSION_COMMANDS)
RUNNING = ("fit", "validate", "test", "predict", *names(TrainerCommands))  # the commands that run on a Trainer
UNLOGGED = ("validate", "test", "predict", "plan", "preview", "serve", "verify")  # the commands without a logger
PLANNING = ("plan",)  # the commands that plan a run for another machine: they take the device that is there
WEIGHTLESS = ("export", "preview")  # the commands that load no model: they have neither a device nor a precision


def all_commands() -> dict[str, set[str]]:
    """Return the commands, each with the arguments of its method that are not flags."""
    return {**LightningCLI.subcommands(), **{name: {"model", "datamodule"} for name in COMMANDS}}
