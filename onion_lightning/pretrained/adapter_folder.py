"""Reads LoRA adapters that peft, TRL, Axolotl or `export` saved, and refuses those that would not be computed as trained.

A folder has `adapter_config.json` and `adapter_model.safetensors`. One that `export` wrote also has `onion_lightning.json`.
"""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from onion_lightning.errors import OnionError, reason

__all__ = [
    "ADAPTER_CONFIG",
    "ADAPTER_WEIGHTS",
    "SETTINGS",
    "LoraFolder",
    "is_adapter_folder",
    "module_of",
    "name_in_checkpoint",
    "name_in_peft",
    "read_adapter_folder",
    "read_settings",
]

ADAPTER_CONFIG, ADAPTER_WEIGHTS, SETTINGS = "adapter_config.json", "adapter_model.safetensors", "onion_lightning.json"
# Keys of adapter_config.json that do not change what trained adapters compute, or that are read here.
KNOWN = set(
    "auto_mapping base_model_name_or_path fan_in_fan_out inference_mode init_lora_weights lora_alpha lora_dropout"
    " peft_type peft_version r revision target_modules task_type use_dora use_rslora"
    # settings of an initialization or of another method, without effect unless a key that is checked turns it on
    " corda_config eva_config layers_pattern loftq_config lora_ga_config megatron_core qalora_group_size"
    " runtime_config".split()
)
# Other initializations replace weights of the base model, which the folder does not contain.
PLAIN_STARTS = (None, True, False, "gaussian", "orthogonal", "eva")
LORA_NAME = re.compile(r"base_model\.model\.(.+)\.(?:lora_[AB]\.weight|lora_embedding_[AB]|lora_magnitude_vector)")


class LoraFolder(NamedTuple):
    """The adapters in a folder.

    Attributes:
        base_model: model ID or directory that they were trained on; empty if the folder does not name it.
        rank: of each adapter.
        alpha: adapters are scaled by alpha / rank.
        dropout: before each adapter, in training.
        target_modules: last parts of the names of the adapted layers, sorted.
        weights: by their names in peft.
        use_rslora: whether adapters are scaled by alpha / sqrt(rank) instead of alpha / rank.
        use_dora: whether the norms of rows were trained apart.
    """

    base_model: str
    rank: int
    alpha: int
    dropout: float
    target_modules: list[str]
    weights: dict[str, torch.Tensor]
    use_rslora: bool
    use_dora: bool


def is_adapter_folder(path: Path) -> bool:
    return (path / ADAPTER_CONFIG).is_file()


def module_of(name: str) -> str:
    """Return the layer that a weight adapts, such as `model.layers.0.self_attn.q_proj`, from its name in peft."""
    found = LORA_NAME.fullmatch(name)
    assert found is not None
    return found.group(1)


def name_in_peft(name: str) -> str:
    """Return the name that peft saves an adapter's weight under, from its name in a checkpoint."""
    name = name.removeprefix("model.").replace(".lora_magnitude_vector.default.weight", ".lora_magnitude_vector")
    return re.sub(r"\.(lora_[AB]|lora_embedding_[AB])\.default", r".\1", name)


def name_in_checkpoint(name: str) -> str:
    """Return the name of an adapter's weight in a checkpoint, from its name in peft."""
    if name.endswith(".lora_magnitude_vector"):
        return f"model.{name}.default.weight"
    return "model." + re.sub(r"\.(lora_[AB]|lora_embedding_[AB])(\.weight)?$", r".\1.default\2", name)


def read_settings(folder: Path) -> dict[str, Any]:
    """Return the content of `onion_lightning.json`; empty if another program wrote the folder.

    Raises:
        OnionError: the file is damaged.
    """
    return read_json(folder, SETTINGS, "export it again") if (folder / SETTINGS).is_file() else {}


