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
from onion_lightning.cli.parsing.arguments import given_setting
from onion_lightning.cli.parsing.wording import explain_run
from onion_lightning.data.module import OnionDataModule
from onion_lightning.errors import OnionError, RankError
from onion_lightning.messages import is_rank_zero
from onion_lightning.model.sharding.layers import Shard, check_ranks
from onion_lightning.planning.out_of_memory import explain_out_of_memory, is_out_of_memory
from onion_lightning.private_api import ignore_requeue_checkpoints, set_process_group_timeout
from onion_lightning.ranks import connected, explain_lost_rank, place, share
from onion_lightning.training.job.agreement import agree_on_flags, flags_to_compare
from onion_lightning.training.job.slurm import report_foreign_checkpoints
from onion_lightning.training.last_checkpoint import LastCheckpoint

__all__ = ["TIME_LIMIT", "agree_on_options", "connect", "explain_failure", "prepare_trainer"]

TIME_LIMIT = 1800.0  # seconds, as in torch for gloo
BACKEND = "trainer.strategy.init_args.process_group_backend"


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


def agree_on_options(options: Namespace) -> dict[str, str]:
    """Compare the flags of all ranks, after rank 0 has chosen a seed where a random one was asked for.

    Returns:
        The flags that are compared.

    Raises:
        OnionError: they differ.
    """
    if options.seed_everything is True:
        random = int(os.environ.get("PL_GLOBAL_SEED", 0)) or seed_everything(None, verbose=False)
        options.seed_everything = share(random)
    flags = {"version of onion_lightning": __version__, **flags_to_compare(vars(options.as_flat()))}
    agree_on_flags(flags)
    return flags


def prepare_trainer(trainer: Trainer, data: OnionDataModule, seconds: float, shard: Shard = False) -> None:
    """Have this project's own code requeue and resume a job, limit the time of collectives, and fill a shared cache once.

    Raises:
        OnionError: the strategy was given a time limit of its own, or there are no ranks to spread the weights over.
    """
    if shard:
        check_ranks(shard, trainer.world_size, trainer.num_nodes)
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


def explain_failure(error: RuntimeError, cli: Any) -> OnionError | None:
    """Return an error that ended a command as a sentence; None if it is a fault of the program.

    Args:
        error: a metric that does not exist, a rank that is lost, or too little memory.
        cli: the `OnionCLI` that ran the command.
    """
    if late := explain_run(error):
        return late
    if connected() and (late := explain_loss(error, cli.hosts, cli.last)):
        return late
    if is_out_of_memory(error):
        return explain_out_of_memory(str(cli.subcommand), cli.options.as_dict(), error, shard_that_helps(cli))
    return None


def shard_that_helps(cli: Any) -> Shard:
    """Return the value of --model.shard that would save much memory; False if none would, or the command has one process."""
    trainer = getattr(cli, "trainer", None)
    if not isinstance(trainer, Trainer) or trainer.world_size == 1:
        return False
    from onion_lightning.planning.start_line import more_shards, plan_memory  # late: it imports bitsandbytes

    data = cli.options.data
    # Without a backward pass, several rows take less memory than one with it.
    rows = data.batch_size if cli.subcommand == "fit" else 1
    return more_shards(trainer, cli.model, plan_memory(trainer, cli.model, rows, data.max_length))


def explain_loss(error: BaseException, hosts: dict[str, str], saved: LastCheckpoint | None) -> RankError | None:
    """Return an error of the connection between ranks as a sentence; None if it is another error.

    Args:
        error: that ended the command.
        hosts: names of the machines by their addresses.
        saved: the callback that writes last.ckpt, if the run trains.
    """
    cause = explain_lost_rank(error, hosts)
    if cause is None:
        return None
    if saved is None or saved.saved_at < 0:
        return RankError(f"{place()}: {cause}; start the job again.")
    step = f"{saved.saved_at}" if is_rank_zero() else f"{saved.saved_at} or a later one"
    return RankError(f"{place()}: {cause}; {saved.path} has step {step}; resume with --ckpt_path last.")
