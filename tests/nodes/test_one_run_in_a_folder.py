"""A second `fit` in the folder of one that is running, from another machine with the same file system."""

import pytest

from tests.conftest import ranks
from tests.nodes.conftest import EPOCHS, assert_same, in_slow_steps, sentence
from tests.nodes.processes import wait_for
from tests.test_fault import steps_done

pytestmark = pytest.mark.nodes


def test_a_second_fit_in_a_folder_is_refused_and_the_first_ends_as_if_alone(machines, words, slow, whole, tmp_path):
    command = ["-m", "onion_lightning", *words("fit", *EPOCHS, *ranks(2), *in_slow_steps(slow, seconds=4))]
    first = machines.start(machines.both[0], command)
    wait_for(lambda: steps_done(tmp_path / "run") >= 4 or first.ended(), why=first.printed)
    second = machines.start(machines.both[1], command)
    assert second.wait() == 1
    refusal = sentence(second.printed())
    assert f"--checkpoint.dirpath {tmp_path / 'run'}" in refusal
    assert f"process {first.process.pid} on {machines.both[0].name}" in refusal
    assert not first.ended(), first.printed()
    slow.unlink()
    assert first.wait() == 0, first.printed()
    assert_same(whole, tmp_path / "run")
    assert not list((tmp_path / "run").glob("previous-*"))
