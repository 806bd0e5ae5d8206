"""Merges adapters into the 16-bit weights of a base model, one file at a time, and writes them as a model directory.

Weights are read from the base model's files, never from quantized weights in memory, and at most one file is in memory.
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from onion_lightning.errors import OnionError
from onion_lightning.export.base_files import INDEX, BaseFiles
from onion_lightning.export.source import Source
from onion_lightning.heartbeat import log_line

__all__ = ["merge_weights", "save_weights"]

FLOATS = (torch.bfloat16, torch.float16, torch.float32)


def merge_weights(source: Source, folder: Path) -> None:
    """Write the merged weights, their index and the config of the base model.

    The result has the dtypes and the division into files of the base model.

    Args:
        source: adapters and base model.
        folder: an existing folder.

    Raises:
        OnionError: the base model has no such weights, is quantized, or does not fit on the disk.
        OSError: a file cannot be written.
    """
    files = BaseFiles(source.base_model, source.base_path)
    write_config(source, files, folder)
    shards = files.shards()
    check_space(shards, folder)
    sizes: dict[str, dict[str, int]] = {}
    for number, (name, file) in enumerate(shards.items(), 1):
        log_line(f"merging {name}, {number} of {len(shards)}")
        sizes[name] = merge_file(source, file, folder / name)
    written = {weight for found in sizes.values() for weight in found}
    layers = merged_layers(source)
    if left := source.layers - {layers[weight] for weight in written & layers.keys()}:
        raise OnionError(
            f"--merge true: the files of {source.base_model} have no weight for the adapted layer {min(left)}; load base and"
            " adapters with peft, and merge them with merge_and_unload()."
        )
    if files.find(INDEX):
        weight_map = {weight: name for name, found in sizes.items() for weight in found}
        total = sum(sum(found.values()) for found in sizes.values())
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def write_config(source: Source, files: BaseFiles, folder: Path) -> None:
    """Write the base model's `config.json`. Embeddings and output layer that are adapted apart are no longer tied."""
    config = files.read_json("config.json")
    if "quantization_config" in config:
        raise OnionError(
            f"--merge true: {source.base_model} is quantized in its files, and adapters are merged into 16-bit weights alone;"
            " give the unquantized model to --model.base_model."
        )
    if unties(source):
        config["tie_word_embeddings"] = False
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def unties(source: Source) -> bool:
    """Whether tied weights become two: those of the embeddings or the output layer are adapted."""
    return source.skeleton.tied and not source.layers.isdisjoint((source.skeleton.embeddings, source.skeleton.head))


def check_space(shards: dict[str, Path], folder: Path) -> None:
    needed, free = sum(file.stat().st_size for file in shards.values()), shutil.disk_usage(folder).free
    if needed > free:
        raise OnionError(
            f"--output {folder.parent.parent}: the merged model needs {needed / 1e9:.1f} GB of disk space, and"
            f" {free / 1e9:.1f} GB are free; free some, or give a folder on another disk."
        )


def merged_layers(source: Source) -> dict[str, str]:
    """Return the adapted layers by the names that their weights may have in a file: with the model's prefix or without."""
    short = {f"{layer.partition('.')[2]}.weight": layer for layer in source.layers if "." in layer}
    return short | {f"{layer}.weight": layer for layer in source.layers}


def merge_file(source: Source, file: Path, target: Path) -> dict[str, int]:
    """Merge the weights of one file, write them, and return their sizes in bytes by name."""
    layers = merged_layers(source)
    tensors: dict[str, torch.Tensor] = {}
    try:
        with safe_open(file, "pt") as weights:
            for name in weights.keys():  # noqa: SIM118 - it is not a mapping
                for written in written_names(source, name):
                    weight, layer = weights.get_tensor(name), layers.get(written)
                    tensors[written] = weight if layer is None else merge(source, layer, weight)
    except SafetensorError as error:
        raise OnionError(
            f"--model.base_model {source.base_model}: {file.name} is damaged ({error}); download it again."
        ) from error
    save_weights(tensors, target)
    return {name: tensor.nbytes for name, tensor in tensors.items()}


def written_names(source: Source, name: str) -> list[str]:
    """Return the names under which a weight is written: two for tied embeddings that are adapted apart."""
    embeddings, head = f"{source.skeleton.embeddings}.weight", f"{source.skeleton.head}.weight"
    return {embeddings: [embeddings, head], head: []}.get(name, [name]) if unties(source) else [name]


def merge(source: Source, layer: str, weight: torch.Tensor) -> torch.Tensor:
    """Return `weight + B A * scaling`, computed in float32, in the dtype of the weight; with DoRA, rows of the trained norm.

    Raises:
        OnionError: the weight is quantized, or the result is too large for its dtype.
    """
    if weight.dtype not in FLOATS:
        raise OnionError(
            f"--merge true: {layer} of {source.base_model} has weights of type {weight.dtype}, and adapters are merged"
            " into 16-bit weights alone; give the unquantized model to --model.base_model."
        )
    merged = weight.to(torch.float32, copy=True)
    merged.add_(delta(source, layer), alpha=source.scaling)
    magnitude = source.weights.get(f"base_model.model.{layer}.lora_magnitude_vector")  # (out,)
    if magnitude is not None:
        merged.mul_((magnitude / torch.linalg.norm(merged, dim=1))[:, None])
    merged = merged.to(weight.dtype)
    if not merged.isfinite().all():
        raise OnionError(
            f"--merge true: the merged {layer} has values that {weight.dtype} cannot represent; export without --merge, and"
            " load base and adapters with peft."
        )
    return merged


def delta(source: Source, layer: str) -> torch.Tensor:
    """Return `B A` of an adapted layer in the layout of its weight."""
    name = f"base_model.model.{layer}"
    if f"{name}.lora_embedding_A" in source.weights:  # (rank, vocabulary) and (hidden size, rank)
        return (source.weights[f"{name}.lora_embedding_B"] @ source.weights[f"{name}.lora_embedding_A"]).T
    return source.weights[f"{name}.lora_B.weight"] @ source.weights[f"{name}.lora_A.weight"]  # (out, in)


def save_weights(tensors: dict[str, torch.Tensor], file: Path) -> None:
    """Write a safetensors file.

    Raises:
        OSError: it cannot be written; safetensors' own error is another.
    """
    try:
        save_file(tensors, file, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(str(error)) from error
