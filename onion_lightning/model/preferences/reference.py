"""Log-probabilities of preference pairs under the reference: the model as it is when the run starts.

They are computed once, before the first step, and cached, so that no second model is in memory.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

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
Reference = dict[str, np.ndarray]  # by split, see `PairBatches`


def find_reference(module: Any, data: Any) -> Reference:
    """Return the log-probabilities of each split's tokens under a model, from the cache if possible.

    A cached file that is damaged, or that does not have what the model computes for the first batch, is computed anew.

    Args:
        module: the `PreferenceModule`, before its first step, attached to a Trainer.
        data: the `PreferenceDataModule`, with its splits.
    """
    file = cache_file(fingerprint(module, data))
    found: Reference | None = on_rank_zero(lambda: read_cache(file, data))
    first = compute(module, data, batches=1)
    if found is not None and not all(agree(found[split], first[split]) for split in SPLITS):
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
    parts: list[tuple[str, tuple[int, ...], np.ndarray]] = []
    for split in SPLITS:
        rows = data.batches(split)
        sampler = list(data.held_out_sampler(data.column(split, "length")))[:batches]
        counter = Counter(f"computing the reference, {split}", len(data.encoded[split]))
        for batch in sampler:
            if batches is None:
                counter.begin(len(batch.rows) * module.trainer.world_size)
            with without_gradients(module.language_model), evaluation_mode(module), keeping_pace(module.pace):
                if batch.rows:
                    with module.trainer.precision_plugin.forward_context():
                        there = module.trainer.strategy.batch_to_device(rows[batch], module.device)
                        values = module.log_probs(there).cpu().numpy()
                    parts.append((split, batch.rows, values))
    found = {split: np.full_like(data.reference[split], np.nan) for split in SPLITS}
    for split, numbers, values in [part for rank in gather(parts) for part in rank]:
        found[split][data.batches(split).places(numbers)] = values
    return found


def agree(found: np.ndarray, first: np.ndarray) -> bool:
    """Whether log-probabilities are those that were computed for some tokens, up to rounding; others are NaN."""
    known = ~np.isnan(first)
    return not known.any() or bool(np.abs(found - first)[known].mean() < TOLERANCE)


def fingerprint(module: Any, data: Any) -> str:
    """Return a hash of what the log-probabilities depend on: base weights, adapters, pairs, precision and batches."""
    shares = dict.fromkeys(map(tuple, gather(weight_sums(module).tolist())))  # one, unless the weights are sharded
    hashed = hashlib.sha256(repr(list(shares)).encode())
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
    return Path(datasets.config.HF_DATASETS_CACHE) / "onion_lightning_reference" / f"{name}.safetensors"


def digest_of(values: Reference) -> str:
    return hashlib.sha256(b"".join(values[split].tobytes() for split in SPLITS)).hexdigest()


def read_cache(file: Path, data: Any) -> Reference | None:
    """Return the content of a cached file; None if there is none, or if it is damaged or of other pairs."""
    try:
        with safe_open(file, "numpy") as content:
            found = {split: content.get_tensor(split) for split in SPLITS}
            whole = content.metadata().get("sha256") == digest_of(found)
    except (OSError, SafetensorError):
        return None
    return found if whole and all(found[split].shape == data.reference[split].shape for split in SPLITS) else None


def write_cache(file: Path, found: Reference) -> None:
    """Write a file as a whole.

    Raises:
        OnionError: the disk is full.
    """
    from onion_lightning.data.files.cache import writing_cache

    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    with writing_cache():
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(save(found, {"sha256": digest_of(found)}))
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
