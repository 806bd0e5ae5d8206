"""A corpus as token ids, and its report."""

import json

import numpy as np
import pytest

from onion_lightning.data.corpus import DROP_REASONS
from onion_lightning.data.encoding import encode_corpus
from onion_lightning.errors import OnionError
from tests.data.conftest import body, load, write_csv


@pytest.fixture
def corpus(tmp_path):
    rows = [(f"Row {i}", "t", body(i) + " egg" * (i * 5)) for i in range(20)]
    return load(write_csv(tmp_path / "c.csv", [*rows, ("Row 1", "t", body(99)), ("Short", "t", "Too short.")]))


def test_the_report_counts_every_row_once(corpus, tokenizer):
    ids, texts, report = encode_corpus(corpus, tokenizer, 200, "drop")
    assert report.read == 22 == report.kept + sum(report.dropped.values())
    assert report.kept == sum(report.splits.values())
    assert report.splits == {split: len(rows) for split, rows in ids.items()}
    assert report.splits == {split: len(rows) for split, rows in texts.items()}
    assert report.dropped.keys() == DROP_REASONS.keys()
    assert report.dropped["too_long"] > 0 == report.cut
    assert corpus.dropped["too_long"] == 0


def test_cut_rows_are_counted_and_kept(corpus, tokenizer):
    ids, _, report = encode_corpus(corpus, tokenizer, 200, "cut")
    assert report.kept == 20
    lengths = [length for rows in ids.values() for length in rows["length"]]
    assert max(lengths) == 200
    assert lengths.count(200) == report.cut > 0
    assert report.dropped["too_long"] == 0


def test_token_counts_are_taken_before_examples_are_cut(corpus, tokenizer):
    whole, cut = (encode_corpus(corpus, tokenizer, most, "cut") for most in (5000, 200))
    lengths = [length for rows in whole.ids.values() for length in rows["length"]]
    tokens = whole.report.tokens
    assert cut.report.tokens == tokens
    assert (tokens.median, tokens.max) == (int(np.median(lengths)), max(lengths))
    assert tokens.mean == pytest.approx(np.mean(lengths), abs=0.0501)  # rounded to one decimal place


def test_the_json_report_has_these_keys_in_this_order(corpus, tokenizer):
    report = encode_corpus(corpus, tokenizer, 200, "cut").report
    written = json.loads(report.to_json())
    assert list(written) == ["read", "kept", "dropped", "cleaned", "misread", "cut", "splits", "tokens"]
    assert list(written["splits"]) == ["train", "validation", "test"]
    assert list(written["tokens"]) == ["mean", "median", "p95", "max"]
    assert list(written["dropped"]) == list(DROP_REASONS)
    assert [type(value) for value in written["tokens"].values()] == [float, int, int, int]


def test_ids_and_texts_are_the_same_rows(corpus, tokenizer):
    ids, texts, _ = encode_corpus(corpus, tokenizer, 200, "drop")
    for split, rows in ids.items():
        for encoded, text in zip(rows, texts[split], strict=True):
            article = encoded["input_ids"][encoded["prompt_length"] : -1]
            assert tokenizer.decode(article) == text["article"]


def test_an_unchanged_corpus_is_not_tokenized_again(corpus, tokenizer, monkeypatch):
    first = encode_corpus(corpus, tokenizer, 150, "cut")
    calls = []
    monkeypatch.setattr("onion_lightning.data.encoding.encode_examples", lambda *words: calls.append(words))
    again = encode_corpus(corpus, tokenizer, 150, "cut")
    assert calls == []
    assert again.report == first.report


def test_an_error_names_the_flag_when_no_example_fits(corpus, tokenizer):
    with pytest.raises(OnionError, match=r"^--data\.max_length 10: none of the 20 articles fits"):
        encode_corpus(corpus, tokenizer, 10, "cut")
