"""`--config NAME` is a config of the package, whatever the directory."""

import pytest

from onion_lightning.cli.parsing.arguments import predict_command, prepare
from onion_lightning.cli.parsing.packaged_configs import config_names
from onion_lightning.errors import UsageError
from tests.conftest import ROOT

CPU = str(ROOT / "configs" / "cpu.yaml")


def test_the_names_are_those_of_the_yaml_files():
    assert config_names() == sorted(file.stem for file in (ROOT / "configs").glob("*.yaml"))
    assert "cpu" in config_names()


@pytest.mark.parametrize("words", [["--config", "cpu"], ["--config=cpu"], ["-c", "cpu"]])
def test_a_name_is_a_file_of_the_package_in_any_directory_and_however_it_is_written(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert prepare(["fit", *words])[-1] == CPU


def test_several_names_and_files_keep_their_order(parse, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text("model: {lora_rank: 4}\ntrainer: {devices: 2}\n")
    found = parse("plan", "--config", "qlora", "--config", "own.yaml", "--config=gpu1")
    assert (found.model.load_in, found.model.lora_rank, found.trainer.devices) == ("nf4", 4, 1)


def test_a_file_of_that_name_is_preferred_and_a_folder_is_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cpu").mkdir()
    assert prepare(["fit", "--config", "cpu"])[-1] == CPU
    (tmp_path / "cpu").rmdir()
    (tmp_path / "cpu").write_text("data: {path: sample}\n")
    assert prepare(["fit", "--config", "cpu"])[-1] == "cpu"


@pytest.mark.parametrize(
    ("value", "remedy"),
    [("cpuu", "did you mean --config cpu?"), ("zebra", "give one of these names, or a YAML file.")],
)
def test_an_unknown_name_is_one_sentence_with_the_names(value, remedy):
    with pytest.raises(UsageError) as error:
        prepare(["predict", "--config", value])
    names = ", ".join(config_names())
    assert str(error.value) == f"--config {value}: is neither a file nor a config of this package ({names}); {remedy}"


def test_a_file_of_the_clone_that_is_not_there_is_found_by_its_name(refused_by_parser, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused_by_parser("fit", "--config", "configs/cpu.yaml").endswith("; did you mean --config cpu?")


def test_a_flag_without_a_value_is_not_a_name(refused_by_parser):
    assert refused_by_parser("fit", "--config", "--model.lora_rank", "4") == "--config: has no value; give one."


def test_the_printed_command_has_the_name(tmp_path):
    line = predict_command(prepare(["fit", "--config", "cpu", "--config", "own.yaml"]), tmp_path / "last.ckpt")
    assert line.startswith("python -m onion_lightning predict --config cpu --config own.yaml --ckpt_path ")
    kept = predict_command(prepare(["fit", "--config", "configs/cpu.yaml"]), tmp_path / "last.ckpt")
    assert " predict --config configs/cpu.yaml --ckpt_path " in kept
