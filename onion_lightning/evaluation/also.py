"""Other fine-tuned models beside the first (`--also NAME=CHECKPOINT`): the same base model with other adapters."""

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from onion_lightning.errors import OnionError
from onion_lightning.evaluation.tasks import BEST_OF, SYSTEMS
from onion_lightning.model.adapters.saved import CHECKPOINT_KEY
from onion_lightning.model.adapters.switches import adapters_enabled, other_adapters
from onion_lightning.model.module import OnionModule
from onion_lightning.ranks import agree, together
from onion_lightning.training.checkpoint_io import checkpoint_digest, read_checkpoint, resolve

__all__ = ["OtherModel", "place_adapters", "read_others", "resolve_others", "with_adapters_of"]

NAME = re.compile(r"[A-Za-z0-9_-]+")
TAKEN = (*SYSTEMS, BEST_OF, "real")
SETTINGS = (
    "lora_rank",
    "lora_alpha",
    "use_rslora",
    "use_dora",
)  # which adapters of the same names and shapes may differ in


@dataclass(frozen=True)
class OtherModel:
    """The adapters of another checkpoint.

    Attributes:
        path: of the checkpoint or folder.
        digest: of its content.
        weights: by their names in a checkpoint.
    """

    path: str
    digest: str
    weights: dict[str, torch.Tensor]

    @property
    def identity(self) -> str:
        """Path and digest: a later run may write another model to the same path."""
        return f"{self.path} ({self.digest[:8]})"


def resolve_others(also: Sequence[str] | str, folder: Path) -> list[str]:
    """Replace `last` and `best` by the files in the run's folder."""
    return [f"{name}={resolve(path, folder)}" for name, path in parse(also).items()]


def parse(also: Sequence[str] | str | None) -> dict[str, str]:
    """Return the checkpoint of each name.

    Raises:
        OnionError: a value is not NAME=CHECKPOINT, or a name is taken.
    """
    found: dict[str, str] = {}
    for value in [also] if isinstance(also, str) else also or []:
        name, _, path = value.partition("=")
        if not NAME.fullmatch(name) or not path.strip():
            raise OnionError(
                f"--also {value}: must be NAME=CHECKPOINT, with a name of letters, digits, _ and -, such as"
                " votes=checkpoints/votes/last.ckpt."
            )
        if name in TAKEN or name in found:
            raise OnionError(f"--also {value}: the name {name} is taken; give another one.")
        found[name] = path
    return found


def read_others(model: OnionModule, also: Sequence[str] | str | None) -> dict[str, OtherModel]:
    """Read the checkpoints, by name, before the base model is loaded. All ranks call this.

    Args:
        model: with the flags of the first checkpoint.
        also: values of the flag, resolved.

    Raises:
        OnionError: a checkpoint cannot be read, its adapters have other settings, or ranks have different files.
    """
    others = {}
    with together():
        for name, path in parse(also).items():
            flag, where = f"--also {name}=", Path(path).expanduser()
            checkpoint = read_checkpoint(where, "--also")
            check_settings(model, checkpoint[CHECKPOINT_KEY]["flags"], f"{flag}{path}")
            others[name] = OtherModel(path, checkpoint_digest(where), checkpoint["state_dict"])
    agree({f"--also {name}": one.identity for name, one in others.items()}, "copy the same file to all machines")
    return others


def check_settings(model: OnionModule, flags: Mapping[str, Any], flag: str) -> None:
    for name in SETTINGS:
        own, other = getattr(model, name), flags.get(f"model.{name}", getattr(model, name))
        if own != other:
            raise OnionError(
                f"{flag}: was trained with --model.{name} {other}, and --ckpt_path with {own}; compare models with the same"
                " adapters, or merge it and give it to --model.base_model."
            )


def place_adapters(model: OnionModule, others: Mapping[str, OtherModel]) -> dict[str, dict[str, torch.Tensor]]:
    """Return the adapters of each model on the device of a loaded one.

    Raises:
        OnionError: they are of other layers or another base model.
    """
    own = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    placed = {}
    for name, other in others.items():
        if {key: value.shape for key, value in other.weights.items()} != {
            key: value.shape for key, value in own.items()
        }:
            raise OnionError(
                f"--also {name}={other.path}: its adapters are of other layers, or of another base model, than those of"
                f" --ckpt_path on {model.base_model}; compare models with the same adapters."
            )
        placed[name] = {key: value.to(own[key].device, own[key].dtype) for key, value in other.weights.items()}
    return placed


def with_adapters_of(
    system: str, model: OnionModule, placed: Mapping[str, Mapping[str, torch.Tensor]]
) -> AbstractContextManager[Any]:
    """Return a context in which a loaded model is that of a system: without adapters, with its own, or with others."""
    if system in placed:
        return other_adapters(model, placed[system])
    return adapters_enabled(model.model, system in ("tuned", BEST_OF))
