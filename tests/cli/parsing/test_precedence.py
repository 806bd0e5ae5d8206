"""Explicit values override the checkpoint, which overrides defaults; contradictions are refused."""

import json
import shlex

import pytest
import torch

from onion_lightning.cli.main import main
from onion_lightning.cli.parsing.arguments import resume_command
from tests.conftest import curve, records


def test_a_checkpoint_of_other_adapters_is_refused(run, refused):
    run("fit", "--trainer.max_steps", "1")
    sentence = refused("predict", "--ckpt_path", "last", "--data.headlines", '["A"]', "--model.lora_rank", "4")
    assert "--model.lora_rank 4" in sentence
    assert "trained with 8" in sentence


def test_a_checkpoint_of_another_base_model_is_refused(run, refused, tiny_base, tmp_path):
    run("fit", "--trainer.max_steps", "1")
    other = tmp_path / "other"
    other.mkdir()
    for file in tiny_base.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    sentence = refused("fit", "--ckpt_path", "last", "--model.base_model", str(other))
    assert "a model with a different architecture" in sentence


def test_an_explicit_value_overrides_the_checkpoint_which_overrides_the_default(run, capsys, tmp_path):
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
    printed = capsys.readouterr().err.replace("\n", " ")
    assert "--model.lora_dropout 0.1: the checkpoint was trained with 0.3; continuing with 0.1" in printed
    assert "lora_alpha" not in printed
    saved = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["onion_lightning"]["flags"]
    assert (saved["model.lora_alpha"], saved["model.lora_dropout"], saved["seed_everything"]) == (4, 0.1, 7)
    rates = curve(tmp_path / "run", "learning_rate")
    assert rates[1] == pytest.approx(0.5)
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["lr_schedulers"][0]["base_lrs"] == [0.5]


@pytest.fixture
def demo_config(tmp_path):
    """A config that names another base model and other adapters than the tests' flags."""
    config = tmp_path / "demo.yaml"
    config.write_text("model: {base_model: demo, lora_rank: 16, target_modules: [k_proj], load_in: int8}\n")
    return str(config)


def test_the_printed_commands_run_as_printed_although_the_config_names_another_base_model(
    flags, demo_config, tiny_base, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    shape = ("--model.lora_rank", "2", "--model.target_modules", '["v_proj"]', "--model.load_in", "none")
    words = ["fit", "--config", demo_config, *flags("fit", "--trainer.max_steps", "1", *shape)[1:]]
    assert main(words) == 0
    printed = capsys.readouterr().err.split("Write an article with it:\n")[1].strip()
    python, dash, program, *line = shlex.split(printed)
    assert (python, dash, program) == ("python", "-m", "onion_lightning")
    assert main(line) == 0
    assert records(tmp_path / "articles.jsonl")[0]["headline"] == "Area Man Declares War On Tuesday"
    printed = capsys.readouterr().err
    last = tmp_path / "run" / "last.ckpt"
    assert (
        f"--model.base_model demo in the config: {last} was trained with {tiny_base}, which is used instead." in printed
    )
    assert "--model.lora_rank 16 in the config" in printed
    assert main(shlex.split(resume_command(words))[3:]) == 0


def test_a_base_model_that_was_typed_is_an_error_where_a_configured_one_gives_way(run, refused, demo_config):
    run("fit", "--trainer.max_steps", "1")
    line = ("predict", "--config", demo_config, "--ckpt_path", "last", "--data.headlines", '["A"]')
    assert "a model with a different architecture" in refused(*line, "--model.base_model", "demo")
    assert "--model.lora_rank 16" in refused(*line, "--model.lora_rank", "16")
