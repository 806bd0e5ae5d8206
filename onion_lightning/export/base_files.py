"""Finds the files of a base model: in a directory, or in the cache of huggingface_hub, which downloads what is missing."""

import json
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

from onion_lightning.errors import OnionError, reason
from onion_lightning.pretrained.locate import LOAD_ERRORS, unavailable

__all__ = ["INDEX", "BaseFiles"]

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"


class BaseFiles:
    """The files of a base model.

    Args:
        base_model: value of `--model.base_model`, for messages.
        source: its directory or model ID.
    """

    def __init__(self, base_model: str, source: str) -> None:
        self.base_model = base_model
        self.source = source

    def find(self, name: str) -> Path | None:
        """Return a file; None if the model has none of that name.

        Raises:
            OnionError: it cannot be downloaded.
        """
        folder = Path(self.source)
        if folder.is_dir():
            return folder / name if (folder / name).is_file() else None
        try:
            return Path(hf_hub_download(self.source, name))
        except EntryNotFoundError:
            return None
        except LOAD_ERRORS as error:
            raise unavailable(self.base_model, error) from error

    def read_json(self, name: str) -> dict[str, Any]:
        """Return the content of a JSON file; empty if there is none."""
        file = self.find(name)
        try:
            return dict(json.loads(file.read_text(encoding="utf-8"))) if file else {}
        except (OSError, ValueError, TypeError) as error:
            raise OnionError(
                f"--model.base_model {self.base_model}: its {name} is damaged ({reason(error)}); download it again."
            ) from error

    def shards(self) -> dict[str, Path]:
        """Return the files with weights by name, in order.

        Raises:
            OnionError: one is missing, or the weights are not safetensors.
        """
        index = self.read_json(INDEX)
        names = sorted(set(index["weight_map"].values())) if index else [SINGLE]
        found = {name: self.find(name) for name in names}
        if missing := [name for name, file in found.items() if file is None]:
            raise OnionError(
                f"--model.base_model {self.base_model}: has no {missing[0]}; download the whole model again."
            )
        return {name: file for name, file in found.items() if file is not None}
