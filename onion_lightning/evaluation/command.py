"""The `evaluate` command: checks the flags, runs the evaluation, and writes, logs and prints its results."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from onion_lightning.data.module import OnionDataModule
from onion_lightning.errors import OnionError, check_range
from onion_lightning.evaluation.also import read_others
from onion_lightning.evaluation.evaluator import Evaluator
from onion_lightning.evaluation.metrics import EvaluationMetrics, EvaluationSettings, compute_metrics
from onion_lightning.evaluation.report import FILES, Memorized, report_files
from onion_lightning.evaluation.samples import Sample, build_samples
from onion_lightning.evaluation.tasks import EvaluationData
from onion_lightning.evaluation.terminal import show_evaluation
from onion_lightning.model.module import OnionModule
from onion_lightning.output_folder import check_folder, write_folder
from onion_lightning.ranks import on_rank_zero
from onion_lightning.training.run_folder import find_figures
from onion_lightning.training.wandb_logger import CarefulWandbLogger

__all__ = ["run_evaluate"]


def run_evaluate(
    trainer: pl.Trainer,
    model: OnionModule,
    datamodule: OnionDataModule,
    ckpt_path: str | None = None,
    shots: int = 3,
    count: int | None = None,
    batch_size: int = 8,
    best_of: int = 1,
    also: list[str] | str | None = None,
    output: str = "evaluation",
    overwrite: bool = False,
) -> None:
    """Compare the base model, few-shot prompting and the fine-tuned model on held-out headlines.

    Args:
        trainer: runs the evaluation.
        model: base model and decoding flags; the adapters are loaded from the checkpoint.
        datamodule: provides the test headlines and, from the training split, the few-shot examples.
        ckpt_path: checkpoint of the fine-tuned model (required): a file, last, best, or a folder of adapters.
        shots: number of training examples in the few-shot prompt.
        count: number of test headlines; by default 32, or all of them if there are fewer.
        batch_size: number of headlines per batch on each device.
        best_of: compare the best of this many articles of the fine-tuned model as well; 1 does not.
        also: NAME=CHECKPOINT of another fine-tuned model of the same base model to compare, or a list of these; a file, last,
            best, or a folder of adapters.
        output: folder for report.html, metrics.json and samples.jsonl.
        overwrite: replace an existing report in the output folder.

    Raises:
        OnionError: a flag is invalid, or the corpus is too small.
    """
    check_flags(ckpt_path, shots, count, batch_size)
    check_best_of(best_of, model)
    check_limits(trainer, "evaluate")
    folder = on_rank_zero(lambda: check_folder(output, FILES, overwrite))
    others = read_others(model, also)
    data = EvaluationData(datamodule, shots, count, batch_size, model.decoding.max_new_tokens, best_of, [*others])
    evaluator = Evaluator(model, data, others)
    trainer.predict(evaluator, datamodule=data, ckpt_path=ckpt_path, return_predictions=False)
    if trainer.is_global_zero:
        samples = collect_samples(evaluator)
        metrics = compute_metrics(samples, collect_settings(model, evaluator, str(ckpt_path)), datamodule.seed)
        publish(metrics, samples, folder, trainer.loggers)


def check_flags(ckpt_path: str | None, shots: int, count: int | None, batch_size: int) -> None:
    if ckpt_path is None:
        raise OnionError("--ckpt_path: evaluate needs the checkpoint of a fine-tuned model; give a file, last or best.")
    check_range("--shots", shots, shots >= 0, "at least 0")
    check_range("--count", count, count is None or count >= 2, "at least 2")
    check_range("--batch_size", batch_size, batch_size >= 1, "at least 1")


def check_best_of(best_of: int, model: OnionModule) -> None:
    check_range("--best_of", best_of, best_of >= 1, "at least 1")
    if best_of > 1 and model.decoding.temperature == 0:
        raise OnionError(
            f"--best_of {best_of}: with --model.temperature 0 all candidates would be identical; use a temperature above 0,"
            " or omit the flag."
        )


def check_limits(trainer: pl.Trainer, command: str) -> None:
    """Reject flags that would skip batches: a command needs every article."""
    if fast := getattr(trainer, "fast_dev_run", False):
        raise OnionError(
            f"--trainer.fast_dev_run {fast}: {command} needs all batches; use --count for fewer headlines."
        )
    limit = trainer.limit_predict_batches
    if not isinstance(limit, float) or limit != 1:  # a float is a fraction, an int a number of batches
        raise OnionError(
            f"--trainer.limit_predict_batches {limit}: {command} needs all batches; use --count for fewer headlines."
        )


def collect_samples(evaluator: Evaluator) -> list[Sample]:
    return build_samples(evaluator.scored, evaluator.data, evaluator.onion.tokenizer)


def collect_settings(model: OnionModule, evaluator: Evaluator, checkpoint: str) -> EvaluationSettings:
    decoding, data = model.one_article, evaluator.data
    return EvaluationSettings(
        headlines=len(data.rows),
        n=data.n,
        shots=data.shots,
        shots_least=min(row.shot_count for row in data.rows),
        base_model=model.base_model,
        load_in=model.load_in,
        checkpoint=checkpoint,
        seed=model.seed,
        corpus=data.datamodule.path,
        batch_size=data.batch_size,
        max_new_tokens=decoding.max_new_tokens,
        temperature=decoding.temperature,
        top_p=decoding.top_p,
        repetition_penalty=decoding.repetition_penalty,
        best_of=data.best_of,
        also={name: other.path for name, other in evaluator.others.items()},
    )


def publish(metrics: EvaluationMetrics, samples: Sequence[Sample], folder: Path, loggers: Sequence[Any]) -> None:
    """Write the report, log it to W&B and print the main metrics."""
    write_folder(folder, report_files(metrics, samples, find_memorized(metrics.settings.checkpoint, folder)))
    for logger in loggers:
        if isinstance(logger, CarefulWandbLogger):
            logger.log_summary(wandb_summary(metrics))
            columns = list(metrics.systems)
            rows = [[one.headline, *(one.systems[name].scored.text for name in columns)] for one in samples]
            logger.log_table("evaluation", columns=["headline", *columns], data=rows)
    show_evaluation(metrics, folder)


def find_memorized(checkpoint: str, folder: Path) -> Memorized | None:
    """Return the verdict of `memorize` on a checkpoint, if its page is in the folder `memorization` beside this report."""
    page = folder.absolute().parent / "memorization" / "report.html"
    figures = find_figures(Path(checkpoint), page.with_name("memorize.json"))
    return None if figures is None else Memorized(figures["verdict"], f"../memorization/{page.name}")


def wandb_summary(metrics: EvaluationMetrics) -> dict[str, Any]:
    """Return all values and intervals under the names that they have in W&B."""
    summary: dict[str, Any] = {}
    for name, system in metrics.systems.items():
        summary |= {f"evaluation/{name}/{key}": value for key, value in system.values.items()}
        summary |= {f"evaluation/{name}/{key}/interval": list(ends) for key, ends in system.intervals.items()}
    for name, pair in metrics.paired.items():
        summary |= {f"evaluation/{name}": pair.difference, f"evaluation/{name}/interval": list(pair.interval)}
    return summary
