"""The rank of a process and who started it, read from the environment of each launcher."""

import pytest

from onion_lightning.cli.launchers import is_rank_zero, started_by_lightning

NAMES = ["RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID", "TORCHELASTIC_RUN_ID"]


@pytest.fixture
def environment(monkeypatch):
    """Returns a function that sets the launcher's environment variables and removes all others."""

    def replace(variables):
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return replace


@pytest.mark.parametrize(
    ("variables", "zero"),
    [
        ({}, True),
        ({"NODE_RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"NODE_RANK": "0", "LOCAL_RANK": "1"}, False),  # Lightning's own subprocess
        ({"NODE_RANK": "1"}, False),  # Lightning on the second node, before it has started subprocesses
        ({"RANK": "0", "LOCAL_RANK": "0", "TORCHELASTIC_RUN_ID": "x"}, True),
        ({"RANK": "8", "LOCAL_RANK": "0", "TORCHELASTIC_RUN_ID": "x"}, False),  # torchrun on the second node
        ({"SLURM_PROCID": "0"}, True),
        ({"SLURM_PROCID": "3"}, False),
    ],
)
def test_rank_zero_is_known_before_lightning_assigns_ranks(environment, variables, zero):
    environment(variables)
    assert is_rank_zero() == zero


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
