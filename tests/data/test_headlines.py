"""The headlines that `predict` writes articles for."""

import io
import os
import sys

import pytest

from onion_lightning.data.headlines import load_headlines, read_stream
from onion_lightning.errors import OnionError
from tests.data.conftest import put


def test_headlines_are_each_put_on_one_line(tokenizer, tmp_path):
    file = put(tmp_path / "h.txt", "Third\n\n  Fourth\tOne \n")
    assert load_headlines(["First", " Second\nOne"], None, tokenizer, 512) == ["First", "Second One"]
    assert load_headlines(None, str(file), tokenizer, 512) == ["Third", "Fourth One"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("h.csv", 'x,HEADLINE\n1,"Egg, Wins"\n2,Man Loses\n'),
        ("h.tsv", "Title\tx\nEgg, Wins\t1\nMan Loses\t2\n"),
        ("h.jsonl", '{"title": "Egg, Wins"}\n\n{"x": 1, "Headline": "Man Loses"}\n'),
        ("h.ndjson", '{"title": "Egg, Wins"}\n{"title": "Man Loses"}'),
    ],
)
def test_the_headline_column_of_a_table_is_found_in_any_case(tokenizer, tmp_path, name, text):
    assert load_headlines(None, str(put(tmp_path / name, text)), tokenizer, 512) == ["Egg, Wins", "Man Loses"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("h.csv", "a,b\n1,2\n", "no column named title or headline; the columns are a, b"),
        ("h.csv", "", "the columns are (none)"),
        ("h.jsonl", "[1, 2]\n", "the columns are (none)"),
        ("h.csv", "title,x\nEgg,1\n,2\n", "headline 2 of 2 is blank; remove it"),
        ("h.txt", "\n\n", "no headlines"),
        ("h.txt", "word " * 600, "but the model's context length is 512; shorten it"),
    ],
)
def test_unusable_headlines_give_an_error_that_names_the_file(tokenizer, tmp_path, name, text, message):
    file = put(tmp_path / name, text)
    with pytest.raises(OnionError) as error:
        load_headlines(None, str(file), tokenizer, 512)
    assert str(error.value).startswith(f"--data.headlines_file {file}: ")
    assert message in str(error.value)


def test_a_headlines_file_that_is_not_utf8_is_refused(tokenizer, tmp_path):
    (tmp_path / "h.txt").write_bytes(b"Caf\xe9 Opens\n")
    with pytest.raises(OnionError, match=r"h\.txt: is not UTF-8 \(.+\); save it as UTF-8\.$"):
        load_headlines(None, str(tmp_path / "h.txt"), tokenizer, 512)


@pytest.fixture
def pipe():
    """Returns the path of a pipe that contains two headlines, as a shell's `<(...)` does."""
    reader, writer = os.pipe()
    os.write(writer, b"\xef\xbb\xbfEgg: Wins\r\n\nMan Loses\n")
    os.close(writer)
    yield f"/dev/fd/{reader}"
    os.close(reader)


def test_headlines_are_read_from_a_pipe(tokenizer, pipe):
    found = load_headlines(None, pipe, tokenizer, 512, read_stream(pipe))
    assert found == ["Egg: Wins", "Man Loses"]


def test_headlines_are_read_from_standard_input(tokenizer, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("Egg “Wins”\n".encode())))
    assert load_headlines(None, "-", tokenizer, 512, read_stream("-")) == ["Egg “Wins”"]


def test_an_empty_or_closed_standard_input_is_refused(tokenizer, monkeypatch):
    with pytest.raises(OnionError, match=r"--data\.headlines_file -: no headlines; give"):
        load_headlines(None, "-", tokenizer, 512, b"")
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(OnionError, match=r"--data\.headlines_file -: standard input is closed; give a file"):
        read_stream("-")


def test_an_ordinary_file_is_not_read_as_a_stream(tmp_path):
    assert read_stream(str(put(tmp_path / "h.txt", "Egg\n"))) is None
    assert read_stream(str(tmp_path)) is None
    assert read_stream("none.txt") is None
