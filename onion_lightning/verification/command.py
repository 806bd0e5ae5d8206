"""The `verify` command: compares an export with the checkpoint that it was made from."""

import gc
import math
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path

import torch

from onion_lightning.data.module import OnionDataModule
from onion_lightning.errors import OnionError, check_range
from onion_lightning.model.base_model import compute_dtype
from onion_lightning.model.module import OnionModule
from onion_lightning.output_folder import writing
from onion_lightning.training.session import Session
from onion_lightning.verification.comparison import STAGES, Limits, compare
from onion_lightning.verification.exported import (
    ADAPTERS,
    CARD,
    GGUF,
    GGUF_ADAPTERS,
    MERGED,
    check_path,
    count_changed,
    read_template,
)
from onion_lightning.verification.forms import (
    Checkpoint,
    PlainModel,
    load_gguf,
    load_merged,
    load_peft,
    load_tokenizer_of,
)
from onion_lightning.verification.probes import choose_probes
from onion_lightning.verification.reading import Form, read_probes
from onion_lightning.verification.result import VERIFIED, Verification, add_to_card
from onion_lightning.verification.server import Server
from onion_lightning.verification.terminal import show_verification

__all__ = ["run_verify", "verify_folder"]

COUNT = 8  # held-out headlines
TOLERANCE = 0.02  # nats; see README.md
IN_BFLOAT16 = 5  # times the tolerance, for single tokens: in the loss, most rounding cancels


def run_verify(
    session: Session,
    model: OnionModule,
    datamodule: OnionDataModule,
    path: str = "exported",
    ckpt_path: str | None = None,
    count: int = COUNT,
    tolerance: float = TOLERANCE,
    url: str | None = None,
    url_model: str | None = None,
) -> None:
    """Compare an export with its checkpoint: prompt, tokens, probabilities and greedy articles. Exit status 1 if they differ.

    Loads each form of the model in turn, on one device, as other programs do, and writes verify.json and a table in the model
    card. `--model.max_new_tokens` limits the articles.

    Args:
        session: provides the device and the precision.
        model: base model and adapters of the checkpoint.
        datamodule: held-out headlines and articles are those of its test split.
        path: folder that export wrote.
        ckpt_path: checkpoint that was exported (required): a file, last or best.
        count: number of held-out headlines.
        tolerance: largest difference in nats of the held-out loss, and of a token's log-probability on average; for the
            latter five times as much in bfloat16.
        url: address of a server with the exported model (vLLM, llama.cpp, Ollama), to compare it as well.
        url_model: name of the model on that server; by default, its only one.
    """
    if ckpt_path is None:
        raise OnionError("--ckpt_path: verify needs the checkpoint that was exported; give a file, last or best.")
    check_range("--tolerance", tolerance, math.isfinite(tolerance) and tolerance > 0, "above 0, in nats")
    if url_model is not None and url is None:
        raise OnionError(f"--url_model {url_model}: has no effect without --url; give both.")
    verify_folder(session, model, datamodule, check_path(path), ckpt_path, count, tolerance, url, url_model)


def verify_folder(
    session: Session,
    model: OnionModule,
    data: OnionDataModule,
    folder: Path,
    ckpt_path: str,
    count: int = COUNT,
    tolerance: float = TOLERANCE,
    url: str | None = None,
    url_model: str | None = None,
) -> None:
    """Verify an export, write and print the result, and raise an error if a form differs.

    Raises:
        OnionError: a form cannot be loaded, or differs from the checkpoint.
    """
    template = read_template(folder)
    limits = limits_in(session.precision, tolerance)
    served = [] if url is None else [Server(url, url_model, template)]  # before anything is loaded
    probes = choose_probes(data, count)
    new_tokens, seed, trained_in = model.decoding.max_new_tokens, data.seed, model.load_in
    read = partial(read_probes, probes=probes, new_tokens=new_tokens)
    trained = [read(form) for form in checkpoints(session, model, ckpt_path)]
    found = [read(form) for form in chain(exported(session, folder, template), served)]
    changed = {ADAPTERS: count_changed(folder, ckpt_path)}
    beside = partial(compare, reference=trained[-1], probes=probes, limits=limits, seed=seed)
    result = Verification(
        ckpt_path,
        trained_in,
        session.precision,
        limits,
        probes,
        trained + found,
        compare(trained[1], trained[0], probes, limits, seed) if len(trained) > 1 else None,
        [beside(reading, adapters=changed.get(reading.name)) for reading in found],
        seed,
    )
    write_result(result, folder)
    show_verification(result, folder)
    check(result, folder)


def limits_in(precision: str, tolerance: float) -> Limits:
    """Return the limits for forms that are computed in a precision."""
    return Limits(tolerance, tolerance * (IN_BFLOAT16 if compute_dtype(precision) is torch.bfloat16 else 1))


def write_result(result: Verification, folder: Path) -> None:
    for name, text in {VERIFIED: result.to_json(), CARD: add_to_card(folder / CARD, result)}.items():
        part = folder / f".{name}.part"
        with writing("--path", folder, "make it writable, or free disk space", name):
            part.write_text(text, encoding="utf-8")
            part.replace(folder / name)


def checkpoints(session: Session, model: OnionModule, ckpt_path: str) -> Iterator[Form]:
    """Yield the checkpoint as it was trained and, if its base weights are quantized, with weights that are not."""
    trained = model.load_in
    session.load(model, ckpt_path)
    yield Checkpoint(f"checkpoint, {trained}" if trained != "none" else "checkpoint", model)
    if trained != "none":
        unload(model)
        model.load_in = "none"
        session.load(model, ckpt_path)
        yield Checkpoint("checkpoint, not quantized", model)
        model.load_in = trained
    unload(model)


def unload(model: OnionModule) -> None:
    model.model = None
    gc.collect()


def exported(session: Session, folder: Path, template: str) -> Iterator[Form]:
    """Yield the forms of an export on this machine, one at a time: only one is in memory."""
    device, dtype = session.device, compute_dtype(session.precision)
    tokenizer = load_tokenizer_of(folder)  # peft would load it, too, and name the model in its error
    yield from alone(PlainModel(ADAPTERS, load_peft(folder, device, dtype), tokenizer, template))
    if (folder / MERGED).is_dir():
        merged = folder / MERGED
        yield from alone(PlainModel(MERGED, load_merged(merged, device, dtype), load_tokenizer_of(merged), template))
    if (folder / GGUF).is_file() and not (folder / GGUF_ADAPTERS).exists():
        yield from alone(PlainModel(GGUF, *load_gguf(folder / GGUF, device, dtype), template))


def alone(form: PlainModel) -> Iterator[PlainModel]:
    """Yield a form, and free its weights afterwards, though the loop that reads it still holds it."""
    yield form
    form.model = None
    gc.collect()


def check(result: Verification, folder: Path) -> None:
    """Raise an error for the first form that differs.

    Raises:
        OnionError: there is one.
    """
    one = result.differing
    if one is None:
        return
    assert one.stage is not None
    detail = ""
    if one.stage == "weights" and one.loss is not None:
        changed = f"{one.adapters:,} adapter weights are not those of the checkpoint, and " if one.adapters else ""
        detail = f" ({changed}log p differs by {one.mean:.2g} nats on average, the loss by {one.loss.value:.2g})"
    raise OnionError(
        f"--path {folder}: the form '{one.form}' differs from {result.checkpoint} in the {one.stage}:"
        f" {STAGES[one.stage]}{detail}; export it again, from the same checkpoint."
    )
