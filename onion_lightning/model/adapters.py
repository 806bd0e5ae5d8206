"""Inserts LoRA adapters into a frozen base model, saves them in a checkpoint, and checks that saved adapters match."""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import PreTrainedModel

from onion_lightning.errors import OnionError, check_range
from onion_lightning.pretrained.adapter_folder import name_in_checkpoint, read_adapter_folder

if TYPE_CHECKING:  # peft takes two seconds to import, and `--help` imports this module
    from peft import PeftModel

__all__ = [
    "ADAPTER_FLAGS",
    "CHECKPOINT_KEY",
    "TargetModules",
    "adapters_enabled",
    "check_adapter_flags",
    "check_adapters",
    "insert_adapters",
    "load_adapters",
    "merged_adapters",
    "reduce_to_adapters",
    "scaled_adapters",
    "trainable_names",
]

ADAPTER_FLAGS = ("base_model", "load_in", "lora_rank", "lora_alpha", "lora_dropout", "target_modules")
TRAINING_FLAGS = ("learning_rate", "weight_decay", "warmup_ratio")
CHECKPOINT_KEY = "onion_lightning"  # this project's own entry in a Lightning checkpoint


TargetModules = Sequence[str] | str  # names of layers, or one of `SHORTHANDS`
SHORTHANDS = ("auto", "all-linear")


def check_adapter_flags(rank: int, alpha: int, dropout: float, target_modules: TargetModules) -> None:
    """Raise an `OnionError` at a value out of range."""
    check_range("--model.lora_rank", rank, rank >= 1, "at least 1")
    check_range("--model.lora_alpha", alpha, alpha > 0, "above 0")
    check_range("--model.lora_dropout", dropout, 0 <= dropout < 1, "at least 0 and below 1")
    names = [] if isinstance(target_modules, str) else target_modules
    good = target_modules in SHORTHANDS or (len(names) > 0 and all(names))
    accepted = """auto, all-linear, or a list of at least one layer name, such as '["q_proj", "v_proj"]'"""
    check_range("--model.target_modules", target_modules, good, accepted)


def insert_adapters(
    base: PreTrainedModel, rank: int, alpha: int, dropout: float, target_modules: TargetModules, name: str
) -> "PeftModel":
    """Insert LoRA adapters (Hu et al. 2021) in float32.

    Args:
        base: frozen model.
        rank: rank of each adapter.
        alpha: adapters are scaled by alpha / rank.
        dropout: dropout before each adapter.
        target_modules: names of the layers to adapt; all-linear for all linear layers except the output layer, auto for the
            query and value projections of attention.
        name: of the base model, for the error message.

    Raises:
        OnionError: the model has no such layers.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=layer_names(base, target_modules),
        task_type="CAUSAL_LM",
    )
    try:
        with warnings.catch_warnings():
            # Tied embeddings are adapted apart, which only matters to those who merge adapters.
            warnings.filterwarnings("ignore", message=".*a tied layer is part of the adapter.*")
            model = get_peft_model(base, config)
    except ValueError as error:
        raise OnionError(
            f"--model.target_modules {target_modules}: {name} has no such layers; give auto, all-linear, or some of"
            f" {', '.join(linear_names(base))}."
        ) from error
    for parameter_name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert "lora_" in parameter_name
            assert parameter.dtype == torch.float32  # "Attempting to unscale FP16 gradients" otherwise (peft#341)
    return cast("PeftModel", model)


def load_adapters(module: Any, folder: str) -> None:
    """Replace the weights of a module's adapters by those in a folder.

    Args:
        module: an `OnionModule` with its adapters inserted.
        folder: that `export` or peft's `save_pretrained` wrote.

    Raises:
        OnionError: the folder cannot be read, or its adapters differ in name or shape.
    """
    found = read_adapter_folder(Path(folder), "--model.adapter").weights
    weights = {name_in_checkpoint(name): weight for name, weight in found.items()}
    expected = {name: p.shape for name, p in module.named_parameters() if p.requires_grad}
    wrong = sorted(name for name in weights.keys() | expected.keys() if shape_of(weights, name) != expected.get(name))
    if wrong:
        raise OnionError(
            f"--model.adapter {folder}: its adapters do not match --model.base_model {module.base_model} with"
            f" --model.target_modules {module.target_modules}: {len(wrong)} weights are missing, left over or of another"
            f" shape, such as {wrong[0]}; give the base model that they were trained on."
        )
    module.load_state_dict(weights)


def shape_of(weights: dict[str, torch.Tensor], name: str) -> torch.Size | None:
    return weights[name].shape if name in weights else None


def layer_names(base: PreTrainedModel, target_modules: TargetModules) -> list[str] | str | None:
    """Return the layers to adapt as peft takes them.

    For `auto`, these are the query and value projections, or the layer into which an architecture such as Phi-3 fuses them;
    for an architecture with neither, peft chooses.
    """
    if target_modules == "auto":
        names = {name.rpartition(".")[2] for name, _ in base.named_modules()}
        return next((layers for layers in (["q_proj", "v_proj"], ["qkv_proj"]) if names.issuperset(layers)), None)
    return target_modules if isinstance(target_modules, str) else list(target_modules)


def linear_names(base: PreTrainedModel) -> list[str]:
    """Return the last parts of the names of the linear layers, quantized or not, without the output layer."""
    head = base.get_output_embeddings()
    layers = (name for name, layer in base.named_modules() if hasattr(layer, "in_features") and layer is not head)
    return sorted({name.rpartition(".")[2] for name in layers})


def adapters_enabled(model: "PeftModel | None", enabled: bool) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which a loaded model has its adapters, or is the base model."""
    assert model is not None
    return contextlib.nullcontext() if enabled else model.disable_adapter()


