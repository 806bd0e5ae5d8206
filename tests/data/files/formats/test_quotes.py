"""Quotation marks that quote a cell, and those that are part of a text."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onion_lightning.data.files.columns import Columns, Layout
from onion_lightning.data.files.formats import quotes
from onion_lightning.data.files.formats.quotes import Lines
from onion_lightning.data.files.reading import Table, find_layout, read_table
from tests.data.conftest import body, load, put, texts, write_csv

ROWS = [(f"Egg {i}", body(i)) for i in range(60)]
AS_TEXT = "quotation marks are read as part of the text"
WITHOUT = "rows with a quotation mark that is part of the text are read without quoting"


def tsv(rows, delimiter="\t"):
    return "".join(delimiter.join(row) + "\n" for row in [("title", "content"), *rows])


def read(file, **flags):
    """The article of each headline, before it is cleaned."""
    table = Table(str(file))
    rows = list(read_table(table, find_layout(table, Columns(**flags))))
    found = {row["headline"]: row["article"] for row in rows}
    assert len(found) == len(rows)
    return found


def with_marks(*numbers, rows=ROWS):
    return [('"' + headline if i in numbers else headline, article) for i, (headline, article) in enumerate(rows)]


@pytest.mark.parametrize("numbers", [(20, 40), (20,), (20, 21), (59,), (0, 10, 59)])
def test_rows_after_a_quotation_mark_that_quotes_no_cell_are_kept(tmp_path, caplog, numbers):
    assert read(put(tmp_path / "a.tsv", tsv(with_marks(*numbers)))) == dict(with_marks(*numbers))
    assert caplog.text.count(f"a.tsv: {AS_TEXT}: one on line {numbers[0] + 2} quotes no cell") == 1
    assert "override with --data.quotechar '\"'" in caplog.text


def test_a_mark_that_another_closes_many_rows_later_quotes_no_cell(tmp_path, caplog):
    rows = with_marks(20)
    rows[40] = ("Egg 5'10\"", rows[40][1])
    assert read(put(tmp_path / "a.tsv", tsv(rows))) == dict(rows)
    assert AS_TEXT in caplog.text


def test_with_other_rows_that_are_not_whole_no_row_but_these_is_lost(tmp_path, caplog):
    rows = with_marks(20, 40)
    rows[30] = ("Ragged", "egg\tegg")
    corpus = load(put(tmp_path / "a.tsv", tsv(rows)))
    assert corpus.read == 60
    assert corpus.dropped["ragged"] == 1
    assert texts(corpus) == dict(rows[:30] + rows[31:])
    assert AS_TEXT not in caplog.text
    assert caplog.text.count(f"a.tsv: {WITHOUT}: 2 (the first is on line 22); if all such marks") == 1
    assert "--data.quotechar none" in caplog.text


def test_in_a_file_with_quoted_cells_only_the_row_with_the_mark_is_read_without_quoting(tmp_path, caplog):
    quoted = [(f'"Egg {i} ""Wins"""', f'"{body(i)}\nSecond line"') for i in range(60)]
    quoted[20] = ('"Egg 20', body(20))
    found = read(put(tmp_path / "a.tsv", tsv(quoted)))
    assert len(found) == 60
    assert found['"Egg 20'] == body(20)
    assert found['Egg 21 "Wins"'] == f"{body(21)}\nSecond line"
    assert f"{WITHOUT}: 1 (the first is on line 42)" in caplog.text


@pytest.mark.parametrize("other", ['"title"\t"content"\n', '"Egg ""A"""\tEgg\n'])
def test_where_the_header_or_a_doubled_mark_is_quoted_others_are_too(tmp_path, caplog, other):
    header = other if "title" in other else f"title\tcontent\n{other}"
    found = read(put(tmp_path / "a.tsv", header + tsv(with_marks(20, 59)).partition("\n")[2]))
    assert found == ({} if "title" in other else {'Egg "A"': "Egg"}) | dict(with_marks(20, 59))
    assert f"{WITHOUT}: 2 " in caplog.text
    assert "never closed" not in caplog.text


