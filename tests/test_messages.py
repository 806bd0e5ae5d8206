"""Messages are printed as they are, once per job."""

import json

import pytest

from onion_lightning.messages import is_rank_zero, tell
from tests.conftest import records


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


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_character_that_the_terminal_lacks_is_replaced(flags, shell, tmp_path, encoding):
    words = ("--data.headlines", json.dumps(["Eule \U0001f989 \u2019 \udc80 wins \u0141\xf3d\u017a"]))
    done = shell(flags("predict", *words), PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert "1 article written" in done.stderr
    assert "Eule ?" in done.stdout
    [record] = records(tmp_path / "articles.jsonl")
    assert record["headline"] == "Eule \U0001f989 \u2019 \ufffd wins \u0141\xf3d\u017a"
