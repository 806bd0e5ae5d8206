"""The `preview` subcommand: what it writes, with any config, and what it refuses."""

import json
import sys

import pytest

from onion_lightning.cli.main import main
from tests.conftest import ROOT
from tests.pairs import some_pairs, write_pairs


@pytest.fixture
def previewed(run, tmp_path):
    """Run the command, and return the content of preview.json."""

    def command(*words):
        folder = tmp_path / "preview"
        run("preview", *words, "--output", str(folder), "--overwrite", "true")
        assert (folder / "preview.html").read_text(encoding="utf-8").startswith("<!doctype html>")
        return json.loads((folder / "preview.json").read_text(encoding="utf-8"))

    return command


def test_eight_rows_are_shown_by_default_and_no_weights_are_loaded(previewed, caplog, capsys):
    assert len(previewed()["rows"]) == 8
    assert not any("Loaded" in record.message for record in caplog.records)
    assert "preview.html" in capsys.readouterr().err
    assert len(previewed("--rows", "100")["rows"]) == previewed()["figures"]["rows"]


def test_a_config_for_eight_gpus_runs_on_a_machine_without_one_and_shows_the_same_rows(previewed, tmp_path, capsys):
    config = tmp_path / "gpus.yaml"
    config.write_text("trainer: {accelerator: gpu, devices: 8, strategy: ddp, precision: 16-mixed}\n")
    rows = previewed("--rows", "3")["rows"]
    capsys.readouterr()
    assert previewed("--rows", "3", "--config", str(config))["rows"] == rows
    assert "--trainer" not in capsys.readouterr().err


def test_the_same_flags_give_the_same_files(run, tmp_path):
    for name in ("a", "b"):
        run("preview", "--rows", "4", "--output", str(tmp_path / name))
    for file in ("preview.html", "preview.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("rows", ["0", "-1", "101"])
def test_a_number_of_rows_out_of_range_is_refused(refused, rows, tmp_path):
    sentence = refused("preview", "--rows", rows, "--output", str(tmp_path / "preview"))
    assert sentence == f"error: --rows {rows}: must be from 1 to 100."
    assert not (tmp_path / "preview").exists()


def test_an_output_that_is_a_file_or_has_files_of_others_is_refused(run, refused, tmp_path):
    (tmp_path / "file").write_text("")
    assert "is a file; give a folder" in refused("preview", "--output", str(tmp_path / "file"))
    assert "--output '': is empty" in refused("preview", "--output", "")
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "preview.html").write_text("mine")
    sentence = refused("preview", "--output", str(tmp_path / "p"))
    assert "its preview.html is not marked as “onion_lightning preview”; give another folder" in sentence
    assert [file.read_text() for file in (tmp_path / "p").iterdir()] == ["mine"]
    run("preview", "--output", str(tmp_path / "p"), "--overwrite", "true")
    assert (tmp_path / "p" / "preview.html").read_text() != "mine"


def test_an_earlier_preview_is_replaced_and_other_files_stay(run, tmp_path):
    run("preview", "--rows", "2", "--output", str(tmp_path / "p"))
    (tmp_path / "p" / "notes.txt").write_text("mine")
    run("preview", "--rows", "3", "--output", str(tmp_path / "p"))
    assert len(json.loads((tmp_path / "p" / "preview.json").read_text())["rows"]) == 3
    assert sorted(file.name for file in (tmp_path / "p").iterdir()) == ["notes.txt", "preview.html", "preview.json"]


def test_a_corpus_without_training_rows_is_refused(refused, tmp_path):
    words = ("--data.val_fraction", "0", "--data.test_fraction", "0.99", "--output", str(tmp_path / "p"))
    (tmp_path / "one.csv").write_text("title,text\nEgg Wins,egg wins in the end\n")
    sentence = refused("preview", "--data.path", str(tmp_path / "one.csv"), "--data.min_words", "1", *words)
    assert "leaves no train rows" in sentence


def test_a_missing_file_is_refused(refused, tmp_path):
    assert "no such file" in refused("preview", "--data.path", str(tmp_path / "none.csv"))


def test_the_sample_is_previewed_with_any_config(tiny_base, tmp_path):
    for config in sorted((ROOT / "configs").glob("*.yaml")):
        words = ["preview", "--config", str(config), "--model.base_model", str(tiny_base), "--data.path", "sample"]
        words += ["--data.pairs", write_pairs(tmp_path / "pairs.jsonl", some_pairs(9))] * (config.stem == "votes")
        words += ["--data.max_length", "384", "--output", str(tmp_path / config.stem), "--rows", "2"]
        assert main(words) == 0
        assert (tmp_path / config.stem / "preview.html").exists()
    assert "wandb" not in sys.modules or not list(tmp_path.rglob("wandb"))