def read_adapter_folder(folder: Path, flag: str) -> LoraFolder:
    """Read the adapters in a folder.

    Args:
        folder: with `adapter_config.json` and `adapter_model.safetensors`.
        flag: the flag that names the folder, for messages.

    Raises:
        OnionError: a file is missing or damaged, or the adapters are not plain LoRA adapters of one rank.
    """
    where = f"{flag} {folder}"
    if not is_adapter_folder(folder):
        raise OnionError(
            f"{where}: contains no {ADAPTER_CONFIG}; give a folder that export or peft's save_pretrained wrote."
        )
    config = read_json(folder, ADAPTER_CONFIG, "save the adapters again", flag)
    check_config(config, where)
    weights = read_weights(folder, where)
    check_weights(weights, config["r"], where)
    return LoraFolder(
        config.get("base_model_name_or_path") or "",
        config["r"],
        config["lora_alpha"],
        config.get("lora_dropout") or 0.0,
        sorted({module_of(name).rpartition(".")[2] for name in weights}),
        weights,
        bool(config.get("use_rslora")),
        bool(config.get("use_dora")),
    )


def read_json(folder: Path, name: str, remedy: str, flag: str = "--ckpt_path") -> dict[str, Any]:
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OnionError(f"{flag} {folder}: its {name} cannot be read ({reason(error)}); {remedy}.") from error
    if not isinstance(content, dict):
        raise OnionError(f"{flag} {folder}: its {name} contains no settings; {remedy}.")
    return content


def check_config(config: dict[str, Any], where: str) -> None:
    """Refuse settings with which adapters are not `B A x` times a factor, or DoRA, on frozen layers of a causal language
    model."""
    merge = "merge these with peft and give the merged model to --model.base_model, or give plain LoRA adapters"
    if (kind := config.get("peft_type")) != "LORA":
        raise OnionError(f"{where}: its adapters are of type {kind}, not LORA; {merge}.")
    if (task := config.get("task_type")) not in (None, "CAUSAL_LM"):
        raise OnionError(
            f"{where}: was trained for the task {task}; give adapters of a causal language model (CAUSAL_LM)."
        )
    if (start := config.get("init_lora_weights")) not in PLAIN_STARTS:
        raise OnionError(
            f"{where}: init_lora_weights {start} changed the base model's weights, which are not in the folder; save it with"
            " path_initial_model_for_weight_conversion, as peft documents, or give plain LoRA adapters."
        )
    if (revision := config.get("revision")) not in (None, "main"):
        raise OnionError(f"{where}: was trained on revision {revision} of its base model; {merge}.")
    for key, value in sorted(config.items()):
        if key not in KNOWN and value and (key, value) != ("bias", "none"):
            raise OnionError(f"{where}: {key} is {value} in its {ADAPTER_CONFIG}, which is not supported; {merge}.")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float) or alpha <= 0 or alpha != int(alpha):
        raise OnionError(
            f"{where}: r {rank} and lora_alpha {alpha} must be whole numbers above 0; save the adapters again."
        )


def read_weights(folder: Path, where: str) -> dict[str, torch.Tensor]:
    file = folder / ADAPTER_WEIGHTS
    if not file.is_file():
        raise OnionError(
            f"{where}: contains no {ADAPTER_WEIGHTS}, and pickled weights (adapter_model.bin) are never loaded; save the"
            " adapters with peft's save_pretrained."
        )
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise OnionError(f"{where}: its {ADAPTER_WEIGHTS} is damaged ({reason(error)}); copy it again.") from error


def check_weights(weights: dict[str, torch.Tensor], rank: int, where: str) -> None:
    """Refuse weights that are not those of LoRA adapters of this rank."""
    if not weights:
        raise OnionError(f"{where}: its {ADAPTER_WEIGHTS} is empty; save the adapters again.")
    for name, weight in weights.items():
        if not LORA_NAME.fullmatch(name):
            raise OnionError(
                f"{where}: contains {name}, which is not a LoRA adapter; save the adapters alone"
                " (save_embedding_layers=False), or merge them with peft."
            )
        if name.endswith("lora_magnitude_vector"):
            continue
        found = weight.shape[0 if re.search(r"_A(\.weight)?$", name) else -1]
        if found != rank:
            raise OnionError(
                f"{where}: {name} has rank {found}, but its {ADAPTER_CONFIG} has r {rank}; save them again."
            )
