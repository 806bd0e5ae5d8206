"""Measures the memory that `attend` needs beyond the weights of Llama-2 7B's shape: 32 layers of 32 heads, 8 bit, adapters.

    python tests/benchmarks/attention_memory.py --tokens 1500
    python tests/benchmarks/attention_memory.py --tokens 1500 --effect

With `--effect`, it makes one pass of each kind of intervention instead, with as many rows as `attend --effect true` computes
at a time, and the gradient: all other passes have the same size. As there, the default precision is then 32-true.

The 32 layers share the random weights of one, so that the model fits a small machine; the computation and the results have
their real size. The vocabulary is that of the demo tokenizer.
"""

import argparse
import copy
import tempfile
import time
from pathlib import Path

import torch
from config_memory import llama_2_7b
from process_memory import status
from transformers import LlamaForCausalLM

from onion_lightning.attention.effects.gradient import gradient_times_input
from onion_lightning.attention.effects.intervention import Cut, Intervention, Restore
from onion_lightning.attention.effects.passes import Passes
from onion_lightning.attention.page import render_page
from onion_lightning.attention.phrase_attention import attend
from onion_lightning.attention.statistics import Span
from onion_lightning.model.adapters.insertion import insert_adapters
from onion_lightning.model.adapters.settings import AdapterSettings
from onion_lightning.model.base_model import best_precision, compute_dtype, load_model
from onion_lightning.pretrained.locate import load_tokenizer

LAYERS = 32


def llama_7b(vocabulary: int, precision: str) -> LlamaForCausalLM:
    """Return a model of 32 layers that share their weights, loaded in 8 bit."""
    config = llama_2_7b(vocab_size=vocabulary, num_hidden_layers=1, dtype="float16")
    with tempfile.TemporaryDirectory() as folder:
        LlamaForCausalLM(config).half().save_pretrained(folder)
        device = torch.device("cpu")
        model = load_model(folder, "int8", device, compute_dtype(precision))
    layer = model.model.layers[0]
    parts = [*layer.parameters(), layer.self_attn.config]
    shared = {id(part): part for part in parts}
    for place in range(1, LAYERS):
        model.model.layers.append(copy.deepcopy(layer, dict(shared)))
        model.model.layers[place].self_attn.layer_idx = place  # in the cache
    model.config.num_hidden_layers = LAYERS
    return model


def intervene(model: LlamaForCausalLM, ids: list[int], before: float) -> None:
    """Make a pass of each kind of intervention, then compute the gradient; print the peak of each."""
    began = time.perf_counter()

    def show(what: str) -> None:
        growth, seconds = status("VmHWM") / 1e9 - before, time.perf_counter() - began
        print(
            f"{what}, {len(ids)} tokens, {model.dtype}: {growth:.2f} GB beyond the weights, {seconds:.0f} s since the start",
            flush=True,
        )
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak

    query, key = Span(len(ids) - 18, len(ids) - 16), Span(3, 6)
    passes = Passes(model, ids, query, query.first - 1)
    passes.run([Intervention(Cut(key, range(LAYERS), head)) for head in range(passes.size)], lambda count: None)
    show(f"edges cut, {passes.size} rows in a pass")
    del passes
    passes = Passes(model, ids, query, 1, range(1, 200))
    passes.run([Intervention(zeroed=key, restore=Restore(key, 1))] * passes.size, lambda count: None)
    show(f"values zeroed and streams restored, {passes.size} in a pass")
    del passes
    gradient_times_input(model, ids, query)
    show("gradient")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=1500, help="length of the text")
    parser.add_argument("--effect", action="store_true", help="measure interventions instead of the attention maps")
    parser.add_argument("--precision", choices=["bf16-mixed", "32-true"], help="by default, that of attend")
    args = parser.parse_args()
    precision = args.precision or ("32-true" if args.effect else best_precision(torch.device("cpu")))
    count = args.tokens
    tokenizer = load_tokenizer("demo")
    base = llama_7b(len(tokenizer), precision)
    model = insert_adapters(base, AdapterSettings(8, 16, 0.05, ["q_proj", "v_proj"]), "7B shape")
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    text = "Students of the University of California" + " fog" * (count - 8) + " San Francisco"
    began, before = time.perf_counter(), status("VmRSS") / 1e9
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    if args.effect:
        ids = tokenizer(text + " fog" * 16).input_ids
        intervene(base, ids, before)
        return
    result = attend(model, tokenizer, text, "San Francisco", "University of California")
    growth = status("VmHWM") / 1e9 - before
    page = len(render_page(result).encode()) / 1e6
    layers, heads, _ = result.maps["tuned"].mean.shape
    print(
        f"{layers} layers x {heads} heads, {len(result.tokens)} tokens: {growth:.2f} GB beyond the weights"
        f" ({before:.1f} GB before), {time.perf_counter() - began:.0f} s, page of {page:.1f} MB"
    )


if __name__ == "__main__":
    main()
