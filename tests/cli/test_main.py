"""The command line: bad input as one sentence, configs, precedence, and what must not leak."""

import csv
import json
import os
import pickle

import pytest
import torch
import yaml

from onion_lightning.cli.arguments import plain_json, split_flags, typed_keys, without_ckpt_path
from onion_lightning.cli.main import main
from onion_lightning.cli.onion_cli import OnionCLI
from onion_lightning.cli.signals import StopSignals
from tests.conftest import ROOT, adapters, curve


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["fit", "--data.path", "nowhere.csv"], "--data.path nowhere.csv: no such file"),
        (["fit", "--data.article_column", "Body"], "no column named body"),
        (["fit", "--data.min_words", "500"], "nothing is left"),
        (["fit", "--data.val_fraction", "0"], "--data.val_fraction 0.0: leaves no validation rows"),
        (["test", "--data.test_fraction", "0"], "--data.test_fraction 0.0: leaves no test rows"),
        (["fit", "--data.val_fraction", "0.9"], "nothing is left to train on"),
        (["fit", "--data.batch_size", "0"], "--data.batch_size 0: must be at least 1"),
        (["fit", "--data.max_length", "10"], "--data.max_length 10: none of the"),
        (["fit", "--data.max_length", "9999"], "the context is 512"),
        (["fit", "--trainer.accumulate_grad_batches", "3"], "it follows from --data.global_batch_size"),
        (["fit", "--trainer.val_check_interval", "3"], "give a multiple of 2"),
        (["fit", "--checkpoint.every_n_train_steps", "0"], "--checkpoint.every_n_train_steps 0"),
        (["fit", "--model.base_model", "./no_model"], "--model.base_model ./no_model: no such directory"),
        (["fit", "--model.base_model", "someone/no-such-model"], "neither a directory here nor a model"),
        (["fit", "--trainer.accelerator", "gpu"], "--trainer.accelerator"),
        (["fit", "--trainer.accelerator", "nonsense"], "nonsense"),
        (["fit", "--trainer.strategy", "ddp_spawn"], "--trainer.strategy ddp_spawn: is not supported; give ddp"),
        (["fit", "--trainer.max_epochs", "-1"], "--trainer.max_epochs -1"),
        (["fit", "--trainer.limit_val_batches", "1.5"], "limit_val_batches"),
        (["fit", "--ckpt_path", "best"], "best.ckpt: no such file"),
        (["predict", "--ckpt_path", "last", "--data.headlines", '["A"]'], "last.ckpt: no such file"),
        (["validate", "--ckpt_path", "nowhere.ckpt"], "--ckpt_path nowhere.ckpt: no such file"),
        (["predict"], "no headlines"),
        (["predict", "--data.headlines", "[]"], "no headlines"),
        (["predict", "--data.headlines", '["A", "  "]'], "headline 2 of 2 is blank"),
        (["predict", "--data.headlines", json.dumps(["word " * 600])], "the model's context is 512"),
        (["predict", "--data.headlines_file", "none.txt"], "--data.headlines_file none.txt: no such file"),
        (["predict", "--data.headlines", '["A"]', "--model.temperature", "-1"], "--model.temperature -1.0"),
        (["fit", "--data.batch_sise", "3"], "data.batch_sise"),
        (["fit", "--data.batch_size", "many"], "data.batch_size"),
        (["fit", "--config", "none.yaml"], "none.yaml"),
    ],
)
def test_bad_input_is_one_sentence_that_names_the_flag(refused, words, says):
    sentence = refused(*words)
    assert says in sentence
    assert len(sentence) < 500


def test_an_unknown_command_is_one_sentence(capsys):
    assert main(["train"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "train" in lines[0]


def test_nothing_is_written_when_input_is_bad(refused, tmp_path):
    refused("fit", "--data.min_words", "500")
    refused("predict", "--data.headlines", '[" "]')
    assert list(tmp_path.iterdir()) == []


def damaged(path, how):
    if how == "cut":
        path.write_bytes(path.read_bytes()[:2000])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("not a checkpoint")
    elif how == "foreign":
        torch.save({"weights": torch.zeros(2)}, path)
    elif how == "pickle":
        torch.save({"run": Malicious()}, path)


class Malicious:
    def __reduce__(self):
        return os.system, ("touch " + os.environ["ONION_TEST_TRAP"],)


@pytest.mark.parametrize("how", ["cut", "empty", "text", "foreign", "pickle"])
def test_a_bad_checkpoint_is_named_the_newest_good_one_offered_and_no_code_in_it_runs(
    run, refused, tmp_path, how, monkeypatch
):
    monkeypatch.setenv("ONION_TEST_TRAP", str(tmp_path / "trap"))
    run("fit", "--trainer.max_epochs", "1")
    last = tmp_path / "run" / "last.ckpt"
    damaged(last, how)
    for command in ("fit", "validate"):
        sentence = refused(command, "--ckpt_path", "last")
        assert str(last) in sentence
        assert f"the newest good one is {tmp_path / 'run' / 'best.ckpt'}" in sentence
    assert not (tmp_path / "trap").exists()


def test_a_model_that_is_only_pickled_is_refused_and_not_opened(refused, tiny_base, tmp_path, monkeypatch):
    monkeypatch.setenv("ONION_TEST_TRAP", str(tmp_path / "trap"))
    folder = tmp_path / "pickled"
    folder.mkdir()
    for file in tiny_base.iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Malicious()))
    assert "safetensors" in refused("fit", "--model.base_model", str(folder))
    assert not (tmp_path / "trap").exists()


