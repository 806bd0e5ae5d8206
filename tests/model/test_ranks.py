"""DDP sends adapters only, and ranks with different base weights are refused."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from onion_lightning.errors import OnionError
from onion_lightning.model.ranks import compare_sums, exclude_frozen_weights, weight_sums
from tests.conftest import module
from tests.several import on_ranks


@pytest.mark.parametrize("load_in", ["int8", "nf4", "none"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_checksum_follows_every_byte_of_the_frozen_weights_and_no_adapter(tiny_base, load_in, precision):
    made = module(tiny_base, precision, load_in=load_in)
    before = weight_sums(made)
    frozen = [p for p in made.parameters() if not p.requires_grad]
    assert before.shape == (len(frozen),)
    assert torch.equal(weight_sums(module(tiny_base, precision, load_in=load_in, seed=2)), before)
    for number, weight in enumerate(frozen):
        last = weight.data.flatten().view(torch.uint8)[-1:]
        last += 1
        assert (weight_sums(made) != before).nonzero().flatten().tolist() == [number]
        last -= 1


def test_odd_numbers_of_bytes_are_summed_too():
    layer = torch.nn.Linear(3, 1, bias=False).requires_grad_(False)
    layer.weight.data = torch.tensor([[1.0, 2.0, 3.0]])
    other = torch.nn.Linear(3, 1, bias=False).requires_grad_(False)
    other.weight.data = torch.tensor([[1.0, 2.0, 3.5]])
    assert weight_sums(layer) != weight_sums(other)


def test_a_single_process_compares_nothing(tiny_base):
    compare_sums(weight_sums(module(tiny_base)), "demo")


def disagree(number: int, base: Path) -> dict[str, Any]:
    """Wrap a module as Lightning does, and change a weight of rank 1 afterwards."""
    made, sent = module(base), []
    exclude_frozen_weights(made)
    compare_sums(weight_sums(made), "demo")
    original = dist._broadcast_coalesced
    dist._broadcast_coalesced = lambda group, tensors, *more: sent.extend(tensors) or original(group, tensors, *more)
    wrapped = DistributedDataParallel(made)
    at_start = [list(tensor.shape) for tensor in sent]
    wrapped.module.train()
    wrapped(torch.ones(1, 3, dtype=torch.long))  # buffers would be sent at every forward pass
    if number == 1:
        made.language_model.model.norm.weight.data[0] += 1
    with pytest.raises(OnionError) as refused:
        compare_sums(weight_sums(made), "demo")
    return {"at_start": at_start, "later": len(sent) - len(at_start), "error": str(refused.value)}


def test_ddp_sends_adapters_only_and_all_ranks_refuse_different_base_weights(tiny_base):
    made = module(tiny_base)
    trained = [list(p.shape) for p in made.parameters() if p.requires_grad]
    for found in on_ranks(disagree, tiny_base):
        assert found["at_start"] == trained
        assert found["later"] == 0
        assert found["error"].startswith("--model.base_model demo: rank 0 and rank 1 loaded different weights")


IN_A_NOTEBOOK = """if True:
    import sys
    import lightning.pytorch as pl
    from onion_lightning import OnionDataModule, OnionModule

    base, corpus, strategy = sys.argv[1:]
    flags = {"logger": False, "enable_checkpointing": False, "use_distributed_sampler": False}
    trainer = pl.Trainer(accelerator="cpu", devices=2, strategy=strategy, max_steps=1, **flags)
    trainer.fit(OnionModule(base_model=base), OnionDataModule(base_model=base, path=corpus))
"""


def test_a_strategy_for_notebooks_is_refused_with_the_command_to_run_instead(tiny_base, corpus_file):
    words = [sys.executable, "-c", IN_A_NOTEBOOK, str(tiny_base), str(corpus_file), "ddp_notebook"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(
        "onion_lightning.errors.OnionError: Trainer(strategy=...): strategies that fork or spawn ranks"
    )
    assert "run !onion-lightning fit --trainer.strategy ddp in a cell" in last
