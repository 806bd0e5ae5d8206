"""The rows that are shown are those of the data module's batches."""

from itertools import chain

import numpy as np
import pytest

from onion_lightning.data.corpus import examine
from onion_lightning.preview.figures import rows_without_eos
from onion_lightning.preview.rows import choose_places, find_differences, first_places, see_row
from tests.preview.conftest import DIRTY, TRUNCATED


@pytest.fixture
def encoded(data):
    data.encoded, data.texts, data.report = data.encode()
    data.sampler = data.global_sampler()
    return data


def test_ids_and_mask_equal_those_of_the_batches_of_the_data_module(encoded):
    cut = encoded.column("train", "full_length") > encoded.column("train", "length")
    places = choose_places(encoded.sampler, 1000, cut)
    rows = [see_row(encoded, place, pads=False) for place in places]
    assert sorted(row.row for row in rows) == list(range(len(cut)))
    shown = iter(rows)
    for batch in encoded.train_dataloader():
        part = [next(shown) for _ in batch["row_lengths"]]
        assert list(chain.from_iterable(row.ids for row in part)) == batch["input_ids"].tolist()
        supervised = np.flatnonzero(list(chain.from_iterable(row.supervised for row in part)))
        assert supervised.tolist() == (batch["predictors"] + 1).tolist()
        assert batch["input_ids"][supervised].tolist() == batch["targets"].tolist()


def test_each_row_has_the_step_that_trains_it_and_its_headline(encoded):
    for place in choose_places(encoded.sampler, 1000, np.zeros(100, bool)):
        row = see_row(encoded, place, pads=False)
        assert row.row in encoded.sampler.global_batches(0)[row.step - 1]
        assert encoded.texts["train"][row.row]["headline"] == row.headline
        prompt = "".join(token.text for token in row.tokens if not token.supervised)
        assert row.headline in prompt


def test_a_row_without_eos_was_cut(encoded):
    cut = encoded.column("train", "full_length") > encoded.column("train", "length")
    assert 0 < cut.sum() < len(cut)
    for place in choose_places(encoded.sampler, 1000, cut):
        row = see_row(encoded, place, pads=False)
        assert row.ends != cut[row.row]
        assert row.whole
        extra = encoded.encoded["train"][row.row]["full_length"] - len(row.ids)
        assert row.cut_tokens == max(extra - 1, 0)


def test_a_row_that_its_source_cut_off_has_no_eos(encoded):
    encoded.cleaning = encoded.cleaning._replace(truncated="cut")
    encoded.encoded, encoded.texts, encoded.report = encoded.encode()
    sampler = encoded.global_sampler()
    without = rows_without_eos(encoded)
    rows = [see_row(encoded, place, pads=False) for place in choose_places(sampler, 1000, without)]
    assert {row.row for row in rows if not row.ends} == set(np.flatnonzero(without).tolist())
    (cut_off,) = [row for row in rows if row.headline == TRUNCATED]
    assert (cut_off.ends, cut_off.whole, cut_off.cut_tokens) == (False, False, 0)


def test_a_cut_row_replaces_the_last_one_if_none_of_the_first_is_cut(encoded):
    order = [place.row for place in choose_places(encoded.sampler, 1000, np.zeros(100, bool))]
    cut = np.zeros(len(order), bool)
    cut[order[7]] = True
    assert [place.row for place in choose_places(encoded.sampler, 3, cut)] == [order[0], order[1], order[7]]
    cut[order[1]] = True
    assert [place.row for place in choose_places(encoded.sampler, 3, cut)] == order[:3]
    assert [place.row for place in choose_places(encoded.sampler, 1, cut)] == order[:1]


def test_padding_is_what_the_longest_row_of_the_micro_batch_has_more(encoded):
    places = choose_places(encoded.sampler, 3, np.zeros(100, bool))
    lengths = [encoded.column("train", "length")[place.row] for place in places]
    assert {place.batch.number for place in places} == {0}
    assert [see_row(encoded, place, pads=True).padding for place in places] == [max(lengths) - one for one in lengths]
    assert not any(see_row(encoded, place, pads=False).padding for place in places)


def test_the_first_place_is_where_a_resumed_run_continues(encoded):
    encoded.resume(0, 2)
    [place] = first_places(encoded.sampler, 1)
    assert place.step == 3
    assert place.row in encoded.sampler.global_batches(0)[2]


def test_cleaning_is_found_for_the_row_that_was_read(encoded):
    read = examine(encoded.paths, encoded.columns, encoded.cleaning, encoded.filters)
    differences = find_differences(read, DIRTY.replace("\u200b", ""))
    assert [segment.before for segment in differences.headline if not segment.is_same] == ["\u200b"]
    assert [segment.before for segment in differences.article if not segment.is_same] == ["\u200b", "\u00a0", "\r"]
    assert differences.changes == ["line_endings", "spaces", "zero_width"]
