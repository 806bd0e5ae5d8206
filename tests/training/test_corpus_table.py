"""The corpus report of a run."""

import json
import re


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