def test_a_mark_that_is_closed_inside_its_own_row_is_text(tmp_path):
    rows = list(ROWS)
    rows[20] = ('"Egg', f'{body(20)} He said "egg" twice.')
    rows[30] = ("Ragged", "egg\tegg")
    assert read(put(tmp_path / "a.tsv", tsv(rows)))['"Egg'] == rows[20][1]


def test_only_a_part_of_the_file_is_looked_at_behind_a_mark(tmp_path, monkeypatch):
    held = []
    monkeypatch.setattr(
        Lines, "are_alike", lambda self, check=Lines.are_alike: held.append(len(self.row)) or check(self)
    )
    rows = with_marks(3, rows=[(f"Egg {i}", body(i)) for i in range(5000)])
    rows[4] = ("Ragged", "egg\tegg")
    assert len(read(put(tmp_path / "a.tsv", tsv(rows)))) == 5000
    assert max(held) == quotes.MOST


def test_lines_of_a_cell_that_look_like_rows_stay_a_cell(tmp_path, caplog):
    rows = [(f"Egg {i}", f"{body(i).replace(',', '')}\nSecond, line\nThird, line") for i in range(9)]
    file = write_csv(tmp_path / "a.csv", rows, ("title", "content"))
    assert read(file) == dict(rows)
    assert caplog.text == ""


def test_an_article_that_was_cut_off_inside_its_quotes_is_one_row(tmp_path, caplog):
    lines = "\n".join(body(i) for i in range(3))
    found = read(put(tmp_path / "a.csv", f'title,content\nOne,"{body(8)}"\nTwo,"{lines}\n'))
    assert found["Two"] == lines + "\n"
    assert "the quote opened on line 3 is never closed; the 3 lines from there on were read as one row" in caplog.text
    assert "specify --data.quotechar none" in caplog.text


@pytest.mark.parametrize(
    ("quotechar", "headline"),
    [("", '"Egg, ""One"""'), ('"', 'Egg, "One"'), (None, 'Egg, "One"'), ("'", '"Egg, ""One"""')],
)
def test_the_flag_says_what_quotes_a_cell(tmp_path, caplog, quotechar, headline):
    file = put(tmp_path / "a.tsv", tsv([('"Egg, ""One"""', body(1))]))
    assert read(file, quotechar=quotechar) == {headline: body(1)}
    assert AS_TEXT not in caplog.text


def test_cells_in_single_quotes_are_read_with_the_flag(tmp_path):
    rows = [(f"Egg {i}, Man's Egg", f"{body(i)}\nSecond, line") for i in range(9)]
    file = write_csv(tmp_path / "a.csv", rows, ("title", "content"), quotechar="'")
    assert read(file, quotechar="'") == dict(rows)


def test_with_the_flag_marks_are_believed(tmp_path, caplog):
    assert len(read(put(tmp_path / "a.tsv", tsv(with_marks(20, 40))), quotechar='"')) == 40
    assert AS_TEXT not in caplog.text


CELLS = st.text('a,"\n\r', max_size=15)  # too short for ten lines that look like rows


@given(st.lists(st.lists(CELLS, min_size=1, max_size=3), min_size=1, max_size=5), st.sampled_from([0, 1]))
def test_what_the_csv_module_writes_is_read_as_it_was_written(rows, quoting):
    text = io.StringIO(newline="")
    csv.writer(text, quoting=quoting).writerows([["title", "content"], *rows])
    lines = Lines(io.StringIO(text.getvalue(), newline=""), Layout((), (), delimiter=","))
    assert lines.header() == ["title", "content"]
    assert list(lines.rows()) == list(csv.reader(io.StringIO(text.getvalue(), newline="")))[1:]
    assert lines.stray == []
    assert lines.unclosed == (0, 0)
