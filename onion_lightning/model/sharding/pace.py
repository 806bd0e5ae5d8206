"""Keeps ranks that share weights in step: gathering a layer takes all of them."""

import contextlib
from collections.abc import Iterator

import torch
import torch.distributed as dist
from transformers import PreTrainedModel

__all__ = ["Pace", "keeping_pace"]


class Pace:
    """Lets the ranks that share weights make the same number of forward passes, whatever each of them computes.

    Inside `keeping_pace`, each announces a pass before it makes it, and one that has finished its own work makes passes on
    one token until all have.

    Args:
        model: the causal language model, sharded.
        group: the ranks that share its weights.
    """

    def __init__(self, model: PreTrainedModel, group: dist.ProcessGroup) -> None:
        self.decoder = model.get_decoder()
        self.group = group
        self.device = model.device
        self.active = False

    def announce(self, works: bool) -> bool:
        """Return whether any rank makes a pass."""
        working = torch.tensor([int(works)], device=self.device)
        dist.all_reduce(working, op=dist.ReduceOp.MAX, group=self.group)
        return bool(working.item())

    def follow(self) -> None:
        """Make passes on one token until no rank makes any."""
        token = torch.zeros(1, 1, dtype=torch.long, device=self.device)
        with torch.no_grad():
            while self.announce(False):
                self.decoder(input_ids=token, use_cache=False)


@contextlib.contextmanager
def keeping_pace(pace: Pace | None) -> Iterator[None]:
    """Make as many forward passes as the other ranks that share the weights, inside the block and at its end.

    All of them enter the block, whether they have something to compute or not. Does nothing if the weights are not sharded.
    """
    if pace is None or pace.active:
        yield
        return
    pace.active = True
    handle = pace.decoder.register_forward_pre_hook(lambda *_: pace.announce(True) and None)
    try:
        yield
    finally:
        handle.remove()
        pace.active = False
    pace.follow()
