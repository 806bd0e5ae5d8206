"""Global batches, micro-batches, and their distribution over ranks."""

from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onion_lightning.data.sampler import GlobalBatchSampler, HeldOutSampler, accumulation

LENGTHS = np.random.default_rng(0).integers(5, 300, size=61)


def make_sampler(micro, world, rank, size=16, epoch=0, resume_at=(0, 0)):
    sampler = GlobalBatchSampler(LENGTHS, LENGTHS - 3, micro, size, world, rank, seed=7)
    sampler.resume_at = resume_at
    sampler.set_epoch(epoch)
    return sampler


def steps(micro, world, **more):
    """The rows of each optimizer step, over all ranks."""
    ranks = [make_sampler(micro, world, rank, **more) for rank in range(world)]
    accumulate = ranks[0].accumulate
    micros = [list(rank) for rank in ranks]
    assert len({len(one) for one in micros}) == 1
    return [
        sorted(row for rank in micros for batch in rank[at : at + accumulate] for row in batch.rows)
        for at in range(0, len(micros[0]), accumulate)
    ]


@given(st.integers(1, 20), st.integers(1, 9))
def test_each_step_sees_the_same_rows_on_any_number_of_devices(micro, world):
    assert steps(micro, world) == steps(16, 1)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 40))
def test_no_micro_batch_exceeds_the_requested_size(micro, world, size):
    for rank in range(world):
        for batch in make_sampler(micro, world, rank, size=size):
            assert len(batch.rows) <= micro
    assert accumulation(size, micro, world) * micro * world >= size


def test_the_length_of_a_sampler_is_its_number_of_micro_batches():
    assert len(list(make_sampler(3, 2, 1))) == len(make_sampler(3, 2, 1)) == 4 * 3


def test_each_epoch_contains_every_row_once_in_a_different_order():
    first, second = steps(4, 2), steps(4, 2, epoch=1)
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(61))
    assert first != second


def like_articles(count):
    """Numbers of tokens as in `The Onion`: a median of 285, 95% under 550, a few cut at 512 or very short."""
    return np.clip(np.random.default_rng(1).lognormal(np.log(285), 0.4, count), 30, 512).astype(int)


@pytest.mark.parametrize("world", [1, 2, 3, 8])
@pytest.mark.parametrize(("micro", "size"), [(4, 4), (8, 64), (1, 8)])
@pytest.mark.parametrize("epoch", [0, 1])
def test_every_rank_gets_the_same_number_of_tokens_in_an_epoch_to_5_percent(world, micro, size, epoch):
    lengths = like_articles(6000)
    tokens = []
    for rank in range(world):
        sampler = GlobalBatchSampler(lengths, lengths - 20, micro, size, world, rank, seed=7)
        sampler.set_epoch(epoch)
        tokens.append(sum(int(lengths[list(batch.rows)].sum()) for batch in sampler))
    assert sum(tokens) == lengths.sum()
    assert max(tokens) <= 1.05 * min(tokens)


def test_micro_batches_of_a_step_have_about_the_same_number_of_tokens():
    lengths = like_articles(640)
    ranks = [list(GlobalBatchSampler(lengths, lengths - 20, 8, 64, 2, rank, seed=7)) for rank in range(2)]
    for step in range(10):
        tokens = [lengths[list(micro.rows)].sum() for rank in ranks for micro in rank[4 * step : 4 * step + 4]]
        assert max(tokens) < 1.1 * min(tokens)


def test_a_resumed_epoch_gives_each_rank_the_micro_batches_of_an_uninterrupted_one():
    for rank in range(2):
        whole = list(make_sampler(4, 2, rank, epoch=2))
        assert list(make_sampler(4, 2, rank, epoch=2, resume_at=(2, 3))) == whole[3 * 2 :]


def test_every_micro_batch_carries_the_token_counts_of_its_global_batch():
    for rows, batch in zip(steps(16, 1), make_sampler(16, 1, 0), strict=True):
        assert batch.tokens == LENGTHS[rows].sum()
        assert batch.supervised == (LENGTHS[rows] - 3).sum()


@pytest.mark.parametrize(("micro", "world"), [(16, 1), (2, 3), (4, 2)])
def test_an_epoch_resumes_where_it_stopped_on_any_number_of_devices(micro, world):
    assert steps(micro, world, epoch=2, resume_at=(2, 3)) == steps(16, 1, epoch=2)[3:]
    assert steps(micro, world, epoch=3, resume_at=(2, 3)) == steps(16, 1, epoch=3)


@given(st.integers(1, 70), st.integers(1, 9))
def test_held_out_batches_are_the_same_on_any_number_of_ranks(count, world):
    lengths = LENGTHS[:count]
    alone = [batch.rows for batch in HeldOutSampler(lengths, 4, 1, 0)]
    ranks = [list(HeldOutSampler(lengths, 4, world, rank)) for rank in range(world)]
    assert len({len(rank) for rank in ranks}) == 1
    together = sorted((batch.number, batch.rows) for rank in ranks for batch in rank)
    assert [rows for _, rows in together if rows] == alone
    assert sorted(chain(*alone)) == list(range(len(lengths)))


def test_the_rows_of_a_held_out_batch_are_of_similar_length():
    shortest = [sorted(LENGTHS)[at : at + 4] for at in range(0, len(LENGTHS), 4)]
    assert [[LENGTHS[row] for row in batch.rows] for batch in HeldOutSampler(LENGTHS, 4, 1, 0)] == shortest
