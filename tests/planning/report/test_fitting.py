"""Flags with which a run fits, and the largest micro-batch."""

from dataclasses import replace

import pytest

from onion_lightning.planning.report.fitting import Setup, batch_sizes, find_remedies, largest
from tests.planning.report.plans import made_plan

SETUP = Setup(batch_size=8, checkpointing=False, load_in="int8", length=512)
WEIGHTS = {"none": 2000, "int8": 1000, "nf4": 500}


def predict(setup: Setup):
    """Activations of a byte a token, or a tenth of it with checkpointing."""
    tokens = setup.batch_size * setup.length
    zero = dict.fromkeys(("embeddings", "adapters", "gradients", "optimizer", "logits", "workspace", "step"), 0)
    activations = tokens // 10 if setup.checkpointing else tokens
    linear = WEIGHTS[setup.load_in] // {False: 1, True: 8, "all": 16}[setup.shard]
    return made_plan(linear=linear, activations=activations, **zero)


def remedies(usable: int, **changes):
    found = find_remedies(replace(SETUP, **changes), [1, 2, 4, 8], predict, usable)
    for one in found:
        flags = one.flags
        changed = Setup(
            flags.get("--data.batch_size", changes.get("batch_size", 8)),
            flags.get("--model.gradient_checkpointing", changes.get("checkpointing", False)),
            flags.get("--model.load_in", changes.get("load_in", "int8")),
            flags.get("--data.max_length", 512),
            flags.get("--model.shard", changes.get("shard", False)),
        )
        assert one.peak == predict(changed).total <= usable
    return [" ".join(one.words()) for one in found]


def test_single_flags_come_first_the_cheapest_before_the_others():
    assert remedies(4000) == [
        "--data.batch_size 4",
        "--model.gradient_checkpointing true",
        "--data.max_length 256",
    ]


def test_flags_are_combined_where_one_alone_is_not_enough():
    assert remedies(1060) == [
        "--data.batch_size 1 --model.gradient_checkpointing true",
        "--data.batch_size 1 --model.load_in nf4",
        "--model.gradient_checkpointing true --model.load_in nf4",
    ]


def test_what_contains_a_cheaper_remedy_is_not_listed():
    found = remedies(2000)
    assert found[0] == "--data.batch_size 1"
    assert not any("--data.batch_size" in words for words in found[1:])


def test_weights_are_rounded_no_more_than_needed():
    assert "--model.load_in int8" in remedies(5200, load_in="none")
    assert "--model.load_in nf4" in remedies(4700, load_in="none")


def test_flags_that_are_set_already_are_not_advised():
    found = remedies(500 + 30, batch_size=1, checkpointing=True, load_in="nf4")
    assert found == ["--data.max_length 256"]


def test_nothing_is_advised_where_nothing_helps():
    assert remedies(400) == []


def test_the_price_of_each_flag_is_named():
    [one, *_] = find_remedies(SETUP, [1, 2, 4, 8], predict, 1060)
    assert one.price == "the same optimizer steps, in more micro-batches; about a third more time per step"


def test_micro_batches_divide_the_rows_of_each_rank():
    assert batch_sizes(64, 8) == [1, 2, 4, 8]
    assert batch_sizes(12, 1) == [1, 2, 3, 4, 6, 12]
    assert batch_sizes(7, 2) == [1, 2, 4]


@pytest.mark.parametrize("limit", range(9))
def test_the_largest_candidate_is_found_in_few_tries(limit):
    tried = []

    def fits(one: int) -> bool:
        tried.append(one)
        return one <= limit

    assert largest(range(1, 9), fits) == (limit or None)
    assert len(tried) <= 4


def test_weights_are_spread_over_ranks_before_they_are_rounded_if_there_are_several():
    tight = {"batch_size": 1, "checkpointing": True}
    assert remedies(900, **tight) == ["--model.load_in nf4"]
    assert remedies(900, **tight, shard_more=True) == ["--model.shard true", "--model.load_in nf4"]
    assert remedies(500, **tight, shard=True, shard_more="all")[0] == "--model.shard all"
