"""The frozen base model in 8 bit."""

import torch

from tests.conftest import batch, module


def test_8_bit_layers_on_the_cpu_give_a_row_the_same_loss_in_training_and_evaluation(tiny_base):
    made = module(tiny_base)
    micro = batch(made)
    with torch.no_grad():
        training = made.loss_sum(micro)
        made.eval()
        assert not any(m.training for m in made.modules() if isinstance(m, torch.nn.Dropout))
        assert made.loss_sum(micro) == training
