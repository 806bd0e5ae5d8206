"""Every form of a pair is the same pair, and each row that is left out is counted."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from onion_lightning.data.preferences.reading import PreferencePair, read_pairs
from onion_lightning.data.prompt import format_prompt
from onion_lightning.errors import OnionError
from tests.pairs import some_pairs, write_pairs

ASK = "Write a satirical article for this headline: "
HEADLINES = ("Egg Wins", "Man Loses", "Cheese Speaks")


def plain(prompt):
    return [{"prompt": prompt(one), "chosen": f"{one} well.", "rejected": f"{one} badly."} for one in HEADLINES]


def turns(role, text):
    return [{"role": role, "content": text}]


def chat(prompt, explicit):
    rows = plain(prompt)
    for row in rows:
        asked = turns("user", row.pop("prompt"))
        answers = {name: turns("assistant", row[name]) for name in ("chosen", "rejected")}
        row |= {"prompt": asked, **answers} if explicit else {name: asked + one for name, one in answers.items()}
    return rows


def read(folder, rows):
    return read_pairs(write_pairs(folder / "pairs.jsonl", rows))


EXPECTED = [PreferencePair(one, f"{one} well.", f"{one} badly.") for one in HEADLINES]


@pytest.mark.parametrize(
    "rows",
    [
        plain(format_prompt),
        plain(str),
        plain(ASK.__add__),
        chat(ASK.__add__, explicit=True),
        chat(str, explicit=True),
        chat(ASK.__add__, explicit=False),
    ],
    ids=["votes", "headlines", "prompts", "chats", "chats of headlines", "chats with the prompt"],
)
def test_every_form_of_a_pair_is_the_same_pair(tmp_path, rows):
    found = read(tmp_path, rows)
    assert found.pairs == EXPECTED
    assert (found.read, sum(found.dropped.values())) == (3, 0)


def test_headlines_of_this_projects_prompts_stay_whole_although_they_begin_alike(tmp_path):
    rows = plain(lambda one: format_prompt(f"Area Man Says {one}"))
    assert [pair.headline for pair in read(tmp_path, rows).pairs] == [f"Area Man Says {one}" for one in HEADLINES]


def test_json_parquet_and_compressed_files_have_the_same_pairs(tmp_path):
    rows = chat(str, explicit=True)
    (tmp_path / "a.json").write_text(json.dumps(rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert [read_pairs(str(tmp_path / name)).pairs for name in ("a.json", "a.parquet")] == [EXPECTED, EXPECTED]


def test_ties_identical_and_missing_articles_are_left_out_and_counted(tmp_path):
    one, other, third = plain(str)
    turned = {"prompt": one["prompt"], "chosen": one["rejected"], "rejected": one["chosen"]}
    same = other | {"rejected": other["chosen"]}
    blank, lacking, number = other | {"chosen": " "}, {"prompt": "Egg", "chosen": "Egg."}, other | {"chosen": {"a": 1}}
    found = read(tmp_path, [one, turned, same, blank, lacking, number, third, third])
    assert found.pairs == [EXPECTED[2]] * 2
    assert {name: count for name, count in found.dropped.items() if count} == {
        "not_text": 1,
        "missing": 2,
        "identical": 1,
        "tie": 2,
    }
    assert found.read == 8


def test_of_votes_that_differ_in_number_all_stay(tmp_path):
    one = plain(str)[0]
    turned = {"prompt": one["prompt"], "chosen": one["rejected"], "rejected": one["chosen"]}
    assert len(read(tmp_path, [one, one, turned]).pairs) == 3


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.jsonl", None, "no such file; give what serve --export_votes wrote"),
        ("pairs.xlsx", "x", "is not a JSON Lines, JSON or Parquet file"),
        ("pairs.jsonl", "", "has no column chosen and no column rejected (it is empty)"),
        (
            "pairs.jsonl",
            '{"prompt": "a", "chosen": "b"}\n',
            "has no column rejected (the columns are 'chosen', 'prompt')",
        ),
        ("pairs.json", '[{"prompt": "a", "chosen": "b"', "is not valid JSON"),
        ("pairs.parquet", "PAR1", "is not a valid Parquet file"),
        ("pairs.jsonl.gz", "no gzip", "could not be decompressed"),
    ],
)
def test_a_file_without_pairs_is_one_sentence_that_names_the_flag(tmp_path, name, content, says):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(OnionError) as caught:
        read_pairs(str(tmp_path / name))
    assert str(caught.value).startswith(f"--data.pairs {tmp_path / name}: ")
    assert says in str(caught.value)
    assert "--data.path" not in str(caught.value)


def test_the_sample_pairs_of_these_tests_are_read_whole(tmp_path):
    assert len(read(tmp_path, some_pairs(30)).pairs) == 30
