"""Weights that are spread over ranks give what whole ones give, bit for bit, and no rank waits for another in vain."""

import shutil

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from onion_lightning.errors import OnionError
from onion_lightning.model.adapters.switches import merged_adapters
from onion_lightning.model.decoding import autocast_as_trained, evaluation_mode
from onion_lightning.model.module import OnionModule
from onion_lightning.model.packed_rows import packed_hidden_states
from onion_lightning.model.sharding.layers import check_ranks, shard_layers
from onion_lightning.model.sharding.loading import load_shares
from onion_lightning.model.sharding.pace import Pace, keeping_pace
from onion_lightning.model.sharding.shares import Share
from tests.conftest import module
from tests.families import FAMILIES, save_family
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
    """Bytes of the frozen weights of linear layers that this rank has."""
    weights = [p for name, p in made.named_parameters() if name.endswith("base_layer.weight")]
    assert not any(p.requires_grad for p in weights)
    return sum((p.to_local() if isinstance(p, DTensor) else p).nbytes for p in weights)


def shard_and_compare(rank, bases):
    torch.set_num_threads(1)
    mesh, cpu, found = DeviceMesh.from_group(dist.new_group(), "cpu"), torch.device("cpu"), []
    for base in bases:
        for load_in, checkpointing in KINDS if base == bases[0] else KINDS[::2]:
            flags = {"load_in": load_in, "gradient_checkpointing": checkpointing, "lora_dropout": 0.1, "seed": 1}
            flags |= {"base_model": base, "target_modules": "all-linear"}
            whole = module(precision="bf16-mixed", tiny_base=base, **flags)
            made = OnionModule(**flags)
            made.load_base(cpu, "bf16-mixed", Share(rank, 3, cpu))
            loaded = stored(made)
            shard_layers(made.language_model, mesh, cpu)
            expected = compute(whole)
            same = [
                torch.equal(one, other) for _ in range(2) for one, other in zip(expected, compute(made), strict=True)
            ]
            found.append([all(same), len(same), loaded / stored(whole), stored(made) / stored(whole)])
    return found


def test_hidden_states_and_gradients_of_sharded_weights_are_the_same_bit_for_bit(tiny_base, tmp_path):
    for name in FAMILIES:
        save_family(name, tmp_path / name)
    bases = [str(tiny_base), *(str(tmp_path / name) for name in FAMILIES)]
    for rank in on_ranks(shard_and_compare, bases, world=3):
        assert len(rank) == len(KINDS) + len(FAMILIES) * len(KINDS) // 2
        for same, count, loaded, share in rank:
            assert same
            assert count >= 2 * (1 + 2 * 2 * 4)  # hidden states, and A and B of all layers of two decoder layers, twice
            assert loaded < 0.35  # a third, padded: other rows were not even loaded
            assert share == loaded


def trace(rank, base, checkpointing):
    """The gathers of a forward and a backward pass, and where layers are computed, in their order."""
    torch.set_num_threads(1)
    made = module(base, gradient_checkpointing=checkpointing, target_modules="all-linear")
    shard_layers(made.language_model, DeviceMesh.from_group(dist.new_group(), "cpu"), torch.device("cpu"))
    for number, layer in enumerate(made.language_model.get_decoder().layers):
        layer.mlp.register_forward_pre_hook(lambda *_, name=f"compute {number}": record(name))
    compute(made)
    with torch.profiler.profile() as profile:
        compute(made)
    names = [event.name for event in sorted(profile.events(), key=lambda event: event.time_range.start)]
    kept = ("FSDP::all_gather (", "FSDP::pre_backward", "compute", "FrozenProductBackward")
    return [name for name in names if name.startswith(kept)]


def record(name):
    with torch.profiler.record_function(name):
        pass


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_next_layer_is_gathered_while_one_computes_and_each_layer_twice(tiny_base, checkpointing):
    for events in on_ranks(trace, str(tiny_base), checkpointing):
        middle = events.index("FSDP::pre_backward (layers.1)")
        first, second = "FSDP::all_gather (layers.0)", "FSDP::all_gather (layers.1)"
        assert events[:middle] == [first, second, "compute 0", "compute 1"]
        assert events[middle + 1 : middle + 3] == [second, first]
        assert "FSDP::all_gather" not in "".join(events[middle + 3 :])
        assert events.count(first) == events.count(second) == 2  # also where layers are computed again


def merge(rank, base):
    """Whether merged adapters compute the same with shared weights as with whole ones, and not what they do apart."""
    torch.set_num_threads(1)
    mesh, found = DeviceMesh.from_group(dist.new_group(), "cpu"), []
    for use_dora in (False, True):
        flags = {"load_in": "none", "target_modules": "all-linear", "use_dora": use_dora}
        whole, made = (module(base, "bf16-mixed", **flags) for _ in range(2))
        shard_layers(made.language_model, mesh, torch.device("cpu"))
        merged, apart = [], []
        for one in (whole, made):
            torch.manual_seed(5)
            for parameter in one.parameters():
                if parameter.requires_grad:
                    parameter.data += 0.1 * torch.randn(parameter.shape)
            with torch.no_grad(), autocast_as_trained(one.language_model), evaluation_mode(one):
                before = one(torch.arange(5, 25).view(2, 10))
                with merged_adapters(one.language_model):
                    merged.append(one(torch.arange(5, 25).view(2, 10)))
                apart += [before, one(torch.arange(5, 25).view(2, 10))]
        same = all(torch.equal(apart[0], other) for other in apart)  # also after they were merged
        found.append([torch.equal(*merged), same, torch.equal(merged[0], apart[0])])
    return found


def test_adapters_are_merged_into_shared_weights_as_into_whole_ones(tiny_base):
    assert on_ranks(merge, str(tiny_base)) == [[[True, True, False]] * 2] * 2


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


def load(rank, cases):
    """What each case ends with: the weights that two machines of two ranks load, and how they are shared."""
    torch.set_num_threads(1)
    found = []
    for shard, bases in cases:
        made = OnionModule(bases[rank // 2], shard=shard, seed=1)
        try:
            load_shares(made, torch.device("cpu"), "32-true", world=4, nodes=2)
            found.append("loaded")
        except OnionError as error:
            found.append(str(error))
    return found


def test_machines_with_different_weights_are_refused_although_no_rank_has_all_of_them(tiny_base, tmp_path):
    base, other = str(tiny_base), str(tmp_path / "other")
    shutil.copytree(base, other)
    weights = load_file(f"{other}/model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"][-1, -1] += 1  # in the last row, which ranks 1 and 3 have
    save_file(weights, f"{other}/model.safetensors", metadata={"format": "pt"})
    cases = [(shard, bases) for shard in ("node", "all") for bases in ([base, base], [base, other])]
    for rank, found in enumerate(on_ranks(load, cases, world=4)):
        sentence = f"--model.base_model {(base, other)[rank // 2]}: rank 1 and rank 3 loaded different weights"
        assert found[0] == found[2] == "loaded"
        assert found[1].startswith(sentence)
        assert found[3].startswith(sentence)
