"""Messages are printed as they are, once per job."""

import pytest

from onion_lightning.messages import is_rank_zero, tell


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


def test_a_message_is_printed_as_it_is_and_only_on_rank_zero(environment, capsys):
    message = "[egg] " + "long " * 60 + "path/[a].csv"
    environment({})
    tell(message)
    assert capsys.readouterr().err == message + "\n"
    environment({"LOCAL_RANK": "1"})
    tell(message)
    assert capsys.readouterr().err == ""
