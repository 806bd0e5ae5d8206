"""The data module's flags, and what it saves in a checkpoint."""

import contextlib
import json
import os

import lightning.pytorch as pl
import pytest

from onion_lightning.data.module import OnionDataModule
from onion_lightning.errors import OnionError
from tests.data.conftest import body, put


@pytest.fixture
def make(tiny_base, corpus_file):
    """Builds a data module on the tiny model and the small corpus."""

    def build(**more):
        settings = {"path": str(corpus_file), "base_model": str(tiny_base), "val_fraction": 0.2, "test_fraction": 0.15}
        return OnionDataModule(**(settings | {"max_length": 200} | more))

    return build


@pytest.mark.parametrize(
    ("flag", "value", "accepted"),
    [
        ("batch_size", 0, "at least 1"),
        ("global_batch_size", 0, "at least 1"),
        ("predict_batch_size", 0, "at least 1"),
        ("max_length", 7, "at least 8"),
        ("min_words", -1, "at least 0"),
        ("num_workers", -1, f"from 0 to {4 * os.cpu_count()}, four for each CPU"),
        ("val_fraction", 1.0, "at least 0 and less than 1"),
        ("test_fraction", -0.1, "at least 0 and less than 1"),
    ],
)
def test_a_value_out_of_range_is_refused(make, flag, value, accepted):
    with pytest.raises(OnionError) as error:
        make(**{flag: value})
    assert str(error.value) == f"--data.{flag} {value}: must be {accepted}."


def test_a_jsonl_file_with_a_lone_surrogate_loses_at_most_its_row(make, tmp_path):
    rows = [{"title": f"Egg {i}", "content": body(i)} for i in range(20)] + [{"title": "\ud83d", "content": "\ud83d"}]
    data = make(path=str(put(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))))
    data.setup("test")
    assert (data.report.read, data.report.kept) == (21, 20)


def test_the_old_name_of_a_cleaning_rule_turns_it_off(make):
    data = make(skip_cleaning=["markdown_links", "html_tags"])
    assert data.cleaning.skipped == ("markdown", "html_tags")
    assert data.flags()["skip_cleaning"] == ["markdown", "html_tags"]


def test_the_flags_for_reading_reach_the_file(make, tmp_path):
    rows = [{"title": f"Ego {i}", "text": f"Он Иванов; {body(i)}".replace("—", "-")} for i in range(20)]
    lines = [f'{row["title"]}|"{row["text"]} ^"Egg^" 1"' for row in rows]
    (tmp_path / "a.csv").write_bytes("\n".join(["title|text", *lines]).encode("cp1251"))
    data = make(path=str(tmp_path / "a.csv"), encoding="cp1251", delimiter="|", escapechar="^")
    data.setup("test")
    found = {row["article"] for split in data.texts.values() for row in split}
    assert found == {f'{row["text"]} "Egg" 1' for row in rows}


def test_one_character_cannot_separate_cells_and_escape_quotes(make):
    with pytest.raises(OnionError, match=r"^--data\.escapechar ;: is the --data\.delimiter too"):
        make(delimiter=";", escapechar=";")


def test_a_separator_divides_one_column(make):
    with pytest.raises(
        OnionError, match=r"^--data\.separator ' - ': divides one column; omit --data\.headline_column or"
    ):
        make(separator=" - ", headline_column="a", article_column="b")


def test_the_separator_reaches_the_file(make, tmp_path):
    rows = [{"text": f"Egg {i} - {body(i)}"} for i in range(20)]
    data = make(path=str(put(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))), separator=" - ")
    data.setup("test")
    found = {row["headline"]: row["article"] for split in data.texts.values() for row in split}
    assert found == {f"Egg {i}": body(i) for i in range(20)}


def test_fractions_that_leave_no_training_rows_are_refused(make):
    with pytest.raises(OnionError, match=r"^--data\.val_fraction 0\.5: with --data\.test_fraction 0\.5 leaves no rows"):
        make(val_fraction=0.5, test_fraction=0.5)


def test_a_context_length_that_is_too_small_is_reported_before_the_corpus_is_read(make):
    with pytest.raises(
        OnionError, match=r"^--data\.max_length 513: the context length is 512 tokens for .* at most 512"
    ):
        make(max_length=513, path="nowhere.csv").encode()


def test_setup_gives_ids_texts_and_the_report(make):
    data = make()
    data.setup("test")
    assert data.report.read == 43
    assert {split: len(rows) for split, rows in data.encoded.items()} == data.report.splits
    assert len(data.texts["test"]) == data.report.splits["test"] > 0


@pytest.mark.parametrize(
    ("stage", "more", "message"),
    [
        (
            "validate",
            {"val_fraction": 0.0},
            "--data.val_fraction 0.0: leaves no validation rows among the 43 that remain",
        ),
        ("test", {"test_fraction": 0.0}, "--data.test_fraction 0.0: leaves no test rows among the 43 that remain"),
        ("fit", {"val_fraction": 0.9, "test_fraction": 0.0999}, "leaves no train rows"),
    ],
)
def test_an_empty_split_is_refused_where_it_is_needed(make, stage, more, message):
    data = make(**more)
    with pytest.raises(OnionError) as error:
        data.setup(stage)
    assert message in str(error.value)
    assert f"give a {'smaller' if stage == 'fit' else 'larger'} fraction, or more rows." in str(error.value)


def test_the_fingerprint_depends_on_rows_seed_and_global_batch_size_but_not_on_the_micro_batch(make):
    def fingerprint(**more):
        data = make(**({"seed": 1} | more))
        data.setup("test")
        return data.fingerprint

    first = fingerprint()
    assert fingerprint(batch_size=1, num_workers=2) == first
    changes = ({"seed": 2}, {"global_batch_size": 32}, {"max_length": 150}, {"min_words": 25})
    assert len({first, *(fingerprint(**change) for change in changes)}) == 5


def test_the_fingerprint_depends_on_where_an_article_ends(make, tmp_path):
    prints = []
    for end in ("", "… [+2101 chars]"):
        rows = "".join(f"Row {i},{body(i).replace(',', '').rstrip('.')}{end}\n" for i in range(40))
        data = make(path=str(put(tmp_path / "rows.csv", f"title,content\n{rows}")), seed=1, truncated="cut")
        data.setup("test")
        prints.append((data.fingerprint, data.texts["train"]["article"][0]))
    assert prints[0][1] == prints[1][1]
    assert prints[0][0] != prints[1][0]


@pytest.mark.parametrize(("flags", "sizes"), [({}, [2, 2, 1]), ({"predict_batch_size": 4}, [4, 1])])
def test_articles_are_written_for_predict_batch_size_headlines_at_a_time(make, flags, sizes):
    data = make(headlines=[f"Egg {i}" for i in range(5)], batch_size=2, **flags)
    data.trainer = pl.Trainer(accelerator="cpu", devices=1, logger=False)
    data.setup("predict")
    assert [len(batch["headlines"]) for batch in data.predict_dataloader()] == sizes


def test_a_fraction_of_the_headlines_is_one_of_such_batches(make):
    headlines = [f"Egg {i}" for i in range(8)]
    trainer = pl.Trainer(accelerator="cpu", devices=1, logger=False, limit_predict_batches=0.25)
    for size, enough in ((2, True), (4, False)):  # of 4 batches, and of 2
        data = make(headlines=headlines, batch_size=1, predict_batch_size=size)
        data.trainer = trainer
        with contextlib.nullcontext() if enough else pytest.raises(OnionError, match="is less than one batch"):
            data.setup("predict")
