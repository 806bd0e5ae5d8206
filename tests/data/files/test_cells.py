"""Cells as text."""

import datetime
import json

import pytest

from onion_lightning.data.files.cells import NotTextError, as_text
from tests.data.conftest import body, load, texts


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("Egg", "Egg"),
        (None, None),
        (float("nan"), None),
        (7, "7"),
        (True, "True"),
        (datetime.date(2024, 5, 1), "2024-05-01"),
        (["One.", None, "Two."], "One.\n\nTwo."),
        (("One.",), "One."),
        ([], None),
        ({"rendered": "Egg", "protected": False}, "Egg"),
        ({"content": ["One.", "Two."]}, "One.\n\nTwo."),
        ({"text": None}, None),
        (b"Caf\xc3\xa9", "Café"),
    ],
)
def test_a_cell_with_one_obvious_text_is_that_text(cell, text):
    assert as_text(cell) == text


@pytest.mark.parametrize(
    "cell",
    [
        {"text": "a", "content": "b"},
        {"body": "a"},
        {"text": {"text": "a"}},
        {},
        [1, 2],
        ["a", ["b"]],
        [{"text": "a"}],
        b"Caf\xe9",
    ],
)
def test_other_lists_and_objects_are_no_text(cell):
    with pytest.raises(NotTextError):
        as_text(cell)


def test_lone_surrogates_in_json_are_replaced():
    assert as_text(json.loads('"An egg \\ud83e wins"')) == "An egg \ufffd wins"
    assert as_text(["An egg \ud83e wins"]) == "An egg \ufffd wins"


def test_a_list_or_an_object_is_never_trained_on_as_python_prints_it(tmp_path):
    rows = [
        {"title": "Egg List", "content": [body(1), body(2)]},
        {"title": {"rendered": "Egg Object"}, "content": {"rendered": body(3), "protected": False}},
        {"title": "Egg Tags", "content": [{"tag": body(4)}]},
        {"title": ["Egg", {"a": 1}], "content": body(5)},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    corpus = load(tmp_path / "a.jsonl")
    assert texts(corpus) == {"Egg List": f"{body(1)}\n\n{body(2)}", "Egg Object": body(3)}
    assert corpus.dropped["not_text"] == 2
