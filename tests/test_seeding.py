"""Derived seeds."""

from onion_lightning.seeding import mix_seed


def test_seeds_differ_if_any_part_differs():
    seeds = [mix_seed(a, b, c) for a in range(3) for b in range(3) for c in range(3)]
    assert len(set(seeds)) == 27
