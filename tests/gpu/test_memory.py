"""The peak of GPU memory is what `onion_lightning.planning.memory` predicts."""

import pytest
import torch

from onion_lightning.model.module import OnionModule
from onion_lightning.planning.training_step import full_batch
from onion_lightning.pretrained.locate import load_config
from tests.gpu.conftest import DEVICE, GPU, needs_cuda, on_device

pytestmark = GPU
ROWS, LENGTH = 4, 256  # every row is full and every token supervised, as a prediction assumes


def train(made: OnionModule, steps: int) -> None:
    """Train on a micro-batch of `ROWS` rows of `LENGTH` tokens, as `fit` does in 16-mixed."""
    rows = full_batch(ROWS, LENGTH, DEVICE)
    optimizer = torch.optim.AdamW([p for p in made.parameters() if p.requires_grad])
    scaler = torch.amp.GradScaler(DEVICE.type)
    for _ in range(steps):
        with torch.autocast(DEVICE.type, torch.float16):
            loss = made.loss_sum(rows) / rows["supervised"]
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()


@needs_cuda
@pytest.mark.parametrize(("load_in", "checkpointing"), [("int8", False), ("int8", True), ("nf4", True)])
def test_the_peak_memory_of_training_the_demo_is_the_predicted_one(demo, load_in, checkpointing):
    """Within 10%, or the 64 MB that cuBLAS may take as workspace."""
    from onion_lightning.planning.memory import predict_memory

    before = torch.cuda.memory_allocated()
    made = on_device(demo, "16-mixed", load_in=load_in, gradient_checkpointing=checkpointing)
    torch.cuda.reset_peak_memory_stats()  # loading has a peak of its own
    train(made, 3)
    measured = torch.cuda.max_memory_allocated() - before
    plan = predict_memory(
        load_config(demo),
        load_in=load_in,
        precision="16-mixed",
        lora_rank=made.lora_rank,
        target_modules=made.target_modules,
        gradient_checkpointing=checkpointing,
        rows=ROWS,
        length=LENGTH,
        lora_dropout=0.0,
    )
    assert measured == pytest.approx(plan.total, rel=0.1, abs=64e6), plan


def test_training_by_hand_works_on_the_device(tiny_base):
    """The loop of this file, without CUDA's counters."""
    made = on_device(tiny_base, "16-mixed")
    train(made, 2)
    assert any(p.abs().sum() > 0 for name, p in made.named_parameters() if "lora_B" in name)
