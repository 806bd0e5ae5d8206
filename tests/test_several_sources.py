"""Commands with a list of sources in `--data.path`."""

import csv
import json
import re
from functools import partial
from pathlib import Path

import pytest
import yaml
from transformers import LlamaConfig

from onion_lightning.cli.main import main
from onion_lightning.data.module import OnionDataModule
from onion_lightning.planning.report.workload import measure_workload
from onion_lightning.training.session import TrainerFlags
from tests.conftest import curve
from tests.tiny import sample_rows

QUICK = ("--model.load_in", "none", "--samples.count", "0")


@pytest.fixture
def sources(tmp_path, corpus_file):
    """43 articles in a CSV file, and 20 in a JSON Lines file, of which two are in the first one too."""
    file = tmp_path / "more_rows.jsonl"
    with corpus_file.open(newline="", encoding="utf-8") as stream:
        known = [{"headline": row["Title"], "body": row["Content"]} for row in csv.DictReader(stream)][:2]
    new = [{"headline": row["Title"], "body": " ".join(row["Content"].split()[:40])} for row in sample_rows()[50:68]]
    file.write_text("\n".join(map(json.dumps, known + new)))
    return [str(corpus_file), str(file)]


def test_fit_counts_the_rows_of_each_source(run, tmp_path, sources, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # long paths would be wrapped
    Path("first.csv").write_bytes(Path(sources[0]).read_bytes())
    run("fit", "--data.path", '["first.csv", "more_rows.jsonl"]', *QUICK, "--trainer.max_steps", "1")
    report = json.loads(Path("run", "corpus_report.json").read_text())
    assert list(report["sources"]) == ["first.csv", "more_rows.jsonl"]
    first, second = report["sources"].values()
    assert (first["read"], second["read"], second["kept"]) == (43, 20, 18)
    assert report["read"] == 63
    assert report["kept"] == first["kept"] + second["kept"] == sum(report["splits"].values())
    rows = dict(re.findall(r"^ +(\S.*?) {2,}([\d,]+) *$", capsys.readouterr().err, re.MULTILINE))
    assert (rows["from first.csv"], rows["from more_rows.jsonl"], rows["kept from more_rows.jsonl"]) == (
        "43",
        "20",
        "18",
    )
    assert rows["kept from first.csv"] == str(first["kept"])


def test_rows_that_are_too_long_are_counted_by_source(run, tmp_path, sources):
    words = ("--data.overflow", "drop", "--data.max_length", "250", "--trainer.max_steps", "1")
    run("fit", "--data.path", json.dumps(sources), *QUICK, *words)
    report = json.loads((tmp_path / "run" / "corpus_report.json").read_text())
    assert report["dropped"]["too_long"] > 0
    assert report["kept"] == sum(counts["kept"] for counts in report["sources"].values())


def test_a_run_on_several_sources_resumes_exactly_from_its_yaml_file(run, tmp_path, sources):
    file = tmp_path / "data.yaml"
    file.write_text(yaml.safe_dump({"data": {"path": sources}}))
    words = ("--config", str(file), "--data.path", json.dumps(sources), *QUICK)
    run("fit", *words, "--trainer.max_steps", "3")
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["data"]["path"] == sources
    whole = curve(tmp_path / "run")
    folder = ("--checkpoint.dirpath", str(tmp_path / "two"))
    run("fit", *words, *folder, "--trainer.max_steps", "2")
    run("fit", *words, *folder, "--trainer.max_steps", "3", "--ckpt_path", "last")
    assert curve(tmp_path / "two") == whole


def test_a_list_in_a_yaml_file_is_one_corpus(tiny_base, tmp_path, sources, capsys):
    file = tmp_path / "data.yaml"
    file.write_text(yaml.safe_dump({"data": {"path": sources}}))
    output = str(tmp_path / "preview")
    words = ("preview", "--config", str(file), "--model.base_model", str(tiny_base), "--output", output)
    assert main([*words, "--rows", "1"]) == 0
    shown = json.loads((tmp_path / "preview" / "preview.json").read_text())
    assert shown["sources"][sources[1]] == {"read": 20, "kept": 18}
    assert re.search(r"sources +rows +kept", capsys.readouterr().err)
    page = (tmp_path / "preview" / "preview.html").read_text()
    assert f"18 of 20 from {sources[1]}." in " ".join(page.split())


def test_sources_can_be_added_to_one(run, tmp_path, sources):
    run("fit", "--data.path+", sources[1], *QUICK, "--trainer.max_steps", "1")  # the first is in the fixture's command
    assert list(json.loads((tmp_path / "run" / "corpus_report.json").read_text())["sources"]) == sources


def test_a_single_source_is_reported_as_before(run, tmp_path, corpus_file, capsys):
    run("fit", *QUICK, "--trainer.max_steps", "1")
    assert "sources" not in json.loads((tmp_path / "run" / "corpus_report.json").read_text())
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["data"]["path"] == str(corpus_file)
    assert "from" not in capsys.readouterr().err.split("corpus")[1].split("tokens per row")[0]


def test_a_folder_in_brackets_is_no_list(run, tmp_path, corpus_file, monkeypatch):
    (tmp_path / "[new]").mkdir()
    (tmp_path / "[new]" / "a.csv").write_bytes(corpus_file.read_bytes())
    monkeypatch.chdir(tmp_path)
    run("fit", "--data.path", "[new]", *QUICK, "--trainer.max_steps", "1")
    assert json.loads((tmp_path / "run" / "corpus_report.json").read_text())["read"] == 43


def test_evaluate_and_the_model_card_name_all_sources(run, tmp_path, sources):
    words = ("--data.path", json.dumps(sources), "--model.load_in", "none")
    run("fit", *words, "--samples.count", "0", "--trainer.max_steps", "1")
    run("evaluate", *words, "--ckpt_path", "last", "--count", "4", "--shots", "1", "--output", str(tmp_path / "eval"))
    settings = json.loads((tmp_path / "eval" / "metrics.json").read_text())["settings"]
    assert settings["corpus"] == ", ".join(sources)
    run("export", *words, "--ckpt_path", "last", "--output", str(tmp_path / "out"))
    assert "The corpus `corpus.csv`, `more_rows.jsonl`: " in (tmp_path / "out" / "README.md").read_text()


def test_plan_counts_local_sources_and_assumes_rows_where_one_is_not_here(tiny_base, sources):
    sizes = {"max_length": 200, "global_batch_size": 8, "val_fraction": 0.2, "test_fraction": 0.15}
    plan = partial(measure_workload, config=LlamaConfig(max_position_embeddings=512), ranks=1)
    make = partial(OnionDataModule, base_model=str(tiny_base), **sizes)
    both = plan(data=make(path=sources), flags=TrainerFlags(max_epochs=1))
    assert both.rows > plan(data=make(path=sources[0]), flags=TrainerFlags(max_epochs=1)).rows
    assert both.assumptions == ()
    remote = plan(data=make(path=["kaggle:a/b", *sources, "owner/name"]), flags=TrainerFlags(max_steps=9))
    assert remote.rows is None
    assert "because kaggle:a/b, owner/name are not on this machine" in remote.assumptions[0]


@pytest.mark.parametrize("value", ["[]", '["a.csv", "a.csv"]', '["a.csv", ""]'])
def test_a_list_without_different_sources_is_refused(refused, value):
    found = refused("fit", "--data.path", value)
    assert re.search(
        r'--data\.path .*: must be a source, or a list of different ones such as \["a\.csv", "b\.jsonl"\]\.', found
    )


def test_a_list_of_something_else_is_refused(refused):
    assert "--data.path" in refused("preview", "--data.path", "[1, 2]")
