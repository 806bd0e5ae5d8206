"""The command line of a job of several ranks: they connect, agree on the flags, and say what is left when one is lost."""

import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.fabric.utilities.seed import seed_everything
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch.distributed.constants import default_pg_timeout

from onion_lightning import __version__
from onion_lightning.cli.launchers import connect_ranks
from onion_lightning.cli.parsing.arguments import given_setting, resume_command
from onion_lightning.data.module import OnionDataModule
from onion_lightning.errors import LostRankError, OnionError, check_range
from onion_lightning.private_api import ignore_requeue_checkpoints, set_process_group_timeout
from onion_lightning.ranks import connected, explain_lost_rank, place, share
from onion_lightning.training.job.agreement import agree, flags_to_compare
from onion_lightning.training.job.slurm import report_foreign_checkpoints

__all__ = ["TIME_LIMIT", "agree_on_flags", "connect", "explain_loss", "prepare_trainer"]

TIME_LIMIT = 1800.0  # seconds, as in torch for gloo
BACKEND = "trainer.strategy.init_args.process_group_backend"
IN_SECONDS = "a number of seconds above 0"


def connect(args: Sequence[str], runs: bool) -> dict[str, str]:
    """Connect the ranks of a command that runs on a Trainer, if a launcher has started several.

    Args:
        args: the command line, which has not been parsed yet: whether it can be may differ between machines.
        runs: whether the command runs on a Trainer.

    Returns:
        The names of the machines by their addresses.
    """
    if not runs or any(
        word in ("-h", "--help", "--print_config") or word.startswith("--trainer.help") for word in args
    ):
        return {}
    try:
        seconds = float(given_setting(args, "collective_timeout") or TIME_LIMIT)
    except ValueError:  # reported when the command line is parsed
        seconds = TIME_LIMIT
    return connect_ranks(max(seconds, 1.0), given_setting(args, BACKEND))


def agree_on_flags(options: Namespace) -> dict[str, str]:
    """Compare the flags of all ranks, after rank 0 has chosen a seed where a random one was asked for.

    Returns:
        The flags that are compared.

    Raises:
        OnionError: they differ, or the time limit is not a number of seconds.
    """
    seconds = options.collective_timeout
    check_range("--collective_timeout", seconds, seconds > 0, IN_SECONDS)
    if options.seed_everything is True:
        random = int(os.environ.get("PL_GLOBAL_SEED", 0)) or seed_everything(None, verbose=False)
        options.seed_everything = share(random)
    flags = {"version of onion_lightning": __version__, **flags_to_compare(vars(options.as_flat()))}
    agree(flags)
    return flags


def prepare_trainer(trainer: Trainer, data: OnionDataModule, seconds: float) -> None:
    """Have this project's own code requeue and resume a job, limit the time of collectives, and fill a shared cache once.

    Raises:
        OnionError: the strategy was given a time limit of its own.
    """
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if isinstance(environment, SLURMEnvironment):
        environment.auto_requeue = False
    ignore_requeue_checkpoints(trainer)
    report_foreign_checkpoints(Path(trainer.default_root_dir))
    if connected():
        from onion_lightning.data.files.cache import shares_cache  # imports `datasets`

        data.shares_cache = shares_cache()
    if isinstance(trainer.strategy, DDPStrategy):
        given = set_process_group_timeout(trainer.strategy, timedelta(seconds=seconds))
        if given not in (None, default_pg_timeout):
            raise OnionError(f"--trainer.strategy.timeout {given}: is not supported; give --collective_timeout.")


def explain_loss(error: BaseException, hosts: dict[str, str], saved: Any, args: Sequence[str]) -> LostRankError | None:
    """Return an error of the connection between ranks as a sentence; None if it is another error.

    Args:
        error: that ended the command.
        hosts: names of the machines by their addresses.
        saved: the callback that writes last.ckpt, if the run trains.
        args: the command line.
    """
    cause = explain_lost_rank(error, hosts)
    if cause is None:
        return None
    if saved is None or saved.saved_at < 0:
        return LostRankError(f"{place()}: {cause}; start the job again.")
    step = f"{saved.path} has step {saved.saved_at} or a later one"
    return LostRankError(f"{place()}: {cause}; {step}; resume with: {resume_command(args)}")
