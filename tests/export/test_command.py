"""The `export` subcommand: what is in the folder, that plain peft computes the same with it, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import wandb
from peft import LoraConfig, PeftConfig, PeftModel
from safetensors.torch import load_file
from transformers import AutoTokenizer

from onion_lightning.data.prompt import encode_prompt
from onion_lightning.export.command import FILES, MERGED
from tests.conftest import adapters, module
from tests.export.conftest import logits, plain, trained

IDS = torch.randint(3, 99, (2, 9), generator=torch.Generator().manual_seed(0))
TARGETS = [["q_proj", "v_proj"], "all-linear", "auto", ["embed_tokens", "lm_head", "o_proj"]]


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_plain_peft_computes_the_same_logits_as_this_project(run, tiny_base, tmp_path, target):
    made = trained(tiny_base, tmp_path / "a.ckpt", target_modules=target, lora_rank=4, lora_alpha=20)
    run("export", "--ckpt_path", str(tmp_path / "a.ckpt"), "--output", str(tmp_path / "out"))
    model = PeftModel.from_pretrained(plain(tiny_base), tmp_path / "out").eval()
    assert torch.equal(logits(model, IDS), logits(made.model, IDS))
    assert not torch.allclose(logits(model, IDS), logits(plain(tiny_base), IDS))


def test_the_folder_has_the_config_and_the_names_of_peft(exported, tiny_base, checkpoint):
    folder = exported()
    config = PeftConfig.from_pretrained(folder)
    assert isinstance(config, LoraConfig)
    assert (config.r, config.lora_alpha, config.lora_dropout, config.task_type) == (8, 16, 0.0, "CAUSAL_LM")
    assert config.inference_mode
    assert config.base_model_name_or_path == str(tiny_base)
    assert json.loads((folder / "adapter_config.json").read_text())["target_modules"] == ["q_proj", "v_proj"]
    names = load_file(folder / "adapter_model.safetensors").keys()
    assert "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" in names
    assert len(names) == len(adapters(checkpoint)) == 8


def test_no_weights_of_the_base_model_are_read_without_merge(run, refused, tiny_base, tmp_path):
    base = shutil.copytree(tiny_base, tmp_path / "base")
    trained(base, tmp_path / "a.ckpt")
    (base / "model.safetensors").unlink()
    words = ("export", "--model.base_model", str(base), "--ckpt_path", str(tmp_path / "a.ckpt"), "--output")
    run(*words, str(tmp_path / "out"))
    assert "has no model.safetensors" in refused(*words, str(tmp_path / "merged"), "--merge", "true")
    assert not (tmp_path / "merged").exists()


def test_the_tokenizer_in_the_folder_encodes_prompts_as_training_did(exported, tiny_base):
    folder = exported("--merge", "true")
    for place in (folder, folder / MERGED):
        tokenizer = AutoTokenizer.from_pretrained(place)
        for headline in ("Egg  Wins", "“Ünïcode” 🥚"):
            assert encode_prompt(tokenizer, headline) == encode_prompt(
                AutoTokenizer.from_pretrained(tiny_base), headline
            )


def test_the_same_checkpoint_gives_the_same_files(exported, tmp_path):
    first = shutil.copytree(exported(), tmp_path / "first")
    second = exported()
    assert sorted(file.name for file in first.iterdir()) == sorted(file.name for file in second.iterdir())
    for file in first.iterdir():
        assert file.read_bytes() == (second / file.name).read_bytes(), file.name


def test_all_files_of_an_export_are_listed_so_that_they_are_replaced_and_uploaded(exported):
    assert {file.name for file in exported("--merge", "true").iterdir()} <= {*FILES, MERGED}


def test_a_config_for_eight_gpus_is_exported_on_a_machine_without_one(exported, tmp_path):
    config = tmp_path / "gpus.yaml"
    config.write_text("trainer: {accelerator: gpu, devices: 8, strategy: ddp, precision: 16-mixed, logger: false}\n")
    assert (exported("--config", str(config)) / "adapter_model.safetensors").exists()


def test_decoding_defaults_are_those_that_were_given_or_else_those_of_the_run(exported, checkpoint):
    (checkpoint.parent / "config.yaml").write_text("model: {temperature: 0.6, top_p: 0.9, max_new_tokens: 77}\n")
    settings = json.loads((exported("--model.top_p", "0.5") / "onion_lightning.json").read_text())
    assert settings["decoding"] == {"temperature": 0.6, "top_p": 0.5, "max_new_tokens": 12, "repetition_penalty": 1.1}


def test_an_earlier_export_is_replaced_only_on_request_and_as_a_whole(run, refused, exported, checkpoint):
    folder = exported("--merge", "true")
    (folder / "notes.txt").write_text("mine")
    (folder / "verify.json").write_text("{}")
    words = ("export", "--ckpt_path", str(checkpoint), "--output", str(folder))
    sentence = refused(*words)
    assert "contains an earlier export with merged weights, which this one would lack; give another folder" in sentence
    run(*words, "--merge", "true")
    assert not (folder / "verify.json").exists()
    exported()
    assert not (folder / MERGED).exists()
    assert (folder / "notes.txt").read_text() == "mine"


def test_an_export_of_the_same_adapters_is_replaced_and_one_of_others_only_on_request(
    run, refused, exported, checkpoint, tmp_path
):
    folder, other = exported(), tmp_path / "other.ckpt"
    words = ("export", "--output", str(folder), "--ckpt_path")
    run(*words, str(checkpoint), "--model.temperature", "0.3")
    assert json.loads((folder / "onion_lightning.json").read_text())["decoding"]["temperature"] == 0.3
    saved = torch.load(checkpoint, weights_only=True)
    saved["state_dict"] = {name: value * 1.001 for name, value in saved["state_dict"].items()}
    torch.save(saved, other)
    before = (folder / "adapter_model.safetensors").read_bytes()
    assert "contains an earlier export with other adapters; give another folder" in refused(*words, str(other))
    assert (folder / "adapter_model.safetensors").read_bytes() == before
    run(*words, str(other), "--overwrite", "true")
    (folder / "adapter_model.safetensors").write_bytes(before[:100])
    assert "contains an earlier export with damaged adapters" in refused(*words, str(checkpoint))


def test_files_that_no_export_wrote_are_not_replaced(refused, checkpoint, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    words = ("--ckpt_path", str(checkpoint), "--output", str(tmp_path), "--overwrite", "true")
    assert "its README.md is not that of an earlier export" in refused("export", *words)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_checkpoint_is_required(refused):
    assert "--ckpt_path: export needs the checkpoint" in refused("export")


def test_a_base_model_of_another_shape_is_refused(refused, tiny_base, checkpoint, tmp_path):
    base = shutil.copytree(tiny_base, tmp_path / "other")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"num_key_value_heads": 4}))
    words = ("--ckpt_path", str(checkpoint), "--model.base_model", str(base), "--output", str(tmp_path / "out"))
    assert f"its adapters do not match --model.base_model {base}" in refused("export", *words)
    assert not (tmp_path / "out").exists()


def test_a_run_of_fit_is_exported_and_continued_by_this_project(run, tmp_path, tiny_base):
    run("fit", "--trainer.max_steps", "2", "--model.target_modules", "all-linear", "--model.lora_rank", "4")
    run("export", "--ckpt_path", "last", "--output", str(tmp_path / "out"))
    for words in (("validate",), ("predict", "--data.headlines", "Egg Wins")):
        run(*words, "--ckpt_path", str(tmp_path / "out"))
    run("fit", "--model.adapter", str(tmp_path / "out"), "--trainer.max_steps", "1", "--model.learning_rate", "1e-12")
    before = load_file(tmp_path / "out" / "adapter_model.safetensors")
    after = adapters(tmp_path / "run" / "last.ckpt")
    for name, weight in before.items():
        kept = after["model." + name.replace(".weight", ".default.weight")]
        torch.testing.assert_close(kept, weight, atol=1e-6, rtol=0)


def test_the_folder_is_logged_to_wandb_as_an_artifact_without_merged_weights(exported, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = {"class_path": "lightning.pytorch.loggers.WandbLogger", "init_args": {"offline": True}}
    logger["init_args"]["save_dir"] = str(tmp_path)
    exported("--trainer.logger", json.dumps(logger), "--merge", "true")
    wandb.teardown()  # waits until its process has written all; `finish` returned before that on a busy machine
    logs = b"".join(file.read_bytes() for file in (tmp_path / "wandb").rglob("run-*.wandb"))
    assert b"adapter_model.safetensors" in logs
    assert b"model.safetensors.index.json" not in logs
    assert b"generation_config.json" not in logs


def test_a_module_loads_the_checkpoint_of_an_exported_folder(exported, tiny_base, checkpoint):
    """The folder can be exported again, with the same adapters."""
    folder = exported()
    again = folder.with_name("again")
    from onion_lightning.cli.main import main

    assert main(["export", "--ckpt_path", str(folder), "--output", str(again)]) == 0
    first, second = (load_file(place / "adapter_model.safetensors") for place in (folder, again))
    assert all(torch.equal(first[name], second[name]) for name in first.keys() | second.keys())
    one, two = (json.loads((place / "onion_lightning.json").read_text()) for place in (folder, again))
    assert one["flags"] == two["flags"]


def test_the_demo_is_named_demo_again_when_the_folder_comes_back(exported, tiny_base):
    from onion_lightning.training.checkpoint_io import read_checkpoint

    folder = exported()
    settings = json.loads((folder / "onion_lightning.json").read_text())
    settings["flags"]["model.base_model"] = "demo"
    (folder / "onion_lightning.json").write_text(json.dumps(settings))
    assert read_checkpoint(folder)["onion_lightning"]["flags"]["model.base_model"] == "demo"
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "team/llama"}))
    assert read_checkpoint(folder)["onion_lightning"]["flags"]["model.base_model"] == "team/llama"


def test_eight_bit_training_is_exported_with_the_adapters_as_they_are(run, tiny_base, tmp_path):
    made = trained(tiny_base, tmp_path / "a.ckpt", load_in="int8")
    run("export", "--ckpt_path", str(tmp_path / "a.ckpt"), "--output", str(tmp_path / "out"))
    weights = load_file(Path(tmp_path / "out" / "adapter_model.safetensors"))
    other = module(tiny_base, load_in="int8", adapter=str(tmp_path / "out")).eval()
    assert len(weights) == 8
    assert torch.equal(logits(other.model, IDS), logits(made.model, IDS))
