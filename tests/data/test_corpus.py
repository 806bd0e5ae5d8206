"""Cleaning, deduplication and splitting of whole tables."""

import random

import pytest

from onion_lightning.data.cleaning.rows import CHANGES
from onion_lightning.data.corpus import DROP_REASONS, split_of
from onion_lightning.errors import OnionError
from tests.data.conftest import body, load, readme_table, texts, write_csv

MESS = {
    "missing_headline": [("", "t", body(1)), ("  \u200b ", "t", body(2))],
    "missing_article": [
        ("Nothing Follows", "t", ""),
        ("Space Follows", "t", " \n\xa0 "),
        ("Ad Follows", "t", "Advertisement"),
    ],
    "too_short": [("Short One", "t", "Too short to train on.")],
    "only_headline": [("Nothing But This", "t", "Nothing\nbut this.")],
    "truncated": [("Cut Off", "t", body(7) + "… [+2101 chars]")],
    "near_duplicate": [("Almost Row 2", "t", body(102).removesuffix(" or when."))],
    "repeated_headline": [("Kept Row 1", "t", body(3)), ("KEPT  ROW 1", "t", body(4))],
    "repeated_article": [("Another Title", "t", body(101))],
    "shared_article": [(f"Boilerplate {i}", "t", body(5)) for i in range(3)],
    "garbled": [("Not To Be Read", "t", f"{body(8)} ไข\u0e00\x81\x82\x83\ufffd\ufffd")],
    "ragged": [("Too", "many", body(6), "cells", "here")],
}


def test_every_bad_row_is_dropped_and_counted_once(tmp_path):
    kept = [(f"Kept Row {i}", "t", body(100 + i)) for i in range(1, 30)]
    mess = [row for rows in MESS.values() for row in rows]
    corpus = load(write_csv(tmp_path / "mess.csv", kept + mess))
    assert {k: v for k, v in corpus.dropped.items() if v} == {reason: len(rows) for reason, rows in MESS.items()}
    assert corpus.read == len(kept) + len(mess) == corpus.kept + sum(corpus.dropped.values())
    assert texts(corpus) == {headline: article for headline, _, article in kept}
    assert corpus.dropped.keys() == DROP_REASONS.keys()


def test_cleaned_rows_are_counted_by_kind_of_change(tmp_path):
    rows = [
        ("A &amp; B", "t", body(1) + "\r\nAdvertisement\r\n"),
        ("C\xa0D", "t", "C D\n" + body(2)),
        ("Plain", "t", body(3)),
    ]
    corpus = load(write_csv(tmp_path / "c.csv", rows))
    counted = {name: count for name, count in corpus.cleaned.items() if count}
    assert counted == {"html_entities": 1, "line_endings": 1, "advertisement": 1, "spaces": 2, "repeated_headline": 1}
    assert corpus.cleaned.keys() == CHANGES.keys()
    assert texts(corpus) == {"A & B": body(1), "C D": body(2), "Plain": body(3)}


def test_headlines_that_look_like_missing_values_are_kept_as_text(tmp_path):
    names = ["NA", "null", "None", "nan", "N/A", "true", "1e5", "007"]
    corpus = load(write_csv(tmp_path / "na.csv", [(name, "t", body(i)) for i, name in enumerate(names)]))
    assert set(texts(corpus)) == set(names)


UNUSUAL_TEXT = {
    "right to left": "חדשות: ביצה ניצחה",
    "emoji": "Egg 🥚👩‍🚀 Wins",
    "the template's markers": "### Headline: Egg ### Article: Wins",
    "special tokens": "</s><s><unk> Egg <|im_end|> [INST]",
    "a comma and quotes": 'Egg, "Winner," Wins',
}


@pytest.mark.parametrize("text", UNUSUAL_TEXT.values(), ids=UNUSUAL_TEXT)
def test_unusual_text_is_kept_in_headlines_and_articles(tmp_path, text):
    rows = [[f"{text} {n}", "t", f"{body(n)} {text} {n}"] for n in range(3)]
    corpus = load(write_csv(tmp_path / "a.csv", rows))
    assert texts(corpus) == {row[0]: row[2] for row in rows}
    assert sum(corpus.dropped.values()) == 0


def test_a_row_is_in_the_same_split_regardless_of_the_other_rows(tmp_path):
    rows = [(f"Row {i}", "t", body(i)) for i in range(200)]
    whole = load(write_csv(tmp_path / "whole.csv", rows))
    shuffled = random.Random(1).sample(rows, 80)
    part = load(write_csv(tmp_path / "part.csv", shuffled))
    where = {h: name for name, split in whole.splits.items() for h in split["headline"]}
    assert all(where[h] == name for name, split in part.splits.items() for h in split["headline"])
    assert all(where[h] == split_of(h.upper() + "!", 0.1, 0.1) for h in where)
    sizes = {name: len(split) for name, split in whole.splits.items()}
    assert 8 <= sizes["validation"] <= 34
    assert 8 <= sizes["test"] <= 34


@pytest.mark.parametrize("count", [2, 3, 8])
def test_a_corpus_of_a_few_rows_has_a_validation_row(tmp_path, count):
    source = write_csv(tmp_path / "few.csv", [(f"Row {i}", "t", body(i)) for i in range(count)])
    corpus = load(source, val_fraction=1e-9, test_fraction=0.0)
    assert {name: len(rows) for name, rows in corpus.splits.items()} == {"train": count - 1, "validation": 1, "test": 0}
    [headline] = corpus.splits["validation"]["headline"]
    fraction = next(
        n / 1000 for n in range(1, 1001) if "validation" in {split_of(f"Row {i}", n / 1000, 0) for i in range(count)}
    )
    assert split_of(headline, fraction, 0.0) == "validation"  # with a larger fraction, it is the first
    assert len(load(source, val_fraction=0.0, test_fraction=0.0).splits["train"]) == count


