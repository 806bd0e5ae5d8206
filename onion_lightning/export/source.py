"""Reads what is exported: the adapters and flags of a checkpoint, and the shape of the base model, without its weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedTokenizerBase

from onion_lightning.errors import OnionError
from onion_lightning.model.adapters.insertion import insert_adapters
from onion_lightning.model.adapters.saved import CHECKPOINT_KEY
from onion_lightning.model.decoding import Decoding
from onion_lightning.model.module import OnionModule
from onion_lightning.pretrained.adapter_folder import module_of, name_in_peft
from onion_lightning.pretrained.locate import architecture, load_config, load_tokenizer, locate
from onion_lightning.training.checkpoint_io import read_checkpoint

__all__ = ["Skeleton", "Source", "read_source"]


@dataclass(frozen=True)
class Skeleton:
    """What is known of a base model without its weights.

    Attributes:
        config: of the base model.
        lora: peft's LoraConfig, with the layers that are adapted.
        shapes: of the adapters' weights, by their names in peft.
        embeddings: name of the embedding layer.
        head: name of the output layer.
        tied: whether both have the same weights.
    """

    config: PretrainedConfig
    lora: Any
    shapes: dict[str, torch.Size]
    embeddings: str
    head: str
    tied: bool


@dataclass(frozen=True)
class Source:
    """What is exported.

    Attributes:
        checkpoint: file or folder that contains the adapters.
        base_model: value of `--model.base_model`.
        base_path: model ID or absolute directory that other programs load the base model from.
        weights: of the adapters, in float32, by their names in peft.
        skeleton: of the base model.
        tokenizer: of the base model.
        decoding: the decoding flags.
        flags: that the adapters were trained with, and those that determined their rows.
        training: the flags of the optimizer.
        step: number of optimizer steps; 0 if unknown.
        scaling: factor on the product of B and A.
    """

    checkpoint: Path
    base_model: str
    base_path: str
    weights: dict[str, torch.Tensor]
    skeleton: Skeleton
    tokenizer: PreTrainedTokenizerBase
    decoding: Decoding
    flags: dict[str, Any]
    training: dict[str, Any]
    step: int
    scaling: float

    @property
    def layers(self) -> set[str]:
        """Names of the adapted layers."""
        return {module_of(name) for name in self.weights}

    @property
    def is_local(self) -> bool:
        """Whether the base model is a directory of this machine."""
        return Path(self.base_path).is_dir()

    def settings(self) -> dict[str, Any]:
        """Return what `onion_lightning.json` contains of this."""
        names = ("max_new_tokens", "temperature", "top_p", "repetition_penalty")
        return {
            "base_model_name_or_path": self.base_path,
            "flags": self.flags,
            "training": self.training,
            "architecture": architecture(self.skeleton.config),
            "decoding": {name: getattr(self.decoding, name) for name in names},
            "eos_token_id": self.tokenizer.eos_token_id,
            "step": self.step,
        }


def read_source(model: OnionModule, ckpt_path: str) -> Source:
    """Read a checkpoint or a folder of adapters, and check that its adapters fit the base model.

    Args:
        model: with the flags that the adapters were trained with; its weights are not loaded.
        ckpt_path: checkpoint or folder.

    Raises:
        OnionError: the checkpoint or the base model's config cannot be read, or they do not fit.
    """
    checkpoint = read_checkpoint(Path(ckpt_path))
    weights = {name_in_peft(name): value.float().contiguous() for name, value in checkpoint["state_dict"].items()}
    skeleton = build_skeleton(model)
    if {name: value.shape for name, value in weights.items()} != skeleton.shapes:
        raise OnionError(
            f"--ckpt_path {ckpt_path}: its adapters do not match --model.base_model {model.base_model} with"
            f" --model.target_modules {model.target_modules}; give the base model that they were trained on."
        )
    saved = checkpoint[CHECKPOINT_KEY]
    source = locate(model.base_model)
    return Source(
        Path(ckpt_path),
        model.base_model,
        str(Path(source).resolve()) if Path(source).is_dir() else source,
        weights,
        skeleton,
        load_tokenizer(model.base_model),
        model.one_article,
        saved["flags"] | model.adapter_flags(),
        saved["training"],
        int(checkpoint["global_step"]),
        model.adapters.scaling,
    )


def build_skeleton(model: OnionModule) -> Skeleton:
    """Build a base model on the meta device, and insert adapters as for training."""
    import peft  # noqa: F401 - before the default device changes; takes two seconds

    config = load_config(model.base_model)
    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        embeddings, head = base.get_input_embeddings(), base.get_output_embeddings()
        names = {module: name for name, module in base.named_modules()}
        adapted = insert_adapters(base, model.adapters, model.base_model)
    return Skeleton(
        config,
        adapted.peft_config["default"],
        {name_in_peft(name): p.shape for name, p in adapted.named_parameters() if p.requires_grad},
        names[embeddings],
        names[head],
        embeddings.weight is head.weight,
    )
