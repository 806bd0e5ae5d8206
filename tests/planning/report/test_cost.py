"""Time, money, checkpoints and communication, computed by hand."""

import pytest

from onion_lightning.planning.memory import SharedLayers
from onion_lightning.planning.report.communication import NVLINK, Gathers, Link, communicate
from onion_lightning.planning.report.cost import estimate_cost
from tests.planning.report.plans import made_plan, made_target, made_work

# 10,000 operations of products for each token and 5 of attention for each squared length, of 8 rows of 50 tokens
FLOPS = 8 * 50 * 2_000_000 / 200 + 8 * 3000 * 100_000 / (2 * 100**2)


def cost(load_in="int8", checkpointing=False, price=None, **target):
    return estimate_cost(made_plan(), load_in, checkpointing, made_work(), made_target(**target), price)


def test_the_operations_of_a_step_follow_from_its_tokens_and_attention_from_their_squares():
    assert cost().step_flops == FLOPS == 4_120_000


@pytest.mark.parametrize(("load_in", "bytes_"), [("int8", 5), ("nf4", 4.5), ("none", 2)])
@pytest.mark.parametrize(("checkpointing", "passes"), [(False, 2), (True, 3)])
def test_a_step_takes_its_products_on_all_ranks_and_reading_the_weights_in_each_pass(
    load_in, bytes_, checkpointing, passes
):
    reading = 2 * passes * 8000 * bytes_ / 1e5
    low, high = cost(load_in, checkpointing).step_seconds
    assert low == pytest.approx(FLOPS / (2 * 1e6 * 0.5) + reading)
    assert high == pytest.approx(FLOPS / (2 * 1e6 * 0.2) + reading)


def test_the_run_takes_all_its_steps_and_costs_the_price_of_every_device():
    found = cost(price=36.0)
    assert found.seconds == tuple(50 * one for one in found.step_seconds)
    assert found.money == pytest.approx([2 * 36 / 3600 * one for one in found.seconds])
    assert cost().money is None


def test_of_a_device_without_a_known_rate_time_and_money_are_unknown():
    found = cost(price=1.0, rate=None)
    assert (found.step_seconds, found.seconds, found.money) == (None, None, None)


def test_a_step_exchanges_the_gradients_and_two_numbers():
    found = cost(ranks=4)
    assert found.exchanged == 40 + 4 + 4
    assert [one.sent for one in found.communication] == [72, 72]  # 2 * 3/4
    assert cost(ranks=1).exchanged == 0


@pytest.mark.parametrize(("ranks", "nodes"), [(4, 1), (8, 2)])  # of the ranks of one node, and of all
def test_sharded_layers_are_gathered_in_both_passes_of_every_micro_batch(ranks, nodes):
    plan, target = made_plan(shared=SharedLayers(ranks, 10, 8000, 1600)), made_target(ranks=8, nodes=2, network=NETWORK)
    found = estimate_cost(plan, "int8", True, made_work(), target, None)
    received = 2 * 2 * (8000 - 8000 // ranks)
    assert found.gathers == Gathers(2 * 2 * 10, 800, nodes, received)
    expected = communicate(plan.gradients, 2, 4, NVLINK, NETWORK, found.step_seconds, found.gathers)
    assert found.communication[0] == expected


NETWORK = Link("1 MB/s", 1e6, 0.01)


@pytest.mark.parametrize(
    ("target", "links"),
    [
        ({"ranks": 1}, []),
        ({"ranks": 8}, ["NVLink", "PCIe"]),
        ({"ranks": 8, "nodes": 2}, []),  # the network is unknown
        ({"ranks": 8, "nodes": 2, "network": NETWORK}, ["NVLink", "PCIe"]),
        ({"ranks": 2, "nodes": 2, "network": NETWORK}, [""]),  # one card in each node
        ({"ranks": 8, "device_type": "cpu"}, []),
        ({"ranks": 8, "nodes": 2, "network": NETWORK, "device_type": "cpu"}, [""]),
    ],
)
def test_communication_is_predicted_for_the_links_that_the_devices_may_have(target, links):
    assert [one.link for one in cost(**target).communication] == links


def test_the_share_of_communication_is_of_the_predicted_step():
    found = cost(ranks=2, nodes=2, network=NETWORK)
    [way] = found.communication
    assert way.seconds == pytest.approx(48 / 1e6 + 3 * 2 * 0.01)  # gradients, loss and signal, two hops each
    assert way.share == pytest.approx([way.seconds / (way.seconds + one) for one in reversed(found.step_seconds)])
