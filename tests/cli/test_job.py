"""The command line of a job of several ranks. Real launchers are in tests/nodes."""

import os
import socket
from datetime import timedelta
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from jsonargparse import Namespace
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch.strategies import DDPStrategy

from onion_lightning.cli.job import agree_on_options, connect, explain_failure, prepare_trainer
from onion_lightning.cli.launchers import own_address
from onion_lightning.errors import OnionError
from tests.several import on_ranks

SLURM = {"SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "1", "SLURM_PROCID": "0"}
SLURM |= {"SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_JOB_ID": "7"}
TWO = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9"}


def test_a_single_process_and_help_connect_to_nobody(environment):
    environment({})
    assert connect(["fit"], True) == {}
    environment({"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "4", "RANK": "0"})
    assert connect(["plan"], False) == {}
    assert connect(["fit", "--help"], True) == {}
    assert connect(["fit", "--print_config"], True) == {}


def test_ranks_that_cannot_connect_in_time_get_the_address_to_check(environment):
    environment({"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "1"} | TWO)
    with pytest.raises(
        OnionError, match=r"^torchrun: rank 1 of 2 on .* could not connect to the others at 127.0.0.1:9 "
    ):
        connect(["fit", "--collective_timeout", "1"], True)


def draw(rank):
    drawn = Namespace(collective_timeout=5.0, seed_everything=True, model=Namespace(lora_rank=8))
    flags = agree_on_options(drawn)
    return [drawn.seed_everything, flags["--seed_everything"], flags["--model.lora_rank"]]


def test_a_random_seed_is_drawn_once_for_all_ranks():
    first, second = on_ranks(draw)
    assert first == second
    assert first[1:] == [str(first[0]), "8"]
    assert first[0] is not True


def trainer(**more):
    return pl.Trainer(accelerator="cpu", logger=False, barebones=False, enable_progress_bar=False, **more)


def test_lightning_does_not_requeue_a_job_nor_load_what_it_left(environment, tmp_path, capsys):
    environment(SLURM)
    torch.save({}, tmp_path / "hpc_ckpt_3.ckpt")
    made = trainer(default_root_dir=tmp_path, strategy="ddp", devices=1, plugins=[SLURMEnvironment()])
    assert made.strategy.cluster_environment.auto_requeue
    assert made._checkpoint_connector._hpc_resume_path is not None
    prepare_trainer(made, None, 5.0)
    assert not made.strategy.cluster_environment.auto_requeue
    assert made._checkpoint_connector._parse_ckpt_path(SimpleNamespace(value="fit"), None, True, True) is None
    assert "hpc_ckpt_3.ckpt: was written by Lightning's auto-requeue" in capsys.readouterr().err


def test_collectives_get_the_time_limit_and_a_strategy_with_its_own_is_refused(environment):
    environment({})
    made = trainer(strategy="ddp", devices=2)
    prepare_trainer(made, None, 7.0)
    assert made.strategy._timeout == timedelta(seconds=7)
    made = trainer(strategy=DDPStrategy(timeout=timedelta(seconds=9)), devices=2)
    with pytest.raises(
        OnionError, match=r"--trainer.strategy.timeout 0:00:09: is not supported; give --collective_timeout"
    ):
        prepare_trainer(made, None, 7.0)


def explain(rank):
    os.environ["RANK"] = str(rank)
    closed = RuntimeError("Connection closed by peer [10.0.0.2]:33718")
    last = SimpleNamespace(path="run/last.ckpt", saved_at=7)
    cli = SimpleNamespace(hosts={"10.0.0.2": "n2"}, last=last, subcommand="fit")
    found = [explain_failure(closed, cli), explain_failure(RuntimeError("shapes"), cli)]
    cli.last = None
    return [None if error is None else str(error) for error in (*found, explain_failure(closed, cli))]


def test_a_lost_rank_is_one_sentence_with_the_checkpoint_and_how_to_resume():
    found = on_ranks(explain)
    for rank, later in enumerate(("", " or a later one")):
        trained, other, untrained = found[rank]
        cause = (
            f"rank {rank} on {socket.gethostname()}: the connection to a rank on n2 was closed: its process has ended;"
        )
        assert trained == f"{cause} run/last.ckpt has step 7{later}; resume with --ckpt_path last."
        assert untrained == f"{cause} start the job again."
        assert other is None


def test_an_error_that_mentions_a_connection_is_not_the_loss_of_a_rank_where_there_are_none():
    assert explain_failure(RuntimeError("Connection refused"), SimpleNamespace(subcommand="fit")) is None


def test_a_machine_knows_its_address_towards_another():
    assert own_address("127.0.0.1", 9) == "127.0.0.1"
