"""What a rank is predicted to gather in a step is what it gathers."""

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from onion_lightning.model.sharding.layers import shard_layers
from onion_lightning.planning.memory import PASSES, predict_memory
from onion_lightning.pretrained.locate import load_config
from tests.conftest import batch, module
from tests.several import GatherCount, on_ranks

FLAGS = {"target_modules": "all-linear", "lora_rank": 8}
KINDS = [(load_in, checkpointing) for load_in in ("int8", "nf4", "none") for checkpointing in (False, True)]


def count_gathers(rank, base):
    torch.set_num_threads(1)
    group, found = dist.new_group(), []
    for load_in, checkpointing in KINDS:
        made = module(base, load_in=load_in, gradient_checkpointing=checkpointing, **FLAGS)
        shard_layers(made.language_model, DeviceMesh.from_group(group, "cpu"), torch.device("cpu"))
        with GatherCount() as gathers:
            made.loss_sum(batch(made)).backward()
        found.append([gathers.times, gathers.received])
    return found


def test_each_layer_is_gathered_twice_in_a_micro_batch_with_the_predicted_bytes(tiny_base):
    first, *others = on_ranks(count_gathers, str(tiny_base), world=3)  # which pad most tensors
    assert others == [first] * 2
    config, size = load_config(str(tiny_base)), {"precision": "32-true", "rows": 1, "length": 20, "shares": 3}
    for (load_in, checkpointing), gathered in zip(KINDS, first, strict=True):
        shared = predict_memory(config, load_in=load_in, gradient_checkpointing=checkpointing, **FLAGS, **size).shared
        assert gathered == [PASSES * 2, shared.received]  # of two layers, also with gradient checkpointing
