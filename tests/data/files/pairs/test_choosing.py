"""How a table's rows give a headline and an article."""

import gzip
import json

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from onion_lightning.data.files.columns import Columns
from onion_lightning.data.files.sources import read_from_hub
from onion_lightning.errors import OnionError
from tests.data.conftest import body, load, put, texts, write_csv
from tests.data.files.pairs.conftest import EARLIER, ROWS, SYSTEM, assistant, user, write_lines

LAST = "the last user turn is the headline, the last assistant turn the article"
MESSAGES, TEXT = "messages", [{"type": "text"}]
FORMATS = {  # what a row is, and the line that says how it is read
    "trl": (
        lambda h, a: {"prompt": h, "completion": a},
        "reading `prompt` as the headline and `completion` as the art",
    ),
    "trl chat": (
        lambda h, a: {"prompt": [SYSTEM, *EARLIER, user(h)], "completion": [assistant(a)]},
        f"reading `prompt` and `completion`: {LAST}",
    ),
    "messages": (lambda h, a: {"messages": [SYSTEM, user(h), assistant(a)]}, f"reading `messages`: {LAST}"),
    "turns": (lambda h, a: {"messages": [*EARLIER, user(h), assistant(a)]}, f"reading `messages`: {LAST}"),
    "parts": (
        lambda h, a: {"messages": [user([{"type": "text", "text": h}]), assistant([{"type": "text", "text": a}])]},
        f"reading `messages`: {LAST}",
    ),
    "sharegpt": (
        lambda h, a: {
            "conversations": [{"from": f, "value": v} for f, v in (("system", "x"), ("human", h), ("gpt", a))]
        },
        f"reading `conversations`: {LAST}",
    ),
    "lists": (
        lambda h, a: {"messages": {"role": ["user", "assistant"], "content": [h, a]}},
        f"reading `messages`: {LAST}",
    ),
    "nested": (lambda h, a: {"data": {"Chat": [user(h), assistant(a)]}, "id": 1}, f"reading `data.chat`: {LAST}"),
    "preferences": (
        lambda h, a: {"prompt": "x", "chosen": [user(h), assistant(a)], "rejected": [user("No"), assistant(a)]},
        f"reading `chosen`: {LAST}",
    ),
    "alpaca": (
        lambda h, a: {"instruction": "Write an article.", "input": h, "output": a, "text": f"### {h} {a} {a}"},
        "reading `input` as the headline and `output` as the article; `instruction` is the same in nearly all rows",
    ),
    "alpaca without input": (
        lambda h, a: {"instruction": h, "input": "", "output": a},
        "reading `instruction` as the headline and `output` as the article; `input` is the same",
    ),
    "description": (
        lambda h, a: {"headline": h, "description": a, "content": ""},
        "reading `headline` as the headline and `description` as the article",
    ),
    "separator": (
        lambda h, a: {"text": f"{h} #~# {a}"},
        "reading `text`: the headline is before the first '#~#', the article after it; override with --data.separator",
    ),
    "blank line": (
        lambda h, a: {"id": 1, "page": f"{h}\n\n{a}\n\n{a}"},
        "reading `page`: the headline is before the first blank line, the article after it",
    ),
}


@pytest.fixture(params=FORMATS)
def kind(request):
    return request.param


def expected(kind: str) -> dict[str, str]:
    return {h: f"{a}\n\n{a}" if kind == "blank line" else a for h, a in ROWS.items()}


def test_every_format_is_read_as_the_same_rows_and_named_in_one_line(tmp_path, capsys, kind):
    make, line = FORMATS[kind]
    file = write_lines(tmp_path / "a.jsonl", make)
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as stream:
        stream.write(file.read_text())
    (tmp_path / "c.json").write_text(json.dumps([make(*row) for row in ROWS.items()], indent=1))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([make(*row) for row in ROWS.items()]), tmp_path / "d.parquet")
    for name in ("a.jsonl", "b.jsonl.gz", "c.json", "d.parquet"):
        capsys.readouterr()
        assert texts(load(tmp_path / name)) == expected(kind)
        printed = [text for text in capsys.readouterr().err.splitlines() if "reading `" in text]
        assert len(printed) == 1
        assert printed[0].startswith(f"{tmp_path / name}: {line}")


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_datasets_gives_the_same_rows_as_the_file(tmp_path, kind, suffix):
    folder = tmp_path / "set"
    file = write_lines(folder / "train.jsonl", FORMATS[kind][0])
    if suffix == "parquet":
        datasets.load_dataset("json", data_files=str(file))["train"].to_parquet(folder / "train.parquet")
        file.unlink()
    read = read_from_hub(str(folder), Columns())
    whole = {row["headline"]: row["article"] for row in read}
    assert whole == expected(kind)
    assert texts(load(folder / f"train.{suffix}")) == whole


def test_usual_columns_are_preferred_and_not_named(tmp_path, capsys):
    def make(h, a):
        chat = [user("No"), assistant(body(99))]
        return {"title": h, "content": a, "prompt": "No", "completion": a * 3, "description": a * 2, "messages": chat}

    assert texts(load(write_lines(tmp_path / "a.jsonl", make))) == ROWS
    assert "reading" not in capsys.readouterr().err


def test_the_instruction_is_the_headline_of_rows_without_input(tmp_path, capsys):
    names = list(ROWS)

    def make(h, a):
        return {"instruction": h, "input": f"{h}!" if names.index(h) % 2 else " ", "output": a}

    read = texts(load(write_lines(tmp_path / "a.jsonl", make)))
    assert read == {f"{h}!" if names.index(h) % 2 else h: a for h, a in ROWS.items()}
    assert "reading `input` or, where that is blank, `instruction` as the headline" in capsys.readouterr().err


