"""Turns an out-of-memory error into a sentence that names the flags that save memory, cheapest first."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from onion_lightning.errors import OnionError
from onion_lightning.model.sharding.layers import Shard

__all__ = ["OutOfMemory", "explain_out_of_memory", "is_out_of_memory", "remedies", "wider_shard"]

ON_THE_CPU = "can't allocate memory"  # in the message of torch's CPU allocator, a RuntimeError


class OutOfMemory(OnionError):
    """A device has too little memory. Any rank may raise it alone."""


def is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or (isinstance(error, RuntimeError) and ON_THE_CPU in str(error))


def explain_out_of_memory(
    command: str, options: Mapping[str, Any], error: BaseException, shard: Shard = False
) -> OutOfMemory:
    """Return the error that is shown to the user.

    Args:
        command: the subcommand that ran out of memory.
        options: its configuration: `model` and `data`.
        error: of torch's allocator.
        shard: the value of --model.shard that would help; False if none would.
    """
    device = "the GPU" if isinstance(error, torch.OutOfMemoryError) else "this machine"
    rank = f" on rank {os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else ""
    asked = re.search(r"[Tt]ried to allocate ([\d.]+ \w+)", str(error))
    amount = f" when it needed {asked[1]} more" if asked else ""
    help_ = "; or ".join(remedies(command, options["model"], options["data"], shard))
    what = f"--data.batch_size {options['data']['batch_size']}"
    return OutOfMemory(f"{what}: {device} ran out of memory{rank}{amount}; give {help_}.")


def wider_shard(shard: Shard, ranks: int, nodes: int) -> Shard:
    """Return the value of --model.shard with which more ranks share the weights, the fewest first; False if there is none.

    Args:
        shard: the value now.
        ranks: number of ranks.
        nodes: number of machines.
    """
    if not shard and ranks > nodes:
        return True
    return "all" if shard != "all" and nodes > 1 else False


def remedies(command: str, model: Mapping[str, Any], data: Mapping[str, Any], shard: Shard = False) -> Iterator[str]:
    """Yield what saves memory and has not been done yet, cheapest first; `shard` as for `explain_out_of_memory`."""
    trains = command in ("fit", "plan")
    rows = data["batch_size"]
    if command != "attend" and rows > 1:
        yield f"--data.batch_size {rows // 2}" + (", which does not change the effective batch" if trains else "")
    if trains and not model["gradient_checkpointing"]:
        yield "--model.gradient_checkpointing true, which takes about a third more time"
    if command in ("predict", "evaluate") and model["candidates"] > 1:
        yield "fewer --model.candidates"
    if command == "predict" and model["best_of"] > 1:
        yield "a smaller --model.best_of"
    if shard:
        yield f"--model.shard {str(shard).lower()}, which spreads the frozen weights over more ranks"
    if model["load_in"] != "nf4":
        fewer_bits = "int8 or nf4" if model["load_in"] == "none" else "nf4"
        yield f"--model.load_in {fewer_bits}, which rounds the weights more coarsely"
    if command == "attend":
        yield "a shorter --text"
    elif trains or command in ("validate", "test"):
        yield f"--data.max_length below {data['max_length']}, which cuts long articles"
    else:
        yield f"--model.max_new_tokens below {model['max_new_tokens']}"
