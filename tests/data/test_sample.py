"""The sample corpus."""

import csv

from tests.conftest import ROOT


def test_the_sample_corpus_is_what_the_readme_says():
    with (ROOT / "onion_lightning/data/sample/onion_sample.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) >= 240
    assert list(rows[0]) == ["Title", "Published Time", "Content"]
    assert all(60 <= len(row["Content"].split()) <= 220 for row in rows)
    assert len({row["Title"] for row in rows}) == len(rows) == len({row["Content"] for row in rows})
    assert sum("—" in row["Content"][:60] for row in rows) > 0.8 * len(rows)
