"""The corpus report of a run."""

import json
import re

from tests.data.conftest import misread, write_csv


def test_the_corpus_report_adds_up(run, tmp_path, capsys):
    run("fit", "--trainer.max_steps", "1", "--data.min_words", "25")
    report = json.loads((tmp_path / "run" / "corpus_report.json").read_text())
    assert report["read"] == 43 == report["kept"] + sum(report["dropped"].values())
    assert report["kept"] == sum(report["splits"].values())
    assert report["tokens"]["median"] > 20
    assert report["kept"] < 43
    rows = dict(re.findall(r"^ +(\S.*?) {2,}([\d,]+) *$", capsys.readouterr().err, re.MULTILINE))
    assert rows["read"] == "43"
    assert rows["kept"] == str(report["kept"])


def test_the_encoding_in_which_rows_were_misread_is_in_the_table_and_the_file(run, tmp_path, capsys):
    articles = [
        f"Яйцо номер {n} победило, сообщили чиновники. " + f"{n} Никто не знает, почему. " * 5 for n in range(30)
    ]
    pairs = [(misread(f"Яйцо {n}", "cp1251"), misread(article, "cp1251")) for n, article in enumerate(articles)]
    file = write_csv(tmp_path / "eggs.csv", pairs, header=("title", "text"))
    run("fit", "--trainer.max_steps", "1", "--data.path", str(file), "--data.near_duplicates", "keep")
    report = json.loads((tmp_path / "run" / "corpus_report.json").read_text())
    assert report["misread"] == {"cp1251": 30}
    assert re.search(r"UTF-8 that was read as cp1251 +30 *$", capsys.readouterr().err, re.MULTILINE)
