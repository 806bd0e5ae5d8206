"""Traces the training step of a whole model, from as few of its layers as possible."""

import copy
from dataclasses import astuple, dataclass, field
from typing import Any

import torch
from transformers import PretrainedConfig

from onion_lightning.model.module import OnionModule
from onion_lightning.planning.fake_model import load_fake_base
from onion_lightning.planning.training_step import DeviceType, StepMemory, add_gradients, trace_optimizer, trace_step
from onion_lightning.private_api import FakeTensorMode

__all__ = ["Tracer"]


@dataclass
class Tracer:
    """Builds modules on fake tensors and traces their training steps.

    Args:
        config: of the base model.
        flags: of `OnionModule`.
        dtype: of the frozen layers and of autocast.
        device_type: whose dropout and optimizer step to trace.
    """

    config: PretrainedConfig
    flags: dict[str, Any]
    dtype: torch.dtype
    device_type: DeviceType
    fake: FakeTensorMode = field(default_factory=FakeTensorMode)

    def load(self, layers: int) -> OnionModule:
        """Return a module with the first layers of the base model and their adapters."""
        config = copy.deepcopy(self.config)
        config.num_hidden_layers = layers
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:layers]
        module = OnionModule(**self.flags)
        load_fake_base(module, config, self.dtype, self.fake)
        return module

    def optimizer(self, module: OnionModule) -> tuple[int, int]:
        """Return the size of the optimizer's state and what a step adds to it, in bytes."""
        with self.fake:
            return trace_optimizer(module, self.device_type)

    def first_layers(self, layers: int, rows: int, length: int) -> StepMemory:
        """Trace the step of the first layers."""
        module = self.load(layers)
        with self.fake:
            add_gradients(module.parameters())
            return trace_step(module, rows, length, self.dtype, self.device_type)

    def all_layers(self, rows: int, length: int) -> StepMemory:
        """Return the memory of a step. If layers are of one type, two and three are traced: each further one adds the same.

        One is not enough, because the first layer differs: no gradient reaches its input.
        """
        layers = self.config.num_hidden_layers
        if layers <= 3 or len(set(getattr(self.config, "layer_types", None) or ())) > 1:
            return self.first_layers(layers, rows, length)
        pairs = zip(*(astuple(self.first_layers(count, rows, length)) for count in (2, 3)), strict=True)
        return StepMemory(*(two + (layers - 2) * (three - two) for two, three in pairs))
