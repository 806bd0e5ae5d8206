"""The `memorize` command: checks the flags, runs the tasks, and writes, logs and prints what was found."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from onion_lightning.data.module import OnionDataModule
from onion_lightning.errors import OnionError, check_range
from onion_lightning.evaluation.command import check_limits
from onion_lightning.memorization.journal import Journal
from onion_lightning.memorization.prober import Prober
from onion_lightning.memorization.report import FILES, exposed_rows, report_files
from onion_lightning.memorization.result import Memorization, collect_rows, summarize
from onion_lightning.memorization.tasks import MemorizationData
from onion_lightning.memorization.terminal import show_memorization
from onion_lightning.model.module import OnionModule
from onion_lightning.output_folder import check_folder, write_folder
from onion_lightning.ranks import gather, on_rank_zero
from onion_lightning.training.checkpoint_io import checkpoint_digest, read_checkpoint
from onion_lightning.training.wandb_logger import CarefulWandbLogger

__all__ = ["run_memorize"]


def run_memorize(
    trainer: pl.Trainer,
    model: OnionModule,
    datamodule: OnionDataModule,
    ckpt_path: str | None = None,
    count: int | None = None,
    batch_size: int = 32,
    limit: float | None = None,
    output: str = "memorization",
    overwrite: bool = False,
) -> None:
    """Test whether the fine-tuned model recites its training articles, and whether it shows which ones they were.

    An interrupted test continues when the same command is given again.

    Args:
        trainer: runs the test.
        model: base model and decoding flags; the adapters are loaded from the checkpoint.
        datamodule: provides the training articles, and the held-out ones of its validation and test splits.
        ckpt_path: checkpoint of the fine-tuned model (required): a file, last, best, or a folder of adapters.
        count: number of training articles, and of held-out ones where there are as many; by default 100, or all if there are
            fewer.
        batch_size: number of articles per batch on each device.
        limit: share of the training articles that may be continued verbatim; above it, the exit status is 1.
        output: folder for report.html, memorize.json and rows.jsonl.
        overwrite: replace an existing report in the output folder.

    Raises:
        OnionError: a flag is invalid, the corpus is too small, or the limit is exceeded.
    """
    if ckpt_path is None:
        raise OnionError("--ckpt_path: memorize needs the checkpoint of a fine-tuned model; give a file, last or best.")
    check_range("--count", count, count is None or count >= 2, "at least 2")
    check_range("--batch_size", batch_size, batch_size >= 1, "at least 1")
    check_range("--limit", limit, limit is None or 0 <= limit <= 1, "from 0 to 1")
    check_limits(trainer, "memorize")
    folder = on_rank_zero(lambda: check_folder(output, FILES, overwrite))
    settings = collect_settings(model, datamodule, ckpt_path)
    depends = (settings, model.adapter_flags(), trainer.precision, checkpoint_digest(Path(ckpt_path)))
    journal = Journal(folder, trainer.global_rank, depends)
    data = MemorizationData(datamodule, read_checkpoint(Path(ckpt_path)), count, batch_size, journal)
    trainer.predict(Prober(model, data), datamodule=data, ckpt_path=ckpt_path, return_predictions=False)
    values = {number: found for part in gather(data.values) for number, found in part.items()}
    result = on_rank_zero(lambda: publish(data, values, settings, folder, trainer.loggers))
    journal.remove()
    check(result, limit, folder)


def collect_settings(model: OnionModule, data: OnionDataModule, checkpoint: str) -> dict[str, Any]:
    names = ("temperature", "top_p", "repetition_penalty")
    decoding = {name: value for name, value in asdict(model.decoding).items() if name in names}
    base = {"base_model": model.base_model, "load_in": model.load_in, "checkpoint": checkpoint}
    return base | {"seed": model.seed, "corpus": data.path} | decoding


def publish(
    data: MemorizationData,
    values: dict[int, list[Any]],
    settings: dict[str, Any],
    folder: Path,
    loggers: Sequence[Any],
) -> Memorization:
    """Write the report, log it to W&B and print the main figures."""
    tokenizer = data.datamodule.tokenizer
    rows = collect_rows(data.rows, data.probes(), values, int(tokenizer.eos_token_id))
    settings |= {"count": data.count, "batch_size": data.batch_size}
    result = summarize(rows, settings, notes(data), data.datamodule.seed)
    write_folder(folder, report_files(result, rows, tokenizer))
    for logger in loggers:
        if isinstance(logger, CarefulWandbLogger):
            summary: dict[str, Any] = {"verdict": result.verdict, "verbatim": result.verbatim}
            summary |= {f"auc/{score}": one.auc for score, one in result.membership["training"].items()}
            logger.log_summary({f"memorization/{name}": value for name, value in summary.items()})
    show_memorization(result, exposed_rows(rows, tokenizer), folder)
    return result


def notes(data: MemorizationData) -> list[str]:
    """Return what the reader should know about the articles."""
    found = []
    if data.unseen is None:
        found.append(
            "The checkpoint was written with other rows, seed or --data flags, or is a folder of adapters: all rows of the"
            " training split count as training articles, whether the run has seen them or not."
        )
    elif data.unseen:
        found.append(f"{data.unseen} rows of the training split that the run has not seen are left out.")
    if data.datamodule.filters.near_duplicates == "drop":
        found.append("No training article was repeated: duplicates and near-duplicates were dropped.")
    return found


def check(result: Memorization, limit: float | None, folder: Path) -> None:
    """Compare the share of training articles that are continued verbatim with the limit.

    Raises:
        OnionError: it is higher.
    """
    if limit is not None and result.verbatim > limit:
        raise OnionError(
            f"--limit {limit:g}: {result.verbatim:.1%} of the training articles are continued verbatim (see"
            f" {folder / FILES[0]}); train for fewer epochs or at a lower --model.learning_rate, with --data.near_duplicates"
            " drop, or raise the limit."
        )
