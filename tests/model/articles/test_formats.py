"""The formats of the articles file: what other programs read back."""

import csv
import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from onion_lightning.data.module import OnionDataModule
from onion_lightning.model.articles.formats import FORMATS
from onion_lightning.model.articles.record import ArticleRecord
from tests.model.articles.conftest import HEADLINES
from tests.tiny import sample_rows

TEXTS = [
    'AUSTIN, TX—“We have 1,000 eggs,” said a man.\n\n"Not one\r\nmore," he added.',
    " 1. A line like a list\n# and one like a heading\n- that is\n+ this\n> that\n    code\n",
    "*Not bold*, __nor this__, `code`, <b>, &amp; AT&T, [a](b), ~~no~~ \\ and C:\\eggs",
    "",
    "NA",
    ", \t;'|",
]


def headline(index):
    return f'# {index}. Man: "I, *Egg*, Won" ##'


def made(candidates=1):
    return [
        ArticleRecord(index, candidate, headline(index), text, 5, "eos")
        for index, text in enumerate(TEXTS)
        for candidate in range(candidates)
    ]


def written(suffix, articles):
    return "".join(FORMATS[suffix](articles))


def rendered(text):
    """The headings and paragraphs of a Markdown document as a reader sees them; nothing else may be in it."""
    tokens = MarkdownIt().parse(text)
    assert {token.tag for token in tokens} <= {"h1", "h2", "p", ""}
    assert all(child.type in ("text", "text_special") for token in tokens for child in token.children or [])
    return [
        (one.tag, "".join(child.content for child in inline.children))
        for one, inline in pairwise(tokens)
        if one.nesting == 1
    ]


def paragraphs(text):
    return [("p", line.strip()) for line in text.replace("\r", "\n").split("\n") if line.strip()]


def test_csv_is_read_back_as_it_was(tmp_path):
    file = tmp_path / "out.csv"
    file.write_text(written(".csv", made(2)), encoding="utf-8", newline="")
    with file.open(encoding="utf-8", newline="") as stream:
        found = [ArticleRecord(**row) for row in csv.DictReader(stream, quoting=csv.QUOTE_NONNUMERIC)]
    assert found == made(2)
    assert written(".csv", []) == '"index","candidate","headline","article","tokens","finish_reason"\n'


def test_rank_and_score_are_in_every_format_where_the_best_was_chosen(tmp_path):
    ranked = [
        ArticleRecord(0, candidate, headline(0), "An egg.", 3, "eos", rank, 1.25)
        for rank, candidate in ((1, 4), (2, 0))
    ]
    file = tmp_path / "out.csv"
    file.write_text(written(".csv", ranked), encoding="utf-8", newline="")
    with file.open(encoding="utf-8", newline="") as stream:
        found = [ArticleRecord(**row) for row in csv.DictReader(stream, quoting=csv.QUOTE_NONNUMERIC)]
    assert found == ranked
    assert [ArticleRecord(**json.loads(line)) for line in written(".jsonl", ranked).splitlines()] == ranked
    assert [text for tag, text in rendered(written(".md", ranked)) if tag == "h2"] == [
        "Candidate 5 (score 1.25)",
        "Candidate 1 (score 1.25)",
    ]
    assert "Candidate 5 (score 1.25):\n\nAn egg.\n\nCandidate 1 (score 1.25):\n\n" in written(".txt", ranked)
    assert "rank" not in written(".jsonl", made())


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_an_articles_file_is_a_corpus(tiny_base, tmp_path, suffix):
    file, rows = tmp_path / f"out{suffix}", sample_rows()[:40]
    articles = [ArticleRecord(n, 0, row["Title"], row["Content"], 5, "eos") for n, row in enumerate(rows)]
    file.write_text(written(suffix, articles), encoding="utf-8", newline="")
    _, splits, report = OnionDataModule(path=str(file), base_model=str(tiny_base)).encode()
    assert report.read == 40
    read = [dict(row) for name in splits for row in splits[name]]
    _, splits, _ = OnionDataModule(path=str(sample(tmp_path, rows)), base_model=str(tiny_base)).encode()
    assert read == [dict(row) for name in splits for row in splits[name]]


def sample(folder, rows):
    """The same rows as a corpus of JSON lines, without the other fields of an articles file."""
    file = folder / "sample.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_markdown_has_a_heading_for_each_headline_and_shows_texts_as_they_are():
    expected = []
    for index, text in enumerate(TEXTS):
        expected += [("h1", headline(index)), *paragraphs(text)]
    assert rendered(written(".md", made())) == expected


def test_candidates_are_numbered_below_one_heading():
    tags = [(tag, text) for tag, text in rendered(written(".md", made(2))) if tag != "p"]
    assert tags[:4] == [("h1", headline(0)), ("h2", "Candidate 1"), ("h2", "Candidate 2"), ("h1", headline(1))]
    plain = written(".txt", made(2))
    assert plain.count(f"{headline(0)}\n\nCandidate 1:\n\n{TEXTS[0]}\n\nCandidate 2:\n\n{TEXTS[0]}\n\n\n") == 1


LINES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), max_size=30)
MARKUP = st.text("#*_`~>+-=[]()!<&;|.\\:1aB @$\"'", max_size=12)


@given(st.lists(LINES | MARKUP, max_size=4), MARKUP | LINES)
def test_no_text_is_markup(lines, first):
    document = written(".md", [ArticleRecord(0, 0, first, "\n".join(lines), 5, "eos")])
    title, *rest = rendered(document)
    assert title == ("h1", " ".join(first.split()))
    assert rest == paragraphs("\n".join(lines))


def test_plain_text_is_headline_and_article():
    assert written(".txt", made()[:2]) == f"{headline(0)}\n\n{TEXTS[0]}\n\n\n{headline(1)}\n\n{TEXTS[1]}\n\n\n"


@pytest.mark.parametrize("suffix", [".csv", ".md", ".txt"])
def test_a_resumed_job_of_two_machines_writes_what_one_writes(predict, tmp_path, suffix):
    file, (one, a, b) = f"out{suffix}", (tmp_path / name for name in ("one", "a", "b"))
    assert predict([one], file=file) == {}
    predict([a, b], file=file, stop_after=2)
    assert not (a / file).exists()
    assert predict([b, a], file=file, resume=True) == {}
    assert (b / file).read_bytes() == (one / file).read_bytes()
    assert (b / file).read_text().count("first run: ") == len(HEADLINES)
    assert [*a.iterdir(), *b.iterdir()] == [b / file]
