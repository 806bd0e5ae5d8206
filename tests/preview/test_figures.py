"""Figures of the training split, and examples of what was dropped."""

import datasets
import numpy as np

from onion_lightning.data.cleaning import languages
from onion_lightning.data.corpus import examine
from onion_lightning.preview import figures
from onion_lightning.preview.figures import (
    compute_figures,
    count_languages,
    count_padding,
    find_dropped,
    longest_rows,
    straddling_groups,
)
from tests.preview.conftest import MAX_LENGTH
from tests.tiny import sample_rows


def encode(data):
    data.encoded, data.texts, data.report = data.encode()
    return data


def test_the_figures_are_sums_over_the_batches(data):
    data = encode(data)
    data.sampler = data.global_sampler()
    batches = list(data.train_dataloader())
    figures = compute_figures(data, data.sampler, pads=False)
    assert figures.rows == sum(len(batch["row_lengths"]) for batch in batches) == len(data.texts["train"])
    assert figures.tokens == sum(len(batch["input_ids"]) for batch in batches)
    assert figures.supervised == sum(len(batch["targets"]) for batch in batches)
    eos = sum(int((batch["targets"] == data.tokenizer.eos_token_id).sum()) for batch in batches)
    assert figures.without_eos == figures.rows - eos > 0
    assert figures.padding == figures.padding_share == 0


def test_padding_is_counted_for_a_model_that_pads(data):
    data = encode(data)
    data.sampler = data.global_sampler()
    lengths = [batch["row_lengths"] for batch in data.train_dataloader() if batch["row_lengths"]]
    expected = sum(max(part) * len(part) - sum(part) for part in lengths)
    figures = compute_figures(data, data.sampler, pads=True)
    assert figures.padding == count_padding(data.sampler, data.column("train", "length")) == expected > 0
    assert figures.padding_share == expected / (expected + figures.tokens)


def test_the_longest_rows_have_the_most_tokens_before_they_are_cut(data):
    data = encode(data)
    longest = longest_rows(data, 4)
    full = np.sort(data.column("train", "full_length"))[::-1]
    assert [row.full_length for row in longest] == full[:4].tolist()
    assert all(row.length == MAX_LENGTH for row in longest)


def test_languages_are_counted_in_all_splits_the_most_frequent_first(data):
    data = encode(data)
    article = sample_rows()[0]["Content"]
    french = (
        "Le maire de la ville a annoncé mardi que les œufs seraient désormais interdits dans toutes les rues du centre."
    )
    spanish = (
        "El alcalde de la ciudad anunció el martes que los huevos estarán prohibidos en todas las calles del centro."
    )
    splits = {"train": [article, article, french], "validation": [article, french], "test": [spanish]}
    data.texts = {name: as_dataset(name, texts) for name, texts in splits.items()}
    assert list(count_languages(data).items()) == [("en", 3), ("fr", 2), ("es", 1)]


def test_languages_of_a_large_corpus_are_those_of_rows_at_equal_distances(data, monkeypatch):
    data = encode(data)
    looked = []
    monkeypatch.setattr(figures, "MAX_DETECTED", 4)
    monkeypatch.setattr(languages, "detect_language", lambda text: looked.append(text) or "en")
    data.texts = {"train": as_dataset("train", [f"Article {row}." for row in range(11)])}
    assert count_languages(data) == {"en": 4}
    assert looked == ["Article 0.", "Article 3.", "Article 6.", "Article 9."]


def test_near_duplicates_in_different_splits_are_found_and_those_in_one_split_are_not(data):
    data = encode(data)
    assert straddling_groups(data) == []
    articles = [" ".join(row["Content"].split()[:60]) for row in sample_rows()[:6]]
    copies = [f"{article} Again." for article in articles]
    splits = {"train": [*articles, copies[0]], "validation": copies[1:3], "test": copies[3:4]}
    data.texts = {name: as_dataset(name, texts) for name, texts in splits.items()}
    found = [sorted(group) for group in straddling_groups(data)]
    assert sorted(found) == [
        [("test", "test 0"), ("train", "train 3")],
        [("train", "train 1"), ("validation", "validation 0")],
        [("train", "train 2"), ("validation", "validation 1")],
    ]


def as_dataset(split: str, articles: list[str]) -> datasets.Dataset:
    rows = [{"headline": f"{split} {at}", "article": article} for at, article in enumerate(articles)]
    return datasets.Dataset.from_list(rows)


def test_dropped_rows_have_three_examples_for_each_reason_as_they_were_read(data):
    data = encode(data)
    examples = find_dropped(data, examine(data.paths, data.columns, data.cleaning, data.filters), 3)
    assert list(examples) == [reason for reason, count in data.report.dropped.items() if count]
    assert [row.headline for row in examples["too_short"]] == ["Brief 0", "Brief 1", "Brief 2"]
    assert examples["too_short"][0].article == "Too short 0."
    assert examples["missing_article"] == [("No Article", "")]
    assert [row.headline for row in examples["missing_headline"]] == [""]
    assert examples["ragged"] == []  # nothing of the row was kept


def test_rows_that_are_dropped_because_they_are_too_long_have_examples(data):
    data.overflow = "drop"
    data = encode(data)
    assert data.report.dropped["too_long"] > 3
    examples = find_dropped(data, examine(data.paths, data.columns, data.cleaning, data.filters), 3)["too_long"]
    kept = {headline for rows in data.texts.values() for headline in rows["headline"]}
    assert len(examples) == 3
    assert all(row.headline not in kept and len(row.article.split()) > 25 for row in examples)