def test_a_constant_instruction_is_no_headline_of_rows_without_input(tmp_path):
    rows = ROWS | {"": body(99)}
    make = FORMATS["alpaca"][0]
    assert load(write_lines(tmp_path / "a.jsonl", make, rows)).dropped["missing_headline"] == 1


def test_a_chat_without_an_answer_is_dropped_for_its_missing_article(tmp_path):
    rows = [{"messages": [user(h), assistant(a)]} for h, a in ROWS.items()]
    rows += [{"messages": [user("Egg")]}, {"messages": [SYSTEM, assistant(body(99))]}, {"messages": None}]
    corpus = load(put(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows))))
    assert texts(corpus) == ROWS
    assert {name: count for name, count in corpus.dropped.items() if count} == {
        "missing_headline": 2,
        "missing_article": 1,
    }


def test_a_file_of_one_chat_is_one_row(tmp_path):
    chat = {"messages": [user("Egg"), assistant(body(1))]}
    for indent in (None, 1):
        assert texts(load(put(tmp_path / f"{indent}.json", json.dumps(chat, indent=indent)))) == {"Egg": body(1)}


def test_flags_select_other_columns(tmp_path):
    def make(h, a):
        return {
            "title": "No", "text": body(99), "Post": {"head": h, "chat": [user(h), assistant(a)]}, "reply": [assistant(a)]
        }  # fmt: skip

    file = write_lines(tmp_path / "a.jsonl", make)
    for columns in (
        Columns("post.head", "reply"), Columns("post.chat", "reply"), Columns("post.chat"), Columns(article="post.chat"),
    ):  # fmt: skip
        assert texts(load(file, columns=columns)) == ROWS


def test_flags_divide_another_column_with_another_separator(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", lambda h, a: {"text": f"{h} - {a} #~# {a}", "page": f"{h}\n{a}"})
    divided = texts(load(file, columns=Columns(separator=" - ")))
    assert {h: a.partition(" #~# ")[0] for h, a in divided.items()} == ROWS
    assert texts(load(file, columns=Columns(article="page", separator="\\n"))) == ROWS
    with pytest.raises(
        OnionError, match=r"^--data\.separator ' @ ': divides 0 of the first 12 texts in the column text"
    ):
        load(file, columns=Columns(separator=" @ "))


def test_a_separator_does_not_divide_a_table_that_has_both_columns_and_lacks_it(tmp_path):
    write_lines(tmp_path / "a.jsonl", lambda h, a: {"text": f"{h} - {a}"})
    write_csv(tmp_path / "b.csv", [("Egg", "t", body(99))])
    assert texts(load(tmp_path, columns=Columns(separator=" - "))) == ROWS | {"Egg": body(99)}


def test_the_longest_text_of_all_columns_is_divided(tmp_path):
    rows = [{"prompt": "x", "page": f"{h} - {a}", "id": i} for i, (h, a) in enumerate(ROWS.items())]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert texts(load(tmp_path / "a.parquet", columns=Columns(separator=" - "))) == ROWS


def test_a_text_without_the_separator_is_an_article_without_a_headline(tmp_path):
    rows = {f"Egg {i}": body(i) for i in range(100)}
    without = {"Egg 0": body(0), "Egg 1": f"{body(1)} {body(1)} #~# {body(1)}"}  # where it is too late for a headline
    file = write_lines(tmp_path / "a.jsonl", lambda h, a: {"text": without.get(h, f"{h} #~# {a}")}, rows)
    corpus = load(file)
    assert (corpus.kept, corpus.dropped["missing_headline"]) == (98, 2)


def test_a_table_with_headlines_is_not_divided(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", lambda h, a: {"title": "Egg", "page": f"{h} #~# {a}"})
    with pytest.raises(
        OnionError, match=r"no column named content or .* specify the right one with --data\.article_column"
    ):
        load(file)


def test_a_column_that_nothing_divides_is_refused_with_the_flag(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", lambda _, a: {"text": a})
    with pytest.raises(
        OnionError, match=r"no column named title or headline; .* between them with --data\.separator\.$"
    ):
        load(file)


def test_a_file_that_describes_the_others_is_left_out(tmp_path, caplog):
    write_csv(tmp_path / "a.csv", [("Egg", "t", body(1))])
    put(tmp_path / "dataset-metadata.json", json.dumps({"title": "News", "description": body(2)}))
    assert texts(load(tmp_path)) == {"Egg": body(1)}
    assert "left out: 1 of 2 tables" in caplog.text


def test_what_all_prompts_share_is_removed_and_counted(tmp_path, capsys):
    def make(h, a):
        return {"messages": [user(f'Write a satirical article titled "{h}". \n'), assistant(a)]}

    file = write_lines(tmp_path / "a.jsonl", make)
    corpus = load(file)
    assert texts(corpus) == ROWS
    assert corpus.cleaned["instruction"] == len(ROWS)
    line = "the instruction 'Write a satirical article titled \"' … '\".' is removed"
    assert capsys.readouterr().err.count(line) == 1
    kept = load(file, skipped=("instruction",))
    assert set(texts(kept)) == {f'Write a satirical article titled "{h}".' for h in ROWS}
    assert kept.cleaned["instruction"] == 0


def test_what_all_titles_share_is_part_of_them(tmp_path):
    rows = {f"Your Horoscopes For The Week: {i}": body(i) for i in range(9)}
    assert texts(load(write_lines(tmp_path / "a.jsonl", lambda h, a: {"title": h, "content": a}, rows))) == rows
    columns = Columns(headline="name")
    file = write_lines(tmp_path / "b.jsonl", lambda h, a: {"name": h, "content": a}, rows)
    assert texts(load(file, columns=columns)) == rows
