"""Micro-batches as tensors."""

import torch

from onion_lightning.data.collate import HeadlineBatches, collate
from onion_lightning.data.sampler import MicroBatch


def test_rows_follow_one_another_without_padding_and_only_articles_are_supervised():
    batch = collate([[5, 6, 0, 7], [5, 8]], [2, 1], MicroBatch((3, 9), 11, 20, 0))
    assert batch["input_ids"].tolist() == [5, 6, 0, 7, 5, 8]  # an id 0 in a row is an ordinary token
    assert batch["row_lengths"] == [4, 2]
    assert batch["targets"].tolist() == [0, 7, 8]
    assert batch["predictors"].tolist() == [1, 2, 4]
    assert batch["input_ids"][batch["predictors"]].tolist() == [6, 0, 5]  # the tokens before the targets
    assert (batch["supervised"], batch["tokens"]) == (11, 20)


def test_an_empty_micro_batch_has_empty_tensors():
    batch = collate([], [], MicroBatch((), 11, 20, 0))
    assert batch["row_lengths"] == []
    assert batch["input_ids"].shape == (0,)
    assert batch["targets"].shape == batch["predictors"].shape == (0,)
    assert batch["input_ids"].dtype == batch["targets"].dtype == batch["predictors"].dtype == torch.long


def test_a_batch_of_headlines_carries_their_positions_and_its_number():
    batch = HeadlineBatches(["A", "B", "C"])[MicroBatch((2, 0), 0, 0, 7)]
    assert batch == {"headlines": ["C", "A"], "rows": [2, 0], "index": 7}
