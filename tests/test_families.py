"""Whole commands on models of five families: training, resume, articles, evaluation and attention."""

import json
from pathlib import Path

import pytest
import torch

from onion_lightning.cli.main import main
from onion_lightning.data.prompt import encode_examples, encode_prompt, encode_texts
from onion_lightning.pretrained.locate import load_tokenizer
from tests.attention.conftest import KEY, QUERY, TEXT
from tests.conftest import adapters, curve, module, records
from tests.families import FAMILIES, save_family

QUICK = ("--samples.count", "0", "--checkpoint.every_n_train_steps", "1")


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {name: tmp_path_factory.mktemp(name) for name in FAMILIES}
    for name, folder in folders.items():
        save_family(name, folder)
    return folders


@pytest.fixture(params=FAMILIES)
def name(request):
    return request.param


@pytest.fixture
def base(bases, name) -> tuple[str, str]:
    return "--model.base_model", str(bases[name])


def test_a_prompt_has_the_bos_that_the_tokenizer_adds_and_an_example_ends_with_eos(bases, name):
    tokenizer, family = load_tokenizer(str(bases[name])), FAMILIES[name]
    prompt = encode_prompt(tokenizer, "Egg Wins")
    eos = tokenizer.convert_tokens_to_ids(family.eos)
    begins_with = tokenizer.convert_ids_to_tokens(prompt[0])
    assert begins_with == family.bos if family.bos is not None else begins_with not in family.special
    assert eos not in prompt
    assert tokenizer.decode(prompt, skip_special_tokens=True).strip() == "### Headline: Egg Wins\n### Article:"
    [example] = encode_examples(tokenizer, ["Egg Wins"], ["An egg wins."], 200, "cut")
    assert example.input_ids[: example.prompt_length] == prompt
    assert example.input_ids[-1] == tokenizer.eos_token_id == eos


def test_special_tokens_in_a_text_are_ordinary_text(bases, name):
    tokenizer, special = load_tokenizer(str(bases[name])), FAMILIES[name].special
    [ids] = encode_texts(tokenizer, ["An egg " + " ".join(special)])
    assert not set(ids) & {tokenizer.convert_tokens_to_ids(token) for token in special}
    assert tokenizer.decode(ids).strip() == "An egg " + " ".join(special)


@pytest.mark.parametrize("kind", ["auto", "all-linear"])
def test_target_modules_are_chosen_by_kind(bases, name, kind):
    made = module(bases[name], target_modules=kind)
    adapted = {key.split(".lora_A")[0].rpartition(".")[2] for key, _ in made.named_parameters() if ".lora_A" in key}
    assert adapted == (FAMILIES[name].auto if kind == "auto" else FAMILIES[name].all_linear)


@pytest.mark.parametrize("load_in", ["int8", "none"])
def test_training_resumes_exactly(base, flags, run, tmp_path, load_in):
    words = ("fit", *base, *QUICK, "--model.load_in", load_in, "--model.target_modules", "auto")
    run(*words, "--trainer.max_steps", "3", "--checkpoint.dirpath", str(tmp_path / "whole"))
    stop = ("--trainer.callbacks+=tests.stopper.StopAt", "--trainer.callbacks.step=1")
    assert main(flags(*words, "--trainer.max_steps", "3", *stop)) == 130
    run(*words, "--trainer.max_steps", "3", "--ckpt_path", "last")
    whole, resumed = (adapters(tmp_path / folder / "last.ckpt") for folder in ("whole", "run"))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert all(value.abs().max() > 0 for key, value in whole.items() if "lora_B" in key)
    assert curve(tmp_path / "whole") == curve(tmp_path / "run")


def test_a_checkpoint_is_used_by_every_command(base, run, tmp_path):
    words = (*base, "--model.target_modules", "auto")
    run("fit", *words, *QUICK, "--trainer.max_steps", "2")
    checkpoint = ("--ckpt_path", str(tmp_path / "run" / "last.ckpt"))
    run("predict", *words, *checkpoint, "--data.headlines", "Egg Wins", "--model.temperature", "0")
    [article] = records(tmp_path / "articles.jsonl")
    assert article["headline"] == "Egg Wins"
    asked = ("--count", "2", "--shots", "1", "--output", str(tmp_path / "e"), "--model.max_new_tokens", "4")
    run("evaluate", *words, *checkpoint, *asked)
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())
    assert set(metrics["systems"]) == {"real", "base", "few_shot", "tuned"}
    phrases = ("--text", TEXT, "--query", QUERY, "--key", KEY, "--output", str(tmp_path / "a"))
    run("attend", *words, *checkpoint, *phrases, "--effect", "true")
    attention = json.loads((tmp_path / "a" / "attention.json").read_text())
    assert set(attention["systems"]) == set(attention["effects"]) == {"base", "tuned"}
    assert attention["effects"]["tuned"]["value_zeroing"]["query"]["effect"] != 0
    run("preview", *base, "--rows", "2", "--output", str(tmp_path / "p"))
    exported = str(tmp_path / "x")
    run("export", *words, *checkpoint, "--output", exported, "--merge", "true")
    run("verify", *words, *checkpoint, "--path", exported, "--count", "2", "--model.max_new_tokens", "4")
    forms = json.loads((tmp_path / "x" / "verify.json").read_text())["forms"]
    assert [(form["form"], form["stage"]) for form in forms] == [("adapters", None), ("merged", None)]
    assert all(form["largest"] < 1e-3 for form in forms)
