"""Messages are printed as they are, once per job."""

import errno
import json
import os
import sys

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


def test_a_reader_that_is_gone_stops_nothing_now_or_at_exit(environment, monkeypatch):
    environment({})
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        tell("An egg")
        tell("An egg")
        monkeypatch.undo()  # closing the stream must not fail either


def test_a_full_disk_under_the_log_file_stops_nothing(environment, monkeypatch):
    class Full:
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

        def flush(self):
            self.write("")

    environment({})
    monkeypatch.setattr(sys, "stderr", Full())
    with pytest.raises(OSError, match="No space"):
        sys.stderr.write("An egg")
    tell("An egg")
