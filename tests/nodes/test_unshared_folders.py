"""`--ckpt_path last` on machines whose folders are not shared."""

import signal

import pytest
import torch

from tests.nodes.conftest import EPOCHS, assert_same, sentence
from tests.test_fault import assert_same_end

pytestmark = pytest.mark.nodes


@pytest.fixture(scope="session")
def stopped(train, tmp_path_factory):
    """The folder of a run that was stopped after nine or ten of twenty steps."""
    folder = tmp_path_factory.mktemp("stopped")
    stop = ("--trainer.callbacks+=tests.stopper.StopAt", "--trainer.callbacks.step=9", "--trainer.callbacks.rank=0")
    train(folder, *stop, status=128 + signal.SIGINT)
    return folder / "run"


def give(run, machine):
    """Put the checkpoint of a run into a machine's folder."""
    machine.run.mkdir()
    for name in ("last.ckpt", "metrics.csv"):
        (machine.run / name).write_bytes((run / name).read_bytes())


@pytest.mark.parametrize("owner", [0, 1])
def test_all_ranks_resume_from_the_checkpoint_that_one_machine_has(machines, words, stopped, whole, owner):
    give(stopped, machines.both[owner])
    lines = [words("fit", *EPOCHS, "--ckpt_path", "last", machine=machine) for machine in machines.both]
    pair = machines.torchrun(*lines)
    assert pair.wait() == (0, 0), pair.text()
    step = torch.load(stopped / "last.ckpt", weights_only=True)["global_step"]
    [line] = [line for line in pair.printed().splitlines() if f"--ckpt_path last: using step {step} of" in line]
    if machines.isolated:
        assert f"on {machines.both[owner].name}" in line
    if owner == 0:
        assert_same(whole, machines.both[0].run)
    else:  # the curve before step 9 is on the other machine
        assert_same_end(whole, machines.both[0].run)


def test_checkpoints_of_different_runs_are_refused_on_both_machines(machines, words, run, stopped, tmp_path):
    run("fit", "--seed_everything", "7", "--trainer.max_steps", "3")
    give(stopped, machines.both[0])
    give(tmp_path / "run", machines.both[1])
    before = [(machine.run / "last.ckpt").read_bytes() for machine in machines.both]
    lines = [words("fit", *EPOCHS, "--ckpt_path", "last", machine=machine) for machine in machines.both]
    pair = machines.torchrun(*lines)
    assert 0 not in pair.wait(), pair.text()
    for agent in pair:
        said = sentence(agent.printed())
        assert "different runs" in said
        assert not machines.isolated or ("n1" in said and "n2" in said)
    assert [(machine.run / "last.ckpt").read_bytes() for machine in machines.both] == before
