"""UTF-8 that was decoded with another encoding before it came into a file."""

import json
import logging

import pytest

from onion_lightning.data.cleaning.settings import Cleaning, Filters
from onion_lightning.data.corpus import examine
from onion_lightning.data.files.cells import RawRow
from onion_lightning.data.files.misread import ENCODINGS, decode_again, find_misreading
from tests.data.conftest import body, load, misread, texts, write_csv

TEXTS = {
    "thai": "ไข่ชนะการเลือกตั้งวันนี้ ภาษาไทยเป็นเรื่องตลกมาก เจ้าหน้าที่กล่าวว่าไม่มีใครรู้เหตุผล",
    "russian": "Яйцо победило на выборах, сообщили чиновники. «Никто не знает, почему», — добавили они.",
    "french": "L’œuf a gagné l’élection, selon la préfecture. « Personne ne sait où », a ajouté le maire à côté.",
    "hebrew": "ביצה ניצחה בבחירות, אמרו פקידים ביום שני. איש אינו יודע מדוע.",
}


def rows(text, count=20):
    return [RawRow(headline=f"{n} {text[:30]}", article=f"{n} {text}", problem="", misread="") for n in range(count)]


def broken(text, encoding, count=20):
    return [row | {name: misread(row[name], encoding) for name in ("headline", "article")} for row in rows(text, count)]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_text_is_decoded_again_exactly(encoding):
    for text in TEXTS.values():
        assert decode_again(misread(text, encoding), encoding) == text


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("thai", "cp874"),
        ("thai", "cp1252"),
        ("russian", "cp1251"),
        ("russian", "cp866"),
        ("french", "cp1252"),
        ("hebrew", "cp1255"),
    ],
)
def test_the_encoding_of_a_file_is_found_and_named(caplog, text, encoding):
    assert find_misreading(broken(TEXTS[text], encoding), "eggs.csv") == encoding
    assert f"eggs.csv: the text is UTF-8 that was decoded as {encoding}, in 20 of the first 20 rows" in caplog.text


@pytest.mark.parametrize("text", TEXTS)
def test_good_text_is_explained_by_no_encoding(text):
    assert find_misreading(rows(TEXTS[text]), "eggs.csv") == ""


def test_nine_in_ten_rows_beyond_ascii_decide():
    plain = rows("An egg won.", 100)
    assert find_misreading(plain, "eggs.csv") == ""
    assert find_misreading([], "eggs.csv") == ""
    assert find_misreading(plain + broken(TEXTS["thai"], "cp874", 18) + rows(TEXTS["thai"], 2), "eggs.csv") == "cp874"
    assert find_misreading(plain + broken(TEXTS["thai"], "cp874", 17) + rows(TEXTS["thai"], 3), "eggs.csv") == ""


def test_few_letters_that_can_be_decoded_are_a_coincidence():
    assert decode_again("SAN JOSÉ—An egg", "cp1252") == "SAN JOSɗAn egg"
    assert find_misreading(rows("SAN JOSÉ—An egg won."), "eggs.csv") == ""


def test_a_no_break_space_that_became_a_space_is_restored():
    assert decode_again(misread("ภาษา", "cp874").replace("\xa0", " "), "cp874") == "ภาษา"


def write_workbook(path, pairs):
    from openpyxl import Workbook

    book = Workbook()
    for pair in [("Title", "Content"), *pairs]:
        book.active.append(pair)
    book.save(path)
    return path


def thai_rows(count):
    words = TEXTS["thai"].split()
    return [
        (f"{words[n % 3]} {n}", f"{n} {TEXTS['thai']} {words[n % 2]} {n * n} " + " ".join(words[::-1]))
        for n in range(count)
    ]


def test_a_misread_workbook_is_repaired_row_by_row(tmp_path, caplog):
    good = thai_rows(28)
    pairs = [tuple(misread(text, "cp874") for text in pair) for pair in good]
    pairs[3] = good[3]  # was never broken
    file = write_workbook(tmp_path / "eggs.xlsx", pairs)
    with caplog.at_level(logging.WARNING):
        corpus = load(file, near_duplicates="keep", min_words=5)
    assert texts(corpus) == dict(good)
    assert (corpus.cleaned["encoding"], corpus.misread) == (27, {"cp874": 27})
    assert "decoded as cp874, in 27 of the first 28 rows" in caplog.text
    left = load(file, near_duplicates="keep", min_words=5, skipped=("encoding",))
    assert (left.cleaned["encoding"], left.misread, left.dropped["garbled"]) == (0, {}, 0)


def test_garbled_rows_are_dropped_and_counted_rather_than_changed(tmp_path):
    lost = [tuple(misread(text, "cp874").replace("เธ", "เธ\x81") for text in pair) for pair in thai_rows(3)]
    fine = [(f"Egg {n}", f"{body(n)} “It’s São.”\u0378") for n in range(5)]
    corpus = load(write_csv(tmp_path / "a.csv", [*lost, *fine], header=("Title", "Content")))
    assert (corpus.dropped["garbled"], corpus.kept) == (3, 5)
    assert corpus.cleaned["encoding"] == 0


def test_each_file_of_a_folder_is_judged_alone(tmp_path):
    thai, russian = thai_rows(10), [(f"Яйцо {n}", f"{n} {TEXTS['russian']} {body(n)}") for n in range(10)]
    write_csv(
        tmp_path / "a.csv", [[misread(text, "cp874") for text in pair] for pair in thai], header=("Title", "Content")
    )
    lines = [json.dumps({"title": misread(h, "cp1251"), "text": misread(a, "cp1251")}) for h, a in russian]
    (tmp_path / "b.jsonl").write_text("\n".join(lines))
    write_csv(tmp_path / "c.csv", [("Good", body(99))], header=("Title", "Content"))
    corpus = load(tmp_path, near_duplicates="keep", min_words=5)
    assert texts(corpus) == dict([*thai, *russian, ("Good", body(99))])
    assert corpus.misread == {"cp874": 10, "cp1251": 10}
    found = examine([str(tmp_path)], (None, None), Cleaning(), Filters())
    assert found.raw["misread"] == ["cp874"] * 10 + ["cp1251"] * 10 + [""]
