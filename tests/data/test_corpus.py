import csv
import json
import random

import pytest

from onion_lightning.data.corpus import CHANGES, DROP_REASONS, load_corpus, split_of
from onion_lightning.data.reading import fingerprint
from onion_lightning.errors import OnionError

BODY = (
    "TOLEDO, OH—Citing the egg, officials said on Monday that number {} had been counted twice and that"
    " nobody would ever know why or when."
)


def body(number):
    return BODY.format(f"{number} " + " ".join(random.Random(number).choices("abcdefgh", k=6)))


def write_csv(path, rows, header=("Title", "Published Time", "Content"), **options):
    with path.open("w", newline="", encoding=options.pop("encoding", "utf-8")) as stream:
        writer = csv.writer(stream, **options)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def put(path, text):
    path.write_text(text)
    return path


def load(path, **more):
    return load_corpus(
        str(path), **({"columns": (None, None), "min_words": 20, "val_fraction": 0.1, "test_fraction": 0.1} | more)
    )


def texts(corpus):
    return {row["headline"]: row["article"] for split in corpus.splits.values() for row in split}


MESS = {
    "missing_headline": [("", "t", body(1)), ("  \u200b ", "t", body(2))],
    "missing_article": [
        ("Nothing Follows", "t", ""),
        ("Space Follows", "t", " \n\xa0 "),
        ("Ad Follows", "t", "Advertisement"),
    ],
    "too_short": [("Short One", "t", "Too short to train on.")],
    "repeated_headline": [("Kept Row 1", "t", body(3)), ("KEPT  ROW 1", "t", body(4))],
    "repeated_article": [("Another Title", "t", body(101))],
    "shared_article": [(f"Boilerplate {i}", "t", body(5)) for i in range(3)],
    "ragged": [("Too", "many", body(6), "cells", "here")],
}


def test_every_kind_of_mess_is_dropped_and_counted_once(tmp_path):
    kept = [(f"Kept Row {i}", "t", body(100 + i)) for i in range(1, 30)]
    mess = [row for rows in MESS.values() for row in rows]
    corpus = load(write_csv(tmp_path / "mess.csv", kept + mess))
    assert {k: v for k, v in corpus.dropped.items() if v} == {reason: len(rows) for reason, rows in MESS.items()}
    assert corpus.read == len(kept) + len(mess) == corpus.kept + sum(corpus.dropped.values())
    assert texts(corpus) == {headline: article for headline, _, article in kept}
    assert corpus.dropped.keys() == DROP_REASONS.keys()


def test_cleaning_is_counted_by_kind(tmp_path):
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


def test_headlines_that_look_like_missing_values_stay_text(tmp_path):
    names = ["NA", "null", "None", "nan", "N/A", "true", "1e5", "007"]
    corpus = load(write_csv(tmp_path / "na.csv", [(name, "t", body(i)) for i, name in enumerate(names)]))
    assert set(texts(corpus)) == set(names)


def test_the_same_table_is_read_from_every_format(tmp_path):
    import pyarrow
    import pyarrow.parquet

    rows = [(f"Row {i} “q” 😀", "t", body(i) + '\nSecond\u2028line, with "quotes" and é') for i in range(12)]
    write_csv(tmp_path / "a.csv", rows)
    write_csv(tmp_path / "b.tsv", rows, delimiter="\t")
    objects = [{"TITLE": h, "Body": a} for h, _, a in rows]
    (tmp_path / "c.jsonl").write_text("\n".join(json.dumps(o, ensure_ascii=False) for o in objects), encoding="utf-8")
    table = {"headline": [h for h, _, _ in rows], "text": [a for _, _, a in rows]}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "d.parquet")
    write_csv(tmp_path / "e.csv", rows, encoding="utf-8-sig")
    read = [texts(load(tmp_path / name)) for name in ("a.csv", "b.tsv", "c.jsonl", "d.parquet", "e.csv")]
    assert all(one == read[0] for one in read)
    assert len(read[0]) == 12


def test_a_directory_is_read_as_one_table(tmp_path):
    write_csv(tmp_path / "1.csv", [("One", "t", body(1))])
    (tmp_path / "sub").mkdir()
    write_csv(tmp_path / "sub" / "2.csv", [("Two", "t", body(2)), ("One", "t", body(3))])
    (tmp_path / "notes.txt").write_text("not a table")
    corpus = load(tmp_path)
    assert texts(corpus) == {"One": body(1), "Two": body(2)}
    assert corpus.dropped["repeated_headline"] == 1


def test_a_file_that_is_not_utf8_is_read_as_cp1252_and_told(tmp_path, caplog):
    rows = [("Caf\xe9 \x93Open\x94".encode("latin-1").decode("cp1252"), "t", body(1))]
    corpus = load(write_csv(tmp_path / "old.csv", rows, encoding="cp1252"))
    assert set(texts(corpus)) == {"Café “Open”"}
    assert "not UTF-8" in caplog.text


