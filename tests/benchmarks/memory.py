"""Compares the predicted memory of training with the memory of a process that trains, for SmolLM2 and for Llama-2 7B's shape.

    python tests/benchmarks/memory.py demo
    python tests/benchmarks/memory.py 7b

Each case runs in a process of its own, on the CPU. The 7B shape has random weights, 32 layers of their own: 6.5 GB in 8 bit.
`weights` is the growth of the process while the model is loaded, `peak` that until the highest point of an optimizer step
(VmHWM), and `tensors` the peak of all tensors that are alive in the same step, which leaves out what kernels allocate.
"""

import argparse
import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from config_memory import llama_2_7b
from process_memory import status
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from onion_lightning.model.base_model import LoadIn, compute_dtype
from onion_lightning.model.module import OnionModule
from onion_lightning.planning.fake_model import quantize, tensors_of
from onion_lightning.planning.live_memory import LiveMemory, storage_bytes
from onion_lightning.planning.memory import MemoryPlan, predict_memory
from onion_lightning.planning.training_step import full_batch, trace_optimizer
from onion_lightning.pretrained.locate import load_config, load_tokenizer
from onion_lightning.private_api import TorchDispatchMode


class Case(NamedTuple):
    model: str
    load_in: LoadIn
    precision: str
    checkpointing: bool
    rows: int
    length: int
    products: bool = True  # whether matrix products are computed, or their results only allocated and filled


class FilledProducts(TorchDispatchMode):
    """Fills the results of matrix products with a constant: the same memory in a hundredth of the time."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.mm.default:
            return torch.full((args[0].shape[0], args[1].shape[1]), 0.01, dtype=args[0].dtype)
        return func(*args, **(kwargs or {}))


DEMO = [
    Case("demo", load_in, "32-true", checkpointing, rows, length)
    for load_in in ("int8", "nf4", "none")
    for checkpointing in (False, True)
    for rows, length in ((4, 384), (8, 512))
] + [Case("demo shape", "int8", "bf16-mixed", checkpointing, 2, 128) for checkpointing in (False, True)]
SEVEN_B = [
    Case("7b", "int8", "32-true", True, 1, 256),
    Case("7b", "int8", "32-true", False, 1, 256),
    Case("7b", "int8", "32-true", True, 1, 256, products=False),
    Case("7b", "int8", "32-true", False, 1, 256, products=False),
    Case("7b", "int8", "32-true", True, 2, 512, products=False),
    Case("7b", "nf4", "32-true", True, 2, 512, products=False),
    Case("7b", "nf4", "32-true", False, 1, 512, products=False),
]
# Freed memory goes back to the system at once.
ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_ARENA_MAX": "1"}
ENVIRONMENT["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"


def config_of(case: Case) -> PretrainedConfig:
    if case.model.startswith("demo"):
        return load_config("demo")
    return llama_2_7b()


def random_like(tensor: torch.Tensor) -> torch.Tensor:
    made = torch.empty(tensor.shape, dtype=tensor.dtype)
    return made.normal_(0, 0.02) if tensor.is_floating_point() else made.random_(0, 100)


def random_base(config: PretrainedConfig, load_in: LoadIn, dtype: torch.dtype) -> PreTrainedModel:
    """Return a model with random weights, made layer by layer in their final format."""
    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(config, dtype=dtype)
        base.requires_grad_(False)
        quantize(base, load_in, dtype)
    for layer in base.modules():
        for name, parameter in list(layer.named_parameters(recurse=False)):
            setattr(layer, name, torch.nn.Parameter(random_like(parameter), requires_grad=False))
    base.model.rotary_emb = LlamaRotaryEmbedding(config)
    base.tie_weights()
    return base


def load(case: Case) -> OnionModule:
    module = OnionModule(case.model, case.load_in, gradient_checkpointing=case.checkpointing, seed=0)
    if case.model == "demo":
        module.load_base(torch.device("cpu"), case.precision)
    else:
        module.adapt(random_base(config_of(case), case.load_in, compute_dtype(case.precision)))
    return module


def train(module: OnionModule, case: Case) -> None:
    """Run the forward and backward pass of a full micro-batch."""
    dtype = compute_dtype(case.precision)
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        loss = module.loss_sum(full_batch(case.rows, case.length))
    loss.backward()


def warm_up(case: Case) -> PreTrainedTokenizerBase:
    """Load the tokenizer and train a tiny model, so that what libraries keep for themselves is there before the baseline."""
    config = LlamaConfig(
        vocab_size=30000, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2
    )
    module = OnionModule("tiny", case.load_in, gradient_checkpointing=case.checkpointing, seed=0)
    module.adapt(random_base(config, case.load_in, compute_dtype(case.precision)))
    train(module, case._replace(rows=1, length=8))
    return load_tokenizer("demo")


def measure(case: Case) -> dict[str, int]:
    """Load, train and measure in this process."""
    tokenizer = warm_up(case)
    before = status("VmRSS")
    module = load(case)
    loaded = status("VmRSS")
    state, _ = trace_optimizer(module, "cpu")
    existing = [one for layer in module.modules() for one in tensors_of(layer)]
    existing += [one.grad for one in module.parameters() if one.grad is not None] + state
    del tokenizer
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    with LiveMemory() as memory, nullcontext() if case.products else FilledProducts():
        train(module, case)
    return {
        "weights": loaded - before,
        "peak": status("VmHWM") - before,
        "tensors": storage_bytes(existing) + memory.peak,
    }


def predict(case: Case) -> MemoryPlan:
    return predict_memory(
        config_of(case),
        load_in=case.load_in,
        precision=case.precision,
        lora_rank=8,
        target_modules=["q_proj", "v_proj"],
        gradient_checkpointing=case.checkpointing,
        rows=case.rows,
        length=case.length,
        device_type="cpu",
    )


def in_a_process(number: int, cases: str) -> dict[str, int]:
    command = [sys.executable, __file__, cases, "--measure", str(number)]
    done = subprocess.run(command, env=os.environ | ENVIRONMENT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def row(case: Case, plan: MemoryPlan, measured: dict[str, int]) -> str:
    predicted = {"weights": plan.weights + plan.adapters, "peak": plan.total}
    cells = [
        f"{predicted[name] / 1e9:.2f} | {measured[name] / 1e9:.2f} | {predicted[name] / measured[name] - 1:+.1%}"
        for name in predicted
    ]
    shape = f"{case.rows} × {case.length}"
    start = f"{case.load_in} | {case.precision} | {'yes' if case.checkpointing else 'no'} | {shape}"
    start += "" if case.products else " (filled)"
    return f"| {start} | {' | '.join(cells)} | {measured['tensors'] / 1e9:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=["demo", "7b"])
    parser.add_argument("--measure", type=int, help="used by the script itself: measure one case in this process")
    parser.add_argument("--only", type=int, nargs="*", help="numbers of the cases to run; by default, all")
    options = parser.parse_args()
    cases = DEMO if options.model == "demo" else SEVEN_B
    if options.measure is not None:
        print(json.dumps(measure(cases[options.measure])))
        return
    for number in range(len(cases)) if options.only is None else options.only:
        print(row(cases[number], predict(cases[number]), in_a_process(number, options.model)), flush=True)


if __name__ == "__main__":
    main()
