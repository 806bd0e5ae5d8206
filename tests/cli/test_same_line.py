"""The same command line, another word: commands that do not train take the flags of `fit`, and name those without effect."""

import inspect
import re

import pytest
import torch

from onion_lightning.cli.main import main
from onion_lightning.cli.parsing.ignored import ignored_flags
from onion_lightning.model.module import OnionModule
from tests.conftest import adapters

TEXT = "The University of California said that San Francisco is full of eggs."
PHRASES = ("--query", "San Francisco", "--key", "University of California")
OUTPUT = {"attend": "attention.json", "export": "", "plan": "plan.json", "preview": "preview.json"}

# Flags of `fit`, with values other than those that the commands below have otherwise.
VALUES = {
    "articles.keep_all": "true",
    "articles.path": "elsewhere.csv",
    "articles.resume": "true",
    "checkpoint.dirpath": "elsewhere",
    "checkpoint.every_n_train_steps": "3",
    "collective_timeout": "60",
    "data.batch_size": "2",
    "data.escapechar": "\\",
    "data.global_batch_size": "4",
    "data.headlines": "Egg Wins",
    "data.language": "en",
    "data.max_length": "50",
    "data.min_words": "5",
    "data.num_workers": "1",
    "data.overflow": "drop",
    "data.path": "sample",
    "data.predict_batch_size": "3",
    "data.seed": "9",
    "data.val_fraction": "0.3",
    "model.best_of": "5",
    "model.candidates": "3",
    "model.gradient_checkpointing": "true",
    "model.init_lora_weights": "gaussian",
    "model.learning_rate": "0.5",
    "model.load_in": "nf4",
    "model.lora_alpha": "64",
    "model.lora_dropout": "0.3",
    "model.lora_plus_ratio": "4",
    "model.lora_rank": "4",
    "model.max_new_tokens": "7",
    "model.neftune_alpha": "5",
    "model.optimizer": "adamw_8bit",
    "model.repetition_penalty": "1.5",
    "model.seed": "9",
    "model.shard": "true",
    "model.target_modules": "all-linear",
    "model.temperature": "0.3",
    "model.top_p": "0.5",
    "model.use_dora": "true",
    "model.use_rslora": "true",
    "model.warmup_ratio": "0.5",
    "model.weight_decay": "0.1",
    "samples.count": "1",
    "samples.max_new_tokens": "3",
    "seed_everything": "9",
    "trainer.callbacks": "[LearningRateMonitor]",
    "trainer.devices": "8",
    "trainer.gradient_clip_val": "1",
    "trainer.logger": "true",
    "trainer.max_epochs": "7",
    "trainer.num_nodes": "2",
    "trainer.precision": "bf16-mixed",
    "trainer.strategy": "ddp",
    "weights_only": "true",
}


@pytest.fixture
def trained(run, tmp_path):
    """A checkpoint whose adapters change what the model computes."""
    run("fit", "--trainer.max_steps", "1", "--samples.count", "0")
    file = tmp_path / "run" / "last.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    checkpoint["state_dict"] = {name: torch.randn(value.shape) for name, value in adapters(file).items()}
    torch.save(checkpoint, file)
    return str(file)


def ignored_in(printed):
    """The flags that a command says it ignores, in one line."""
    found = re.findall(r"^\w+ ignores flags that have no effect in it: (.*)\.$", printed, re.MULTILINE)
    assert len(found) <= 1
    return found[0].split(", ") if found else []


@pytest.mark.filterwarnings("ignore:.*int8 and int4 quantization.*")
@pytest.mark.parametrize(
    ("command", "with_checkpoint"),
    [("attend", True), ("attend", False), ("export", True), ("plan", False), ("preview", False)],
)
def test_flags_that_are_named_change_nothing(run, tmp_path, capsys, monkeypatch, request, command, with_checkpoint):
    monkeypatch.chdir(tmp_path)
    path = request.getfixturevalue("trained") if with_checkpoint else None
    words = [command, "--output", str(tmp_path / "out"), *(("--ckpt_path", path) if path else ())]
    words += {"attend": ["--text", TEXT, *PHRASES], "plan": ["--gpu", "RTX 4090"]}.get(command, [])
    options = {"trainer": {"logger": True}, "ckpt_path": path, "headline": None, "verify": False}
    ignored = ignored_flags(command, options, VALUES)
    assert len(ignored) > 15
    more = [word for flag in ignored for word in (flag, VALUES[flag[2:]])]
    written = []
    for line in (words, [*words, *more]):
        capsys.readouterr()
        run(*line)
        files = sorted((tmp_path / "out").glob(OUTPUT[command] or "*"))
        written.append({file.name: file.read_bytes() for file in files})
    assert set(ignored) <= set(ignored_in(capsys.readouterr().err))
    assert written[0] == written[1]


def test_every_flag_of_the_model_has_a_value_here():
    names = {f"model.{name}" for name in inspect.signature(OnionModule).parameters}
    assert names - VALUES.keys() == {"model.base_model", "model.adapter", "model.adapter_strength"}


def test_the_line_names_flags_that_were_typed_and_none_of_a_config(flags, tmp_path, capsys):
    config = tmp_path / "c.yaml"
    config.write_text("trainer: {max_steps: 3, accelerator: gpu, devices: 8}\nsamples: {count: 2}\n")
    words = ("--config", str(config), "--output", str(tmp_path / "p"), "--rows", "1")
    assert main(flags("preview", *words, "--trainer.callbacks+=LearningRateMonitor", "--trainer.max_epochs", "3")) == 0
    line = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("preview ignores"))
    named = "--checkpoint.dirpath, --model.learning_rate, --model.max_new_tokens, --samples.max_new_tokens"
    assert line == (
        f"preview ignores flags that have no effect in it: {named}, --trainer.callbacks, --trainer.max_epochs."
    )