def test_bad_lines_never_fail_a_jsonl_file(tmp_path):
    good = json.dumps({"title": "Good", "content": body(1)})
    lines = [
        good,
        "{broken",
        "[1, 2]",
        "",
        '{"title": NaN, "content": "x"}',
        '{"content": "x"}',
        '{"title": null, "content": null}',
    ]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    corpus = load(tmp_path / "x.jsonl")
    assert corpus.dropped["unreadable"] == 2
    assert corpus.dropped["missing_headline"] == 3
    assert corpus.kept == 1


def test_a_jsonl_whose_first_record_lacks_a_key_loses_that_record_alone(tmp_path):
    lines = [{"title": "Lacks"}, {"Title": "Good", "CONTENT": body(1)}, {"headline": "Other Names", "text": body(2)}]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, lines)))
    corpus = load(tmp_path / "x.jsonl")
    assert set(texts(corpus)) == {"Good", "Other Names"}
    assert corpus.dropped["missing_article"] == 1


def test_a_delimiter_at_the_end_of_each_row_drops_nothing(tmp_path):
    rows = [(f"Row {i}", "t", body(i), "") for i in range(5)]
    assert load(write_csv(tmp_path / "x.csv", rows)).kept == 5


def test_cells_of_a_megabyte_are_read(tmp_path):
    long = "word " * 210_000
    corpus = load(write_csv(tmp_path / "big.csv", [("Big", "t", long)]))
    assert texts(corpus) == {"Big": long.strip()}


def test_a_row_lands_in_the_same_split_whatever_else_the_file_holds(tmp_path):
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


def test_a_second_start_reads_the_cache_and_an_edited_file_does_not(tmp_path, monkeypatch):
    file = write_csv(tmp_path / "c.csv", [(f"Row {i}", "t", body(i)) for i in range(5)])
    load(file)
    calls = []
    monkeypatch.setattr("onion_lightning.data.corpus.clean_one", lambda *a, **k: calls.append(a))
    before = fingerprint(file)
    assert load(file).kept == 5
    assert calls == []
    monkeypatch.undo()
    write_csv(file, [(f"Row {i}", "t", body(i)) for i in range(6)])
    assert fingerprint(file) != before
    assert load(file).kept == 6


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: p / "none.csv", "no such file"),
        (lambda p: write_csv(p / "x.csv", [], header=("a", "b")), "'a', 'b'"),
        (lambda p: put(p / "empty.csv", ""), "the file is empty"),
        (lambda p: put(p / "empty.jsonl", ""), "the file is empty"),
        (lambda p: write_csv(p / "x.csv", []), "has no rows"),
        (lambda p: write_csv(p / "x.csv", [("A", "t", "b")]), "1 too_short"),
        (lambda p: put(p / "x.txt", "a"), "not read"),
        (lambda p: put(p / "x.parquet", "a"), "not a Parquet file"),
        (lambda p: p, "holds no"),
        (lambda p: put(p / "x.jsonl", "[1, 2]"), "no column named"),
    ],
)
def test_a_corpus_that_cannot_be_used_is_one_sentence(tmp_path, make, says):
    with pytest.raises(OnionError, match=r"^--data\.path ") as error:
        load(make(tmp_path))
    assert says in str(error.value)


def test_kaggle_without_its_extra_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "kagglehub", None)
    with pytest.raises(OnionError, match=r"pip install 'onion_lightning\[kaggle\]'"):
        load("kaggle:undefinenull/satirical-news-from-the-onion")


STAYS_TEXT = {
    "right to left": "חדשות: ביצה ניצחה",
    "emoji": "Egg 🥚👩‍🚀 Wins",
    "mojibake": "Area Manâ€™s Egg",
    "the template's markers": "### Headline: Egg ### Article: Wins",
    "special tokens": "</s><s><unk> Egg <|im_end|> [INST]",
    "a comma and quotes": 'Egg, "Winner," Wins',
}


@pytest.mark.parametrize("text", STAYS_TEXT.values(), ids=STAYS_TEXT)
def test_what_looks_odd_is_text_in_headlines_and_articles(tmp_path, text):
    rows = [[f"{text} {n}", "t", f"{body(n)} {text} {n}"] for n in range(3)]
    corpus = load(write_csv(tmp_path / "a.csv", rows))
    assert texts(corpus) == {row[0]: row[2] for row in rows}
    assert sum(corpus.dropped.values()) == 0


def test_a_quoted_newline_stays_and_a_row_of_its_own_it_is_not(tmp_path):
    corpus = load(
        write_csv(tmp_path / "a.csv", [["Egg Wins", "t", f"{body(1)}\n\nSecond, line"], ["Egg Two", "t", body(2)]])
    )
    assert corpus.read == 2
    assert texts(corpus)["Egg Wins"].endswith("\n\nSecond, line")


def test_a_quote_that_is_never_closed_is_told(tmp_path, caplog):
    text = f'Title,Content\nEgg One,{body(1)}\nEgg Two,"{body(2)}\nEgg Three,{body(3)}\n'
    corpus = load(put(tmp_path / "a.csv", text))
    assert corpus.read == 2
    assert "a quote that opens in line 3 is never closed" in caplog.text