@contextlib.contextmanager
def scaled_adapters(model: torch.nn.Module, strength: float) -> Iterator[None]:
    """Multiply the output of every LoRA adapter in a model by a factor, inside the block.

    Args:
        model: may have no adapters.
        strength: 0 is the base model, 1 changes nothing.
    """
    from peft.tuners.lora import LoraLayer

    layers = [module for module in model.modules() if isinstance(module, LoraLayer)] if strength != 1 else []
    before = [dict(layer.scaling) for layer in layers]
    try:
        for layer in layers:
            layer.scaling.update({name: value * strength for name, value in layer.scaling.items()})
        yield
    finally:
        for layer, scaling in zip(layers, before, strict=True):
            layer.scaling.update(scaling)


@contextlib.contextmanager
def merged_adapters(model: torch.nn.Module) -> Iterator[None]:
    """Add the adapters to the weights that they adapt, inside the block, and restore the weights exactly.

    A merged adapter takes no time. Quantized weights cannot be merged into: their adapters stay as they are.

    Args:
        model: may have no adapters. In 16 bit, merged weights are rounded once more.
    """
    from peft.tuners.lora import Linear

    layers = [module for module in model.modules() if isinstance(module, Linear) and can_merge(module)]
    weights = [layer.get_base_layer().weight for layer in layers]
    before = [weight.detach().clone() for weight in weights]
    try:
        with torch.no_grad():
            for layer in layers:
                layer.merge()
        yield
    finally:
        with torch.no_grad():
            for layer, weight, value in zip(layers, weights, before, strict=True):
                layer.unmerge()
                weight.copy_(value)


def can_merge(layer: Any) -> bool:
    weight = layer.get_base_layer().weight
    return weight.is_floating_point() and not layer.disable_adapters and not layer.merged


def trainable_names(module: torch.nn.Module) -> set[str]:
    """Return the names of the trainable parameters."""
    return {name for name, parameter in module.named_parameters() if parameter.requires_grad}


def reduce_to_adapters(module: Any, checkpoint: dict[str, Any]) -> None:
    """Remove the base weights from a Lightning checkpoint, and add the flags that the adapters were trained with.

    Args:
        module: the `OnionModule` that is saved.
        checkpoint: modified in place.
    """
    trainable = trainable_names(module)
    checkpoint["state_dict"] = {name: value for name, value in checkpoint["state_dict"].items() if name in trainable}
    # `load_from_checkpoint` constructs the module from these.
    flags = {name: getattr(module, name) for name in (*ADAPTER_FLAGS, *TRAINING_FLAGS)}
    checkpoint[module.CHECKPOINT_HYPER_PARAMS_KEY] = flags
    saved = checkpoint.setdefault(CHECKPOINT_KEY, {})
    saved["flags"] = saved.get("flags", {}) | module.adapter_flags() | {"seed_everything": module.seed}
    saved["training"] = {f"model.{name}": getattr(module, name) for name in TRAINING_FLAGS}
    saved["architecture"] = module.architecture


def check_adapters(module: Any, checkpoint: dict[str, Any]) -> None:
    """Refuse a checkpoint whose adapters differ from those of a module in name or shape.

    Args:
        module: an `OnionModule` with its adapters inserted.
        checkpoint: a checkpoint of this project.

    Raises:
        OnionError: the adapters do not match.
    """
    expected = {name: p.shape for name, p in module.named_parameters() if p.requires_grad}
    found = {name: value.shape for name, value in checkpoint["state_dict"].items()}
    if expected != found:
        flags = " ".join(f"--{name} {value}" for name, value in checkpoint[CHECKPOINT_KEY]["flags"].items())
        raise OnionError(
            f"--ckpt_path: its adapters do not match --model.base_model {module.base_model} with --model.lora_rank"
            f" {module.lora_rank} and --model.target_modules {module.target_modules}; use the flags that they were trained"
            f" with: {flags}."
        )