def test_an_error_reports_why_no_row_remains(tmp_path):
    with pytest.raises(OnionError, match=r"^--data\.path .*no rows remain after cleaning") as error:
        load(write_csv(tmp_path / "x.csv", [("A", "t", "b")]))
    assert "(read: 1; dropped: 1 too_short)" in str(error.value)


def test_the_readme_lists_every_drop_reason():
    assert readme_table("Why rows are dropped") == DROP_REASONS


def test_a_truncated_article_is_dropped_cut_or_kept(tmp_path):
    file = write_csv(
        tmp_path / "a.csv", [("Cut Off", "t", f"{body(1)} It was a… [+2101 chars]"), ("Whole", "t", body(2))]
    )
    assert (load(file).dropped["truncated"], load(file).kept) == (1, 1)
    cut = load(file, truncated="cut")
    assert texts(cut) == {"Cut Off": f"{body(1)} It was a", "Whole": body(2)}
    assert {row["headline"]: row["whole"] for split in cut.splits.values() for row in split} == {
        "Cut Off": False,
        "Whole": True,
    }
    assert cut.cleaned["cut_marker"] == 1
    skipped = load(file, truncated="cut", skipped=("cut_marker",))
    assert texts(skipped)["Cut Off"].endswith("[+2101 chars]")
    assert skipped.cleaned["cut_marker"] == 0
    assert texts(load(file, truncated="keep"))["Cut Off"].endswith("[+2101 chars]")


def near(number):
    """Two articles that are nearly the same, the second longer."""
    return f"{body(number)} {body(number + 1000)}", f"{body(number)} {body(number + 1000)} It was so."


def test_the_longest_of_near_duplicates_is_kept(tmp_path):
    rows = [(f"Egg {i} {j}", "t", text) for i in range(20) for j, text in enumerate(near(i))]
    corpus = load(write_csv(tmp_path / "a.csv", rows))
    assert texts(corpus) == {f"Egg {i} 1": near(i)[1] for i in range(20)}
    assert corpus.dropped["near_duplicate"] == 20


def test_near_duplicates_never_straddle_the_splits(tmp_path):
    rows = [(f"Egg {i} {j}", "t", text) for i in range(40) for j, text in enumerate(near(i))]
    file = write_csv(tmp_path / "a.csv", rows)
    kept = load(file, near_duplicates="keep", test_fraction=0.5)
    where = {row["headline"]: name for name, split in kept.splits.items() for row in split}
    assert len(where) == 80
    assert all(where[f"Egg {i} 0"] == where[f"Egg {i} 1"] for i in range(40))
    assert any(split_of(f"Egg {i} 0", 0.1, 0.5) != split_of(f"Egg {i} 1", 0.1, 0.5) for i in range(40))
    dropped = load(file, test_fraction=0.5)
    assert all(where[h] == name for name, split in dropped.splits.items() for h in split["headline"])


def test_the_validation_row_of_a_corpus_of_a_few_rows_takes_its_near_duplicates_along(tmp_path):
    rows = [(f"Egg {i} {j}", "t", text) for i in range(2) for j, text in enumerate(near(i))]
    corpus = load(write_csv(tmp_path / "a.csv", rows), near_duplicates="keep", val_fraction=1e-9, test_fraction=0.0)
    assert [len({h.split()[1] for h in corpus.splits[name]["headline"]}) for name in ("train", "validation")] == [1, 1]
    assert corpus.kept == 4


def test_the_split_of_a_group_does_not_depend_on_the_order_of_its_rows(tmp_path):
    rows = [(f"Egg {i} {j}", "t", text) for i in range(40) for j, text in enumerate(near(i))]
    splits = []
    for name, order in (("a.csv", rows), ("b.csv", rows[::-1])):
        corpus = load(write_csv(tmp_path / name, order), test_fraction=0.5)
        splits.append({h: name for name, split in corpus.splits.items() for h in split["headline"]})
    assert splits[0] == splits[1]


def test_rows_in_another_language_than_most_are_dropped_on_request(tmp_path):
    german = "Das Ei gewann am Dienstag die Wahl, und der Hund sagte, er habe davon gar nichts gesehen, wie so oft."
    rows = [(f"Egg {i}", "t", body(i)) for i in range(5)] + [("Ei", "t", german)]
    file = write_csv(tmp_path / "a.csv", rows)
    assert load(file).kept == 6
    for language, kept in (("auto", 5), ("en", 5), ("de", 1)):
        corpus = load(file, language=language)
        assert (corpus.kept, corpus.dropped["other_language"]) == (kept, 6 - kept)


def test_what_a_site_adds_is_removed_before_articles_are_too_short(tmp_path):
    rows = [
        (f"Egg {i} Wins - The Bugle", "t", f"{body(i)}\n{i} shares on all networks of this world") for i in range(8)
    ]
    rows.append(
        (
            "Short Egg - The Bugle",
            "t",
            "An egg won.\n9 shares on all networks of this world\nYes, an egg won this very vote today, they say.",
        )
    )
    corpus = load(write_csv(tmp_path / "a.csv", rows))
    assert texts(corpus) == {f"Egg {i} Wins": body(i) for i in range(8)}
    assert (corpus.cleaned["boilerplate"], corpus.cleaned["site_name"], corpus.dropped["too_short"]) == (9, 9, 1)
    as_is = load(tmp_path / "a.csv", skipped=("boilerplate", "site_name"))
    assert "Egg 1 Wins - The Bugle" in texts(as_is)
    assert as_is.cleaned["boilerplate"] == as_is.cleaned["site_name"] == 0
