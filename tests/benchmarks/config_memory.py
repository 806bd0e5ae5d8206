"""Prints the table of memory in configs/README.md: what each GPU config is predicted to need.

    python tests/benchmarks/config_memory.py

The micro-batch is the largest that a config allows: every row has --data.max_length tokens.
"""

import inspect
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from transformers import LlamaConfig

from onion_lightning.data.module import OnionDataModule
from onion_lightning.model.module import OnionModule
from onion_lightning.model.sharding.layers import check_ranks
from onion_lightning.planning.memory import CUDA_CONTEXT, MemoryPlan, predict_memory
from onion_lightning.pretrained.known import known_config

CONFIGS = Path(__file__).parent.parent.parent / "configs"
CARDS = {"gpu1": 24, "qlora": 16, "t4x2": 16, "ddp8": 24, "llama70b": 24}  # GB


def llama_2_7b(**changes: Any) -> LlamaConfig:
    """Return the config of Llama-2 7B, without a download."""
    shape: dict[str, Any] = {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "max_position_embeddings": 4096,
        "name_or_path": "7B shape",
    }
    return LlamaConfig(**(shape | changes))


def flags(cls: type, given: dict[str, Any]) -> dict[str, Any]:
    """Return the flags of a class: the defaults, updated with those of a config."""
    return {name: p.default for name, p in inspect.signature(cls).parameters.items()} | given


@cache
def config_plan(name: str) -> MemoryPlan:
    """Predict the memory of a config's largest micro-batch."""
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    model, data, trainer = (
        flags(OnionModule, config["model"]),
        flags(OnionDataModule, config["data"]),
        config["trainer"],
    )
    shared = ("load_in", "lora_rank", "lora_dropout", "target_modules", "gradient_checkpointing")
    shape, ranks = known_config(model["base_model"]), trainer["devices"]
    assert shape is not None
    return predict_memory(
        shape,
        **{flag: model[flag] for flag in shared},
        precision=trainer["precision"],
        rows=data["batch_size"],
        length=data["max_length"],
        ranks=ranks,
        shares=check_ranks(model["shard"], ranks, 1) if model["shard"] else 1,
    )


def table_row(name: str) -> str:
    plan = config_plan(name)
    training = plan.constant - plan.weights
    workspace, peak = plan.workspace + plan.gathered, plan.total + CUDA_CONTEXT
    parts = [plan.weights, training, plan.activations, plan.logits, workspace, peak]
    return f"| `{name}.yaml` | {' | '.join(f'{part / 1e9:.2f}' for part in parts)} | {CARDS[name]} |"


def main() -> None:
    for name in CARDS:
        print(table_row(name), flush=True)


if __name__ == "__main__":
    main()
