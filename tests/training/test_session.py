"""What a command without a Trainer loads."""

import pytest
import torch

from onion_lightning.errors import OnionError
from onion_lightning.model.module import OnionModule
from onion_lightning.training.session import Session
from tests.conftest import adapters, module


@pytest.fixture
def checkpoint(tiny_base, tmp_path):
    """A checkpoint whose adapters are random."""
    trained = module(tiny_base, load_in="none", lora_rank=4)
    for parameter in trained.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter)
    content = {"state_dict": trained.state_dict()}
    trained.on_save_checkpoint(content)
    torch.save(content, tmp_path / "random.ckpt")
    return tmp_path / "random.ckpt"


def trainable(model):
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_a_base_model_is_loaded_for_inference_with_adapters_that_change_nothing(tiny_base):
    session, model = Session(), OnionModule(str(tiny_base), load_in="none")
    session.load(model, None)
    assert not any(part.training for part in model.modules())
    assert {parameter.device.type for parameter in model.parameters()} == {session.device.type}
    added = [value for name, value in trainable(model).items() if "lora_B" in name]
    assert added
    assert not any(value.any() for value in added)


def test_the_adapters_of_a_checkpoint_are_loaded_for_inference(tiny_base, checkpoint):
    model = OnionModule(str(tiny_base), load_in="none", lora_rank=4)
    Session().load(model, str(checkpoint))
    saved = adapters(checkpoint)
    assert trainable(model).keys() == saved.keys()
    assert all(torch.equal(value.cpu(), saved[name]) for name, value in trainable(model).items())
    assert not any(part.training for part in model.modules())


def test_adapters_of_another_rank_are_refused(tiny_base, checkpoint):
    model = OnionModule(str(tiny_base), load_in="none", lora_rank=8)
    with pytest.raises(OnionError, match=r"its adapters do not match .* with --model\.lora_rank 8"):
        Session().load(model, str(checkpoint))
