"""Reads an exported folder, and compares its adapters with those of a checkpoint."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from onion_lightning.errors import OnionError, reason
from onion_lightning.pretrained.adapter_folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS, name_in_peft
from onion_lightning.training.checkpoint_io import read_checkpoint

__all__ = [
    "ADAPTERS",
    "CARD",
    "GGUF",
    "GGUF_ADAPTERS",
    "MERGED",
    "PROMPT_FILE",
    "check_path",
    "count_changed",
    "read_template",
]

ADAPTERS, MERGED, CARD = "adapters", "merged", "README.md"
PROMPT_FILE = "prompt_template.txt"  # with {headline} where the headline is inserted
# As the `Modelfile` names them; beside the second, the first is the base model.
GGUF, GGUF_ADAPTERS = "model.gguf", "adapters.gguf"


def check_path(path: str) -> Path:
    """Return the folder of `--path`.

    Raises:
        OnionError: it is not one that export wrote.
    """
    folder = Path(path).expanduser()
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS, PROMPT_FILE):
        if not (folder / name).is_file():
            raise OnionError(f"--path {path}: contains no {name}; give a folder that export wrote.")
    return folder


def read_template(folder: Path) -> str:
    """Return the prompt template in an exported folder, with `{headline}` where the headline is inserted.

    Raises:
        OnionError: the file cannot be read, or has no place for the headline.
    """
    try:
        text = (folder / PROMPT_FILE).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise OnionError(
            f"--path {folder}: its {PROMPT_FILE} cannot be read ({reason(error)}); export it again."
        ) from error
    if text.count("{headline}") != 1:
        raise OnionError(f"--path {folder}: its {PROMPT_FILE} must contain {{headline}} once; export it again.")
    return text


def count_changed(folder: Path, ckpt_path: str) -> int:
    """Return the number of adapter weights in a folder that are not those of a checkpoint; all of them if their names differ.

    Raises:
        OnionError: one of the two cannot be read.
    """
    try:
        found = load_file(folder / ADAPTER_WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise OnionError(f"--path {folder}: its {ADAPTER_WEIGHTS} is damaged ({error}); export it again.") from error
    saved = read_checkpoint(Path(ckpt_path))["state_dict"]
    trained = {name_in_peft(name): value for name, value in saved.items()}
    if found.keys() != trained.keys():
        return sum(value.numel() for value in found.values())
    return sum(differing(found[name], value) for name, value in trained.items())


def differing(one: torch.Tensor, other: torch.Tensor) -> int:
    if one.shape != other.shape:
        return one.numel()
    return int((one.float() != other.float()).sum())
