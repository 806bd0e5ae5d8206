"""LoRA adapters in the tiny Llama."""

import pytest
import torch
from peft.tuners.lora import LoraLayer

from onion_lightning.errors import OnionError
from onion_lightning.model.adapters import check_adapters
from onion_lightning.model.frozen_linear import Int8Linear, Nf4Linear
from tests.conftest import batch, module


@pytest.mark.parametrize("load_in", ["int8", "nf4", "none"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_only_float32_adapters_are_trainable_and_they_receive_gradients(tiny_base, load_in, checkpointing):
    made = module(tiny_base, load_in=load_in, gradient_checkpointing=checkpointing)
    trainable = {name: p for name, p in made.named_parameters() if p.requires_grad}
    assert len(trainable) == 2 * 2 * 2  # A and B, of q and v, in two layers
    assert all("lora_" in name and p.dtype == torch.float32 for name, p in trainable.items())
    quantized = {"int8": Int8Linear, "nf4": Nf4Linear, "none": torch.nn.Linear}
    assert all(
        isinstance(layer.base_layer, quantized[load_in]) for layer in made.modules() if isinstance(layer, LoraLayer)
    )
    made.loss_sum(batch(made)).backward()
    assert all(p.grad.abs().sum() > 0 for name, p in trainable.items() if "lora_B" in name)


def test_target_modules_that_the_model_does_not_have_are_reported(tiny_base):
    with pytest.raises(OnionError, match="c_attn"):
        module(tiny_base, target_modules=["c_attn"])


def test_a_checkpoint_with_adapters_of_another_rank_is_refused(tiny_base):
    made, other = module(tiny_base, lora_rank=4), module(tiny_base, lora_rank=8)
    checkpoint = {"state_dict": other.state_dict()}
    other.on_save_checkpoint(checkpoint)
    check_adapters(other, checkpoint)
    with pytest.raises(OnionError, match=r"--model\.lora_rank 4 .*; use the flags .*--model\.lora_rank 8 "):
        check_adapters(made, checkpoint)