def test_the_run_folder_and_decoding_are_not_named_where_they_matter(run, trained, tmp_path, capsys):
    run("export", "--ckpt_path", "last", "--output", str(tmp_path / "out"))
    assert "--checkpoint.dirpath" not in (named := ignored_in(capsys.readouterr().err))
    assert "--model.max_new_tokens" not in named
    assert "--model.learning_rate" in named


@pytest.mark.parametrize(
    ("given", "ignored"),
    [
        ({"also": "votes=best"}, []),
        ({"also": ["a=x.ckpt", "b=last"]}, []),
        ({"also": "votes=best.ckpt"}, ["--checkpoint.dirpath"]),
        ({}, ["--checkpoint.dirpath"]),
    ],
)
def test_the_run_folder_is_not_named_where_another_model_is_in_it(given, ignored):
    options = {"trainer": {"logger": False}, "ckpt_path": "x.ckpt"} | given
    assert ignored_flags("serve", options, {"checkpoint.dirpath"}) == ignored


def test_adapters_to_start_from_are_planned_for_and_named_where_nothing_is_trained(run, tmp_path, capsys):
    adapter, out = tmp_path / "adapter", tmp_path / "out"
    run("fit", "--trainer.max_steps", "1", "--samples.count", "0", "--model.lora_rank", "2", "--model.use_dora", "true")
    run("export", "--ckpt_path", "last", "--output", str(adapter))
    plans = []
    for words in (("--model.adapter", str(adapter)), ("--model.lora_rank", "2", "--model.use_dora", "true")):
        run("plan", "--gpu", "RTX 4090", "--output", str(out), *words)
        plans.append((out / "plan.json").read_bytes())
    assert plans[0] == plans[1]
    capsys.readouterr()
    run("attend", "--text", TEXT, *PHRASES, "--output", str(out), "--model.adapter", str(adapter))
    assert "--model.adapter" in ignored_in(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--samples.count", "-1"), "--samples.count -1: must be at least 0"),
        (("--samples.cuont", "1"), "--samples.cuont 1: is not a flag of"),
        (("--collective_timeout", "0"), "--collective_timeout 0: must be a number of seconds above 0"),
        (("--checkpoint.every_n_train_steps", "many"), "--checkpoint.every_n_train_steps many: must be a whole number"),
        (
            ("--articles.path", "x.docx"),
            "--articles.path x.docx: must be a file that ends in .jsonl, .csv, .md or .txt.",
        ),
        (("--model.learning_rate", "0"), "--model.learning_rate 0.0: must be above 0"),
        (("--model.adapter", "nowhere"), "--model.adapter nowhere: "),
        (("--trainer.strategy", "fsdp"), "--trainer.strategy fsdp: is not supported"),
        (("--trainer.strategy", "lightning.pytorch.strategies.FSDPStrategy"), "FSDPStrategy: is not supported"),
        (("--trainer.max_time", "soon"), "--trainer.max_time soon: must be a duration"),
        (("--trainer.limit_val_batches", "1.5"), "--trainer.limit_val_batches 1.5: "),
        (("--trainer.precision", "8"), "--trainer.precision 8"),
        (("--trainer.callbacks", "[ModelPruning]"), "--trainer.callbacks"),
    ],
)
@pytest.mark.parametrize("command", ["fit", "preview", "attend", "serve"])
def test_what_is_wrong_in_fit_is_refused(refused, tmp_path, monkeypatch, command, words, says):
    monkeypatch.chdir(tmp_path)
    needed = ("--text", TEXT, *PHRASES) if command == "attend" else ()
    assert says in refused(command, *needed, *words)
    assert list(tmp_path.iterdir()) == []


def test_serve_takes_the_line_and_needs_a_checkpoint(refused, flags, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(flags("serve", "--trainer.max_epochs", "3", "--trainer.devices", "8")) == 1
    printed = capsys.readouterr().err
    assert {"--trainer.devices", "--trainer.max_epochs"} < set(ignored_in(printed))
    assert "--ckpt_path: serve needs the checkpoint" in printed


@pytest.mark.parametrize("command", ["preview", "plan"])
def test_a_line_that_resumes_shows_the_rows_of_the_resumed_run(run, trained, tmp_path, command):
    """The checkpoint's own settings are used where no flag is given, as in `fit`."""
    file = tmp_path / "run" / "last.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    key = "flags" if "data.min_words" in checkpoint["onion_lightning"]["flags"] else "training"
    checkpoint["onion_lightning"][key]["data.min_words"] = 35
    torch.save(checkpoint, file)
    read = []
    for words in ((), ("--ckpt_path", "last"), ("--data.min_words", "35")):
        run(command, *words, "--output", str(tmp_path / "out"), *(("--gpu", "RTX 4090") if command == "plan" else ()))
        read.append((tmp_path / "out" / f"{command}.json").read_bytes())
    assert read[0] != read[1] == read[2]


def test_a_line_that_resumes_from_nothing_starts_from_scratch(run, tmp_path, capsys):
    run("preview", "--ckpt_path", "last", "--output", str(tmp_path / "out"), "--rows", "1")
    assert "last.ckpt does not exist yet, so the run starts from scratch." in capsys.readouterr().err


def test_the_config_that_fit_saved_is_taken(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in (["preview"], ["plan"], ["attend", "--text", TEXT, *PHRASES], ["export", "--ckpt_path", trained]):
        assert main([words[0], "--config", "run/config.yaml", *words[1:]]) == 0
