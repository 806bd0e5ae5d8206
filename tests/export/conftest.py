"""A tiny model with trained adapters, saved as a checkpoint, and exports of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from tests.conftest import module


def trained(base: Path, file: Path, **flags: Any):
    """Save a checkpoint with adapters that are not zero, and return the module that has them."""
    made = module(base, **({"load_in": "none"} | flags)).eval()
    torch.manual_seed(1)
    for parameter in made.parameters():
        if parameter.requires_grad:
            parameter.data = 0.1 * torch.randn_like(parameter)
    checkpoint = {"state_dict": made.state_dict(), "epoch": 0, "global_step": 3, "loops": {}}
    made.on_save_checkpoint(checkpoint)
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(checkpoint | {"pytorch-lightning_version": pl.__version__}, file)
    return made


def copy_base(base: Path, folder: Path, config: dict[str, Any], dtype: str = "float32", shard: str = "1GB") -> Path:
    """Save a tiny Llama with another config, dtype or number of files, and the tokenizer of the tiny base model."""
    small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    small |= {"num_key_value_heads": 2, "max_position_embeddings": 512, "vocab_size": 600, "initializer_range": 0.2}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**small | config)).to(getattr(torch, dtype))
    model.save_pretrained(folder, max_shard_size=shard)
    for name in ("tokenizer.model", "tokenizer_config.json"):
        (folder / name).write_bytes((base / name).read_bytes())
    return folder


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=ids).logits


def plain(folder: Path | str, **more: Any) -> Any:
    """Load a model as any program does."""
    return AutoModelForCausalLM.from_pretrained(folder, **more).eval()


@pytest.fixture
def checkpoint(tiny_base, tmp_path) -> Path:
    """A checkpoint with adapters on queries and values."""
    trained(tiny_base, tmp_path / "run" / "best.ckpt")
    return tmp_path / "run" / "best.ckpt"


@pytest.fixture
def exported(run, checkpoint, tmp_path) -> Callable[..., Path]:
    """Return a function that runs the command with more flags, and returns the folder."""

    def command(*words: str) -> Path:
        folder = tmp_path / "exported"
        run("export", "--ckpt_path", str(checkpoint), "--output", str(folder), "--overwrite", "true", *words)
        return folder

    return command
