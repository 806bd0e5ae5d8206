"""What a run is planned for."""

import pytest
import torch

from onion_lightning.errors import OnionError
from onion_lightning.model.base_model import best_precision
from onion_lightning.planning.report.communication import Link
from onion_lightning.planning.report.target import choose_target, product_rate
from onion_lightning.planning.start_line import available_memory
from onion_lightning.training.session import TrainerFlags

CPU = torch.device("cpu")


def test_a_card_by_name_has_its_memory_and_speed_and_every_device_of_every_node_is_a_rank():
    target = choose_target("A100 80GB", None, TrainerFlags("gpu", "16-mixed", devices=8, num_nodes=2), CPU)
    assert target.describe() == "16 × A100 80GB"
    assert (target.device_type, target.ranks, target.memory) == ("cuda", 16, 80_000_000_000)
    assert (target.rate, target.bandwidth, target.measured) == (312e12, 2039e9, False)


def test_the_nodes_and_their_network_are_those_of_the_flags():
    target = choose_target("T4", "10 GB/s, 20 us", TrainerFlags(devices=4, num_nodes=3), CPU)
    assert (target.ranks, target.nodes, target.devices) == (12, 3, 4)
    assert target.network == Link("10 GB/s, 20 us", 10e9, pytest.approx(20e-6))
    assert choose_target("T4", None, TrainerFlags(devices=4, num_nodes=3), CPU).network is None


def test_a_network_is_refused_where_there_is_one_node():
    with pytest.raises(OnionError, match=r"--network 10 GB/s: has no effect on one node; give --trainer.num_nodes 2"):
        choose_target("T4", "10 GB/s", TrainerFlags(devices=4), CPU)


def test_one_card_is_assumed_only_if_the_flags_do_not_say_how_many():
    unsaid = choose_target("A100 80GB", None, TrainerFlags("gpu", "16-mixed", devices=None), CPU)
    assert (unsaid.ranks, unsaid.one_assumed) == (1, True)
    assert not choose_target("A100 80GB", None, TrainerFlags("gpu", "16-mixed", devices=1), CPU).one_assumed
    assert not choose_target(None, None, TrainerFlags("cpu", devices=1), CPU).one_assumed


@pytest.mark.parametrize(
    ("card", "asked", "found"),
    [
        ("L4", None, "bf16-mixed"),
        ("T4", None, "16-mixed"),
        ("L4", "16-mixed", "16-mixed"),
        ("L4", "32-true", "32-true"),
    ],
)
def test_the_precision_is_the_best_of_the_card_unless_one_is_given(card, asked, found):
    target = choose_target(card, None, TrainerFlags(precision=asked), CPU)
    assert target.precision == found
    assert (target.rate is None) == (found == "32-true")  # the table has no rates of float32


def test_a_precision_that_a_card_lacks_is_refused():
    with pytest.raises(OnionError, match=r"--trainer.precision bf16-mixed: T4 has no bfloat16; give 16-mixed"):
        choose_target("T4", None, TrainerFlags(precision="bf16-mixed"), CPU)
    with pytest.raises(OnionError, match=r"--trainer.precision 16-true"):
        choose_target("T4", None, TrainerFlags(precision="16-true"), CPU)


def test_a_config_for_gpus_is_planned_for_an_unknown_card_where_there_is_none():
    target = choose_target(None, None, TrainerFlags("gpu", "16-mixed", devices=8), CPU)
    assert (target.device_type, target.ranks, target.memory, target.rate, target.usable) == (
        "cuda",
        8,
        None,
        None,
        None,
    )


def test_without_a_card_it_is_this_machine_whose_memory_the_ranks_share():
    target = choose_target(None, None, TrainerFlags("cpu", "16-mixed", devices=2), CPU)
    assert (target.device_type, target.precision) == ("cpu", best_precision(CPU))
    assert target.memory == available_memory(CPU) // 2
    assert target.measured
    assert choose_target(None, None, TrainerFlags("cpu", "32-true"), CPU).precision == "32-true"


def test_a_tenth_of_the_memory_and_the_context_are_not_usable():
    assert choose_target("10GB", None, TrainerFlags(), CPU).usable == 8_500_000_000


def test_the_rate_of_products_is_measured():
    assert 1e8 < product_rate(torch.float32, size=128) < 1e14
