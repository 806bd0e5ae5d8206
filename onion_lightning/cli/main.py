"""Runs a command line and returns its exit status; errors are reported in one sentence."""

import sys
from inspect import signature

import lightning.pytorch as pl
from lightning.fabric.utilities.exceptions import MisconfigurationException

from onion_lightning.cli.launchers import die_with_parent, started_by_lightning, wait_for_parent
from onion_lightning.cli.library_warnings import silence_libraries
from onion_lightning.cli.onion_cli import OnionCLI
from onion_lightning.cli.parsing.arguments import prepare, resume_command
from onion_lightning.cli.parsing.wording import explain_trainer
from onion_lightning.cli.signals import StopSignals
from onion_lightning.errors import Interrupted, OnionError, RankError, UsageError
from onion_lightning.messages import is_rank_zero, print_any_text, prints_for_machine, tell, tell_once
from onion_lightning.planning.out_of_memory import OutOfMemory
from onion_lightning.training.job.slurm import requeue

__all__ = ["main"]


def main(args: list[str] | None = None) -> int:
    """Run a command line.

    Returns:
        The exit status: 0; 1 for bad input; 2 for a command line that cannot be parsed; 128 + signal when stopped.
    """
    silence_libraries()
    print_any_text()
    tell_once.cache_clear()
    args = sys.argv[1:] if args is None else args
    if started_by_lightning():
        die_with_parent(True)
    signals = StopSignals()
    try:
        with signals:
            OnionCLI(prepare(args), signals)
    except (OutOfMemory, RankError) as error:
        tell(f"error: {error}", on_every_rank=True)
        return 1
    except UsageError as error:
        return fail(str(error), 2)
    except OnionError as error:
        return fail(str(error), 1)
    except MisconfigurationException as error:  # raised while a command runs
        return fail(str(explain_trainer(error, dict.fromkeys(signature(pl.Trainer).parameters))), 1)
    except Interrupted as stop:
        return interrupted(stop, args, signals.training_began)
    return 0


def fail(message: str, status: int) -> int:
    """Print an error, once on each machine that has an output of its own."""
    tell(f"error: {message}", on_every_rank=prints_for_machine())
    return status


def interrupted(stop: Interrupted, args: list[str], training_began: bool) -> int:
    """Print how to resume, if there is something to resume, and return the exit status. A job of SLURM is requeued."""
    saved = "; the last completed step is saved" if training_began else ""
    tell(f"\nStopped by signal {stop.signum}{saved}.")
    requeued = "fit" in args[:1] and is_rank_zero() and requeue(stop.signum)
    if training_began and not requeued:
        tell(f"Resume with:\n  {resume_command(args)}")
    elif "predict" in args[:1]:
        tell("Add --articles.resume true to write the remaining articles.")
    elif "memorize" in args[:1]:
        tell("The same command continues with the remaining tasks.")
    if not is_rank_zero():
        wait_for_parent()
    return 128 + stop.signum
