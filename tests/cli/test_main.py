"""Bad input is reported in one sentence with a non-zero status, and secrets stay out of files."""

import json

import pytest

from onion_lightning.cli.main import interrupted, main
from onion_lightning.errors import Interrupted


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["fit", "--data.path", "nowhere.csv"], "--data.path nowhere.csv: no such file"),
        (["fit", "--data.article_column", "Body"], "no column named body"),
        (["fit", "--data.headline_column", "Title", "--data.article_column", "title"], "name another column"),
        (["fit", "--data.min_words", "500"], "no rows remain"),
        (["validate", "--data.val_fraction", "0"], "--data.val_fraction 0.0: leaves no validation rows"),
        (["test", "--data.test_fraction", "0"], "--data.test_fraction 0.0: leaves no test rows"),
        (["fit", "--data.val_fraction", "0.9"], "leaves no rows to train on"),
        (["fit", "--data.batch_size", "0"], "--data.batch_size 0: must be at least 1"),
        (["fit", "--data.max_length", "10"], "--data.max_length 10: none of the"),
        (["fit", "--data.max_length", "9999"], "the context length is 512"),
        (["fit", "--trainer.accumulate_grad_batches", "3"], "is derived from --data.global_batch_size"),
        (["fit", "--trainer.val_check_interval", "3"], "give a multiple of 2"),
        (["fit", "--checkpoint.every_n_train_steps", "0"], "--checkpoint.every_n_train_steps 0"),
        (["fit", "--model.base_model", "./no_model"], "--model.base_model ./no_model: no such directory"),
        (["fit", "--model.base_model", "someone/no-such-model"], "neither a local directory nor a model"),
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
        (["predict", "--data.headlines", json.dumps(["word " * 600])], "the model's context length is 512"),
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


def test_a_flag_of_another_command_is_named_although_only_the_parser_of_one_is_built(capsys):
    assert main(["fit", "--data.path", "sample", "--export_votes", "votes.jsonl"]) == 2
    assert "--export_votes votes.jsonl: is not a flag of fit; it is a flag of serve." in capsys.readouterr().err


def test_nothing_is_written_when_input_is_bad(refused, tmp_path):
    refused("fit", "--data.min_words", "500")
    refused("predict", "--data.headlines", '[" "]')
    assert list(tmp_path.iterdir()) == []


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


def test_a_command_to_resume_is_printed_only_if_training_began(capsys):
    words = ["fit", "--config", "configs/cpu.yaml"]
    assert interrupted(Interrupted(15), words, training_began=False) == 143
    assert capsys.readouterr().err == "\nStopped by signal 15.\n"
    assert interrupted(Interrupted(15), words, training_began=True) == 143
    assert "--ckpt_path last" in capsys.readouterr().err
