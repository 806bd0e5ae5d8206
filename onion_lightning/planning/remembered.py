"""Keeps predicted memory in the cache folder: it depends on the config, the flags, the versions and this code only."""

import contextlib
import hashlib
import json
import os
import uuid
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig

from onion_lightning.planning.memory import MemoryPlan, SharedLayers, predict_memory
from onion_lightning.pretrained.demo import cache_dir

__all__ = ["recall_memory"]

PACKAGES = ("torch", "transformers", "peft", "bitsandbytes")


def recall_memory(config: PretrainedConfig, **flags: Any) -> MemoryPlan:
    """Return what `predict_memory` returns for the same arguments, without its seconds if it was predicted before.

    A cache that cannot be read or written is as good as an empty one.

    Raises:
        OnionError: as `predict_memory`, whose errors are not kept.
    """
    file = cache_dir() / "memory" / f"{fingerprint(config, flags)}.json"
    with contextlib.suppress(OSError, ValueError, TypeError, LookupError):
        known = json.loads(file.read_text())
        return MemoryPlan(**known | {"shared": known["shared"] and SharedLayers(**known["shared"])})
    plan = predict_memory(config, **flags)
    part = file.with_name(f"{uuid.uuid4().hex}.part")  # other processes may predict the same
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(asdict(plan)))
        part.replace(file)
    with contextlib.suppress(OSError):
        part.unlink()  # a full disk, or a file that cannot be replaced
    return plan


def fingerprint(config: PretrainedConfig, flags: dict[str, Any]) -> str:
    """Return a hash of all that a prediction depends on."""
    model = {name: value for name, value in config.to_dict().items() if name != "_name_or_path"}
    versions = [version(package) for package in PACKAGES]
    described = json.dumps([model, flags, versions, source_files()], sort_keys=True, default=str)
    return hashlib.sha256(described.encode()).hexdigest()[:32]


def source_files() -> list[tuple[str, int, int]]:
    """Return path, size and time of change of the files that predict: in a clone they change without a new version."""
    package = Path(__file__).parent.parent
    files = sorted(file for part in ("model", "planning") for file in (package / part).rglob("*.py"))
    found = [(file, os.stat(file)) for file in files]
    return [(file.relative_to(package).as_posix(), state.st_size, state.st_mtime_ns) for file, state in found]
