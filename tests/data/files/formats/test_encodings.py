"""Encodings of text files."""

import pytest

from onion_lightning.data.files.columns import Columns
from onion_lightning.errors import OnionError
from tests.data.conftest import body, load, put, texts, write_csv
from tests.data.files.conftest import ROWS, json_lines, objects

JAPANESE = (
    "なぜなのかは誰も知らないが、近所の人々は避けられなかったと語った。当局者は月曜日に、この決定はすべての市民にとって"
    "最善のものだったと発表した。一方、ニワトリたちはコメントを控えている。"
)
LANGUAGES = {  # made up: "A man won the election against an egg, officials said on Monday."
    "cp1251": ("Местный житель победил яйцо", "Чиновники сообщили об этом в понедельник, и никто не знает почему"),
    "koi8_r": ("Местный житель победил яйцо", "Чиновники сообщили об этом в понедельник, и никто не знает почему"),
    "shift_jis": ("地元の男性が卵に勝利", JAPANESE),
    "euc_jp": ("地元の男性が卵に勝利", JAPANESE),
    "gb18030": ("当地男子在选举中战胜鸡蛋", "没有人知道为什么，但邻居们说这是不可避免的，官员周一表示。"),
    "big5": ("當地男子在選舉中戰勝雞蛋", "沒有人知道為什麼，但鄰居們說這是不可避免的，官員週一表示。"),
    "cp949": ("지역 남성이 달걀을 이겼다", "관리들이 월요일에 말했다. 아무도 이유를 모르지만 불가피했다고 한다."),
    "cp1250": ("Wójt pokonał jajko", "Urzędnicy oświadczyli w poniedziałek, że nikt się nigdy nie dowie, dlaczego."),
    "cp1252": ("Le maire a été battu par l’œuf", "On a déclaré lundi que personne ne saurait jamais pourquoi, ni où."),
}


def rows_of(encoding: str) -> list[tuple[str, str, str]]:
    headline, article = LANGUAGES[encoding]
    return [(f"{headline} {i}", "t", f"{article} {i}") for i in range(5)]


@pytest.mark.parametrize("encoding", LANGUAGES)
def test_the_encoding_of_a_language_is_detected_with_one_warning(tmp_path, caplog, encoding):
    rows = rows_of(encoding)
    corpus = load(write_csv(tmp_path / "a.csv", rows, encoding=encoding), min_words=1, near_duplicates="keep")
    assert texts(corpus) == {headline: article for headline, _, article in rows}
    assert caplog.text.count("a.csv is not UTF-8 (byte ") == 1
    assert caplog.text.count("%; specify another encoding with --data.encoding.") == 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json"])
def test_unicode_with_a_byte_order_mark_is_read_without_a_warning(tmp_path, caplog, encoding, suffix):
    file = tmp_path / f"a{suffix}"
    if suffix == ".csv":
        write_csv(file, ROWS, ("title", "content"), encoding=encoding)
    else:
        file.write_text(json_lines(objects()), encoding=encoding)
    assert set(texts(load(file))) == {headline for headline, _ in ROWS}
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


ENGLISH = {
    "quotes": "Area Man Says “Egg” Isn’t His",
    "a name": "Café Opens",
    "one letter": "Naïve Egg Wins Vote Of Town",
    "one dash": "Egg – Wins",
    "signs": "£5 Egg Costs €6, ½ Off ©",
}


@pytest.mark.parametrize("headline", ENGLISH.values(), ids=ENGLISH)
def test_english_text_with_a_few_signs_is_read_as_cp1252(tmp_path, caplog, headline):
    rows = [(headline, "t", body(1).replace("—", "-")), *((f"Egg {i}", "t", "Egg " * 20) for i in range(9))]
    corpus = load(write_csv(tmp_path / "a.csv", rows, encoding="cp1252"))
    assert headline in texts(corpus)
    assert "a.csv is not UTF-8 (byte" in caplog.text
    assert "reading it as cp1252" in caplog.text


UNLIKELY = {
    "noise": bytes(range(128, 256)) * 20,
    "a few letters of another script": "Он Иванов and so on".encode("cp1251"),
    "letters of MacRoman inside words": "El jard\xedn y el pa\xeds est\xe1n aqu\xed".encode("mac_roman"),
}


@pytest.mark.parametrize("content", UNLIKELY.values(), ids=UNLIKELY)
def test_an_encoding_that_cannot_be_told_is_refused(tmp_path, content):
    (tmp_path / "a.csv").write_bytes(b"title,content\nEgg," + content + b"\n")
    with pytest.raises(
        OnionError, match=r"^--data\.path .*a\.csv: is not UTF-8 \(byte \d+\), .* of 90%; specify it with"
    ):
        load(tmp_path / "a.csv", min_words=1)


def test_utf_16_without_a_byte_order_mark_is_refused_until_it_is_given(tmp_path):
    file = write_csv(tmp_path / "a.csv", ROWS, ("title", "content"), encoding="utf-16-le")
    with pytest.raises(OnionError, match=r"without a byte-order mark, or not text; specify --data\.encoding, such as"):
        load(file)
    assert load(file, columns=Columns(encoding="utf-16-le")).kept == len(ROWS)


def test_the_flag_overrides_what_is_detected(tmp_path, caplog):
    rows = [("Egg Wins", "t", "Он Иванов " + body(1).replace("—", "-"))]
    file = write_csv(tmp_path / "a.csv", rows, encoding="cp1251")
    assert texts(load(file, columns=Columns(encoding="cp1251"))) == {"Egg Wins": rows[0][2]}
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    assert texts(load(file, columns=Columns(encoding="koi8_r")))["Egg Wins"] != rows[0][2]  # not from the cache


def test_utf8_is_given_with_or_without_a_byte_order_mark(tmp_path):
    file = write_csv(tmp_path / "a.csv", ROWS, ('"title"', "content"), encoding="utf-8-sig")
    assert load(file, columns=Columns('"title"', encoding="UTF8")).kept == len(ROWS)


def test_an_encoding_that_does_not_fit_is_refused_with_the_byte(tmp_path):
    file = write_csv(tmp_path / "a.csv", rows_of("cp1251"), encoding="cp1251")
    with pytest.raises(
        OnionError, match=r"^--data\.encoding utf-8: .*a\.csv is not utf-8-sig \(byte 30 cannot be decoded"
    ):
        load(file, columns=Columns(encoding="utf-8"))


@pytest.mark.parametrize("flag", [None, "utf-8"])
def test_a_few_damaged_bytes_are_replaced_and_reported(tmp_path, caplog, flag):
    write_csv(tmp_path / "a.csv", ROWS, ("title", "content"))
    content = (tmp_path / "a.csv").read_bytes()
    (tmp_path / "a.csv").write_bytes(content.replace("Row 3 “".encode(), b"Row 3 \xe2\x80"))
    found = set(texts(load(tmp_path / "a.csv", columns=Columns(encoding=flag))))
    assert {headline for headline, _ in ROWS} - found == {"Row 3 “q” 😀"}
    assert "Row 3 \ufffdq” 😀" in found
    assert caplog.text.count("1 characters are not valid utf-8-sig (the first at byte") == 1


def test_a_damaged_byte_beyond_the_first_megabyte_is_located(tmp_path, caplog):
    filler = "é" * 700_000
    file = put(tmp_path / "a.csv", f"title,content\nEgg,{filler}\n")
    at = len(file.read_bytes()) - 1
    file.write_bytes(file.read_bytes()[:at] + b"\xff\n")
    load(file, min_words=1)
    assert f"the first at byte {at})" in caplog.text
