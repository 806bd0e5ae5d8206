"""From a command line to an exit status: what libraries may say, errors as sentences, the way on after a signal."""

import logging
import os
import shlex
import sys
import time
import warnings

import datasets
import transformers
from jsonargparse import ArgumentError
from lightning.fabric.utilities.exceptions import MisconfigurationException

from onion_lightning.cli.arguments import plain_json, split_flags, without_ckpt_path
from onion_lightning.cli.onion_cli import PROGRAM, OnionCLI
from onion_lightning.cli.signals import StopSignals, die_with_parent
from onion_lightning.errors import Interrupted, OnionError, sentence
from onion_lightning.rank_zero import is_rank_zero, started_by_lightning, tell

__all__ = ["main"]


def quiet_libraries() -> None:
    """Turn off what libraries say at every run and nobody can act on."""
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("onion_lightning").setLevel(logging.INFO if is_rank_zero() else logging.ERROR)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    logging.getLogger("wandb.sdk.lib.asyncio_manager").setLevel(
        logging.CRITICAL
    )  # it prints tracebacks: see loggers.py
    for message in (
        ".*does not have many workers.*",  # rows are encoded beforehand: a batch is a few milliseconds
        ".*No device id is provided via `init_process_group`.*",
        ".*`is_gradient_checkpointing` is deprecated.*",  # peft's
        ".*dataloader is not resumable.*",  # the sampler resumes: see batches.py
        ".*isinstance\\(treespec, LeafSpec\\).*",  # Lightning's, under torch 2.13
        ".*callbacks used to create the checkpoint need to be provided.*",  # fit's, when another command reads its file
        ".*Couldn't infer the batch indices.*",  # predictions carry their own
        r".*use `self.log\('(val|test)/.*sync_dist=True.*",  # these were summed over ranks before they were logged
        ".*smaller than the logging interval.*",
        ".*exists and is not empty.*",  # an earlier run's files are moved aside, and told
    ):
        warnings.filterwarnings("ignore", message=message)


def main(args: list[str] | None = None) -> int:
    """Run a command line.

    Returns:
        The exit status: 0; 1 for bad input; 2 for a command line that does not parse; 128 + signal when stopped.
    """
    quiet_libraries()
    args = sys.argv[1:] if args is None else args
    if started_by_lightning():
        die_with_parent(True)
    try:
        with StopSignals() as signals:
            OnionCLI([plain_json(word) for word in split_flags(args)], signals)
    except OnionError as error:
        return fail(str(error), 1)
    except ArgumentError as error:
        return fail(sentence(error), 2)
    except MisconfigurationException as error:
        return fail(f"--trainer.*: {sentence(error)}", 1)
    except Interrupted as stop:
        return interrupted(stop, args)
    return 0


def fail(message: str, status: int) -> int:
    tell(f"error: {message}")
    return status


def interrupted(stop: Interrupted, args: list[str]) -> int:
    if "fit" in args[:1]:
        again = shlex.join([*PROGRAM.split(), *without_ckpt_path(args), "--ckpt_path", "last"])
        tell(f"\nStopped by signal {stop.signum}; the last completed step is saved. Go on with:\n  {again}")
    else:
        more = " Go on with the batches that are missing: --articles.resume true." if "predict" in args[:1] else ""
        tell(f"\nStopped by signal {stop.signum}.{more}")
    if not is_rank_zero():
        wait_for_parent()
    return 128 + stop.signum


def wait_for_parent(seconds: float = 8.0) -> None:
    """Leave after rank 0: Lightning kills it when it sees a rank end with a status other than 0."""
    die_with_parent(False)
    parent, began = os.getppid(), time.monotonic()
    while os.getppid() == parent and time.monotonic() - began < seconds:
        time.sleep(0.05)
