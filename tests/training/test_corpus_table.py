"""The corpus report of a run."""

import json


def test_the_corpus_report_adds_up(run, tmp_path, capsys):
    run("fit", "--trainer.max_steps", "1")
    report = json.loads((tmp_path / "run" / "corpus_report.json").read_text())
    assert report["read"] == 43 == report["kept"] + sum(report["dropped"].values())
    assert report["kept"] == sum(report["splits"].values())
    assert report["tokens"]["median"] > 20
    assert "read" in capsys.readouterr().err
