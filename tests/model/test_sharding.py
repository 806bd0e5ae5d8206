"""Weights that are spread over ranks give what whole ones give, bit for bit, and no rank waits for another in vain."""

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from onion_lightning.errors import OnionError
from onion_lightning.model.packed_rows import packed_hidden_states
from onion_lightning.model.sharding import Pace, check_ranks, keeping_pace, shard_layers
from tests.conftest import module
from tests.several import on_ranks

KINDS = [(load_in, checkpointing) for load_in in ("int8", "nf4", "none") for checkpointing in (False, True)]


def compute(made):
    """Hidden states of two rows, and the gradients of all adapters."""
    torch.manual_seed(3)
    made.zero_grad()
    hidden = packed_hidden_states(made.language_model, torch.arange(5, 25), [12, 8])
    hidden.float().pow(2).sum().backward()
    return [hidden.detach(), *(p.grad.clone() for p in made.parameters() if p.requires_grad)]


def stored(made):
    layers = made.language_model.get_decoder().layers
    frozen = [p for p in layers.parameters() if not p.requires_grad]
    return sum((p.to_local() if isinstance(p, DTensor) else p).nbytes for p in frozen)


def shard_and_compare(rank, base):
    torch.set_num_threads(1)
    found = []
    for load_in, checkpointing in KINDS:
        flags = {"load_in": load_in, "gradient_checkpointing": checkpointing, "lora_dropout": 0.1}
        made = module(base, "bf16-mixed", target_modules="all-linear", **flags)
        whole, before = compute(made), stored(made)
        mesh = DeviceMesh.from_group(dist.new_group(), "cpu")
        shard_layers(made.language_model, mesh, torch.device("cpu"))
        same = [torch.equal(one, other) for _ in range(2) for one, other in zip(whole, compute(made), strict=True)]
        found.append([all(same), len(same), stored(made) / before])
    return found


def test_hidden_states_and_gradients_of_sharded_weights_are_the_same_bit_for_bit(tiny_base):
    for rank in on_ranks(shard_and_compare, str(tiny_base), world=3):
        for same, count, share in rank:
            assert same
            assert count == 2 * (
                1 + 2 * 2 * 7
            )  # hidden states, and A and B of seven layers in two decoder layers, twice
            assert share < 0.4  # a third, padded


def work(rank, base):
    torch.set_num_threads(1)
    made = module(base)
    group = dist.new_group()
    shard_layers(made.language_model, DeviceMesh.from_group(group, "cpu"), torch.device("cpu"))
    pace, written = Pace(made.language_model, group), []
    for limit in (3 * rank, 6, 2 - rank):  # numbers of passes that differ, none among them
        with keeping_pace(pace), keeping_pace(pace):
            headlines = ["Egg Wins"] * bool(limit)
            written += [one.text for [one] in made.write(headlines, 1, max_new_tokens=max(limit, 1))]
    dist.barrier()
    made.train()
    made.pace = pace
    empty = {"row_lengths": []}
    loss = made.loss_sum(empty) if rank else packed_hidden_states(made.language_model, torch.arange(9), [9]).sum()
    loss.backward()
    gradients = [p.grad for p in made.parameters() if p.requires_grad]
    return [written, float(loss), [bool(gradient.any()) for gradient in gradients]]


def test_ranks_with_less_to_compute_keep_pace_with_the_others(tiny_base):
    alone = module(tiny_base)
    (first, _, moved), (second, loss, still) = on_ranks(work, str(tiny_base))

    def text(tokens):
        return alone.write(["Egg Wins"], 1, max_new_tokens=tokens)[0][0].text

    assert first == [text(6), text(2)]
    assert second == [text(3), text(6), text(1)]
    assert any(moved)  # B is zero at the start, so A has no gradient yet
    assert loss == 0.0
    assert not any(still)


@pytest.mark.parametrize(
    ("shard", "world", "nodes", "size"), [(True, 16, 2, 8), ("node", 16, 2, 8), ("all", 16, 2, 16), ("all", 2, 2, 2)]
)
def test_weights_are_spread_over_a_machine_or_over_all(shard, world, nodes, size):
    assert check_ranks(shard, world, nodes) == size


@pytest.mark.parametrize(("shard", "world", "nodes"), [(True, 1, 1), ("all", 1, 1), ("node", 2, 2)])
def test_a_single_rank_is_refused(shard, world, nodes):
    words = rf"--model.shard {str(shard).lower()}: there is only one rank to spread the weights over"
    with pytest.raises(OnionError, match=words):
        check_ranks(shard, world, nodes)
