"""Folders of adapters: plain LoRA is read, everything else is refused in one sentence."""

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from onion_lightning.errors import OnionError
from onion_lightning.pretrained.adapter_folder import (
    module_of,
    name_in_checkpoint,
    name_in_peft,
    read_adapter_folder,
    read_settings,
)
from tests.conftest import module


@pytest.fixture
def saved(tiny_base, tmp_path):
    """Return a function that saves adapters with peft's `save_pretrained`."""

    def save(**settings):
        base = AutoModelForCausalLM.from_pretrained(tiny_base)
        defaults = {"task_type": "CAUSAL_LM", "target_modules": ["q_proj", "v_proj"], "r": 4, "lora_alpha": 8}
        get_peft_model(base, LoraConfig(**defaults | settings)).save_pretrained(tmp_path / "lora")
        return tmp_path / "lora"

    return save


def refusal(folder) -> str:
    with pytest.raises(OnionError) as error:
        read_adapter_folder(folder, "--ckpt_path")
    sentence = str(error.value)
    assert sentence.startswith(f"--ckpt_path {folder}: ")
    assert sentence.endswith(".")
    return sentence


def change(folder, **settings):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return folder


def test_adapters_that_peft_saved_are_read(saved, tiny_base):
    found = read_adapter_folder(saved(lora_dropout=0.1, target_modules="all-linear"), "--ckpt_path")
    assert (found.rank, found.alpha, found.dropout, found.base_model) == (4, 8, 0.1, str(tiny_base))
    assert found.target_modules == sorted(["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"])
    assert len(found.weights) == 2 * 7 * 2
    assert read_settings(saved()) == {}


def test_names_are_translated_both_ways(tiny_base):
    made = module(tiny_base, load_in="none", target_modules=["embed_tokens", "lm_head", "q_proj"])
    names = [name for name, parameter in made.named_parameters() if parameter.requires_grad]
    assert [name_in_checkpoint(name_in_peft(name)) for name in names] == names
    assert {module_of(name_in_peft(name)).rpartition(".")[2] for name in names} == {"embed_tokens", "lm_head", "q_proj"}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"rank_pattern": {"layers.0.self_attn.q_proj": 2}}, "rank_pattern is "),
        ({"alpha_pattern": {"q_proj": 2}}, "alpha_pattern is "),
        ({"bias": "lora_only"}, "bias is lora_only"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is "),
        ({"layers_to_transform": [0]}, "layers_to_transform is "),
        ({"lora_bias": True}, "lora_bias is True"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights pissa changed the base model's weights"),
        ({"trainable_token_indices": [1, 2]}, "trainable_token_indices is "),
        ({"task_type": "SEQ_CLS"}, "was trained for the task SEQ_CLS"),
    ],
    ids=str,
)
def test_what_adapters_here_would_compute_differently_is_refused(saved, settings, says):
    if settings.keys() & {"task_type", "init_lora_weights", "lora_bias"}:  # peft would refuse, or change the base
        assert says in refusal(change(saved(), **settings))
    else:
        assert says in refusal(saved(**settings))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"peft_type": "IA3"}, "of type IA3, not LORA"),
        ({"use_a_later_method": True}, "use_a_later_method is True"),
        ({"revision": "abc123"}, "on revision abc123 of its base model"),
        ({"r": 8}, "has rank 4, but its adapter_config.json has r 8"),
        ({"r": None}, "must be whole numbers above 0"),
        ({"lora_alpha": 0}, "must be whole numbers above 0"),
    ],
    ids=str,
)
def test_other_settings_are_refused(saved, settings, says):
    assert says in refusal(change(saved(), **settings))


def test_settings_of_a_later_peft_that_are_off_are_accepted(saved):
    read_adapter_folder(change(saved(), use_a_later_method=False, another_config=None, more={}), "--ckpt_path")


def test_weights_that_are_missing_pickled_damaged_or_not_lora_are_refused(saved, tmp_path):
    folder = saved()
    weights = load_file(folder / "adapter_model.safetensors")
    save_file(weights | {"base_model.model.lm_head.weight": torch.zeros(2)}, folder / "adapter_model.safetensors")
    assert "contains base_model.model.lm_head.weight, which is not a LoRA adapter" in refusal(folder)
    save_file({}, folder / "adapter_model.safetensors")
    assert "is empty" in refusal(folder)
    (folder / "adapter_model.safetensors").write_bytes(b"damaged")
    assert "is damaged" in refusal(folder)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    assert "pickled weights (adapter_model.bin) are never loaded" in refusal(folder)
    (folder / "adapter_config.json").write_text("[]")
    assert "contains no settings" in refusal(folder)
    (folder / "adapter_config.json").write_text("{")
    assert "cannot be read" in refusal(folder)
    assert "contains no adapter_config.json" in refusal(tmp_path)
