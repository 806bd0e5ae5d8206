"""A clock that is set by hand, the lines that were logged, and a Trainer's attributes that progress is read from."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import torch

from tests.test_heartbeat import clock, lines

__all__ = ["FakeTrainer", "clock", "lines"]


@dataclass
class FakeTrainer:
    """The Trainer's attributes that progress is read from."""

    estimated_stepping_batches: float = 10
    num_training_batches: int = 10
    accumulate_grad_batches: int = 2
    max_epochs: int = 2
    global_step: int = 0
    current_epoch: int = 0
    log_every_n_steps: int = 3
    num_val_batches: list[int] = field(default_factory=lambda: [4])
    callback_metrics: dict[str, torch.Tensor] = field(default_factory=dict)
    strategy: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(root_device=torch.device("cpu")))