def test_a_checkpoint_of_other_adapters_is_refused(run, refused):
    run("fit", "--trainer.max_steps", "1")
    sentence = refused("predict", "--ckpt_path", "last", "--data.headlines", '["A"]', "--model.lora_rank", "4")
    assert "--model.lora_rank 4" in sentence
    assert "made with 8" in sentence


def test_a_checkpoint_of_another_base_model_is_refused(run, refused, tiny_base, tmp_path):
    run("fit", "--trainer.max_steps", "1")
    other = tmp_path / "other"
    other.mkdir()
    for file in tiny_base.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    sentence = refused("fit", "--ckpt_path", "last", "--model.base_model", str(other))
    assert "a model of another shape" in sentence


def test_what_was_typed_beats_the_checkpoint_which_beats_the_defaults(run, capsys, tmp_path):
    run(
        "fit",
        "--trainer.max_steps",
        "1",
        "--model.lora_alpha",
        "4",
        "--model.lora_dropout",
        "0.3",
        "--seed_everything",
        "7",
    )
    capsys.readouterr()
    changed = ("--model.lora_dropout", "0.1", "--model.learning_rate", "0.5", "--model.warmup_ratio", "0")
    run("fit", "--trainer.max_steps", "2", "--ckpt_path", "last", *changed)
    told = capsys.readouterr().err.replace("\n", " ")
    assert "--model.lora_dropout 0.1: the checkpoint was made with 0.3; going on with 0.1" in told
    assert "lora_alpha" not in told
    saved = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["onion_lightning"]["flags"]
    assert (saved["model.lora_alpha"], saved["model.lora_dropout"], saved["seed_everything"]) == (4, 0.1, 7)
    rates = curve(tmp_path / "run", "learning_rate")
    assert rates[1] == pytest.approx(0.5)
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["lr_schedulers"][0]["base_lrs"] == [0.5]


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_config_parses_opens_with_its_launch_line_and_has_a_folder_of_its_own(path, monkeypatch):
    text = path.read_text()
    assert text.startswith(f"# python -m onion_lightning fit --config configs/{path.name}\n")
    assert "Effective batch" in text
    settings = yaml.safe_load(text)
    assert settings["checkpoint"]["dirpath"] == f"checkpoints/{path.stem}"
    assert isinstance(settings["seed_everything"], int)

    class Parse(OnionCLI):
        def before_instantiate_classes(self):
            raise KeyboardInterrupt

    with StopSignals() as signals, pytest.raises(KeyboardInterrupt):
        Parse(["fit", "--config", str(path)], signals)


def test_no_secret_reaches_a_file(run, tmp_path, monkeypatch):
    secrets = {"WANDB_API_KEY": "a" * 40, "HF_TOKEN": "hf_" + "b" * 30}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WANDB_MODE", "offline")
    logger = {"class_path": "lightning.pytorch.loggers.WandbLogger", "init_args": {"save_dir": str(tmp_path / "run")}}
    run("fit", "--trainer.max_steps", "2", "--trainer.logger", json.dumps(logger))
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert any("wandb" in str(path) for path in files)
    for path in files:
        assert not any(value.encode() in path.read_bytes() for value in secrets.values()), path


def test_json_escapes_in_headlines_are_read():
    assert plain_json(json.dumps(["Egg 🥚 “q”"])) == '["Egg 🥚 “q”"]'
    assert plain_json("[not json \\u") == "[not json \\u"


def test_the_command_to_go_on_names_one_checkpoint():
    words = ["fit", "--config", "a b.yaml", "--ckpt_path", "x y.ckpt", "--seed_everything", "1"]
    assert without_ckpt_path(words) == ["fit", "--config", "a b.yaml", "--seed_everything", "1"]
    assert without_ckpt_path(["fit", "--ckpt_path=last"]) == ["fit"]


def test_flags_and_yaml_are_found_whichever_way_they_are_written(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("model: {lora_rank: 4}\n")
    for words in (["--config", str(config), "--data.path", "x"], [f"--config={config}", "--data.path=x"]):
        keys = typed_keys(split_flags(["fit", *words]))
        assert {"model.lora_rank", "data.path"} <= keys
        assert "model.lora_alpha" not in keys


def test_the_sample_corpus_is_what_the_readme_says():
    with (ROOT / "onion_lightning/data/sample/onion_sample.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) >= 240
    assert list(rows[0]) == ["Title", "Published Time", "Content"]
    assert all(60 <= len(row["Content"].split()) <= 220 for row in rows)
    assert len({row["Title"] for row in rows}) == len(rows) == len({row["Content"] for row in rows})
    assert sum("—" in row["Content"][:60] for row in rows) > 0.8 * len(rows)


def test_fit_in_eight_bit_trains_the_same_adapters_twice(run, tmp_path):
    for name in ("one", "two"):
        run("fit", "--trainer.max_steps", "3", "--checkpoint.dirpath", str(tmp_path / name))
    one, two = (adapters(tmp_path / name / "last.ckpt") for name in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_help_lists_every_command_and_no_library_says_a_word(shell):
    done = shell(["--help"])
    assert done.returncode == 0
    assert done.stderr == ""
    for name in ("fit", "validate", "test", "predict", "evaluate", "attend"):
        assert f"\n    {name} " in done.stdout
