"""Who started a process, read from the environment of each launcher."""

import pytest

from onion_lightning.cli.launchers import started_by_lightning


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
