"""Pairs are split by headline, like a corpus, and both articles of a pair are in one micro-batch."""

import numpy as np
import pytest

from onion_lightning.data.corpus import split_of
from onion_lightning.data.preferences.module import PreferenceDataModule
from onion_lightning.errors import OnionError
from tests.pairs import some_pairs, write_pairs


@pytest.fixture
def made(tiny_base, tmp_path):
    """Returns a function that encodes pairs."""

    def encode(pairs, **flags):
        file = write_pairs(tmp_path / "pairs.jsonl", pairs)
        settings = {"base_model": str(tiny_base), "val_fraction": 0.2, "test_fraction": 0.1, "max_length": 200}
        data = PreferenceDataModule(
            pairs=file, **settings | {"batch_size": 3, "global_batch_size": 8, "seed": 3} | flags
        )
        data.encoded, data.texts, data.report = data.encode()
        return data

    return encode


def test_all_pairs_of_a_headline_are_in_the_split_that_a_corpus_has_it_in(made):
    pairs = some_pairs(40)
    data = made(pairs + [pair | {"chosen": pair["chosen"] + " again"} for pair in pairs])
    for split, texts in data.texts.items():
        assert len(texts) == 2 * data.report.splits[split]
        assert all(split_of(row["headline"], 0.2, 0.1) == split for row in texts)
        assert (texts["headline"][0::2], len(texts) % 4) == (texts["headline"][1::2], 0)
    assert sum(data.report.splits.values()) == data.report.kept == 80


def test_a_few_pairs_have_at_least_one_for_validation_with_all_pairs_of_its_headline(made):
    first, second, *_ = some_pairs(2)
    data = made([first, first | {"chosen": "Other."}, second, second | {"chosen": "Another."}], val_fraction=0.01)
    assert data.report.splits == {"train": 2, "validation": 2, "test": 0}


@pytest.mark.parametrize("world", [1, 2, 3])
def test_both_articles_of_each_pair_are_in_one_micro_batch_and_each_pair_is_seen_once(made, world):
    data = made(some_pairs(40))
    batches = data.batches("train")
    steps: dict[int, list] = {}
    for rank in range(world):
        sampler = data.global_sampler(world, rank)
        for micro in sampler:
            steps.setdefault(micro.number // (sampler.accumulate * world), []).append((micro, batches[micro]))
    seen = []
    for step in steps.values():
        pairs = [row // 2 for micro, _ in step for row in micro.rows[0::2]]
        assert pairs == [row // 2 for micro, _ in step for row in micro.rows[1::2]]
        assert all(
            len(micro.rows) <= 6 and micro.rows[0::2] == tuple(2 * (r // 2) for r in micro.rows[0::2])
            for micro, _ in step
        )
        assert {batch["pairs"] for _, batch in step} == {len(pairs)}
        chosen = sum(sum(batch["article_lengths"][0::2]) for _, batch in step)
        assert {batch["supervised"] for _, batch in step} == {chosen}
        seen += pairs
    assert sorted(seen) == list(range(data.report.splits["train"]))


def test_a_batch_has_the_reference_of_its_own_tokens(made):
    data = made(some_pairs(12))
    ids = [token for row in data.encoded["train"] for token in row["input_ids"][row["prompt_length"] :]]
    data.reference["train"][:] = ids  # so that each value names its token
    for micro in data.global_sampler():
        batch = data.batches("train")[micro]
        assert np.array_equal(batch["reference"], batch["targets"])
        assert batch["lengths"].flatten().tolist() == batch["article_lengths"]


def test_pairs_that_are_too_long_or_equal_once_cut_are_counted(made):
    first, second, third = some_pairs(3)
    words = " ".join(["egg"] * 150)
    long = [first | {"prompt": "word " * 400}, second | {"chosen": words + " one", "rejected": words + " two"}, third]
    data = made(long, max_length=140, val_fraction=0.0)
    assert {name: count for name, count in data.report.dropped.items() if count} == {"too_long": 1, "identical": 1}
    assert data.report.kept == 1


def test_no_pairs_are_one_sentence(made):
    pair = some_pairs(1)[0]
    with pytest.raises(
        OnionError, match=r"--data.pairs .*: no pairs remain \(read: 2; dropped: 2 identical\); vote on"
    ):
        made([pair | {"rejected": pair["chosen"]}] * 2)
