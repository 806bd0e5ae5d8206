"""A machine that dies, and a network that is cut for less and for more than the time limit of collectives."""

import time

import pytest

from tests.nodes.conftest import EPOCHS, assert_same, in_slow_steps, sentence
from tests.nodes.processes import wait_for
from tests.test_fault import steps_done

pytestmark = pytest.mark.nodes


@pytest.fixture
def training(machines, words, slow):
    """Starts `fit` on both machines, and waits until it has trained four steps."""

    def start(*more):
        flags = (*EPOCHS, *in_slow_steps(slow), *more)
        pair = machines.torchrun(*[words("fit", *flags, machine=machine) for machine in machines.both])
        wait_for(lambda: steps_done(machines.both[0].run) >= 4 or pair.ended(), why=pair.text)
        assert not pair.ended(), pair.text()
        return pair

    return start


@pytest.mark.parametrize("dead", [0, 1])
def test_a_machine_that_dies_ends_the_other_with_one_sentence_and_a_resume_ends_the_same(
    machines, training, slow, train, whole, dead
):
    pair = training("--checkpoint.every_n_train_steps", "1")
    survivor, victim = pair[1 - dead], machines.both[dead]
    machines.kill(victim)
    assert survivor.wait(60) not in (0, None), pair.text()
    said = sentence(survivor.printed())
    assert "--ckpt_path last" in said
    if machines.isolated:
        assert victim.name in said
    slow.unlink()
    train(machines.both[0].folder, "--ckpt_path", "last")
    assert_same(whole, machines.both[0].run)


def test_a_short_cut_of_the_network_changes_nothing(machines, training, slow, whole):
    if not machines.isolated:
        pytest.skip("needs network namespaces")
    pair = training()
    machines.cut()
    time.sleep(20)  # longer than a retransmission, shorter than the default of --collective_timeout
    before = steps_done(machines.both[0].run)
    time.sleep(1)
    assert steps_done(machines.both[0].run) == before < 20
    machines.mend()
    slow.unlink()
    assert pair.wait() == (0, 0), pair.text()
    assert_same(whole, machines.both[0].run)


def test_a_cut_that_is_longer_than_the_limit_ends_both_machines_with_one_sentence(machines, training):
    if not machines.isolated:
        pytest.skip("needs network namespaces")
    pair = training("--collective_timeout", "15")
    machines.cut()
    statuses = pair.wait(90)
    assert 0 not in statuses, pair.text()
    for agent in pair:
        assert "time limit" in sentence(agent.printed())
