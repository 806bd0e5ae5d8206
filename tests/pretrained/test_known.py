"""The Llama-2 models whose shapes are known without a network."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from onion_lightning.pretrained.known import known_config

PARAMETERS = {"7b": 6_738_415_616, "13b": 13_015_864_320, "70b": 68_976_648_192}  # as the Hub reports them


@pytest.mark.parametrize("size", PARAMETERS)
def test_a_llama_2_of_each_size_has_the_published_number_of_parameters(size):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(known_config(f"meta-llama/Llama-2-{size}-hf"))
    assert sum(one.numel() for one in model.parameters()) == PARAMETERS[size]


@pytest.mark.parametrize(
    "name", ["NousResearch/Llama-2-7b-hf", "meta-llama/Llama-2-7b-chat-hf", "NousResearch/Llama-2-7B-hf"]
)
def test_the_names_of_the_hub_are_known(name):
    config = known_config(name)
    assert (config.num_hidden_layers, config.max_position_embeddings, config.name_or_path) == (32, 4096, name)


@pytest.mark.parametrize(
    "name", ["demo", "NousResearch/Llama-2-7b-GPTQ", "someone/Llama-2-7b-hf", "./meta-llama/Llama-2-7b-hf"]
)
def test_other_names_are_not(name):
    assert known_config(name) is None
