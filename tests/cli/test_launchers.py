"""Who started a process, read from the environment of each launcher."""

import pytest

from onion_lightning.cli.launchers import find_launcher, follow_launcher, started_by_lightning
from onion_lightning.errors import OnionError

TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "4", "GROUP_WORLD_SIZE": "2", "RANK": "0"}
SLURM = {"SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2", "SLURM_PROCID": "0"}
SLURM |= {"SLURM_STEP_ID": "0"}  # set by srun


@pytest.mark.parametrize(
    ("variables", "started"),
    [
        ({}, False),
        ({"LOCAL_RANK": "0"}, False),
        ({"LOCAL_RANK": "1"}, True),
        ({"NODE_RANK": "1", "LOCAL_RANK": "0"}, False),
        ({"RANK": "1", "LOCAL_RANK": "1", "TORCHELASTIC_RUN_ID": "x"}, False),
        ({"SLURM_PROCID": "1", "LOCAL_RANK": "1"}, False),
    ],
)
def test_only_the_later_ranks_of_a_node_without_another_launcher_are_started_by_lightning(
    environment, variables, started
):
    environment(variables)
    assert started_by_lightning() == started


@pytest.mark.parametrize("variables", [TORCHRUN, SLURM])
@pytest.mark.parametrize("given", ["auto", -1, 1, 4, "4", [0, 1, 2, 3], "0,1,2,3"])
def test_devices_and_nodes_follow_from_the_launcher(environment, capsys, variables, given):
    environment(variables)
    options = {"devices": given, "num_nodes": 1}
    follow_launcher(options, set())
    assert options["num_nodes"] == 2
    assert options["devices"] in (4, given)
    assert capsys.readouterr().err == ""


def test_a_config_gives_way_to_the_launcher_with_a_message(environment, capsys):
    environment(TORCHRUN)
    options = {"devices": 8, "num_nodes": 1}
    follow_launcher(options, {"trainer.strategy"})
    assert options == {"devices": 4, "num_nodes": 2}
    printed = "--trainer.devices 8: torchrun was given --nproc_per_node 4, which is used instead.\n"
    assert capsys.readouterr().err == printed


@pytest.mark.parametrize(
    ("variables", "name", "given", "option"),
    [
        (TORCHRUN, "devices", 2, "torchrun, which was given --nproc_per_node 4"),
        (TORCHRUN, "num_nodes", 1, "torchrun, which was given --nnodes 2"),
        (SLURM, "devices", "0,1", "SLURM, which was given --ntasks-per-node 4"),
        (SLURM, "num_nodes", 3, "SLURM, which was given --nodes 2"),
    ],
)
def test_a_flag_that_contradicts_the_launcher_is_refused(environment, variables, name, given, option):
    environment(variables)
    with pytest.raises(OnionError) as error:
        follow_launcher({"devices": 4, "num_nodes": 2} | {name: given}, {f"trainer.{name}"})
    assert str(error.value).startswith(f"--trainer.{name} {given}: contradicts {option}; change one of them")


def test_without_a_launcher_and_in_an_interactive_job_nothing_changes(environment):
    for variables in ({}, SLURM | {"SLURM_JOB_NAME": "bash"}):
        environment(variables)
        assert find_launcher() is None


def test_tasks_that_slurm_may_distribute_unevenly_are_refused(environment):
    environment({"SLURM_NTASKS": "8", "SLURM_STEP_ID": "0"})
    with pytest.raises(OnionError, match=r"--ntasks 8: .* give --ntasks-per-node in the batch script instead\."):
        find_launcher()


def test_a_command_without_srun_in_a_job_of_several_tasks_is_refused(environment):
    environment({name: value for name, value in SLURM.items() if name != "SLURM_STEP_ID"})
    with pytest.raises(OnionError, match=r"--ntasks 8: this command is one process and would wait for 7 others"):
        find_launcher()
