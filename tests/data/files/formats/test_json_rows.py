"""Rows read from JSON in its usual shapes."""

import json

import pytest

from onion_lightning.data.files.columns import OTHER_NAMES
from onion_lightning.data.files.formats import json_rows
from onion_lightning.errors import OnionError
from tests.data.conftest import body, load, put, texts
from tests.data.files.conftest import ROWS, dump, json_lines, objects

LINES = json_lines(objects())
ARRAY = dump(objects())
SHAPES = {
    "lines": LINES,
    "lines after a blank one": f"\n  \n{LINES}\n\n",
    "lines with CRLF": LINES.replace("\n", "\r\n"),
    "array": ARRAY,
    "indented array": dump(objects(), indent=2),
    "an object per line in an array": "[\n" + LINES.replace("\n", ",\n") + "\n]",
    "object with one array": dump({"status": "ok", "tags": ["a"], "meta": {"n": [1]}, "data": objects(), "next": None}),
    "indented object with one array": dump({"count": 12, "rows": objects()}, indent=1),
    "indented objects": "\n".join(dump(row, indent=2) for row in objects()),
    "objects with arrays": json_lines([{**row, "tags": [{"name": "egg"}]} for row in objects()]),
    "indented objects with arrays": "\n".join(dump({**row, "tags": [{"a": 1}]}, indent=2) for row in objects()),
}


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".ndjson"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_json_is_read_under_every_suffix(tmp_path, shape, suffix):
    corpus = load(put(tmp_path / f"a{suffix}", SHAPES[shape]))
    assert corpus.read == len(ROWS)
    assert set(texts(corpus)) == {headline for headline, _ in ROWS}


@pytest.mark.parametrize("shape", ["array", "object with one array", "indented objects"])
def test_a_document_is_read_in_pieces(tmp_path, monkeypatch, shape):
    monkeypatch.setattr(json_rows, "FIRST_READ", 7)
    assert load(put(tmp_path / "a.json", SHAPES[shape])).read == len(ROWS)


def test_a_number_at_the_end_of_a_piece_is_read_whole(tmp_path, monkeypatch):
    rows = [{"title": 1234567890123, "content": body(1)}]
    for size in range(1, 20):
        monkeypatch.setattr(json_rows, "FIRST_READ", size)
        assert list(texts(load(put(tmp_path / f"{size}.json", dump({"total": 123456789, "rows": rows}))))) == [
            "1234567890123"
        ]


def test_a_large_array_is_not_read_into_memory_at_once(tmp_path, monkeypatch):
    rows = [{"title": f"Egg {i}", "content": body(i)} for i in range(3000)]
    longest = []
    read = json_rows.Document.read
    monkeypatch.setattr(json_rows.Document, "read", lambda self: [read(self), longest.append(len(self.text))])
    assert load(put(tmp_path / "a.json", dump({"data": rows}))).read == 3000
    assert max(longest) < 2 * json_rows.FIRST_READ


def test_invalid_lines_do_not_fail_a_jsonl_file(tmp_path):
    good = json.dumps({"title": "Good", "content": body(1)})
    lines = [
        *(good, "{broken", "[1, 2]", "", '{"title": NaN, "content": "x"}', '{"content": "x"}'),
        '{"title": null, "content": null}',
    ]
    corpus = load(put(tmp_path / "x.jsonl", "\n".join(lines)))
    assert corpus.dropped["unreadable"] == 2
    assert corpus.dropped["missing_headline"] == 3
    assert corpus.kept == 1


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_an_object_around_the_rows_may_have_the_name_of_a_column_of_prompts(tmp_path, name):
    rows = [{"title": f"Egg {i}", "content": body(i)} for i in range(3)]
    file = put(tmp_path / "a.json", json.dumps({name: "x", "data": rows}))
    assert texts(load(file)) == {row["title"]: row["content"] for row in rows}


def test_a_broken_first_line_costs_its_row_alone(tmp_path):
    for first in ('{"title": "Brok', "# comment", "[1, 2]"):
        corpus = load(put(tmp_path / "x.jsonl", f"{first}\n{LINES}"))
        assert (corpus.read, corpus.dropped["unreadable"]) == (len(ROWS) + 1, 1)


def test_only_the_jsonl_records_that_lack_a_key_are_dropped(tmp_path):
    lines = [{"title": "Lacks"}, {"Title": "Good", "CONTENT": body(1)}, {"headline": "Other Names", "text": body(2)}]
    corpus = load(put(tmp_path / "x.jsonl", json_lines(lines)))
    assert set(texts(corpus)) == {"Good", "Other Names"}
    assert corpus.dropped["missing_article"] == 1


def test_a_lone_surrogate_costs_at_most_its_row(tmp_path):
    lines = [json.dumps({"title": "An egg \ud83d wins", "content": body(1), "\ud83d": 1}), json.dumps(objects()[0])]
    put(tmp_path / "a.jsonl", "\n".join(lines))
    assert list(texts(load(tmp_path / "a.jsonl"))) == ["An egg \ufffd wins", ROWS[0][0]]


def test_the_bytes_of_a_lone_surrogate_cost_at_most_its_row(tmp_path):
    rows = [f'{{"title": "Café {i} “Egg”", "content": "{body(i)}"}}' for i in range(20)]
    lines = "\n".join(rows).encode().replace("3 “".encode(), b"3 \xed\xa0\xbd")
    (tmp_path / "a.jsonl").write_bytes(lines)
    assert set(texts(load(tmp_path / "a.jsonl"))) > {f"Café {i} “Egg”" for i in range(20) if i not in (3, 13)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the columns are (none: the file is empty)"),
        ("[1, 2]", "the columns are (none: no row is an object with columns)"),
        (
            '{"a": [{"title": "x"}], "b": [{"title": "y"}]}',
            "contains more than one array of objects, 'a' and 'b'; save",
        ),
        ('[{"title": "x"}, {"title": ]', "is not valid JSON after row 1 (Expecting value"),
        ('[{"title": "x"} {"title": "y"}]', "is not valid JSON after row 1 ('{' instead of ','); export it again"),
        ('[{"title": "x"},', "is not valid JSON after row 1 (Expecting value"),
        ("[" * 100_000, "is not valid JSON (it is nested too deeply)"),
    ],
)
def test_json_without_rows_gives_a_one_sentence_error(tmp_path, text, message):
    with pytest.raises(OnionError, match=r"^--data\.path ") as error:
        load(put(tmp_path / "x.json", text))
    assert message in str(error.value)
