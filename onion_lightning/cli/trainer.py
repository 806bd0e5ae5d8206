"""The Trainer with `evaluate` and `attend` beside Lightning's own commands."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from onion_lightning.attention.command import run_attend
from onion_lightning.data.module import OnionDataModule
from onion_lightning.errors import OnionError
from onion_lightning.evaluation.copying import CopyIndex
from onion_lightning.evaluation.evaluator import SYSTEMS, Evaluation, EvaluationData
from onion_lightning.evaluation.metrics import compare, describe
from onion_lightning.evaluation.report import FILES, report_files
from onion_lightning.evaluation.terminal import show_evaluation
from onion_lightning.model.module import OnionModule
from onion_lightning.output_folder import check_folder, write_folder
from onion_lightning.training.session import Session
from onion_lightning.training.wandb_logger import CarefulWandbLogger

__all__ = ["OnionTrainer"]


class OnionTrainer(pl.Trainer):
    """Lightning's Trainer, and `evaluate` and `attend`."""

    def evaluate(
        self,
        model: OnionModule,
        datamodule: OnionDataModule,
        ckpt_path: str | None = None,
        shots: int = 3,
        n: int | None = None,
        batch_size: int = 8,
        output: str = "evaluation",
        overwrite: bool = False,
    ) -> None:
        """Compares the base model, few-shot prompting and the fine-tuned model on held-out headlines.

        Args:
            model: the adapters are those of the checkpoint.
            datamodule: its test split gives the headlines, its training split the examples.
            ckpt_path: the adapters: a file, last or best.
            shots: training examples before each prompt of few-shot.
            n: test headlines; by default 32, or as many as there are.
            batch_size: headlines written at a time.
            output: folder of report.html, metrics.json and samples.jsonl.
            overwrite: replace an earlier report in that folder.
        """
        check(ckpt_path, shots, n, batch_size)
        limit = self.limit_predict_batches  # a float is a share, an int a count
        if getattr(self, "fast_dev_run", False) or not isinstance(limit, float) or limit != 1:
            raise OnionError(
                "--trainer.fast_dev_run and --trainer.limit_predict_batches: evaluate needs all its batches; give --n for"
                " fewer headlines."
            )
        folder = check_folder(output, FILES, overwrite)
        data = EvaluationData(datamodule, shots, n, batch_size, model.decoding.max_new_tokens)
        evaluation = Evaluation(model, data)
        self.predict(evaluation, datamodule=data, ckpt_path=ckpt_path, return_predictions=False)
        if self.is_global_zero:
            self.conclude(evaluation, folder, settings(model, data, str(ckpt_path)))

    def conclude(self, evaluation: Evaluation, folder: Path, known: dict[str, Any]) -> None:
        """Take the figures, write the report, tell W&B and the user."""
        data = evaluation.data.data
        train = data.texts["train"]
        index = CopyIndex(train["headline"], train["article"])
        samples = describe(evaluation.records, evaluation.data.rows, evaluation.onion.tokenizer, index)
        metrics = {"settings": known} | compare(samples, data.seed)
        write_folder(folder, report_files(metrics, samples))
        tell_wandb(self.loggers, metrics, samples)
        show_evaluation(metrics, folder)

    def attend(
        self,
        model: OnionModule,
        datamodule: OnionDataModule,
        query: str,
        key: str,
        text: str | None = None,
        text_file: str | None = None,
        headline: str | None = None,
        ckpt_path: str | None = None,
        output: str = "attention",
        overwrite: bool = False,
    ) -> None:
        run_attend(
            Session(self.loggers),
            model,
            datamodule,
            query,
            key,
            text,
            text_file,
            headline,
            ckpt_path,
            output,
            overwrite,
        )

    attend.__doc__ = run_attend.__doc__


def check(ckpt_path: str | None, shots: int, n: int | None, batch_size: int) -> None:
    if ckpt_path is None:
        raise OnionError(
            "--ckpt_path: evaluate needs a checkpoint to compare with; give --ckpt_path FILE, last or best."
        )
    for flag, value, least in (("shots", shots, 0), ("n", n, 2), ("batch_size", batch_size, 1)):
        if value is not None and value < least:
            raise OnionError(f"--{flag} {value}: must be at least {least}.")


def settings(model: OnionModule, data: EvaluationData, checkpoint: str) -> dict[str, Any]:
    """What the figures were taken with."""
    decoding = model.one_article
    return {
        "headlines": len(data.rows),
        "n": data.n,
        "shots": data.shots,
        "shots_least": min(row.shot_count for row in data.rows),
        "base_model": model.base_model,
        "load_in": model.load_in,
        "checkpoint": checkpoint,
        "seed": model.seed,
        "corpus": data.data.path,
        "batch_size": data.batch_size,
        "max_new_tokens": decoding.max_new_tokens,
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "repetition_penalty": decoding.repetition_penalty,
    }


def tell_wandb(loggers: list[Any], metrics: dict[str, Any], samples: list[dict[str, Any]]) -> None:
    columns = ["headline", *SYSTEMS, "real"]
    rows = [[one["headline"], *(one["systems"][name]["article"] for name in columns[1:])] for one in samples]
    for logger in loggers:
        if isinstance(logger, CarefulWandbLogger):
            figures = {f"evaluation/{s}/{k}": v for s, card in metrics["systems"].items() for k, v in card.items()}
            figures |= {f"evaluation/{name}": pair["difference"] for name, pair in metrics["paired"].items()}
            ends = {f"{s}/{k}": pair for s, card in metrics["intervals"].items() for k, pair in card.items()}
            ends |= {name: pair["interval"] for name, pair in metrics["paired"].items()}
            figures |= {f"evaluation/{name}/interval": pair for name, pair in ends.items()}
            logger.log_summary(figures)
            logger.log_table("evaluation", columns=columns, data=rows)
