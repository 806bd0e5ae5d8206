"""Log-probabilities of preference pairs under the reference: the model as it is when the run starts.

They are computed once, before the first step, and cached, so that no second model is in memory.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onion_lightning.errors import OnionError
from onion_lightning.heartbeat import Counter
from onion_lightning.messages import tell
from onion_lightning.model.decoding import evaluation_mode
from onion_lightning.model.ranks import weight_sums
from onion_lightning.model.sharding.layers import without_gradients
from onion_lightning.model.sharding.pace import keeping_pace
from onion_lightning.ranks import gather, on_rank_zero

__all__ = ["find_reference", "pairs_digest"]

SPLITS = ("train", "validation")
TOLERANCE = 0.02  # nats a token, between two computations of the same; another model differs by far more
Reference = dict[str, np.ndarray]


def find_reference(module: Any, data: Any) -> Reference:
    """Return the log-probabilities of each split's articles under a model, (pairs, 2), from the cache if possible.

    A cached file that is damaged, or that does not have what the model computes for the first batch, is computed anew.

    Args:
        module: the `PreferenceModule`, before its first step, attached to a Trainer.
        data: the `PreferenceDataModule`, with its splits.
    """
    file = cache_file(fingerprint(module, data))
    found: Reference | None = on_rank_zero(lambda: read_cache(file, data))
    first = compute(module, data, batches=1)
    if found is not None and not agrees(found, first, data):
        tell(f"{file}: has other log-probabilities than the reference, and is computed again.")
        found = None
    if found is None:
        found = compute(module, data)
        on_rank_zero(lambda: write_cache(file, found))
    return found


def compute(module: Any, data: Any, batches: int | None = None) -> Reference:
    """Compute log-probabilities on all ranks. Batches are the same on any number of them.

    Args:
        module: computes them.
        data: has the pairs.
        batches: number of batches of each split and rank; by default, all of them. Others remain NaN.
    """
    parts: list[tuple[str, list[int], np.ndarray]] = []
    for split in SPLITS:
        rows = data.batches(split)
        sampler = list(data.held_out_sampler(data.column(split, "length")))[:batches]
        counter = Counter(f"reference log-probabilities, {split}", len(data.reference[split]))
        for batch in sampler:
            if batches is None:
                counter.begin(len(batch.rows) // 2 * module.trainer.world_size)
            with without_gradients(module.language_model), evaluation_mode(module), keeping_pace(module.pace):
                if batch.rows:
                    with module.trainer.precision_plugin.forward_context():
                        there = module.trainer.strategy.batch_to_device(rows[batch], module.device)
                        values = module.log_probs(there).cpu().numpy()
                    parts.append((split, [row // 2 for row in batch.rows[0::2]], values))
    found = {split: np.full_like(data.reference[split], np.nan) for split in SPLITS}
    for split, pairs, values in [part for rank in gather(parts) for part in rank]:
        found[split][pairs] = values
    return found


def agrees(found: Reference, first: Reference, data: Any) -> bool:
    """Whether log-probabilities are those that were computed for some pairs, up to rounding."""
    for split in SPLITS:
        lengths = (data.column(split, "length") - data.column(split, "prompt_length")).reshape(-1, 2)
        known = ~np.isnan(first[split])
        if (np.abs(found[split] - first[split])[known] > TOLERANCE * lengths[known]).any():
            return False
    return True


def fingerprint(module: Any, data: Any) -> str:
    """Return a hash of what the log-probabilities depend on: base weights, adapters, pairs, precision and batches."""
    hashed = hashlib.sha256(repr(gather(weight_sums(module).tolist())).encode())
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            hashed.update(name.encode() + parameter.detach().float().cpu().numpy().tobytes())
    precision = str(module.trainer.precision)
    settings = (module.adapters.scaling, module.load_in, precision, data.batch_size, torch.__version__)
    hashed.update(repr((pairs_digest(data), settings)).encode())
    return hashed.hexdigest()[:24]


def pairs_digest(data: Any) -> str:
    """Return a hash of the token ids of the pairs in each split, in their order."""
    hashed = hashlib.sha256()
    for split in SPLITS:
        rows = data.encoded[split]
        hashed.update(repr((split, rows["input_ids"][:], rows["prompt_length"][:])).encode())
    return hashed.hexdigest()


def cache_file(name: str) -> Path:
    import datasets  # late: it takes half a second, and `--help` imports this module

    from onion_lightning.data.files.cache import use_writable_cache

    use_writable_cache()
    return Path(datasets.config.HF_DATASETS_CACHE) / "onion_lightning_reference" / f"{name}.json"


def digest_of(values: Any) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def read_cache(file: Path, data: Any) -> Reference | None:
    """Return the content of a cached file; None if there is none, or if it is damaged or of other pairs."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        values, digest = content["log_probs"], content["sha256"]
        if digest != digest_of(values):
            return None
        found = {split: np.array(values[split], np.float32).reshape(-1, 2) for split in SPLITS}
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return found if all(found[split].shape == data.reference[split].shape for split in SPLITS) else None


def write_cache(file: Path, found: Reference) -> None:
    """Write a file as a whole.

    Raises:
        OnionError: the disk is full.
    """
    from onion_lightning.data.files.cache import writing_cache

    values = {split: found[split].tolist() for split in SPLITS}
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    with writing_cache():
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"sha256": digest_of(values), "log_probs": values}), encoding="utf-8")
        part.replace(file)


def check_saved(saved: dict[str, Any], data: Any) -> Reference:
    """Return the reference in a checkpoint.

    Raises:
        OnionError: it is that of other pairs.
    """
    if saved["pairs"] != pairs_digest(data):
        raise OnionError(
            f"--data.pairs {data.pairs}: has other pairs or splits than the run that is resumed, whose reference is known for"
            " its own pairs only; give that file and its --data flags, or start a new run with --model.adapter and an"
            " export of this one."
        )
    return {split: saved[split].numpy() for split in SPLITS}
