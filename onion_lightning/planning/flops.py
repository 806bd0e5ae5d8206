"""Counts floating-point operations while they run, on real tensors and on fake ones."""

from typing import Any

import torch

from onion_lightning.private_api import TorchDispatchMode, attention_products

__all__ = ["FlopCount"]

FIRST_FACTOR = {  # matrix products, and which argument is the first factor
    torch.ops.aten.mm: 0,
    torch.ops.aten.bmm: 0,
    torch.ops.aten.addmm: 1,
    torch.ops.aten.baddbmm: 1,
}


class FlopCount(TorchDispatchMode):
    """Counts the operations of matrix products inside this context: two for each multiplication with its addition.

    Everything else takes little time in comparison. torch's `FlopCounterMode` knows no attention kernels of the CPU.

    Attributes:
        products: operations of matrix products, which are proportional to the number of tokens.
        attention: operations of attention kernels, which grow with the square of a row's length. Causal attention counts in
            full, as in `FlopCounterMode`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.products = self.attention = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        at = FIRST_FACTOR.get(func.overloadpacket)
        if at is not None:
            self.products += 2 * output.numel() * args[at].shape[-1]
        elif (found := attention_products(func.overloadpacket)) is not None:
            query, key = args[found.query], args[found.query + 1]  # (rows, heads, length, head size)
            self.attention += found.products * 2 * query.numel() * key.shape[-2]
        return output
