"""A text, and models to measure attention in it: the tiny base model, and one in 8 bit with adapters."""

import pytest
import torch

from onion_lightning.attention.phrase_attention import attend
from onion_lightning.model.base_model import load_model
from onion_lightning.pretrained.locate import load_tokenizer
from tests.conftest import module

TEXT = (
    "The town council of Eggville met on Tuesday to discuss the weather, which the mayor said was “not our fault” and"
    " the fog denied. At press time, the mayor had moved to Eggville."
)
QUERY, KEY = "Eggville#2", "town council"


@pytest.fixture(scope="module")
def tokenizer(tiny_base):
    return load_tokenizer(str(tiny_base))


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_model(str(tiny_base), "none", torch.device("cpu"), torch.float32)


@pytest.fixture
def result(base, tokenizer):
    """The attention of the base model from the second Eggville to the town council."""
    return attend(base, tokenizer, TEXT, QUERY, KEY)


@pytest.fixture(scope="module", params=["32-true", "bf16-mixed"])
def tuned(tiny_base, request):
    """An 8-bit model with nonzero adapters, as on devices without and with bfloat16."""
    onion = module(tiny_base, request.param, load_in="int8").eval()
    torch.manual_seed(1)
    for name, parameter in onion.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return onion
