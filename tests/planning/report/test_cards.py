"""The table of cards, and finding one by name."""

import pytest

from onion_lightning.errors import OnionError
from onion_lightning.planning.report.cards import CARDS, find_card, match_card


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("A100 80GB", "A100 80GB"),
        ("a100-80g", "A100 80GB"),
        ("A100 80 GB PCIe", "A100 80GB PCIe"),
        ("rtx4090", "RTX 4090"),
        ("4090", "RTX 4090"),
        ("3090", "RTX 3090"),
        ("3090 Ti", "RTX 3090 Ti"),
        ("NVIDIA L4", "L4"),
        ("A10", "A10"),
        ("a10g", "A10G"),
        ("A6000", "RTX A6000"),
        ("H100 SXM5", "H100 SXM"),
        ("t4", "T4"),
    ],
)
def test_a_card_is_found_however_its_name_is_written(asked, name):
    assert find_card(asked).name == name


@pytest.mark.parametrize(
    ("reported", "name"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100 80GB"),
        ("NVIDIA A100 80GB PCIe", "A100 80GB PCIe"),
        ("NVIDIA A100-SXM4-40GB", "A100 40GB"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("Tesla T4", "T4"),
        ("Tesla V100-SXM2-16GB", "V100 16GB"),
        ("NVIDIA GeForce RTX 3090", "RTX 3090"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada"),
        ("NVIDIA RTX A5000", "RTX A5000"),
    ],
)
def test_the_names_that_drivers_report_are_known(reported, name):
    assert match_card(reported).name == name


def test_a_laptop_version_is_not_taken_for_the_card():
    assert match_card("NVIDIA GeForce RTX 4090 Laptop GPU") is None


def test_every_card_is_found_by_its_own_name_and_has_plausible_figures():
    assert len({card.name for card in CARDS}) == len(CARDS)
    for card in CARDS:
        assert find_card(card.name) is card
        assert 8 <= card.gigabytes <= 200
        assert 50 <= card.teraflops <= 2500
        assert 300 <= card.bandwidth <= 8000


def test_a_name_of_several_cards_is_refused_with_all_of_them():
    with pytest.raises(OnionError, match=r"--gpu A100: may be A100 40GB or A100 80GB or A100 80GB PCIe; give one"):
        find_card("A100")


def test_an_unknown_card_is_refused_with_close_names():
    with pytest.raises(
        OnionError, match=r"--gpu RTX 3099: is not in the table of cards; give .*RTX 3090.* such as 24GB\.$"
    ):
        find_card("RTX 3099")
    with pytest.raises(OnionError, match=r"give one of T4, .* or the card's memory"):
        find_card("§§§§§")


def test_an_amount_of_memory_is_a_card_without_a_speed():
    card = find_card("24 gb")
    assert (card.gigabytes, card.teraflops, card.bandwidth) == (24, None, None)
