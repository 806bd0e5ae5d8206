"""Bytes and seconds of communication, computed by hand."""

import math

import pytest

from onion_lightning.errors import OnionError
from onion_lightning.planning.report.communication import (
    LOCAL,
    NETWORK_LATENCY,
    Gathers,
    Link,
    all_gather,
    all_reduce,
    all_reduces,
    communicate,
    read_network,
)

SLOW, FAST = Link("slow", 1e3, 1.0), Link("fast", 1e6, 0.001)
MIB = 2**20


@pytest.mark.parametrize(
    ("text", "bandwidth", "latency"),
    [
        ("25 Gbit/s", 3.125e9, NETWORK_LATENCY),
        ("100Gbps", 12.5e9, NETWORK_LATENCY),
        ("400 Gb/s", 50e9, NETWORK_LATENCY),
        ("10 GB/s", 10e9, NETWORK_LATENCY),
        (" 2.5 gbit/s ", 312.5e6, NETWORK_LATENCY),
        ("800 Mbit/s, 50 us", 1e8, 50e-6),
        ("1 MB/s, 1.5ms", 1e6, 1.5e-3),
        ("1 Gbit/s,0 µs", 1.25e8, 0.0),
    ],
)
def test_a_network_is_a_rate_in_bits_or_bytes_and_may_have_a_latency(text, bandwidth, latency):
    assert read_network(text) == Link(text.strip(), pytest.approx(bandwidth), pytest.approx(latency))


@pytest.mark.parametrize(
    "text",
    ["", "25", "fast", "25 Gbit", "0 Gbit/s", "-1 Gbit/s", "25 GBps", "25 Gbit/s, 50", "1 Gbit/s, 5 s", "nan GB/s"],
)
def test_other_text_is_refused_with_an_example(text):
    with pytest.raises(OnionError) as refused:
        read_network(text)
    shown = text or "''"
    assert str(refused.value).startswith(f'--network {shown}: must be a rate above 0 such as "25 Gbit/s"')
    assert "\n" not in str(refused.value)


def test_the_gradients_are_sent_in_the_buckets_of_ddp_and_two_numbers_follow():
    assert list(all_reduces(16 * MIB)) == [MIB, 15 * MIB, 4, 4]
    assert list(all_reduces(60 * MIB)) == [MIB, 25 * MIB, 25 * MIB, 9 * MIB, 4, 4]
    assert list(all_reduces(MIB)) == [MIB, 4, 4]


def test_one_rank_communicates_nothing():
    found = communicate(16 * MIB, 1, 1, FAST, SLOW, (1.0, 2.0))
    assert (found.sent, found.seconds, found.share) == (0, 0.0, (0.0, 0.0))


def test_in_a_node_a_ring_takes_its_bytes_and_two_hops_less_than_twice_the_ranks():
    sent, within, between = all_reduce(8000, nodes=1, devices=4, within=SLOW, network=FAST)
    assert (sent, between) == (12_000, 0.0)  # 2 * 3/4
    assert within == pytest.approx(12 + 6 * 1)


def test_between_nodes_a_ring_has_a_hop_for_each_node_and_the_others_are_within_nodes():
    sent, within, between = all_reduce(16_000_000, nodes=4, devices=2, within=FAST, network=SLOW)
    assert sent == 28_000_000  # 2 * 7/8
    assert within == pytest.approx(28 + 8 * 0.001)
    assert between == pytest.approx(28_000 + 6 * 1)


def test_few_bytes_take_the_trees_whose_hops_grow_with_the_logarithm_of_the_nodes():
    sent, within, between = all_reduce(4, nodes=16, devices=8, within=FAST, network=SLOW)
    assert sent == 8
    assert within == pytest.approx(8 / 1e6 + 14 * 0.001)
    assert between == pytest.approx(8 / 1e3 + 8 * 1)  # up and down 4 levels
    assert all_reduce(4, nodes=5, devices=1, within=LOCAL, network=SLOW)[2] == pytest.approx(8 / 1e3 + 6 * 1)


def test_an_all_gather_takes_half_of_the_ring_of_an_all_reduce():
    assert all_gather(8000, nodes=1, devices=4, within=SLOW, network=FAST) == (6000, pytest.approx(6 + 3 * 1), 0.0)
    received, within, between = all_gather(16_000_000, nodes=4, devices=2, within=FAST, network=SLOW)
    assert (received, within) == (14_000_000, pytest.approx(14 + 4 * 0.001))
    assert between == pytest.approx(14_000 + 3 * 1)


def test_weights_that_are_gathered_take_time_within_a_node_and_between_nodes_only_if_these_share_them():
    without = communicate(3_000_000, 2, 4, FAST, FAST, None)
    for nodes, part, hops in ((1, 3 / 4, 3), (2, 7 / 8, 6)):
        found = communicate(3_000_000, 2, 4, FAST, FAST, (1.0, 2.0), Gathers(10, 8e6, nodes, 0))
        assert found.sent == without.sent
        assert found.within == pytest.approx(without.within + 10 * (8 * part + hops * 0.001))
        across = 10 * (8 * part + 0.001) if nodes == 2 else 0
        assert found.between == pytest.approx(without.between + across)
        assert found.share == pytest.approx([found.seconds / (found.seconds + one) for one in (2, 1)])


def test_a_step_adds_up_its_all_reduces_and_its_share_is_of_the_step_with_communication():
    found = communicate(3_000_000, 2, 1, LOCAL, FAST, step=(3.0, 27.0))
    assert (found.link, found.sent, found.within) == ("", 3_000_008, 0.0)
    assert found.between == pytest.approx(3.000008 + 4 * 2 * 0.001)  # four all-reduces of two hops
    assert found.share == pytest.approx((3.008008 / 30.008008, 3.008008 / 6.008008))
    assert communicate(3_000_000, 2, 1, LOCAL, FAST, step=None).share is None


def test_the_time_of_many_nodes_grows_far_more_slowly_than_their_number():
    two, many = (communicate(16 * MIB, nodes, 8, FAST, read_network("25 Gbit/s"), None) for nodes in (2, 128))
    assert many.between < 1.2 * two.between
    assert not math.isclose(many.between, two.between)
